"""The bytes of a puzzle file: opened, unpacked within bounds, read with a report of progress."""

import gzip
import io
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from pir.errors import UserError
from pir.system.terminal import printable, say

STDIN = "-"
"""The path that stands for standard input."""

BLOCK = 1 << 21
"""Bytes read at once."""

SAFE_SIZE, SAFE_RATIO = 1 << 26, 250
"""A compressed file may always grow to so many bytes, and beyond them so many times its size."""

REPORT_SECONDS = 2.0


class Source:
    """Bytes of a file that may be compressed, with a look ahead and a report of progress.

    Args:
        name: the setting and the file, for messages.
        raw: the file.
        size: its size in bytes; None where that is unknown.
    """

    def __init__(self, name: str, raw: IO[bytes], size: int | None) -> None:
        """Looks for compression."""
        self.name, self.raw, self.size = name, raw, size
        self.count, self.progress = 0, Progress(name)
        self._ahead = b""
        self.stream: IO[bytes] = raw
        self._unpacked, self.packed = 0, False
        self.packed = self.peek(2) == b"\x1f\x8b"
        if self.packed:
            self.raw = cast(IO[bytes], _Rest(self._ahead, raw))
            self.stream, self._ahead = cast(IO[bytes], gzip.GzipFile(fileobj=self.raw)), b""

    def peek(self, count: int) -> bytes:
        """Returns the next bytes without taking them; fewer at the end."""
        while len(self._ahead) < count and (more := self._read(count - len(self._ahead))):
            self._ahead += more
        return self._ahead[:count]

    def read(self, count: int = BLOCK, /) -> bytes:
        """Takes the next bytes, at least one and at most `count`; none at the end."""
        if self._ahead:
            taken, self._ahead = self._ahead[:count], self._ahead[count:]
            return taken
        return self._read(count)

    def blocks(self) -> Iterator[bytes]:
        """Yields the rest."""
        ahead, self._ahead = self._ahead, b""
        while block := ahead + self._read(BLOCK):
            yield block
            ahead = b""

    def _read(self, count: int) -> bytes:
        read = getattr(self.stream, "read1", self.stream.read)
        data: bytes = read(min(count, BLOCK))
        if self.packed:
            self._unpacked += len(data)
            if self._unpacked > max(SAFE_SIZE, SAFE_RATIO * self.raw.tell()):
                raise UserError(f"{self.name} grows to more than {SAFE_RATIO} times its size")
        return data

    def report(self, count: int) -> None:
        """Counts puzzles, and says so now and then."""
        self.count += count
        share = self.raw.tell() / self.size if self.size else None
        self.progress.report("reading", self.count, share)


class Progress:
    """A line on standard error every few seconds.

    Args:
        name: the setting and the file.
    """

    def __init__(self, name: str) -> None:
        """Starts the clock."""
        self.name, self.told = printable(name), time.monotonic()

    def report(self, doing: str, count: int, share: float | None) -> None:
        """Says how many puzzles are done, and which share of all that is, if it is time to."""
        now = time.monotonic()
        if now - self.told < REPORT_SECONDS:
            return
        self.told = now
        known = "" if share is None else f"{min(1.0, share):.0%}, "
        say(f"{doing} {self.name}: {known}{count:,} puzzles", error=True)


class _Rest(io.RawIOBase):
    """Bytes that were read already, and then the rest of a stream."""

    def __init__(self, ahead: bytes, raw: IO[bytes]) -> None:
        self.ahead, self.raw, self.taken = ahead, raw, 0

    def read(self, count: int = -1) -> bytes:
        part = self.ahead[:count] if count >= 0 else self.ahead
        self.ahead = self.ahead[len(part) :]
        part = part or self.raw.read(count)
        self.taken += len(part)
        return part

    def tell(self) -> int:
        return self.taken

    def seekable(self) -> bool:
        return False


@contextmanager
def opened(path: str, key: str) -> Iterator[Source]:
    """Opens a file, or takes standard input.

    Raises:
        UserError: if it cannot be read, then or later.
    """
    try:
        if path == STDIN:
            yield Source(f"{key}={path}", sys.stdin.buffer, None)
            return
        with open(path, "rb") as file:
            size = Path(path).stat().st_size
            yield Source(f"{key}={path}", file, size or None)
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{key}={path} cannot be read: {reason}") from error
