"""Chooses the size of every step by the entropy before it: does that solve more puzzles?

Where the policy is unsure (more than `threshold` nats) steps are made longer or shorter: of whole
puzzles by the mean of their written cells, or of single cells; on the latents or, as guidance, on
the logits that are read out at the end. The pair of threshold and size is chosen on validation
puzzles and then tried on the test puzzles.

    python examples/adaptive_steps.py zoo:sudoku9 --steps 16 --puzzles 500
"""

import argparse
from itertools import product

import torch
from tensordict import TensorDict
from torch import Tensor

import pir
from pir.objective import lane_means
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import begin, improve

Logits = tuple[Tensor, Tensor]

SIZES = (0.5, 0.75, 1.25, 1.5)
THRESHOLDS = (0.003, 0.03, 0.3)
CHOICES = ((1.0, 0.0), *product(SIZES, THRESHOLDS))
"""Sizes, and the entropies from which on they hold; first the step as trained."""


def sizes(logits: Tensor, written: Tensor, size: float, threshold: float, per: str) -> Tensor:
    """Returns the size of every cell's step, float32 of shape (B, L).

    Args:
        logits: of the policy before the step, (B, L, V).
        written: which cells count, (B, L).
        size: where the policy is unsure; elsewhere it is 1.
        threshold: nats from which on it is unsure.
        per: "puzzle" to compare the mean over written cells, or "cell".
    """
    log_policy = logits.log_softmax(-1)
    entropy = -(log_policy.exp() * log_policy).sum(-1)
    if per == "puzzle":
        entropy = lane_means(entropy, written)[:, None].expand_as(entropy)
    return torch.where(entropy > threshold, size, 1.0)


@torch.inference_mode()
def last_step(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    steps: int,
    size: float = 1.0,
    threshold: float = 0.0,
    per: str = "puzzle",
) -> Logits:
    """Takes steps, changes the latents by other sizes, and returns the last step's two logits."""
    written, lanes = puzzle.written(puzzles["question"]), begin(reasoner, puzzle, puzzles)
    candidates = getattr(reasoner, "candidates", None)  # several latents a cell
    for _ in range(steps):
        by = sizes(lanes.now.logits, written, size, threshold, per)
        by = by if candidates is None else by[:, candidates.position]
        lanes, step = improve(reasoner, puzzle, lanes)
        if size != 1.0:
            for name, before in step.before.state.items():
                after = lanes.now.state[name]
                lanes.now.state[name] = before + by[..., None].to(after.dtype) * (after - before)
            lanes.now.logits = reasoner.read_out(lanes.now.state).logits
    return step.before.logits, lanes.now.logits


def solved(
    puzzle: Puzzle,
    puzzles: TensorDict,
    logits: Logits,
    size: float = 1.0,
    threshold: float = 0.0,
    per: str = "puzzle",
) -> float:
    """Returns the share that the answer solves which the last step of this size leads to."""
    question, (before, after) = puzzles["question"], logits
    by = sizes(before, puzzle.written(question), size, threshold, per)
    answer = puzzle.clamp(question, before.lerp(after, by[..., None]).argmax(-1))
    return float(puzzle.verify(question, answer).solved.float().mean())


def share(
    reasoner: Reasoner,
    puzzle: Puzzle,
    steps: int,
    on: str,
    per: str,
    puzzles: TensorDict,
    plain: Logits,
    choice: tuple[float, float],
) -> float:
    """Returns the share that is solved with a choice, from the last step of a plain rollout.

    Other sizes of steps on the latents take a rollout of their own.
    """
    if on == "latents" and choice[0] != 1.0:
        return solved(puzzle, puzzles, last_step(reasoner, puzzle, puzzles, steps, *choice, per))
    return solved(puzzle, puzzles, plain, *choice, per)


def main(run: str, steps: int = 16, puzzles: int = 500) -> dict[str, float]:
    """Returns the solved share of test puzzles with size 1, and with the chosen sizes."""
    trained, *_ = pir.load_trained(run)
    parts = trained.reasoner, trained.puzzle
    if trained.reasoner.inputs:
        raise SystemExit(f"{run} reads {', '.join(trained.reasoner.inputs)}: not for this example")
    val, test = (
        pir.held_out(trained.puzzle, split, puzzles, trained.device) for split in ("val", "test")
    )
    val_logits, test_logits = (last_step(*parts, split, steps) for split in (val, test))
    on_val = solved(trained.puzzle, val, val_logits)
    on_test = solved(trained.puzzle, test, test_logits)
    print(f"size 1: {on_test:.1%} of {puzzles} test puzzles after {steps} steps (val {on_val:.1%})")
    found = {"size 1": on_test}
    for on, per in product(("latents", "logits"), ("puzzle", "cell")):
        how = (*parts, steps, on, per)
        validated = {choice: share(*how, val, val_logits, choice) for choice in CHOICES}
        best = max(CHOICES, key=lambda choice: validated[choice])
        found[f"{on} per {per}"] = share(*how, test, test_logits, best)
        print(
            f"{on} per {per}: {found[f'{on} per {per}']:.1%} with size {best[0]} above {best[1]} "
            f"nats (val {validated[best]:.1%})"
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder, or zoo:NAME")
    parser.add_argument("--steps", type=int, default=16, help="improvement steps")
    parser.add_argument("--puzzles", type=int, default=500, help="of each split")
    main(**vars(parser.parse_args()))
