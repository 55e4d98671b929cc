"""Puzzles of one's own, with the answer after every improvement step."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.evaluation.batch_size import fitting_batch
from pir.evaluation.rollouts import EVALUATION_SEED
from pir.exits.early_exit import steps_until_exit
from pir.exits.rules import ExitRule, FixedDepth
from pir.noise import by_puzzle
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner


class Stop(NamedTuple):
    """When to stop improving an answer: a rule, the threshold on its signal, and the most steps."""

    rule: ExitRule
    threshold: float
    most: int


class StepAnswer(NamedTuple):
    """The answer to a puzzle after an improvement step.

    Attributes:
        k: the number of the step, from 1.
        answer: its text form.
        solved: whether the verifier accepts it.
        score: the verifier's graded value of it, in [0, 1].
        tokens: the answer itself, its L tokens.
    """

    k: int
    answer: str
    solved: bool
    score: float
    tokens: tuple[int, ...]


def solve(
    reasoner: Reasoner,
    puzzle: Puzzle,
    questions: Sequence[str | Tensor],
    stop: Stop | None = None,
    batch_size: int | None = None,
) -> list[list[StepAnswer]]:
    """Improves the answers to some questions step by step; no solution is needed.

    Args:
        reasoner: does the steps.
        puzzle: reads the questions and judges the answers.
        questions: their text forms (`Puzzle.parse`), or tokens, uint8 of shape (L,).
        stop: when to stop; by default after the reasoner's own number of steps.
        batch_size: questions at once; None for as many as fit into memory.

    Returns:
        for every question, its answer after every step.

    Raises:
        PuzzleTextError: if a text is malformed.
        UserError: if a single text is given in place of a list.
    """
    if isinstance(questions, str):
        raise UserError("questions: a list of texts is expected, not one text")
    steps: list[list[StepAnswer]] = [[] for _ in questions]
    if not steps:
        return steps
    device = next(reasoner.parameters()).device
    batch = torch.stack([puzzle.parse(q) if isinstance(q, str) else q for q in questions])
    puzzles = TensorDict({"question": batch.to(device)}, batch_size=[len(batch)])
    depth = reasoner.improvement_steps
    rule, threshold, most = stop or Stop(FixedDepth(), depth, depth)
    with by_puzzle(EVALUATION_SEED, device):
        size = fitting_batch(batch_size, reasoner, puzzles["question"])
        for first in range(0, len(batch), size):
            some = puzzles[first : first + size]
            for rows, step in steps_until_exit(reasoner, puzzle, some, rule, threshold, most):
                answers = step.after.answer.cpu()
                solved, scores = step.after.solved.tolist(), step.after.score.tolist()
                for place, row in enumerate((first + rows).tolist()):
                    steps[row].append(
                        StepAnswer(
                            k=int(step.k[place]),
                            answer=puzzle.format_answer(batch[row], answers[place]),
                            solved=solved[place],
                            score=round(scores[place], 4),
                            tokens=tuple(answers[place].tolist()),
                        )
                    )
    return steps
