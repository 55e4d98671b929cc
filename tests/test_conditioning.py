"""What a step is told beside the question, and steps that are taken again or ahead."""

import math

import pytest
import torch
from tensordict import TensorDict

from pir.models.conditioning import AnswerFlow
from pir.reasoner import MASKED_LOGIT, Optimality, halts
from pir.rollout import StepCounter, begin, counted, look_ahead, replay
from tests.objective_steps import gradients, make_model, make_rollout, small_puzzle, take_steps

puzzle = small_puzzle


INPUTS = {
    "plain": {},
    "step": {"step_embedding": True},
    "token": {"optimality_token": True},
    "answer": {"partial_answer": True},
    "own": {"reads_own_answer": True},
    "all": {"step_embedding": True, "optimality_token": True, "partial_answer": True, "cycles": 2},
}


def make_telling(puzzle, **options):
    """Makes a model whose tokens differ, as they do not before training."""
    model = make_model(puzzle, **options)
    if "optimality" in model.inputs:
        with torch.no_grad():
            model.conditioning.optimality.weight.normal_()
    return model


def some_condition(puzzle, batch, seed=0):
    """Tells the lanes various things."""
    generator = torch.Generator().manual_seed(seed)
    shown = torch.rand(batch, *puzzle.slot_mask.shape, generator=generator)
    return {"optimality": torch.arange(batch) % 3, "partial_answer": shown}


# --- steps again and ahead ------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("told", [False, True])
def test_a_step_taken_again_is_the_same(puzzle, inputs, told):
    condition = some_condition(puzzle, 4) if told else {}
    model = make_telling(puzzle, **INPUTS[inputs])
    steps = make_rollout(puzzle, 3, model=model, condition=lambda lanes: condition)
    for step in steps:
        again = replay(model, step)
        assert torch.equal(again.logits, step.after.logits)
        assert not torch.equal(again.logits, step.before.logits)
        parameters = list(model.parameters())
        ours, first = (
            gradients(policy.logits.softmax(-1).square().sum(), parameters)
            for policy in (again, step.after)
        )
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, first, strict=True))
    assert all(a.any() for a in ours)  # nothing is shown at the first step, so its gradient is 0


def test_a_step_taken_again_sees_new_parameters_and_conditions(puzzle):
    model = make_telling(puzzle, optimality_token=True)
    _, step = make_rollout(puzzle, 2, model=model)
    bad = replay(model, step, optimality=torch.full((4,), Optimality.BAD))
    assert (bad.logits - step.after.logits).abs().max() > 0.01
    with torch.no_grad():
        model.logit_head.weight.mul_(2)
    logits = torch.where(puzzle.slot_mask, 2 * step.after.logits, step.after.logits)
    assert torch.allclose(replay(model, step).logits, logits, atol=1e-5)


@pytest.mark.parametrize("inputs", INPUTS)
def test_looking_ahead_is_the_next_step(puzzle, inputs):
    model = make_telling(puzzle, halt_head=True, continue_head=True, **INPUTS[inputs])
    step, following = make_rollout(puzzle, 2, model=model)
    ahead = look_ahead(model, step)
    for name in ("logits", "halt_logit", "continue_logit"):
        part = getattr(ahead, name)
        assert torch.equal(part, getattr(following.after, name))
        assert not part.requires_grad
    assert not torch.equal(ahead.logits, step.after.logits)


def test_every_step_that_is_taken_counts(puzzle):
    model = make_model(puzzle, optimality_token=True)
    counter, outer = StepCounter(), StepCounter()
    *_, step = make_rollout(puzzle, 3, model=model, batch=5)
    counts = []
    with counted(outer), counted(counter):
        for take in (
            lambda: make_rollout(puzzle, 3, model=model, batch=5),
            lambda: replay(model, step),
            lambda: look_ahead(model, step),
            lambda: replay(model, step[:2]),
        ):
            take()
            counts.append(counter.lane_steps)
    assert counts == [15, 20, 25, 27]
    assert outer.lane_steps == 27
    replay(model, step)
    assert counter.lane_steps == 27


def test_the_first_lanes_of_a_step_are_a_step(puzzle):
    told = some_condition(puzzle, 4)
    model = make_telling(puzzle, **INPUTS["all"])
    _, step = make_rollout(puzzle, 2, model=model, condition=lambda lanes: told)
    part = step[:3]
    assert len(part.condition["partial_answer"]) == 3
    assert torch.allclose(replay(model, part).logits, step.after.logits[:3], atol=1e-5)


# --- what is told ---------------------------------------------------------------------------------


def test_tokens_start_as_one_policy(puzzle):
    """Then GOOD is what a lane is told by default."""
    model = make_model(puzzle, optimality_token=True)
    _, step = make_rollout(puzzle, 2, model=model)

    def under(token):
        return replay(model, step, optimality=torch.full((4,), token)).logits

    assert all(torch.equal(under(token), step.after.logits) for token in Optimality)
    with torch.no_grad():
        model.conditioning.optimality.weight.normal_()
    assert torch.equal(under(Optimality.GOOD), replay(model, step).logits)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        assert (under(one) - under(other)).abs().max() > 0.01


@torch.no_grad()
def test_what_is_told_is_injected_at_every_update(puzzle):
    """n times z <- f(x + told + z + y), then y <- f(y + z + told), all that T times."""
    model = make_telling(puzzle, latent_steps=3, **INPUTS["all"])
    condition = some_condition(puzzle, 4)
    _, step = make_rollout(puzzle, 2, model=model, condition=lambda lanes: condition)
    known, bias = model.conditioning, model.f.bias(model.dtype)
    told = condition["partial_answer"] @ known.answer.weight.T
    token = known.optimality.weight[condition["optimality"]]
    told = told + (known.step.weight[1] + token)[:, None]
    x, y, z = model.embed(step.puzzles["question"]), step.before.state["y"], step.before.state["z"]
    for _ in range(2):
        for _ in range(3):
            z = model.f(x + told + z + y, bias)
        y = model.f(y + z + told, bias)
    expected = model.logit_head(y).masked_fill(~puzzle.slot_mask, MASKED_LOGIT)
    assert torch.allclose(step.after.logits, expected, atol=1e-4)


@pytest.mark.parametrize("inputs", INPUTS)
def test_a_lane_does_not_see_what_its_neighbours_are_told(puzzle, inputs):
    model = make_telling(puzzle, improvement_steps=3, **INPUTS[inputs])
    number = torch.tensor([1, 2, 3, 7])
    question = puzzle.sample(4, "train", seed=6)["question"]
    condition = model.context(question).update(some_condition(puzzle, 4))
    state = model.start(question)
    together = model.read_out(model.improve(question, state, number, condition)).logits
    for b in range(4):
        own = (part[b : b + 1] for part in (question, state, number, condition))
        alone = model.improve(*own)
        assert torch.allclose(model.read_out(alone).logits[0], together[b], atol=1e-5)


def test_steps_are_numbered_up_to_the_last(puzzle):
    model = make_model(puzzle, step_embedding=True, improvement_steps=3)
    question = puzzle.sample(1, "train", seed=6)["question"]
    logits = []
    for k in (1, 2, 3, 4, 9):
        state = model.improve(question, model.start(question), torch.tensor([k]))
        logits.append(model.read_out(state).logits)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (logits[one] - logits[other]).abs().max() > 0.01
    assert torch.equal(logits[2], logits[3])
    assert torch.equal(logits[2], logits[4])


@pytest.mark.parametrize("what", ["optimality", "partial_answer"])
def test_what_is_told_changes_the_policy_of_that_lane_alone(puzzle, what):
    model = make_telling(puzzle, **INPUTS["all"])
    told = some_condition(puzzle, 4)
    (step,) = make_rollout(puzzle, model=model, condition=lambda lanes: told)
    changed = told[what].clone()
    changed[1] = {"optimality": 0, "partial_answer": 1.0}[what]
    moved = (replay(model, step, **{what: changed}).logits - step.after.logits).abs()
    assert moved[1].max() > 1e-3
    assert moved[[0, 2, 3]].max() < 1e-5


def test_a_model_ignores_what_it_has_no_input_for(puzzle):
    told = some_condition(puzzle, 4)
    for options in ({}, {"step_embedding": True}):
        model = make_model(puzzle, **options)
        assert not model.inputs
        plain, telling = (
            make_rollout(puzzle, 2, model=model, condition=lambda lanes, told=it: told)[1]
            for it in ({}, told)
        )
        assert torch.equal(plain.after.logits, telling.after.logits)


def test_own_answers_are_read_from_the_second_step_on(puzzle):
    model = make_model(puzzle, reads_own_answer=True)
    steps = make_rollout(puzzle, 3, model=model)
    question = steps[0].puzzles["question"]
    assert torch.equal(steps[0].condition["own_answer"], question)
    for earlier, later in ((0, 1), (1, 2)):
        read, state = steps[earlier].after.answer, steps[later].before.state
        assert torch.equal(steps[later].condition["own_answer"], read)
        plain = TensorDict({"own_answer": read}, batch_size=[4])
        by_hand = model.read_out(model.improve(question, state, steps[later].k, plain)).logits
        assert torch.equal(by_hand, steps[later].after.logits)
    assert not torch.equal(steps[1].condition["own_answer"], question)


def test_the_halt_head_stops_where_it_beats_its_rival():
    halt, rival = torch.tensor([-1.0, 1.0, 2.0]), torch.tensor([-2.0, 1.5, 1.5])
    assert halts(halt, None).tolist() == [False, True, True]
    assert halts(halt, rival).tolist() == [True, False, True]


# --- the flow of an answer ------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [3, 40])
def test_the_flow_reveals_draws_that_stay(puzzle, num_steps):
    """Step k + 1 reads k/K of n + 1 written cells, one order per rollout, drawn when revealed."""
    question = puzzle.sample(60, "train", seed=0)["question"]
    flow, written = AnswerFlow(puzzle, num_steps), puzzle.written(question)
    state = flow.start(question)
    order = state["order"]
    assert not state["partial_answer"].any()
    for b in range(60):
        ranks = (order[b][written[b]] * (written[b].sum() + 1)).round().tolist()
        assert sorted(ranks) == list(range(1, 1 + int(written[b].sum())))
    tokens = torch.randint(len(puzzle.vocabulary), question.shape)
    for k in range(1, num_steps + 3):
        earlier = state["partial_answer"]
        tokens = (tokens + 1) % len(puzzle.vocabulary)  # the policy is sure, of others every time
        logits = 100.0 * torch.nn.functional.one_hot(tokens, len(puzzle.vocabulary))
        state = flow.advance(question, order, earlier, logits, torch.full((60,), k))
        shown = state["partial_answer"]
        was, now = earlier.sum(-1) > 0, shown.sum(-1) > 0
        assert torch.equal(shown[was], earlier[was])
        assert torch.equal(shown[now & ~was].argmax(-1), tokens[now & ~was])
        share = min(k, num_steps - 1) / num_steps
        cells = written.sum(1)
        assert torch.equal(now.sum(1), (share * (cells.double() + 1) + 1e-6).floor().long())
        assert not now[~written].any()


def test_every_cell_is_as_likely_to_come_first(puzzle):
    question = puzzle.sample(1, "train", seed=0)["question"].expand(2000, -1)
    written, order = puzzle.written(question)[0], AnswerFlow(puzzle, 3).start(question)["order"]
    share = order.argmin(1).bincount(minlength=puzzle.length) / 2000
    even = 1 / int(written.sum())
    assert (share[written] - even).abs().max() < 5 * math.sqrt(even * (1 - even) / 2000)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_cells_are_drawn_from_the_policy(puzzle, temperature):
    question = puzzle.sample(1, "train", seed=0)["question"].expand(4000, -1)
    flow, written = AnswerFlow(puzzle, 2, temperature), puzzle.written(question)
    logits = torch.randn(puzzle.slot_mask.shape).masked_fill(~puzzle.slot_mask, -1e4)
    state = flow.start(question)
    every = logits.expand(4000, -1, -1)
    first = torch.ones(4000).long()
    later = flow.advance(question, state["order"], state["partial_answer"], every, first)
    shown = later["partial_answer"]
    cell = int(written[0].nonzero()[0])
    at_cell = shown[:, cell][shown[:, cell].sum(-1) > 0]
    spread = 5 * 0.5 / math.sqrt(len(at_cell))
    policy = logits[cell].exp() ** (1 / temperature)
    assert (at_cell.mean(0) - policy / policy.sum()).abs().max() < spread


def test_a_rollout_is_told_its_own_partial_answer(puzzle):
    model = make_model(puzzle, partial_answer=True, improvement_steps=3)
    steps = make_rollout(puzzle, 4, model=model)
    for step in steps:
        reached = step.before.context["partial_answer"]
        assert torch.equal(step.condition["partial_answer"], reached)
        assert not step.after.context["partial_answer"].requires_grad
    count = puzzle.written(steps[0].puzzles["question"]).sum(1)
    for k, step in enumerate(steps, start=1):
        expected = [min(k - 1, 2) * (n + 1) // 3 for n in count.tolist()]
        assert step.before.context["partial_answer"].sum((1, 2)).tolist() == expected


def test_what_a_rollout_is_told_does_not_enter_its_own_draws(puzzle):
    model = make_model(puzzle, partial_answer=True, improvement_steps=3)
    told = some_condition(puzzle, 4)
    for step in make_rollout(puzzle, 3, model=model, condition=lambda lanes: told):
        reached = step.after.context["partial_answer"]
        assert set(reached.unique().tolist()) == {0.0, 1.0}


def test_stochastic_rollouts_of_one_puzzle_differ(puzzle):
    for options, stochastic in (({"partial_answer": True}, True), ({}, False)):
        model = make_model(puzzle, **options)
        assert ("partial_answer" in model.inputs) == stochastic
        puzzles = puzzle.sample(1, "train", seed=6).expand(2).clone()
        *_, last = take_steps(model, puzzle, begin(model, puzzle, puzzles), 3)
        one, other = last.after.logits
        assert torch.allclose(one, other, atol=1e-5) != stochastic
