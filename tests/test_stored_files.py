"""Files of a run that somebody else wrote: out of bounds, of wrong types, bombs."""

import json
import zipfile

import numpy as np
import pytest
from pir.analysis.reading import archive
from pir.analysis.reading.archive import open_archive
from pir.analysis.reading.runs import Run

from pir.errors import UserError
from pir.system import stored
from pir.system.stored import read_object, read_table
from tests.run_folders import write_run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "nested too deeply"),
        ('{"a": 1' + "0" * 400 + "}", "too large a number"),
        ('{"a": 9223372036854775808}', "too large a number"),
        ('{"a": 1e999}', "is no number"),
        ('{"a": Infinity}', "is no number"),
        ("[]", "holds no object"),
        ("\x00", "damaged"),
        ('{"a": "\ud800', "damaged"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_json_out_of_bounds_is_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(UserError, match=f"x.json is damaged.*{message}|x.json is {message}"):
        read_object(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("trained_steps", -1), ("trained_steps", 0), ("trained_steps", True), ("trained_steps", "3"),
     ("puzzles", 0), ("puzzles", 1.5), ("dead_fraction", 2), ("improvement_steps", 1 << 40),
     ("env", 3), ("statistics", {}), ("statistics", [3]), ("floors", []), ("cost", 3),
     ("one_blank", {"solved": 1}), ("best_exit", "x"), ("seed", [1])],
)  # fmt: skip
def test_facts_of_wrong_type_or_range_are_refused(tmp_path, key, value):
    folder = write_run(tmp_path / "run")
    facts = json.loads((folder / "eval/eval.json").read_text())
    (folder / "eval/eval.json").write_text(json.dumps(facts | {key: value}))
    with pytest.raises(UserError, match=r"eval\.json is damaged"):
        _ = Run(folder).facts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1\n", "line 2: 1 cells, the header has 2"),
        ("a,a\n1,2\n", "header"),
        ("a\n" + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
        ('a\n"x\n', "no rows|line|damaged|x"),
        (",".join(map(str, range(2000))) + "\n", "header"),
        ("a\n", "no rows"),
        ("", "header"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_tables_that_are_damaged_name_the_line(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    if text.startswith('a\n"'):
        assert read_table(tmp_path / "x.csv")[1] == [["x\n"]]
        return
    with pytest.raises(UserError, match=f"x.csv is damaged.*({message})"):
        read_table(tmp_path / "x.csv")


def test_tables_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "MOST_CELLS", 10)
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n" * 10)
    with pytest.raises(UserError, match="line 7: more than 10 cells"):
        read_table(tmp_path / "x.csv")
    monkeypatch.setattr(stored, "MOST_TABLE", 10)
    with pytest.raises(UserError, match="44 bytes, at most 10"):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize("k", ["0", "-1", "1.5", "nan", "1e9", "inf"])
def test_steps_are_numbers_of_steps(tmp_path, k):
    folder = write_run(tmp_path / "run")
    (folder / "eval/per_step.csv").write_text(f"k,solved\n1,0.5\n{k},0.5\n")
    with pytest.raises(UserError, match=r"per_step\.csv is damaged: line 3, column k"):
        Run(folder).table("eval/per_step.csv")


def test_numbers_without_measure_are_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    content = dict(np.load(folder / "eval/latents.npz"))
    np.savez(
        folder / "eval/latents.npz",
        latents=content["latents"].astype(float) + 1e300,
        solved=np.ones(3),
    )
    with pytest.raises(UserError, match=r"array latents holds numbers beyond 1e\+100"):
        Run(folder).arrays("eval/latents.npz", "latents")


def test_a_packed_bomb_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 22)
    zeros = np.zeros(1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", a=zeros)
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 14
    with (
        open_archive(tmp_path / "bomb.npz") as content,
        pytest.raises(UserError, match="more than"),
    ):
        content["a"]
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
    for shape in (b"(1000000000000,)", b"(-1,)", b"(2, 3)", b"'x'"):
        with zipfile.ZipFile(tmp_path / "lies.npz", "w") as file:
            file.writestr("a.npy", (header % shape).ljust(127) + b"\n" + bytes(16))
        with (
            open_archive(tmp_path / "lies.npz") as content,
            pytest.raises(UserError, match="damaged"),
        ):
            content["a"]


def test_names_in_an_archive_name_no_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        for name in ("../../out.npy", "/abs.npy", "\x1b]0;X.npy"):
            file.writestr(name, b"x")
    with open_archive(tmp_path / "x.npz") as content:
        for name in content.members:
            with pytest.raises(UserError, match="damaged"):
                content[name]
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
