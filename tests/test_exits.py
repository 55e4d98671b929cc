"""Exit rules: what they stop at, alone and in the loop, and the sweep over their thresholds."""

from itertools import pairwise

import pytest
import torch
from pir.envs.queens.rules import Queens

from pir.errors import UserError
from pir.evaluation.exit_sweep import ExitSweep, Point, front, measure, run_rule
from pir.evaluation.rollouts import evaluate
from pir.exits import rules as exit_rules
from pir.exits.early_exit import steps_until_exit
from pir.models.trm import TRM

K = 5


@pytest.fixture(scope="module")
def rollouts():
    """An untrained model with a halt head on queens: its steps differ enough to stop anywhere."""
    puzzle = Queens(hide=(1, 2))  # chance solves some
    torch.manual_seed(9)
    model = TRM(puzzle, hidden_size=16, heads=2, halt_head=True, dtype="float32").eval()
    puzzles = puzzle.sample(60, "test", seed=0)
    return model, puzzle, puzzles, evaluate(model, puzzle, puzzles, K, 25).values


def made_up(**rows):
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in rows.items()}


def test_exit_steps_are_the_first_that_reach_the_threshold():
    signal = torch.tensor([[0.1, 0.5, 0.2], [0.9, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert exit_rules.exit_steps(signal, 0.5).tolist() == [2, 1, 3]
    assert exit_rules.exit_steps(signal, float("inf")).tolist() == [3, 3, 3]
    assert exit_rules.exit_steps(signal, float("-inf")).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("rule", "values", "threshold", "steps"),
    [
        (exit_rules.FixedDepth(), {"solved": [[0, 0, 1]]}, 2, [2]),
        (
            exit_rules.HaltHead(),
            {"halt_probability": [[0.2, 0.6, 0.9], [0.1, 0.2, 0.3]]},
            0.5,
            [2, 3],
        ),
        (exit_rules.ExitGate(), {"halt_probability": [[0.5, 0.5, 0.5]]}, 0.7, [2]),  # CDF 0.5, 0.75
        (exit_rules.KLThreshold(), {"kl": [[1.0, 0.01, 0.0], [0.0, 1.0, 1.0]]}, 0.01, [2, 1]),
        (exit_rules.StateChange(), {"state_change": [[0.5, 0.4, 0.05]]}, 0.1, [3]),
        (exit_rules.Entropy(), {"entropy": [[0.9, 0.2, 0.1]]}, 0.2, [2]),
        (exit_rules.Verifier(), {"solved": [[0, 1, 1], [0, 0, 0]]}, 1.0, [2, 3]),
        (exit_rules.Oracle(), {"solved": [[0, 1, 0], [0, 0, 0], [1, 1, 1]]}, 1.0, [2, 1, 1]),
    ],
)
def test_rules_stop_where_they_say(rule, values, threshold, steps):
    signal = rule.signal(made_up(**values))
    assert exit_rules.exit_steps(signal, rule.unit(threshold)).tolist() == steps


def test_rules_see_nothing_that_lies_ahead(rollouts):
    values = rollouts[3]
    learnt = exit_rules.PredictedGain()
    learnt.fit(values)
    for rule in (
        exit_rules.FixedDepth(),
        exit_rules.HaltHead(),
        exit_rules.ExitGate(),
        exit_rules.KLThreshold(),
        exit_rules.Verifier(),
        learnt,
    ):
        whole = rule.signal(values)
        for k in range(1, K + 1):
            early = rule.signal({name: v[:, :k] for name, v in values.items()})
            torch.testing.assert_close(early, whole[:, :k])
    assert exit_rules.Oracle.bound


@pytest.mark.parametrize(
    "rule",
    [
        exit_rules.HaltHead(),
        exit_rules.ExitGate(),
        exit_rules.KLThreshold(),
        exit_rules.StateChange(),
        exit_rules.Entropy(),
        exit_rules.PredictedGain(),
    ],
)
def test_the_loop_exits_where_whole_rollouts_say(rollouts, rule):
    """The batch shrinks as puzzles leave; steps and verdicts are those of the full rollouts."""
    model, puzzle, puzzles, values = rollouts
    rule.fit(values)
    signal = rule.signal(values)
    threshold = float(signal.flatten().sort().values[K * len(puzzles) // 2]) + 1e-4
    steps = exit_rules.exit_steps(signal, threshold)
    assert len(steps.unique()) > 1
    exited = run_rule(model, puzzle, puzzles, rule, threshold, K, batch_size=25)
    assert torch.equal(exited.steps, steps)
    at_exit = values["solved"].gather(1, steps[:, None] - 1).squeeze(1) > 0.5
    assert torch.equal(exited.solved, at_exit)
    taken = [len(rows) for rows, _ in steps_until_exit(model, puzzle, puzzles, rule, threshold, K)]
    assert taken == [int((steps >= k).sum()) for k in range(1, int(steps.max()) + 1)]


def test_answers_at_the_exit_do_not_depend_on_the_batch(rollouts):
    model, puzzle, puzzles, values = rollouts
    threshold = float(-values["kl"].median())
    alone = run_rule(model, puzzle, puzzles, exit_rules.KLThreshold(), threshold, K, batch_size=1)
    together = run_rule(
        model, puzzle, puzzles, exit_rules.KLThreshold(), threshold, K, batch_size=60
    )
    assert torch.equal(alone.steps, together.steps)


def test_predicted_gain_learns_from_the_ledgers_gains():
    """Puzzles with a large KL gain at the next step, those with a small one never do."""
    generator = torch.Generator().manual_seed(0)
    gains = torch.rand(400, 1, generator=generator) < 0.5
    kl = torch.where(gains, 1.0, 0.01).expand(400, 3) * (
        0.5 + torch.rand(400, 3, generator=generator)
    )
    score = torch.where(gains, torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.4, 0.4, 0.4]))
    noise = {n: torch.rand(400, 3, generator=generator) for n in exit_rules.PredictedGain.needs}
    values = {**noise, "kl": kl, "score": score}
    rule = exit_rules.PredictedGain()
    rule.fit(values)
    probability = -rule.signal(values)[:, :2]
    assert probability[gains[:, 0]].mean() > 0.9
    assert probability[~gains[:, 0]].mean() < 0.5
    again, loaded = exit_rules.PredictedGain(), exit_rules.PredictedGain()
    again.fit(values)
    loaded.load_state_dict(rule.state_dict())
    for other in (again, loaded):
        assert torch.equal(other.signal(values), rule.signal(values))
    with pytest.raises(UserError, match="no step after the first"):
        rule.fit({name: v[:, :1] for name, v in values.items()})


def test_what_a_rule_learns_from_is_not_what_its_threshold_is_chosen_on(rollouts):
    seen = []

    class Watched(exit_rules.PredictedGain):
        def fit(self, values):
            seen.append(values["score"])
            super().fit(values)

        def candidates(self, signal):
            seen.append(signal)
            return super().candidates(signal)

    values = rollouts[3]
    ExitSweep({"learnt": Watched()}, values, values, K, 3, leave_out=False)
    assert torch.equal(seen[0], values["score"][::2])
    assert len(seen[1]) == len(values["score"][1::2])


def test_the_oracle_bounds_every_rule(rollouts):
    values = rollouts[3]
    bound = measure(exit_rules.Oracle().signal(values), values["solved"], 1.0)
    for rule in (
        exit_rules.FixedDepth(),
        exit_rules.KLThreshold(),
        exit_rules.Entropy(),
        exit_rules.Verifier(),
    ):
        for point in front(rule, values, [K]):
            assert point.solved <= bound.solved
            if point.solved == bound.solved:
                assert point.steps >= bound.steps


def test_a_front_keeps_no_point_that_another_beats(rollouts):
    points = front(exit_rules.KLThreshold(), rollouts[3], [3, K])
    assert len(points) >= 2
    for one, two in pairwise(points):
        assert one.steps < two.steps
        assert one.solved < two.solved


def test_thresholds_are_chosen_on_validation_alone():
    """On validation step 2 solves all; on test it does not, and no choice hides that."""
    good = made_up(solved=[[0, 1, 1]] * 10, score=[[0, 1, 1]] * 10, halt_probability=[[0.5] * 3])
    bad = made_up(solved=[[0, 0, 1]] * 10, score=[[0, 0, 1]] * 10, halt_probability=[[0.5] * 3])
    good["halt_probability"] = torch.full((10, 3), torch.nan)
    sweep = ExitSweep(
        {"fixed": exit_rules.FixedDepth(), "halt_head": exit_rules.HaltHead(),
         "verifier": exit_rules.Verifier()},
        good, {**bad, "halt_probability": good["halt_probability"]}, trained=3,
        passes_per_step=4, leave_out=True,
    )  # fmt: skip
    assert sweep.chosen["fixed"] == Point(2.0, 3, 2.0, 1.0)
    assert front(exit_rules.FixedDepth(3.0), good, [3]) == [Point(3.0, 3, 3.0, 1.0)]
    (row,) = [row for row in sweep.rows if row["rule"] == "fixed" and row["chosen"]]
    assert (row["forward_passes"], row["solved"]) == (8.0, 0.0)
    assert "halt_probability" in sweep.skipped["halt_head"]
    with pytest.raises(UserError, match=r"eval\.exit=halt_head: it needs halt_probability"):
        ExitSweep({"halt_head": exit_rules.HaltHead()}, good, good, 3, 4, leave_out=False)
    assert sweep.best() == "verifier"
    assert sweep.chosen["verifier"] == Point(1.0, 3, 2.0, 1.0)
