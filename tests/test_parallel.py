"""A run that is parted, over processes or in time, learns what a run in one piece learns."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pir.errors import UserError
from pir.system import processes
from tests.conftest import TINY
from tests.together import AGAIN, CASES, EXACT, HALTING, LATE
from tests.training_runs import assert_same_run, go_on, read_rows, start

FILES = ("metrics.csv", "improvement.csv", "improvement_train.csv")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs by two processes; see `tests.together`."""
    folder = tmp_path_factory.mktemp("together")
    words = [sys.executable, "-m", "tests.together", str(folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def numbers(folder: Path, name: str) -> list[list[float]]:
    """The columns of a file that no flip of a single answer moves far: losses, KL, the critic."""
    rows = read_rows(folder / name)
    kept = [key for key in rows[0] if key == "kl" or key.startswith("loss") or "explain" in key]
    return [[float(row[key]) for key in kept] for row in rows]


def assert_like(one: Path, other: Path) -> None:
    """Compares two runs: the same puzzles and forward passes, and losses but for rounding."""
    for name in FILES:
        expected = np.array(numbers(other, name))
        assert expected.size > 0, name
        assert np.array(numbers(one, name)) == pytest.approx(expected, rel=1e-4, abs=1e-4), name
    for key in ("optimizer_step", "puzzles_seen", "forward_passes"):
        seen, others = ([row[key] for row in read_rows(p / "metrics.csv")] for p in (one, other))
        assert seen == others


@pytest.mark.parametrize("name", [name for name in CASES if name != "half"])
def test_two_processes_learn_what_one_does(together, tmp_path, name):
    start(tmp_path / "one", *EXACT, *CASES[name], "trainer.micro_batches=1").train()
    assert_like(together / name, tmp_path / "one")


def test_one_process_goes_on_with_the_run_of_two(together, tmp_path):
    go_on(together / "half", *EXACT).train()
    start(tmp_path / "one", *EXACT).train()
    assert_like(together / "half", tmp_path / "one")


@pytest.mark.parametrize(
    "words",
    [
        ["objective=group_relative", "objective.terms.reward.samples=4"],
        ["objective=awr", *HALTING, *AGAIN, *LATE],
    ],
)
def test_gradients_of_parts_add_up(tmp_path, words):
    start(tmp_path / "whole", *EXACT, *words).train()
    start(tmp_path / "parts", *EXACT, *words, "trainer.micro_batches=4").train()
    assert_like(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["env=sudoku4"], marks=pytest.mark.slow),
        ["model=dual"],
        ["model=recurrent_depth"],
    ],
)
def test_computing_activations_again_changes_nothing(tmp_path, words):
    words = [*words, "trainer.max_optimizer_steps=3"]
    start(tmp_path / "kept", *words).train()
    again = start(tmp_path / "again", *words, "trainer.checkpoint_activations=true")
    again.train()
    name = "metrics.csv"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()


def test_a_batch_that_cannot_be_parted_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"micro_batches=3: must divide the 16 lanes"):
        start(tmp_path / "odd", "trainer.micro_batches=3")
    with pytest.raises(UserError, match=r"micro_batches=2: objective.terms.reward compares"):
        start(tmp_path / "ppo", "objective=ppo", "trainer.micro_batches=2")
    with pytest.raises(UserError, match=r"puts 16 lanes on every puzzle, .* the 4 lanes"):
        start(tmp_path / "groups", "objective=group_relative", "trainer.micro_batches=4")
    monkeypatch.setattr(processes, "size", lambda: 3)
    with pytest.raises(UserError, match=r"batch_size=16: 3 processes .* a multiple of 3"):
        start(tmp_path / "three")


def test_a_sweep_is_none_of_torchruns(pir_here, monkeypatch, tmp_path):
    launched = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    done = pir_here("train", "-m", "seed=0,1", f"run={tmp_path}", code=2)
    assert "torchrun is for a single one" in done.stderr


def kill_one_of(group: subprocess.Popen[str], run: Path, rows: int, number: int) -> None:
    """Kills a process of torchrun's as soon as the run has so many rows."""
    deadline = time.monotonic() + 100
    while len(read_rows(run / "metrics.csv")) < rows and time.monotonic() < deadline:
        time.sleep(0.05)
    listed = subprocess.run(["pgrep", "-P", str(group.pid)], capture_output=True, check=True)
    os.kill(int(listed.stdout.split()[number]), signal.SIGKILL)


@pytest.mark.slow
def test_torchrun_starts_a_run_again_whose_processes_were_killed(pir, tmp_path):
    """First the second process is killed, then the one that writes: to the bit as if none was."""
    words = [*TINY, *EXACT, "trainer.max_optimizer_steps=400", "trainer.eval_every=20"]
    again = ["--nproc-per-node", "2", "--max-restarts", "3", "-m", "pir"]
    command = [sys.executable, "-m", "torch.distributed.run", *again, "train", *words]
    whole, run = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, f"run={whole}"], capture_output=True, check=True, timeout=150)
    group = subprocess.Popen([*command, f"run={run}"], stderr=subprocess.PIPE, text=True)
    kill_one_of(group, run, rows=10, number=1)
    kill_one_of(group, run, rows=25, number=0)
    _, errors = group.communicate(timeout=200)
    assert group.returncode == 0, errors
    assert errors.count("killed (resumed)") == 2
    assert_same_run(run, whole)
    pir("train", f"resume={run}", "trainer.max_optimizer_steps=410")
