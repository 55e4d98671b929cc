"""The objectives that look at whole rollouts, against slow references: exits, and time."""

import math

import pytest
import torch

from pir.errors import UserError
from pir.models.looped import Looped
from pir.models.trm import TRM
from pir.objectives import (
    ExitDistribution,
    ExitImprovement,
    LastStep,
    Objective,
    Progressive,
    RandomDepth,
)
from pir.objectives.halting import exit_distribution
from pir.rollout import StepCounter, counted, replay
from pir.runs.folder import RunFolder
from pir.runs.load import load_trained
from tests.objective_steps import (
    assert_same,
    gradients,
    leaves,
    loss_of,
    make_leaves,
    make_model,
    make_rollout,
    slow_cross_entropy,
    small_puzzle,
    zero,
)
from tests.training_runs import assert_same_run, go_on, start

puzzle = small_puzzle


def slow_exits(logits):
    """Probabilities of leaving at each step, for one lane, by following it."""
    exits, stays = [], 1.0
    for logit in logits[:-1]:
        leaves = 1 / (1 + math.exp(-logit))
        exits.append(stays * leaves)
        stays *= 1 - leaves
    return [*exits, stays]


def test_the_exit_distribution_sums_to_one():
    torch.manual_seed(0)
    halts = 3 * torch.randn(5, 7)
    exits = exit_distribution(halts)
    assert torch.allclose(exits.sum(0), torch.ones(7), atol=1e-6)
    for lane in range(7):
        slow = torch.tensor(slow_exits(halts[:, lane].tolist()))
        assert torch.allclose(exits[:, lane], slow, atol=1e-6)
    assert torch.equal(exit_distribution(halts[:1]), torch.ones(1, 7))


def test_a_gate_that_is_sure_keeps_the_gradient_finite(puzzle):
    """Exits that are as good as never taken weigh nothing, and are not infinitely surprising."""
    steps = make_leaves(make_rollout(puzzle, 3, halt_head=True))
    halts = ([40.0, -200.0, 0.0, 40.0], [0.0, 200.0, -40.0, 40.0], [1.0, 0.0, 0.0, 0.0])
    for step, logit in zip(steps, halts, strict=True):
        step.after.halt_logit = torch.tensor(logit).requires_grad_()
    loss = loss_of(ExitDistribution(), puzzle, *steps)
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in gradients(loss, leaves(*steps)))


def test_exit_distribution_is_the_expected_loss_less_the_entropy(puzzle):
    steps = make_leaves(make_rollout(puzzle, 3, halt_head=True))
    term = ExitDistribution(beta=0.3)
    slow = zero()
    for b in range(4):
        stays, last = torch.ones((), dtype=torch.float64), len(steps) - 1
        for t, step in enumerate(steps):
            leaves = step.after.halt_logit[b].double().sigmoid()
            p = stays if t == last else stays * leaves
            stays = stays * (1 - leaves)
            nll = slow_cross_entropy(puzzle, step[: b + 1], step.puzzles["solution"][: b + 1])
            if b:
                before = slow_cross_entropy(puzzle, step[:b], step.puzzles["solution"][:b])
                nll = nll * (b + 1) - before * b
            slow = slow + (p * nll + 0.3 * p * p.log()) / 4
    assert_same(loss_of(term, puzzle, *steps), slow, *steps)


def test_equal_losses_leave_the_uniform_exit(puzzle):
    """Then the entropy decides, and its gradient vanishes where every exit is as likely."""
    steps = make_leaves(make_rollout(puzzle, 3, halt_head=True))
    logits = steps[0].after.logits
    for step, chance in zip(steps, (1 / 3, 1 / 2, 1.0), strict=True):
        logit = math.log(chance / (1 - chance)) if chance < 1 else 50.0
        halt = torch.full((4,), logit).requires_grad_()
        step.after.logits, step.after.halt_logit = logits, halt
    loss = loss_of(ExitDistribution(beta=0.5), puzzle, *steps)
    for gradient in gradients(loss, [step.after.halt_logit for step in steps]):
        assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("kind", [Looped, TRM])
def test_the_gate_learns_what_a_step_gained_and_nothing_else_learns(puzzle, kind):
    torch.manual_seed(3)
    model = kind(
        puzzle, hidden_size=16, heads=2, mixer="attention", dtype="float32", halt_head=True
    )
    steps = make_rollout(puzzle, 3, model=model)
    for step in steps:  # sharper policies, of which some steps gain more than others
        step.after.logits = 3 * step.after.logits.detach()
        step.before.logits = 3 * step.before.logits
    assert not loss_of(
        ExitImprovement(), puzzle, steps[0], model=model
    ).item()  # nothing lies before it
    slow, goes_on = zero(), []
    for step in steps[1:]:
        label = step.puzzles["solution"]
        for b in range(4):
            nll = []
            for logits in (step.before.logits, step.after.logits):
                policy = logits[b].double().log_softmax(-1)
                cells = step.written[b].nonzero().flatten().tolist()
                nll.append(-sum(float(policy[c, int(label[b, c])]) for c in cells) / len(cells))
            goes_on.append(1 / (1 + math.exp(-50 * (max(0.0, nll[0] - nll[1]) - 0.005))))
            stay = (-step.after.halt_logit[b].double()).sigmoid()
            slow = slow - (goes_on[-1] * stay.log() + (1 - goes_on[-1]) * (1 - stay).log()) / 8
    assert max(goes_on) > min(goes_on) + 0.1
    loss = loss_of(ExitImprovement(), puzzle, *steps, model=model)
    assert loss.item() == pytest.approx(slow.item(), rel=1e-4)
    names = [name for name, _ in model.named_parameters()]
    ours = dict(zip(names, gradients(loss, list(model.parameters())), strict=True))
    gate = [ours.pop(name) for name in ("halt_head.weight", "halt_head.bias")]
    assert not any(gradient.any() for gradient in ours.values())
    for a, b in zip(gate, gradients(slow, list(model.halt_head.parameters())), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert a.any()


def test_the_last_step_alone_counts(puzzle):
    steps = make_leaves(make_rollout(puzzle, 3))
    slow = slow_cross_entropy(puzzle, steps[2], steps[2].puzzles["solution"])
    loss = loss_of(LastStep(), puzzle, *steps)
    assert_same(loss, slow, *steps)
    assert not any(g.any() for g in gradients(loss, [s.after.logits for s in steps[:2]]))


def explicit(model, step, count):
    """Takes a step and those after it, one by one."""
    state = step.before.state
    for later in range(count):
        question = step.puzzles["question"]
        state = model.improve(question, state, step.k + later, step.condition)
    return model.read_out(state)


def test_a_step_again_and_further_ones(puzzle):
    model = make_model(puzzle)
    steps = make_rollout(puzzle, 3, model=model)
    counter = StepCounter()
    with counted(counter):
        ahead = replay(model, steps[0], count=3)
    assert counter.lane_steps == 3 * 4
    assert torch.equal(ahead.logits, steps[2].after.logits)
    ours, slow = (
        gradients(policy.logits.softmax(-1).square().sum(), list(model.parameters()))
        for policy in (ahead, explicit(model, steps[0], 3))
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, slow, strict=True))
    one = gradients(steps[2].after.logits.softmax(-1).square().sum(), list(model.parameters()))
    assert not all(torch.allclose(a, b) for a, b in zip(ours, one, strict=True))


def test_progressive_goes_on_from_a_random_step(puzzle):
    model = make_model(puzzle)
    steps = make_rollout(puzzle, 4, model=model)
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        skipped = int(torch.randint(4, ()))
        count = 1 + int(torch.randint(4 - skipped, ()))
        seen.add((skipped, count))
        torch.manual_seed(seed)
        loss = loss_of(Progressive(), puzzle, *steps, model=model)
        step = steps[skipped]
        slow = explicit(model, step, count)
        written = step.written
        nll = -slow.logits.log_softmax(-1).gather(-1, step.puzzles["solution"].long()[..., None])
        expected = (torch.where(written, nll.squeeze(-1), 0).sum(1) / written.sum(1)).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        ours, slopes = (gradients(each, list(model.parameters())) for each in (loss, expected))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, slopes, strict=True))
    assert len(seen) > 4


@pytest.mark.parametrize("window", [1, 2, 3, 9])
def test_gradient_goes_back_through_the_window(puzzle, window):
    """Of 3 steps the last `window` are one graph, from a state that is cut off."""
    model = make_model(puzzle)
    steps = make_rollout(puzzle, 3, model=model, backprop_steps=window)
    plain = make_rollout(puzzle, 3, model=model)
    for step, other in zip(steps, plain, strict=True):
        assert torch.equal(step.after.logits, other.after.logits)
        assert not step.before.state["y"].requires_grad
    assert [s.after.logits.requires_grad for s in steps] == [
        window == 1 or number > 3 - window for number in (1, 2, 3)
    ]
    inside = min(window, 3)
    parameters = list(model.parameters())

    def gradient(policy):
        return gradients(policy.logits.softmax(-1).square().sum(), parameters)

    ours = gradient(steps[2].after)
    slow = gradient(explicit(model, plain[3 - inside], inside))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(ours, slow, strict=True))
    if window > 1:
        short = gradient(explicit(model, plain[2], 1))
        assert not all(torch.allclose(a, b) for a, b in zip(ours, short, strict=True))


def test_random_depth(monkeypatch):
    depth = RandomDepth(0.5)
    torch.manual_seed(0)
    draws = [depth.draw(6) for _ in range(4000)]
    assert min(draws) == 1
    assert max(draws) == depth.longest(6) == 12
    uncut = RandomDepth(0.0)
    many = torch.tensor([uncut.draw(6) for _ in range(4000)], dtype=torch.float64)
    assert many.mean() == pytest.approx(7, abs=0.2)  # Poisson(6) + 1, hardly cut at 12
    assert torch.tensor(draws).float().var() > 1.3 * many.var()  # the rate is drawn as well
    torch.manual_seed(0)
    assert [depth.draw(6) for _ in range(20)] == draws[:20]
    monkeypatch.setattr(RandomDepth, "longest", lambda self, mean: 10**6)
    whole = torch.tensor([depth.draw(6) for _ in range(4000)], dtype=torch.float64)
    assert whole.mean() == pytest.approx(7, abs=0.3)
    with pytest.raises(UserError, match=r"objective\.depth\.deviation=-1"):
        RandomDepth(-1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backprop_steps": 2}, "update=window or rollout"),
        ({"backprop_steps": 0, "update": "rollout"}, "backprop_steps=0"),
        ({"backprop_steps": 2, "update": "rollout", "epochs": 2}, "epochs=1"),
        ({"depth": RandomDepth()}, "update=rollout"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Objective({"a": ExitImprovement()}, **options)


PUBLISHED = {
    "exit_distribution": ["model=looped"],
    "recurrent_depth": ["model=recurrent_depth"],
    "progressive": ["model=deep_thinking"],
}


def published(objective, *more):
    return [
        f"objective={objective}", *PUBLISHED[objective], "model.improvement_steps=3",
        "trainer.log_every=2", "trainer.eval_every=5", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("objective", PUBLISHED)
def test_published_training_resumes_to_the_bit(tmp_path, objective):
    words = published(objective, "trainer.max_optimizer_steps=8")
    whole = start(tmp_path / "whole", *words)
    whole.train()
    start(tmp_path / "parts", *words, "trainer.max_optimizer_steps=3").train()
    go_on(tmp_path / "parts", *words).train()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    if objective != "recurrent_depth":  # which draws the depth
        assert whole.progress.improvement_step == 8 * 3


def test_the_second_stage_trains_the_gate_alone(tmp_path):
    start(tmp_path / "one", *published("exit_distribution")).train()
    words = published("exit_distribution", "objective.terms.supervision.weight=0")
    two = start(tmp_path / "two", *words, "objective.terms.gate.weight=1")
    two.warm_start(RunFolder(tmp_path / "one"))
    before = {name: p.clone() for name, p in two.reasoner.named_parameters()}
    two.train()
    changed = {n for n, p in two.reasoner.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"halt_head.weight", "halt_head.bias"}
    # no share of solved puzzles tells of a better gate, and yet the trained one is what is used
    used = load_trained(two.folder, "cpu")[0].reasoner.state_dict()
    assert not torch.equal(used["halt_head.weight"], before["halt_head.weight"])
