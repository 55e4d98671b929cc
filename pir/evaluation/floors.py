"""Baselines without reasoning: random answers, look-up, and puzzles with one blank."""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.evaluation.probes import with_interval
from pir.evaluation.rollouts import EVALUATION_SEED, evaluate
from pir.noise import by_puzzle
from pir.puzzle import Puzzle, instances
from pir.reasoner import MASKED_LOGIT, Reasoner
from pir.rollout import sample_answers, verify_answers

PUZZLES = 500
"""Held-out puzzles that the floors and the puzzles with one blank are measured on."""

RANDOM_ANSWERS = 20
TRAINING_PUZZLES = 4000


def masked_random(puzzle: Puzzle, puzzles: TensorDict) -> dict[str, Any]:
    """Answers with tokens drawn evenly among those that each position may hold."""
    question = puzzles["question"][:PUZZLES]
    mask = puzzle.slot_mask.to(question.device)
    logits = torch.where(mask, 0.0, MASKED_LOGIT)
    every = logits.expand(len(question), *logits.shape)
    with by_puzzle(EVALUATION_SEED, question.device):
        answers = sample_answers(puzzle, question, every, RANDOM_ANSWERS)
    solved = verify_answers(puzzle, question, answers).solved
    return {"solved": float(solved.float().mean()), "answers": solved.numel()}


def look_up(puzzle: Puzzle, puzzles: TensorDict) -> dict[str, Any]:
    """Answers from memory, without any rule.

    The answer is the training solution that agrees with most given tokens, and among several the
    most frequent one.
    """
    question = puzzles["question"][:PUZZLES]
    training = puzzle.sample(TRAINING_PUZZLES, "train", seed=EVALUATION_SEED + 1)["solution"]
    solutions, counts = training.unique(dim=0, return_counts=True)
    tokens = len(puzzle.vocabulary)
    given = ~puzzle.written(question)

    def one_hot(values: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(values.long(), tokens).float().flatten(1)

    wanted = one_hot(question) * given.repeat_interleave(tokens, 1)
    agreement = (wanted @ one_hot(solutions.to(question.device)).T).round().long()
    preferred = agreement * (len(training) + 1) + counts.to(question.device)
    nearest = preferred.argmax(1).cpu()
    answer = puzzle.clamp(question, solutions[nearest].to(question.device))
    solved = puzzle.verify(question, answer).solved
    return {"solved": float(solved.float().mean()), "training_puzzles": len(training)}


def one_blank(
    reasoner: Reasoner, puzzle: Puzzle, puzzles: TensorDict, batch_size: int
) -> dict[str, Any] | None:
    """Evaluates puzzles in which all cells but one are given, at the trained depth.

    Models that solve hard puzzles have been seen to fail these (Ren and Liu 2026,
    arXiv:2601.10679). The blank is a random one of those that the policy would have written.

    Returns:
        `solved` with its interval, and the number of `puzzles`; None where cells cannot be given or
        there is no label.
    """
    if "solution" not in puzzles.keys() or not puzzle.reveals:  # noqa: SIM118, it has no `in`
        return None
    question, solution = puzzles["question"][:PUZZLES], puzzles["solution"][:PUZZLES]
    written = puzzle.written(question)
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    chance = torch.rand(written.shape, generator=generator).to(written.device)
    blank = chance.where(written, torch.tensor(-1.0, device=chance.device)).argmax(1)
    revealed = written.scatter(1, blank[:, None], False)
    easy = instances(puzzle.reveal(question, solution, revealed), solution)
    depth = reasoner.improvement_steps
    solved = evaluate(reasoner, puzzle, easy, depth, batch_size).solved[:, -1]
    return with_interval(float(solved.float().mean()), len(solved)) | {"puzzles": len(solved)}
