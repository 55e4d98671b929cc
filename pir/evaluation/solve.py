"""Puzzles of one's own, with the answer after every improvement step."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_count, check_steps
from pir.errors import UserError
from pir.evaluation.batch_size import fitting_batch
from pir.evaluation.breadth import check_starts, noisy_start
from pir.evaluation.rollouts import EVALUATION_SEED
from pir.exits.early_exit import steps_until_exit
from pir.exits.rules import ExitRule, FixedDepth
from pir.noise import by_puzzle
from pir.puzzle import Puzzle
from pir.puzzle_files.tokens import read_tokens
from pir.reasoner import Reasoner, in_use
from pir.system.device import device_of


class Stop(NamedTuple):
    """When to stop improving an answer.

    Attributes:
        rule: stops at the first step at which its quantity reaches the threshold.
        threshold: in the rule's own unit, such as nats per cell for `Entropy`; None for the
            threshold that the rule was built with.
        most: improvement steps after which every answer stops.
    """

    rule: ExitRule
    threshold: float | None
    most: int

    def signal_threshold(self) -> float:
        """Returns the threshold on the rule's signal.

        Raises:
            UserError: if there is none.
        """
        threshold = self.rule.threshold if self.threshold is None else self.threshold
        if threshold is None:
            name = type(self.rule).__name__
            raise UserError(f"stop: {name} has no threshold; give one, as {name}(threshold=0.1)")
        return self.rule.unit(threshold)


class StepAnswer(NamedTuple):
    """The answer to a puzzle after an improvement step.

    Attributes:
        start: the number of the start, from 1; the first one is without noise.
        k: the number of the step, from 1.
        answer: its text form.
        solved: whether the verifier accepts it.
        score: the verifier's graded value of it, in [0, 1].
        tokens: the answer itself, its L tokens.
    """

    start: int
    k: int
    answer: str
    solved: bool
    score: float
    tokens: tuple[int, ...]


def solve(
    reasoner: Reasoner,
    puzzle: Puzzle,
    questions: Iterable[str | Tensor | np.ndarray | Sequence[int]],
    stop: Stop | ExitRule | None = None,
    batch_size: int | None = None,
    starts: int = 1,
    noise: float = 0.3,
) -> list[list[StepAnswer]]:
    """Improves the answers to some questions step by step; no solution is needed.

    With several starts, questions without a right answer are begun again, with noise on the start.
    The starts are those of `pir.evaluation.breadth.breadth`. One thread at a time, see `evaluate`.

    Args:
        reasoner: does the steps.
        puzzle: reads the questions and judges the answers.
        questions: their text forms (`Puzzle.parse`), or tokens, whole numbers of shape (L,).
        stop: when to stop; by default, and for a rule alone at the latest, after the reasoner's own
            number of steps.
        batch_size: questions at once; None for as many as fit into memory.
        starts: at most so many for a question.
        noise: of all starts but the first, see `pir.evaluation.breadth.noisy_start`.

    Returns:
        for every question, its answer after every step from the start that ended with a right
        answer, or else from the first of those that ended with the highest score.

    Raises:
        PuzzleTextError: if a text is malformed.
        UserError: if the questions are no list of texts or tokens, or `stop` or a number is out of
            range, or all starts would be the same.
    """
    check_starts(reasoner, "starts", starts, noise)
    check_count("batch_size", batch_size)
    depth = reasoner.improvement_steps
    if stop is None:
        stop = FixedDepth(depth)
    if isinstance(stop, ExitRule):
        stop = Stop(stop, None, depth)
    check_steps("stop.most", stop.most)
    rule = stop.rule, stop.signal_threshold(), stop.most
    read = _read(puzzle, questions)
    if not read:
        return []
    device, batch = device_of(reasoner), torch.stack(read)
    size = fitting_batch(batch_size, reasoner, batch.to(device))
    best: dict[int, list[StepAnswer]] = {}
    left = list(range(len(batch)))
    for number in range(starts):
        with by_puzzle(EVALUATION_SEED + number, device), in_use(reasoner):
            added = noise if number else 0.0
            rollouts = _rollouts(
                reasoner, puzzle, batch[left].to(device), rule, size, number + 1, added
            )
        for row, steps in zip(left, rollouts, strict=True):
            if row not in best or steps[-1].score > best[row][-1].score:
                best[row] = steps
        left = [row for row in left if not best[row][-1].solved]
        if not left:
            break
    return [best[row] for row in range(len(batch))]


def _read(
    puzzle: Puzzle, questions: Iterable[str | Tensor | np.ndarray | Sequence[int]]
) -> list[Tensor]:
    """Returns the tokens of questions, uint8 of shape (L,) each, on the CPU."""
    single = str | bytes | Mapping | TensorDict  # what has parts, but no questions
    if isinstance(questions, single) or not isinstance(questions, Iterable):
        kind = type(questions).__name__
        raise UserError(f"questions: a list of texts is expected, or of tokens, not one {kind}")
    return [
        puzzle.parse(each)
        if isinstance(each, str)
        else read_tokens(puzzle, each, f"questions[{place}]").cpu()
        for place, each in enumerate(questions)
    ]


@torch.no_grad()
def _rollouts(
    reasoner: Reasoner,
    puzzle: Puzzle,
    questions: Tensor,
    stop: tuple[ExitRule, float, int],
    batch_size: int,
    number: int,
    noise: float,
) -> list[list[StepAnswer]]:
    """Returns the answers after every step to the questions, (B, L), from start `number` of all.

    Args:
        reasoner: see `solve`.
        puzzle: see `solve`.
        questions: uint8 of shape (B, L), on the reasoner's device.
        stop: a rule, the threshold on its signal, and the most steps.
        batch_size: questions at once.
        number: of the start, from 1.
        noise: of this start.
    """
    steps: list[list[StepAnswer]] = [[] for _ in questions]
    puzzles = TensorDict({"question": questions}, batch_size=[len(questions)])
    texts = questions.cpu()
    for first in range(0, len(questions), batch_size):
        some = puzzles[first : first + batch_size]
        state = noisy_start(reasoner, some["question"], noise)
        for rows, step in steps_until_exit(reasoner, puzzle, some, *stop, state):
            answers = step.after.answer.cpu()
            solved, scores = step.after.solved.tolist(), step.after.score.tolist()
            for place, row in enumerate((first + rows).tolist()):
                steps[row].append(
                    StepAnswer(
                        start=number,
                        k=int(step.k[place]),
                        answer=puzzle.format_answer(texts[row], answers[place]),
                        solved=solved[place],
                        score=round(scores[place], 4),
                        tokens=tuple(answers[place].tolist()),
                    )
                )
    return steps
