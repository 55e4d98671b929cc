"""What keeps right answers right: late starts, a running average, damping, noise."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.queens.rules import Queens

from pir.errors import UserError
from pir.evaluation.rollouts import evaluate
from pir.models.network import rms_norm
from pir.models.running_average import RunningAverage
from pir.models.trm import TRM
from pir.noise import by_puzzle
from pir.rollout import StepCounter, begin, counted, improve
from pir.settings.training import TrainerSettings
from pir.training.late_starts import burn_in, start_late
from tests.small_reasoners import SMALL, run
from tests.training_runs import assert_same_run, go_on, start

CPU = torch.device("cpu")


def make(puzzle=None, **options):
    torch.manual_seed(0)
    puzzle = puzzle or Countdown()
    return TRM(puzzle, **(SMALL | options)).eval(), puzzle


def late(share, most):
    return TrainerSettings(late_share=share, late_steps=most)


# ---------------------------------------------------------------- late starts


def test_nothing_is_drawn_or_done_without_late_starts():
    model, puzzle = make()
    fresh = begin(model, puzzle, puzzle.sample(4, "train", seed=0))
    state, kept = torch.get_rng_state(), fresh.to_dict()
    lanes = start_late(model, puzzle, fresh, late(0.0, 512))
    assert lanes is fresh
    assert torch.equal(lanes.now.state["y"], kept["now"]["state"]["y"])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("most", "lengths"),
    [(512, [32, 64, 128, 256, 512]), (1023, [32, 64, 128, 256, 512]), (100, [32, 64]), (5, [5])],
)
def test_lengths_are_drawn_evenly(most, lengths):
    torch.manual_seed(0)
    drawn = [burn_in(late(0.25, most)) for _ in range(4000)]
    assert sorted(set(drawn)) == [0, *lengths]
    assert drawn.count(0) / 4000 == pytest.approx(0.75, abs=0.03)
    for length in lengths:
        assert drawn.count(length) / 1000 == pytest.approx(1 / len(lengths), abs=0.07)
    assert 0 not in {burn_in(late(1.0, most)) for _ in range(100)}


def test_late_lanes_hold_a_later_state_and_count_anew():
    model, puzzle = make(halt_head=True, reads_own_answer=True, step_embedding=True)
    puzzles = puzzle.sample(4, "train", seed=0)
    by_hand = begin(model, puzzle, puzzles)
    with torch.no_grad():
        for _ in range(5):
            by_hand, _ = improve(model, puzzle, by_hand)
    counter = StepCounter()
    with counted(counter):
        lanes = start_late(model, puzzle, begin(model, puzzle, puzzles), late(1.0, 5))
    assert counter.lane_steps == 4 * 5
    assert lanes.k.tolist() == lanes.first_solved.tolist() == [0] * 4
    assert not lanes.now.logits.requires_grad
    assert torch.equal(lanes.now.logits, by_hand.now.logits)
    assert torch.equal(lanes.now.context["own_answer"], by_hand.now.answer)
    assert improve(model, puzzle, lanes)[1].k.tolist() == [1] * 4


def test_late_starts_are_paid_for_and_not_recorded(tmp_path):
    """16 lanes and twice the 8 that end take 5 steps more; the ledger sees none of them."""
    plain = start(tmp_path / "plain", "trainer.log_every=100", "trainer.max_optimizer_steps=3")
    options = ("trainer.late_share=1", "trainer.late_steps=5")
    aged = start(
        tmp_path / "late", "trainer.log_every=100", "trainer.max_optimizer_steps=3", *options
    )
    for trainer in (plain, aged):
        trainer.train()
    passes = plain.reasoner.passes_per_step
    assert plain.forward_passes == 3 * 16 * passes
    assert aged.forward_passes == plain.forward_passes + (16 + 8 + 8) * 5 * passes
    counts = [trainer.state.ledger.counts.sum(0).tolist() for trainer in (plain, aged)]
    assert counts[0] == counts[1]
    assert int(aged.state.lanes.k.max()) == 2
    assert aged.progress.puzzles_seen == plain.progress.puzzles_seen


@pytest.mark.parametrize(
    "lanes",
    [
        "staggered",
        pytest.param("synchronous", marks=pytest.mark.slow),
        pytest.param("halting", marks=pytest.mark.slow),
    ],
)
def test_resume_with_late_starts_is_exact(tmp_path, lanes):
    options = ["trainer.late_share=0.5", "trainer.late_steps=40", f"trainer.lanes={lanes}"]
    options += ["model.halt_head=true", "objective=deep_supervision", "model.running_average=true"]
    whole = start(tmp_path / "whole", *options)
    whole.train()
    start(tmp_path / "parts", *options, "trainer.max_optimizer_steps=5").train()
    go_on(tmp_path / "parts", *options).train()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    least = 12 * 16 * whole.reasoner.passes_per_step
    assert whole.forward_passes > least  # some refills were late


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.late_share=1.5"], r"trainer\.late_share=1\.5: must lie in \[0, 1\]"),
        (["trainer.late_steps=0"], r"trainer\.late_steps=0: must be at least 1"),
        (["trainer.late_share=0.2", "trainer.lanes=ledger"], r"late_share=0\.2: .* than ledger"),
        (["trainer.late_share=0.2", "model=looped"], r"late_share=0\.2: .* does not read"),
    ],
)
def test_late_starts_that_mislead_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        start(tmp_path / "run", *options)


# ---------------------------------------------------------------- the running average


def trained_average(width, scale=1.0):
    torch.manual_seed(1)
    average = RunningAverage(width)
    with torch.no_grad():
        average.direction.copy_(scale * torch.randn(width))
        average.decay.fill_(-0.7)
    return average


def decay_of(average):
    return float((average.decay.detach() + torch.tensor(0.9).logit()).sigmoid())


def test_running_average_is_the_quotient_of_its_sums():
    average = trained_average(6)
    proposals = torch.randn(40, 2, 3, 6)
    h, weight = torch.randn(2, 3, 6), torch.zeros(2, 3, 1)
    beta = decay_of(average)
    q = average.direction.detach().double()
    numerator = denominator = 0.0
    for z in proposals:
        with torch.no_grad():
            h, weight = average(h, weight, z)
        z = z.double()
        e = torch.exp((rms_norm(z) * q).sum(-1, keepdim=True))
        numerator, denominator = beta * numerator + e * z, beta * denominator + e
        torch.testing.assert_close(h.double(), numerator / denominator, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(weight.double(), denominator.log1p(), atol=1e-5, rtol=1e-5)


def test_it_begins_as_a_plain_average_with_decay():
    average = RunningAverage(4)
    z = torch.randn(3, 1, 1, 4)
    h, weight = torch.randn(1, 1, 4), torch.zeros(1, 1, 1)
    with torch.no_grad():
        for proposal in z:
            h, weight = average(h, weight, proposal)
    torch.testing.assert_close(h, (0.81 * z[0] + 0.9 * z[1] + z[2]) / 2.71)
    assert float(weight) == pytest.approx(torch.tensor(3.71).log().item())


def test_scores_of_any_size_and_noise_below_zero_stay_finite():
    average = trained_average(64, scale=40.0)
    h, weight = torch.zeros(2, 3, 64), torch.full((2, 3, 1), -0.3, requires_grad=True)
    first = torch.randn(2, 3, 64)
    h, weight = average(h, weight, first)
    assert torch.equal(h, first)  # nothing was in it
    for _ in range(20):
        h, weight = average(h, weight, torch.randn(2, 3, 64))
    assert h.isfinite().all()
    assert (weight > 0).all()
    assert weight.isfinite().all()
    (h.sum() + weight.sum()).backward()
    assert average.direction.grad.isfinite().all()
    assert average.decay.grad.isfinite()


def test_average_keeps_the_dtype_of_the_latent():
    model, puzzle = make(running_average=True, dtype="bfloat16")
    state = run(model, puzzle.sample(2, "train", seed=0)["question"], 2)
    assert state["y"].dtype == torch.bfloat16
    assert state["y_weight"].dtype == torch.float32
    assert state["y_weight"].shape == (2, puzzle.length, 1)


@pytest.mark.parametrize("latents", [1, 0])
def test_a_trm_averages_what_its_cycles_propose(latents):
    """Against a step written out, over two steps of two cycles; at first as without average."""
    options = {"cycles": 2, "latents": latents, "latent_steps": 2}
    model, puzzle = make(running_average=True, **options)
    plain, _ = make(**options)
    assert [n for n in model.state_dict() if n not in plain.state_dict()] == [
        "average.direction", "average.decay",
    ]  # fmt: skip
    plain.load_state_dict(model.state_dict(), strict=False)
    untouched, _ = make(**options)
    for own, other in zip(plain.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(own, other)
    model.average = trained_average(16)
    question = puzzle.sample(3, "train", seed=0)["question"]
    beta = decay_of(model.average)
    with torch.no_grad():
        x, state = model.embed(question), model.start(question)
        y, z = state["y"], state["z"] if latents else 0.0
        numerator = denominator = 0.0
        for _ in range(4):
            if latents:
                for _ in range(2):
                    z = model.f(x + y + z)
                proposal = model.f(y + z)
            else:
                proposal = y
                for _ in range(3):
                    proposal = model.f(x + proposal)
            e = torch.exp((rms_norm(proposal) * model.average.direction).sum(-1, keepdim=True))
            numerator, denominator = beta * numerator + e * proposal, beta * denominator + e
            y = numerator / denominator
        found = run(model, question, 2)
    torch.testing.assert_close(found["y"], y, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["y_weight"], denominator.log1p(), atol=1e-4, rtol=1e-4)
    model.cycles = plain.cycles = 1
    assert torch.equal(run(model, question, 1)["y"], run(plain, question, 1)["y"])


# ---------------------------------------------------------------- damping, noise


@pytest.fixture(scope="module")
def queens():
    model, puzzle = make(Queens(hide=(1, 2)))
    return model, puzzle, puzzle.sample(30, "test", seed=0)


def same(one, other, steps=slice(None)):
    return all(
        torch.equal(one.values[name][:, steps].nan_to_num(7), values[:, steps].nan_to_num(7))
        for name, values in other.values.items()
    )


def test_damping_changes_nothing_before_its_step(queens):
    model, puzzle, puzzles = queens
    plain = evaluate(model, puzzle, puzzles, 5)
    damped = evaluate(model, puzzle, puzzles, 5, step_size=0.5, damping_after=2)
    assert same(damped, plain, slice(0, 2))
    assert not same(damped, plain)
    assert same(evaluate(model, puzzle, puzzles, 5, step_size=0.5, damping_after=5), plain)
    at_once = evaluate(model, puzzle, puzzles, 5, step_size=0.5)
    assert same(evaluate(model, puzzle, puzzles, 5, step_size=0.5, damping_after=0), at_once)
    with torch.no_grad():
        lanes = begin(model, puzzle, puzzles)
        for k in range(1, 6):
            lanes, step = improve(model, puzzle, lanes, step_size=0.5 if k > 2 else 1.0)
    assert torch.equal(damped.answers, step.after.answer)


def test_a_scaled_step_scales_every_latent_by_its_name(queens):
    """Whatever order a reasoner has them in, and with dtypes of their own."""
    _, puzzle, puzzles = queens
    model, _ = make(puzzle, running_average=True, dtype="bfloat16")
    with torch.no_grad():
        lanes = begin(model, puzzle, puzzles)
        assert list(lanes.now.state.keys()) == ["y", "z", "y_weight"]
        _, whole = improve(model, puzzle, lanes)
        _, step = improve(model, puzzle, lanes, step_size=0.25)
    for name, before in lanes.now.state.items():
        found, after = step.after.state[name], whole.after.state[name]
        torch.testing.assert_close(found, before.lerp(after, 0.25))


def test_noise_of_size_zero_is_none(queens):
    model, puzzle, puzzles = queens
    plain = evaluate(model, puzzle, puzzles, 4)
    assert same(evaluate(model, puzzle, puzzles, 4, step_noise=0.0), plain)
    assert not same(evaluate(model, puzzle, puzzles, 4, step_noise=0.5), plain)


def test_noise_belongs_to_puzzle_and_step(queens):
    model, puzzle, puzzles = queens
    whole = evaluate(model, puzzle, puzzles, 3, 30, step_noise=0.5)
    parts = evaluate(model, puzzle, puzzles, 3, 7, step_noise=0.5)
    assert torch.equal(whole.answers, parts.answers)
    other = evaluate(model, puzzle, puzzles, 3, 30, step_noise=0.5, seed=1)
    assert not same(whole, other)
    drawn = []
    with torch.no_grad(), by_puzzle(0, CPU):
        lanes = begin(model, puzzle, puzzles)
        for _ in range(2):
            _, quiet = improve(model, puzzle, lanes)
            lanes, noisy = improve(model, puzzle, lanes, step_noise=0.1)
            for name in ("y", "z"):
                before, after = quiet.after.state[name], noisy.after.state[name]
                size = before.flatten(1).square().mean(1).sqrt()[:, None, None]
                drawn.append(((after - before) / size).flatten())
    for each in drawn:
        assert each.std() == pytest.approx(0.1, rel=0.05)
        assert abs(each.mean()) < 0.01
    correlation = torch.corrcoef(torch.stack(drawn)) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(drawn[0]) ** 0.5
