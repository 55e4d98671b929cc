"""Losses that learn from scored samples, each against a slow reference: value and gradient."""

import math
from itertools import pairwise

import pytest
import torch

from pir.objectives import (
    PPO,
    AdvantageWeighted,
    DeepSupervision,
    GroupRelative,
    Objective,
)
from pir.rollout import changed, replay, sample_answers, stack
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
                slow = slow - weight * policy[b, cell, int(answer[cell])] / (4 * 6)
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
                    slow = slow - omega * whole / (4 * len(scores))
    return slow, cut


@pytest.mark.parametrize("credit", CREDITS)
def test_group_relative(puzzle, credit):
    steps = make_leaves(make_rollout(puzzle, 3, halt_head=credit == "exit"))
    term = GroupRelative(samples=6, credit=credit)
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
    term = GroupRelative(samples=6, credit=credit, clip=(0.1, 0.3))
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


# --- proximal policy optimisation -----------------------------------------------------------------

PPO_SETTINGS = {
    "clip": (0.1, 0.3),
    "gamma": 0.9,
    "lmbda": 0.7,
    "entropy": 0.05,
    "critic": 0.4,
}


def slow_advantages(rewards, values, gamma, lmbda):
    """Sums (gamma lambda)^i of the later errors of one lane, written out."""
    count = len(rewards)
    following = [*values[1:], 0.0]
    errors = [rewards[k] + gamma * following[k] - values[k] for k in range(count)]
    return [
        sum((gamma * lmbda) ** (j - k) * errors[j] for j in range(k, count)) for k in range(count)
    ]


class SlowPPO:
    """Everything that PPO keeps of a rollout, and its loss, in plain numbers."""

    def __init__(self, puzzle, model, steps, actions):
        self.puzzle, self.model, self.actions = puzzle, model, actions
        self.old = [log_policy(step).detach() for step in steps]
        question, values = steps[0].puzzles["question"], self.values(steps)
        self.advantage, self.target = {}, {}
        for b in range(4):
            rewards = [
                score_of(puzzle, question[b], actions[k][b]) - float(step.before.score[b])
                for k, step in enumerate(steps)
            ]
            held = [value[b].item() for value in values]
            for k, advantage in enumerate(slow_advantages(rewards, held, 0.9, 0.7)):
                self.advantage[k, b], self.target[k, b] = advantage, advantage + held[k]
        mean = sum(self.advantage.values()) / len(self.advantage)
        square = sum((a - mean) ** 2 for a in self.advantage.values())
        spread = math.sqrt(square / len(self.advantage))
        self.advantage = {key: (a - mean) / spread for key, a in self.advantage.items()}

    def values(self, steps):
        """Lists V of the states before the steps; the first is that of the start."""
        start = self.model.read_out(steps[0].before.state).value
        return [start.double()] + [step.after.value.double() for step in steps[:-1]]

    def loss(self, steps):
        """Returns the loss, and how often the surrogate was cut too low and too high."""
        slow, cut, values = zero(), [0, 0], self.values(steps)
        for (k, b), advantage in self.advantage.items():
            policy, written = log_policy(steps[k])[b], cells(self.puzzle, steps[k])[b]
            picked = [(cell, int(self.actions[k][b, cell])) for cell in written]
            ratio = sum(policy[at] - self.old[k][b][at] for at in picked).exp()
            gain = ratio * advantage
            part = min(max(ratio.item(), 0.9), 1.3) * advantage
            if part < gain.item():
                cut[ratio.item() > 1] += 1
                gain = torch.tensor(part)
            entropy = -sum((policy[cell].exp() * policy[cell]).sum() for cell in written)
            error = (self.target[k, b] - values[k][b]) ** 2
            slow = slow + (-gain - 0.05 * entropy + 0.4 * error) / len(self.advantage)
        return slow, cut


def test_ppo(puzzle):
    model = make_model(puzzle, value_head=True)
    steps = make_leaves(make_rollout(puzzle, 4, model=model))
    term, head = PPO(**PPO_SETTINGS), list(model.value_head.parameters())
    for earlier, later in pairwise(steps):  # as they follow on one another
        later.before.value = earlier.after.value.detach()
    torch.manual_seed(3)
    experience = term.collect(stack(steps), puzzle)
    torch.manual_seed(3)
    question = steps[0].puzzles["question"]
    actions = [
        sample_answers(puzzle, question, step.after.logits.detach(), 1)[:, 0] for step in steps
    ]
    assert not any(value.requires_grad for value in experience.values())
    slow = SlowPPO(puzzle, model, steps, actions)
    expected, cut = slow.loss(steps)
    assert cut == [0, 0]
    fast = loss_of(term, puzzle, *steps, model=model, **experience)
    assert_same(fast, expected, *steps)
    for a, b in zip(gradients(fast, head), gradients(expected, head), strict=True):
        assert torch.allclose(a, b, atol=1e-6)  # by way of the value of the start
        assert a.any()
    with torch.no_grad():  # lanes 0 and 1 grow surer of what they did, 2 and 3 less so
        for step, action in zip(steps, actions, strict=True):
            did = torch.nn.functional.one_hot(action.long(), step.before.logits.shape[2])
            step.after.logits.add_(torch.tensor([0.8, 0.4, -0.4, -0.8])[:, None, None] * did)
            step.after.value.add_(0.5)
    later, cut = slow.loss(steps)
    assert min(cut) > 0
    assert_same(loss_of(term, puzzle, *steps, model=model, **experience), later, *steps)


def test_ppo_reaches_the_value_head_and_the_policy(puzzle):
    term, model = PPO(entropy=0.0), make_model(puzzle, value_head=True)
    steps = make_rollout(puzzle, 3, model=model)
    parameters = dict(model.named_parameters())
    kept = term.collect(stack(steps), puzzle)
    loss = loss_of(term, puzzle, *steps, model=model, **kept)
    found = dict(zip(parameters, gradients(loss, list(parameters.values())), strict=True))
    assert found["value_head.weight"].any()
    assert found["logit_head.weight"].any()
    assert found["token.weight"].any()


def test_ppo_by_default_lets_no_later_gain_be_worth_less(puzzle):
    """Undiscounted and with lambda = 1 the target is the sum of the rewards to come."""
    steps = make_rollout(puzzle, 3, value_head=True)
    term = PPO(lmbda=1.0)
    experience = term.collect(stack(steps), puzzle)
    question = steps[0].puzzles["question"]
    for b in range(4):
        to_come = 0.0
        for k in (2, 1, 0):
            answer = experience["action"][k, b].to(torch.uint8)
            to_come += score_of(puzzle, question[b], answer) - float(steps[k].before.score[b])
            assert experience["value_target"][k, b].item() == pytest.approx(to_come, abs=1e-5)


# --- several updates per rollout ------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: PPO(**PPO_SETTINGS), lambda: GroupRelative(samples=6)])
def test_later_epochs_compare_with_the_policy_that_acted(puzzle, make):
    """The second update has the ratios of the steps taken again to those of the rollout."""
    term, kept = make(), {}
    collect = term.collect
    term.collect = lambda *args: kept.setdefault("it", collect(*args))
    model = make_model(puzzle, value_head=True)
    steps = make_rollout(puzzle, 2, model=model)
    objective = Objective({"reward": term, "label": DeepSupervision()}, "rollout", epochs=2)
    updates = objective.losses(stack(steps), puzzle, model, 0)
    sum(next(updates).values()).backward()
    torch.optim.SGD(model.parameters(), lr=0.3).step()
    second = next(updates)["reward"]
    again = []
    for step in steps:
        policy = replay(model, step)._asdict()
        known = {name: part for name, part in policy.items() if part is not None}
        again.append(changed(step, after=step.after.replace(**known)))
    assert (again[0].after.logits - steps[0].after.logits).abs().max() > 0.01
    by_hand = loss_of(term, puzzle, *again, model=model, **kept["it"])
    assert second.item() == pytest.approx(by_hand.item(), rel=1e-5, abs=1e-6)
    unmoved = loss_of(term, puzzle, *steps, model=model, **kept["it"])
    assert abs(second.item() - unmoved.item()) > 1e-4
    assert next(updates, None) is None
