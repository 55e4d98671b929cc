"""Long compiled work, done in slices.

Python handles a signal such as Ctrl-C only between two calls of compiled code, so no such call may
take long. Work that may is written so that it stops after a given budget and goes on from there in
the next call; what it computes does not depend on where it was cut. A thread, which no signal
reaches, ends between two slices too (`ended_by`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

BUSY, FILLED, GIVEN_UP = range(3)
"""What a generator's kernel returns: the budget is spent, all rows are filled, one is given up."""

SLICE_SECONDS = 0.05
FASTEST_GROWTH, MAX_BUDGET = 8.0, 1 << 30


_ending: ContextVar[threading.Event | None] = ContextVar("_ending", default=None)


@contextmanager
def ended_by(event: threading.Event) -> Iterator[None]:
    """Ends this thread's work by CancelledError before the next slice, once `event` is set."""
    token = _ending.set(event)
    try:
        yield
    finally:
        _ending.reset(token)


def end_if_asked() -> None:
    """Raises CancelledError in a thread whose work is to end (`ended_by`)."""
    ending = _ending.get()
    if ending is not None and ending.is_set():
        raise CancelledError


def in_slices(work: Callable[[int], bool]) -> None:
    """Calls `work` until it is done, with budgets that make a call take about `SLICE_SECONDS`.

    Args:
        work: goes on with the work for a budget of so many units, at least 1, and returns whether
            it is done.

    Raises:
        CancelledError: in a thread that is to end (`ended_by`).
    """
    budget = 1
    while True:
        end_if_asked()
        started = time.perf_counter()
        if work(budget):
            return
        seconds = max(time.perf_counter() - started, 1e-9)
        growth = min(SLICE_SECONDS / seconds, FASTEST_GROWTH)
        budget = min(max(1, int(budget * growth)), MAX_BUDGET)


def over_rows(count: int, work: Callable[[slice], None]) -> None:
    """Calls `work` for consecutive slices of the rows 0 .. count - 1.

    Args:
        count: how many rows there are.
        work: works on the rows of a slice.
    """
    done = 0

    def some(budget: int) -> bool:
        nonlocal done
        rows = slice(done, min(done + budget, count))
        work(rows)
        done = rows.stop
        return done == count

    in_slices(some)


def generate_rows(kernel: Callable[..., int], *settings: Any) -> bool:
    """Has the generator of a puzzle fill its rows, one instance each.

    Args:
        kernel: is called as `kernel(*settings, progress, budget)` until it no longer returns
            `BUSY`. `progress`, uint64 of shape (3,), is the kernel's to keep its place in: the row
            at work, the draws made for it, and the state of its random stream.
        settings: what else the kernel needs, the arrays that receive the rows among it.

    Returns:
        Whether all rows were filled; if not, an instance was given up.
    """
    progress = np.zeros(3, np.uint64)
    status = BUSY

    def work(budget: int) -> bool:
        nonlocal status
        status = kernel(*settings, progress, budget)
        return status != BUSY

    in_slices(work)
    return status == FILLED
