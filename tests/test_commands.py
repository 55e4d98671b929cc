"""`pir check-env` and `pir bench`, in one process."""

import json
import sys

import pytest
from omegaconf import OmegaConf
from pir.envs import benchmark
from pir.envs.countdown.rules import Countdown
from pir.envs.sudoku.rules import Sudoku

from pir.cli.main import main


@pytest.fixture(autouse=True)
def keep_argv(monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))


def test_check_env(capsys):
    assert main(["check-env", "countdown"]) == 0
    out = capsys.readouterr().out
    assert out.count("ok   ") == 23
    assert "BROKEN" not in out
    assert "Countdown keeps all 23 laws that were checked; 4 were not" in out
    assert "not checked  symmetric images keep key and right label: the puzzle states no" in out
    assert main(["check-env", "env=queens", "env.split=orbits", "output=json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kept"]
    assert result["verdicts_per_second"] > 1000


def test_check_env_names_mistakes(capsys):
    assert main(["check-env", "cuontdown"]) == 2
    assert "did you mean countdown" in capsys.readouterr().err
    assert main(["check-env", "no_module:Class"]) == 2
    assert "no such class" in capsys.readouterr().err
    assert main(["check-env", "pir.models.trm:TRM"]) == 2
    assert "is no pir.puzzle.Puzzle" in capsys.readouterr().err


def test_bench(capsys, monkeypatch):
    generators = [("Countdown n = 3", lambda: Countdown(3), 100, 1000, None)]
    monkeypatch.setattr(benchmark, "GENERATORS", generators)
    verifiers = [("verify 256: Sudoku", Sudoku, 0.5)]
    monkeypatch.setattr(benchmark, "VERIFIERS", verifiers)
    assert main(["bench", "envs", "seconds=0.01", "output=json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["name"] == "generate: Countdown n = 3"
    assert all(row["value"] is not None and row["unit"] for row in rows)
    assert {row["unit"] for row in rows} == {"per s", "ms", "% of step"}
    assert main(["bench", "envs", "seconds=0.01"]) == 0
    assert "goal      1,000" in capsys.readouterr().out
    assert main(["bench", "models"]) == 2
    assert main(["bench", "seconds=0"]) == 2


def test_recipes_follow_the_env():
    from tests.conftest import compose_config

    decay = {env: compose_config(f"env={env}").trainer.decay_steps for env in ("maze", "countdown")}
    assert decay == {"maze": 1100, "countdown": 1300}
    bare = compose_config("env=maze", "recipe=none").trainer
    assert OmegaConf.is_missing(bare, "decay_steps")
    assert compose_config("env=maze", "trainer.decay_steps=7").trainer.decay_steps == 7
