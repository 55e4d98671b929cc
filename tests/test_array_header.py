"""Headers of arrays: what is wrong with a damaged one is said in plain words."""

import io
import random
import zipfile

import numpy as np
import pytest
from pir.analysis.reading.archive import open_archive
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.puzzle_files.array_header import LONGEST_HEADER, read_header
from tests.test_puzzle_forms import npy


def with_header(text):
    header = text.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


DAMAGED = {
    "a name": "{'descr': x, 'fortran_order': False, 'shape': (2,)}",
    "no dict": "[1]",
    "other keys": "{1: 2, 'a': 3}",
    "a list for a key": "{[]: 1}",
    "cut": "{'descr': '<i8', 'fortran_order': False, 'shape': (2,",
    "an open text": "{'''",
    "a zero byte": "\0",
    "nested": "(" * 5000,
    "long": " " * (LONGEST_HEADER + 1),
    "no type": "{'descr': [()], 'fortran_order': False, 'shape': (1,)}",
    "no shape": "{'descr': '<i8', 'fortran_order': False, 'shape': 'x'}",
    "huge text": "{'descr': '<U99999999999', 'fortran_order': False, 'shape': (1,)}",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_header_is_said_in_plain_words(tmp_path, name):
    damaged = with_header(DAMAGED[name])
    (tmp_path / "f.npy").write_bytes(damaged)
    for file in ("f.npz", "g.npz"):
        with zipfile.ZipFile(tmp_path / file, "w") as archive:
            archive.writestr("puzzles.npy", damaged)
    for file in ("f.npy", "f.npz"):
        with pytest.raises(UserError, match=r"cannot be read: the header of its array is damaged$"):
            Sudoku(puzzles=str(tmp_path / file)).size("test")
    with (
        open_archive(tmp_path / "g.npz") as content,
        pytest.raises(UserError, match=r"g\.npz is damaged: the header of its array is damaged$"),
    ):
        content["puzzles"]


def test_changed_bytes_show_no_address():
    rng, whole = random.Random(7), npy(np.zeros((3, 4), np.int64))
    for _ in range(3000):
        changed = bytearray(whole)
        for _ in range(rng.choice((1, 2, 4))):
            place = rng.randrange(8, len(whole) - 96)
            changed[place] = rng.choice(b"()[]{}'\",:-+.<>Ufi0L #x\\\xff")
        said = ""
        try:
            read_header(io.BytesIO(changed))
        except ValueError as error:
            said = str(error)
        assert " at 0x" not in said


def test_python_2_wrote_long_numbers():
    header = read_header(
        io.BytesIO(with_header("{'descr': '<i8', 'fortran_order': False, 'shape': (3L, 4L)}"))
    )
    assert header == ((3, 4), False, np.dtype("<i8"))
    with pytest.raises(ValueError, match=r"version \(9, 9\)"):
        read_header(io.BytesIO(b"\x93NUMPY\x09\x09"))
