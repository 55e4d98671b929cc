"""Training learns, repeats itself to the bit, resumes to the bit, and fails in words."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from pir import checkpoint
from pir.components import load_trained
from pir.errors import NonFiniteLossError, UserError
from pir.intervals import wilson_interval
from pir.optim import MuonAdamW, averaged, learning_rate_factor
from pir.run_folder import RunFolder, read_rows
from pir.train import Trainer
from tests.conftest import TINY, compose_config
from tests.golden import FILE, OBJECTIVES, loss_curve

ROW_FILES = (
    "metrics.csv",
    "improvement.csv",
    "improvement_outcomes.csv",
    "improvement_train.csv",
    "improvement_train_outcomes.csv",
)


def start(folder: Path, *overrides: str) -> Trainer:
    config = compose_config(*overrides)
    run = RunFolder(folder)
    run.create(config, ["pir", "train"])
    return Trainer(config, run)


def go_on(folder: Path, *overrides: str) -> Trainer:
    trainer = Trainer(compose_config(*overrides), RunFolder(folder))
    trainer.resume()
    return trainer


def assert_equal(a, b, where: str) -> None:
    """Compares nested containers of tensors to the bit."""
    if isinstance(a, torch.Tensor):
        undefined = a.is_floating_point() and bool(a.isnan().any())  # nan is not equal to itself
        assert torch.equal(a.nan_to_num(7), b.nan_to_num(7)) if undefined else torch.equal(a, b), (
            where
        )
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{index}]")
    else:
        assert a == b, where


def assert_same_run(one: Path, other: Path) -> None:
    for file in ("last", "best"):
        a, b = (
            checkpoint.load(getattr(RunFolder(path), file), torch.device("cpu"))
            for path in (one, other)
        )
        for state in (a, b):
            del state["seconds"], state["config"]
        assert_equal(a, b, file)
    for name in ROW_FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_golden_loss_curves(objective, tmp_path):
    torch.set_num_threads(1)
    expected = json.loads(FILE.read_text())[objective]
    assert loss_curve(objective, tmp_path / "run") == pytest.approx(expected, rel=1e-3)


def test_a_tiny_model_learns(tmp_path):
    trainer = start(
        tmp_path / "run",
        "env.number_range=[1,4]",
        "env.target_range=[1,12]",
        "model.hidden_size=64",
        "model.dtype=float32",
        "trainer.batch_size=128",
        "trainer.max_optimizer_steps=200",
        "trainer.decay_steps=200",
        "trainer.warmup_steps=20",
        "trainer.log_every=25",
        "trainer.eval_every=200",
    )
    trainer.train()
    solved = [float(row["solved"]) for row in read_rows(trainer.folder.metrics)]
    assert solved[0] < 0.3
    assert solved[-1] > 0.8


@pytest.mark.parametrize("lanes", ["staggered", "synchronous", "halting", "ledger"])
@pytest.mark.parametrize("objective", ["awr", "set_likelihood"])
def test_resume_is_exact(tmp_path, monkeypatch, lanes, objective):
    for name, value in (("DECIDE_EVERY", 3), ("DECIDE_BY", 1), ("WORTH", 0.0), ("DYING", -1.0)):
        monkeypatch.setattr(f"pir.depth.{name}", value)  # the depth grows at every decision
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
    assert steps == ([4, 8, 12] if lanes == "synchronous" else [3, 6, 9, 12])
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
    assert not replay or len(trainer.hard_puzzles.buffer) > 0
    trainer.train()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=cfg", "trainer.replay_share=0.5"], "replay_share=0"),
        (["objective=input_curriculum", "trainer.lanes=ledger"], "than ledger"),
        (
            ["objective=ppo", "model.value_head=false", "objective.terms.reward.from_step=9"],
            "value_head=true",
        ),
    ],
)
def test_what_would_fail_or_mislead_later_is_refused_at_once(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        start(tmp_path / "run", *overrides)


def test_every_forward_pass_counts(tmp_path):
    """2 steps of 2 passes in 16 lanes; with 3 epochs two more times, with a look ahead twice."""
    rollouts = ("trainer.lanes=synchronous", "objective.update=rollout", "objective.epochs=3")
    one = start(tmp_path / "epochs", *rollouts, "trainer.max_optimizer_steps=3")
    one.train()
    assert (one.optimizer_step, one.forward_passes) == (3, 3 * 16 * 2 * 2)
    ahead = ("objective=deep_supervision", "model.continue_head=true")
    ahead += ("objective.terms.halting._target_=pir.objectives.QHalting",)
    two = start(tmp_path / "ahead", *ahead, "trainer.max_optimizer_steps=3")
    two.train()
    assert (two.optimizer_step, two.forward_passes) == (3, 3 * 16 * 2 * 2)


def test_failed_puzzles_come_back(tmp_path):
    trainer = start(tmp_path / "run", "trainer.replay_share=0.25", "trainer.replay_size=6")
    trainer.train()
    fresh = start(tmp_path / "plain")
    fresh.train()
    assert trainer.puzzles_seen < fresh.puzzles_seen
    kept = trainer.hard_puzzles.buffer[:]
    assert len(kept) == 6
    assert trainer.puzzle.verify(kept["question"], kept["solution"]).solved.all()
    seen = trainer.puzzle.sample(trainer.puzzles_seen, "train", seed=trainer.config.seed)
    questions = {tuple(question) for question in seen["question"].tolist()}
    assert all(tuple(question) in questions for question in kept["question"].tolist())


def test_the_ledger_chooses_the_trained_depth(tmp_path):
    """The checkpoint remembers the first step with the largest validation result."""
    options = ["trainer.lanes=ledger", "model.improvement_steps=3"]
    trainer = start(tmp_path / "run", *options)
    trainer.train()
    rows = read_rows(trainer.folder.improvement)
    best = max(rows, key=lambda row: float(row["solved"]))  # the first of several
    parts, _, _ = load_trained(trainer.folder, "cpu")
    assert parts.reasoner.improvement_steps == trainer.best_depth == int(best["k"])
    assert trainer.best_solved == float(best["solved"])
    fixed = start(tmp_path / "fixed", "model.improvement_steps=3")
    fixed.train()
    assert load_trained(fixed.folder, "cpu")[0].reasoner.improvement_steps == 3


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    start(tmp_path / "whole").train()
    trainer = start(tmp_path / "cut")
    (tmp_path / "cut/improvement.csv").write_text("optimizer_step,k\n0,1\n")
    trainer.resume()
    trainer.train()
    cut = (tmp_path / "cut/improvement.csv").read_text().splitlines()
    assert len(cut) == len((tmp_path / "whole/improvement.csv").read_text().splitlines())


def test_rollout_updates_once_per_rollout(tmp_path):
    with pytest.raises(UserError, match="lanes=synchronous"):
        start(tmp_path / "refused", "objective.update=rollout")
    trainer = start(tmp_path / "run", "objective.update=rollout", "trainer.lanes=synchronous")
    trainer.train()
    assert trainer.optimizer_step == 12
    assert trainer.improvement_step == 12 * 2


def test_staggered_lanes_keep_every_step_in_every_update(tmp_path):
    trainer = start(tmp_path / "run", "trainer.log_every=100")
    trainer.train()
    ended_at_first_step, ended_at_last_step = 8, 11 * 8
    counts = trainer.ledger.counts.sum(0).tolist()
    assert counts == [ended_at_first_step + ended_at_last_step, ended_at_last_step]
    assert trainer.puzzles_seen == 16 + 11 * 8


def test_same_seed_same_rows(tmp_path):
    for name in ("one", "two"):
        start(tmp_path / name, "seed=3").train()
    start(tmp_path / "other", "seed=4").train()
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "other/metrics.csv").read_text() != (
        tmp_path / "one/metrics.csv"
    ).read_text()


def test_killed_at_any_moment_resumes_to_the_bit(pir, tmp_path):
    words = ["train", "env=countdown", *TINY, "trainer.max_optimizer_steps=60"]
    pir(*words, f"run={tmp_path / 'whole'}")
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "pir", *words, f"run={folder}"]
    for attempt in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        goal = [0, 9, 30][attempt]
        while time.monotonic() < deadline and process.poll() is None:
            rows = read_rows(folder / "metrics.csv") if (folder / "metrics.csv").exists() else []
            if (folder / "config.yaml").exists() and len(rows) * 3 >= goal:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        command = [sys.executable, "-m", "pir", "train", f"resume={folder}"]
    pir("train", f"resume={folder}")
    assert_same_run(tmp_path / "whole", folder)


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
    assert f"go on with: pir train resume='{folder}'" in errors
    assert "Traceback" not in errors
    saved = checkpoint.load(RunFolder(folder).last, torch.device("cpu"))
    assert saved["numbers"]["optimizer_step"] > 0


def test_rows_after_the_checkpoint_are_dropped_and_cut_rows_too(tmp_path):
    start(tmp_path / "whole").train()
    start(tmp_path / "cut", "trainer.max_optimizer_steps=7").train()
    for name in ROW_FILES:
        with (tmp_path / "cut" / name).open("a") as file:
            file.write("9,1,2\n8")
    go_on(tmp_path / "cut").train()
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_non_finite_loss_stops_and_keeps_the_checkpoint(tmp_path):
    trainer = start(
        tmp_path / "run", "optim.lr=1e30", "optim.adamw_lr=1e30", "trainer.warmup_steps=0"
    )
    with pytest.raises(NonFiniteLossError, match=r"last\.pt"):
        trainer.train()
    saved = checkpoint.load(trainer.folder.last, torch.device("cpu"))
    assert all(bool(w.isfinite().all()) for w in saved["weights"].values())


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
        (lambda p: torch.save({"format": "pir checkpoint", "schema_version": 4}, p), "missing"),
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
    with pytest.raises(UserError, match=r"does not fit the model.*16.* there, .*32.* here"):
        checkpoint.load_weights(wide, saved["weights"], folder / "checkpoints/best.pt")


def test_the_evaluation_at_a_budgets_end_is_kept_apart(tmp_path):
    trainer = start(tmp_path / "run", "trainer.max_optimizer_steps=7")
    trainer.train()
    best = trainer.folder.best.read_bytes()
    trainer.best_solved = -1.0
    trainer._keep_if_best(trainer._evaluate_validation(), trainer.folder.end)
    assert trainer.folder.end.exists()
    assert trainer.folder.best.read_bytes() == best
    go_on(tmp_path / "run")
    assert not trainer.folder.end.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.lanes=halting"], "set model.halt_head=true"),
        (["+objective.terms.halt={_target_: pir.objectives.Halting}"], "halt_head=true"),
        (["objective.terms.set_likelihood.weight=0"], "no term of the objective acts"),
        (["logger=tensorboard"], "pip install tensorboard"),
        (["optim.lr=-1"], "optim .* cannot be built"),
        (["model.expansion=-1"], "model.expansion=-1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(tmp_path, monkeypatch, overrides, message):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=message):
        Trainer(compose_config(*overrides), RunFolder(tmp_path / "run"))


def test_rehearsal_changes_nothing(tmp_path):
    trainer = start(tmp_path / "run", "objective=awr")
    state = torch.get_rng_state()
    trainer._rehearse()
    assert torch.equal(state, torch.get_rng_state())
    assert trainer.puzzles_seen == 0


def test_tensorboard_gets_the_scalars_and_purges_on_resume(tmp_path, monkeypatch):
    opened, scalars = [], []

    class Writer:
        def __init__(self, folder, purge_step):
            opened.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            scalars.append((name, step))

        def flush(self):
            pass

    fake = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    start(tmp_path / "run", "logger=tensorboard", "trainer.max_optimizer_steps=6").train()
    go_on(tmp_path / "run", "logger=tensorboard", "trainer.max_optimizer_steps=9").train()
    assert opened == [(tmp_path / "run/tensorboard", 0), (tmp_path / "run/tensorboard", 6)]
    assert ("train/loss", 3) in scalars
    assert ("val/solved", 8) in scalars


def test_budgets_end_a_run(tmp_path):
    passes = start(tmp_path / "passes", "trainer.max_forward_passes=200")
    passes.train()
    assert passes.forward_passes == 224  # 16 lanes x 2 passes a step, the step that reaches 200
    minutes = start(tmp_path / "minutes", "trainer.max_minutes=1e-6")
    minutes.train()
    assert minutes.optimizer_step == 0
    options = ["trainer.patience=2", "optim.lr=0", "optim.adamw_lr=0", "trainer.eval_every=2"]
    patience = start(tmp_path / "patience", *options)
    patience.train()
    assert patience.optimizer_step == 4


@pytest.mark.parametrize(
    "override",
    [
        "trainer.batch_size=0",
        "trainer.lanes=random",
        "trainer.ema_decay=1.5",
        "trainer.max_minutes=-1",
        "trainer.max_grad_norm=0",
        "trainer.threads=0",
        "trainer.warmup_steps=-1",
        "device=tpu9",
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, override):
    with pytest.raises(UserError, match=override.split("=")[0]):
        start(tmp_path / "run", override)


def test_a_run_needs_a_budget(tmp_path):
    options = ["trainer.max_optimizer_steps=null", "trainer.max_minutes=null"]
    with pytest.raises(UserError, match="set a budget"):
        start(tmp_path / "run", *options)


def test_learning_rate_curve():
    rates = [learning_rate_factor(step, 10, 110, 0.1) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == rates[199] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_average_by_hand():
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    average = averaged(module, 0.9)
    expected = None
    for step in range(30):
        with torch.no_grad():
            module.weight.normal_()
        average.update_parameters(module)
        if expected is None:
            expected = module.weight.clone()
        else:
            decay = min(0.9, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * module.weight
    assert torch.allclose(average.module.weight, expected, atol=1e-6)


def test_muon_takes_the_matrices_of_the_blocks():
    model = torch.nn.ModuleDict(
        {"blocks": torch.nn.Linear(4, 3), "head": torch.nn.Linear(3, 2, bias=False)}
    )
    optimizer = MuonAdamW(list(model.named_parameters()))
    assert [p.shape for g in optimizer.muon.param_groups for p in g["params"]] == [(3, 4)]
    assert len([p for g in optimizer.adamw.param_groups for p in g["params"]]) == 2
    before = {name: p.clone() for name, p in model.named_parameters()}
    model["head"](model["blocks"](torch.randn(5, 4))).sum().backward()
    optimizer.step()
    assert all((p != before[name]).any() for name, p in model.named_parameters())


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (37, 50), (900, 1000)])
def test_wilson_interval_solves_its_equation(k, n):
    """The bounds p satisfy (k/n - p)^2 = z^2 p (1 - p) / n."""
    z = 1.959964
    for bound in wilson_interval(k, n):
        if 0 < bound < 1:
            assert (k / n - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / n, rel=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)
