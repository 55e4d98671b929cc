"""Every puzzle keeps every law, and every law can be broken."""

import json

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.maze.rules import Maze
from pir.envs.sudoku.rules import Sudoku

from pir.errors import PuzzleTextError
from pir.laws.called import calls
from pir.laws.checks import LAWS, build_case, fingerprint, law_results
from pir.notation.picture import Cell, Picture
from pir.puzzle import MOST_UNSOLVED, PAD, Verdict
from tests.golden import FINGERPRINTS
from tests.puzzles import VARIANTS


@pytest.mark.parametrize("name", VARIANTS)
def test_every_puzzle_keeps_the_laws(name):
    count = 30 if name == "maze_hard" else 80
    puzzle = VARIANTS[name]()
    case = build_case(puzzle, count, anew=VARIANTS[name]())
    assert not [r for r in law_results(puzzle, case) if not r.kept]
    for call in calls(case, lambda values: values[:0]):
        call.require_form()  # of nothing too


@pytest.mark.parametrize("name", VARIANTS)
def test_first_instances_are_the_same_everywhere(name):
    """The first 64 instances of every split, as on the machine that wrote the golden file."""
    assert fingerprint(VARIANTS[name]()) == json.loads(FINGERPRINTS.read_text())[name]


class WrongLabel(Countdown):
    def sample(self, count, split, *, seed, start=0):
        drawn = super().sample(count, split, seed=seed, start=start)
        drawn["solution"] = drawn["solution"].roll(1, 0)
        return drawn


class DependsOnTheBatch(Countdown):
    def sample(self, count, split, *, seed, start=0):
        return super().sample(count, split, seed=seed + count, start=start)


class SplitsOverlap(Countdown):
    def sample(self, count, split, *, seed, start=0):
        return super().sample(count, "train", seed=seed, start=start)


class SplitsOfItsOwn(Sudoku):
    """Each split is another stream: nothing keeps a puzzle out of two of them."""

    def sample(self, count, split, *, seed, start=0):
        return super().sample(count, "train", seed=seed + 100 * len(split), start=start)


class OwnersAreNoTokens(Countdown):
    def __init__(self):
        super().__init__()
        self.owners = torch.full((self.length,), 999)


class BoardOfAnotherSize(Maze):
    def __init__(self):
        super().__init__()
        self.board = (3, 3)


class CannotBeDrawn(Countdown):
    def sample(self, count, split, *, seed, start=0):
        raise IndexError("list index out of range")


class KeyOfTheRawGrid(Sudoku):
    def key(self, question):
        place = torch.arange(self.length)
        return ((question.long() * 31 + place) ** 3).sum(1)


class AugmentForgetsTheLabel(Maze):
    def augment(self, puzzles, *, seed, start=0):
        images = super().augment(puzzles, seed=seed, start=start)
        images["solution"] = puzzles["solution"]
        return images


class SecondAnswers(Sudoku):
    def sample(self, count, split, *, seed, start=0):
        drawn = super().sample(count, split, seed=seed, start=start)
        drawn["question"][:, :8] = 1
        return drawn


class ScoreAboveOne(Countdown):
    def verify(self, question, answer):
        score, solved = super().verify(question, answer)
        return Verdict(2 * score, solved)


class ScoreOneForNothing(Countdown):
    def verify(self, question, answer):
        score, solved = super().verify(question, answer)
        return Verdict(torch.ones_like(score), solved)


class CluesMayChange(Sudoku):
    def verify(self, question, answer):
        return super().verify(torch.ones_like(question), answer)


class KnowsTheLabel(Countdown):
    def verify(self, question, answer):
        score, solved = super().verify(question, answer)
        solved = solved & (torch.arange(len(solved)) % 3 > 0)
        return Verdict(torch.where(solved, 1.0, score.clamp(max=0.5)), solved)


class ListsWrongAnswers(Countdown):
    def solutions(self, question, limit):
        listed = super().solutions(question, limit)
        return listed._replace(valid=torch.ones_like(listed.valid))


class MarksSolvedAnswers(Countdown):
    def conflicts(self, question, answer):
        return self.written(question)


class PrintsSomethingElse(Countdown):
    def format_question(self, question):
        return super().format_question(question.flip(0).flip(0)).replace("1", "2")


class ReadsAnything(Countdown):
    def parse(self, text):
        try:
            return super().parse(text)
        except PuzzleTextError as error:
            raise ValueError from error


class CannotDraw(Countdown):
    def picture(self, question, answer):
        raise IndexError


class RelationsOfAnotherLength(Maze):
    def __init__(self):
        super().__init__()
        self.relations = self.relations[1:]


class SetsOfTwo(Sudoku):
    """Says that each row holds one digit only."""

    def __init__(self):
        super().__init__(box=(2, 2))
        self.at_most_one = torch.where(self.at_most_one >= 0, self.at_most_one // 4, -1)


class SolvedByAQuotient(Sudoku):
    """Right on the CPU; with 48 parts, and with 16, as many GPUs have it too."""

    parts = 48

    def verify(self, question, answer):
        right = (super().verify(question, answer).score * self.parts).long()
        score = right / self.parts
        return Verdict(score, score == 1)


class SolvedByALuckyQuotient(SolvedByAQuotient):
    parts = 16


class SolvedByAMean(Countdown):
    def verify(self, question, answer):
        right = super().verify(question, answer).solved[:, None].expand(-1, 4)
        return Verdict(right.float().mean(1), right.float().mean(1) > 1 - 1e-7)


class SolvedByASumOfShares(Countdown):
    def verify(self, question, answer):
        right = super().verify(question, answer).solved[:, None].expand(-1, 4)
        score = torch.where(right, 0.25, 0.0).sum(1)
        return Verdict(score, score >= 1)


class KeyOfAQuotient(Sudoku):
    def key(self, question):
        return (super().key(question) % (1 << 20) / 16 * 16).long()


class ImagesLeaveTheDevice(Sudoku):
    def augment(self, puzzles, *, seed, start=0):
        return super().augment(puzzles, seed=seed, start=start).to(puzzles.device or "cpu")


class ForgetsTheDevice(Countdown):
    def verify(self, question, answer):
        share, solved = torch.zeros(len(answer)), super().verify(question, answer).solved
        return Verdict.graded(solved, torch.where(solved, 1.0, share))


class ReadsArrays(Countdown):
    def rating(self, question):
        return torch.from_numpy(question.numpy().sum(1)).float()


class KnowsItsVocabularyAlone(Countdown):
    def verify(self, question, answer):
        torch.eye(len(self.vocabulary))[answer.long()]
        return super().verify(question, answer)


class TakesForeignTokens(Sudoku):
    """A token counts as the digit that it is modulo the number of digits."""

    def verify(self, question, answer):
        foreign = answer > self.n + 1
        digit = torch.where(foreign, (answer - 2) % self.n + 2, answer)
        label = self.solutions(question, 1)[0][:, 0]
        return Verdict.graded((digit == label).all(1), torch.zeros(len(answer)))


class GivesAPair(Countdown):
    def verify(self, question, answer):
        return tuple(super().verify(question, answer))


class GivesAColumn(Countdown):
    def verify(self, question, answer):
        return Verdict(*(part[:, None] for part in super().verify(question, answer)))


class MaskForbidsTheLabel(Sudoku):
    def __init__(self):
        super().__init__()
        self.slot_mask[:, 3] = False


class PadIsAnAnswer(Sudoku):
    def __init__(self):
        super().__init__()
        self.slot_mask[:, PAD] = True


class DrawsAFewPuzzles(Sudoku):
    def sample(self, count, split, *, seed, start=0):
        few = super().sample(count, split, seed=seed, start=start)
        return few[[row % 8 for row in range(count)]]


class DrawsRolesOfItsOwn(Countdown):
    def picture(self, question, answer):
        return Picture((Cell(0.0, 0.0, "x", "anwser"),))


@pytest.mark.parametrize(
    ("puzzle", "law"),
    [
        (WrongLabel, "labels verify"),
        (DependsOnTheBatch, "seed, split and index alone"),
        (SplitsOverlap, "no key occurs in two splits"),
        (SplitsOfItsOwn, "decides the split"),
        (OwnersAreNoTokens, "fit the layout"),
        (BoardOfAnotherSize, "fit the layout"),
        (KeyOfTheRawGrid, "symmetric images"),
        (AugmentForgetsTheLabel, "symmetric images"),
        (SecondAnswers, "every instance is solvable"),
        (ScoreAboveOne, "scores lie in"),
        (ScoreOneForNothing, "scores lie in"),
        (CluesMayChange, "clamped cells"),
        (KnowsTheLabel, "question and answer alone"),
        (ListsWrongAnswers, "listed answers"),
        (MarksSolvedAnswers, "no conflicts"),
        (PrintsSomethingElse, "text reads back"),
        (ReadsAnything, "malformed text"),
        (CannotDraw, "prints and draws"),
        (DrawsRolesOfItsOwn, "prints and draws"),
        (RelationsOfAnotherLength, "fit the layout"),
        (SetsOfTwo, "fit the layout"),
        (MaskForbidsTheLabel, "shapes, dtypes"),
        (PadIsAnAnswer, "shapes, dtypes"),
        (DrawsAFewPuzzles, "no key occurs in two splits"),
        (SolvedByAQuotient, "rounding of fractions"),
        (SolvedByALuckyQuotient, "rounding of fractions"),
        (SolvedByAMean, "rounding of fractions"),
        (SolvedByASumOfShares, "rounding of fractions"),
        (KeyOfAQuotient, "rounding of fractions"),
        (ImagesLeaveTheDevice, "device of what"),
        (ForgetsTheDevice, "device of what"),
        (ReadsArrays, "device of what"),
        (KnowsItsVocabularyAlone, "any tokens is judged"),
        (TakesForeignTokens, "any tokens is judged"),
        (GivesAPair, "scores lie in"),
        (GivesAColumn, "scores lie in"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_law_can_be_broken(puzzle, law):
    made = puzzle()
    broken = {r.law for r in law_results(made, build_case(made, 40)) if not r.kept}
    assert any(law in name for name in broken), broken
    assert broken <= set(LAWS)


def test_a_puzzle_that_cannot_be_drawn_gets_one_ruling():
    (ruling,) = law_results(CannotBeDrawn())
    assert ruling.law == "instances can be drawn"
    assert "IndexError: list index out of range (" in ruling.detail
    assert "test_laws.py, line" in ruling.detail


def test_an_attribute_that_hides_a_method_is_named():
    puzzle = Countdown()
    puzzle.size = 3
    (ruling,) = law_results(puzzle)
    assert ruling.detail.startswith("self.size hides the method size")


@pytest.mark.parametrize(
    ("puzzle", "law", "words"),
    [
        (SolvedByAQuotient, "rounding", "take solved from integers or booleans"),
        (ImagesLeaveTheDevice, "device of what", "augment gives a tensor on the cpu"),
        (PadIsAnAnswer, "shapes", "slot_mask allows token 0, which is PAD"),
        (DrawsAFewPuzzles, "two splits", "of 40 puzzles drawn in train only 8 differ"),
        (DrawsRolesOfItsOwn, "draws", "a cell with the role anwser (allowed: given, answer, "),
        (ForgetsTheDevice, "device of what", "verify fails for tensors on another device"),
        (KnowsItsVocabularyAlone, "any tokens", "not in the vocabulary"),
        (TakesForeignTokens, "any tokens", "which is wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_broken_law_says_what_to_do(puzzle, law, words):
    made = puzzle()
    details = [r.detail for r in law_results(made, build_case(made, 40)) if law in r.law]
    assert words in details[0]


def test_a_verdict_is_graded_below_one():
    solved = torch.tensor([True, True, False, False, False])
    share = torch.tensor([0.0, 0.99999994, 0.99999994, 0.5, 2.0])
    verdict = Verdict.graded(solved, share)
    assert verdict.score.tolist() == pytest.approx([1, 1, MOST_UNSOLVED, 0.5, MOST_UNSOLVED])
    assert ((verdict.score == 1) == solved).all()
    assert round(float(verdict.score[2]), 3) < 1
