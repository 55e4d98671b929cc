"""Any puzzle as a Gymnasium environment, alone or natively batched.

    env = gymnasium.make("pir/Countdown-v0", numbers=4, horizon=6)
    envs = gymnasium.make_vec("pir/Countdown-v0", num_envs=256)

Observations hold `question` and `answer` (L tokens, uint8), `score` (float32) and `step` (int64);
`info` holds `solved` and `action_mask` (what each position of the action may hold, bool of shape
(L, V)). `pir.envs.views.episode` has the rules of an episode.
"""

from functools import cached_property
from typing import Any, Unpack, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from pir.envs.views.episode import Episode, EpisodeSettings, QuestionStream, State
from pir.envs.views.registration import build_parts
from torch import Tensor

from pir.checks import check_choice, check_whole, suggest
from pir.errors import UserError
from pir.puzzle import Puzzle
from pir.puzzle_files.tokens import read_tokens

Observation = dict[str, np.ndarray]

GIVEN = ("question", "answer")
METADATA: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}


class RevisionVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """A batch of puzzles; every row that is reset takes the next one of the seed's stream.

    `reset(options=...)` understands `question`, and with it `answer`: puzzles to start from, one
    per row, as tokens of shape (num_envs, L) or a list in text form; and `reset_mask`, bool of
    shape (num_envs,): the rows to reset.

    Args:
        puzzle: the puzzle.
        num_envs: how many rows.
        render_mode: what `render()` returns for every row: "ansi", question and answer in text
            form; "rgb_array", a drawing of the answer, uint8 of shape (H, W, 3), H and W the same
            for every answer of a puzzle; or None.
        autoreset_mode: when a row that ended is reset: with the next step, within the same step, or
            not at all; see `gymnasium.vector.AutoresetMode`.
        settings: see `Episode`.

    Raises:
        UserError: if a setting is not allowed.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        **METADATA,
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
        num_envs = check_whole("num_envs", num_envs)
        if render_mode is not None:
            check_choice("render_mode", render_mode, METADATA["render_modes"])
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
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
        return _observation(self._state), self._info(self._state, rows)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Revises every answer; see `VectorEnv.step`. Rows that are reset ignore their action.

        Raises:
            ResetNeeded: if there is no episode to go on with.
            UserError: if the actions are no answers.
        """
        mode = self.autoreset_mode
        if self._state is None or (mode == AutoresetMode.DISABLED and self._done.any()):
            raise ResetNeeded("an episode has not begun or is over: call reset first")
        tokens = read_tokens(self.puzzle, actions, "action", self.num_envs)
        state, reward = self.episode.revise(self._state, tokens)
        terminated, truncated = self.episode.ended(state)
        infos: dict[str, Any] = {}
        if mode == AutoresetMode.NEXT_STEP:
            state = self._with_fresh_rows(state, self._done)
            reward = reward.masked_fill(self._done, 0.0)
            terminated, truncated = terminated & ~self._done, truncated & ~self._done
        self._done = terminated | truncated
        if mode == AutoresetMode.SAME_STEP and self._done.any():
            infos = self._final(state, self._done)
            state = self._with_fresh_rows(state, self._done)
        self._state = state
        infos |= self._info(state, torch.ones_like(self._done))
        flags = terminated.numpy(), truncated.numpy()
        return _observation(state), reward.double().numpy(), *flags, infos

    def render(self) -> tuple[str, ...] | tuple[np.ndarray, ...] | None:
        """Returns text or a drawing for every row, as `render_mode` says; None without one.

        Raises:
            ResetNeeded: if there is nothing to show yet.
        """
        if self.render_mode is None:
            return None
        if self._state is None:
            raise ResetNeeded("nothing to show yet: call reset first")
        rows = list(zip(self._state.question, self._state.answer, strict=True))
        if self.render_mode == "ansi":
            text = self.puzzle
            return tuple(f"{text.format_question(q)}\n{text.format_answer(q, a)}" for q, a in rows)
        from pir.notation.drawing import draw_frame

        return tuple(draw_frame(self.puzzle.picture(q, a), self._frame_size) for q, a in rows)

    @cached_property
    def _frame_size(self) -> tuple[int, int]:
        """Width and height of frames in cells: those of one picture, the same for all seeds."""
        from pir.notation.drawing import extent

        question = QuestionStream(self.puzzle, self.episode.instances, seed=0).draw(1)[0]
        return extent(self.puzzle.picture(question, question))

    def _info(self, state: State, rows: Tensor) -> dict[str, np.ndarray]:
        """Returns infos, and beside each, as Gymnasium has it, the rows it is given for."""
        given = {"solved": state.solved}
        if self.episode.masked:
            given["action_mask"] = self.episode.action_mask(state.question)
        infos = {}
        for key, value in given.items():
            infos[key] = value.numpy().copy()
            infos[key][~rows.numpy()] = False
            infos[f"_{key}"] = rows.numpy().copy()
        return infos

    def _final(self, state: State, rows: Tensor) -> dict[str, Any]:
        """Returns the last observations and infos of rows that are about to be reset."""
        observation = _observation(state)
        last = np.full(len(rows), None, dtype=object)
        for row in rows.nonzero().flatten().tolist():
            last[row] = {key: value[row] for key, value in observation.items()}
        return {
            "final_obs": last,
            "_final_obs": rows.numpy().copy(),
            "final_info": self._info(state, rows),
            "_final_info": rows.numpy().copy(),
        }

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
        render_mode: what `render()` returns; see `RevisionVectorEnv`.
        settings: see `Episode`.

    Raises:
        UserError: if a setting is not allowed.
    """

    metadata = METADATA

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
        return _first(observation), _first_info(info)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Revises the answer; see `gymnasium.Env.step`.

        Raises:
            ResetNeeded: if there is no episode to go on with.
            UserError: if the action is no answer.
        """
        batch = self._batch.step([action])  # type: ignore[arg-type]
        observation, reward, terminated, truncated, info = batch
        flags = bool(terminated[0]), bool(truncated[0])
        return _first(observation), float(reward[0]), *flags, _first_info(info)

    def render(self) -> str | np.ndarray | None:
        """Returns text or a drawing, as `render_mode` says; None without one."""
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


make_env.metadata = METADATA  # type: ignore[attr-defined]  # where gymnasium.make looks for it


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
    observation = spaces.Dict(
        {
            "question": _token_space(episode.puzzle),
            "answer": _token_space(episode.puzzle),
            "score": spaces.Box(0.0, 1.0, (1,), np.float32),
            "step": spaces.Box(0, episode.horizon, (1,), np.int64),
        }
    )
    return observation, _token_space(episode.puzzle)


def _token_space(puzzle: Puzzle) -> spaces.MultiDiscrete:
    counts = np.full(puzzle.length, len(puzzle.vocabulary))
    space = spaces.MultiDiscrete(counts, np.min_scalar_type(len(puzzle.vocabulary)))
    space.nvec = counts  # in 64 bits: others add the counts up, which 8 bits do not hold
    return space


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


def _first_info(info: dict[str, np.ndarray]) -> dict[str, Any]:
    first = {key: value[0] for key, value in info.items() if not key.startswith("_")}
    return first | {"solved": bool(first["solved"])}
