"""The laws of the episode that every view shares."""

import re

import gymnasium
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.views.episode import Episode, QuestionStream
from pir.envs.views.gymnasium_view import RevisionEnv
from pir.envs.views.torchrl_view import PuzzleEnv

from pir.errors import UserError
from tests.views import ROWS, guesses, labelled


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
