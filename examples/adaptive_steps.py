"""Chooses the size of every step by the entropy before it: does that solve more puzzles?

Steps of puzzles about which the policy is unsure (more than `threshold` nats per written cell) are
made longer or shorter, on the latents or, as guidance, on the logits that are read out. The pair of
threshold and size is chosen on validation puzzles and then tried on the test puzzles.

    python examples/adaptive_steps.py zoo:sudoku9 --steps 16 --puzzles 500
"""

import argparse
from itertools import product

import torch
from tensordict import TensorDict
from torch import Tensor

import pir
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import begin, improve

SIZES = (0.5, 0.75, 1.25, 1.5)
THRESHOLDS = (0.003, 0.03, 0.3)


def entropy(logits: Tensor, written: Tensor) -> Tensor:
    """Returns nats per written cell, (B,)."""
    log_policy = logits.log_softmax(-1)
    per_cell = -(log_policy.exp() * log_policy).sum(-1)
    return (per_cell * written).sum(-1) / written.sum(-1).clamp(min=1)


@torch.inference_mode()
def solved(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    steps: int,
    size: float = 1.0,
    threshold: float = 0.0,
    on: str = "latents",
) -> float:
    """Returns the share that is solved after the last step.

    Args:
        reasoner: takes the steps.
        puzzle: judges the answers.
        puzzles: the puzzles.
        steps: how many.
        size: of steps of unsure puzzles; that of others is 1.
        threshold: nats per written cell from which on a puzzle is unsure.
        on: "latents" to change the state, "logits" to change what is read out of it alone.
    """
    question = puzzles["question"]
    written, lanes = puzzle.written(question), begin(reasoner, puzzle, puzzles)
    for _ in range(steps):
        unsure = entropy(lanes.now.logits, written) > threshold
        share = torch.where(unsure, size, 1.0)
        lanes, step = improve(reasoner, puzzle, lanes)
        if on == "latents":
            for name, before in step.before.state.items():
                after = lanes.now.state[name]
                by = share.view(-1, *(1 for _ in after.shape[1:])).to(after.dtype)
                lanes.now.state[name] = before + by * (after - before)
            lanes.now.logits = reasoner.read_out(lanes.now.state).logits
        else:
            logits = step.before.logits.lerp(step.after.logits, share[:, None, None])
    logits = lanes.now.logits if on == "latents" else logits
    answer = puzzle.clamp(question, logits.argmax(-1))
    return float(puzzle.verify(question, answer).solved.float().mean())


def main(run: str, steps: int = 16, puzzles: int = 500) -> dict[str, float]:
    """Returns the solved share of test puzzles with size 1, and with the chosen sizes."""
    trained, *_ = pir.load_trained(run)
    parts = trained.reasoner, trained.puzzle
    if trained.reasoner.inputs:
        raise SystemExit(f"{run} reads {', '.join(trained.reasoner.inputs)}: not for this example")
    val, test = (
        pir.held_out(trained.puzzle, split, puzzles, trained.device) for split in ("val", "test")
    )
    found = {"size 1": solved(*parts, test, steps)}
    print(f"size 1: {found['size 1']:.1%} of {puzzles} test puzzles after {steps} steps")
    for on in ("latents", "logits"):
        choices = {
            pair: solved(*parts, val, steps, *pair, on=on)
            for pair in [(1.0, 0.0), *product(SIZES, THRESHOLDS)]
        }
        best = max(choices, key=lambda pair: choices[pair])
        found[on] = solved(*parts, test, steps, *best, on=on)
        size, threshold = best
        print(
            f"{on}: {found[on]:.1%} with size {size} above {threshold} nats "
            f"(validation {choices[best]:.1%}, size 1 there {choices[1.0, 0.0]:.1%})"
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run folder, or zoo:NAME")
    parser.add_argument("--steps", type=int, default=16, help="improvement steps")
    parser.add_argument("--puzzles", type=int, default=500, help="of each split")
    main(**vars(parser.parse_args()))
