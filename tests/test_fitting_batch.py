"""How many puzzles are improved at once, by the memory at hand."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.sudoku.rules import Sudoku
from tensordict import TensorDict

from pir.errors import UserError
from pir.evaluation import batch_size
from pir.evaluation.batch_size import (
    MOST,
    bytes_per_puzzle,
    fitting_batch,
    memory_at_hand,
    named_when_short,
)
from pir.evaluation.rollouts import evaluate, held_out
from pir.models.trm import TRM
from pir.reasoner import Policy, Reasoner
from pir.rollout import StepCounter, counted
from pir.system import memory
from tests.small_reasoners import SMALL

QUESTION = torch.zeros(3, 5, dtype=torch.uint8)


class Known(Reasoner):
    """Takes up memory that can be counted by hand, float32: weights, which are not of a puzzle,
    latents of 100 numbers, and in a step two of 3000 at once, freed before the next two."""

    improvement_steps, passes_per_step = 1, 1

    def start(self, question):
        return TensorDict({"z": torch.zeros(len(question), 100)}, batch_size=[len(question)])

    def improve(self, question, state, k, condition=None):
        weights = torch.ones(10_000).view(100, 100)
        z = state["z"]
        for _ in range(2):
            wide = z.repeat(1, 30)
            z = (wide + 1)[:, :100] @ weights
            del wide
        return TensorDict({"z": z}, batch_size=state.batch_size)

    def read_out(self, state):
        return Policy(state["z"][:, :35].reshape(-1, 5, 7))


def test_the_bytes_of_a_puzzle_are_those_alive_at_once():
    # the question, the start, z of the second round, and two wide ones; then the policies
    step = 5 + 4 * (100 + 100 + 2 * 3000)
    policies = batch_size.POLICIES * 5 * 7 * 4
    assert bytes_per_puzzle(Known(), QUESTION[:1]) == pytest.approx(step + policies, rel=0.02)


def test_attention_counts_with_the_square_of_the_length():
    sizes = []
    for puzzle in (Sudoku((2, 3), clues=(10, 18)), Sudoku((3, 3), clues=(40, 50))):
        model = TRM(puzzle, mixer="attention", hidden_size=8, heads=8, dtype="bfloat16").eval()
        question = puzzle.sample(1, "test", seed=0)["question"]
        sizes.append(bytes_per_puzzle(model, question))
        assert sizes[-1] >= 2 * 8 * puzzle.length**2 * 2  # scores and their softmax
    assert sizes[1] / sizes[0] > 0.8 * (81 / 36) ** 2


def test_the_estimate_leaves_random_numbers_and_counts_alone():
    puzzle = Countdown()
    model = TRM(puzzle, partial_answer=True, **SMALL)
    before, counter = torch.random.get_rng_state(), StepCounter()
    with counted(counter):
        assert bytes_per_puzzle(model, puzzle.sample(1, "test", seed=0)["question"]) > 0
    assert torch.equal(torch.random.get_rng_state(), before)
    assert counter.lane_steps == 0


def test_the_default_fits_and_a_setting_decides(monkeypatch):
    many = QUESTION[:1].expand(1200, -1)
    assert fitting_batch(None, Known(), many) == MOST
    assert fitting_batch(None, Known(), QUESTION) == fitting_batch(10**30, Known(), QUESTION) == 3
    assert fitting_batch(7, Known(), many) == 7
    each = bytes_per_puzzle(Known(), QUESTION[:1])
    for room, expected in ((0, 1), (1.5, 1), (2, 2), (100, 64), (999, 512), (1e6, MOST)):
        monkeypatch.setattr(
            batch_size, "memory_at_hand", lambda _, r=room: r * each / batch_size.SHARE
        )
        assert fitting_batch(None, Known(), many) == expected
    monkeypatch.setattr(batch_size, "ENOUGH_ON_CPU", 99 * each)  # more would not be faster
    assert fitting_batch(None, Known(), many) == 64
    assert fitting_batch(None, Known(), QUESTION[:1]) == 1


def test_limits_of_control_groups_count(monkeypatch):
    machine = memory_at_hand(torch.device("cpu"))
    assert 1 << 28 < machine < 1 << 50
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 1 << 20)
    files = {
        "/proc/self/cgroup": ["4:memory:/box/inner", "3:cpu:/x", "0::/slice/job"],
        "/sys/fs/cgroup/slice/memory.max": ["900000000"],
        "/sys/fs/cgroup/slice/job/memory.max": ["max"],
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": ["9223372036854771712"],
    }
    monkeypatch.setattr(memory, "_lines", lambda path: files.get(str(path), []))
    assert memory_at_hand(torch.device("cpu")) == 900_000_000
    files["/sys/fs/cgroup/memory/box/inner/memory.limit_in_bytes"] = ["70000000"]
    assert memory_at_hand(torch.device("cpu")) == 70_000_000
    del files["/proc/self/cgroup"]
    assert memory_at_hand(torch.device("cpu")) == 1 << 40


def test_a_lack_of_memory_names_the_setting():
    too_little = "batch_size=1000: too little memory"
    with pytest.raises(UserError, match=too_little), named_when_short("batch_size", 1000):
        torch.empty(1 << 60, dtype=torch.uint8)
    too_little = "batch_size=null: too little memory"
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried\nmore")):
        with pytest.raises(UserError, match=too_little), named_when_short("batch_size", None):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), named_when_short("batch_size", None):
        raise RuntimeError("shapes do not fit")


def test_deep_evaluation_needs_no_more_memory_than_shallow():
    """But for the statistics of every puzzle and step, which are kept."""
    puzzle = Sudoku((2, 2))
    model, puzzles = TRM(puzzle, **SMALL | {"hidden_size": 64}), held_out(puzzle, "val", 50)
    most = {}
    for depth in (4, 64):
        with batch_size.Peak() as peak:
            result = evaluate(model, puzzle, puzzles, depth)
        most[depth] = peak.most
    statistics = sum(values.nbytes for values in result.values.values())
    assert most[64] - most[4] < 3 * statistics
