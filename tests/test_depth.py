"""The depth that follows the ledger."""

import torch

from pir.rollout import changed
from pir.schedules.by_ledger import DECIDE_EVERY, SCOUTS, ByLedger
from tests.test_ledger import make_step

LANES = 16 * SCOUTS


def steps_that_gain(depth: ByLedger, share: list[float], decisions: int) -> list[int]:
    """Plays lanes whose step k improves a share of the puzzles; returns the depths chosen."""
    k = torch.zeros(LANES, dtype=torch.int64)
    score = torch.zeros(LANES)
    chosen = []
    for turn in range(decisions * DECIDE_EVERY):
        k = k + 1
        place = torch.arange(LANES) // SCOUTS / (LANES // SCOUTS)
        gained = torch.where(place < torch.tensor(share)[k - 1], 0.1, -0.1)
        step = make_step(batch=LANES)
        step.k, step.before.score, step.after.score = k, score, score + gained
        done = depth.finished(step, turn, depth.num_steps)
        score = torch.where(done, 0.0, score + gained)
        k = torch.where(done, 0, k)
        assert k.max() < depth.num_steps
        if (turn + 1) % DECIDE_EVERY == 0:
            chosen.append(depth.depth)
    return chosen


def test_depth_grows_while_the_next_step_gains():
    depth = ByLedger(6, torch.device("cpu"))
    assert steps_that_gain(depth, [1.0, 0.8, 0.5, 0.2, 0.9, 0.9], 5) == [2, 3, 3, 3, 3]


def test_depth_keeps_to_its_budget_and_shrinks_when_steps_die():
    depth = ByLedger(3, torch.device("cpu"))
    assert steps_that_gain(depth, [1.0, 0.8, 0.8], 4) == [2, 3, 3, 3]
    assert steps_that_gain(depth, [1.0, 0.2, 0.0], 3) == [2, 2, 2]
    assert steps_that_gain(depth, [1.0, 0.0, 0.0], 2) == [1, 1]


def test_every_step_is_trained_side_by_side(monkeypatch):
    """In the long run each of the steps 1 .. depth gets an equal share of the lanes."""
    depth = ByLedger(6, torch.device("cpu"))
    depth.depth = 3
    k, seen = torch.zeros(LANES, dtype=torch.int64), torch.zeros(7)
    monkeypatch.setattr(depth, "_decide", lambda: None)  # the depth stays
    for turn in range(60):
        k = k + 1
        if turn >= 24:
            seen += torch.bincount(k, minlength=7)
        step = changed(make_step(batch=LANES), k=k)
        k = torch.where(depth.finished(step, turn, 6), 0, k)
    scouts = LANES // SCOUTS * 36
    others = LANES * 36 - scouts
    expected = [0, *[others / 3 + scouts / 4] * 3, scouts / 4, 0, 0]
    torch.testing.assert_close(seen, torch.tensor(expected), atol=16.0, rtol=0.0)


def test_state_survives_a_checkpoint():
    one, two = (ByLedger(4, torch.device("cpu")) for _ in range(2))
    steps_that_gain(one, [1.0, 0.8, 0.8, 0.8], 1)
    one.finished(make_step(batch=LANES), 0, 4)
    two.load_state_dict(one.state_dict())
    for depth in (one, two):
        steps_that_gain(depth, [1.0, 0.8, 0.8, 0.8], 1)
    assert str(one.state_dict()) == str(two.state_dict())
