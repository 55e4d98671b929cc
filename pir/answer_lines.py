"""Answers that have a line of their own: a full board beside the board that it continues.

As two puzzles they would be read wrongly, so the second one is refused.
"""

import numpy as np

from pir.puzzle import Puzzle
from pir.puzzle_batch import Batch, Fault


class AnswerLines:
    """Looks for them in the batches of a file.

    Args:
        puzzle: has boards with blanks, or there is nothing to look for.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        """No board came before."""
        form = puzzle.cell_text
        self.blank = form.blank if form else None
        self._last: tuple[np.ndarray, int] | None = None

    def refuse(self, batch: Batch) -> Batch:
        """Returns a batch in which such boards are faults."""
        if self.blank is None or not len(batch.lines):
            return batch
        questions, lines = batch.questions, batch.lines
        alone = np.ones(len(lines), bool)
        if batch.answers is not None:
            alone = ~batch.answers.any(1)
        if self._last:
            questions = np.concatenate([self._last[0][None], questions])
            lines, alone = np.append(self._last[1], lines), np.append(True, alone)
        self._last = (questions[-1].copy(), int(lines[-1])) if alone[-1] else None
        full = (questions != self.blank).all(1)
        rows = 1 + np.flatnonzero(alone[1:] & alone[:-1] & (full[1:] != full[:-1]))
        left, right = questions[rows - 1], questions[rows]
        open_ = (left == self.blank) | (right == self.blank)
        rows = rows[((left == right) | open_).all(1)]
        if not len(rows):
            return batch
        own = rows - (len(lines) - len(batch.lines))
        faults = [
            Fault(
                int(batch.lines[row]),
                int(batch.columns[row]),
                f"this board and that of line {before} may be puzzle and answer: write both on "
                "one line, parted by a comma",
                "",
            )
            for row, before in zip(own, lines[rows - 1], strict=True)
        ]
        kept = np.delete(np.arange(len(batch.lines)), own)
        return batch._replace(
            lines=batch.lines[kept],
            columns=batch.columns[kept],
            questions=batch.questions[kept],
            answers=None if batch.answers is None else batch.answers[kept],
            faults=batch.faults + faults,
        )
