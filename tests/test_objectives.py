"""Losses that learn from labels or the verdict on one answer, each against a slow reference.

Value and gradient; then their settings.
"""

import itertools
import math

import pytest
import torch
from pir.envs.countdown.rules import Countdown

from pir.errors import UserError
from pir.objective import right_answers
from pir.objectives import (
    PPO,
    AdvantageWeighted,
    DeepSupervision,
    GroupRelative,
    GuidedLikelihood,
    Halting,
    InputCurriculum,
    MarginHinge,
    OptimalityGuidance,
    QHalting,
    SetLikelihood,
    Weighted,
)
from pir.objectives.targets import TargetGenerator
from pir.puzzle import PAD, Solutions
from pir.rollout import sample_answers
from tests.objective_steps import (
    assert_same,
    cells,
    gradients,
    leaves,
    log_policy,
    loss_of,
    make_leaves,
    make_model,
    make_rollout,
    make_step,
    slow_cross_entropy,
    small_puzzle,
    zero,
)


@pytest.fixture
def puzzle():
    return Countdown()


any_puzzle = small_puzzle


# --- cross-entropy --------------------------------------------------------------------------------


def test_deep_supervision(any_puzzle):
    step = make_step(any_puzzle)
    slow = slow_cross_entropy(any_puzzle, step, step.puzzles["solution"])
    assert_same(loss_of(DeepSupervision(), any_puzzle, step), slow, step)


class OneMore(TargetGenerator):
    """At step k the k - 1 first written cells have a target, a wrong one except at last."""

    def targets(self, puzzle, puzzles, num_steps):
        paths = puzzles["solution"][:, None].repeat(1, num_steps, 1)
        for b, written in enumerate(puzzle.written(puzzles["question"])):
            blank = written.nonzero().flatten().tolist()
            for k in range(1, num_steps):
                paths[b, k - 1, blank[k - 1 :]] = PAD
                for cell in blank[: k - 1]:
                    others = puzzle.slot_mask[cell].nonzero().flatten().tolist()
                    paths[b, k - 1, cell] = others[(others.index(paths[b, -1, cell]) + 1) % 4]
        return paths


def test_deep_supervision_of_a_path(any_puzzle):
    term = DeepSupervision(targets=OneMore())
    step = make_step(any_puzzle, term)
    paths = OneMore().targets(any_puzzle, step.puzzles, 3)
    step.puzzles.update(term.prepare(any_puzzle, step.puzzles, 3))
    assert torch.equal(step.puzzles["targets"], paths)
    step.k = torch.tensor([2, 1, 3, 7])
    chosen = torch.stack([paths[0, 1], paths[1, 0], paths[2, 2], paths[3, 2]])
    step_targets = slow_cross_entropy(any_puzzle, step, chosen)
    loss = loss_of(term, any_puzzle, step)
    assert_same(loss, step_targets, step)
    lanes = gradients(loss, leaves(step))[0].flatten(1).abs().sum(1)
    assert (lanes > 0).tolist() == [True, False, True, True]  # lane 1 has no target yet


# --- set likelihood -------------------------------------------------------------------------------


def test_set_likelihood_sums_over_all_that_the_verifier_accepts(puzzle):
    term = SetLikelihood(limit=64)
    step = make_step(puzzle, term)
    slow = zero()
    for b, question in enumerate(step.puzzles["question"]):
        assert len(set(puzzle.decode(question[None])[0][0].tolist())) == 3
        allowed = [puzzle.slot_mask[cell].nonzero().flatten().tolist() for cell in (4, 5)]
        pairs = torch.tensor(list(itertools.product(*allowed)))
        answers = question.repeat(len(pairs), 1)
        answers[:, 4:] = pairs.to(torch.uint8)
        solved = puzzle.verify(question.expand_as(answers), answers).solved
        policy = log_policy(step)[b]
        right = [policy[4, i] + policy[5, j] for i, j in pairs[solved].tolist()]
        slow = slow - torch.stack(right).logsumexp(0) / 4
    assert_same(loss_of(term, puzzle, step), slow, step)


def test_set_likelihood_is_the_log_of_the_expected_reward(puzzle):
    term = SetLikelihood(limit=64)
    step = make_step(puzzle, term, batch=1)
    expected_reward = math.exp(-loss_of(term, puzzle, step).item())
    logits = step.after.logits.detach()
    answers = sample_answers(puzzle, step.puzzles["question"], logits, 20_000)
    question = step.puzzles["question"].expand(20_000, -1)
    share = puzzle.verify(question, answers[0]).solved.float().mean().item()
    spread = math.sqrt(expected_reward * (1 - expected_reward) / 20_000)
    assert abs(share - expected_reward) < 5 * spread


def test_set_likelihood_leaves_out_what_is_not_valid(puzzle):
    term = SetLikelihood(limit=4)
    step = make_step(puzzle, term)
    assert step.puzzles["solutions_valid"].sum(1).max() > 1
    step.puzzles["solutions_valid"] = torch.tensor([[True, False, False, False]] * 4)
    first = slow_cross_entropy(puzzle, step, step.puzzles["solutions"][:, 0])
    assert_same(loss_of(term, puzzle, step), 2 * first, step)


@pytest.mark.parametrize("why", ["not enumerated", "unique"])
def test_set_likelihood_falls_back_on_the_label(puzzle, monkeypatch, why):
    """Then it is the cross-entropy of the whole answer: cells times deep supervision."""
    if why == "unique":
        monkeypatch.setattr(Countdown, "unique", True)
    else:
        monkeypatch.delattr(Countdown, "solutions")
    step = make_step(puzzle, SetLikelihood())
    loss = loss_of(SetLikelihood(), puzzle, step).item()
    assert loss == pytest.approx(2 * loss_of(DeepSupervision(), puzzle, step).item(), rel=1e-5)


# --- halting --------------------------------------------------------------------------------------


def cross_entropy(logit, worth):
    chance = logit.double().sigmoid()
    return -(worth * chance.log() + (1 - worth) * (1 - chance).log())


def some_right(step):
    """Lets the verifier accept every other lane, as a tiny model solves nothing."""
    step.after.solved = torch.arange(len(step.k)) % 2 == 0
    return step


def test_halting(puzzle):
    step = some_right(make_step(puzzle, halt_head=True))
    slow = zero()
    for logit, right in zip(step.after.halt_logit, [1, 0, 1, 0], strict=True):
        slow = slow + cross_entropy(logit, right) / 4
    assert_same(loss_of(Halting(), puzzle, step), slow, step)


def test_q_halting(puzzle):
    """The next step's heads say what going on is worth; lanes 0 and 2 are at their last step."""
    model = make_model(puzzle, halt_head=True, continue_head=True, improvement_steps=2)
    with torch.no_grad():  # so that going on is the better act in one of lanes 1 and 3
        ahead = make_rollout(puzzle, 2, model=model)[1].after
        gap = ahead.continue_logit - ahead.halt_logit
        model.continue_head.bias -= (gap[1] + gap[3]) / 2
    step, following = make_rollout(puzzle, 2, model=model)
    halt = following.after.halt_logit.detach().double().sigmoid()
    go_on = following.after.continue_logit.detach().double().sigmoid()
    assert (go_on > halt)[1] != (go_on > halt)[3]
    step.k = torch.tensor([2, 1, 3, 1])
    some_right(*make_leaves([step]))
    slow = zero()
    for b, right in enumerate([1, 0, 1, 0]):
        worth = halt[b] if b in (0, 2) else max(halt[b], go_on[b])
        slow = slow + cross_entropy(step.after.halt_logit[b], right) / 8
        slow = slow + cross_entropy(step.after.continue_logit[b], worth) / 8
    loss = loss_of(QHalting(), puzzle, step, model=model)
    assert_same(loss, slow, step)
    assert not any(g.any() for g in gradients(loss, list(model.parameters())))


# --- the advantage margin -------------------------------------------------------------------------


def test_guided_likelihood_at_full_weight_is_deep_supervision(any_puzzle):
    step = make_step(any_puzzle)
    fast = loss_of(GuidedLikelihood(scales=(1.0, 1.0)), any_puzzle, step)
    plain = loss_of(DeepSupervision(), any_puzzle, step)
    assert fast.item() == pytest.approx(plain.item(), abs=1e-6)
    (a,), (b,) = gradients(fast, leaves(step)), gradients(plain, leaves(step))
    assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("scales", [(0.5, 0.5), (2.0, 2.0), (0.5, 1.5)])
def test_guided_likelihood(any_puzzle, scales):
    step = make_step(any_puzzle)
    torch.manual_seed(3)
    fast = loss_of(GuidedLikelihood(scales=scales), any_puzzle, step)
    torch.manual_seed(3)
    weights = [scales[0] + (scales[1] - scales[0]) * w for w in torch.rand(4, 1)[:, 0].tolist()]
    c, u = log_policy(step).exp(), step.before.logits.double().softmax(-1)
    slow = zero()
    for b, written in enumerate(cells(any_puzzle, step)):
        w = weights[b]
        for cell in written:
            label = int(step.puzzles["solution"][b, cell])
            allowed = any_puzzle.slot_mask[cell].nonzero().flatten().tolist()
            guided = {a: u[b, cell, a] ** (1 - w) * c[b, cell, a] ** w for a in allowed}
            slow = slow - (guided[label] / sum(guided.values())).log() / len(written) / 4
    assert_same(fast, slow, step)


def test_margin_hinge(any_puzzle):
    step = make_step(any_puzzle)
    label = torch.nn.functional.one_hot(
        step.puzzles["solution"].long(), step.before.logits.shape[2]
    )
    with torch.no_grad():
        step.after.logits[:2] = (step.before.logits + 1.5 * label)[:2]
    c, u = log_policy(step).exp(), step.before.logits.double().softmax(-1)
    slow, met, short = zero(), 0, 0
    for b, written in enumerate(cells(any_puzzle, step)):
        for cell in written:
            label = int(step.puzzles["solution"][b, cell])
            allowed = any_puzzle.slot_mask[cell].nonzero().flatten().tolist()
            advantage = {a: (c[b, cell, a] / u[b, cell, a]).log() for a in allowed}
            margin = advantage[label] - sum(c[b, cell, a] * advantage[a] for a in allowed)
            lacking = 0.3 * (1 - c[b, cell, label].detach()) - margin
            if lacking > 0:
                slow = slow + lacking / len(written) / 4
            met, short = met + int(lacking <= 0), short + int(lacking > 0)
    assert met > 0
    assert short > 0
    assert_same(loss_of(MarginHinge(target=0.3), any_puzzle, step), slow, step)


def test_margin_hinge_lets_a_token_off_that_is_sure_already(puzzle):
    step = make_step(puzzle)
    label = torch.nn.functional.one_hot(
        step.puzzles["solution"].long(), step.before.logits.shape[2]
    )
    step.before.logits = step.after.logits.detach() + 40 * label
    step.after.logits = step.before.logits.clone().requires_grad_()
    assert loss_of(MarginHinge(target=0.3), puzzle, step).item() == pytest.approx(0, abs=1e-6)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "settings", "message"),
    [
        (Weighted, {"term": DeepSupervision(), "weight": -1.0}, "weight is -1.0"),
        (SetLikelihood, {"limit": 0}, "limit is 0"),
        (InputCurriculum, {"pseudo_target": -0.1}, "pseudo_target=-0.1"),
        (InputCurriculum, {"pseudo_target": 1.1}, "pseudo_target=1.1"),
        (GuidedLikelihood, {"scales": (-0.5, 1.0)}, "scales="),
        (GuidedLikelihood, {"scales": (1.5, 0.5)}, "scales="),
        (GuidedLikelihood, {"scales": (0.0, 0.0)}, "scales="),
        (MarginHinge, {"target": 0.0}, "target=0.0"),
        (OptimalityGuidance, {"negatives": 1.0}, "negatives=1.0"),
        (OptimalityGuidance, {"negatives": -0.1}, "negatives=-0.1"),
        (OptimalityGuidance, {"samples": 0}, "samples=0"),
        (OptimalityGuidance, {"unconditional": 1.0}, "unconditional=1.0"),
        (OptimalityGuidance, {"unconditional": -0.1}, "unconditional=-0.1"),
        (AdvantageWeighted, {"samples": 1}, "samples=1"),
        (AdvantageWeighted, {"advantage": "best"}, "advantage=best: allowed are group, previous"),
        (AdvantageWeighted, {"weights": "linear"}, "weights=linear: allowed are exponential"),
        (AdvantageWeighted, {"beta": 0.0}, "beta=0.0"),
        (AdvantageWeighted, {"clip": 0.0}, "clip=0.0"),
        (AdvantageWeighted, {"weights": "indicator", "beta": 0.5}, "beta=0.5, .* do nothing"),
        (AdvantageWeighted, {"weights": "indicator", "clip": 9.0}, "clip=9.0 do nothing"),
        (AdvantageWeighted, {"advantage": "label_gain", "samples": 8}, "samples=8 does nothing"),
        (GroupRelative, {"samples": 1}, "samples=1"),
        (GroupRelative, {"clip": (0.0, 0.2)}, "clip="),
        (GroupRelative, {"clip": (1.1, 0.2)}, "clip="),
        (GroupRelative, {"clip": (0.2, 0.0)}, "clip="),
        (GroupRelative, {"credit": "first"}, "credit=first: allowed are uniform, progressive"),
        (PPO, {"clip": (0.0, 0.2)}, "clip="),
        (PPO, {"clip": (1.1, 0.2)}, "clip="),
        (PPO, {"clip": (0.2, 0.0)}, "clip="),
        (PPO, {"gamma": 1.1}, "gamma=1.1"),
        (PPO, {"lmbda": -0.1}, "lmbda=-0.1"),
        (PPO, {"entropy": -0.1}, "entropy=-0.1"),
        (PPO, {"critic": -0.1}, "critic=-0.1"),
    ],
)
def test_settings_out_of_range_are_refused(term, settings, message):
    with pytest.raises(UserError, match=message):
        term(**settings)


class HardWhereEven(Countdown):
    """Gives the search up for every other question of a batch."""

    def solutions(self, question, limit):
        listed = super().solutions(question, limit)
        counts = listed.valid.sum(1)
        counts[::2] = -1
        return Solutions.counted(listed.answers, counts)


def test_a_puzzle_that_is_too_hard_falls_back_to_its_label_alone():
    puzzles = Countdown(4).sample(6, "train", seed=0)
    all_listed, all_valid = right_answers(Countdown(4), puzzles, 8)
    answers, valid = right_answers(HardWhereEven(4), puzzles, 8)
    assert (answers[1::2] == all_listed[1::2]).all()
    assert (valid[1::2] == all_valid[1::2]).all()
    assert all_valid[1::2].sum(1).max() > 1
    assert (answers[::2, 0] == puzzles["solution"][::2]).all()
    assert valid[::2].sum(1).tolist() == [1, 1, 1]


def test_a_puzzle_without_a_list_has_its_label_alone():
    class Unlisted(Countdown):
        lists_solutions = False

    puzzles = Countdown(4).sample(3, "train", seed=0)
    answers, valid = right_answers(Unlisted(4), puzzles, 8)
    assert (answers[:, 0] == puzzles["solution"]).all()
    assert valid.shape == (3, 1)
    assert valid.all()
