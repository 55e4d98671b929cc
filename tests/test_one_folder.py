"""One folder, one run: however many start in the same moment, each has its own or is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.lock import new_run, sweep_folder
from pir.runs.names import find_runs
from pir.runs.sweep import flat_name
from pir.system.interrupt import handled
from tests.conftest import TINY, compose_config
from tests.training_runs import read_rows, trainer_of

WORDS = [*TINY, "trainer.max_optimizer_steps=3", "trainer.eval_every=3", "device=cpu"]


def started(folder, *commands):
    """Starts all commands at once, each in a process of its own; returns status and messages."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.forks"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        input=json.dumps([["train", *WORDS, *command] for command in commands]),
        capture_output=True,
        text=True,
        check=True,
    )
    ends = json.loads(done.stdout)
    assert not any("Traceback" in text for _, text in ends), ends
    return ends


def whole(run, seed):
    """Says whether a folder holds one whole run of a seed."""
    folder = RunFolder(run)
    steps = [row["optimizer_step"] for row in read_rows(folder.metrics)]
    config = yaml.safe_load(folder.config.read_text())
    return steps == ["3"] and folder.summary.is_file() and config["seed"] == seed


def test_starts_in_one_second(tmp_path):
    """Two by default, two that name one folder, and two sweeps."""
    default = [[f"seed={seed}"] for seed in (0, 1)]
    named = [["run=mine", f"seed={seed}"] for seed in (2, 3)]
    sweeps = [["-m", "seed=4"], ["-m", "seed=5"]]
    ends = started(tmp_path, *default, *named, *sweeps)
    assert [status for status, _ in ends[:2]] == [0, 0]
    runs = sorted((tmp_path / "runs/countdown").iterdir())
    assert len(runs) == 2
    assert all(any(whole(run, seed) for run in runs) for seed in (0, 1))
    statuses = [status for status, _ in ends[2:4]]
    assert sorted(statuses) == [0, 2]
    assert whole(tmp_path / "mine", 2 + statuses.index(0))
    assert "mine" in ends[2 + statuses.index(2)][1]
    assert [status for status, _ in ends[4:]] == [0, 0]
    assert len(list((tmp_path / "runs/sweep").iterdir())) == 2


def claims(path, **how):
    """Says in which folder a process of its own may train; None if it is refused."""
    read, write = os.pipe()
    if os.fork() == 0:
        with handled():
            try:
                with new_run(path, **how) as folder:
                    folder.create(compose_config(), ["pir", "train"])
                    os.write(write, str(folder.path).encode())
            finally:
                os._exit(0)
    os.close(write)
    os.wait()
    with os.fdopen(read) as file:
        return file.read() or None


def test_names_in_use_get_a_number_and_chosen_ones_are_refused(tmp_path):
    place = tmp_path / "runs" / "now"
    assert [claims(place, numbered=True) for _ in range(3)] == [
        str(place),
        f"{place}-2",
        f"{place}-3",
    ]
    assert claims(place) is None
    with new_run(tmp_path / "held") as folder:
        assert claims(tmp_path / "held") is None
        assert (folder.path / ".lock").exists()  # of the holder: the refused one leaves it
        assert claims(tmp_path / "held", numbered=True) == str(tmp_path / "held-2")


def go_wrong(place):
    with place as made:
        path = getattr(made, "path", made)
        (path / ("info.json" if path != made else "multirun.yaml")).write_text("{}")
        raise UserError("a wrong setting")


def test_a_refused_run_leaves_no_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    for place in (
        new_run(tmp_path / "a/b/c"),
        sweep_folder(tmp_path / "runs/sweep", numbered=True),
        new_run(tmp_path / "mine"),
    ):
        with pytest.raises(UserError, match="a wrong setting"):
            go_wrong(place)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_what_is_left_of_a_run_is_not_written_over(tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.pt").write_bytes(b"dear")
    with (
        pytest.raises(UserError, match=r"what is left of a run \(last\.pt\)"),
        new_run(tmp_path / "run"),
    ):
        pass
    assert (tmp_path / "run/checkpoints/last.pt").read_bytes() == b"dear"


def begin(path, spoil):
    with new_run(path) as folder:
        spoil(folder)
        folder.create(compose_config(), ["pir", "train"])


def test_the_cause_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    def gone(folder):
        os.rename(folder.path, tmp_path / "elsewhere")
        folder.path.write_text("a file")

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        begin(tmp_path / "file/run", lambda folder: None)
    with pytest.raises(UserError, match="gone was moved or removed"):
        begin(tmp_path / "gone", gone)
    with pytest.raises(UserError, match="No space left"):
        begin(tmp_path / "full", lambda folder: monkeypatch.setattr(os, "fsync", full))
    assert not (tmp_path / "full").exists()


def test_sweeps_do_not_nest_folders(tmp_path, finished_run, pir_here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").symlink_to(finished_run)
    steps = "trainer.max_optimizer_steps=1"
    pir_here("train", *WORDS, "-m", "init=./a,a", "run=sw", steps)
    names = sorted(run.name for run in find_runs(str(tmp_path / "sw/*")))
    assert names == ["init=._a", "init=a"]
    assert len(flat_name("x/" * 300).encode()) <= 200
    assert flat_name("x/" * 300) != flat_name("x/" * 300 + "y")


def test_one_sweep_at_a_time(tmp_path):
    place = tmp_path / "sw"
    with (
        sweep_folder(place, numbered=False),
        pytest.raises(UserError, match="sweeping in"),
        sweep_folder(place, numbered=False),
    ):
        pass
    assert not place.exists()


def test_a_trainer_from_python_keeps_others_out(tmp_path):
    """`train` and `resume` of a process are refused where another one trains."""
    trainer = trainer_of(tmp_path / "run", steps=2)
    trainer.train()
    with trainer.folder.claim(), trainer.folder.claim():
        for refused in (trainer.train, trainer.resume):
            assert "another process is training in" in said_elsewhere(refused)
        assert trainer_of(tmp_path / "run", steps=4).resume()  # this one has it already
    assert said_elsewhere(trainer.resume) == ""


def said_elsewhere(call):
    """Returns the message of a refused call in a process of its own, "" if it is not refused."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            call()
        except UserError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.wait()
    with os.fdopen(read) as file:
        return file.read()
