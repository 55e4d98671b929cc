"""Losses over the episode of revised answers, each against a slow reference."""

import math

import pytest
import torch

from pir.errors import UserError
from pir.objectives import (
    PPO,
    AdvantageWeighted,
    BestLater,
    DeepSupervision,
    GroupRelative,
    Objective,
)
from pir.rollout import stack
from tests.objective_steps import (
    PUZZLES,
    assert_same,
    cells,
    log_policy,
    loss_of,
    make_episodes,
    scores_by_hand,
    small_puzzle,
    zero,
)

puzzle = small_puzzle


@pytest.mark.parametrize("term", [GroupRelative(2), AdvantageWeighted(2, episode="revisions")])
def test_a_lane_that_keeps_the_right_answer_is_ahead_of_one_that_writes_a_wrong_one(term):
    """What is still gained, 0 against 0.8 in the second step, would say the opposite."""
    puzzle = PUZZLES["countdown"]()
    steps = make_episodes(puzzle, term, 2)
    held = torch.zeros(4)
    for step, score in zip(steps, [[1.0, 0.0, 0.5, 0.5], [1.0, 0.8, 0.5, 0.5]], strict=True):
        step.before.score, step.after.score = held, torch.tensor(score)
        held = step.after.score
    if isinstance(term, GroupRelative):
        credit = term.collect(stack(steps), puzzle)["advantage"][..., 0]
    else:
        credit = term.lane_weights(puzzle, stack(steps)).view(2, 4)
    assert (credit[:, 0] > credit[:, 1]).all()
    assert not credit[:, 2:].any()


# --- advantage-weighted regression ----------------------------------------------------------------


@pytest.mark.parametrize("advantage", ["group", "previous", "conflicts"])
def test_advantage_weighted_revisions(puzzle, advantage):
    term = AdvantageWeighted(2, advantage, "revisions", beta=0.3, clip=4.0)
    steps = make_episodes(puzzle, term)
    score, slow = scores_by_hand(puzzle, steps), zero()
    for k, step in enumerate(steps):
        policy, question = log_policy(step), step.puzzles["question"]
        free = ~puzzle.conflicts(question, step.after.answer)
        for b, written in enumerate(cells(puzzle, step)):
            pair = (b // 2 * 2, b // 2 * 2 + 1)
            for cell in written:
                earned = [score[3][lane] for lane in pair]
                if advantage == "previous":
                    earned = [score[3][lane] - score[k][lane] for lane in pair]
                if advantage == "conflicts":
                    earned = [float(free[lane, cell]) for lane in pair]
                if earned[0] == earned[1]:
                    continue  # nothing tells the two apart
                base = 0.0 if advantage == "previous" else sum(earned) / 2
                weight = min(math.exp((earned[b % 2] - base) / 0.3), 4.0)
                log_prob = policy[b, cell, int(step.after.answer[b, cell])]
                slow = slow - weight * log_prob / (12 * len(written))
    assert_same(loss_of(term, puzzle, *steps), slow, *steps)


def test_lanes_that_gain_the_same_by_other_ways_carry_nothing():
    """The sums of their gains differ by rounding alone."""
    puzzle = PUZZLES["countdown"]()
    term = AdvantageWeighted(2, episode="revisions")
    steps = make_episodes(puzzle, term)
    ways = torch.tensor([[0.3, 0.1, 0.7], [0.6, 0.9, 0.7]]).repeat(2, 1).T
    held = torch.full((4,), 0.2)
    for step, score in zip(steps, ways, strict=True):
        step.before.score, step.after.score = held, score
        held = score
    assert not term.lane_weights(puzzle, stack(steps))[:4].any()
    steps[-1].after.score = torch.tensor([0.7, 0.8, 0.7, 0.8])
    assert term.lane_weights(puzzle, stack(steps)).all()


def test_answers_are_drawn_while_a_term_needs_them():
    from pir.objective import Weighted

    terms = {"reward": Weighted(PPO(), from_step=5, until_step=8), "label": DeepSupervision()}
    objective = Objective(terms, "rollout")
    assert [objective.samples_answers(step) for step in (0, 4, 5, 7, 8)] == [
        False, False, True, True, False,
    ]  # fmt: skip


# --- policy iteration -----------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_best_later(puzzle, ahead):
    steps = make_episodes(puzzle, PPO(), 4)  # drawn answers, which differ from step to step
    score, slow, moved = scores_by_hand(puzzle, steps)[1:], zero(), 0
    for k, step in enumerate(steps):
        policy = log_policy(step)
        for b, written in enumerate(cells(puzzle, step)):
            seen = range(k, min(k + ahead, 3) + 1)
            best = max(seen, key=lambda j: (score[j][b], j))
            moved += best != k
            for cell in written:
                token = int(steps[best].after.answer[b, cell])
                slow = slow - policy[b, cell, token] / len(written) / 16
    assert moved > 0
    assert_same(loss_of(BestLater(ahead), puzzle, *steps), slow, *steps)


# --- what does not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PPO("bandits", gamma=0.9), "gamma=0.9"),
        (lambda: BestLater(0), "ahead=0"),
        (lambda: PPO(kl=-1.0), "kl=-1.0"),
        (lambda: PPO(clip=(0.2,)), "one or two numbers"),
        (lambda: PPO(clip=-0.2), "the first in"),
        (lambda: PPO(cells="some"), "cells"),
        (lambda: GroupRelative(episode="day"), "episode"),
        (lambda: AdvantageWeighted(advantage="label_gain", episode="revisions"), "label_gain"),
        (lambda: Objective({"reward": PPO()}), "objective.terms.reward needs objective.update"),
        (
            lambda: Objective(
                {"a": GroupRelative(4), "b": AdvantageWeighted(8, episode="revisions")}, "rollout"
            ),
            "puts 4 lanes on a puzzle, another term 8",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
