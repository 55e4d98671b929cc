"""Everything runs where its inputs are: on a second device that raises where devices meet."""

import re

import pytest
import torch
from omegaconf import OmegaConf
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku
from pir.envs.views.episode import Episode
from pir.envs.views.torchrl_view import PuzzleEnv
from torch._subclasses.fake_tensor import FakeTensorMode

from pir.exits.build import build_rule
from pir.exits.early_exit import steps_until_exit
from pir.exits.rules import ExitRule, FixedDepth, Wait, exit_steps
from pir.laws.second_device import SECOND, OtherRounding, SecondDevice
from pir.models.conditioning import AnswerFlow
from pir.models.trm import TRM
from pir.objectives.advantage_weighted import advantage_weight, group_advantage
from pir.runs import checkpoint
from pir.schedules import ByLedger
from pir.training import hard_puzzles
from pir.training.hard_puzzles import HardPuzzles
from pir.training.optim import NonFiniteLossError
from tests.elsewhere import (
    CONFIGS,
    FAMILIES,
    TELLING,
    evaluate_fresh,
    names,
    second_device,
    train_and_resume,
)
from tests.puzzles import VARIANTS
from tests.training_runs import read_rows, start


def test_every_family_of_reasoners_is_tried():
    sizes = {"trm_5m", "trm_7m", "hrm_27m", "feedforward_deep"}
    assert set(FAMILIES) == set(names("model")) - sizes


FAST = ("awr", "cfg", "dis", "input_curriculum", "ppo", "recurrent_depth", "truncated")
"""Objectives of every kind: the others are made of the same terms and run in the slow tests."""


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in names("objective")
    ],
)
def test_every_objective_trains_elsewhere(tmp_path, objective):
    options = [] if objective in TELLING else ["trainer.replay_share=0.25"]
    with second_device():
        trainer = train_and_resume(tmp_path, "xpu:0", f"objective={objective}", *options)
        assert trainer.state.lanes.now.logits.device == SECOND
        assert all(p.device == SECOND for p in trainer.reasoner.parameters())


@pytest.mark.parametrize("model", FAMILIES)
def test_every_reasoner_trains_elsewhere(tmp_path, model):
    if model == "dual_lm":
        pytest.importorskip("transformers")
    with second_device():
        train_and_resume(tmp_path, "xpu:0", f"model={model}", *FAMILIES[model], steps=1)


def test_a_loss_that_is_no_number_stops_at_the_next_row(tmp_path):
    """Off the CPU losses are read when a row is written; last.pt is of before."""
    words = ["device=xpu:0", "optim.lr=1e30", "optim.adamw_lr=1e30", "trainer.warmup_steps=0"]
    with second_device():
        words += ["trainer.log_every=4", "trainer.max_optimizer_steps=40"]
        trainer = start(tmp_path / "run", *words)
        with pytest.raises(NonFiniteLossError) as failed:
            trainer.train()
        found = re.search(
            r"became (nan|inf) at optimizer step (\d+); .*last\.pt", str(failed.value)
        )
        saved = checkpoint.load(trainer.folder.last, torch.device("cpu"))
    assert found
    first = int(found[2])
    assert first < trainer.progress.optimizer_step < first + 5
    assert all(bool(weight.isfinite().all()) for weight in saved["weights"].values())
    assert all(int(row["optimizer_step"]) <= first for row in read_rows(trainer.folder.metrics))


STARTS = ("trm", "dual", "recurrent_depth")
"""A reasoner that keeps latents alone, one with a cache, and one that starts at random."""


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=[] if m in STARTS else [pytest.mark.slow]) for m in FAMILIES],
)
def test_every_reasoner_is_evaluated_elsewhere(tmp_path, model):
    if model == "dual_lm":
        pytest.importorskip("transformers")
    with second_device():
        options = (f"model={model}", *FAMILIES[model])
        found = evaluate_fresh(tmp_path, "xpu:0", *options, exits=False)
    assert found["puzzles"] == 20


@pytest.mark.parametrize("lanes", ["ledger", "halting", "synchronous"])
def test_lanes_are_refilled_elsewhere(tmp_path, lanes):
    options = ["model.halt_head=true", "objective=deep_supervision"] if lanes == "halting" else []
    with second_device():
        train_and_resume(
            tmp_path, "xpu:0", f"trainer.lanes={lanes}", "trainer.replay_share=0.5", *options
        )


def test_lanes_start_late_and_latents_are_averaged_elsewhere(tmp_path):
    options = ("trainer.late_share=1", "trainer.late_steps=3", "model.running_average=true")
    with second_device():
        train_and_resume(tmp_path / "run", "xpu:0", *options)
        found = evaluate_fresh(tmp_path / "eval", "xpu:0", options[-1], exits=False)
    assert found["puzzles"] == 20


@pytest.mark.parametrize("env", ["countdown", "queens", "maze"])
def test_puzzles_are_evaluated_elsewhere_as_on_the_cpu(tmp_path, env):
    # one kernel on either: attention of the CPU rounds in another way
    options = (f"env={env}", "model.mixer=mlp", "model.halt_head=true")
    here = evaluate_fresh(tmp_path / "here", "cpu", *options)
    with second_device():
        there = evaluate_fresh(tmp_path / "there", "xpu:0", *options)
    assert without_times(there) == without_times(here)


@pytest.mark.parametrize("option", ["partial_answer", "optimality_token", "reads_own_answer"])
def test_rollouts_that_are_told_more_run_elsewhere(tmp_path, option):
    with second_device():
        assert (
            evaluate_fresh(tmp_path, "xpu:0", f"model.{option}=true", exits=False)["puzzles"] == 20
        )


def without_times(content):
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if "seconds" not in k}
    if isinstance(content, list):
        return [without_times(value) for value in content]
    return pytest.approx(content, nan_ok=True) if isinstance(content, float) else content


def test_puzzles_leave_the_batch_elsewhere():
    class GoodEnough(ExitRule):
        needs = ("score",)

        def signal(self, values):
            return values["score"]

    puzzle = Queens(hide=(1, 2))
    torch.manual_seed(0)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32").eval()
    with SecondDevice():
        puzzles = puzzle.sample(20, "test", seed=0).to(SECOND)
        steps = list(steps_until_exit(model.to(SECOND), puzzle, puzzles, GoodEnough(), 0.5, 3))
        scores = steps[0][1].after.score
        assert len(steps[1][0]) == int((scores < 0.5).sum()) < 20
        assert all(rows.device == SECOND for rows, _ in steps)


@pytest.mark.parametrize("name", VARIANTS)
def test_episodes_run_elsewhere(name):
    if name == "maze_hard":
        pytest.skip("as maze, and large")
    puzzle = VARIANTS[name]()
    sample = puzzle.sample(6, "test", seed=0)
    with SecondDevice():
        episode = Episode(puzzle, horizon=3, stop_when_solved=True)
        state = episode.begin(sample["question"].to(SECOND))
        state, reward = episode.revise(state, sample["solution"].to(SECOND))
        assert all(part.device == SECOND for part in (*state, reward))
        assert (state.solved & (state.score == 1)).all()
        assert episode.ended(state)[0].all()


def test_the_torchrl_view_runs_elsewhere():
    with SecondDevice():
        env = PuzzleEnv(Sudoku(), 4, device=SECOND, seed=0, horizon=2)
        rolled = env.rollout(3, break_when_any_done=False)
        assert rolled["next", "score"].device == SECOND


# ---------------------------------------------------------------- what it finds


def test_a_pool_that_is_left_on_another_device_is_found(monkeypatch):
    """What `map_location` brings back with a checkpoint is moved, or devices meet."""
    puzzles = Sudoku().sample(8, "train", seed=0)
    failed = torch.ones(8, dtype=torch.bool)

    def resumed() -> HardPuzzles:
        pool, again = HardPuzzles(0.5, 20), HardPuzzles(0.5, 20)
        for _ in range(2):  # the first enter with the second
            pool.add(puzzles.to(SECOND), failed.to(SECOND))
        state = pool.state_dict()
        storage = state["_storage"]["_storage"]
        for name in list(storage):
            storage[name] = storage[name].to(SECOND)
        again.load_state_dict(state)
        again.add(puzzles.to(SECOND), failed.to(SECOND))
        return again

    with SecondDevice():
        assert resumed().draw(5)["question"].device.type == "cpu"
        monkeypatch.setattr(hard_puzzles, "with_tensors", lambda state, change: state)
        with pytest.raises(RuntimeError, match="meet"):
            resumed()


def test_a_pool_keeps_no_memory_that_it_has_not_written():
    pool = HardPuzzles(0.5, 2000)
    for _ in range(2):
        pool.add(Sudoku().sample(8, "train", seed=0), torch.ones(8, dtype=torch.bool))
    for tokens in pool.state_dict()["_storage"]["_storage"].values():
        assert not tokens[8:].any()


# ---------------------------------------------------------------- fake tensors


@pytest.mark.parametrize(
    "puzzle",
    [Sudoku((3, 3), clues=(30, 30)), Queens(), Graph(), Graph(path=False)],
    ids=["sudoku", "queens", "graph", "graph target"],
)
def test_verifiers_of_torch_mix_no_devices_with_fake_tensors(puzzle):
    """Fake tensors carry no values, but torch's own idea of where they lie."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        question = torch.ones(4, puzzle.length, dtype=torch.uint8, device="meta")
        verdict = puzzle.verify(question, question.clone())
        assert {part.device.type for part in verdict} == {"meta"}
        assert puzzle.conflicts(question, question).device.type == "meta"
        with pytest.raises(RuntimeError, match="device"):
            verdict.score + torch.ones(4)
        # by slices, a tensor of a CUDA device is indexed in a build with CUDA alone
        question = torch.ones(4, puzzle.length, dtype=torch.uint8, device="cuda")
        assert puzzle.written(question).device.type == "cuda"
        assert puzzle.clamp(question, question).device.type == "cuda"


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize("name", VARIANTS)
def test_labels_are_solved_whatever_the_rounding(name):
    puzzle = VARIANTS[name]()
    sample = puzzle.sample(30, "test", seed=3)
    question, label = sample["question"], sample["solution"]
    spoilt = label.clone()
    rows, cell = torch.arange(30), puzzle.written(question).int().argmax(1)
    spoilt[rows, cell] = 0
    for arithmetic in (OtherRounding(), torch.no_grad()):
        with arithmetic:
            right, wrong = puzzle.verify(question, label), puzzle.verify(question, spoilt)
        assert right.solved.all()
        assert (right.score == 1).all()
        assert not wrong.solved.any()
        assert (wrong.score < 1).all()


def test_equally_good_answers_have_equal_scores():
    """A score is one quotient whose denominator is the question's, so that it is rounded once."""
    puzzle = Sudoku((3, 3), clues=(30, 30))
    question, label = (puzzle.sample(1, "test", seed=0)[name] for name in ("question", "solution"))
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(2, 11, (4000, 81), generator=rng, dtype=torch.uint8)
    share = torch.rand(4000, 1, generator=rng)
    answers = torch.where(torch.rand(4000, 81, generator=rng) < share, noise, label)
    scores = puzzle.verify(question.expand(4000, -1), answers).score
    counts = (scores.double() * 243 * 30).round()
    assert len(scores.unique()) == len(counts.unique()) > 500


# ---------------------------------------------------------------- what else rounding could decide


@pytest.mark.parametrize("num_steps", [3, 6, 25, 49, 100])
def test_a_cell_is_read_at_its_step_whatever_the_rounding(num_steps):
    """Of n cells the i-th has order i / (n + 1), and step k reads those up to (k - 1) / K."""
    flow = AnswerFlow(Countdown(), num_steps)
    for cells in (1, 5, 24, 48, 99, 899):
        place = torch.arange(1, cells + 3)  # two more, that are not written
        steps = torch.arange(1, num_steps + 3)
        expected = place * num_steps <= (steps - 1).clamp(max=num_steps - 1)[:, None] * (cells + 1)
        for arithmetic in (OtherRounding(), torch.no_grad()):
            with arithmetic:
                order = (place / (cells + 1)).expand(len(steps), -1)
                assert torch.equal(flow.shown(order, steps), expected)
        assert not expected[:, cells:].any()


def test_an_advantage_of_nothing_weighs_nothing_whatever_the_rounding():
    score = torch.tensor([[0.1, 0.4, 0.7], [0.3, 0.6, 0.9], [0.0, 1 / 3, 2 / 3]])
    for arithmetic in (OtherRounding(), torch.no_grad()):
        with arithmetic:
            weight = advantage_weight(group_advantage(score), "indicator", 1.0, 20.0)
        assert (weight > 1).tolist() == [[False, False, True]] * 3


def test_the_depth_is_chosen_by_counts():
    """A third is a third: 8 of 24, whatever the quotient is rounded to."""
    for taken in (24, 27, 48, 81, 243, 768):
        depth = ByLedger(3, torch.device("cpu"))
        depth.improved[1], depth.taken[1] = taken // 3, taken
        with OtherRounding():
            depth._decide()
        assert depth.depth == 2
        depth.improved[1], depth.taken[1] = -(-taken // 6), taken
        with OtherRounding():
            depth._decide()
        assert depth.depth == 2


@pytest.mark.parametrize("name", sorted(set(names("exit")) - {"predicted_gain"}))
def test_no_threshold_of_an_exit_rule_is_a_signal_that_was_seen(name):
    rule = build_rule(OmegaConf.load(CONFIGS / "exit" / f"{name}.yaml"), "exit")
    if isinstance(rule, FixedDepth | Wait):
        return  # whole numbers
    values = {key: torch.rand(50, 4) for key in rule.needs}
    signal = rule.signal(values)
    thresholds = rule.candidates(signal)
    seen = set(signal.flatten().tolist())
    assert not seen & set(thresholds)
    assert exit_steps(signal, min(thresholds)).tolist() == [1] * 50
    for threshold in thresholds:
        moved = exit_steps(signal * (1 + 1e-7), threshold)
        assert torch.equal(moved, exit_steps(signal.clone(), threshold))
