"""The headers of arrays in numpy's format (.npy), which other people may have written."""

import tokenize
import warnings
from typing import Any, NamedTuple

import numpy as np

LONGEST_HEADER = 10_000

READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """What an array in a file claims to be; its numbers follow."""

    shape: tuple[int, ...]
    by_column: bool
    dtype: np.dtype


def read_header(file: Any) -> Header:
    """Reads the header of an array.

    Args:
        file: an open file, or anything that bytes are read from.

    Raises:
        ValueError: if it is none, in words for people.
    """
    version = np.lib.format.read_magic(file)
    if version not in READERS:
        raise ValueError(f"version {version} of the format is not read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote it, which is read all the same
            shape, by_column, dtype = READERS[version](file, max_header_size=LONGEST_HEADER)
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        SyntaxError,
        RecursionError,
        MemoryError,
        tokenize.TokenError,
    ) as error:  # numpy has Python read it; what that says is of no use, such as addresses
        raise ValueError("the header of its array is damaged") from error
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return Header(shape, by_column, dtype)
