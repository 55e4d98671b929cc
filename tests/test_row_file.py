"""CSV files are counted and summed up in the checkpoint, and what is lost of them is said."""

import shutil

import pytest

from pir.runs.row_file import RowFile
from tests.training_runs import ROW_FILES, assert_same_run, go_on, start


def rows(count):
    return [{"optimizer_step": step, "loss": step / 7} for step in range(1, count + 1)]


@pytest.fixture
def file(tmp_path):
    written = RowFile(tmp_path / "metrics.csv")
    written.append(rows(3))
    written.append([])
    written.append([{"optimizer_step": 4, "loss": 1.0}])
    return written


def resumed(file, step=4):
    again = RowFile(file.path)
    return again, again.resume(file.state(), step)


def test_nothing_is_said_where_nothing_is_lost(file):
    before, state = file.path.read_bytes(), file.state()
    with file.path.open("a") as end:
        end.write("5,0.1\n6,0.2\n7")  # after the checkpoint, the last of them cut off
    again, lost = resumed(file)
    assert lost is None
    assert file.path.read_bytes() == before
    assert again.state() == state
    again.append([{"optimizer_step": 5, "loss": 0.5}])
    assert again.state()["rows"] == 5
    file.append([{"optimizer_step": 5, "loss": 0.5}])  # the first one goes on as well
    assert again.state() == file.state()


@pytest.mark.parametrize(
    ("damage", "message", "left"),
    [
        (lambda text: None, "4 of 4 rows are lost", 0),
        (lambda text: "", "4 of 4 rows are lost", 0),
        (lambda text: text[: len(text) // 2], "rows are lost", 1),
        (lambda text: text[:-3], "1 of 4 rows are lost", 3),
        (lambda text: text.replace("2,0.28", "2,0.99"), "rows were changed", 4),
        (lambda text: text.replace("optimizer_step,", "opt", 1), "header was damaged", 4),
        (lambda text: text[text.index("\n") + 1 :], "header was damaged", 4),
        (lambda text: text.replace("1,0.1", "x,0.1", 1), "1 of 4 rows are lost", 3),
        (lambda text: "\0" * len(text), "4 of 4 rows are lost", 0),
    ],
)
def test_losses_are_said_and_the_file_is_well_formed(file, damage, message, left):
    header = file.path.read_text().splitlines()[0]
    damaged = damage(file.path.read_text())
    if damaged is None:
        file.path.unlink()
    else:
        file.path.write_text(damaged)
    again, lost = resumed(file)
    assert message in lost
    assert str(file.path) in lost
    again.append([{"optimizer_step": 5, "loss": 0.5}])
    lines = file.path.read_text().splitlines()
    assert lines[0] == header
    assert len(lines) == 1 + left + 1
    assert all(line.count(",") == 1 for line in lines)
    assert resumed(again, 5)[1] is None  # said once


def test_a_run_goes_on_and_says_what_is_gone(tmp_path, capsys):
    start(tmp_path / "whole").train()
    start(tmp_path / "run", "trainer.max_optimizer_steps=7").train()
    capsys.readouterr()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    go_on(tmp_path / "run").train()
    assert "warning" not in capsys.readouterr().err
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    for name in ROW_FILES:
        (tmp_path / "copy" / name).write_text("")
    go_on(tmp_path / "copy").train()
    said = capsys.readouterr().err
    assert all(f"{name}: " in said for name in ROW_FILES)
    assert "metrics.csv: 2 of 2 rows are lost" in said
