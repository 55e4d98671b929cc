"""Arrays of numbers out of .npz files, which other people may have written."""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from pir.puzzle_files.array_header import read_header
from pir.system.stored import open_regular, refuse

MOST_BYTES = 1 << 30
"""Bytes of the arrays that are read from one archive, unpacked; packed, a quarter of it."""

LARGEST = 1e100
"""The largest number that is read: sums and products of such are still numbers."""


class Archive:
    """The arrays of a .npz file; nothing is unpickled, and no more is unpacked than is declared.

    Args:
        path: the file.
        file: the open file.

    Raises:
        UserError: if it is damaged.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        """Reads the list of arrays."""
        self.path, self.left = path, MOST_BYTES
        with self._damage():
            self.zip = zipfile.ZipFile(file)
            self.members = {
                member.filename.removesuffix(".npy"): member for member in self.zip.infolist()
            }

    def __getitem__(self, name: str) -> np.ndarray:
        """Reads an array of numbers or truth values.

        Raises:
            UserError: if it is damaged, or with those read before larger than `MOST_BYTES`.
        """
        member = self.members[name]
        with self._damage(), self.zip.open(member) as stream:
            self.left -= member.file_size
            if self.left < 0:
                raise ValueError(f"its arrays hold more than {MOST_BYTES:,} bytes")
            shape, by_column, dtype = read_header(stream)
            if dtype.kind not in "biuf":
                raise ValueError(f"array {name} holds no numbers")
            size = math.prod(shape) * dtype.itemsize
            content = stream.read()
            if size != len(content):
                raise ValueError(f"array {name} has {len(content)} bytes instead of {size}")
            array = np.frombuffer(content, dtype)
            if dtype.itemsize > 4 and np.any(np.abs(array[np.isfinite(array)]) > LARGEST):
                raise ValueError(f"array {name} holds numbers beyond {LARGEST:g}")
            return array.reshape(shape, order="F" if by_column else "C")

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (
            OSError,
            ValueError,
            EOFError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            refuse(self.path, error)  # encrypted or unknown kinds are RuntimeErrors


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a .npz file.

    Raises:
        UserError: if it is damaged.
    """
    with open_regular(path, MOST_BYTES >> 2) as file:
        yield Archive(path, file)
