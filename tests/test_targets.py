"""Targets of improvement steps approach the label, in the order in which a solver would find it."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.laws.checks import law_results
from pir.objectives.targets import Identity, NestedEdits
from pir.puzzle import PAD

GENERATORS = {
    "identity": Identity(),
    "random draft": NestedEdits("random", "draft"),
    "random masked": NestedEdits("random", "masked"),
    "solver draft": NestedEdits("solver", "draft"),
    "solver masked": NestedEdits("solver", "masked"),
}
STEPS = 5


@pytest.fixture(scope="module")
def puzzles(puzzle):
    return puzzle.sample(8, "train", seed=0)


@pytest.fixture(params=GENERATORS)
def generator(request):
    return GENERATORS[request.param]


def test_targets_approach_the_label(puzzle, puzzles, generator):
    question, solution = puzzles["question"], puzzles["solution"]
    targets = generator.targets(puzzle, puzzles, STEPS)
    assert targets.shape == (8, STEPS, puzzle.length)
    assert targets.dtype == torch.uint8
    right = targets == solution[:, None]
    distance = (~right).sum(2)
    assert (distance[:, 1:] <= distance[:, :-1]).all()
    assert (distance[:, -1] == 0).all()
    assert (right[:, 1:] | ~right[:, :-1]).all(), "a cell that was right is wrong again"
    written = puzzle.written(question)[:, None]
    assert ((targets == question[:, None]) | written).all(), "an unwritten cell is touched"
    place = torch.arange(puzzle.length).expand_as(targets)
    fits = puzzle.slot_mask[place, targets.long()] | (targets == PAD)
    assert (fits | ~written).all(), "slot_mask forbids a token"


def test_one_step_is_asked_for_the_label(puzzle, puzzles, generator):
    assert (generator.targets(puzzle, puzzles, 1)[:, 0] == puzzles["solution"]).all()


def test_a_seed_decides_the_targets(puzzle, puzzles, generator):
    torch.manual_seed(3)
    once = generator.targets(puzzle, puzzles, STEPS)
    torch.manual_seed(3)
    assert (generator.targets(puzzle, puzzles, STEPS) == once).all()


def test_masked_steps_reveal_even_shares(puzzle, puzzles):
    cells = puzzle.written(puzzles["question"]).sum(1)
    for order in ("random", "solver"):
        targets = NestedEdits(order, "masked").targets(puzzle, puzzles, STEPS)
        hidden = (targets == PAD) & puzzle.written(puzzles["question"])[:, None]
        for k in range(STEPS):
            assert (hidden[:, k].sum(1) == cells - cells * (k + 1) // STEPS).all()


def test_the_solver_is_followed(puzzle, puzzles):
    """No cell is revealed before one of a lower rank."""
    question, solution = puzzles["question"], puzzles["solution"]
    written, rank = puzzle.written(question), puzzle.solution_order(question, solution)
    targets = NestedEdits("solver", "masked").targets(puzzle, puzzles, STEPS)
    for frame in targets.unbind(1):
        last = torch.where(written & (frame != PAD), rank, -1).amax(1)
        first = torch.where(written & (frame == PAD), rank, puzzle.length).amin(1)
        assert (last <= first).all()


def test_cells_of_one_rank_come_at_random():
    maze = Maze()
    many = maze.sample(1, "train", seed=0)[[0] * 200]
    off_path = maze.solution_order(many["question"], many["solution"]) == 0
    first = NestedEdits("solver", "masked").targets(maze, many, STEPS)[:, 0] != PAD
    share = first.float().mean(0)[maze.written(many["question"])[0] & off_path[0]]
    assert share.min() > 0.1
    assert share.max() < 0.9


def test_a_draft_keeps_what_the_position_may_hold():
    """An open cell may stay open; a blank is no digit, so it is drawn, evenly."""
    maze, steps = Maze(), 10_000  # more steps than cells: nothing is put right in the first
    puzzles = maze.sample(4, "train", seed=0)
    assert (NestedEdits().targets(maze, puzzles, steps)[:, 0] == puzzles["question"]).all()
    sudoku = Sudoku()
    many = sudoku.sample(1, "train", seed=0)[[0] * 2_000]
    first = NestedEdits().targets(sudoku, many, 100)[:, 0]
    drawn = first[:, sudoku.written(many["question"])[0]]
    share = torch.nn.functional.one_hot(drawn.long(), 6).float().mean(0)
    assert share[:, :2].max() == 0
    assert (share[:, 2:] - 0.25).abs().max() < 0.06


@pytest.mark.parametrize("setting", [{"order": "left"}, {"unresolved": "empty"}])
def test_unknown_settings_are_refused(setting):
    with pytest.raises(UserError, match="allowed are"):
        NestedEdits(**setting)


# -------------------------------------------------------------------------- the order of a solver


def ranks_of(puzzle, puzzles):
    question = puzzles["question"]
    order = puzzle.solution_order(question, puzzles["solution"])
    assert order.dtype == torch.int64
    assert (order[~puzzle.written(question)] == 0).all()
    return zip(question.tolist(), puzzles["solution"].tolist(), order.tolist(), strict=True)


def propagate(question, solution, box):
    """Returns the round in which every blank cell is found, and how many were looked up."""
    n, digits = box[0] * box[1], set(range(2, 2 + box[0] * box[1]))
    spots = [(r, c, (r // box[0], c // box[1])) for r in range(n) for c in range(n)]
    units = [
        [i for i, spot in enumerate(spots) if spot[kind] == name]
        for kind in range(3)
        for name in sorted({spot[kind] for spot in spots})
    ]
    known = {i: token for i, token in enumerate(question) if token > 1}
    rounds, looked_up = {}, 0
    while len(known) < n * n:
        options = {
            i: digits - {known[j] for unit in units if i in unit for j in unit if j in known}
            for i in range(n * n)
            if i not in known
        }
        found = {i for i, left in options.items() if len(left) == 1}
        for unit in units:
            for digit in digits:
                places = [i for i in unit if digit in options.get(i, ())]
                found |= set(places) if len(places) == 1 else set()
        if not found:
            found = {min(options, key=lambda i: len(options[i]))}
            looked_up += 1
        rounds |= dict.fromkeys(found, 1 + max(rounds.values(), default=-1))
        known |= {i: solution[i] for i in found}
    return rounds, looked_up


@pytest.mark.parametrize(
    "sudoku",
    [Sudoku(clues=(4, 8)), Sudoku((2, 3)), Sudoku((3, 2)), Sudoku((3, 3), guesses=(1, 20))],
    ids=lambda s: f"{s.box} {s.guesses}",
)
def test_sudoku_is_propagated_in_rounds(sudoku):
    looked_up = 0
    for question, solution, order in ranks_of(sudoku, sudoku.sample(6, "train", seed=0)):
        rounds, guesses = propagate(question, solution, sudoku.box)
        assert {i: order[i] for i in rounds} == rounds
        looked_up += guesses
    assert sudoku.guesses is None or looked_up >= 6, "no puzzle got stuck"


@pytest.mark.parametrize(
    "maze", [Maze(), Maze(5, 9, loops=1.0), Maze(6, 8, "walls", wall_density=0.3, min_path=1)]
)
def test_a_maze_path_grows_from_both_ends(maze):
    for question, solution, order in ranks_of(maze, maze.sample(40, "train", seed=0)):
        walk = [question.index(3)]
        while True:
            near = [walk[-1] + maze.width, walk[-1] - maze.width]
            near += [walk[-1] + 1] if walk[-1] % maze.width < maze.width - 1 else []
            near += [walk[-1] - 1] if walk[-1] % maze.width > 0 else []
            ahead = [i for i in near if 0 <= i < maze.length and solution[i] == 5 and i not in walk]
            if not ahead:
                break
            walk.append(ahead[0])
        path = walk[1:]
        assert len(path) == solution.count(5)
        expected = [0] * maze.length
        for i, cell in enumerate(path):
            expected[cell] = min(i + 1, len(path) - i)
        assert order == expected


@pytest.mark.parametrize("queens", [Queens(), Queens(5, (1, 5)), Queens(12, (9, 12))])
def test_the_most_constrained_row_of_queens_comes_first(queens):
    for question, solution, order in ranks_of(queens, queens.sample(40, "train", seed=0)):
        placed = {row: token for row, token in enumerate(question) if token > 1}
        hidden, expected = set(range(queens.n)) - set(placed), [0] * queens.n

        def free(row, placed=placed):
            attacked = {c + d * abs(row - r) for r, c in placed.items() for d in (-1, 0, 1)}
            return len(set(range(2, 2 + queens.n)) - attacked)

        for rank in range(len(hidden)):
            row = min(sorted(hidden), key=free)
            expected[row], placed[row] = rank, solution[row]
            hidden.remove(row)
        assert order == expected


def test_the_steps_of_a_countdown_program_come_in_order():
    for _, _, order in ranks_of(Countdown(4), Countdown(4).sample(3, "train", seed=0)):
        assert order[-3:] == [0, 1, 2]


def test_an_order_below_zero_breaks_a_law():
    class FromTheEnd(Countdown):
        def solution_order(self, question, solution):
            return super().solution_order(question, solution) - 1

    (broken,) = [ruling for ruling in law_results(FromTheEnd()) if not ruling.kept]
    assert "solution_order" in broken.detail
