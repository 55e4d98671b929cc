"""Losses over the episode of revised answers, each against a slow reference."""

import math

import pytest
import torch
from tensordict import TensorDict

from pir.errors import UserError
from pir.objectives import (
    PPO,
    AdvantageWeighted,
    BestLater,
    DeepSupervision,
    GroupRelative,
    Objective,
)
from pir.rollout import begin, changed, improve, replay, stack
from pir.training.build import build_objective
from tests.conftest import compose_config
from tests.objective_steps import (
    PUZZLES,
    assert_same,
    cells,
    gradients,
    log_policy,
    loss_of,
    make_leaves,
    make_model,
    make_rollout,
    zero,
)


@pytest.fixture(params=PUZZLES)
def puzzle(request):
    return PUZZLES[request.param]()


def make_episodes(puzzle, term, num_steps=3, **options):
    """Rollouts of 4 lanes by an untrained model that reads the answer written so far."""
    options = {"written_answer": True, "value_head": True} | options
    steps = make_rollout(puzzle, num_steps, term, lanes_per_puzzle=term.lanes_per_puzzle, **options)
    return make_leaves(steps)


def make_critic(puzzle, **options):
    """A model whose value head is not at its start, where all values are 0."""
    model = make_model(puzzle, value_head=True, **options)
    torch.nn.init.normal_(model.value_head.weight)
    return model


def unmoved_and_moved(steps):
    """Yields False, then True once the policies have moved far: ratios leave both bounds."""
    yield False
    torch.manual_seed(2)
    with torch.no_grad():
        for step in steps:
            step.after.logits.add_(torch.randn(step.after.logits.shape))
    yield True


# --- the clipped surrogate ------------------------------------------------------------------------

SETTINGS = {"clip": (0.1, 0.3), "entropy": 0.05, "kl": 0.03}


def slow_surrogate(puzzle, steps, old, answers, advantage, counted="all"):
    """Returns the loss of answers [k][b], and how often it was cut too low and too high."""
    slow, cut, (low, high) = zero(), [0, 0], SETTINGS["clip"]
    for k, step in enumerate(steps):
        policy, before = log_policy(step), step.before.logits.double().log_softmax(-1)
        for b, written in enumerate(cells(puzzle, step)):
            count = len(steps) * len(answers[0]) * len(written)
            for cell in written:
                c, u = policy[b, cell], before[b, cell]
                entropy, kl = -(c.exp() * c).sum(), (c.exp() * (c - u)).sum()
                slow = slow + (SETTINGS["kl"] * kl - SETTINGS["entropy"] * entropy) / count
                token = int(answers[k][b][cell])
                if counted == "changed" and token == int(step.before.answer[b, cell]):
                    continue
                ratio = (c[token] - old[k][b, cell, token]).exp()
                gain = ratio * advantage[k, b]
                part = min(max(ratio.item(), 1 - low), 1 + high) * advantage[k, b]
                if part < gain.item():
                    cut[ratio.item() > 1] += 1
                    gain = torch.tensor(part)
                slow = slow - gain / count
    return slow, cut


def scores_by_hand(puzzle, steps):
    """The score of every lane's answer before step 1, and after each step."""
    question = steps[0].puzzles["question"]
    held = [question, *(step.after.answer for step in steps)]
    return [puzzle.verify(question, answer).score.tolist() for answer in held]


def standardised(values):
    mean = sum(values) / len(values)
    return [
        (v - mean) / (math.sqrt(sum((w - mean) ** 2 for w in values) / len(values)) + 1e-4)
        for v in values
    ]


@pytest.mark.parametrize("counted", ["all", "changed"])
def test_group_relative_revisions(puzzle, counted):
    """Two lanes a puzzle; the advantage is where a lane ends, among its puzzle's lanes."""
    term = GroupRelative(2, cells=counted, **SETTINGS)
    steps = make_episodes(puzzle, term)
    question = steps[0].puzzles["question"]
    assert torch.equal(question[0::2], question[1::2])
    score = scores_by_hand(puzzle, steps)
    advantage = {}
    for k in range(3):
        for first in (0, 2):
            last = [score[3][b] for b in (first, first + 1)]
            advantage |= {(k, first + i): a for i, a in enumerate(standardised(last))}
    answers = [step.after.answer for step in steps]
    kept = term.collect(stack(steps), puzzle)
    old = [log_policy(step).detach() for step in steps]
    for moved in unmoved_and_moved(steps):
        slow, cut = slow_surrogate(puzzle, steps, old, answers, advantage, counted)
        assert (min(cut) > 0) == moved
        assert_same(loss_of(term, puzzle, *steps, **kept), slow, *steps)


def test_ppo_revisions(puzzle):
    model = make_critic(puzzle, written_answer=True)
    term = PPO(gamma=0.9, lmbda=0.7, critic=0.4, **SETTINGS)
    steps = make_leaves(make_rollout(puzzle, 4, term, model=model))
    score = scores_by_hand(puzzle, steps)
    head = [step.after.value.detach() for step in steps]  # before the step's answer is drawn
    advantage, target = {}, {}
    for b in range(4):
        value = [head[k][b].item() - score[k][b] for k in range(4)] + [0.0]
        gain = [score[k + 1][b] - score[k][b] for k in range(4)]
        error = [gain[k] + 0.9 * value[k + 1] - value[k] for k in range(4)]
        for k in range(4):
            advantage[k, b] = sum(0.63 ** (j - k) * error[j] for j in range(k, 4))
            target[k, b] = advantage[k, b] + head[k][b].item()
    mean = sum(advantage.values()) / 16
    spread = math.sqrt(sum((a - mean) ** 2 for a in advantage.values()) / 16)
    standard = {key: (a - mean) / spread for key, a in advantage.items()}
    answers = [step.after.answer for step in steps]
    kept = term.collect(stack(steps), puzzle)
    old = [log_policy(step).detach() for step in steps]
    for moved in unmoved_and_moved(steps):
        slow, cut = slow_surrogate(puzzle, steps, old, answers, standard)
        assert (min(cut) > 0) == moved
        for (k, b), aim in target.items():
            slow = slow + 0.4 * (aim - steps[k].after.value[b].double()) ** 2 / 16
        assert_same(loss_of(term, puzzle, *steps, model=model, **kept), slow, *steps)


def test_the_value_head_knows_the_puzzle_and_not_what_its_step_draws(puzzle):
    """Already in the first step, where most is gained: a start alone is the same for all."""
    model = make_critic(puzzle, written_answer=True)
    lanes = begin(model, puzzle, puzzle.sample(4, "train", seed=0))
    one, other = (improve(model, puzzle, lanes, sampled_answer=True)[1] for _ in range(2))
    assert not torch.equal(one.after.answer, other.after.answer)
    assert torch.equal(one.after.value, other.after.value)
    assert len(one.after.value.unique()) == 4


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


def test_ppo_bandits_scores_an_answer_and_forgets_it(puzzle):
    """The drawn answers are not those that the rollout goes on from."""
    model = make_critic(puzzle)
    term = PPO("bandits", critic=0.4, **SETTINGS)
    steps = make_leaves(make_rollout(puzzle, 3, model=model))
    kept = term.collect(stack(steps), puzzle)
    drawn = [kept["answers"][k, :, 0] for k in range(3)]
    target, advantage = {}, {}
    assert any(not torch.equal(drawn[k], step.after.answer) for k, step in enumerate(steps))
    for k, step in enumerate(steps):
        for b, score in enumerate(puzzle.verify(step.puzzles["question"], drawn[k]).score.tolist()):
            target[k, b], advantage[k, b] = score, score - step.after.value[b].item()
    mean = sum(advantage.values()) / 12
    spread = math.sqrt(sum((a - mean) ** 2 for a in advantage.values()) / 12)
    standard = {key: (a - mean) / spread for key, a in advantage.items()}
    old = [log_policy(step).detach() for step in steps]
    for moved in unmoved_and_moved(steps):
        slow, cut = slow_surrogate(puzzle, steps, old, drawn, standard)
        assert (min(cut) > 0) == moved
        for (k, b), aim in target.items():
            slow = slow + 0.4 * (aim - steps[k].after.value[b].double()) ** 2 / 12
        assert_same(loss_of(term, puzzle, *steps, model=model, **kept), slow, *steps)


def test_one_written_cell_is_torchrls_ppo():
    """With one cell to write, ratios of cells are ratios of answers."""
    from tensordict.nn import ProbabilisticTensorDictModule as Draw
    from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule
    from torch.distributions import Categorical
    from torchrl.objectives import ClipPPOLoss

    torch.manual_seed(0)
    logits, old = torch.randn(12, 5, requires_grad=True), torch.randn(12, 5).log_softmax(-1)
    action, advantage = torch.randint(5, (12,)), torch.randn(12)
    read = TensorDictModule(lambda x: x, in_keys=["logits"], out_keys=["logits"])
    draw = Draw(
        in_keys=["logits"],
        out_keys=["action"],
        distribution_class=Categorical,
        return_log_prob=True,
    )
    actor = ProbabilisticTensorDictSequential(read, draw)
    value = TensorDictModule(lambda x: x, in_keys=["value"], out_keys=["state_value"])
    loss = ClipPPOLoss(
        actor, value, clip_epsilon=SETTINGS["clip"], entropy_coeff=0.05, functional=False
    )
    taken = old.gather(1, action[:, None])[:, 0]
    batch = TensorDict(
        {"logits": logits, "action": action, "action_log_prob": taken}
        | {"advantage": advantage[:, None], "value": torch.zeros(12, 1)}
        | {"value_target": torch.zeros(12, 1)},
        batch_size=[12],
    )
    theirs = loss(batch)
    expected = theirs["loss_objective"] + theirs["loss_entropy"]

    puzzle = PUZZLES["countdown"]()
    (step,) = make_rollout(puzzle, 1, batch=12)
    step.after.logits = logits[:, None]
    step.written = torch.ones(12, 1, dtype=torch.bool)
    term = GroupRelative(2, "bandits", clip=SETTINGS["clip"], entropy=0.05)
    kept = {
        "answers": action.to(torch.uint8)[None, :, None, None],
        "log_probs": taken[None, :, None, None],
        "advantage": advantage[None, :, None],
        "credit": torch.ones(1, 12),
    }
    ours = loss_of(term, puzzle, step, **kept)
    assert ours.item() == pytest.approx(expected.item(), abs=1e-6)
    for a, b in zip(gradients(ours, [logits]), gradients(expected, [logits]), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert a.any()


def test_figures_of_an_update(puzzle):
    """By hand, cell by cell; nothing has moved in the first update."""
    term = PPO(clip=(0.1, 0.3))
    steps = make_episodes(puzzle, term)
    kept = term.collect(stack(steps), puzzle)
    old = [log_policy(step).detach() for step in steps]
    score = scores_by_hand(puzzle, steps)
    for moved in unmoved_and_moved(steps):
        rollout = stack(steps).detach()
        rollout.experience = TensorDict(kept, batch_size=rollout.shape)
        figures = {name: value.item() for name, value in term.figures(rollout).items()}
        expected = {"return": 0.0, "entropy": 0.0, "moved": 0.0, "clipped": 0.0}
        for b in range(4):
            expected["return"] += (score[-1][b] - score[0][b]) / 4
            for k, step in enumerate(steps):
                policy, written = log_policy(step)[b], cells(puzzle, step)[b]
                for cell in written:
                    token = int(step.after.answer[b, cell])
                    log_ratio = (policy[cell, token] - old[k][b, cell, token]).item()
                    ratio, share = math.exp(log_ratio), 1 / (12 * len(written))
                    entropy = -(policy[cell].exp() * policy[cell]).sum().item()
                    expected["entropy"] += entropy * share
                    expected["moved"] += (ratio - 1 - log_ratio) * share
                    expected["clipped"] += (not 0.9 <= ratio <= 1.3) * share
        explained = figures.pop("explained")
        assert figures == pytest.approx(expected, abs=1e-5)
        assert (figures["clipped"] > 0.1) == moved
    target, value = kept["value_target"].double(), stack(steps).after.value.double()
    assert explained == pytest.approx((1 - (target - value).var() / target.var()).item(), abs=1e-5)


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


# --- several updates per rollout, and what does not fit -------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: PPO(**SETTINGS), lambda: GroupRelative(4), lambda: GroupRelative(6, "bandits")]
)
def test_later_epochs_compare_with_the_policy_that_acted(puzzle, make):
    """The second update has the ratios of the steps taken again to those of the rollout."""
    term, kept = make(), {}
    collect = term.collect
    term.collect = lambda *args: kept.setdefault("it", collect(*args))
    model = make_model(puzzle, value_head=True, written_answer=True)
    steps = make_rollout(puzzle, 2, term, 16, model=model, lanes_per_puzzle=term.lanes_per_puzzle)
    objective = Objective({"reward": term, "label": DeepSupervision()}, "rollout", epochs=2)
    updates = objective.losses(stack(steps), puzzle, model, 0)
    sum(next(updates).terms.values()).backward()
    torch.optim.SGD(model.parameters(), lr=0.3).step()
    again_by = next(updates)
    second = again_by.terms["reward"]
    assert list(again_by.figures) == [f"reward_{name}" for name in term.figure_names]
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


def test_one_number_clips_on_both_sides():
    objective = build_objective(
        compose_config("objective=ppo", "objective.terms.reward.clip=0.2").objective
    )
    assert objective.terms["reward"].term.clip == (0.2, 0.2)


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
