"""The TorchRL view against TorchRL's own checks, and against the Gymnasium view."""

import re

import gymnasium
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.views.gymnasium_view import RevisionVectorEnv
from pir.envs.views.registration import build_puzzle
from pir.envs.views.torchrl_view import PuzzleEnv
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import (
    ActionMask,
    GymEnv,
    GymWrapper,
    RewardSum,
    SerialEnv,
    StepCounter,
    TransformedEnv,
)
from torchrl.envs.utils import check_env_specs

from pir.errors import UserError
from tests.views import IDS, ROOT, ROWS, labelled


def test_a_reset_of_no_row_changes_nothing():
    env = PuzzleEnv(build_puzzle("countdown"), 3, horizon=2, seed=0)
    before = env.reset()
    nothing = before.clone().set("_reset", torch.zeros(3, 1, dtype=torch.bool))
    for set_state in (False, True):
        after = env.reset(nothing.clone(), set_state=set_state)
        assert torch.equal(after["question"], before["question"])


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
            {"question": torch.zeros(2, 6, dtype=torch.uint8), "step": torch.full((2, 1), 9)},
            "step: a state to go on from has 0..7",
        ),
    ],
)
def test_states_that_cannot_be_set(entries, message):
    with pytest.raises(UserError, match=re.escape(message)):
        PuzzleEnv(Countdown(), 2).reset(TensorDict(entries, [2]), set_state=True)


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("set_state", [None, True, False])
@pytest.mark.filterwarnings("ignore:A reset tensordict carrying state:FutureWarning")
def test_rows_that_are_over_take_the_next_puzzles_at_a_reset(horizon, set_state):
    puzzle = Countdown()
    env = PuzzleEnv(puzzle, 3, horizon=horizon, seed=0)
    last = env.rollout(horizon)[:, -1]["next"]
    given = {} if set_state is None else {"set_state": set_state}
    fresh = env.reset(last.clone(), **given)
    assert fresh["step"].flatten().tolist() == [0, 0, 0]
    assert not fresh["done"].any()
    assert (fresh["question"] == puzzle.sample(3, "train", seed=0, start=3)["question"]).all()


def test_only_rows_that_are_over_are_not_gone_on_from():
    puzzle = Countdown()
    batch = puzzle.sample(4, "train", seed=0)
    env = PuzzleEnv(puzzle, 3, horizon=5, stop_when_solved=True, seed=0)
    start = env.reset()
    action = start["question"].clone()
    action[1] = batch["solution"][1]
    half = env.step(start.set("action", action))["next"]
    assert half["done"].flatten().tolist() == [False, True, False]
    again = env.reset(half.clone(), set_state=True)
    assert again["step"].flatten().tolist() == [1, 0, 1]
    assert (again["question"] == batch["question"][[0, 3, 2]]).all()
    mask = torch.tensor([False, True, False])[:, None]
    half["step"][0] = 99  # of a row that is not reset
    partly = env.reset(half.clone().set("_reset", mask), set_state=True)
    assert partly["step"][1] == 0
    assert (partly["question"][1] != batch["question"][3]).any()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.full((2, 6), 258), "action holds the token 258: allowed are 0"),
        (torch.full((2, 6), 200, dtype=torch.uint8), "action holds the token 200"),
        (torch.full((2, 6), -1), "action holds the token -1"),
        (torch.full((2, 6), 2.7), "action holds torch.float32, not whole numbers"),
        (torch.full((2, 6), 2j), "action holds torch.complex64, not whole numbers"),
        (torch.full((2, 6), True), "action holds torch.bool, not whole numbers"),
        (torch.zeros(2, 5, dtype=torch.int64), "action has the shape (2, 5)"),
        (torch.zeros(2, dtype=torch.int64), "action has the shape (2,)"),
    ],
)
def test_actions_out_of_the_spec_are_refused(action, message):
    env = PuzzleEnv(Countdown(), 2, seed=0)
    start = env.reset()
    with pytest.raises(UserError, match=re.escape(message)):
        env.step(start.set("action", action))


def test_random_actions_keep_to_the_mask(puzzle):
    env = TransformedEnv(PuzzleEnv(puzzle, 3, horizon=2, seed=0), ActionMask())
    steps = env.rollout(5, break_when_any_done=False)
    assert steps["action_mask"].gather(-1, steps["action"].long()[..., None]).all()
    plain = PuzzleEnv(puzzle, 3, action_mask=False)
    check_env_specs(plain)
    assert "action_mask" not in plain.reset()


def test_observations_are_the_callers_to_change():
    env = PuzzleEnv(Countdown(), 2, seed=0)
    start = env.reset()
    question = start["question"].clone()
    start["question"].zero_()
    start["action_mask"].zero_()
    after = env.step(start.set("action", question))["next"]
    assert (after["question"] == question).all()
    assert after["action_mask"].any(-1).all()


@pytest.mark.gpu
def test_an_episode_goes_on_where_the_environment_moves_to():
    env = PuzzleEnv(Countdown(), 2, seed=0)
    start = env.reset()
    moved = env.to("cuda")
    after = moved.step(start.to("cuda").set("action", start["question"].cuda()))["next"]
    assert after["step"].flatten().tolist() == [1, 1]
    assert after["question"].device.type == "cuda"
    assert (after["question"].cpu() == start["question"]).all()


@pytest.mark.parametrize("key", IDS)
def test_gymnasium_ids_are_torchrls_too(key):
    env = GymEnv(key)
    assert env.rollout(2).shape == (2,)
    check_env_specs(env)


def test_gymnasium_ids_with_torchrls_options():
    assert GymEnv("pir/Sudoku4-v0", frame_skip=2).rollout(2)["next", "step"].tolist() == [[2], [4]]
    frames = GymEnv("pir/Sudoku4-v0", from_pixels=True).rollout(2)["pixels"]
    assert frames.shape == (2, 144, 144, 3)
    for mode in ("Disabled", "SameStep"):
        envs = gymnasium.make_vec("pir/Sudoku4-v0", num_envs=3, autoreset_mode=mode, horizon=2)
        steps = GymWrapper(envs).rollout(5, break_when_any_done=False)
        assert steps["step"][..., 0].tolist() == [[0, 1, 0, 1, 0]] * 3


def test_several_environments_in_one_process():
    env = SerialEnv(2, lambda: PuzzleEnv(build_puzzle("sudoku4"), 3, horizon=3))
    check_env_specs(env)
    assert env.rollout(7, break_when_any_done=False).shape == (2, 3, 7)


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


def test_torchrl_is_imported_in_few_places():
    importing = {
        file.name
        for folder in ("envs", "pir")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import|from) torchrl", file.read_text(), re.MULTILINE)
    }
    assert importing == {
        "torchrl_actor.py",
        "torchrl_view.py",
        "check_env.py",
        "hard_puzzles.py",
        "loggers.py",
    }
