"""A puzzle as a Markov decision process whose actions are whole revised answers.

State:
    question, current answer, its score, and how many steps were taken. The first answer is the
    question itself.
Action:
    a full answer; positions that the policy does not write are taken from the question.
Reward:
    score after the revision minus score before it. With discount 1 the return is the final score
    minus the first, and keeping the answer earns 0, so an advantage reads directly as "this
    revision improved the answer".
End:
    after `horizon` steps, and where asked for as soon as the answer is right.

All of it is batched torch on the device of the question; the Gymnasium and TorchRL views only
translate. B puzzles, L tokens each.
"""

from typing import Any, Literal, NamedTuple, TypedDict

import torch
from torch import Tensor

from pir.checks import check_choice, check_whole
from pir.errors import UserError
from pir.puzzle import SPLITS, Puzzle
from pir.puzzle_files.tokens import read_tokens

TIME_LIMITS = ("terminate", "truncate")


class EpisodeSettings(TypedDict, total=False):
    """The keyword settings of every view; `Episode` explains them and has the defaults."""

    horizon: int
    stop_when_solved: bool
    time_limit: Literal["terminate", "truncate"]
    instances: Literal["train", "val", "test"]
    action_mask: bool


class State(NamedTuple):
    """A batch of states.

    Attributes:
        question: uint8 of shape (B, L).
        answer: uint8 of shape (B, L).
        score: float32 of shape (B,), the answer's score in [0, 1].
        solved: bool of shape (B,), whether the answer is right.
        step: int64 of shape (B,), revisions made so far.
    """

    question: Tensor
    answer: Tensor
    score: Tensor
    solved: Tensor
    step: Tensor

    def rows(self, mask: Tensor) -> "State":
        """Returns the rows that `mask`, bool of shape (B,), selects."""
        return State(*(part[mask] for part in self))

    def with_rows(self, mask: Tensor, rows: "State") -> "State":
        """Returns a copy in which `rows` take the places that `mask` selects, in order."""
        places = (mask,)
        return State(*(old.index_put(places, new) for old, new in zip(self, rows, strict=True)))


class Episode:
    """The rules of an episode.

    Args:
        puzzle: gives the questions and judges the answers.
        horizon: revisions H per episode, at least 1.
        stop_when_solved: whether a right answer terminates the episode. Otherwise every row takes H
            steps, and spoiling a right answer costs reward.
        time_limit: what step H sets. "terminate": H revisions are all there is; the step is part of
            the state, so a value function can know it. "truncate": the task goes on for ever and
            was cut off; bootstrap from the last state.
        instances: the split that questions are drawn from.
        action_mask: whether the views say what every position may hold. It takes L * V bytes per
            row and step, which is much for long questions over large vocabularies.

    Raises:
        UserError: if a setting is not allowed.
    """

    def __init__(
        self,
        puzzle: Puzzle,
        horizon: int = 8,
        stop_when_solved: bool = False,
        time_limit: Literal["terminate", "truncate"] = "terminate",
        instances: Literal["train", "val", "test"] = "train",
        action_mask: bool = True,
    ) -> None:
        """Checks the settings."""
        flags = {"stop_when_solved": stop_when_solved, "action_mask": action_mask}
        for name, flag in flags.items():
            if type(flag) is not bool:
                raise UserError(f"{name}={flag}: allowed is true or false")
        check_choice("time_limit", time_limit, TIME_LIMITS)
        check_choice("instances", instances, SPLITS)
        self.puzzle = puzzle
        self.horizon = check_whole("horizon", horizon)
        self.stop_when_solved = stop_when_solved
        self.time_limit = time_limit
        self.instances = instances
        self.masked = action_mask
        self._last_mask: tuple[Tensor, Tensor] | None = None

    def begin(self, question: Tensor, answer: Tensor | None = None) -> State:
        """Returns the first states of questions, uint8 (B, L), and, if given, first answers."""
        answer = question if answer is None else self.puzzle.clamp(question, answer)
        verdict = self.puzzle.verify(question, answer)
        step = torch.zeros_like(verdict.score, dtype=torch.int64)
        return State(question, answer, *verdict, step)

    def revise(self, state: State, action: Tensor) -> tuple[State, Tensor]:
        """Takes a step: the revised answers replace the old ones.

        Args:
            state: states that have not ended.
            action: the revised answers, integers of shape (B, L).

        Returns:
            the states after it, and the reward, float32 of shape (B,): the score gained.
        """
        question = state.question
        answer = self.puzzle.clamp(question, action)
        verdict = self.puzzle.verify(question, answer)
        after = State(question, answer, *verdict, state.step + 1)
        return after, after.score - state.score

    def action_mask(self, question: Tensor) -> Tensor:
        """Tells which tokens every position of an action may hold.

        Written positions may hold what `Puzzle.slot_mask` allows, clamped ones the question's token
        alone. Other tokens of the vocabulary are no error: they earn nothing, or are clamped.

        Args:
            question: uint8 of shape (B, L). The mask of the same tensor is worked out once.

        Returns:
            bool of shape (B, L, V), not to be changed.
        """
        if self._last_mask is None or self._last_mask[0] is not question:
            tokens = torch.arange(len(self.puzzle.vocabulary), device=question.device)
            mask = torch.where(
                self.puzzle.written(question)[:, :, None],
                self.puzzle.slot_mask.to(question.device),
                question[:, :, None] == tokens,
            )
            self._last_mask = question, mask
        return self._last_mask[1]

    def ended(self, state: State) -> tuple[Tensor, Tensor]:
        """Tells which episodes are over in states that a step led to.

        Returns:
            `terminated`, bool of shape (B,): nothing comes after this state; and `truncated`, bool
            of shape (B,): the episode was cut off, and the state still has a value.
        """
        late = state.step >= self.horizon
        never = torch.zeros_like(late)
        terminated = state.solved if self.stop_when_solved else never
        if self.time_limit == "terminate":
            return terminated | late, never
        return terminated, late & ~terminated

    def given(self, question: Any, answer: Any, rows: int) -> State:
        """Returns the first states of puzzles that came from outside.

        Args:
            question: as tokens (`read_tokens`) or in text form.
            answer: first answers, likewise; None for the questions themselves.
            rows: how many puzzles there must be.

        Raises:
            UserError: if they cannot be read.
        """
        if isinstance(question, str) or isinstance(answer, str):
            raise UserError(f"question and answer: a list of {rows} texts is expected, not one")
        if _is_text(question):
            question = torch.stack([self.puzzle.parse(text) for text in question])
        question = read_tokens(self.puzzle, question, "question", rows)
        if answer is None:
            return self.begin(question)
        if _is_text(answer):
            pairs = zip(question, answer, strict=False)
            answer = torch.stack([self.puzzle.parse_answer(q, text) for q, text in pairs])
        answer = read_tokens(self.puzzle, answer, "answer", rows)
        return self.begin(question, answer.to(question.device))


def _is_text(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], str)


class QuestionStream:
    """Questions of a split, one after the other; the same for the same seed.

    Args:
        puzzle: where they come from.
        split: the split.
        seed: names the stream.
    """

    def __init__(self, puzzle: Puzzle, split: str, seed: int) -> None:
        """Starts at instance 0."""
        self.puzzle, self.split = puzzle, split
        self.seed = seed % 2**63  # what a generator can take; callers hand on seeds of any size
        self.position = 0

    def draw(self, count: int) -> Tensor:
        """Returns the next questions, uint8 of shape (count, L), without their labels.

        A split that holds only so many puzzles starts over when they are used up.
        """
        size = self.puzzle.size(self.split)
        drawn = []
        while count:
            start = self.position % size if size else self.position
            part = min(count, size - start) if size else count
            puzzles = self.puzzle.sample(part, self.split, seed=self.seed, start=start)
            drawn.append(puzzles["question"])
            self.position += part
            count -= part
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)
