"""What the laws look at: instances of a puzzle, and answers of every sort to them."""

from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.laws.form import LawError, drawn, require_form, require_statements
from pir.puzzle import PAD, SPLITS, Puzzle, Verdict

COUNT = 200
"""Instances per split that a law looks at."""


class NotChecked(str):
    """What a check returns instead of a detail where there was nothing to check: the reason."""


@dataclass
class LawResult:
    """The outcome of one law.

    Attributes:
        law: what must hold.
        kept: whether it does; true if it was not checked.
        detail: what was found; empty if there is nothing to say.
        checked: whether the puzzle has what the law is about; if not, the detail says why.
    """

    law: str
    kept: bool
    detail: str
    checked: bool = True


@dataclass
class Case:
    """What the laws look at.

    Attributes:
        puzzle: the puzzle.
        samples: `COUNT` instances of every split (fewer where a split has fewer).
        answers: for the test instances, answers of every sort, uint8 of shape (A, L).
        questions: the questions they answer, uint8 of shape (A, L).
        anew: a second puzzle of the same settings, of which no instance was drawn; None where there
            is none.
    """

    puzzle: Puzzle
    samples: dict[str, TensorDict]
    questions: Tensor
    answers: Tensor
    anew: Puzzle | None = None


def build_case(puzzle: Puzzle, count: int = COUNT, anew: Puzzle | None = None) -> Case:
    """Draws the instances and answers that the laws look at; see `Case`."""
    require_statements(puzzle)
    samples = {split: drawn(puzzle, count, split) for split in SPLITS}
    questions, answers = sundry_answers(puzzle, samples["test"], per_puzzle=8, seed=0)
    return Case(puzzle, samples, questions, answers, anew)


def sundry_answers(
    puzzle: Puzzle, puzzles: TensorDict, per_puzzle: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Makes answers of every sort to some puzzles.

    Per puzzle, so many times: random ones, the label with one to three cells changed or two
    exchanged; once the label of another puzzle with its clues and with this puzzle's, the label
    with a clamped cell changed, the question itself, and the label.

    Returns:
        questions and answers, uint8 of shape (A, L).
    """
    rng = torch.Generator().manual_seed(seed)
    question, label = puzzles["question"], puzzles["solution"]
    count, length = question.shape
    written = puzzle.written(question)

    def drawn_tokens() -> Tensor:
        weights = puzzle.slot_mask.float()
        weights[weights.sum(1) == 0, PAD] = 1  # positions that are never written
        tokens = torch.multinomial(weights, count, replacement=True, generator=rng).T
        return puzzle.clamp(question, tokens.to(torch.uint8))

    def some_cells(cells: int) -> Tensor:
        chance = torch.rand(question.shape, generator=rng).masked_fill(~written, -1)
        return (chance >= chance.topk(min(cells, length), 1).values[:, -1:]) & written

    other = label.roll(1, 0)
    sorts: list[Tensor] = [question, label, other, puzzle.clamp(question, other)]
    clamped_changed = label.clone()
    rows = torch.arange(count)
    place = torch.where(written, -1.0, torch.rand(question.shape, generator=rng)).argmax(1)
    vocabulary = len(puzzle.vocabulary)
    clamped_changed[rows, place] = (clamped_changed[rows, place] + 1) % vocabulary
    sorts.append(clamped_changed)
    for repetition in range(per_puzzle):
        sorts.append(drawn_tokens())
        sorts.append(torch.where(some_cells(1 + repetition % 3), drawn_tokens(), label))
        pair = some_cells(2)
        first, last = pair.int().argmax(1), length - 1 - pair.flip(1).int().argmax(1)
        exchanged = label.clone()
        exchanged[rows, first], exchanged[rows, last] = label[rows, last], label[rows, first]
        sorts.append(puzzle.clamp(question, exchanged))
    return question.repeat(len(sorts), 1), torch.cat(sorts)


def require(holds: Tensor, case: Case, questions: Tensor, message: str) -> None:
    """Breaks the law where some entry of `holds`, bool of shape (B,), is false."""
    if not bool(holds.all()):
        row = int((~holds).int().argmax())
        share = f"{int((~holds).sum())} of {len(holds)}"
        raise LawError(f"{message} ({share}); {case.puzzle.format_question(questions[row])}")


def judged(puzzle: Puzzle, questions: Tensor, answers: Tensor) -> Verdict:
    """Returns the verdict on some answers.

    Raises:
        LawError: if it is none, or has another form than one score and one truth value per answer.
    """
    verdict = puzzle.verify(questions, answers)
    if not isinstance(verdict, Verdict):
        raise LawError(f"verify gives a {type(verdict).__name__}; a Verdict is due")
    require_form("score of verify", verdict.score, torch.float32, (len(answers),))
    require_form("solved of verify", verdict.solved, torch.bool, (len(answers),))
    return verdict
