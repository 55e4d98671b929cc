"""Every loss against a slow reference, value and gradient, and the laws behind it."""

import itertools
import math

import pytest
import torch
from pir.envs.countdown import Countdown

from pir.errors import UserError
from pir.improvement import Lanes, Step, improvement_steps, sample_answers
from pir.models.trm import TRM
from pir.objectives import AdvantageWeighted, Combined, DeepSupervision, Halting, SetLikelihood


@pytest.fixture
def puzzle():
    return Countdown()


def make_step(puzzle: Countdown, batch: int = 4, halt_head: bool = False) -> Step:
    torch.manual_seed(1)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32", halt_head=halt_head)
    puzzles = puzzle.sample(batch, "train", seed=6)
    lanes = Lanes.begin(model, puzzle, puzzles)
    (step,) = improvement_steps(model, puzzle, lanes, 1)
    leaf = (3 * step.improved.logits.detach()).requires_grad_()
    step.improved = step.improved._replace(logits=leaf)
    return step


def gradient(loss: torch.Tensor, step: Step) -> torch.Tensor:
    (result,) = torch.autograd.grad(loss, step.improved.logits, retain_graph=True)
    return result


def assert_same(fast: torch.Tensor, slow: torch.Tensor, step: Step) -> None:
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5)
    assert torch.allclose(gradient(fast, step), gradient(slow, step), atol=1e-6)
    assert gradient(fast, step).abs().sum() > 0


def test_deep_supervision(puzzle):
    step = make_step(puzzle)
    policy = step.improved.logits.double().softmax(-1)
    slow = torch.zeros((), dtype=torch.float64)
    for b in range(4):
        for cell in (4, 5):
            slow = slow - policy[b, cell, int(step.puzzles["solution"][b, cell])].log() / 8
    assert_same(DeepSupervision().loss(puzzle, step), slow, step)


def test_set_likelihood_sums_over_all_that_the_verifier_accepts(puzzle):
    step = make_step(puzzle)
    term = SetLikelihood(limit=64)
    step.puzzles.update(term.prepare(puzzle, step.puzzles))
    slow = torch.zeros((), dtype=torch.float64)
    for b, question in enumerate(step.puzzles["question"]):
        assert len(set(puzzle.decode(question[None])[0][0].tolist())) == 3
        allowed = [puzzle.slot_mask[cell].nonzero().flatten().tolist() for cell in (4, 5)]
        pairs = torch.tensor(list(itertools.product(*allowed)))
        answers = question.repeat(len(pairs), 1)
        answers[:, 4:] = pairs.to(torch.uint8)
        solved = puzzle.verify(question.expand_as(answers), answers).solved
        policy = step.improved.logits[b].double().log_softmax(-1)
        right = [policy[4, i] + policy[5, j] for i, j in pairs[solved].tolist()]
        slow = slow - torch.stack(right).logsumexp(0) / 4
    assert_same(term.loss(puzzle, step), slow, step)


def test_set_likelihood_is_the_log_of_the_expected_reward(puzzle):
    step = make_step(puzzle, batch=1)
    term = SetLikelihood(limit=64)
    step.puzzles.update(term.prepare(puzzle, step.puzzles))
    expected_reward = math.exp(-term.loss(puzzle, step).item())
    logits = step.improved.logits.detach()
    answers = sample_answers(puzzle, step.puzzles["question"], logits, 20_000)
    question = step.puzzles["question"].expand(20_000, -1)
    share = puzzle.verify(question, answers[0]).solved.float().mean().item()
    spread = math.sqrt(expected_reward * (1 - expected_reward) / 20_000)
    assert abs(share - expected_reward) < 5 * spread


@pytest.mark.parametrize("weights", ["exponential", "indicator"])
@pytest.mark.parametrize("baseline", ["group", "previous"])
def test_advantage_weighted(puzzle, weights, baseline):
    step = make_step(puzzle)
    term = AdvantageWeighted(samples=8, weights=weights, baseline=baseline, beta=0.1, clip=5.0)
    torch.manual_seed(3)
    fast = term.loss(puzzle, step)
    torch.manual_seed(3)
    logits = step.improved.logits.detach()
    answers = sample_answers(puzzle, step.puzzles["question"], logits, 8)
    policy = step.improved.logits.double().log_softmax(-1)
    slow = torch.zeros((), dtype=torch.float64)
    informative = 0
    for b, question in enumerate(step.puzzles["question"]):
        scores = [float(puzzle.verify(question[None], a[None]).score) for a in answers[b]]
        base = sum(scores) / 8 if baseline == "group" else float(step.before.score[b])
        if max(scores) == min(scores):
            continue
        informative += 1
        for answer, score in zip(answers[b], scores, strict=True):
            advantage = score - base
            if weights == "exponential":
                weight = min(math.exp(advantage / 0.1), 5.0)
            else:
                weight = (1.0 if advantage > 0 else 0.0) + 0.1
            log_prob = policy[b, 4, int(answer[4])] + policy[b, 5, int(answer[5])]
            slow = slow - weight * log_prob / 32
    assert informative > 0
    assert_same(fast, slow, step)


def test_sampled_answers_keep_the_question(puzzle):
    step = make_step(puzzle)
    answers = sample_answers(puzzle, step.puzzles["question"], step.improved.logits, 5)
    assert answers.shape == (4, 5, 6)
    assert (answers[:, :, :4] == step.puzzles["question"][:, None, :4]).all()
    assert puzzle.slot_mask[torch.arange(4, 6), answers[:, :, 4:].long()].all()


def test_halting(puzzle):
    step = make_step(puzzle, halt_head=True)
    logit, right = step.improved.halt_logit.double(), step.after.solved
    slow = -(torch.where(right, logit.sigmoid(), 1 - logit.sigmoid())).log().mean()
    assert Halting().loss(puzzle, step).item() == pytest.approx(slow.item(), rel=1e-5)
    with pytest.raises(UserError, match="halt_head=true"):
        Halting().loss(puzzle, make_step(puzzle))


def test_combined_weighs_and_schedules_its_terms(puzzle):
    step = make_step(puzzle)
    objective = Combined(
        {"a": DeepSupervision(weight=0.5, until_step=10), "b": DeepSupervision(from_step=5)}
    )
    whole = DeepSupervision().loss(puzzle, step).item()
    at = {
        i: {n: v.item() for n, v in objective.losses(puzzle, step, i).items()} for i in (0, 5, 10)
    }
    assert at[0] == {"a": pytest.approx(whole / 2)}
    assert at[5] == {"a": pytest.approx(whole / 2), "b": pytest.approx(whole)}
    assert at[10] == {"b": pytest.approx(whole)}
    with pytest.raises(UserError, match="no term of the objective acts"):
        Combined({"a": DeepSupervision(until_step=10)})
    with pytest.raises(UserError, match="acts at optimizer step 0"):
        Combined({"a": DeepSupervision(from_step=5)})


@pytest.mark.parametrize("why", ["not enumerated", "unique"])
def test_set_likelihood_falls_back_on_the_label(puzzle, monkeypatch, why):
    """Then it is the cross-entropy of the whole answer: cells times deep supervision."""
    if why == "unique":
        monkeypatch.setattr(Countdown, "unique", True)
    else:
        monkeypatch.delattr(Countdown, "solutions")
    step = make_step(puzzle)
    step.puzzles.update(SetLikelihood().prepare(puzzle, step.puzzles))
    loss = SetLikelihood().loss(puzzle, step).item()
    assert loss == pytest.approx(2 * DeepSupervision().loss(puzzle, step).item(), rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DeepSupervision(weight=-1.0),
        lambda: SetLikelihood(limit=0),
        lambda: AdvantageWeighted(samples=1),
        lambda: AdvantageWeighted(baseline="best"),
        lambda: AdvantageWeighted(weights="linear"),
        lambda: AdvantageWeighted(beta=0.0),
        lambda: Combined({}),
        lambda: Combined({"a": DeepSupervision()}, update="never"),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(UserError):
        make()
