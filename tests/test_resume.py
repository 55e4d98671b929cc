"""Nothing is lost: runs resume to the bit, bad files are refused in words."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from pir.errors import NonFiniteLossError, UserError
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.training.resume import resume
from tests.conftest import TINY
from tests.training_runs import ROW_FILES, assert_same_run, go_on, read_rows, start


@pytest.mark.parametrize(
    ("objective", "lanes"),
    [
        *(("set_likelihood", lanes) for lanes in ("staggered", "synchronous", "halting", "ledger")),
        ("awr", "staggered"),
        *(
            pytest.param("awr", lanes, marks=pytest.mark.slow)
            for lanes in ("synchronous", "halting", "ledger")
        ),
    ],
)
def test_resume_is_exact(tmp_path, monkeypatch, lanes, objective):
    for name, value in (("DECIDE_EVERY", 3), ("DECIDE_BY", 1), ("WORTH", 0.0), ("DYING", -1.0)):
        monkeypatch.setattr(
            f"pir.schedules.by_ledger.{name}", value
        )  # the depth grows at every decision
    options = [f"trainer.lanes={lanes}", f"objective={objective}", "model.halt_head=true"]
    options.append("+objective.terms.halt={_target_: pir.objectives.Halting}")
    if lanes == "ledger":
        options.append("model.improvement_steps=3")
    start(tmp_path / "whole", *options).train()
    start(tmp_path / "parts", *options, "trainer.max_optimizer_steps=5").train()
    go_on(tmp_path / "parts", *options, "trainer.max_optimizer_steps=7").train()
    go_on(tmp_path / "parts", *options).train()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    steps = [int(row["optimizer_step"]) for row in read_rows(tmp_path / "parts" / "metrics.csv")]
    assert steps == [3, 6, 9, 12]
    depths = [int(row["depth"]) for row in read_rows(tmp_path / "parts" / "metrics.csv")]
    assert depths == ([2, 3, 3, 3] if lanes == "ledger" else [int(depths[0])] * len(steps))


@pytest.mark.parametrize(
    ("objective", "replay"),
    [("dis", 0.5), ("cfg", 0), ("input_curriculum", 0), ("group_relative", 0.5), ("ppo", 0.5)],
)
def test_objectives_that_draw_or_roll_out_resume_exactly(tmp_path, objective, replay):
    """Where it may be, half of the puzzles come back from the pool of failed ones."""
    options = [f"objective={objective}", f"trainer.replay_share={replay}", "trainer.replay_size=20"]
    start(tmp_path / "whole", *options).train()
    start(tmp_path / "parts", *options, "trainer.max_optimizer_steps=6").train()
    trainer = go_on(tmp_path / "parts", *options)
    assert not replay or len(trainer.state.hard_puzzles.buffer) > 0
    trainer.train()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    start(tmp_path / "whole").train()
    trainer = start(tmp_path / "cut")
    (tmp_path / "cut/improvement.csv").write_text("optimizer_step,k\n0,1\n")
    resume(trainer)
    trainer.train()
    cut = (tmp_path / "cut/improvement.csv").read_text().splitlines()
    assert len(cut) == len((tmp_path / "whole/improvement.csv").read_text().splitlines())


def test_a_best_of_the_life_before_stays_the_runs_own(tmp_path):
    """Killed between best.pt and last.pt; the next validation is no new best."""
    trainer = start(tmp_path / "run", "trainer.max_optimizer_steps=4")
    trainer.train()
    older = (tmp_path / "run/checkpoints/last.pt").read_bytes()
    more = go_on(tmp_path / "run", "trainer.max_optimizer_steps=8")
    more.progress.best_solved = -1.0  # so that it writes best.pt
    more.train()
    later = more.best_checksum
    (tmp_path / "run/checkpoints/last.pt").write_bytes(older)
    again = go_on(tmp_path / "run", "trainer.max_optimizer_steps=8")
    assert again.best_checksum == later
    again.progress.best_solved = 1.0  # which this one does not reach
    again.train()
    assert go_on(tmp_path / "run", "trainer.max_optimizer_steps=12").best_checksum == later


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    folder = tmp_path / "run with = and # ü"
    words = [*TINY, "trainer.max_optimizer_steps=100000", f"run={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pir", "train", *words], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (folder / "checkpoints/last.pt").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"pir train resume='{folder}'" in errors
    assert "Traceback" not in errors
    saved = checkpoint.load(RunFolder(folder).last, torch.device("cpu"))
    assert saved["progress"]["optimizer_step"] > 0


def test_rows_after_the_checkpoint_are_dropped_and_cut_rows_too(tmp_path):
    start(tmp_path / "whole").train()
    start(tmp_path / "cut", "trainer.max_optimizer_steps=7").train()
    for name in ROW_FILES:
        with (tmp_path / "cut" / name).open("a") as file:
            file.write("9,1,2\n8")
    go_on(tmp_path / "cut").train()
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("objective", ["set_likelihood", "awr", "cfg", "ppo"])
def test_a_non_finite_loss_stops_and_keeps_the_checkpoint(tmp_path, objective):
    """Also where answers are drawn from policies that are no numbers any more."""
    diverging = ["optim.lr=1e30", "optim.adamw_lr=1e30", "trainer.warmup_steps=0"]
    trainer = start(tmp_path / "run", f"objective={objective}", *diverging)
    with pytest.raises(NonFiniteLossError, match=r"last\.pt"):
        trainer.train()
    saved = checkpoint.load(trainer.folder.last, torch.device("cpu"))
    assert all(bool(w.isfinite().all()) for w in saved["weights"].values())


def test_a_score_that_is_no_number_is_laid_to_the_puzzle(tmp_path, monkeypatch):
    trainer = start(tmp_path / "run", "objective=awr")
    verify = trainer.puzzle.verify

    def judge(question, answer):
        return verify(question, answer)._replace(score=torch.full((len(answer),), torch.nan))

    monkeypatch.setattr(trainer.puzzle, "verify", judge)
    words = r"not a number at optimizer step \d+, as verify of the puzzle gives a score"
    with pytest.raises(NonFiniteLossError, match=words) as failed:
        trainer.train()
    assert "optim.lr" not in str(failed.value)


def test_a_full_disk_keeps_what_was_good(tmp_path, monkeypatch):
    trainer = start(tmp_path / "run", "trainer.max_optimizer_steps=4")
    trainer.train()
    before = trainer.folder.last.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left.*the file that was there is kept"):
        trainer.save(trainer.folder.last)
    assert trainer.folder.last.read_bytes() == before
    assert not list(trainer.folder.last.parent.glob("*.partial"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:500]), "damaged"),
        (lambda p: p.write_bytes(b""), "damaged"),
        (lambda p: torch.save({"weights": {}}, p), "no checkpoint written by pir"),
        (lambda p: torch.save({"format": "pir checkpoint", "schema_version": 99}, p), "version 99"),
        (lambda p: torch.save({"format": "pir checkpoint", "schema_version": 5}, p), "version 5;"),
        (lambda p: torch.save({"format": "pir checkpoint", "schema_version": 6}, p), "missing"),
        (lambda p: p.unlink(), "there is no such checkpoint"),
    ],
)
def test_bad_checkpoints_are_refused(tiny_run, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    damage(folder / "checkpoints/last.pt")
    with pytest.raises(UserError, match=message):
        go_on(folder)


def test_nothing_is_unpickled(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    canary = tmp_path / "executed"

    class Attack:
        def __reduce__(self):
            return (canary.touch, ())

    torch.save({"format": "pir checkpoint", "weights": Attack()}, folder / "checkpoints/last.pt")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        go_on(folder)
    assert not canary.exists()


def test_a_changed_architecture_is_refused(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    with pytest.raises(UserError, match=r"model was .*'hidden_size': 16.*'hidden_size': 32"):
        go_on(folder, "model.hidden_size=32")
    with pytest.raises(UserError, match=r"optim was .*AdamW"):
        go_on(folder, "optim=adamw")
    saved = checkpoint.load(folder / "checkpoints/best.pt", torch.device("cpu"))
    wide = start(tmp_path / "wide", "model.hidden_size=32").reasoner
    with pytest.raises(UserError, match=r"does not fit this model.*16.* there, .*32.* here"):
        checkpoint.load_weights(wide, saved["weights"], folder / "checkpoints/best.pt")


def test_the_evaluation_at_a_budgets_end_is_kept_apart(tmp_path):
    trainer = start(tmp_path / "run", "trainer.max_optimizer_steps=7")
    trainer.train()
    best = trainer.folder.best.read_bytes()
    trainer.progress.best_solved = -1.0
    trainer._keep_if_best(trainer._evaluate_validation(), trainer.folder.end)
    assert trainer.folder.end.exists()
    assert trainer.folder.best.read_bytes() == best
    go_on(tmp_path / "run")
    assert not trainer.folder.end.exists()
