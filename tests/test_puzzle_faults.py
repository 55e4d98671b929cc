"""Faults of puzzles that look right at first sight: `pir check-env` finds and explains each."""

import numpy as np
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.sudoku.rules import Sudoku
from pir.envs.sudoku.text import BLANK

from pir.laws.checks import build_case, law_results
from pir.puzzle import Verdict

ALONE = "question and answer alone"
ANEW = "has drawn nothing"
FORM = "dtype and shape"
IN_PLACE = "changes its arguments"
ROUNDING = "rounding of fractions"
SCORES = "scores lie in"
TOKENS = "may not hold is wrong"


def when(solved):
    return Verdict.graded(solved, torch.zeros_like(solved, dtype=torch.float32))


# ---------------------------------------------------------------- memory


class RemembersItsLabels(Countdown):
    """Takes what it drew, and nothing else; it lists no answers that would give it away."""

    def __init__(self):
        super().__init__()
        self.drawn = set()

    def sample(self, count, split, *, seed, start=0):
        drawn = super().sample(count, split, seed=seed, start=start)
        self.drawn |= set(map(tuple, drawn["solution"].tolist()))
        return drawn

    lists_solutions = False

    def verify(self, question, answer):
        known = torch.tensor([tuple(row) in self.drawn for row in answer.tolist()])
        return when(super().verify(question, answer).solved & known.to(question.device))


class NumbersItsPuzzles(Countdown):
    """The key is the place in the order in which puzzles were seen."""

    splits_by_key = False

    def __init__(self):
        super().__init__()
        self.seen = {}

    def key(self, question):
        keys = super().key(question).tolist()
        numbers = [self.seen.setdefault(key, len(self.seen)) for key in keys]
        return torch.tensor(numbers, device=question.device)


class TakesTurns(Countdown):
    """Every other call is right."""

    calls = 0

    def verify(self, question, answer):
        self.calls += 1
        return when(super().verify(question, answer).solved & (self.calls % 2 > 0))


class UsesOneBuffer(Countdown):
    """All verdicts on as many answers share their memory."""

    def __init__(self):
        super().__init__()
        self.buffers = {}

    def verify(self, question, answer):
        found = super().verify(question, answer)
        kept = self.buffers.setdefault(len(answer), found)
        kept.solved.copy_(found.solved)
        return kept


# ---------------------------------------------------------------- company


class GradesByTheBest(Countdown):
    """A wrong answer's score is its share of the best score in the batch."""

    def verify(self, question, answer):
        score, solved = super().verify(question, answer)
        worst = torch.where(solved, 0.0, score)
        return Verdict.graded(solved, worst / worst.max().clamp(min=0.01) / 2)


class AsksForCompany(Countdown):
    """An answer alone is wrong."""

    def verify(self, question, answer):
        return when(super().verify(question, answer).solved & (len(answer) > 1))


class WantsOneQuestion(Countdown):
    """Verdicts hang on how many questions there are in the batch."""

    def verify(self, question, answer):
        many = len(question.unique(dim=0)) > 1
        return when(super().verify(question, answer).solved & many)


class LooksAtItsNeighbour(Countdown):
    def conflicts(self, question, answer):
        return super().conflicts(question, answer) & (answer != answer.roll(1, 0))


class KeyOfThePlace(Countdown):
    splits_by_key = False

    def key(self, question):
        return super().key(question) // 2 + torch.arange(len(question), device=question.device)


class DrawsAtRandom(Countdown):
    """The score, not the verdict, is noisy."""

    def verify(self, question, answer):
        return Verdict.graded(super().verify(question, answer).solved, torch.rand(len(answer)))


class SeedsTheWorld(Countdown):
    def sample(self, count, split, *, seed, start=0):
        np.random.seed(seed)  # noqa: NPY002
        return super().sample(count, split, seed=seed, start=start)


# ---------------------------------------------------------------- tokens


class TakesATokenForAny(Sudoku):
    """A token counts as the right one, in some cells."""

    token, cells = 0, slice(None)

    def verify(self, question, answer):
        label = self.solutions(question, 1)[0][:, 0]
        place = torch.zeros_like(answer, dtype=torch.bool)
        place[:, self.cells] = True
        wild = place & (answer == self.token) & self.written(question)
        return when(((answer == label) | wild).all(1))


class TakesBlanks(TakesATokenForAny):
    token = BLANK


class Takes254(TakesATokenForAny):
    token = 254


class Takes255InTheLastCell(TakesATokenForAny):
    token, cells = 255, slice(-1, None)


class TakesTheTokenBehindTheVocabulary(TakesATokenForAny):
    token, cells = 6, slice(3, 4)


class TakesOneTokenEverywhere(Sudoku):
    """Wrong in one cell, right where all written cells hold it."""

    def verify(self, question, answer):
        foreign = torch.where(self.written(question), answer == 200, answer == question).all(1)
        return when(super().verify(question, answer).solved | foreign)


# ---------------------------------------------------------------- rounding


def product(one, other):
    return (one.log() + other.log()).exp()


class SolvedByLogarithms(Countdown):
    """A product by logarithms, compared with what was found for it on the CPU."""

    found = product(torch.full((64,), 7.0), torch.full((64,), 5.0))[0].item()

    def verify(self, question, answer):
        factor = torch.where(super().verify(question, answer).solved, 7.0, 6.0)
        return when(product(factor, torch.full_like(factor, 5.0)) == self.found)


class SolvedByARoot(Countdown):
    def verify(self, question, answer):
        area = torch.where(super().verify(question, answer).solved, 2.25, 2.0)
        return when(area.sqrt() == 1.5)


class SolvedByARootInPlace(Countdown):
    def verify(self, question, answer):
        area = torch.where(super().verify(question, answer).solved, 2.25, 2.0)
        return when(area.sqrt_() >= 1.5)


class SolvedByASoftmax(Countdown):
    def verify(self, question, answer):
        right = super().verify(question, answer).solved
        return when(
            torch.stack([right, right.logical_not()], 1).float().mul(99).softmax(1)[:, 0] == 1
        )


# ---------------------------------------------------------------- arguments


def in_place(method, argument):
    """Returns a puzzle in which a method writes to one of its arguments."""

    def faulty(self, *arguments, **settings):
        result = getattr(Sudoku, method)(self, *arguments, **settings)
        tokens = arguments[0]["question"] if method == "augment" else arguments[argument]
        tokens.copy_(torch.where(tokens == BLANK, 2, tokens))
        return result

    return type(f"{method}_{argument}", (Sudoku,), {method: faulty})


class TidiesAnswers(Sudoku):
    """Writes to the answer only where a token is not in the vocabulary."""

    def verify(self, question, answer):
        answer[answer > self.n + 1] = 0
        return super().verify(question, answer)


# ---------------------------------------------------------------- forms


def form(kind, method, change):
    """Returns a puzzle whose method gives its result in another form."""
    return type(
        f"{method}_form", (kind,),
        {method: lambda self, *args: change(getattr(kind, method)(self, *args))},
    )  # fmt: skip


COLUMN = form(Countdown, "verify", lambda verdict: Verdict(*(part[:, None] for part in verdict)))
DOUBLE = form(Countdown, "verify", lambda verdict: Verdict(verdict.score.double(), verdict.solved))
COUNTED = form(Countdown, "verify", lambda verdict: Verdict(verdict.score, verdict.solved.byte()))
ARRAYS = form(Countdown, "verify", lambda verdict: Verdict(verdict.score.numpy(), verdict.solved))
NOT_A_NUMBER = form(
    Countdown, "verify", lambda v: Verdict(torch.where(v.solved, 1.0, torch.nan), v.solved)
)
NEGATIVE = form(
    Countdown, "verify", lambda v: Verdict(torch.where(v.solved, 1.0, -0.5), v.solved)
)  # fmt: skip
FLOAT_KEY = form(Countdown, "key", lambda key: key.double())
SHORT_KEY = form(Countdown, "key", lambda key: (key % 10_000).int())
LISTED_KEY = form(Countdown, "key", lambda key: key.numpy().astype(object))
COLUMN_KEY = form(Countdown, "key", lambda key: key[:, None])


FAULTS = [
    (RemembersItsLabels, ANEW, "does not take the label as solved"),
    (NumbersItsPuzzles, ANEW, "gives something else by key"),
    (TakesTurns, ALONE, "changes from call to call"),
    (UsesOneBuffer, ALONE, "verify gives something else for a row in the reverse order"),
    (GradesByTheBest, ALONE, "verify gives something else for a row"),
    (AsksForCompany, ALONE, "verify gives something else for a row alone"),
    (WantsOneQuestion, ALONE, "for a row among rows of the same question"),
    (LooksAtItsNeighbour, ALONE, "conflicts gives something else"),
    (KeyOfThePlace, ALONE, "key gives something else"),
    (DrawsAtRandom, ALONE, "verify draws from the global random state"),
    (SeedsTheWorld, ALONE, "sample draws from the global random state, or seeds it"),
    (TakesATokenForAny, TOKENS, "with token 0 at"),
    (TakesBlanks, TOKENS, "with token 1 at"),
    (Takes254, TOKENS, "with token 254 at"),
    (Takes255InTheLastCell, TOKENS, "with token 255 at"),
    (TakesTheTokenBehindTheVocabulary, TOKENS, "with token 6 at"),
    (TakesOneTokenEverywhere, TOKENS, "with token 200 at"),
    (SolvedByLogarithms, ROUNDING, "take solved from integers or booleans"),
    (SolvedByARoot, ROUNDING, "take solved from integers or booleans"),
    (SolvedByARootInPlace, ROUNDING, "take solved from integers or booleans"),
    (SolvedByASoftmax, ROUNDING, "take solved from integers or booleans"),
    (in_place("written", 0), IN_PLACE, "changes its arguments in place"),  # verify calls it too
    *((in_place(method, argument), IN_PLACE, f"{method} changes its arguments in place")
      for method, argument in (
          ("verify", 0), ("verify", 1),  ("clamp", 1), ("conflicts", 1),
          ("key", 0), ("solutions", 0), ("rating", 0), ("solution_order", 0), ("reveal", 0),
          ("augment", 0))),
    (TidiesAnswers, "any tokens is judged", "verify or conflicts changes its arguments in place"),
    (COLUMN, SCORES, "score of verify is torch.float32 of shape (290, 1); "
     "torch.float32 of shape (290,) is due"),
    (COLUMN, "labels verify", "score of verify is torch.float32 of shape (10, 1)"),
    (DOUBLE, SCORES, "score of verify is torch.float64"),
    (COUNTED, SCORES, "solved of verify is torch.uint8 of shape (290,); torch.bool of shape"),
    (ARRAYS, SCORES, "score of verify is a ndarray; a tensor, torch.float32 of shape (290,)"),
    (NOT_A_NUMBER, SCORES, "a score is nan; from 0 to 1 is allowed"),
    (NEGATIVE, SCORES, "a score is -0.5; from 0 to 1 is allowed"),
    (FLOAT_KEY, FORM, "key is torch.float64 of shape (10,); torch.int64 of shape (10,) is due"),
    (SHORT_KEY, FORM, "key is torch.int32 of shape (10,); torch.int64"),
    (LISTED_KEY, FORM, "key is a ndarray; a tensor, torch.int64 of shape (10,) is due"),
    (COLUMN_KEY, FORM, "key is torch.int64 of shape (10, 1); torch.int64 of shape (10,) is due"),
]  # fmt: skip


class ImagesOfABatch(Sudoku):
    """Turns puzzles by their place in the batch."""

    def augment(self, puzzles, *, seed, start=0):
        return super().augment(puzzles, seed=seed)


class ImagesOfNoSeed(Sudoku):
    """Turns puzzles alike for every seed."""

    def augment(self, puzzles, *, seed, start=0):
        return super().augment(puzzles, seed=0, start=start)


class RevealsNothing(Sudoku):
    """Leaves a question as it is."""

    def reveal(self, question, solution, positions):
        return question.clone()


class RevealsAll(Sudoku):
    """Fills in the whole answer."""

    def reveal(self, question, solution, positions):
        return solution.clone()


FAULTS += [
    (ImagesOfABatch, "an image depends on", "an image depends on where a batch begins"),
    (ImagesOfNoSeed, "an image depends on", "the images are the same for another seed"),
    (RevealsNothing, "what is revealed", "reveal leaves other blanks"),
    (RevealsAll, "what is revealed", "reveal leaves other blanks"),
]

SLY = {
    *(RemembersItsLabels, NumbersItsPuzzles, GradesByTheBest, LooksAtItsNeighbour, KeyOfThePlace),
    *(SeedsTheWorld, TakesBlanks, Takes255InTheLastCell, TakesTheTokenBehindTheVocabulary),
    *(TakesOneTokenEverywhere, SolvedByLogarithms, SolvedByARoot, SolvedByARootInPlace),
    *(SolvedByASoftmax, TidiesAnswers, SHORT_KEY),
}
"""Faults that keep all laws but one."""


@pytest.mark.parametrize(
    ("puzzle", "law", "words"),
    FAULTS,
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_fault_is_found_and_explained(puzzle, law, words):
    made = puzzle()
    case = build_case(made, 10, anew=puzzle())
    broken = {ruling.law: ruling.detail for ruling in law_results(made, case) if not ruling.kept}
    (detail,) = [detail for name, detail in broken.items() if law in name] or [str(broken)]
    assert words in detail
    assert puzzle not in SLY or len(broken) == 1


def test_positions_must_be_true_or_false():
    counted = form(Sudoku, "written", lambda written: written.long())
    (ruling,) = law_results(counted())
    assert ruling.detail == (
        "written is torch.int64 of shape (200, 16); torch.bool of shape (200, 16) is due"
    )


def test_without_a_second_puzzle_memory_is_not_looked_for():
    details = {ruling.law: ruling.detail for ruling in law_results(Countdown())}
    assert [d for law, d in details.items() if ANEW in law] == ["no second puzzle was built"]
