"""The stream of training puzzles, made ahead by a thread while a GPU trains."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from tensordict import TensorDict

from pir.puzzle import Puzzle, instances
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
        tokens = torch.zeros(0, puzzle.length, dtype=torch.uint8)
        self.none = instances(tokens, tokens)
        self.first, self.kept = 0, self.none
        self.coming: Future[TensorDict] | None = None

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
        """Ends the thread, within a slice of its work or a call of a puzzle's `generate`."""
        self.closing.set()
        if self.worker:
            self.worker.shutdown(cancel_futures=True)
        self.worker = self.coming = None

    def take(self, start: int, count: int, following: int, ahead: int) -> TensorDict:
        """Returns the puzzles `start .. start + count - 1`, and has the next ones made.

        Args:
            start: index of the first.
            count: how many, at least 0.
            following: index at which the next call is expected to start; a wrong guess costs time,
                nothing else.
            ahead: how many puzzles the next call is expected to take.

        Raises:
            UserError: if the settings admit no puzzle.
        """
        made, stop = self._made(), start + count  # made from index `first` on
        low = min(max(start, self.first), stop)
        high = max(low, min(stop, self.first + len(made)))
        ready = made[low - self.first : high - self.first]
        taken = torch.cat([self._drawn(start, low), ready, self._drawn(high, stop)])
        self.kept = made[following - self.first :] if following >= self.first else self.none
        self.first, rest = following, ahead - len(self.kept)
        if self.worker and rest > 0:
            begin = following + len(self.kept)
            self.coming = self.worker.submit(self._made_ahead, begin, begin + rest)
        return taken

    def _made(self) -> TensorDict:
        """Returns what is made; what an error kept from being made may not be wanted."""
        coming, self.coming = self.coming, None
        if coming is None or coming.exception() is not None:
            return self.kept
        return torch.cat([self.kept, coming.result()])

    def _drawn(self, start: int, stop: int) -> TensorDict:
        if start == stop:
            return self.none
        return self.puzzle.sample(stop - start, "train", seed=self.seed, start=start)

    def _made_ahead(self, start: int, stop: int) -> TensorDict:
        """Makes puzzles in slices, so that the thread can end soon."""
        made: list[TensorDict] = []

        def some(rows: slice) -> None:
            made.append(self._drawn(start + rows.start, start + rows.stop))

        with ended_by(self.closing):
            over_rows(stop - start, some)
        return torch.cat(made)
