"""How the objective combines its terms: weights, schedule, what they prepare and keep, epochs."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown

from pir.errors import UserError
from pir.objectives import (
    PPO,
    DeepSupervision,
    GroupRelative,
    Objective,
    Term,
    Weighted,
)
from pir.rollout import StepCounter, begin, counted, stack
from tests.objective_steps import (
    loss_of,
    make_leaves,
    make_model,
    make_rollout,
    make_step,
)


@pytest.fixture
def puzzle():
    return Countdown()


class Watch(Term):
    """Keeps what it is asked, and has a loss of the last step."""

    conditions = ("optimality",)
    whole_rollouts = True

    def __init__(self):
        self.asked, self.seen = 0, []

    def prepare(self, puzzle, puzzles, num_steps):
        return {"watched": torch.full((len(puzzles),), num_steps)}

    def condition(self, lanes):
        return {"optimality": lanes.k + 5}

    def collect(self, rollout, puzzle):
        self.asked += 1
        return {"logits": rollout.after.logits.detach()}

    def loss(self, rollout, puzzle, reasoner):
        self.seen.append(rollout)
        return rollout[-1].after.logits.softmax(-1).square().sum()


def test_an_objective_weighs_and_schedules_its_terms(puzzle):
    step, plain = make_step(puzzle), DeepSupervision()
    objective = Objective(
        {"a": Weighted(plain, weight=0.5, until_step=10), "b": Weighted(plain, from_step=5)}
    )
    whole = loss_of(plain, puzzle, step).item()
    at = {}
    for optimizer_step in (0, 4, 5, 9, 10):
        ((losses, *_),) = objective.losses(stack([step]), puzzle, None, optimizer_step)
        at[optimizer_step] = {name: loss.item() for name, loss in losses.items()}
    assert at[0] == at[4] == {"a": pytest.approx(whole / 2)}
    assert at[5] == at[9] == {"a": pytest.approx(whole / 2), "b": pytest.approx(whole)}
    assert at[10] == {"b": pytest.approx(whole)}
    assert tuple(objective.terms) == ("a", "b")


def test_an_objective_asks_its_terms_by_schedule(puzzle):
    """Every term prepares all puzzles; only those that act are heard before a step."""
    late = Weighted(Watch(), from_step=5)
    objective = Objective({"now": DeepSupervision(), "late": late}, update="rollout")
    puzzles = objective.prepare(puzzle, puzzle.sample(3, "train", seed=0), 4)
    assert puzzles["watched"].tolist() == [4, 4, 4]
    lanes = begin(make_model(puzzle), puzzle, puzzles)
    assert objective.condition(lanes, 4) == {}
    assert objective.condition(lanes, 5)["optimality"].tolist() == [5, 5, 5]


def test_a_rollout_costs_the_mean_of_its_steps(puzzle):
    steps, plain = make_leaves(make_rollout(puzzle, 3)), DeepSupervision()
    objective = Objective({"a": plain}, update="rollout")
    ((losses, *_),) = objective.losses(stack(steps), puzzle, None, 0)
    each = [loss_of(plain, puzzle, step).item() for step in steps]
    assert max(each) - min(each) > 1e-3
    assert losses["a"].item() == pytest.approx(sum(each) / 3)


def test_epochs_take_the_steps_again_with_new_parameters(puzzle):
    watch, model, plain = Watch(), make_model(puzzle), DeepSupervision()
    rollout = stack(make_rollout(puzzle, 3, model=model))
    held, counter = rollout.after.logits.clone(), StepCounter()
    objective = Objective({"a": plain, "b": watch}, update="rollout", epochs=3)
    losses = []
    with counted(counter):
        for update, *_ in objective.losses(rollout, puzzle, model, 0):
            losses.append(update["a"].item())
            by_hand = [loss_of(plain, puzzle, step).item() for step in watch.seen[-1].unbind(0)]
            assert losses[-1] == pytest.approx(sum(by_hand) / 3)
            model.zero_grad()
            sum(update.values()).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
    assert losses[0] - losses[1] > 1e-3  # the update before it took effect
    assert losses[1] - losses[2] > 1e-3
    assert watch.asked == 1
    assert counter.lane_steps == 2 * 3 * 4
    for seen in watch.seen:
        assert torch.equal(seen.experience["logits"], held)
        assert torch.equal(seen.before.state["z"], rollout.before.state["z"])
        assert torch.equal(seen.before.logits, rollout.before.logits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective({}), "objective.terms is empty"),
        (
            lambda: Objective({"norm": DeepSupervision()}),
            "objective.terms.norm: that name is taken",
        ),
        (lambda: Objective({"a": DeepSupervision()}, update="never"), "update=never: allowed are"),
        (lambda: Objective({"a": DeepSupervision()}, epochs=2), "epochs=2: 1, or more with"),
        (lambda: Objective({"a": Watch()}, update="rollout", epochs=0), "epochs=0"),
        (lambda: Objective({"a": Watch()}), "terms.a needs objective.update=rollout"),
        (lambda: Objective({"a": PPO()}), "terms.a needs objective.update=rollout"),
        (lambda: Objective({"a": GroupRelative()}), "terms.a needs objective.update=rollout"),
        (
            lambda: Objective({"a": Weighted(DeepSupervision(), until_step=10)}),
            "acts at optimizer step 10",
        ),
        (
            lambda: Objective({"a": Weighted(DeepSupervision(), from_step=5)}),
            "acts at optimizer step 0",
        ),
        (
            lambda: Objective({"a": Weighted(DeepSupervision(), weight=0.0)}),
            "acts at optimizer step 0",
        ),
    ],
)
def test_terms_that_do_not_fit_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


class Told(DeepSupervision):
    figure_names = ("sure",)

    def figures(self, rollout):
        return {"certain": rollout.after.score.mean()}


def whole_numbers(self, rollout, puzzle, reasoner):
    return rollout.k


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (Told(), r"terms.a: figures\(\) returns certain; figure_names says sure"),
        (type("Odd", (Term,), {"loss": lambda *_: 0.5})(), r"terms.a: its loss is 0.5; allowed"),
        (type("Odd", (Term,), {"loss": whole_numbers})(), r"terms.a: its loss is shape \(1, 2\)"),
    ],
)
def test_what_a_term_may_not_return(puzzle, term, message):
    rollout = stack([make_step(puzzle)])[:, :2]
    with pytest.raises(UserError, match=message):
        next(Objective({"a": term}).losses(rollout, puzzle, None, 0))


def test_a_single_step_is_no_rollout(puzzle):
    with pytest.raises(UserError, match=r"shape \(K, B\) is needed.*pir\.stack\(\[step\]\)"):
        next(Objective({"a": DeepSupervision()}).losses(make_step(puzzle), puzzle, None, 0))


@pytest.mark.parametrize("terms", [[DeepSupervision()], DeepSupervision()])
def test_terms_need_names(terms):
    with pytest.raises(UserError, match=r"objective.terms: .* terms by name are needed"):
        Objective(terms)


def test_puzzles_are_prepared_as_often_as_one_likes(puzzle):
    fresh = puzzle.sample(3, "train", seed=0)
    objective = Objective({"a": Watch()}, update="rollout")
    objective.prepare(puzzle, fresh, 2)
    assert "watched" not in fresh.keys()  # noqa: SIM118, a TensorDict has no `in`
    again = objective.prepare(puzzle, objective.prepare(puzzle, fresh, 2), 4)
    assert again["watched"].tolist() == [4, 4, 4]
    two = Objective({"a": Watch(), "b": Watch()}, update="rollout")
    with pytest.raises(UserError, match=r"terms.b and objective.terms.a both prepare watched"):
        two.prepare(puzzle, fresh, 4)
