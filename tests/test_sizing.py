"""Sizes of a puzzle without a recipe: sensible, the same at every start, plain in the run."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pir.configs
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from pir.envs.countdown import Countdown
from pir.envs.maze import Maze
from pir.envs.sudoku import Sudoku

from pir.cli.commands.train import _train
from pir.models.trm import TRM
from pir.objective import Objective
from pir.objectives import DeepSupervision
from pir.runs.folder import RunFolder
from pir.settings.training import SIZED, TrainerSettings
from pir.system import load
from pir.system.load import OtherPrograms, usable_cores
from pir.training import sizing
from pir.training.trainer import Trainer
from tests.conftest import compose_config
from tests.training_runs import assert_same_run, start

PUZZLE = """
import torch

from pir.puzzle import Puzzle, Verdict


class Latin(Puzzle):
    vocabulary = ("PAD", ".", "1", "2", "3")

    def __init__(self, size: int = 3) -> None:
        self.width = size
        self.slot_mask = torch.zeros(size * size, 5, dtype=torch.bool)
        self.slot_mask[:, 2:] = True

    def written(self, question):
        return question == 1

    def verify(self, question, answer):
        right = ((answer == question) | (question == 1)).all(1)
        return Verdict.graded(right & (answer[:, 0] == 2), right * 0.5)

    def key(self, question):
        return (question.long() * 3 ** torch.arange(self.width**2)).sum(1) % (1 << 61)

    def generate(self, rng):
        answer = torch.from_numpy(rng.integers(2, 5, size=self.width**2)).to(torch.uint8)
        answer[0] = 2
        shown = torch.from_numpy(rng.random(self.width**2)) < 0.3
        shown[0] = False
        return torch.where(shown, answer, 1).to(torch.uint8), answer

    def parse(self, text):
        return torch.tensor([self.vocabulary.index(c) for c in text], dtype=torch.uint8)

    def parse_answer(self, question, text):
        return self.parse(text)

    def format_question(self, question):
        return "".join(self.vocabulary[t] for t in question.tolist())

    def format_answer(self, question, answer):
        return self.format_question(answer)
"""
SMALL = [
    "model.hidden_size=16",
    "model.heads=2",
    "trainer.threads=1",
    "trainer.log_every=2",
    "trainer.batch_size=16",
    "trainer.test_puzzles=50",
    "device=cpu",
]


@pytest.fixture
def given(tmp_path):
    (tmp_path / "latin.py").write_text(PUZZLE)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "latin.yaml").write_text("# Latin\n_target_: latin.Latin\nsize: 3\n")
    return [f"--config-dir={tmp_path}", "env=latin"]


def trainer_of(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())["trainer"]


def test_a_run_is_sized_told_and_repeats(given, pir_here, tmp_path):
    """What is chosen stands in config.yaml, and a run that is given the same does the same."""
    words = ["train", *given, *SMALL, "trainer.max_optimizer_steps=6", "trainer.eval_every=6"]
    one, two = tmp_path / "one", tmp_path / "two"
    err = pir_here(*words, f"run={one}").stderr
    said = re.search(r"^sized for 9 tokens, vocabulary 5: (.*)$", err, re.MULTILINE)
    assert said, err
    assert re.search(r"^about \S+ steps/s here: 6 steps take \d+ s", err, re.MULTILINE), err
    chosen = trainer_of(one)
    assert f"trainer.val_puzzles={chosen['val_puzzles']}" in said[1]
    assert "max_optimizer_steps" not in said[1]  # the user's
    assert chosen["decay_steps"] == 6
    assert all(type(chosen[name]) is int for name in SIZED)
    numbers = [f"trainer.{name}={chosen[name]}" for name in SIZED]
    err = pir_here(*words, *numbers, f"run={two}").stderr
    assert "sized for" not in err
    for name in ("metrics.csv", "improvement.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    err = pir_here("train", f"resume={one}", "trainer.max_optimizer_steps=7", given[0]).stderr
    assert "sized for" not in err
    assert trainer_of(one) == chosen | {"max_optimizer_steps": 7}


def supervised() -> Objective:
    return Objective({"supervision": DeepSupervision()})


def test_longer_puzzles_get_fewer_lanes_and_the_time_decides_the_schedule():
    def chosen(puzzle, minutes=9.0, **given):
        return sizing.sizes(puzzle, TRM(puzzle), supervised(), minutes, **given)

    short, middle, long = map(chosen, (Countdown(), Sudoku((2, 3)), Maze(21, 21)))
    assert short["batch_size"] > middle["batch_size"] > long["batch_size"] >= 8
    for each in (short, middle, long):
        assert 1000 <= each["decay_steps"] == each["max_optimizer_steps"] <= 1500
        assert each["val_puzzles"] <= 1000
    assert long["test_puzzles"] < short["test_puzzles"] == 4000
    hurried = chosen(Maze(21, 21), 1.0, batch_size=32)
    assert hurried["batch_size"] == 32
    assert hurried["decay_steps"] <= long["decay_steps"] / 4
    assert chosen(Countdown(), float("inf"))["decay_steps"] == 1500
    assert chosen(Countdown(), decay_steps=70)["max_optimizer_steps"] == 70


def test_sizes_follow_neither_the_clock_nor_the_stream_of_random_numbers(monkeypatch):
    puzzle = Sudoku((2, 2), clues=(8, 12))
    reasoner = TRM(puzzle, hidden_size=16, heads=2)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    monkeypatch.setattr("time.perf_counter", lambda: 1 / 0)
    assert sizing.sized(puzzle, reasoner, supervised()).batch_size in sizing.BATCHES
    assert torch.equal(torch.rand(1), expected)


def test_the_time_that_is_too_short_is_told(monkeypatch):
    puzzle = Sudoku((2, 2), clues=(8, 12))
    settings = TrainerSettings(
        batch_size=8, max_optimizer_steps=1000, max_minutes=2.0, val_puzzles=4, threads=1
    )
    reasoner = TRM(puzzle, hidden_size=16, heads=2)
    trainer = Trainer(puzzle, reasoner, supervised(), settings=settings)
    before = {name: weight.clone() for name, weight in reasoner.state_dict().items()}
    assert sizing.seconds_per_update(trainer) > 0
    assert all(torch.equal(before[name], weight) for name, weight in reasoner.state_dict().items())
    assert trainer.progress.puzzles_seen == trainer.progress.optimizer_step == 0
    clock = iter([0.0, 9.0, 9.0, 16.0, 16.0, 16.5])  # the first two updates compile
    monkeypatch.setattr(sizing, "time_on", lambda device: next(clock))
    assert sizing.seconds_per_update(trainer) == 0.5
    monkeypatch.setattr(sizing, "seconds_per_update", lambda trainer: 0.3)
    line = sizing.told(trainer, {})[1]
    assert line.startswith("about 3.3 steps/s here: 1000 steps take 5 minutes, but")
    assert "ends the run at step 400" in line
    assert "trainer.max_minutes=6" in line
    for seconds, suffices in ((0.02, "1"), (0.061, "2")):
        short = replace(settings, max_minutes=seconds)
        assert f"set trainer.max_minutes={suffices}, or" in sizing._how_long(short, 1000, seconds)
    monkeypatch.setattr(sizing, "seconds_per_update", lambda trainer: 0.1)
    assert sizing.told(trainer, {})[1] == "about 10 steps/s here: 1000 steps take 100 s"


def test_a_run_that_was_timed_trains_as_if_it_was_not(tmp_path):
    """Its pool of hard puzzles and its random numbers too."""
    options = ["trainer.replay_share=0.5", "trainer.late_share=0.5", "trainer.late_steps=3"]
    for name in ("timed", "plain"):
        trainer = start(tmp_path / name, *options)
        if name == "timed":
            assert sizing.seconds_per_update(trainer) > 0
        trainer.train()
    assert_same_run(tmp_path / "timed", tmp_path / "plain")


def test_a_schedule_that_will_not_end_is_told(monkeypatch):
    puzzle = Sudoku((2, 2), clues=(8, 12))

    def doubts(**settings):
        given = {"batch_size": 8, "val_puzzles": 4, "threads": 1} | settings
        reasoner = TRM(puzzle, hidden_size=16, heads=2)
        settings = TrainerSettings(**given)
        return sizing.doubts(Trainer(puzzle, reasoner, supervised(), settings=settings))

    (line,) = doubts(max_optimizer_steps=500, decay_steps=1000)
    assert line.startswith("trainer.max_optimizer_steps=500 ends the run at 50% of the learning")
    assert line.endswith("set trainer.decay_steps=500")
    assert doubts(max_optimizer_steps=5, decay_steps=5, max_minutes=60.0) == []
    monkeypatch.setattr(sizing, "seconds_per_update", lambda trainer: 0.3)
    (line,) = doubts(max_optimizer_steps=None, decay_steps=1000, max_minutes=2.0)
    assert "1000 steps take 5 minutes, but trainer.max_minutes=2 ends the run at step 400" in line
    assert line.endswith("trainer.max_optimizer_steps=400 trainer.decay_steps=400")
    assert doubts(max_optimizer_steps=None, max_minutes=None, max_forward_passes=9) == []


def test_a_long_puzzle_without_a_recipe_gets_a_deeper_and_narrower_model():
    def sized(puzzle, *typed, **chosen):
        choices = {"recipe": "mine", "recipe_pair": "mine_trm"} | chosen
        config = OmegaConf.create({"model": dict(sizing.USUAL), "choices": choices})
        sizing.size_model(config, puzzle, typed)
        return [config.model[name] for name in sizing.USUAL]

    assert sized(Maze()) == [64, 4, 4]
    assert sized(Maze(), "model.hidden_size") == [128, 4, 4]
    for as_it_was in (
        sized(Sudoku()),
        sized(Maze(), recipe="maze"),
        sized(Maze(), recipe_pair="maze_trm"),
        sized(Maze(), experiment="smoke"),
    ):
        assert as_it_was == [128, 3, 2]


def test_a_recipe_is_complete():
    """What the recipes of this repository train does not hang on how puzzles are sized."""
    folder = Path(pir.configs.__file__).parent
    for env in (folder / "env").glob("*.yaml"):
        numbers = yaml.safe_load((folder / "recipe" / env.name).read_text())["trainer"]
        assert set(SIZED) <= numbers.keys(), env
        if env.stem == "countdown":
            assert numbers == {name: getattr(TrainerSettings, name) for name in SIZED}


def test_jobs_side_by_side_share_the_cores():
    others, all_ = OtherPrograms(), usable_cores()
    others.cores = lambda: all_ - 0.1
    assert others.room(1, False) == (1, None)
    threads, told = others.room(2, False)
    assert threads == 1
    assert "this run takes 1 of 2 threads" in told
    threads, told = others.room(2, True)
    assert threads == 2
    assert "trainer.threads=1 each" in told
    others.cores = lambda: 0.2
    assert others.room(all_, False) == (all_, None)


def test_a_compiler_that_was_started_here_is_no_other_program(monkeypatch):
    monkeypatch.setattr(load, "_busy_seconds", lambda: sum(os.times()[:4]))  # nobody else works
    others = OtherPrograms()
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert others.cores() < 0.05


def test_cores_of_others_are_not_counted(tmp_path, monkeypatch):
    """On a shared machine a job may use some cores, and other jobs keep the rest busy."""
    stat = tmp_path / "stat"

    def write(used, foreign):
        rows = [("cpu", used + foreign), ("cpu0", used), ("cpu1", foreign), ("cpu10", foreign)]
        lines = [f"{name} {ticks} 0 0 900 7 0 0 0 0 0" for name, ticks in rows]
        stat.write_text("\n".join([*lines, "intr 5 1", "btime 12"]))

    monkeypatch.setattr(load, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "times", lambda: (0.0,) * 5)
    write(100, 100)
    others = OtherPrograms()
    others.at -= 1.0
    write(100, 900)
    assert others.cores() == 0.0
    write(100 + os.sysconf("SC_CLK_TCK"), 900)
    assert others.cores() == pytest.approx(1.0, rel=0.3)


def test_a_run_beside_others_takes_the_cores_that_are_left(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(OtherPrograms, "cores", lambda self: usable_cores() - 0.1)
    folder = RunFolder(tmp_path / "run")
    config = compose_config("trainer.threads=null", "trainer.max_optimizer_steps=1", "device=cpu")
    try:
        torch.set_num_threads(2)
        _train(config, folder, resuming=False)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
    assert json.loads(folder.info.read_text())["threads"] == 1
    assert folder.read_config().trainer.threads is None
