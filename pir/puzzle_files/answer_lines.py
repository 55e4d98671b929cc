"""Answers that have a line of their own: a full board beside the board that it continues.

As two puzzles they would be read wrongly, so the second one is refused.
"""

import numpy as np

from pir.puzzle import Puzzle
from pir.puzzle_files.batch import Batch, Fault


class AnswerLines:
    """Looks for them in the batches of a file.

    Args:
        puzzle: has boards with blanks, or there is nothing to look for.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        """No board came before."""
        form = puzzle.cell_text
        self.blank = form.blank if form else None
        self._last: tuple[np.ndarray, int, bool, bool] | None = None

    def refuse(self, batch: Batch) -> Batch:
        """Returns a batch in which such boards are faults."""
        if self.blank is None or not len(batch.lines):
            return batch
        questions, lines, last = batch.questions, batch.lines, self._last
        alone = np.full(len(lines), True)
        if batch.answers is not None:
            alone &= batch.answers[:, 0] == 0
        full = np.full(len(lines), True)
        for cell in range(4):  # leaves few boards, so that the rest is quick
            full &= questions[:, cell] != self.blank
        full[full] = (questions[full] != self.blank).all(1)
        self._last = questions[-1].copy(), int(lines[-1]), bool(alone[-1]), bool(full[-1])
        if last:
            alone, full = np.append(last[2], alone), np.append(last[3], full)
        beside = alone[1:] & (full[1:] != full[:-1]) & (alone[:-1] | full[1:])
        if not beside.any():
            return batch
        if last:
            questions = np.concatenate([last[0][None], questions])
            lines = np.append(last[1], lines)
        rows = 1 + np.flatnonzero(beside)
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
