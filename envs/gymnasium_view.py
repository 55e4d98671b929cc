"""Any puzzle as a Gymnasium environment, alone or natively batched.

    env = gymnasium.make("pir/Countdown-v0", numbers=4, horizon=6)
    envs = gymnasium.make_vec("pir/Countdown-v0", num_envs=256)

Observations hold `question` and `answer` (L tokens, uint8), `score` (float32) and `step` (int64);
`info` holds `solved`. `pir.envs.episode` has the rules of an episode.
"""

from typing import Any, Unpack, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from pir.envs.episode import Episode, EpisodeSettings, QuestionStream, State
from pir.envs.registration import build_parts
from torch import Tensor

from pir.config import check_choice, suggest
from pir.errors import UserError
from pir.puzzle import Puzzle

Observation = dict[str, np.ndarray]

GIVEN = ("question", "answer")
RENDER_MODES = ["ansi"]


class RevisionVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """A batch of puzzles; every row that is reset takes the next one of the seed's stream.

    `reset(options=...)` understands `question`, and with it `answer`: puzzles to start from, one
    per row, as tokens of shape (num_envs, L) or a list in text form; and `reset_mask`, bool of
    shape (num_envs,): the rows to reset.

    Args:
        puzzle: the puzzle.
        num_envs: how many rows.
        render_mode: None, or "ansi": `render()` returns questions and answers in text form.
        autoreset_mode: when a row that ended is reset: with the next step, within the same step, or
            not at all; see `gymnasium.vector.AutoresetMode`.
        settings: see `Episode`.

    Raises:
        UserError: if a setting is not allowed.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": RENDER_MODES,
        "render_fps": 1,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        puzzle: Puzzle,
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **settings: Unpack[EpisodeSettings],
    ) -> None:
        """Builds the spaces."""
        if type(num_envs) is not int or num_envs < 1:
            raise UserError(f"num_envs={num_envs}: allowed is a whole number, at least 1")
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode(autoreset_mode)}
        self.num_envs, self.render_mode = num_envs, render_mode
        self.puzzle, self.episode = puzzle, Episode(puzzle, **settings)
        self.single_observation_space, self.single_action_space = _single_spaces(self.episode)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._stream: QuestionStream | None = None
        self._state: State | None = None
        self._done = torch.zeros(num_envs, dtype=torch.bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts episodes; see `VectorEnv.reset`. A seed starts its stream anew."""
        super().reset(seed=seed)
        if seed is not None or self._stream is None:
            drawn = int(self.np_random.integers(2**62)) if seed is None else seed
            self._stream = QuestionStream(self.puzzle, self.episode.instances, drawn)
        given = dict(options or {})
        rows = self._reset_rows(given.pop("reset_mask", None))
        if given:
            first = self._given(given).rows(rows)
        else:
            first = self.episode.begin(self._stream.draw(int(rows.sum())))
        self._state = first if self._state is None else self._state.with_rows(rows, first)
        self._done = self._done & ~rows
        return _observation(self._state), _info(self._state, rows)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Revises every answer; see `VectorEnv.step`. Rows that are reset ignore their action.

        Raises:
            ResetNeeded: if there is no episode to go on with.
            UserError: if the actions are no answers.
        """
        mode = self.metadata["autoreset_mode"]
        if self._state is None or (mode == AutoresetMode.DISABLED and self._done.any()):
            raise ResetNeeded("an episode has not begun or is over: call reset first")
        tokens = self.episode.tokens(actions, self.num_envs, "action")
        state, reward = self.episode.revise(self._state, tokens)
        terminated, truncated = self.episode.ended(state)
        infos: dict[str, Any] = {}
        if mode == AutoresetMode.NEXT_STEP:
            state = self._with_fresh_rows(state, self._done)
            reward = reward.masked_fill(self._done, 0.0)
            terminated, truncated = terminated & ~self._done, truncated & ~self._done
        self._done = terminated | truncated
        if mode == AutoresetMode.SAME_STEP and self._done.any():
            infos = _final(state, self._done)
            state = self._with_fresh_rows(state, self._done)
        self._state = state
        infos |= _info(state, torch.ones_like(self._done))
        flags = terminated.numpy(), truncated.numpy()
        return _observation(state), reward.double().numpy(), *flags, infos

    def render(self) -> tuple[str, ...] | None:
        """Returns question and answer of every row in text form, or None without a render mode.

        Raises:
            ResetNeeded: if there is nothing to show yet.
        """
        if self.render_mode is None:
            return None
        if self._state is None:
            raise ResetNeeded("nothing to show yet: call reset first")
        return tuple(
            f"{self.puzzle.format_question(question)}\n"
            f"{self.puzzle.format_answer(question, answer)}"
            for question, answer in zip(self._state.question, self._state.answer, strict=True)
        )

    def _with_fresh_rows(self, state: State, rows: Tensor) -> State:
        assert self._stream is not None
        if not rows.any():
            return state
        return state.with_rows(rows, self.episode.begin(self._stream.draw(int(rows.sum()))))

    def _reset_rows(self, mask: Any) -> Tensor:
        """Checks a reset mask, bool of shape (num_envs,); None means every row."""
        if mask is None:
            return torch.ones(self.num_envs, dtype=torch.bool)
        rows = torch.from_numpy(np.array(mask))
        if rows.shape != (self.num_envs,) or rows.dtype != torch.bool or not rows.any():
            raise UserError(f"reset_mask must be bool of shape ({self.num_envs},), not all false")
        if self._state is None and not rows.all():
            raise UserError("reset_mask: the first reset must be of every row")
        return rows

    def _given(self, options: dict[str, Any]) -> State:
        """Returns first states of puzzles from outside, one per row."""
        for key in options:
            if key not in GIVEN:
                raise UserError(f"options: {key} is unknown{suggest(key, (*GIVEN, 'reset_mask'))}")
        if "question" not in options:
            raise UserError("options: an answer needs its question")
        return self.episode.given(options["question"], options.get("answer"), self.num_envs)


class RevisionEnv(gymnasium.Env[Observation, np.ndarray]):
    """One puzzle at a time: the only row of a `RevisionVectorEnv`.

    `reset(options={"question": ..., "answer": ...})` starts from a given puzzle, as tokens of shape
    (L,) or in its text form; the answer may be left out.

    Args:
        puzzle: the puzzle.
        render_mode: None, or "ansi": `render()` returns question and answer in text form.
        settings: see `Episode`.

    Raises:
        UserError: if a setting is not allowed.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 1}  # noqa: RUF012

    def __init__(
        self, puzzle: Puzzle, *, render_mode: str | None = None, **settings: Unpack[EpisodeSettings]
    ) -> None:
        """Builds the spaces."""
        self._batch = RevisionVectorEnv(
            puzzle, 1, render_mode=render_mode, autoreset_mode=AutoresetMode.DISABLED, **settings
        )
        self.puzzle, self.episode = puzzle, self._batch.episode
        self.render_mode = render_mode
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode; see `gymnasium.Env.reset`. A seed starts its stream anew."""
        super().reset(seed=seed)
        rows = {key: [value] for key, value in (options or {}).items()}
        observation, info = self._batch.reset(seed=seed, options=rows)
        return _first(observation), {"solved": bool(info["solved"][0])}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Revises the answer; see `gymnasium.Env.step`.

        Raises:
            ResetNeeded: if there is no episode to go on with.
            UserError: if the action is no answer.
        """
        batch = self._batch.step(np.asarray(action)[None])
        observation, reward, terminated, truncated, info = batch
        flags = bool(terminated[0]), bool(truncated[0])
        return _first(observation), float(reward[0]), *flags, {"solved": bool(info["solved"][0])}

    def render(self) -> str | None:
        """Returns question and answer in text form, or None without a render mode."""
        shown = self._batch.render()
        return shown[0] if shown else None


def make_env(name: str, *, render_mode: str | None = None, **settings: Any) -> RevisionEnv:
    """Builds a built-in puzzle as an environment.

    Args:
        name: the name of its config file, such as "countdown".
        render_mode: see `RevisionEnv`.
        settings: those of the puzzle, in place of its config file's, and those of `Episode`.

    Raises:
        UserError: if there is no such puzzle, or a setting is unknown or not allowed.
    """
    puzzle, episode = _parts(name, settings)
    return RevisionEnv(puzzle, render_mode=render_mode, **episode)


def make_vector_env(
    name: str,
    num_envs: int = 1,
    *,
    render_mode: str | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **settings: Any,
) -> RevisionVectorEnv:
    """Builds a built-in puzzle as a batched environment; see `make_env` and `RevisionVectorEnv`."""
    puzzle, episode = _parts(name, settings)
    return RevisionVectorEnv(
        puzzle, num_envs, render_mode=render_mode, autoreset_mode=autoreset_mode, **episode
    )


def _parts(name: str, settings: dict[str, Any]) -> tuple[Puzzle, EpisodeSettings]:
    puzzle, rest = build_parts(name, settings, EpisodeSettings.__annotations__)
    return puzzle, cast(EpisodeSettings, rest)


def _single_spaces(episode: Episode) -> tuple[spaces.Dict, spaces.MultiDiscrete]:
    """Returns the spaces of one row."""
    size = len(episode.puzzle.vocabulary)
    counts, dtype = np.full(episode.puzzle.length, size), np.min_scalar_type(size)
    observation = spaces.Dict(
        {
            "question": spaces.MultiDiscrete(counts, dtype),
            "answer": spaces.MultiDiscrete(counts, dtype),
            "score": spaces.Box(0.0, 1.0, (1,), np.float32),
            "step": spaces.Box(0, episode.horizon, (1,), np.int64),
        }
    )
    return observation, spaces.MultiDiscrete(counts, dtype)


def _observation(state: State) -> Observation:
    """Copies states into arrays that the caller may keep and change."""
    return {
        "question": state.question.numpy().copy(),
        "answer": state.answer.numpy().copy(),
        "score": state.score.numpy().copy()[:, None],
        "step": state.step.numpy().copy()[:, None],
    }


def _first(observation: Observation) -> Observation:
    return {key: value[0] for key, value in observation.items()}


def _info(state: State, rows: Tensor) -> dict[str, np.ndarray]:
    """Returns `solved`, and beside it, as Gymnasium has it, the rows it is given for."""
    return {"solved": (state.solved & rows).numpy(), "_solved": rows.numpy().copy()}


def _final(state: State, rows: Tensor) -> dict[str, Any]:
    """Returns the last observations and infos of rows that are about to be reset."""
    observation = _observation(state)
    last = np.full(len(rows), None, dtype=object)
    for row in rows.nonzero().flatten().tolist():
        last[row] = {key: value[row] for key, value in observation.items()}
    return {
        "final_obs": last,
        "_final_obs": rows.numpy().copy(),
        "final_info": _info(state, rows),
        "_final_info": rows.numpy().copy(),
    }
