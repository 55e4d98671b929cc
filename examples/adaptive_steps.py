"""Chooses the size of every step by the doubt before it: does that solve more puzzles?

Steps are made longer or shorter where doubt is above a threshold. Doubt is the entropy of the
policy, of whole puzzles (the mean over written cells) or of single cells, or the chance that the
halt head gives to a wrong answer. Sizes act on the latents or, as guidance, on the logits that are
read out at the end. The pair of size and threshold is chosen on validation puzzles and then tried
on the test puzzles.

    python examples/adaptive_steps.py zoo:sudoku9 --steps 8 --env 'clues=[24,26]'
"""

import argparse
from collections.abc import Sequence
from itertools import product

import torch
import yaml
from tensordict import TensorDict
from torch import Tensor

import pir
from pir.objective import masked_mean
from pir.puzzle import Puzzle
from pir.reasoner import Policy, Reasoner
from pir.rollout import begin, improve

Policies = tuple[Policy, Policy]

SIZES = (0.5, 0.75, 1.25, 1.5)
THRESHOLDS = {
    "entropy of the puzzle": (0.003, 0.03, 0.3),
    "entropy of the cell": (0.003, 0.03, 0.3),
    "halt head": (0.05, 0.5, 0.95),
}
"""For each kind of doubt, the thresholds that are tried: in nats, or a probability."""

AS_TRAINED = (1.0, 0.0)
"""A choice: size 1, whatever the threshold."""


def sizes(now: Policy, written: Tensor, size: float, threshold: float, by: str) -> Tensor:
    """Returns the size of every cell's step, float32 of shape (B, L).

    Args:
        now: the policy before the step.
        written: which cells count, (B, L).
        size: where doubt is above the threshold; elsewhere it is 1.
        threshold: of doubt.
        by: what doubt is, a key of `THRESHOLDS`.
    """
    if by == "halt head":
        assert now.halt_logit is not None
        doubt = torch.sigmoid(-now.halt_logit)[:, None].expand(written.shape)
    else:
        log_policy = now.logits.log_softmax(-1)
        doubt = -(log_policy.exp() * log_policy).sum(-1)
        if by == "entropy of the puzzle":
            doubt = masked_mean(doubt, written)[:, None].expand_as(doubt)
    return torch.where(doubt > threshold, size, 1.0)


@torch.inference_mode()
def last_step(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    steps: int,
    size: float = 1.0,
    threshold: float = 0.0,
    by: str = "entropy of the puzzle",
) -> Policies:
    """Takes steps, changes the latents by other sizes, and returns the last step's two policies."""
    written, lanes = puzzle.written(puzzles["question"]), begin(reasoner, puzzle, puzzles)
    candidates = getattr(reasoner, "candidates", None)  # several latents a cell
    for _ in range(steps):
        share = sizes(lanes.now, written, size, threshold, by)
        share = share if candidates is None else share[:, candidates.position]
        lanes, step = improve(reasoner, puzzle, lanes)
        if size != 1.0:
            for name, before in step.before.state.items():
                after = lanes.now.state[name]
                lanes.now.state[name] = before + share[..., None].to(after.dtype) * (after - before)
            policy = reasoner.read_out(lanes.now.state)
            lanes.now.logits, lanes.now.halt_logit = policy.logits, policy.halt_logit
    before, now = step.before, lanes.now
    return Policy(before.logits, before.halt_logit), Policy(now.logits, now.halt_logit)


def solved(
    puzzle: Puzzle,
    puzzles: TensorDict,
    last: Policies,
    size: float = 1.0,
    threshold: float = 0.0,
    by: str = "entropy of the puzzle",
) -> float:
    """Returns the share of puzzles that are solved when the last step has this size."""
    question, (before, after) = puzzles["question"], last
    share = sizes(before, puzzle.written(question), size, threshold, by)
    answer = puzzle.clamp(question, before.logits.lerp(after.logits, share[..., None]).argmax(-1))
    return float(puzzle.verify(question, answer).solved.float().mean())


def share(
    reasoner: Reasoner,
    puzzle: Puzzle,
    steps: int,
    on: str,
    by: str,
    puzzles: TensorDict,
    plain: Policies,
    choice: tuple[float, float],
) -> float:
    """Returns the share that is solved with a choice, from the last step of a plain rollout.

    Other sizes of steps on the latents take a rollout of their own.
    """
    if on == "latents" and choice[0] != 1.0:
        return solved(puzzle, puzzles, last_step(reasoner, puzzle, puzzles, steps, *choice, by))
    return solved(puzzle, puzzles, plain, *choice, by)


def main(
    run: str, steps: int = 16, puzzles: int = 500, env: Sequence[str] = ()
) -> dict[str, float]:
    """Returns the solved share of test puzzles with size 1, and with the chosen sizes."""
    changed = {name: yaml.safe_load(value) for name, _, value in (e.partition("=") for e in env)}
    trained, *_ = pir.load_trained(run, changed=changed or None)
    parts = trained.reasoner, trained.puzzle
    if trained.reasoner.inputs:
        raise SystemExit(f"{run} reads {', '.join(trained.reasoner.inputs)}: not for this example")
    val, test = (
        pir.held_out(trained.puzzle, split, puzzles, trained.device) for split in ("val", "test")
    )
    val_last, test_last = (last_step(*parts, split, steps) for split in (val, test))
    on_val = solved(trained.puzzle, val, val_last)
    on_test = solved(trained.puzzle, test, test_last)
    print(f"size 1: {on_test:.1%} of {puzzles} test puzzles after {steps} steps (val {on_val:.1%})")
    found = {"size 1": on_test}
    for on, by in product(("latents", "logits"), THRESHOLDS):
        if by == "halt head" and val_last[0].halt_logit is None:
            continue
        how = (*parts, steps, on, by)
        choices = [AS_TRAINED, *product(SIZES, THRESHOLDS[by])]
        validated = {choice: share(*how, val, val_last, choice) for choice in choices}
        best = max(choices, key=lambda choice: validated[choice])
        found[f"{on} by {by}"] = share(*how, test, test_last, best)
        print(
            f"{on} by {by}: {found[f'{on} by {by}']:.1%} with size {best[0]} above {best[1]} "
            f"(val {validated[best]:.1%})"
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder, or zoo:NAME")
    parser.add_argument("--steps", type=int, default=16, help="improvement steps")
    parser.add_argument("--puzzles", type=int, default=500, help="of each split")
    parser.add_argument("--env", nargs="*", default=(), help="changed settings of the puzzle")
    given = parser.parse_args()
    if min(given.steps, given.puzzles) < 1:
        parser.error("--steps and --puzzles: must be at least 1")
    try:
        main(**vars(given))
    except pir.UserError as error:
        parser.error(str(error))
