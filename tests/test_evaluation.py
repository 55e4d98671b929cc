"""Evaluation against slow references."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.queens.rules import Queens
from pir.envs.queens.text import BLANK
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.evaluation.breadth import breadth, noisy_start
from pir.evaluation.cost import flops_per_step
from pir.evaluation.floors import look_up, masked_random, one_blank
from pir.evaluation.measurements import fixed_point_rate, steps_to_solve
from pir.evaluation.probes import (
    CellSample,
    GuidanceSweep,
    LatentSample,
    OptimalitySweep,
    StepSizeProbe,
)
from pir.evaluation.rollouts import evaluate, held_out
from pir.evaluation.sampling import sample_rollouts
from pir.evaluation.solve import solve
from pir.exits.early_exit import steps_until_exit
from pir.exits.rules import FixedDepth
from pir.laws.called import calls
from pir.laws.case import build_case
from pir.laws.second_device import SECOND, SecondDevice
from pir.ledger.cells import Cells
from pir.ledger.guidance import guided_log_policy, log_prob_gain
from pir.ledger.ledger import Ledger
from pir.ledger.statistics import STATISTICS
from pir.models.dual import Dual
from pir.models.feedforward import FeedForward
from pir.models.looped import Looped
from pir.models.trm import TRM
from pir.puzzle import instances
from pir.rollout import begin, improve
from tests.small_reasoners import Plain


@pytest.fixture(scope="module")
def made():
    puzzle = Queens(hide=(1, 2))  # chance solves some
    torch.manual_seed(0)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32").eval()
    return model, puzzle, puzzle.sample(40, "test", seed=0)


def steps_of(model, puzzle, puzzles, count, told=None):
    with torch.no_grad():
        lanes = begin(model, puzzle, puzzles)
        for _ in range(count):
            lanes, step = improve(model, puzzle, lanes, told)
            yield step


def test_values_of_single_puzzles_average_to_the_ledger(made):
    model, puzzle, puzzles = made
    result = evaluate(model, puzzle, puzzles, 4, batch_size=15)
    for row in result.ledger.rows():
        for name, values in result.values.items():
            mean = float(values[:, row["k"] - 1].mean())
            assert row[name] == pytest.approx(mean, abs=1e-5, nan_ok=True), name
    assert {"ece", "answer_ece"}.isdisjoint(result.values)
    trained = result.solved[:, model.improvement_steps - 1]
    solved = [row["puzzles"] for row in result.ledger.outcome_rows() if row["outcome"] == "solved"]
    assert solved == [int(trained.sum())] * 4


def test_training_and_evaluation_keep_one_ledger(made):
    model, puzzle, puzzles = made
    ledger = Ledger(40, 4, model.passes_per_step, torch.device("cpu"))
    for step in steps_of(model, puzzle, puzzles, 4):
        ledger.record(step, step.k == 4)
    rows = evaluate(model, puzzle, puzzles, 4, batch_size=40).ledger.rows()
    assert str(rows) == str(ledger.rows())


def test_guidance_sweep_reads_out_guided_policies(made):
    model, puzzle, puzzles = made
    sweep = GuidanceSweep(puzzle, [0.0, 0.5, 1.0, 2.0], 3)
    evaluate(model, puzzle, puzzles, 3, 15, [sweep])
    rows = {(row["w"], row["k"]): row for row in sweep.sweep.rows("w", model.passes_per_step)}
    label = puzzles["solution"].long()
    for step in steps_of(model, puzzle, puzzles, 3):
        k = int(step.k[0])
        for w in (0.0, 0.5, 1.0, 2.0):
            log_policy = guided_log_policy(step.before.logits, step.after.logits, w)
            answer = puzzle.clamp(puzzles["question"], log_policy.argmax(-1))
            solved = puzzle.verify(puzzles["question"], answer).solved
            of_label = log_policy.gather(2, label[..., None]).squeeze(-1)
            nll = -torch.where(step.written, of_label, 0).sum(1) / step.written.sum(1)
            assert rows[w, k]["solved"] == pytest.approx(float(solved.float().mean()))
            assert rows[w, k]["nll"] == pytest.approx(float(nll.mean()), rel=1e-4)
        assert rows[1.0, k]["solved"] == pytest.approx(float(step.after.solved.float().mean()))
        assert rows[0.0, k]["solved"] == pytest.approx(float(step.before.solved.float().mean()))


def test_optimality_sweep_goes_from_any_to_good_answers(made):
    plain, puzzle, puzzles = made
    torch.manual_seed(0)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32", optimality_token=True).eval()
    with torch.no_grad():
        model.conditioning.optimality.weight.normal_(std=3.0)
    sweep, none = (
        OptimalitySweep(model, puzzle, [0.0, 1.0, 3.0], 2),
        OptimalitySweep(plain, puzzle, [1.0], 2),
    )
    result = evaluate(model, puzzle, puzzles, 2, 15, [sweep])
    evaluate(plain, puzzle, puzzles, 2, 15, [none])
    assert none.rows(3) == []
    rows = {(row["w"], row["k"]): row for row in sweep.rows(3)}
    assert rows[1.0, 2]["forward_passes"] == 2 * 2 * 3
    told = {"optimality": torch.zeros(40, dtype=torch.int64)}
    untold = list(steps_of(model, puzzle, puzzles, 2, told))
    for step, other in zip(steps_of(model, puzzle, puzzles, 2), untold, strict=True):
        k = int(step.k[0])
        for w in (0.0, 1.0, 3.0):
            base = other.after.logits
            logits = base + w * (step.after.logits - base)
            answer = puzzle.clamp(puzzles["question"], logits.argmax(-1))
            solved = puzzle.verify(puzzles["question"], answer).solved.float().mean()
            assert rows[w, k]["solved"] == pytest.approx(float(solved))
        assert rows[1.0, k]["solved"] == pytest.approx(
            float(result.solved[:, k - 1].float().mean())
        )
    assert rows[0.0, 1]["nll"] != pytest.approx(rows[1.0, 1]["nll"], abs=1e-3)


def test_stochastic_reasoners_are_sampled_by_rollouts(made):
    _, puzzle, puzzles = made
    torch.manual_seed(0)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32", partial_answer=True).eval()
    before = torch.random.get_rng_state()
    sampled = sample_rollouts(model, puzzle, puzzles, 3, 3, 40)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sampled == sample_rollouts(model, puzzle, puzzles, 3, 3, 40)
    ends = [evaluate(model, puzzle, puzzles, 3, 40, seed=seed) for seed in range(3)]
    shares = [float(end.solved[:, -1].float().mean()) for end in ends]
    assert sampled.solved == pytest.approx(sum(shares) / 3)
    assert not torch.equal(ends[0].answers, ends[1].answers)


def test_step_sizes(made):
    """alpha = 1 is the step itself, alpha = 0 stays where it was; rollouts scale every step."""
    model, puzzle, puzzles = made
    probe = StepSizeProbe(model, puzzle, [0.0, 1.0], 2)
    result = evaluate(model, puzzle, puzzles, 2, 40, [probe])
    rows = probe.sweep.rows("step_size", 3)
    solved = result.solved.float().mean(0).tolist()
    assert [row["solved"] for row in rows[2:]] == pytest.approx(solved)
    assert rows[1]["solved"] == pytest.approx(solved[0])
    still = evaluate(model, puzzle, puzzles, 2, 40, step_size=0.0)
    assert still.values["state_change"].abs().max() == 0
    half = next(steps_of(model, puzzle, puzzles, 1))
    _, scaled = improve(model, puzzle, begin(model, puzzle, puzzles), step_size=0.5)
    middle = (half.before.state["y"] + half.after.state["y"]) / 2
    torch.testing.assert_close(scaled.after.state["y"], middle)


def test_cells_and_latents(made):
    model, puzzle, puzzles = made
    cells, latents = CellSample(per_step=20), LatentSample(model, 2, 2, puzzles=10)
    result = evaluate(model, puzzle, puzzles, 2, 25, [cells, latents])
    rows = cells.with_outcome(result.solved[:, -1])
    assert [row["k"] for row in rows] == [1] * 20 + [2] * 20
    for row in rows:
        gained, margin = row["gain"], row["gain"] - row["kl"]
        if row["kl"] < 1e-3:
            expected = "still"
        elif gained < 0:
            expected = "overshoot" if gained > -row["reverse_kl"] else "harmful"
        else:
            expected = "under_sized" if margin > 0 else "sized_right"
        assert row["region"] == expected
        assert 0 <= row["best_w"] <= 8
    first = next(steps_of(model, puzzle, puzzles, 1))
    policies = (p.log_softmax(-1) for p in (first.before.logits, first.after.logits))
    every = log_prob_gain(*policies, puzzles["solution"])[first.written]
    assert all((every - row["gain"]).abs().min() < 1e-5 for row in rows[:20])
    states = latents.arrays["latents"]
    assert states.shape == (10, 3, 32)
    pooled = torch.cat([first.after.state[key].mean(1) for key in ("y", "z")], 1)
    torch.testing.assert_close(states[:, 1], pooled[:10])


def test_cells_that_are_not_written_are_in_no_sample(made):
    """Also where the ledger counts all cells with zeros, so that no device is waited for."""
    model, puzzle, puzzles = made
    here, there = CellSample(per_step=20), CellSample(per_step=20)
    evaluate(model, puzzle, puzzles, 2, 25, [here])
    with SecondDevice():
        model.to(SECOND)
        evaluate(model, puzzle, puzzles.to(SECOND), 2, 25, [there])
        model.to("cpu")
    solved = torch.zeros(len(puzzles))
    rows = [pytest.approx(row, abs=1e-4) for row in here.with_outcome(solved)]
    assert there.with_outcome(solved) == rows


def test_floors():
    """Random answers to one hidden row of eight; a look-up knows solutions that it has seen."""
    puzzle = Queens(hide=(1, 1))
    puzzles = puzzle.sample(200, "test", seed=0)
    floor = masked_random(puzzle, puzzles)
    assert floor["answers"] == 4000
    assert floor["solved"] == pytest.approx(1 / 8, abs=0.03)
    assert masked_random(puzzle, puzzles) == floor
    assert look_up(puzzle, puzzles)["solved"] > 0.99
    orbits = Queens(hide=(1, 1), split="orbits")
    assert look_up(orbits, orbits.sample(100, "test", seed=0))["solved"] < 0.2


def test_puzzles_with_one_blank(made):
    model, puzzle, puzzles = made
    seen = []

    class Watched(Queens):
        def reveal(self, question, answer, positions):
            seen.append(super().reveal(question, answer, positions))
            return seen[-1]

    found = one_blank(model, Watched(hide=(1, 2)), puzzles, 15)
    assert (puzzle.written(seen[0]).sum(1) == 1).all()
    assert found["puzzles"] == 40
    assert found["solved_low"] <= found["solved"] <= found["solved_high"]
    for made_of in (Sudoku((2, 3), clues=(10, 18)), puzzle):
        sample = made_of.sample(20, "test", seed=0)
        written = made_of.written(sample["question"])
        some = written & (torch.rand(written.shape) < 0.5)
        revealed = made_of.reveal(sample["question"], sample["solution"], some)
        assert torch.equal(made_of.written(revealed), written & ~some)
        assert made_of.verify(revealed, sample["solution"]).solved.all()

    class Whole(Queens):
        reveals = False

    assert one_blank(model, Whole(hide=(1, 2)), puzzles, 15) is None
    assert "reveal" not in [call.name for call in calls(build_case(Whole(hide=(1, 2)), 10))]
    countdown = Countdown()
    torch.manual_seed(0)
    small = TRM(countdown, hidden_size=16, heads=2)
    assert one_blank(small, countdown, countdown.sample(3, "test", seed=0), 3) is None
    blank = instances(torch.full((2, 8), BLANK, dtype=torch.uint8), puzzles["solution"][:2])
    assert one_blank(model, puzzle, blank.select("question"), 2) is None


def test_a_start_of_zeros_is_changed_whole_and_gets_noise_too(made):
    _, puzzle, puzzles = made
    model = Looped(puzzle, hidden_size=64, heads=2, dtype="float32", recall=True)
    change = STATISTICS["state_change"].compute
    first, second = (change(Cells(step)) for step in steps_of(model, puzzle, puzzles, 2))
    assert first == pytest.approx(1.0)
    assert (second < 2).all()
    question = puzzles["question"]
    noisy = noisy_start(model, question, 0.5)["h"]
    assert not model.start(question)["h"].any()
    assert noisy.std() == pytest.approx(0.5, rel=0.05)
    assert noisy_start(model, question, 0.0)["h"].abs().max() == 0


def test_breadth_selects_among_starts(made):
    model, puzzle, puzzles = made
    rows = {row["selector"]: row for row in breadth(model, puzzle, puzzles, 6, 0.5, 40)}
    assert set(rows) == {"first", "mean", "vote", "residual", "logit_change", "verifier"}
    assert rows["verifier"]["solved"] >= max(row["solved"] for row in rows.values())
    assert rows["verifier"]["forward_passes"] == 6 * rows["first"]["forward_passes"]
    plain = evaluate(model, puzzle, puzzles, model.improvement_steps, 40)
    assert rows["first"]["solved"] == pytest.approx(float(plain.solved[:, -1].float().mean()))
    assert rows == {row["selector"]: row for row in breadth(model, puzzle, puzzles, 6, 0.5, 40)}
    with pytest.raises(UserError, match=r"eval\.breadth=3: starts without noise are all the same"):
        breadth(model, puzzle, puzzles, 3, 0.0, 40)


@pytest.mark.parametrize("kind", [Looped, Dual, FeedForward])
def test_starts_that_the_first_step_does_not_read(made, kind):
    """A reasoner says whether it reads its start; breadth by noise on it is refused if not."""
    _, puzzle, puzzles = made
    model = kind(puzzle, hidden_size=64, heads=2, dtype="float32").eval()
    question, k = puzzles["question"], torch.ones(len(puzzles), dtype=torch.int64)
    ends = [model.improve(question, noisy_start(model, question, size), k) for size in (0.0, 1.0)]
    policies = [model.read_out(end).logits for end in ends]
    assert torch.equal(*policies)
    assert not model.reads_start
    with pytest.raises(UserError, match=r"eval\.breadth=3: .*1, or eval\.step_noise"):
        breadth(model, puzzle, puzzles, 3, 0.5, 40)
    assert len(breadth(model, puzzle, puzzles, 3, 0.5, 40, step_noise=0.1)) >= 6


def test_the_step_that_solves_and_fixed_points():
    solved = torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 1]]).bool()
    assert steps_to_solve(solved) == pytest.approx((2 + 1 + 1 + 3) / 4)
    assert fixed_point_rate(solved) == pytest.approx(2 / 3)
    assert steps_to_solve(solved[2:3]) is None
    assert fixed_point_rate(solved[2:3]) is None


@pytest.mark.parametrize("puzzle", [Queens(), Sudoku((3, 3), clues=(40, 50))])
def test_flops_are_those_of_the_products(puzzle):
    """Counted by hand: a product costs 2 * tokens * in * out, plain or in fused attention."""
    model = TRM(puzzle, hidden_size=16, heads=2, mixer="attention", dtype="float32")
    tokens, width, inner = puzzle.length, 16, 48
    block = 2 * tokens * width * (3 * width + width + 2 * inner + inner) + 4 * tokens**2 * width
    layers, passes = 2, model.passes_per_step
    counted = flops_per_step(model, puzzle.sample(1, "test", seed=0)["question"])
    read_out = 2 * tokens * width * len(puzzle.vocabulary)
    assert counted == passes * layers * block + read_out


def test_what_an_evaluation_returns_can_be_trained_on():
    """It is taken under inference mode, whose tensors autograd does not keep."""
    puzzle = Queens(hide=(2, 6))
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32").eval()
    found = evaluate(model, puzzle, held_out(puzzle, "test", 20), 2, 7)
    weight = torch.ones((), requires_grad=True)
    (weight * found.values["score"]).sum().backward()
    assert weight.grad == found.values["score"].sum()
    found.answers.zero_()


def test_dropout_rests_while_answers_are_measured():
    """Whatever the batch; afterwards every part is in the mode that it was in."""
    puzzle = Sudoku(box=(2, 2), clues=(8, 12))
    torch.manual_seed(0)
    reasoner = Plain(puzzle, dropout=0.5)
    reasoner.mix.eval()
    puzzles = held_out(puzzle, "test", 6)
    answers = [evaluate(reasoner, puzzle, puzzles, 2, size).answers for size in (6, 4)]
    assert torch.equal(*answers)
    solved = solve(reasoner, puzzle, list(puzzles["question"]), batch_size=3)
    assert [steps[-1].tokens for steps in solved] == [tuple(row) for row in answers[0].tolist()]
    for _ in steps_until_exit(reasoner, puzzle, puzzles, FixedDepth(), 2, 2):
        assert reasoner.training
    assert reasoner.drop.training
    assert not reasoner.mix.training
