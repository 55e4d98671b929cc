"""The Gymnasium view against Gymnasium's own checks and environments."""

import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from pir.envs.countdown.rules import Countdown
from pir.envs.views.gymnasium_view import RevisionEnv, RevisionVectorEnv, make_env
from pir.envs.views.registration import environment_id, puzzle_names

from pir.errors import UserError
from tests.views import IDS, ROWS, guesses


def test_every_puzzle_is_registered_under_its_name():
    assert sorted(environment_id(name) for name in puzzle_names()) == IDS
    assert environment_id("countdown") == "pir/Countdown-v0"
    assert environment_id("maze_hard") == "pir/MazeHard-v0"


def test_registering_is_light():
    code = """
import sys, pir.envs
assert "pir/Countdown-v0" in sys.modules["gymnasium"].registry
assert not {"torch", "torchrl", "numba", "hydra"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("key", IDS)
def test_every_id_passes_gymnasiums_checker(key):
    check_env(gymnasium.make(key, horizon=4).unwrapped)  # a warning is an error here


@pytest.mark.parametrize("key", IDS)
def test_every_id_makes_a_native_vector_environment(key):
    envs = gymnasium.make_vec(key, num_envs=3, horizon=2)
    assert isinstance(envs, RevisionVectorEnv)
    observation, info = envs.reset(seed=1)
    for _ in range(3):
        assert observation in envs.observation_space
        assert set(observation) == {"question", "answer", "score", "step"}
        assert observation["question"].dtype == observation["answer"].dtype == np.uint8
        assert set(info) == {"solved", "_solved", "action_mask", "_action_mask"}
        envs.action_space.seed(0)
        observation, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        assert reward.shape == terminated.shape == truncated.shape == (3,)


def test_settings_reach_puzzle_and_episode():
    env = gymnasium.make("pir/Countdown-v0", numbers=4, number_range=(1, 9), horizon=6).unwrapped
    assert env.puzzle.numbers == 4
    assert env.puzzle.number_range == (1, 9)
    assert env.episode.horizon == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numbrs": 4}, "numbrs is unknown; did you mean numbers?"),
        ({"frameskip": 1}, "unexpected keyword argument 'frameskip'"),
        ({"horizn": 4}, "horizn is unknown; did you mean horizon?"),
        ({"numbers": 9}, "env.numbers=9"),
        ({"numbers": "four"}, "env.numbers=four"),
        ({"_target_": "os.system"}, "_target_ is unknown"),
        ({"render_mode": "svg"}, "render_mode=svg: allowed are ansi, rgb_array"),
        ({"action_mask": 1}, "action_mask=1: allowed is true or false"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode='svg':UserWarning")  # Gymnasium says it too
def test_settings_that_gymnasium_hands_on_are_checked(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        gymnasium.make("pir/Countdown-v0", **settings)
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        gymnasium.make_vec("pir/Countdown-v0", num_envs=2, **settings)
    # Only a keyword that there is not may be left out and the call tried again.
    assert isinstance(raised.value, TypeError) == ("is unknown" in str(raised.value))


def test_settings_may_be_numbers_of_numpy():
    clues = (np.int64(6), np.int64(8))
    env = gymnasium.make("pir/Sudoku4-v0", horizon=np.int64(4), clues=clues).unwrapped
    assert (env.episode.horizon, env.puzzle.clues) == (4, (6, 8))


@pytest.mark.parametrize("key", IDS)
def test_frames_have_one_size(key):
    env = gymnasium.make(key, render_mode="rgb_array", horizon=2)
    envs = gymnasium.make_vec(key, num_envs=2, render_mode="rgb_array", horizon=2)
    frames = []
    for seed in range(2):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        frames.append(env.render())
        env.step(env.action_space.sample())
        frames.append(env.render())
    envs.reset(seed=0)
    together = envs.render()
    assert len(together) == 2
    assert (together[0] == frames[0]).all()
    for frame in [*frames, *together]:
        assert frame.dtype == np.uint8
        assert frame.shape == (*frames[0].shape[:2], 3)
        assert len(np.unique(frame)) > 3  # something is drawn
        assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0  # as video codecs want it
    assert (frames[0] != frames[2]).any()


def test_the_list_of_frames_is_gymnasiums_own_wrapper():
    env = gymnasium.make("pir/Queens-v0", render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert len(env.render()) == 2


def test_masks_say_what_positions_may_hold(puzzle):
    envs = RevisionVectorEnv(puzzle, ROWS, horizon=2)
    observation, info = envs.reset(seed=1)
    question = torch.from_numpy(observation["question"])
    written = puzzle.written(question).numpy()
    mask = info["action_mask"]
    assert mask.dtype == bool
    assert mask.shape == (ROWS, puzzle.length, len(puzzle.vocabulary))
    for row in range(ROWS):
        assert (mask[row][written[row]] == puzzle.slot_mask.numpy()[written[row]]).all()
        assert (mask[row][~written[row]].sum(1) == 1).all()
        clamped = mask[row].argmax(1)[~written[row]]
        assert (clamped == observation["question"][row][~written[row]]).all()
    solution = puzzle.sample(ROWS, "train", seed=1)["solution"].long()
    assert torch.from_numpy(mask).gather(2, solution[:, :, None]).all()
    mask.fill(False)  # the caller's to change
    assert envs.step(observation["answer"])[4]["action_mask"].any(2).all()
    env = RevisionEnv(puzzle)
    _, info = env.reset(seed=1)
    allowed = tuple(info["action_mask"].astype(np.int8))
    action = env.action_space.sample(mask=allowed)
    assert info["action_mask"][np.arange(puzzle.length), action].all()
    assert "action_mask" not in RevisionEnv(puzzle, action_mask=False).reset()[1]


@pytest.mark.parametrize("key", IDS)
def test_counts_of_tokens_can_be_added_up(key):
    """Stable-Baselines3 does, in the type that the space has."""
    env = gymnasium.make(key)
    for space in (env.action_space, env.observation_space["question"]):
        size = len(env.unwrapped.puzzle.vocabulary)
        assert sum(space.nvec) == env.unwrapped.puzzle.length * size
        assert space.dtype == np.uint8


@pytest.mark.parametrize("mode", ["sync", pytest.param("async", marks=pytest.mark.slow)])
def test_gymnasiums_own_vector_environments(mode):
    envs = gymnasium.make_vec("pir/Sudoku4-v0", num_envs=2, vectorization_mode=mode)
    try:
        envs.reset(seed=1)
        info = envs.step(envs.action_space.sample())[4]
    finally:
        envs.close()
    assert info["action_mask"].shape == (2, 16, 6)
    assert info["_action_mask"].all()


def test_environments_can_be_copied_and_sent():
    env = gymnasium.make("pir/Sudoku4-v0")
    observation, _ = env.reset(seed=3)
    copies = pickle.loads(pickle.dumps(env)), copy.deepcopy(env)
    after = env.step(observation["answer"])
    for one in copies:
        assert data_equivalence(one.step(observation["answer"]), after, exact=True)
    assert (env.spec.make().reset(seed=3)[0]["question"] == observation["question"]).all()


def test_stable_baselines3():
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env as check
    from stable_baselines3.common.env_util import make_vec_env

    for key in IDS:
        check(gymnasium.make(key))
        assert make_vec_env(key, n_envs=2).reset()["step"].tolist() == [[0], [0]]
    envs = make_vec_env("pir/Countdown-v0", n_envs=2)
    model = PPO("MultiInputPolicy", envs, n_steps=32, batch_size=32, seed=0)
    assert model.learn(64).num_timesteps == 64


def test_a_puzzle_that_does_not_exist():
    with pytest.raises(UserError, match="env=cuntdown: there is no such choice; did you mean coun"):
        make_env("cuntdown")


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("limit", ["terminate", "truncate"])
def test_autoreset_is_that_of_gymnasiums_own_vector_environment(mode, limit):
    """With one row both draw the same stream, so every value must be the same."""
    puzzle = Countdown()
    settings = {"horizon": 3, "stop_when_solved": True, "time_limit": limit}
    own = RevisionVectorEnv(puzzle, 1, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv([lambda: RevisionEnv(puzzle, **settings)], autoreset_mode=mode)
    assert own.metadata == theirs.metadata
    assert own.observation_space == theirs.observation_space
    assert own.action_space == theirs.action_space
    labels = puzzle.sample(9, "train", seed=7)
    assert data_equivalence(own.reset(seed=7), theirs.reset(seed=7), exact=True)
    episodes = 0
    for step in range(14):
        action = guesses(puzzle, labels["question"][:1], step).numpy()
        if step % 5 == 1:  # solve the puzzle at hand
            now = (labels["question"] == torch.from_numpy(own._state.question.numpy())).all(1)
            action = labels["solution"][now].numpy()
        one, other = own.step(action), theirs.step(action)
        assert data_equivalence(one, other, exact=True)
        ended = bool(one[2][0] or one[3][0])
        episodes += ended
        assert ("final_obs" in one[4]) == (ended and mode == AutoresetMode.SAME_STEP)
        if ended and mode == AutoresetMode.DISABLED:
            with pytest.raises(gymnasium.error.ResetNeeded):
                own.step(action)
            options = {"reset_mask": np.array([True])}
            assert data_equivalence(
                own.reset(options=options.copy()), theirs.reset(options=options.copy()), exact=True
            )
    assert episodes >= 4


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_rows_that_end_take_the_next_puzzles(mode):
    puzzle = Countdown()
    envs = RevisionVectorEnv(puzzle, 3, autoreset_mode=mode, stop_when_solved=True)
    batch = puzzle.sample(4, "train", seed=2)
    questions = batch["question"].numpy()
    observation, _ = envs.reset(seed=2)
    assert (observation["question"] == questions[:3]).all()
    action = questions[:3].copy()
    action[1] = batch["solution"][1].numpy()
    observation, reward, terminated, _, info = envs.step(action)
    assert terminated.tolist() == [False, True, False]
    assert reward.tolist() == pytest.approx([0, 1, 0])
    if mode == "SameStep":
        assert info["final_obs"][0] is None
        assert (info["final_obs"][1]["answer"] == action[1]).all()
        assert info["final_info"]["solved"].tolist() == terminated.tolist()
    else:
        assert (observation["answer"] == action).all()
        observation, reward, terminated, _, info = envs.step(action)
        assert reward.tolist() == [0, 0, 0]
        assert not terminated.any()
    assert (observation["question"] == questions[[0, 3, 2]]).all()
    assert observation["step"][1] == 0
    assert not info["solved"].any()


def test_reset_mask_leaves_the_other_rows():
    puzzle = Countdown()
    envs = RevisionVectorEnv(puzzle, 3, autoreset_mode="Disabled", horizon=4)
    before, _ = envs.reset(seed=0)
    moved = envs.step(guesses(puzzle, torch.from_numpy(before["question"]), 0).numpy())[0]
    mask = np.array([False, True, False])
    after, info = envs.reset(options={"reset_mask": mask})
    assert info["_solved"].tolist() == mask.tolist()
    for key, value in after.items():
        assert (value[~mask] == moved[key][~mask]).all()
    assert (after["question"][1] == puzzle.sample(1, "train", seed=0, start=3)["question"]).all()
    assert after["step"].flatten().tolist() == [1, 0, 1]


def test_one_environment_is_the_first_row_of_many(puzzle):
    one, many = RevisionEnv(puzzle, horizon=3), RevisionVectorEnv(puzzle, ROWS, horizon=3)
    single, batch = one.reset(seed=4)[0], many.reset(seed=4)[0]
    for step in range(3):
        for key, value in single.items():
            assert (value == batch[key][0]).all()
        action = guesses(puzzle, torch.from_numpy(batch["question"]), step).numpy()
        single, reward, *flags, _ = one.step(action[0])
        batch, rewards, *all_flags, _ = many.step(action)
        assert reward == rewards[0]
        assert flags == [bool(flag[0]) for flag in all_flags]
    assert flags == [True, False]
    assert len(one.reset()[0]["question"]) == puzzle.length


def test_given_puzzles_and_their_text(puzzle):
    batch = puzzle.sample(2, "test", seed=8)
    texts = [puzzle.format_question(question) for question in batch["question"]]
    answers = [
        puzzle.format_answer(question, solution)
        for question, solution in zip(batch["question"], batch["solution"], strict=True)
    ]
    env = RevisionEnv(puzzle, render_mode="ansi")
    for question in (texts[0], batch["question"][0], batch["question"][0].numpy()):
        observation, info = env.reset(options={"question": question})
        assert observation["question"].tolist() == batch["question"][0].tolist()
        assert not info["solved"]
    _, info = env.reset(options={"question": texts[0], "answer": answers[0]})
    assert info["solved"]
    assert env.render() == f"{texts[0]}\n{answers[0]}"
    envs = RevisionVectorEnv(puzzle, 2, render_mode="ansi")
    _, info = envs.reset(options={"question": texts, "answer": batch["solution"].numpy()})
    assert info["solved"].all()
    assert envs.render() == tuple(f"{q}\n{a}" for q, a in zip(texts, answers, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"questions": "3 7 8 = 29"}, "questions is unknown; did you mean question?"),
        ({"answer": "8 + 7 * 3"}, "an answer needs its question"),
        ({"question": "3 7 = 29"}, "2 numbers where this puzzle has 3"),
        ({"question": [1, 2]}, "question has the shape (1, 2) where (1, 6) is expected"),
        ({"question": [0.5] * 6}, "question holds torch.float64, not whole numbers"),
        ({"question": [255] * 6}, "question holds the token 255"),
        ({"question": [-1] * 6}, "question holds the token -1"),
    ],
)
def test_options_that_are_not_allowed(options, message):
    env = RevisionEnv(Countdown())
    with pytest.raises(UserError, match=re.escape(message)):
        env.reset(options=options)


def test_one_text_is_no_batch():
    with pytest.raises(UserError, match="a list of 2 texts is expected, not one"):
        RevisionVectorEnv(Countdown(), 2).reset(options={"question": "3 7 8 = 29"})


def test_steps_that_are_not_allowed():
    env = RevisionEnv(Countdown(), horizon=1)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(env.action_space.sample())
    assert env.render() is None
    env.reset(seed=0)
    for wrong, message in (
        (np.full(6, 300), "action holds the token 300: allowed are 0"),
        (np.full(6, -1), "action holds the token -1"),
        (np.full(6, 2.7), "action holds torch.float64, not whole numbers"),
        (np.full(6, True), "action holds torch.bool, not whole numbers"),
        (np.full(6, 2**63, np.uint64), "action holds the token"),
        (np.full(6, "a"), "action is no array of whole numbers"),
        ([[1], [1, 2]], "action is no array of whole numbers"),
        (np.zeros((6, 1), int), "action has the shape"),
        (3, "action has the shape"),
        (None, "action is no array of whole numbers"),
    ):
        with pytest.raises(UserError, match=message):
            env.step(wrong)
    env.step(env.action_space.sample())
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(env.action_space.sample())
    envs = RevisionVectorEnv(Countdown(), 2)
    for mask in ([True], [1, 0], [False, False]):
        with pytest.raises(UserError, match="reset_mask must be bool of shape"):
            envs.reset(options={"reset_mask": np.array(mask)})
    with pytest.raises(UserError, match="the first reset must be of every row"):
        envs.reset(options={"reset_mask": np.array([True, False])})


def test_observations_are_the_callers_to_change():
    envs = RevisionVectorEnv(Countdown(), 2)
    observation, _ = envs.reset(seed=0)
    question = observation["question"].copy()
    for value in observation.values():
        value.fill(0)
    assert (envs.step(question)[0]["question"] == question).all()


def test_the_example_in_the_docs():
    """The answer that is written by hand there earns 1; the batch of random ones is taken."""
    section = Path("docs/puzzles.md").read_text().split("## As environments")[1]
    example = section.split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(example.replace("env.step(", "step = env.step("), names)
    assert names["step"][1] == 1.0
