"""Sweeps whose jobs other processes run, and the folders that they leave."""

import os
import pickle
import re
import sys

import pytest

from pir.cli.job import Job, JobFailedError
from pir.errors import UserError
from pir.runs.names import find_runs
from pir.settings import plugins
from pir.system.terminal import Screen
from tests.conftest import TINY, compose_config

ROWS = ("metrics.csv", "improvement.csv")


def elsewhere(job: Job, monkeypatch: pytest.MonkeyPatch) -> Job:
    """What another process makes of a job; that of the sweep is the parent of this one."""
    monkeypatch.setattr(Screen, "shared", False)
    monkeypatch.setattr(sys, "orig_argv", ["pir", "train", "-m"])
    monkeypatch.setattr(job, "process", os.getppid())
    content = pickle.dumps(job)
    sys.orig_argv = ["loky"]
    plugins.forget()
    made: Job = pickle.loads(content)
    return made


def test_a_launcher_that_is_not_there_is_said_to_be_an_extra(pir, tmp_path):
    """Hydra finds launchers in the namespace `hydra_plugins`, here a package without any."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/__init__.py").touch()
    words = ("train", "-m", "hydra/launcher=joblib", "seed=0,1")
    said = pir(*words, code=2, PYTHONPATH=str(tmp_path)).stderr
    assert "hydra/launcher=joblib: there is no such choice" in said
    assert "reasoners[sweeps]" in said


@pytest.mark.parametrize(
    ("words", "target", "options"),
    [
        (["joblib", "hydra.launcher.n_jobs=2"], "JoblibLauncher", {"n_jobs": 2}),
        (
            ["submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"],
            "SlurmLauncher",
            {"partition": "gpu", "gpus_per_node": 1},
        ),
    ],
)
def test_launchers_are_composed(words, target, options):
    launcher = compose_config(f"hydra/launcher={words[0]}", *words[1:], hydra=True).hydra.launcher
    assert launcher._target_.endswith(target)
    assert {name: launcher[name] for name in options} == options


def test_a_job_brings_along_what_its_process_must_know(monkeypatch, tmp_path):
    plugins.forget()
    plugins.open_folder(str(tmp_path), [])
    try:
        job = elsewhere(Job("train", ["seed=0,1"]), monkeypatch)
        assert plugins.folders == [tmp_path]
    finally:
        plugins.forget()
    assert (job.command, job.words, job.process) == ("train", ["seed=0,1"], os.getppid())
    assert sys.orig_argv == ["pir", "train", "-m"]
    assert Screen.shared


def test_a_job_that_fails_elsewhere_tells_the_sweep(monkeypatch, capsys):
    config = compose_config()
    with pytest.raises(JobFailedError) as failed:
        elsewhere(Job("eval", []), monkeypatch)(config)
    assert failed.value.status == 2
    assert "pir eval: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_processes_run_the_jobs_of_a_sweep(pir, pir_here, tmp_path, launcher):
    words = ["env.numbers=9,3", *TINY]
    pir("train", "-m", f"hydra/launcher={launcher}", *words, f"run={tmp_path / 'wide'}", code=2)
    pir_here("train", "-m", *words, f"run={tmp_path / 'serial'}", code=2)
    for name in ROWS:
        wide, serial = (tmp_path / p / "env.numbers=3" / name for p in ("wide", "serial"))
        assert wide.read_bytes() == serial.read_bytes()
    command = (tmp_path / "wide/env.numbers=3/command.txt").read_text()
    assert f"hydra/launcher={launcher}" in command


def test_the_folder_of_a_sweep_stands_for_its_runs(tmp_path):
    sweep = tmp_path / "sweeps/first"
    for file in ("multirun.yaml", "seed=1/config.yaml", "seed=0/config.yaml", "seed=2/.lock"):
        (sweep / file).parent.mkdir(parents=True, exist_ok=True)
        (sweep / file).write_text("")
    runs = [sweep / "seed=0", sweep / "seed=1"]
    assert find_runs(str(sweep)) == runs
    proposal = f"{tmp_path}/sweeps/*"
    with pytest.raises(
        UserError, match=re.escape(f"there is no run; did you mean runs='{proposal}")
    ):
        find_runs(f"{tmp_path}/sweeps")
    assert find_runs(proposal) == runs
    (sweep / "config.yaml").write_text("")  # a sweep of one combination
    assert find_runs(str(sweep)) == [sweep, *runs]
    with pytest.raises(UserError, match=r"there is no run$"):
        find_runs(str(tmp_path))
