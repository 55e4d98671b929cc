"""Trains a small TRM on easy Countdown puzzles, evaluates every step and solves a puzzle.

Run it with `python examples/train_in_python.py`; it takes about a quarter of a minute on a laptop.
"""

import argparse

import torch
from pir.envs.countdown.rules import Countdown

import pir
from pir.models.trm import TRM
from pir.objectives import SetLikelihood


def main(steps: int = 200, width: int = 64, batch: int = 128) -> float:
    """Returns the share of held-out puzzles that are solved after the last step."""
    torch.manual_seed(0)
    puzzle = Countdown(number_range=(1, 4), target_range=(1, 12))
    reasoner = TRM(puzzle, hidden_size=width)
    settings = pir.TrainerSettings(
        batch_size=batch,
        warmup_steps=20,
        decay_steps=steps,
        max_optimizer_steps=steps,
        val_puzzles=200,
    )
    objective = pir.Objective({"set_likelihood": SetLikelihood()})
    trainer = pir.Trainer(puzzle, reasoner, objective, settings=settings, title="countdown")
    trainer.train()

    puzzles = pir.held_out(puzzle, "test", 500)
    result = pir.evaluate(trainer.trained, puzzle, puzzles, num_steps=3)
    for row in result.ledger.rows():
        print(f"step {row['k']}: solved {row['solved']:.1%}, gain {row['gain']:+.3f}")
    (steps_of_one,) = pir.solve(trainer.trained, puzzle, ["2 3 4 = 10"])
    for step in steps_of_one:
        print(f"step {step.k}: {step.answer} {'solved' if step.solved else ''}")
    return float(result.solved[:, -1].float().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps")
    parser.add_argument("--width", type=int, default=64, help="width of the latents")
    parser.add_argument("--batch", type=int, default=128, help="puzzles improved at once")
    main(**vars(parser.parse_args()))
