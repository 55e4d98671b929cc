"""How a run says that it ended: why, at what cost, with examples, and what can be done next."""

import json

import pytest

from pir.runs.records import Summary
from pir.settings.training import TrainerSettings
from pir.training import ending
from tests.conftest import TINY


def settings(**changed):
    return vars(TrainerSettings(**changed))


def ended(by, steps, **others):
    summary = {"seconds": 540.0, "training_forward_passes": 900_000, "learning_rate_share": 0.62}
    share = min(1.0, steps / 1100)
    return Summary(stopped_by=by, optimizer_steps=steps, schedule_share=share, **summary | others)


def test_the_clock_stopped_it():
    maze = settings(max_minutes=9.0, max_optimizer_steps=1100, decay_steps=1100)
    summary = ended("max_minutes", 486)
    first, second = ending.sentences(summary, maze)
    assert first.endswith("486 optimizer steps, 9:00 of training, by trainer.max_minutes=9.0")
    assert "44% of the learning rate's schedule" in second
    assert "still at 62% of its peak" in second
    assert ending.to_the_end(summary, maze) == ["trainer.max_minutes=23"]


def test_a_run_of_a_few_steps_says_what_it_lacks():
    """It ended while the learning rate rose, and before a row of the curve was written."""
    short = settings(warmup_steps=100, log_every=50, max_minutes=3.0)
    _, second, third = ending.sentences(ended("max_minutes", 28), short)
    assert "still warming up, at 62% of its peak" in second
    assert "trainer.log_every=50 is more than these steps" in third


def test_every_budget_that_ends_a_run_too_early_is_raised():
    early = settings(max_minutes=9.0, max_optimizer_steps=500, max_forward_passes=900_000)
    changes = ending.to_the_end(ended("max_optimizer_steps", 500), early)
    assert changes == [
        "trainer.max_optimizer_steps=1300",
        "trainer.max_minutes=26",
        "trainer.max_forward_passes=2574000",
    ]


@pytest.mark.parametrize("by", ["max_optimizer_steps", "patience"])
def test_nothing_is_said_to_be_missing_at_the_end(by):
    steps = 1100 if by == "max_optimizer_steps" else 600
    known = settings(max_optimizer_steps=1100, decay_steps=1100, max_minutes=30.0)
    sentences = ending.sentences(ended(by, steps), known)
    assert len(sentences) == 1
    assert ("10 validations brought no better result" in sentences[0]) == (by == "patience")


def test_a_long_test_is_told_before_it_starts(pir_here, tmp_path, monkeypatch):
    words = ["train", *TINY, f"run={tmp_path / 'a'}", "trainer.max_optimizer_steps=4"]
    assert "the test of" not in pir_here(*words).stderr
    monkeypatch.setattr(ending, "test_seconds", lambda trainer: 90.0)
    said = pir_here(*words[:-2], f"run={tmp_path / 'b'}", words[-1]).stderr
    assert "the test of 40 puzzles takes about 1:30; after Ctrl-C, " in said
    assert "train resume=" in said


def test_a_run_tells_how_it_ended(pir_here, tmp_path):
    done = pir_here("train", f"run={tmp_path / 'run'}", *TINY, "trainer.test_puzzles=60")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["stopped_by"] == "max_optimizer_steps"
    assert summary["schedule_share"] == 12 / 1300
    assert 0.1 < summary["learning_rate_share"] < 0.13
    assert "by trainer.max_optimizer_steps=12" in done.stdout
    assert max(map(len, done.stdout.split("\nsolved ")[0].splitlines())) <= 80
    assert "failed, score 0." in done.stdout
    assert f"train resume={tmp_path / 'run'} trainer.max_optimizer_steps=1300" in done.stdout
    assert "puzzle='24 19 17 = 60'" in done.stdout


def test_a_finished_run_is_not_tested_again(pir_here, tiny_run):
    files = [path for path in tiny_run.rglob("*.*") if path.is_file() and path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    done = pir_here("train", f"resume={tiny_run}")
    assert "is finished: nothing is left to train" in done.stdout
    solved = json.loads((tiny_run / "summary.json").read_text())["solved"]
    assert f"\nsolved {solved:.1%} of 40 held-out puzzles\n" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in files} == before
    pir_here("train", f"resume={tiny_run}", "trainer.test_puzzles=20")
    assert json.loads((tiny_run / "summary.json").read_text())["test_puzzles"] == 20


@pytest.mark.parametrize("content", [None, '{"env": "coun'])
def test_a_run_without_a_whole_summary_is_tested(pir_here, tiny_run, content):
    summary = tiny_run / "summary.json"
    summary.unlink() if content is None else summary.write_text(content)
    pir_here("train", f"resume={tiny_run}")
    assert json.loads(summary.read_text())["test_puzzles"]
