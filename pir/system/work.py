"""Work that takes a while: which part of it is done, told to whoever shows it.

Loops say where they are and know nothing of terminals; without a listener nothing happens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Listener = Callable[[Sequence[str], float | None], None]
"""Takes the names of the parts, the outer one first, and the share of the inner one that is done;
None where that is not known."""

_listeners: list[Listener] = []
_parts: list[str] = []


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tells a listener, and no other, of the work inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Names the work inside."""
    _parts.append(name)
    done(None)
    try:
        yield
    finally:
        _parts.pop()


def done(share: float | None) -> None:
    """Says which share of the present part is done, from 0 to 1."""
    if _listeners:
        _listeners[-1](tuple(_parts), share)
