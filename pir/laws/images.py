"""Laws of what makes other puzzles of a puzzle: symmetric images, and cells that are revealed."""

import torch

from pir.laws.called import same
from pir.laws.case import Case, NotChecked, judged, require
from pir.laws.form import LawError


def images_depend_on_their_place(case: Case) -> str | None:
    """Image i of a stream is that of seed and `start + i`, whatever is asked for with it."""
    sample = case.samples["test"]

    def images(seed: int, start: int, first: int = 0) -> list[torch.Tensor]:
        image = case.puzzle.augment(sample[first:].clone(), seed=seed, start=start)
        return [image["question"], image["solution"]]

    whole, first = images(0, 5), len(sample) // 3
    if same(whole, [sample["question"], sample["solution"]]):
        return NotChecked("the puzzle makes no symmetric images")
    if not same([part[first:] for part in whole], images(0, 5 + first, first)):
        raise LawError("augment: an image depends on where a batch begins, not on start + i")
    for name, others in (("seed", images(1, 5)), ("start", images(0, 6))):
        if same(whole, others):
            raise LawError(f"augment: the images are the same for another {name}")
    return None


def revealed_cells_are_given(case: Case) -> str | None:
    """What is revealed of an answer is no blank any more, and the rest of it still solves."""
    puzzle, sample = case.puzzle, case.samples["test"]
    if not puzzle.reveals:
        return NotChecked("the puzzle reveals no cells")
    question, solution = sample["question"], sample["solution"]
    written = puzzle.written(question)
    chance = torch.rand(written.shape, generator=torch.Generator().manual_seed(3))
    shown = written & (chance < 0.5)
    revealed = puzzle.reveal(question.clone(), solution.clone(), shown.clone())
    fits = (puzzle.written(revealed) == (written & ~shown)).all(1)
    require(fits, case, question, "reveal leaves other blanks than those that it was not asked for")
    solved = judged(puzzle, revealed, solution).solved
    require(solved, case, question, "the label does not solve what reveal leaves of its puzzle")
    return None
