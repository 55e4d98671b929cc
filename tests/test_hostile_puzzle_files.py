"""Files of puzzles that mean harm: bombs, objects, links, control characters."""

import gzip
import io
import zipfile

import numpy as np
import pytest
from pir.envs.countdown.rules import Countdown
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.puzzle_files import source as puzzle_source
from pir.runs.inputs import file_sha256
from tests.test_puzzle_file import FOUR, write
from tests.test_puzzle_forms import npy, npz

HOSTILE = {
    "empty": (b"", "holds no puzzle"),
    "blank lines": (b"\n \n\r\n", "holds no puzzle"),
    "comments": (b"# a\n# b\n", "holds no puzzle"),
    "zero bytes": (b"\0" * 1000, r"it is no text \(a zero byte in line 1\)"),
    "utf-16 without a mark": (
        "\n1".encode("utf-16-le"),
        "UTF-16 is read if it begins with its mark",
    ),
    "utf-16 damaged": ("1\n".encode("utf-16") + b"\x00\xd8\x31\x00", "line 1 or one below it"),
    "latin-1": ("ü".encode("latin-1"), "line 1, column 1: the byte 0xfc is no UTF-8"),
    "latin-1 in a comment": (
        f"{FOUR}\n{FOUR}, für # ".encode() + "für\n".encode("latin-1") * 2,
        "line 2, column 26: the byte 0xfc is no UTF-8",
    ),
    "latin-1 in json": (b'{"a": 1}\n{"b": "\xe9"}', "line 2, column 8: the byte 0xe9"),
    "utf-8 cut": ("# ü".encode()[:-1], "line 1, column 3: the byte 0xc3"),
    "utf-16 cut": (b"\xff\xfe\x00", "cannot be read"),
    "gzip cut": (gzip.compress(FOUR.encode() * 50)[:-9], "cannot be read"),
    "gzip damaged": (b"\x1f\x8b" + b"x" * 50, "cannot be read"),
    "no magic": (b"\x93NUMPY\x09\x09", "cannot be read"),
    "objects": (npz(puzzles=np.array([{"a": 1}], dtype=object)), "cannot be read"),
    "object array": (npy(np.array([None], dtype=object)), "cannot be read"),
    "floats": (npy(np.zeros((1, 16))), "no puzzle; whole numbers are"),
    "shape": (npy(np.zeros((1, 15), np.uint8)), r"shape \(N, 16\) or \(N, 4, 4\)"),
    "names": (npz(a=np.zeros(1), b=np.zeros(1)), "holds a, b; allowed names are inputs"),
    "tokens or digits": (npy(np.full((2, 16), 2, np.uint8)), "may be tokens .* or values"),
    "answers missing": (
        npz(puzzles=np.zeros((2, 16), np.uint8), solutions=np.ones((1, 16), np.uint8)),
        "2 questions and 1 answers",
    ),
    "deep json": (b"[" * 100_000, "1 faults|no JSON"),
    "deep json object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "no JSON"),
    "deep list": (b"[" * 900 + b"]" * 900, "no puzzle|no JSON"),
    "long number": (b"[" + b"1" * 10_000 + b"]\n[1]\n", "no JSON|no puzzle"),
    "json numbers": (b"[1, 2, 3]\n", "."),
    "json number list": (b'{"puzzle": {"a": 1}}\n', "."),
    "long line": (b"1" * 2_000_000, "2000000 characters where a grid has 16"),
    "longer line": (b"1" * 20_000_000, "longer than 8,388,608 bytes"),
    "longer value": (b"[" + b'"1 2 3 = 6",\n' * 800_000, "no JSON value ends within 8,388,608"),
    "quotation marks": (b'puzzle,a\n"' + b"1\n" * 20_000, "quotation mark"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    content, message = HOSTILE[name]
    path = write(tmp_path / "f", content)
    with pytest.raises(UserError, match=message) as caught:
        Sudoku(puzzles=path).size("test")
    assert len(str(caught.value)) < 2500


def test_directories_and_missing_files_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="cannot be read"):
            Sudoku(puzzles=str(path)).size("test")


@pytest.mark.parametrize("kind", ["npy", "npz", "zip", "gzip"])
def test_bombs_take_no_memory(tmp_path, kind, monkeypatch):
    header = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (10**11, 16)}
    np.lib.format.write_array_header_1_0(header, claim)
    if kind == "npy":
        content = header.getvalue() + bytes(1000)
    elif kind == "gzip":
        monkeypatch.setattr(puzzle_source, "SAFE_SIZE", 1 << 20)
        content = gzip.compress(b"#" * (1 << 19) + (b"#\n" + b" " * 100) * (1 << 17), 9)
    else:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("puzzles.npy", header.getvalue() + bytes(1000))
        content = file.getvalue()
        if kind == "zip":  # the directory lies about the size
            content = content.replace(
                (1000 + len(header.getvalue())).to_bytes(4, "little"), b"\xff\xff\xff\x7f"
            )
    path = write(tmp_path / "f", content)
    with pytest.raises(UserError, match=r"claimed|grows to more|cannot be read"):
        Sudoku(puzzles=path).size("test")


def test_control_characters_are_shown(tmp_path):
    path = write(tmp_path / "f.txt", "3\x1b]0;X\x07 7 8 = 29\n")
    with pytest.raises(UserError, match="line 1, column 2") as caught:
        Countdown(puzzles=path).size("test")
    assert str(caught.value).isprintable()


def test_hash_of_a_file(tmp_path):
    path = write(tmp_path / "f.txt", "abc")
    assert file_sha256(path).startswith("ba7816bf8f01cfea414140de5dae2223")
