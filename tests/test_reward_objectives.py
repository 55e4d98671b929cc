"""Losses that learn from scored samples, each against a slow reference: value and gradient."""

import math

import pytest
import torch

from pir.objectives import AdvantageWeighted, GroupRelative
from pir.rollout import sample_answers, stack
from tests.objective_steps import (
    assert_same,
    cells,
    gradients,
    leaves,
    log_policy,
    loss_of,
    make_leaves,
    make_rollout,
    make_step,
    small_puzzle,
    zero,
)

puzzle = small_puzzle


def score_of(puzzle, question, answer):
    return float(puzzle.verify(question[None], answer[None]).score)


# --- advantage-weighted regression ----------------------------------------------------------------


def slow_weight(weights, advantage):
    if weights == "exponential":
        return min(math.exp(advantage / 0.05), 4.0)
    return (1.0 if advantage > 0 else 0.0) + 0.1


def answer_advantages(puzzle, step, answers, b, advantage):
    """Lists the advantages of a puzzle's samples at its written cells."""
    question = step.puzzles["question"][b]
    written = cells(puzzle, step)[b]
    if advantage == "conflicts":
        free = [~puzzle.conflicts(question[None], a[None])[0] for a in answers[b]]
        kept = {cell: sum(bool(f[cell]) for f in free) / len(free) for cell in written}
        return [{cell: float(f[cell]) - kept[cell] for cell in written} for f in free]
    scores = [score_of(puzzle, question, answer) for answer in answers[b]]
    base = sum(scores) / len(scores) if advantage == "group" else float(step.before.score[b])
    return [dict.fromkeys(written, score - base) for score in scores]


WEIGHTS = {
    "exponential": {"weights": "exponential", "beta": 0.05, "clip": 4.0},
    "indicator": {"weights": "indicator"},
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("advantage", ["group", "previous", "conflicts"])
def test_advantage_weighted_samples(puzzle, monkeypatch, weights, advantage):
    """Puzzles, or cells, whose samples are all alike are left out: all of lane 0."""
    step = make_step(puzzle)
    step.before.score = torch.tensor([0.0, 0.1, 0.3, 0.5])
    answers = sample_answers(puzzle, step.puzzles["question"], step.after.logits.detach(), 6)
    answers[0] = answers[0, :1]

    def draw(of, question, logits, count):
        assert (of, count) == (puzzle, 6)
        assert torch.equal(question, step.puzzles["question"])
        assert torch.equal(logits, step.after.logits)
        return answers

    monkeypatch.setattr("pir.objectives.advantage_weighted.sample_answers", draw)
    policy, slow, weighed = log_policy(step), zero(), set()
    for b, written in enumerate(cells(puzzle, step)):
        found = answer_advantages(puzzle, step, answers, b, advantage)
        for cell in written:
            alike = max(a[cell] for a in found) == min(a[cell] for a in found)
            for answer, credits in zip(answers[b], found, strict=True):
                weight = 0.0 if alike else slow_weight(weights, credits[cell])
                slow = slow - weight * policy[b, cell, int(answer[cell])] / (24 * len(written))
                weighed.add(weight)
    assert len(weighed) >= 3
    assert max(weighed) == (4.0 if weights == "exponential" else 1.1)
    term = AdvantageWeighted(6, advantage, **WEIGHTS[weights])
    fast = loss_of(term, puzzle, step)
    assert_same(fast, slow, step)
    assert not gradients(fast, leaves(step))[0][0].any()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_advantage_weighted_label(puzzle, weights):
    """The gain of a cell of the label, less the mean over the written ones; no sample is drawn."""
    step = make_step(puzzle)
    term = AdvantageWeighted(advantage="label_gain", **WEIGHTS[weights])
    before = torch.get_rng_state()
    fast = loss_of(term, puzzle, step)
    assert torch.equal(torch.get_rng_state(), before)
    c, u = log_policy(step), step.before.logits.double().log_softmax(-1)
    slow = zero()
    for b, written in enumerate(cells(puzzle, step)):
        label = {cell: int(step.puzzles["solution"][b, cell]) for cell in written}
        gained = {x: (c[b, x, label[x]] - u[b, x, label[x]]).item() for x in written}
        mean = sum(gained.values()) / len(written)
        for cell in written:
            weight = slow_weight(weights, gained[cell] - mean)
            slow = slow - weight * c[b, cell, label[cell]] / len(written) / 4
    assert_same(fast, slow, step)


def test_sampled_answers_keep_the_question(puzzle):
    step = make_step(puzzle)
    question = step.puzzles["question"]
    answers = sample_answers(puzzle, question, step.after.logits, 5)
    assert answers.shape == (4, 5, puzzle.length)
    written = puzzle.written(question)[:, None].expand(answers.shape)
    repeated = question[:, None].expand(answers.shape)
    assert torch.equal(answers[~written], repeated[~written])
    allowed = puzzle.slot_mask.expand(4, 5, -1, -1).gather(-1, answers.long()[..., None])
    assert allowed[..., 0][written].all()


# --- group-relative policy gradient ---------------------------------------------------------------

CREDITS = ("uniform", "progressive", "exit", "last")


def slow_credits(credit, steps, b):
    count = len(steps)
    if credit == "exit":
        result, survival = [], 1.0
        for index, step in enumerate(steps):
            leave = 1 / (1 + math.exp(-step.after.halt_logit[b].item()))
            leave = 1.0 if index == count - 1 else leave
            result.append(leave * survival)
            survival *= 1 - leave
        return result
    return {
        "uniform": [1 / count] * count,
        "progressive": [k / (count * (count + 1) / 2) for k in range(1, count + 1)],
        "last": [0.0] * (count - 1) + [1.0],
    }[credit]


@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("credit", CREDITS)
def test_credits(puzzle, credit, num_steps):
    steps = make_leaves(make_rollout(puzzle, num_steps, halt_head=True), scale=6)
    with torch.no_grad():
        found = GroupRelative(credit=credit).credits(stack(steps))
    expected = torch.tensor([slow_credits(credit, steps, b) for b in range(4)]).T
    assert found.shape == (num_steps, 4)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(found.sum(0), torch.ones(4), atol=1e-6)


def slow_group_relative(puzzle, steps, old, answers, credit, clip):
    """Returns the loss, and how often the surrogate was cut for a ratio too low and too high."""
    policies, slow, cut = [log_policy(step) for step in steps], zero(), [0, 0]
    for b, written in enumerate(cells(puzzle, steps[0])):
        question = steps[0].puzzles["question"][b]
        scores = [score_of(puzzle, question, answer) for answer in answers[b]]
        mean = sum(scores) / len(scores)
        spread = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
        for answer, score in zip(answers[b], scores, strict=True):
            advantage = (score - mean) / (spread + 1e-4)
            for k, omega in enumerate(slow_credits(credit, steps, b)):
                for cell in written:
                    token = int(answer[cell])
                    ratio = (policies[k][b, cell, token] - old[k][b, cell, token]).exp()
                    whole = ratio * advantage
                    part = min(max(ratio.item(), 1 - clip[0]), 1 + clip[1]) * advantage
                    if part < whole.item():
                        cut[ratio.item() > 1] += 1
                        whole = torch.tensor(part)
                    slow = slow - omega * whole / (4 * len(scores) * len(written))
    return slow, cut


@pytest.mark.parametrize("credit", CREDITS)
def test_group_relative(puzzle, credit):
    steps = make_leaves(make_rollout(puzzle, 3, halt_head=credit == "exit"))
    term = GroupRelative(6, "bandits", credit=credit)
    torch.manual_seed(3)
    experience = term.collect(stack(steps), puzzle)
    torch.manual_seed(3)
    question, last = steps[2].puzzles["question"], steps[2].after.logits.detach()
    answers = sample_answers(puzzle, question, last, 6)
    assert not any(value.requires_grad for value in experience.values())
    old = [log_policy(step).detach() for step in steps]
    first = loss_of(term, puzzle, *steps, **experience)
    slow, cut = slow_group_relative(puzzle, steps, old, answers, credit, (0.2, 0.28))
    assert cut == [0, 0]
    assert_same(first, slow, *steps)
    reached = [bool(gradients(first, [step.after.logits])[0].any()) for step in steps]
    assert reached == [credit != "last", credit != "last", True]


@pytest.mark.parametrize("credit", ["uniform", "last"])
def test_group_relative_clips_in_later_epochs(puzzle, credit):
    steps = make_leaves(make_rollout(puzzle, 3))
    term = GroupRelative(6, "bandits", credit=credit, clip=(0.1, 0.3))
    experience = term.collect(stack(steps), puzzle)
    old = [log_policy(step).detach() for step in steps]
    torch.manual_seed(2)
    for step in steps:
        with torch.no_grad():
            step.after.logits.add_(torch.randn(step.after.logits.shape))
    loss = loss_of(term, puzzle, *steps, **experience)
    slow, cut = slow_group_relative(
        puzzle, steps, old, experience["answers"][0], credit, (0.1, 0.3)
    )
    assert min(cut) > 0
    assert_same(loss, slow, *steps)


def test_credit_by_exit_needs_a_halt_head():
    needs = {credit: GroupRelative(credit=credit).outputs for credit in CREDITS}
    assert needs == dict.fromkeys(CREDITS, ()) | {"exit": ("halt_logit",)}
