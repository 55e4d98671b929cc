"""Ctrl-C, SIGTERM and SIGHUP, at any moment of a command's life.

What a signal does depends on what there is to lose, and only one handler is ever in place, so there
is no moment between two of them:

* while a process of ours starts it ends at once, for nothing has been made yet;
* inside `stoppable` KeyboardInterrupt is raised, so that what was made is taken back;
* inside `postponed` the first signal is only remembered, and the second one raises (not under
  torchrun, where each may come twice).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pir.errors import UserError
from pir.system.launch import by_torchrun

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What asks a process to end: Ctrl-C, a scheduler, a terminal that is closed."""


class _State:
    """Which signal came, and what the next one does; there is one per process."""

    received: int | None = None
    handling = False
    act = "raise"


def requested() -> bool:
    """Says whether a signal came."""
    return _State.received is not None


def exit_status() -> int:
    """Returns the exit status after a signal, as in shells: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + int(_State.received or signal.SIGINT)


@contextmanager
def handled(own_process: bool = False) -> Iterator[None]:
    """Takes over the signals, where that is possible: in the main thread.

    Args:
        own_process: nothing else runs in this process: a signal may end it at first, and is ignored
            while it ends.
    """
    if _State.handling or threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    _State.received, _State.handling = None, True
    hook, sys.unraisablehook = sys.unraisablehook, _without_interrupts(sys.unraisablehook)
    try:
        with _acting("exit" if own_process else "raise"):
            for number in SIGNALS:
                old = signal.getsignal(number)
                if number != getattr(signal, "SIGHUP", None) or old is not signal.SIG_IGN:  # nohup
                    before[number] = old
                    signal.signal(number, _handle)
            yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_IGN if own_process else old)
        _State.handling = False
        if not own_process:
            sys.unraisablehook = hook


@contextmanager
def stoppable() -> Iterator[None]:
    """Raises KeyboardInterrupt at a signal, from now on.

    Code that it passes through may turn it into an error of another kind (Python does so while a
    class is made, libraries while they are imported); it becomes KeyboardInterrupt again here.
    """
    with _acting("raise"):
        if _State.handling and requested():  # one that nobody saw
            raise KeyboardInterrupt
        try:
            yield
        except Exception as error:
            if not _State.handling or not requested() or isinstance(error, UserError):
                raise
            raise KeyboardInterrupt from error


@contextmanager
def postponed() -> Iterator[None]:
    """Only remembers the first signal (`requested`); the second raises KeyboardInterrupt."""
    with handled(), _acting("remember"):
        yield


@contextmanager
def _acting(act: str) -> Iterator[None]:
    before, _State.act = _State.act, act
    try:
        yield
    finally:
        _State.act = before


def _handle(number: int, frame: FrameType | None) -> None:
    first, _State.received = _State.received is None, number
    if _State.act == "exit":
        os._exit(exit_status())
    # torchrun passes on what the terminal has sent already, and kills who does not end in time
    second = not first and not by_torchrun()
    if second or _State.act == "raise":
        raise KeyboardInterrupt


def _without_interrupts(hook: Any) -> Any:
    """Returns a hook that says nothing of an interrupt inside a finalizer: it is remembered."""

    def without(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    return without
