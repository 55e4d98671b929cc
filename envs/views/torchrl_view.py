"""Any puzzle as a batched TorchRL environment.

    env = PuzzleEnv(build_puzzle("countdown"), num_envs=256, horizon=8)
    steps = env.rollout(8, policy, break_when_any_done=False)

`pir.envs.views.episode` has the rules of an episode; the latent state of a reasoner is no part of
them and belongs to the policy.
"""

from typing import Any, Unpack

import torch
from pir.envs.views.episode import Episode, EpisodeSettings, QuestionStream, State
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Categorical, Composite
from torchrl.envs import EnvBase

from pir.checks import check_whole
from pir.errors import UserError
from pir.puzzle import Puzzle
from pir.puzzle_files.tokens import read_tokens


class PuzzleEnv(EnvBase):  # type: ignore[misc]
    """A batch of B puzzles of L tokens; every row that is reset takes the next of the stream.

    Observations hold `question` and `answer`, uint8 of shape (B, L), `score` and `step`, of shape
    (B, 1), and `action_mask`, bool of shape (B, L, V), which the transform `ActionMask` reads.

    `reset(td, set_state=True)` starts from the states in `td` instead: `question`, and where given
    `answer` and `step`; rows that are over there (`done`, or at the last step) take the next of the
    stream. Rows of a partial reset or step that are not selected stay as they are.

    Args:
        puzzle: the puzzle.
        num_envs: how many rows B.
        device: where the states live and the verifier runs.
        seed: names the stream of questions, as `set_seed` does; None draws it from torch's
            generator at the first reset.
        settings: see `Episode`.

    Raises:
        UserError: if a setting is not allowed.
    """

    _supports_set_state = True

    def __init__(
        self,
        puzzle: Puzzle,
        num_envs: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        **settings: Unpack[EpisodeSettings],
    ) -> None:
        """Builds the specs."""
        num_envs = check_whole("num_envs", num_envs)
        super().__init__(device=torch.device(device), batch_size=torch.Size([num_envs]))
        self.puzzle, self.episode = puzzle, Episode(puzzle, **settings)
        self._stream: QuestionStream | None = None
        self._state: State | None = None
        self._set_seed(seed)

        one, batch = (num_envs, 1), {"shape": (num_envs,), "device": self.device}
        self.observation_spec = Composite(
            question=self._token_spec(),
            answer=self._token_spec(),
            score=Bounded(0.0, 1.0, shape=one, device=self.device),
            step=self._step_spec(),
            **batch,
        )
        if self.episode.masked:
            shape = (num_envs, puzzle.length, len(puzzle.vocabulary))
            mask = Binary(shape=shape, device=self.device, dtype=torch.bool)
            self.observation_spec["action_mask"] = mask
        self.state_spec = Composite(
            question=self._token_spec(),
            answer=self._token_spec(),
            step=self._step_spec(),
            **batch,
        )
        self.action_spec = self._token_spec()
        self.reward_spec = Bounded(-1.0, 1.0, shape=one, device=self.device)
        flags = {
            key: Categorical(2, shape=one, dtype=torch.bool, device=self.device)
            for key in ("done", "terminated", "truncated")
        }
        self.full_done_spec = Composite(**flags, **batch)

    def to(self, device: torch.device | str) -> "PuzzleEnv":
        """Moves the environment, the states in it too; see `EnvBase.to`."""
        moved: PuzzleEnv = super().to(device)
        if moved._state is not None:
            moved._state = State(*(part.to(moved.device) for part in moved._state))
        return moved

    def _token_spec(self) -> Categorical:
        shape = (*self.batch_size, self.puzzle.length)
        size = len(self.puzzle.vocabulary)
        return Categorical(size, shape=shape, dtype=torch.uint8, device=self.device)

    def _step_spec(self) -> Bounded:
        shape, last = (*self.batch_size, 1), self.episode.horizon
        return Bounded(0, last, shape=shape, dtype=torch.int64, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        self._stream = None  # drawn at the first reset
        if seed is not None:
            self._stream = QuestionStream(self.puzzle, self.episode.instances, seed)

    def _reset(
        self, tensordict: TensorDictBase | None = None, set_state: bool = False, **_: Any
    ) -> TensorDict:
        """Returns a full batch, of which TorchRL takes the rows that `_reset` selects."""
        mask = None if tensordict is None else tensordict.get("_reset", None)
        state = self._state
        if mask is None or state is None:
            rows = torch.ones(self.batch_size, dtype=torch.bool, device=self.device)
        else:
            rows = mask.reshape(self.batch_size)
        if state is None or rows.any():
            first = self._given(tensordict, rows) if set_state else self._drawn(int(rows.sum()))
            state = first if state is None else state.with_rows(rows, first)
        self._state = state
        return self._tensordict(state, torch.zeros_like(rows), torch.zeros_like(rows))

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        before = self._state
        if before is None:
            raise UserError("no episode has begun: call reset first")
        action = read_tokens(self.puzzle, tensordict["action"], "action", self.batch_size[0])
        state, reward = self.episode.revise(before, action)
        mask = tensordict.get("_step", None)
        if mask is not None:
            rows = mask.reshape(self.batch_size)
            state, reward = before.with_rows(rows, state.rows(rows)), reward * rows
        self._state = state
        steps = self._tensordict(state, *self.episode.ended(state))
        return steps.set("reward", reward[:, None])

    def _drawn(self, count: int) -> State:
        if self._stream is None:
            seed = int(torch.randint(2**62, ()))
            self._stream = QuestionStream(self.puzzle, self.episode.instances, seed)
        return self.episode.begin(self._stream.draw(count).to(self.device))

    def _given(self, tensordict: TensorDictBase | None, rows: Tensor) -> State:
        """Returns the states that a tensordict holds for `rows`; new ones where they are over."""
        if tensordict is None or "question" not in tensordict:
            raise UserError("reset(set_state=True) needs a tensordict with a question")
        given = tensordict[rows]
        count, horizon = len(given), self.episode.horizon
        question = given["question"].to(self.device)
        first = self.episode.given(question, given.get("answer", None), count)
        step = given.get("step", first.step).reshape(count).to(first.step)
        if not ((step >= 0) & (step <= horizon)).all():
            raise UserError(f"step: a state to go on from has 0..{horizon - 1}")
        first = first._replace(step=step)
        over = given.get("done", torch.zeros_like(rows[rows])).reshape(count).to(self.device)
        over = over | (step == horizon)
        return first.with_rows(over, self._drawn(int(over.sum()))) if over.any() else first

    def _tensordict(self, state: State, terminated: Tensor, truncated: Tensor) -> TensorDict:
        """Returns observations and flags; tokens and mask are copies, the caller's to change."""
        masked, question = self.episode.masked, state.question
        mask = {"action_mask": self.episode.action_mask(question).clone()} if masked else {}
        return TensorDict(
            {
                **mask,
                "question": question.clone(),
                "answer": state.answer.clone(),
                "score": state.score[:, None],
                "step": state.step[:, None],
                "done": (terminated | truncated)[:, None],
                "terminated": terminated[:, None],
                "truncated": truncated[:, None],
            },
            batch_size=self.batch_size,
            device=self.device,
        )
