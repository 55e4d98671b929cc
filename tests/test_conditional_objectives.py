"""The terms that tell the reasoner something: what they say, and what they ask for in return."""

import math

import pytest
import torch

from pir.objectives import InputCurriculum, Objective, OptimalityGuidance
from pir.objectives.guidance import corrupted
from pir.reasoner import Optimality
from pir.rollout import begin, improve
from tests.objective_steps import (
    assert_same,
    cells,
    log_policy,
    loss_of,
    make_leaves,
    make_model,
    make_rollout,
    slow_cross_entropy,
    small_puzzle,
    zero,
)

puzzle = small_puzzle


# --- input curriculum -----------------------------------------------------------------------------


def curriculum_steps(puzzle, term, own):
    """Takes three steps, lanes 0 to 3 with given draws; returns them with what was told."""
    model = make_model(puzzle, partial_answer=True, improvement_steps=3)
    puzzles = puzzle.sample(4, "train", seed=6)
    objective = Objective({"it": term})
    puzzles = objective.prepare(puzzle, puzzles, 3)
    puzzles["shown_own"] = torch.tensor(own)
    lanes = begin(model, puzzle, puzzles)
    steps = []
    for _ in range(3):
        lanes, step = improve(model, puzzle, lanes, objective.condition(lanes, 0))
        steps.append(step)
    return steps


def test_input_curriculum_shows_a_growing_part_of_the_label(puzzle):
    steps = curriculum_steps(puzzle, InputCurriculum(), [False] * 4)
    earlier = torch.zeros_like(steps[0].condition["partial_answer"])
    counts = []
    for k, step in enumerate(steps, start=1):
        shown, times = step.condition["partial_answer"], step.puzzles["times"]
        order, label = step.before.context["order"], step.puzzles["answer"]
        expected = torch.zeros_like(shown)
        for b, written in enumerate(cells(puzzle, step)):
            first = sorted(written, key=lambda cell, b=b: float(order[b, cell]))
            for cell in first[: int(float(times[b, k - 1]) * (len(written) + 1))]:
                expected[b, cell, int(label[b, cell])] = 1.0
        assert torch.equal(shown, expected)
        assert (shown >= earlier).all()
        earlier = shown
        counts.append(int(shown.sum()))
    assert counts[0] < counts[-1]


def test_input_curriculum_draws_sorted_times(puzzle):
    puzzles = puzzle.sample(500, "train", seed=0)
    drawn = InputCurriculum().prepare(puzzle, puzzles, 4)
    times = drawn["times"]
    assert times.shape == (500, 4)
    assert (times[:, 1:] > times[:, :-1]).all()
    assert ((times >= 0) & (times < 1)).all()
    # the k-th of 4 even draws has the mean k / 5 and a deviation of at most 0.2
    expected = torch.arange(1, 5) / 5
    assert (times.mean(0) - expected).abs().max() < 5 * 0.2 / math.sqrt(500)
    own = InputCurriculum(pseudo_target=0.3).prepare(puzzle, puzzles, 4)["shown_own"]
    assert abs(own.float().mean() - 0.3) < 5 * math.sqrt(0.21 / 500)
    assert not drawn["shown_own"].any()


@pytest.mark.parametrize("own", [0, 1, 3])
def test_input_curriculum_shows_some_rollouts_their_own_draws(puzzle, own):
    steps = curriculum_steps(puzzle, InputCurriculum(), [lane < own for lane in range(4)])
    for step in steps[1:]:
        shown = step.condition["partial_answer"]
        reached = step.before.context["partial_answer"]
        assert torch.equal(shown[:own], reached[:own])
        label = torch.nn.functional.one_hot(step.puzzles["answer"].long(), shown.shape[2])
        assert ((shown[own:] == 0) | (label[own:] == 1)).all()
        assert not torch.equal(shown[own:], reached[own:])


def test_input_curriculum_always_asks_for_its_answer(puzzle):
    step = make_leaves(curriculum_steps(puzzle, InputCurriculum(), [False] * 4))[1]
    slow = slow_cross_entropy(puzzle, step, step.puzzles["answer"])
    assert_same(loss_of(InputCurriculum(), puzzle, step), slow, step)


def test_input_curriculum_shows_every_right_answer_alike(puzzle):
    one = puzzle.sample(40, "train", seed=0)
    puzzles = one.expand(100, 40).reshape(4000).clone()
    answers = InputCurriculum().prepare(puzzle, puzzles, 3)["answer"].view(100, 40, -1)
    for b in range(40):
        expected = {tuple(one["solution"][b].tolist())}
        if not puzzle.unique:
            listed, valid, _ = puzzle.solutions(one["question"][b : b + 1], 64)
            expected = {tuple(answer) for answer in listed[valid].tolist()}
        drawn = [tuple(answer) for answer in answers[:, b].tolist()]
        assert set(drawn) <= expected
        if len(expected) <= 5:  # even odds of 100 draws
            spread = 5 * math.sqrt(100 / len(expected) * (1 - 1 / len(expected)))
            counts = [drawn.count(answer) for answer in expected]
            assert max(abs(count - 100 / len(expected)) for count in counts) <= spread


# --- classifier-free guidance ---------------------------------------------------------------------


def make_conditional(puzzle, tokens, right=0.0, **settings):
    """Takes a step in lanes of given tokens, of which every other one learns right answers.

    The policies under different tokens differ, and the step's own leans to the label by `right`.
    """
    term = OptimalityGuidance(**settings)
    model = make_model(puzzle, optimality_token=True)
    with torch.no_grad():
        model.conditioning.optimality.weight.normal_(std=3.0)
    told = {"optimality": torch.tensor(tokens)}
    (step,) = make_rollout(puzzle, model=model, batch=len(tokens), condition=lambda lanes: told)
    step.puzzles["optimality"] = torch.tensor(tokens)
    step.puzzles["learns_good"] = torch.arange(len(tokens)) % 2 == 0
    label = torch.nn.functional.one_hot(
        step.puzzles["solution"].long(), step.before.logits.shape[2]
    )
    logits = step.after.logits + right * label
    step.after.logits = logits
    return term, step


def solved(puzzle, step, answers):
    return puzzle.verify(step.puzzles["question"], answers).solved.tolist()


GOOD_AND_BAD = [Optimality.GOOD, Optimality.BAD] * 20


def test_chosen_answers_are_of_the_wanted_kind(puzzle):
    """The policy is made to give right answers about as often as wrong ones."""
    term, step = make_conditional(puzzle, GOOD_AND_BAD, right=5.0, samples=2)
    written = puzzle.written(step.puzzles["question"])
    answers, found = term.answers(puzzle, step)
    kept = torch.where(written, step.puzzles["question"], answers)
    assert torch.equal(kept, step.puzzles["question"])
    good = torch.arange(40) % 2 == 0
    assert found[good].all()
    assert found[~good].sum() >= 10
    right = torch.tensor(solved(puzzle, step, answers))
    assert right[good].all()
    assert not right[~good & found[:, 0]].any()


def test_answers_that_the_policy_finds_by_itself_come_first(puzzle):
    """A right one that is not the label is learned if it is given; so is the wrong one given."""
    term, step = make_conditional(puzzle, GOOD_AND_BAD, samples=2)
    label = step.puzzles["solution"]
    others, valid, _ = puzzle.solutions(step.puzzles["question"], 2)
    right = others[torch.arange(40), valid.sum(1) - 1]
    wrong = label.clone()
    for b, written in enumerate(cells(puzzle, step)):
        wrong[b, written[:2]] = int(puzzle.slot_mask[written[0]].nonzero()[0])
    is_wrong = [not is_right for is_right in solved(puzzle, step, wrong)]
    for given, usable in ((right, [True] * 40), (wrong, is_wrong)):
        behaviour = 100.0 * torch.nn.functional.one_hot(given.long(), step.before.logits.shape[2])
        step.after.logits = behaviour
        answers, found = term.answers(puzzle, step)
        lanes = [b for b in range(40) if usable[b] and found[b]]
        assert len(lanes) > 30
        for b in lanes:
            is_good = b % 2 == 0
            changed = int((answers[b] != label[b]).sum())
            if is_good == (given is right):
                assert torch.equal(answers[b], given[b])
            else:  # the label, or one cell away from it
                assert changed == (0 if is_good else 1)
    assert puzzle.unique or not torch.equal(right, label)


def test_corrupted_labels_have_one_other_token(puzzle):
    """Every written cell as often, and every other token that it may hold."""
    puzzles = puzzle.sample(3, "train", seed=0)
    for question, label in zip(puzzles["question"], puzzles["solution"], strict=True):
        question, label = question.expand(2000, -1), label.expand(2000, -1)
        answers = corrupted(puzzle, question, label)
        assert ((answers != label).sum(1) == 1).all()
        cell, token = (answers != label).nonzero()[:, 1], answers[answers != label]
        written = puzzle.written(question)[0].nonzero().flatten().tolist()
        even = 1 / len(written)
        for place in written:
            share = (cell == place).float().mean()
            assert abs(share - even) < 5 * math.sqrt(even * (1 - even) / 2000)
            others = set(puzzle.slot_mask[place].nonzero().flatten().tolist())
            assert set(token[cell == place].tolist()) == others - {int(label[0, place])}


@pytest.mark.parametrize("negatives", [0.0, 0.3])
@pytest.mark.parametrize("unconditional", [0.0, 0.2])
def test_every_rollout_has_a_token(puzzle, negatives, unconditional):
    """Rollouts told nothing learn both kinds of answers, as often as the others."""
    term = OptimalityGuidance(negatives=negatives, unconditional=unconditional)
    puzzles = puzzle.sample(600, "train", seed=0)
    puzzles.update(term.prepare(puzzle, puzzles, 3))
    token, good = puzzles["optimality"], puzzles["learns_good"]
    untold = token == Optimality.NONE
    assert torch.equal(good[~untold], token[~untold] == Optimality.GOOD)
    for values, share in ((~good, negatives), (untold, unconditional), (~good[untold], negatives)):
        spread = math.sqrt(share * (1 - share) / max(1, len(values)))
        assert abs(values.float().sum() / max(1, len(values)) - share * (len(values) > 0)) <= (
            5 * spread + 1e-6
        )
    lanes = begin(make_model(puzzle, optimality_token=True), puzzle, puzzles)
    assert torch.equal(term.condition(lanes)["optimality"], token)


@pytest.mark.parametrize("all_right", [False, True])
def test_guidance(puzzle, monkeypatch, all_right):
    """If the verifier accepts everything, lanes that learn wrong answers learn nothing."""
    tokens = [Optimality.GOOD, Optimality.BAD, Optimality.NONE, Optimality.NONE]
    term, step = make_conditional(puzzle, tokens, samples=4)
    if all_right:
        verify = puzzle.verify
        monkeypatch.setattr(
            puzzle, "verify", lambda *of: verify(*of)._replace(solved=verify(*of).score >= 0)
        )
    (step,) = make_leaves([step])
    torch.manual_seed(3)
    fast = loss_of(term, puzzle, step)
    torch.manual_seed(3)
    answers, found = term.answers(puzzle, step)
    assert found[:, 0].tolist() == [True, not all_right] * 2
    slow, policy = zero(), log_policy(step)
    for b, written in enumerate(cells(puzzle, step)):
        for cell in written if found[b] else []:
            slow = slow - policy[b, cell, int(answers[b, cell])] / len(written) / 4
    assert_same(fast, slow, step)
