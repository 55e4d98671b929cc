"""A run whose folder is moved or removed while it trains ends, and touches no other run there."""

import os
import shutil

import numpy as np
import pytest

from pir.cli.main import main
from pir.errors import UserError
from pir.evaluation.measured import Measured
from pir.evaluation.run import write_evaluation
from pir.runs.folder import RunFolder, write_arrays, write_rows
from pir.runs.lock import new_run, sweep_folder
from pir.runs.records import Facts
from pir.runs.row_file import RowFile
from pir.runs.schema import CELLS
from pir.training import report
from pir.training.resume import resume
from pir.training.trainer import Trainer
from tests.conftest import TINY, compose_config
from tests.training_runs import assert_same_run, read_rows, start

MOMENTS = {
    "metrics": (report, "log_interval", 3),
    "validation": (Trainer, "_evaluate_validation", 3),
    "checkpoint": (Trainer, "save", 4),
    "test": ("pir.evaluation.run", "write_evaluation", 1),
    "summary": ("pir.cli.commands.train_end", "write_json", 1),
    "figure": ("pir.analysis.figures.kinds", "save_kind", 1),
}
"""Where a run is caught: a function of a module or class, and at which call of it."""


def content(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("moment", "removed"),
    [*((moment, False) for moment in MOMENTS), ("metrics", True), ("test", True)],
)
def test_a_strangers_run_under_the_old_name_is_left_alone(
    finished_run, tmp_path, at, capsys, moment, removed
):
    run, moved, before = tmp_path / "run", tmp_path / "moved", {}

    def swap():
        shutil.rmtree(run) if removed else run.rename(moved)
        shutil.copytree(finished_run, run)
        before.update(content(run))

    at(*MOMENTS[moment], swap)
    assert main(["train", *TINY, "device=cpu", f"run={run}"]) == 2
    error = capsys.readouterr().err
    assert f"the folder {run} was moved or removed while this process was training in it" in error
    assert "Traceback" not in error
    assert before
    assert content(run) == before
    assert (f"its files are in {moved} now" in error) is not removed


def test_a_run_that_was_moved_goes_on_in_its_new_place(tmp_path, at):
    at(*MOMENTS["validation"], lambda: (tmp_path / "run").rename(tmp_path / "moved"))
    assert main(["train", *TINY, "device=cpu", f"run={tmp_path / 'run'}"]) == 2
    assert main(["train", f"resume={tmp_path / 'moved'}"]) == 0
    assert main(["train", *TINY, "device=cpu", f"run={tmp_path / 'whole'}"]) == 0
    assert_same_run(tmp_path / "moved", tmp_path / "whole")


def test_a_folder_that_was_removed_is_not_made_again(tmp_path, at):
    run = tmp_path / "run"
    at(*MOMENTS["validation"], lambda: shutil.rmtree(run))
    assert main(["train", *TINY, "device=cpu", f"run={run}"]) == 2
    assert not run.exists()


def test_an_interrupt_names_no_other_run(finished_run, tmp_path, at, capsys):
    run = tmp_path / "run"

    def swap():
        run.rename(tmp_path / "moved")
        shutil.copytree(finished_run, run)
        raise KeyboardInterrupt

    at(*MOMENTS["metrics"], swap)
    main(["train", *TINY, "device=cpu", f"run={run}"])
    error = capsys.readouterr().err
    assert "was moved or removed" in error
    assert "go on with" not in error


def test_a_lock_that_is_removed_lets_two_runs_mix_nothing(pir, finished_run, tmp_path, at, capsys):
    """The second one has the folder; the first one ends before it writes again."""
    run, words = tmp_path / "run", [*TINY, "env=countdown", "device=cpu"]

    def second():
        (run / ".lock").unlink()
        pir("train", f"resume={run}")

    at(*MOMENTS["metrics"], second)
    assert main(["train", *words, f"run={run}"]) == 2
    assert "or .lock in it was: nothing more is written" in capsys.readouterr().err
    assert main(["train", *words, f"run={tmp_path / 'whole'}"]) == 0
    assert_same_run(run, tmp_path / "whole")
    steps = [int(row["optimizer_step"]) for row in read_rows(run / "metrics.csv")]
    assert steps == sorted(set(steps))


def test_everything_that_writes_or_removes_looks_at_the_lock(tmp_path):
    trainer = start(tmp_path / "run")
    folder, rows = trainer.folder, [{"optimizer_step": 1}]
    trainer.rows["metrics.csv"].append(rows)
    kept = trainer.rows["metrics.csv"].state()
    with folder.claim():
        folder.path.rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", folder.path)
        (folder.path / "improvement.csv").write_text("of a stranger\n")
        (folder.path / "eval").mkdir()
        (folder.path / "eval/eval.json").write_text("{}")
        before = content(folder.path)
        facts = Facts(env="", split="", puzzles=1, trained_steps=1, improvement_steps=1)
        for write in (
            lambda: trainer.rows["metrics.csv"].append(rows),
            lambda: RowFile(folder.metrics).resume(kept | {"rows": 0}, 0),
            lambda: trainer.save(folder.last),
            lambda: folder.write_config(compose_config()),
            lambda: folder.create(compose_config(), ["pir", "train"]),
            lambda: write_rows(folder.evaluation / "x.csv", rows),
            lambda: write_arrays(folder.evaluation / "x.npz", {"x": np.zeros(1)}),
            lambda: write_evaluation(folder, facts, [Measured(CELLS)]),
        ):
            with pytest.raises(UserError, match="was moved or removed"):
                write()
        folder.metrics.unlink()  # resume takes the run for one that has no checkpoint yet
        before.pop(folder.metrics)
        with pytest.raises(UserError, match="was moved or removed"):
            resume(trainer)
        assert content(folder.path) == before
    trainer.rows["metrics.csv"].append(rows)  # who holds no lock writes where it is told


def test_a_long_write_ends_in_no_other_folder(tmp_path, monkeypatch):
    trainer = start(tmp_path / "run")
    folder, real = trainer.folder, os.fsync

    def slow(descriptor):
        real(descriptor)
        folder.path.rename(tmp_path / "moved")
        folder.last.parent.mkdir(parents=True)
        folder.last.write_text("of a stranger")
        folder.last.with_name("last.pt.partial").write_text("under way")

    with folder.claim():
        monkeypatch.setattr(os, "fsync", slow)
        with pytest.raises(UserError, match="was moved or removed"):
            trainer.save(folder.last)
    assert sorted(content(folder.path).values()) == [b"of a stranger", b"under way"]


def test_a_run_that_has_not_begun_takes_back_nothing_of_others(tmp_path):
    path = tmp_path / "a/run"
    with new_run(path):
        path.rename(tmp_path / "moved")
        path.mkdir()
        for name in (".lock", "info.json"):
            (path / name).write_text("of a stranger")
    assert {file.name for file in path.iterdir()} == {".lock", "info.json"}


def test_a_sweep_that_was_moved_begins_no_more_runs(tmp_path):
    place = tmp_path / "sweep"
    with sweep_folder(place, numbered=False):
        place.rename(tmp_path / "moved")
        (place / "seed=1").mkdir(parents=True)  # as Hydra makes the folder of the next run
        (place / "multirun.yaml").write_text("of a stranger")
        with (
            pytest.raises(UserError, match=r"was sweeping in it, or \.sweep\.lock in it was"),
            new_run(place / "seed=1", made_for_it=True),
        ):
            pass
        (place / "seed=2").mkdir()
    assert {file.name for file in place.iterdir()} == {"multirun.yaml", "seed=2"}


def test_a_folder_is_where_links_lead(tmp_path):
    """Who moves a run and leaves a link in its place has the rows in its files."""
    trainer = start(tmp_path / "run")
    with RunFolder(tmp_path / "run").claim():
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "run").symlink_to(tmp_path / "moved")
        assert trainer.train()
    assert (tmp_path / "moved/checkpoints/last.pt").is_file()
