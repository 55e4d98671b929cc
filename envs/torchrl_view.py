"""Any puzzle as a batched TorchRL environment.

    env = PuzzleEnv(build_puzzle("countdown"), num_envs=256, horizon=8)
    steps = env.rollout(8, policy, break_when_any_done=False)

No other module of the library imports torchrl. `pir.envs.episode` has the rules of an episode; the
latent state of a reasoner is no part of them and belongs to the policy.
"""

from typing import Any, Unpack

import torch
from pir.envs.episode import Episode, EpisodeSettings, QuestionStream, State
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite
from torchrl.envs import EnvBase

from pir.errors import UserError
from pir.puzzle import Puzzle


class PuzzleEnv(EnvBase):  # type: ignore[misc]
    """A batch of B puzzles of L tokens; every row that is reset takes the next of the stream.

    `reset(td, set_state=True)` starts from the states in `td` instead: `question`, and where given
    `answer` and `step`. Rows of a partial reset or step that are not selected stay as they are.

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
        if type(num_envs) is not int or num_envs < 1:
            raise UserError(f"num_envs={num_envs}: allowed is a whole number, at least 1")
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
        if mask is None or self._state is None:
            rows = torch.ones(self.batch_size, dtype=torch.bool, device=self.device)
        else:
            rows = mask.reshape(self.batch_size)
        count = int(rows.sum())
        first = self._given(tensordict).rows(rows) if set_state else self._drawn(count)
        self._state = first if self._state is None else self._state.with_rows(rows, first)
        return self._tensordict(self._state, torch.zeros_like(rows), torch.zeros_like(rows))

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        before = self._state
        if before is None:
            raise UserError("no episode has begun: call reset first")
        state, reward = self.episode.revise(before, tensordict["action"])
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

    def _given(self, tensordict: TensorDictBase | None) -> State:
        """Returns the states that a tensordict holds, all rows."""
        if tensordict is None or "question" not in tensordict:
            raise UserError("reset(set_state=True) needs a tensordict with a question")
        answer = tensordict.get("answer", None)
        first = self.episode.given(
            tensordict["question"].to(self.device), answer, self.batch_size[0]
        )
        step = tensordict.get("step", None)
        if step is None:
            return first
        step = step.reshape(self.batch_size).to(first.step)
        if not ((step >= 0) & (step < self.episode.horizon)).all():
            raise UserError(f"step: a state to go on from has 0..{self.episode.horizon - 1}")
        return first._replace(step=step)

    def _tensordict(self, state: State, terminated: Tensor, truncated: Tensor) -> TensorDict:
        return TensorDict(
            {
                "question": state.question,
                "answer": state.answer,
                "score": state.score[:, None],
                "step": state.step[:, None],
                "done": (terminated | truncated)[:, None],
                "terminated": terminated[:, None],
                "truncated": truncated[:, None],
            },
            batch_size=self.batch_size,
            device=self.device,
        )
