"""What people add lies in a bare folder: one file of Python, and at most one of settings."""

import json
from math import isfinite
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.training_runs import read_rows

MODEL = """
from tensordict import TensorDict
from torch import nn

from pir.reasoner import MASKED_LOGIT, Policy, Reasoner


class Averaging(Reasoner):
    passes_per_step = 1

    def __init__(self, puzzle, width: int = 8) -> None:
        super().__init__()
        length, tokens = puzzle.slot_mask.shape
        self.improvement_steps, self.allowed = 2, puzzle.slot_mask
        self.read, self.write = nn.Embedding(tokens, width), nn.Linear(width, tokens)

    def start(self, question):
        state = self.read(question.long())
        return TensorDict({"h": state}, batch_size=question.shape[:1])

    def improve(self, question, state, k, condition=None):
        mixed = (state["h"] + state["h"].mean(1, keepdim=True)) / 2
        return TensorDict({"h": mixed + self.read(question.long())}, batch_size=state.batch_size)

    def read_out(self, state):
        return Policy(self.write(state["h"]).masked_fill(~self.allowed, MASKED_LOGIT))
"""

DOCS = Path(__file__).parents[1] / "docs"


def block(page, heading, language):
    """The first code of a language under a heading of a page."""
    text = (DOCS / page).read_text().split(f"## {heading}\n")[1]
    return text.split(f"```{language}\n")[1].split("```")[0]


LANES = '''
from pir.rollout import Rollout
from pir.schedules import LaneSchedule


class Solved(LaneSchedule):
    """A lane ends after K steps, or as soon as it is solved; it counts its refills."""

    refills = 0

    def finished(self, step: Rollout, steps_so_far: int, length: int):
        ended = (step.k >= length) | step.after.solved
        self.refills += int(ended.sum())
        return ended

    def state_dict(self):
        return {"refills": self.refills}

    def load_state_dict(self, state):
        self.refills = state["refills"]
'''

STATISTIC = '''
from pir.envs.countdown import Countdown
from pir.ledger.statistics import statistic


@statistic("share")
def nearly(cells):
    """Answers with a score above one half."""
    return cells.step.after.score > 0.5


class Mine(Countdown):
    pass
'''


@pytest.fixture
def given(tmp_path, monkeypatch, pir_here):
    """Writes one module and one file of settings, and runs commands that may use them."""

    def write(name: str, code: str, place: str, settings: str):
        (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text(settings)

        def run(*words: str, by=pir_here):
            return by(*words, f"--config-dir={tmp_path}").stdout

        return run

    return write


def test_a_model(given, tmp_path):
    run = given("mean_mixer", MODEL, "model/mine.yaml",
                "# Mine\n_target_: mean_mixer.Averaging\nwidth: 8\n")  # fmt: skip
    tiny = [word for word in TINY if not word.startswith("model.")]
    run("train", "model=mine", "optim=adamw", f"run={tmp_path / 'run'}", *tiny)
    assert json.loads((tmp_path / "run/summary.json").read_text())["model"] == "mine"


def test_an_objective(given, tmp_path):
    """That of the documentation."""
    code, settings = (
        block("objectives.md", "An objective of your own", kind) for kind in ("python", "yaml")
    )
    run = given("confident", code, "objective/confident.yaml", settings)
    run("train", "objective=confident", f"run={tmp_path / 'run'}", *TINY)
    row = read_rows(tmp_path / "run/metrics.csv")[0]
    terms = (float(row[f"loss_{name}"]) for name in ("supervision", "confident"))
    assert float(row["loss"]) == pytest.approx(sum(terms))


def test_a_lane_schedule(given, tmp_path):
    """It is listed, trains, and goes on where it was."""
    run = given("solved_lanes", LANES, "lanes/mine.yaml",
                "# Ends when solved.\n_target_: solved_lanes.Solved\n")  # fmt: skip
    assert "Ends when solved." in run("list", "lanes")
    words = ("trainer.lanes=mine", *TINY)
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    run("train", f"run={whole}", *words)
    run("train", f"run={parts}", *words, "trainer.max_optimizer_steps=6")
    run("train", f"resume={parts}", "trainer.max_optimizer_steps=12")
    for file in ("metrics.csv", "improvement.csv"):
        assert (parts / file).read_bytes() == (whole / file).read_bytes()


def test_an_exit_rule(given, tiny_run):
    """That of the documentation, whose signal is infinite after the first step."""
    code, settings = (
        block("concepts.md", "An exit rule of your own", kind) for kind in ("python", "yaml")
    )
    run = given("rules", code, "exit/sure_twice.yaml", settings)
    run("eval", f"run={tiny_run}", "eval.exit=sure_twice", "eval.puzzles=40")
    rows = read_rows(tiny_run / "eval/exits.csv")
    thresholds = [float(row["threshold"]) for row in rows if row["rule"] == "sure_twice"]
    assert thresholds
    assert all(map(isfinite, thresholds))


def test_a_statistic(given, pir, tmp_path):
    """It lies in any module that is imported, here that of a puzzle."""
    run = given("nearly", STATISTIC, "env/mine.yaml", "# Mine\n_target_: nearly.Mine\n")
    run("train", "env=mine", f"run={tmp_path / 'run'}", *TINY, by=pir)
    assert 0 <= float(read_rows(tmp_path / "run/improvement.csv")[-1]["nearly"]) <= 1
