"""Shared fixtures: one tiny trained run, and the command line as a user types it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict
from pir.envs.views.registration import build_puzzle, puzzle_names

from pir.cli.main import main
from pir.puzzle import Puzzle
from pir.settings import plugins
from pir.settings.schema import register_schemas

TINY = [
    "model.hidden_size=16",
    "model.heads=2",
    "model.improvement_steps=2",
    "model.latent_steps=1",
    "trainer.batch_size=16",
    "trainer.max_optimizer_steps=12",
    "trainer.log_every=3",
    "trainer.eval_every=4",
    "trainer.val_puzzles=20",
    "trainer.test_puzzles=40",
    "trainer.threads=1",
]
"""Overrides that shrink a run to seconds."""

FIRST = (
    "test_kills",
    "test_one_folder",
    "test_parallel",
    "test_interrupts",
    "test_fuzz",
    "test_zoo",
    "test_report",
    "test_strangers",
)
"""Files that take long. They come first, so that none is left for the end, when the
other workers have nothing to do (`make test` has no order of its own)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of `FIRST` first."""
    items.sort(key=lambda item: item.path.stem not in FIRST)


# A program in the background of a shell ignores Ctrl-C; the tests of it must not depend on that.
signal.signal(signal.SIGINT, signal.default_int_handler)

Command = Callable[..., subprocess.CompletedProcess[str]]


def compose_config(*overrides: str, hydra: bool = False) -> DictConfig:
    """Composes the settings of `pir train` without Hydra's command line, or with Hydra's own."""
    other_model = any(word.startswith("model=") for word in overrides)
    tiny = [word for word in TINY if not (other_model and word.startswith("model.latent_steps"))]
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_module("pir.configs", version_base="1.3"):
        words = ["run=unused", *tiny, *overrides]
        config = compose("train", overrides=words, return_hydra_config=hydra)
    if hydra:
        return config
    with open_dict(config):
        config.choices = {"env": "countdown", "model": "trm", "objective": "some"}
    OmegaConf.resolve(config)
    return config


@pytest.fixture(scope="session")
def pir() -> Command:
    """Runs `pir` in a process of its own."""

    def run(*words: str, cwd: Path | None = None, code: int = 0, **env: str):  # type: ignore[no-untyped-def]
        done = subprocess.run(
            [sys.executable, "-m", "pir", *words],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=os.environ | env,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def pir_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs `pir` in this process, which spares starting one; used as `pir` is."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        status = main(words)
        done = subprocess.CompletedProcess(words, status, *capsys.readouterr())
        assert status == code, f"{words}: {status}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    yield run
    plugins.forget()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has something happen once, just before some call of a function of a module or class."""

    def arrange(owner: Any, name: str, call: int, happens: Callable[[], object]) -> None:
        target = owner if not isinstance(owner, str) else __import__(owner, fromlist=["x"])
        original, calls = getattr(target, name), []

        def patched(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            if len(calls) == call:
                happens()
            return original(*args, **kwargs)

        monkeypatch.setattr(target, name, patched)

    return arrange


def in_this_process(*words: str) -> None:
    """Runs `pir` in this process as if it were its own, for fixtures of wider scope than a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"argv": list(sys.argv), "path": list(sys.path)}.items():
            patch.setattr(sys, name, value)
        patch.setattr(sys, "orig_argv", [sys.executable, "-m", "pir", *words])
        assert main(words) == 0, words


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the main job, shrunk to seconds."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    in_this_process("train", "env=countdown", f"run={folder}", *TINY)
    return folder


@pytest.fixture
def tiny_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that run, for one test to do with as it likes."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    shutil.copytree(finished_run, folder)
    return folder


@pytest.fixture(scope="module", params=puzzle_names())
def puzzle(request: pytest.FixtureRequest) -> Puzzle:
    """Every built-in puzzle, for the tests that hold of all."""
    return build_puzzle(request.param)


@pytest.fixture(scope="module")
def question(puzzle: Puzzle) -> torch.Tensor:
    """Questions of five puzzles."""
    return puzzle.sample(5, "train", seed=0)["question"]
