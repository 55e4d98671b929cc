"""Trains a small TRM on small Sudokus, evaluates every step and solves a puzzle.

Run it with `python examples/train_in_python.py`; it takes about a quarter of a minute on a laptop.
"""

import argparse

import torch
from pir.envs.sudoku import Sudoku

import pir
from pir.models.trm import TRM
from pir.objectives import DeepSupervision


def main(steps: int = 120, width: int = 64, batch: int = 64) -> float:
    """Returns the share of held-out puzzles that are solved after the last step."""
    torch.manual_seed(0)
    puzzle = Sudoku(box=(2, 2), clues=(8, 12))
    reasoner = TRM(puzzle, hidden_size=width)
    settings = pir.TrainerSettings(
        batch_size=batch,
        warmup_steps=10,
        decay_steps=steps,
        max_optimizer_steps=steps,
        eval_every=steps,
        ema_decay=0.98,
        val_puzzles=100,
    )
    objective = pir.Objective({"supervision": DeepSupervision()})
    trainer = pir.Trainer(puzzle, reasoner, objective, settings=settings, title="sudoku")
    trainer.train()

    puzzles = pir.held_out(puzzle, "test", 500)
    result = pir.evaluate(trainer.trained, puzzle, puzzles, num_steps=3)
    for row in result.ledger.rows():
        print(f"step {row['k']}: solved {row['solved']:.1%}, gain {row['gain']:+.3f}")
    (steps_of_one,) = pir.solve(trainer.trained, puzzle, ["....24314.233214"])
    for step in steps_of_one:
        print(f"step {step.k}: {step.answer} {'solved' if step.solved else ''}")
    return float(result.solved[:, -1].float().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps")
    parser.add_argument("--width", type=int, default=64, help="width of the latents")
    parser.add_argument("--batch", type=int, default=64, help="puzzles improved at once")
    main(**vars(parser.parse_args()))
