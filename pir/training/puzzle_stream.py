"""The stream of training puzzles, made ahead by a thread while a GPU trains."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from tensordict import TensorDict

from pir.puzzle import Puzzle
from pir.system.slices import ended_by, over_rows


class PuzzleStream:
    """The puzzles of the training split, by their index in the stream.

    Puzzle i depends on the seed and on i alone, so puzzles made ahead are those that would have
    been made later. Inside `with`, one thread makes the next ones while the present ones are
    trained on; kernels compiled with `nogil=True` leave Python to the training loop.

    Args:
        puzzle: gives the puzzles.
        seed: names the stream.
        ahead: whether to make puzzles ahead. Where the CPU trains there is nothing to win.
    """

    def __init__(self, puzzle: Puzzle, seed: int, ahead: bool) -> None:
        """Starts with nothing made."""
        self.puzzle, self.seed, self.ahead = puzzle, seed, ahead
        self.worker: ThreadPoolExecutor | None = None
        self.closing = threading.Event()
        self.coming: tuple[int, Future[TensorDict]] | None = None

    def __enter__(self) -> "PuzzleStream":
        """Lets a thread make puzzles ahead, from the first `take` on."""
        if self.ahead:
            self.closing.clear()
            self.worker = ThreadPoolExecutor(1, "puzzles")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the thread, within a slice of its work."""
        self.closing.set()
        if self.worker:
            self.worker.shutdown(cancel_futures=True)
        self.worker = self.coming = None

    def take(self, start: int, count: int, following: int) -> TensorDict:
        """Returns the puzzles `start .. start + count - 1`, and has the next ones made.

        Args:
            start: index of the first.
            count: how many, at least 0.
            following: index at which the next call is expected to start; a wrong guess costs time,
                nothing else.

        Raises:
            UserError: if the settings admit no puzzle.
        """
        if count == 0:
            return self._drawn(start, 1)[:0]
        stop, parts = start + count, []
        if self.coming is not None:
            (first, future), self.coming = self.coming, None
            made = future.result()
            low, high = max(start, first), min(stop, first + len(made))
            if low < high:
                parts += [self._drawn(start, low - start)] if start < low else []
                parts.append(made[low - first : high - first])
                start = high
        if start < stop:
            parts.append(self._drawn(start, stop - start))
        if self.worker:
            self.coming = following, self.worker.submit(self._made_ahead, following, count)
        return torch.cat(parts)

    def _drawn(self, start: int, count: int) -> TensorDict:
        return self.puzzle.sample(count, "train", seed=self.seed, start=start)

    def _made_ahead(self, start: int, count: int) -> TensorDict:
        """Makes puzzles in slices, so that the thread can end soon."""
        made: list[TensorDict] = []

        def some(rows: slice) -> None:
            made.append(self._drawn(start + rows.start, rows.stop - rows.start))

        with ended_by(self.closing):
            over_rows(count, some)
        return torch.cat(made)
