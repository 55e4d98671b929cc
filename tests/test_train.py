"""Training learns, repeats itself to the bit, and refuses what would fail or mislead later."""

import json
import sys

import pytest
import torch

from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.load import load_trained
from pir.training.build import build_trainer
from tests.conftest import compose_config
from tests.golden import FILE, OBJECTIVES, loss_curve
from tests.training_runs import assert_same_run, read_rows, start


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
    assert (one.progress.optimizer_step, one.forward_passes) == (3, 3 * 16 * 2 * 2)
    ahead = ("objective=deep_supervision", "model.continue_head=true")
    ahead += ("objective.terms.halting._target_=pir.objectives.QHalting",)
    two = start(tmp_path / "ahead", *ahead, "trainer.max_optimizer_steps=3")
    two.train()
    assert (two.progress.optimizer_step, two.forward_passes) == (3, 3 * 16 * 2 * 2)


def test_failed_puzzles_come_back(tmp_path):
    trainer = start(tmp_path / "run", "trainer.replay_share=0.25", "trainer.replay_size=6")
    trainer.train()
    fresh = start(tmp_path / "plain")
    fresh.train()
    assert trainer.progress.puzzles_seen < fresh.progress.puzzles_seen
    kept = trainer.state.hard_puzzles.buffer[:]
    assert len(kept) == 6
    assert trainer.puzzle.verify(kept["question"], kept["solution"]).solved.all()
    seen = trainer.puzzle.sample(trainer.progress.puzzles_seen, "train", seed=trainer.seed)
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
    assert parts.reasoner.improvement_steps == trainer.progress.best_depth == int(best["k"])
    assert trainer.progress.best_solved == float(best["solved"])
    fixed = start(tmp_path / "fixed", "model.improvement_steps=3")
    fixed.train()
    assert load_trained(fixed.folder, "cpu")[0].reasoner.improvement_steps == 3


def test_rollout_updates_once_per_rollout(tmp_path):
    with pytest.raises(UserError, match="lanes=synchronous"):
        start(tmp_path / "refused", "objective.update=rollout")
    trainer = start(tmp_path / "run", "objective.update=rollout", "trainer.lanes=synchronous")
    trainer.train()
    assert trainer.progress.optimizer_step == 12
    assert trainer.progress.improvement_step == 12 * 2


def test_staggered_lanes_keep_every_step_in_every_update(tmp_path):
    trainer = start(tmp_path / "run", "trainer.log_every=100")
    trainer.train()
    ended_at_first_step, ended_at_last_step = 8, 11 * 8
    counts = trainer.state.ledger.counts.sum(0).tolist()
    assert counts == [ended_at_first_step + ended_at_last_step, ended_at_last_step]
    assert trainer.progress.puzzles_seen == 16 + 11 * 8


def test_same_seed_same_rows(tmp_path):
    for name in ("one", "two"):
        start(tmp_path / name, "seed=3").train()
    start(tmp_path / "other", "seed=4").train()
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "other/metrics.csv").read_text() != (
        tmp_path / "one/metrics.csv"
    ).read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.lanes=halting"], "set model.halt_head=true"),
        (["+objective.terms.halt={_target_: pir.objectives.Halting}"], "halt_head=true"),
        (["objective.terms.set_likelihood.weight=0"], "no term of the objective acts"),
        (["logger=tensorboard"], r"pip install '.*\[tensorboard\]'"),
        (["optim.lr=-1"], "optim .* cannot be built"),
        (["model.expansion=-1"], "model.expansion=-1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(tmp_path, monkeypatch, overrides, message):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=message):
        build_trainer(compose_config(*overrides), RunFolder(tmp_path / "run"))


def test_the_first_lane_changes_nothing(tmp_path):
    trainer = start(tmp_path / "run", "objective=awr")
    state = torch.get_rng_state()
    trainer._one_lane()
    assert torch.equal(state, torch.get_rng_state())
    assert trainer.progress.puzzles_seen == 0


def test_budgets_end_a_run(tmp_path):
    passes = start(tmp_path / "passes", "trainer.max_forward_passes=200")
    passes.train()
    assert passes.forward_passes == 224  # 16 lanes x 2 passes a step, the step that reaches 200
    minutes = start(tmp_path / "minutes", "trainer.max_minutes=1e-6")
    minutes.train()
    assert minutes.progress.optimizer_step == 0
    options = ["trainer.patience=2", "optim.lr=0", "optim.adamw_lr=0", "trainer.eval_every=2"]
    patience = start(tmp_path / "patience", *options)
    patience.train()
    assert patience.progress.optimizer_step == 4


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


def test_a_policy_gradient_tells_how_it_goes(tmp_path):
    start(tmp_path / "run", "objective=ppo", "trainer.log_every=2").train()
    rows = read_rows(tmp_path / "run/metrics.csv")
    names = ("return", "entropy", "moved", "clipped", "explained")
    for row in rows:
        found = {name: float(row[f"reward_{name}"]) for name in names}
        assert found["entropy"] > 0
        assert found["moved"] >= 0
        assert 0 <= found["clipped"] <= 1
        assert found["explained"] <= 1
