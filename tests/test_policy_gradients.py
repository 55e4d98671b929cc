"""Policy gradients, on the episode and as bandits, each loss against a slow reference."""

import math

import pytest
import torch
from tensordict import TensorDict

from pir.objectives import PPO, DeepSupervision, GroupRelative, Objective
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
    make_episodes,
    make_leaves,
    make_model,
    make_rollout,
    scores_by_hand,
    small_puzzle,
    zero,
)

puzzle = small_puzzle


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


def standardised(values):
    mean = sum(values) / len(values)
    return [
        (v - mean) / (math.sqrt(sum((w - mean) ** 2 for w in values) / len(values)) + 1e-4)
        for v in values
    ]


def assert_ppo(puzzle, term, steps, answers, advantage, target, kept):
    """Holds the loss of PPO, the critic's of weight 0.4 in it, against the reference."""
    mean = sum(advantage.values()) / len(advantage)
    spread = math.sqrt(sum((a - mean) ** 2 for a in advantage.values()) / len(advantage))
    standard = {key: (a - mean) / spread for key, a in advantage.items()}
    old = [log_policy(step).detach() for step in steps]
    for moved in unmoved_and_moved(steps):
        slow, cut = slow_surrogate(puzzle, steps, old, answers, standard)
        assert (min(cut) > 0) == moved
        for (k, b), aim in target.items():
            slow = slow + 0.4 * (aim - steps[k].after.value[b].double()) ** 2 / len(target)
        assert_same(loss_of(term, puzzle, *steps, **kept), slow, *steps)


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
    answers = [step.after.answer for step in steps]
    kept = term.collect(stack(steps), puzzle)
    assert_ppo(puzzle, term, steps, answers, advantage, target, kept)


def test_the_value_head_knows_the_puzzle_and_not_what_its_step_draws(puzzle):
    """Already in the first step, where most is gained: a start alone is the same for all."""
    model = make_critic(puzzle, written_answer=True)
    lanes = begin(model, puzzle, puzzle.sample(4, "train", seed=0))
    one, other = (improve(model, puzzle, lanes, sampled=True)[1] for _ in range(2))
    assert not torch.equal(one.after.answer, other.after.answer)
    assert torch.equal(one.after.value, other.after.value)
    assert len(one.after.value.unique()) == 4


def test_ppo_bandits_scores_an_answer_and_forgets_it(puzzle):
    """The drawn answers are not those that the rollout goes on from."""
    term = PPO("bandits", critic=0.4, **SETTINGS)
    steps = make_leaves(make_rollout(puzzle, 3, model=make_critic(puzzle)), scale=1.0)
    kept = term.collect(stack(steps), puzzle)
    drawn = [kept["answers"][k, :, 0] for k in range(3)]
    target, advantage = {}, {}
    for k, step in enumerate(steps):
        assert not torch.equal(drawn[k], step.after.answer)
        score = puzzle.verify(step.puzzles["question"], drawn[k]).score
        assert torch.allclose(kept["value_target"][k], score, atol=1e-6)
        for b, each in enumerate(score.tolist()):
            target[k, b], advantage[k, b] = each, each - step.after.value[b].item()
    assert kept["advantage"].mean().item() == pytest.approx(0, abs=1e-5)
    assert_ppo(puzzle, term, steps, drawn, advantage, target, kept)


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


# --- several updates per rollout, and one number for a pair ---------------------------------------


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
