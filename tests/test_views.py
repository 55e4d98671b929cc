"""The laws of the episode, and the Gymnasium and TorchRL views against it and each other."""

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
from pir.envs.countdown import Countdown
from pir.envs.episode import Episode, QuestionStream
from pir.envs.gymnasium_view import RevisionEnv, RevisionVectorEnv, make_env
from pir.envs.registration import build_puzzle, environment_id, puzzle_names
from pir.envs.torchrl_view import PuzzleEnv
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import RewardSum, StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from pir.errors import UserError
from pir.puzzle import Puzzle

IDS = sorted(key for key in gymnasium.registry if key.startswith("pir/"))
ROWS = 6
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", params=puzzle_names())
def puzzle(request) -> Puzzle:
    return build_puzzle(request.param)


def guesses(puzzle: Puzzle, question: torch.Tensor, seed: int) -> torch.Tensor:
    """Random tokens everywhere, on given positions too."""
    generator = torch.Generator().manual_seed(seed)
    size = len(puzzle.vocabulary)
    return torch.randint(size, question.shape, generator=generator, dtype=torch.uint8)


def labelled(puzzle: Puzzle, count: int = ROWS) -> TensorDict:
    return puzzle.sample(count, "train", seed=5)


# -------------------------------------------------------------------- the episode


def test_the_return_telescopes_and_keeping_earns_nothing(puzzle):
    episode, batch = Episode(puzzle, horizon=5), labelled(puzzle)
    state = first = episode.begin(batch["question"])
    assert (first.answer == first.question).all()
    total = torch.zeros(ROWS)
    for step in range(4):
        action = batch["solution"] if step == 2 else guesses(puzzle, state.question, step)
        state, reward = episode.revise(state, action)
        total += reward
    torch.testing.assert_close(total, state.score - first.score)
    kept, reward = episode.revise(state, state.answer)
    assert (reward == 0).all()
    assert (kept.answer == state.answer).all()
    right, reward = episode.revise(state, batch["solution"])
    assert right.solved.all()
    torch.testing.assert_close(reward, 1 - state.score)


def test_given_cells_cannot_be_changed(puzzle):
    episode, question = Episode(puzzle), labelled(puzzle)["question"]
    state, _ = episode.revise(episode.begin(question), guesses(puzzle, question, 0))
    given = ~puzzle.written(question)
    assert (state.answer[given] == question[given]).all()
    assert (episode.begin(question, guesses(puzzle, question, 1)).answer == question)[given].all()


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("limit", ["terminate", "truncate"])
def test_how_an_episode_ends(limit, stop):
    puzzle = Countdown()
    batch = labelled(puzzle, 2)
    episode = Episode(puzzle, horizon=3, stop_when_solved=stop, time_limit=limit)
    state = episode.begin(batch["question"])
    ends = []
    for _ in range(3):  # row 0 is solved from the first step on, row 1 never
        action = torch.stack([batch["solution"][0], batch["question"][1]])
        state, _ = episode.revise(state, action)
        ends.append([part.tolist() for part in episode.ended(state)])
    never, both = [False, False], [True, True]
    early, late = ([True, False], [False, True]) if stop else (never, both)
    last = [both, never] if limit == "terminate" else [early, late]
    assert ends == [[early, never], [early, never], last]
    assert state.step.tolist() == [3, 3]


def test_a_stream_does_not_depend_on_how_it_is_drawn():
    puzzle = Countdown()
    whole = QuestionStream(puzzle, "val", 3).draw(7)
    parts = QuestionStream(puzzle, "val", 3)
    assert (torch.cat([parts.draw(count) for count in (1, 4, 2)]) == whole).all()
    assert (whole == puzzle.sample(7, "val", seed=3)["question"]).all()
    huge = QuestionStream(puzzle, "val", 2**64 + 3).draw(7)
    assert (huge == whole).all()


def test_a_finite_stream_starts_over(monkeypatch):
    puzzle = Countdown()
    monkeypatch.setattr(puzzle, "size", lambda split: 3)
    stream = QuestionStream(puzzle, "test", 0)
    first = puzzle.sample(3, "test", seed=0)["question"]
    assert (stream.draw(8) == first.repeat(3, 1)[:8]).all()
    assert (stream.draw(2) == first.roll(-2, 0)[:2]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "horizon=0: allowed is a whole number, at least 1"),
        ({"horizon": 2.0}, "horizon=2.0"),
        ({"stop_when_solved": 1}, "stop_when_solved=1"),
        ({"time_limit": "stop"}, "time_limit=stop: allowed are terminate, truncate"),
        ({"instances": "all"}, "instances=all: allowed are train, val, test"),
    ],
)
def test_settings_that_are_not_allowed(settings, message):
    for build in (
        lambda: RevisionEnv(Countdown(), **settings),
        lambda: PuzzleEnv(Countdown(), 2, **settings),
        lambda: gymnasium.make_vec("pir/Countdown-v0", num_envs=2, **settings),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            build()


# -------------------------------------------------------------------- Gymnasium


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
        assert set(info) == {"solved", "_solved"}
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
        ({"horizn": 4}, "horizn is unknown; did you mean horizon?"),
        ({"numbers": 9}, "env.numbers=9"),
        ({"numbers": "four"}, "env.numbers=four"),
        ({"_target_": "os.system"}, "_target_ is unknown"),
        ({"render_mode": "human"}, "render_mode=human: allowed are ansi"),
    ],
)
def test_settings_that_gymnasium_hands_on_are_checked(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        gymnasium.make("pir/Countdown-v0", **settings)
    with pytest.raises(UserError, match=re.escape(message)):
        gymnasium.make_vec("pir/Countdown-v0", num_envs=2, **settings)


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


def test_steps_that_are_not_allowed():
    env = RevisionEnv(Countdown(), horizon=1)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(env.action_space.sample())
    assert env.render() is None
    env.reset(seed=0)
    with pytest.raises(UserError, match="action holds the token 300: allowed are 0"):
        env.step(np.full(6, 300))
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


# -------------------------------------------------------------------- TorchRL


@pytest.mark.parametrize("stop", [False, True])
def test_torchrls_checker(puzzle, stop):
    env = PuzzleEnv(puzzle, 2, horizon=2, stop_when_solved=stop)
    check_env_specs(env)
    check_env_specs(env, break_when_any_done="both")
    check_env_specs(env, seed=0)


def test_both_views_tell_the_same_story(puzzle):
    env, envs = (
        PuzzleEnv(puzzle, ROWS, horizon=3, seed=6),
        RevisionVectorEnv(puzzle, ROWS, horizon=3),
    )
    steps = env.rollout(3, break_when_any_done=False)
    observation, _ = envs.reset(seed=6)
    for step in steps.unbind(1):
        for key, value in observation.items():
            assert (step[key].numpy() == value).all()
        observation, reward, terminated, truncated, _ = envs.step(step["action"].numpy())
        assert (step["next", "reward"][:, 0].numpy() == reward).all()
        assert (step["next", "terminated"][:, 0].numpy() == terminated).all()
        assert (step["next", "truncated"][:, 0].numpy() == truncated).all()
    assert terminated.all()
    assert "solution" not in steps.keys(True, True)


def test_same_seed_same_stream():
    env = PuzzleEnv(Countdown(), 3, seed=1)
    first = [env.reset()["question"] for _ in range(2)]
    expected = Countdown().sample(6, "train", seed=1)["question"]
    assert (torch.cat(first) == expected).all()
    env.set_seed(1)
    assert (env.reset()["question"] == first[0]).all()
    torch.manual_seed(0)
    drawn = PuzzleEnv(Countdown(), 3).reset()["question"]
    torch.manual_seed(0)
    assert (PuzzleEnv(Countdown(), 3).reset()["question"] == drawn).all()
    assert (PuzzleEnv(Countdown(), 3).reset()["question"] != drawn).any()


def test_rows_that_are_solved_take_the_next_puzzles():
    puzzle = Countdown()
    batch = puzzle.sample(40, "train", seed=3)
    env = PuzzleEnv(puzzle, 4, horizon=3, stop_when_solved=True, seed=3)

    def half_solve(tensordict: TensorDictBase) -> TensorDictBase:
        """Solves the even rows, in every step."""
        same = (tensordict["question"][:, None] == batch["question"][None]).all(-1)
        solution = batch["solution"][same.float().argmax(1)]
        even = (torch.arange(4) % 2 == 0)[:, None]
        return tensordict.set("action", torch.where(even, solution, tensordict["question"]))

    steps = env.rollout(6, half_solve, break_when_any_done=False)
    done, step = steps["next", "done"][..., 0], steps["step"][..., 0]
    assert done[::2].all()
    assert (step[::2] == 0).all()
    assert (step[1::2] == torch.arange(6) % 3).all()
    assert (steps["next", "question"] == steps["question"]).all()
    rows = [batch["question"].tolist().index(q) for q in steps["question"].flatten(0, 1).tolist()]
    assert sorted(set(rows)) == list(range(4 + 5 * 2 + 2))  # every puzzle once, none left out
    whole = env.rollout(6, half_solve, break_when_all_done=True)
    assert whole.shape == (4, 3)
    assert (whole["next", "score"][::2] == 1).all()  # ended rows keep their last transition
    assert (whole["next", "step"][::2] == 1).all()


def test_rows_that_are_not_stepped_stay():
    env = PuzzleEnv(Countdown(), 3, seed=0)
    start = env.reset()
    mask = torch.tensor([True, False, True])
    after = env.step(env.rand_action(start.clone()).set("_step", mask))["next"]
    assert after["step"][:, 0].tolist() == [1, 0, 1]
    assert (after["answer"][1] == start["answer"][1]).all()
    assert after["reward"][1] == 0


def test_states_can_be_set(puzzle):
    batch = labelled(puzzle)
    env = PuzzleEnv(puzzle, ROWS, horizon=4, seed=0)
    start = env.reset(batch.select("question"), set_state=True)
    assert (start["answer"] == batch["question"]).all()
    given = TensorDict({"question": batch["question"], "answer": batch["solution"]}, [ROWS])
    assert (env.reset(given, set_state=True)["score"] == 1).all()
    drawn = env.reset(given.clone(), set_state=False)["question"]
    assert (drawn == puzzle.sample(ROWS, "train", seed=0)["question"]).all()
    half = env.rollout(2, break_when_any_done=False)[:, -1]["next"]
    again = env.rollout(
        9, tensordict=env.reset(half.exclude("reward"), set_state=True), auto_reset=False
    )
    assert again["step"][0, :, 0].tolist() == [2, 3]
    assert (again["score"][:, 0] == half["score"]).all()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "needs a tensordict with a question"),
        ({"question": torch.zeros(2, 5, dtype=torch.uint8)}, "question has the shape (2, 5)"),
        (
            {"question": torch.zeros(2, 6, dtype=torch.uint8), "step": torch.full((2, 1), 8)},
            "step: a state to go on from has 0..7",
        ),
    ],
)
def test_states_that_cannot_be_set(entries, message):
    with pytest.raises(UserError, match=re.escape(message)):
        PuzzleEnv(Countdown(), 2).reset(TensorDict(entries, [2]), set_state=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchrl's, of its own classes
def test_transforms_and_a_collector():
    from torchrl.collectors import Collector

    env = PuzzleEnv(Countdown(), 4, horizon=3, seed=0)
    steps = TransformedEnv(env, RewardSum()).append_transform(StepCounter()).rollout(3)
    last = steps["next"][:, -1]
    torch.testing.assert_close(last["episode_reward"], last["score"] - steps["score"][:, 0])
    assert (last["step_count"] == last["step"]).all()
    collector = Collector(env, frames_per_batch=24, total_frames=48)
    batches = list(collector)
    collector.shutdown()
    assert [batch.shape for batch in batches] == [(4, 6), (4, 6)]
    questions = torch.cat([batch["question"][:, ::3] for batch in batches], 1)
    assert len(set(map(tuple, questions.flatten(0, 1).tolist()))) == 16


def test_only_the_view_and_its_check_import_torchrl():
    importing = {
        file.name
        for folder in ("envs", "pir")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) torchrl", file.read_text(), re.MULTILINE)
    }
    assert importing == {"torchrl_view.py", "check_env.py"}
