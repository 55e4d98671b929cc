"""Several noisy starts per puzzle: selectors in evaluation, `pir solve` until one is right."""

import json

import pytest
import torch
from pir.envs.queens.rules import Queens

from pir.errors import UserError
from pir.evaluation.breadth import breadth, check_starts, noisy_start, stillest
from pir.evaluation.rollouts import EVALUATION_SEED, evaluate
from pir.evaluation.solve import Stop, solve
from pir.exits.rules import Entropy, FixedDepth, Verifier
from pir.models.feedforward import FeedForward
from pir.models.trm import TRM
from tests.small_reasoners import SMALL

NOISE = 2.0


@pytest.fixture(scope="module")
def queens():
    torch.manual_seed(0)
    puzzle = Queens(hide=(1, 2))
    return TRM(puzzle, **SMALL).eval(), puzzle, puzzle.sample(40, "test", seed=0)


def test_the_stillest_rollout_by_hand():
    change = torch.tensor([
        [[0.0, 3.0, 3.0, 3.0], [9.0, 2.0, 2.0, 4.0], [0.0, 0.0, 9.0, 0.0]],
        [[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 2.0, 2.0], [9.0, 0.5, 0.5, 0.5]],
    ])  # fmt: skip
    assert stillest(change).tolist() == [1, 2]  # means 3, 8/3, 3 and 1, 2, 0.5; of the last three
    assert stillest(change[..., :1]).tolist() == [0, 1]


def test_starts_go_as_deep_as_asked_and_the_stillest_answer_is_chosen(queens):
    model, puzzle, puzzles = queens
    rows = breadth(model, puzzle, puzzles, 4, 0.5, 30, num_steps=6)
    found = {row["selector"]: row for row in rows}
    deep = evaluate(model, puzzle, puzzles, 6)
    assert found["first"]["forward_passes"] == 6 * model.passes_per_step
    assert found["first"]["solved"] == pytest.approx(float(deep.solved[:, -1].float().mean()))
    assert found["logit_change"]["starts"] == 4
    one = breadth(model, puzzle, puzzles, 1, 0.5, 30, num_steps=6)
    assert len({row["solved"] for row in one}) == 1


def test_starts_without_noise_differ_by_the_noise_of_steps(queens):
    model, puzzle, puzzles = queens
    rows = breadth(model, puzzle, puzzles, 4, 0.0, 30, step_noise=0.7)
    found = {row["selector"]: row["solved"] for row in rows}
    first = evaluate(model, puzzle, puzzles, model.improvement_steps, step_noise=0.7)
    assert found["first"] == pytest.approx(float(first.solved[:, -1].float().mean()))
    assert found["verifier"] > found["first"]


def test_starts_that_would_be_alike_are_refused(queens):
    model, puzzle, puzzles = queens
    with pytest.raises(UserError, match="starts=2: starts without noise are all the same"):
        solve(model, puzzle, list(puzzles["question"][:1]), starts=2, noise=0)
    blind = FeedForward(puzzle, hidden_size=8)
    with pytest.raises(UserError, match=r"breadth=3: .* set eval\.breadth=1, or eval\.step_noise"):
        check_starts(blind, "eval.breadth", 3, NOISE)
    check_starts(blind, "eval.breadth", 3, NOISE, step_noise=0.1)
    check_starts(blind, "eval.breadth", 1, NOISE)


def test_a_puzzle_is_begun_again_until_a_start_is_right(queens):
    model, puzzle, puzzles = queens
    depth = model.improvement_steps
    runs = [
        evaluate(
            model,
            puzzle,
            puzzles,
            depth,
            start=lambda q, noise=noise: noisy_start(model, q, noise),
            seed=EVALUATION_SEED + number,
        )
        for number, noise in enumerate((0.0, NOISE, NOISE, NOISE))
    ]
    solved = torch.stack([each.solved[:, -1] for each in runs], 1)
    scores = torch.stack([each.values["score"][:, -1] for each in runs], 1)
    # the first start that is right, or else the first of the highest score: argmax gives the first
    chosen = torch.where(solved.any(1), solved.int().argmax(1), scores.argmax(1))
    assert len(set(chosen.tolist())) > 2

    found = solve(model, puzzle, list(puzzles["question"]), batch_size=7, starts=4, noise=NOISE)
    assert [steps[-1].start - 1 for steps in found] == chosen.tolist()
    for row, steps in enumerate(found):
        answers = runs[chosen[row]].answers
        assert steps[-1].tokens == tuple(answers[row].tolist())
        assert [step.k for step in steps] == list(range(1, depth + 1))
    share = float(torch.tensor([steps[-1].solved for steps in found]).float().mean())
    rows = {row["selector"]: row for row in breadth(model, puzzle, puzzles, 4, NOISE, 40)}
    assert share == pytest.approx(rows["verifier"]["solved"])
    assert rows["first"]["solved"] < share


def test_starts_stop_by_the_exit_rule(queens):
    model, puzzle, puzzles = queens
    questions = list(puzzles["question"])
    fixed = solve(model, puzzle, questions, Stop(FixedDepth(), 2, 2), starts=3, noise=NOISE)
    found = solve(model, puzzle, questions, Stop(Verifier(), 1.0, 2), starts=3, noise=NOISE)
    assert {len(steps) for steps in fixed} == {2}
    assert {len(steps) for steps in found} == {1, 2}
    assert sum(steps[-1].solved for steps in found) >= sum(steps[-1].solved for steps in fixed)


def test_thresholds_are_in_the_unit_of_the_rule(queens):
    """Halfway between the entropies after the first step, half of the puzzles stop there."""
    model, puzzle, puzzles = queens
    entropy = evaluate(model, puzzle, puzzles, 1).values["entropy"][:, 0]
    threshold = float(entropy.sort().values[19:21].mean())

    def steps(stop):
        return [len(steps) for steps in solve(model, puzzle, puzzles["question"], stop)]

    most = model.improvement_steps
    found = steps(Stop(Entropy(), threshold, most))
    assert [count == 1 for count in found] == (entropy <= threshold).tolist()
    assert steps(Stop(Entropy(threshold), None, most)) == steps(Entropy(threshold)) == found


def test_solve_begins_again_from_the_command_line(pir_here, tiny_run):
    words = ["solve", f"run={tiny_run}", "puzzle=3 7 8 = 29"]
    assert "breadth=0: must be at least 1" in pir_here(*words, "breadth=0", code=2).stderr
    assert "noise=-1" in pir_here(*words, "noise=-1", code=2).stderr
    assert (
        "breadth=2: starts without noise" in pir_here(*words, "breadth=2", "noise=0", code=2).stderr
    )
    plain = json.loads(pir_here(*words, "output=json").stdout)
    assert plain["start"] == 1
    several = json.loads(pir_here(*words, "output=json", "breadth=6", "noise=2").stdout)
    assert several["steps"][-1]["score"] >= plain["steps"][-1]["score"]
    text = pir_here(*words, "breadth=6", "noise=2").stdout
    assert ("start " in text) == (several["start"] > 1)
