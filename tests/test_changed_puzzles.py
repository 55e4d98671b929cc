"""A run on other puzzles than in training: larger boards, other clues (`env.NAME=VALUE`)."""

import json

import pytest
import torch
from pir.envs.maze.rules import Maze
from pir.envs.maze.tokens import WALL

from pir.models.trm import TRM
from tests.conftest import in_this_process

SMALL = {"hidden_size": 16, "heads": 2, "latent_steps": 1, "dtype": "float32"}


def test_without_positions_a_part_of_a_board_is_read_alike_wherever_it_lies():
    """The same maze at two places of a larger board has the same logits, cell by cell."""
    torch.manual_seed(0)
    maze, side = Maze(7, 7), 17
    model = TRM(Maze(side, side), positions=False, **SMALL)
    question = maze.sample(1, "train", seed=0)["question"].view(1, 7, 7)

    def logits(row: int, column: int) -> torch.Tensor:
        board = torch.full((1, side, side), WALL, dtype=torch.uint8)
        board[:, row : row + 7, column : column + 7] = question
        flat = board.flatten(1)
        state = model.improve(flat, model.start(flat), torch.ones(1, dtype=torch.int64))
        read = model.read_out(state).logits.view(side, side, -1)
        return read[row : row + 7, column : column + 7]

    # two blocks, two updates: what is more than four cells away is not seen
    assert torch.allclose(logits(5, 5), logits(4, 6), atol=1e-5)
    with_positions = TRM(Maze(side, side), **SMALL)
    assert "position.weight" in with_positions.state_dict()
    assert "position.weight" not in model.state_dict()


@pytest.fixture(scope="module")
def free_of_size(tmp_path_factory):
    """A run on mazes of 7x7 that fits mazes of every size."""
    run = tmp_path_factory.mktemp("free") / "run"
    sizes = "model.hidden_size=16 model.heads=2 model.latent_steps=1 model.improvement_steps=2"
    budget = "trainer.max_optimizer_steps=2 trainer.decay_steps=2 trainer.batch_size=8"
    tests = "trainer.val_puzzles=8 trainer.test_puzzles=8 trainer.compile=none"
    words = f"env=maze env.height=7 env.width=7 model.positions=false {sizes} {budget} {tests}"
    in_this_process("train", *words.split(), f"run={run}")
    return run


def test_eval_takes_larger_boards_and_names_the_results(pir_here, free_of_size):
    run, other = f"run={free_of_size}", ("env.height=9", "env.width=11")
    own = (free_of_size / "eval/eval.json").read_bytes()
    facts = json.loads(pir_here("eval", run, *other, "eval.puzzles=4", "output=json").stdout)
    assert facts["changed"] == {"height": 9, "width": 11}
    folder = free_of_size / "evals" / "height=9,width=11"
    assert json.loads((folder / "eval.json").read_text()) == facts
    assert (free_of_size / "eval/eval.json").read_bytes() == own
    assert "changed" not in json.loads(own)
    shown = pir_here("plot", run, "kind=improvement", "eval=height=9,width=11").stdout
    assert "height=9,width=11" in shown


def test_solve_and_gif_take_larger_boards(pir_here, free_of_size, tmp_path):
    run, other = f"run={free_of_size}", ("env.height=9", "env.width=9")
    maze = Maze(9, 9)
    text = maze.format_question(maze.sample(1, "test", seed=1)["question"][0])
    assert text in pir_here("solve", run, *other, f"puzzle={text}").stdout
    assert "env.height" not in pir_here("solve", run, f"puzzle={text}", code=2).stdout
    picture = tmp_path / "a.gif"
    pir_here("gif", run, *other, "index=0", f"out={picture}")
    assert picture.stat().st_size > 0


def test_other_clues_fit_every_run(pir_here, tiny_run):
    words = ("eval", f"run={tiny_run}", "env.number_range=[1,9]", "eval.puzzles=4", "output=json")
    assert json.loads(pir_here(*words).stdout)["changed"] == {"number_range": [1, 9]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["env.heigth=9"], "env.heigth is unknown; did you mean height?"),
        (["env.height=x"], "env.height=x: allowed is a whole number"),
        (["env=sudoku4"], "env=sudoku4: the puzzle is that of the run"),
        (["env.skip_faulty=3"], "env.skip_faulty=3: allowed is true or false"),
    ],
)
def test_wrong_changes_are_refused(pir_here, free_of_size, words, said):
    assert said in pir_here("eval", f"run={free_of_size}", *words, code=2).stderr


def test_a_board_that_the_weights_do_not_fit_is_refused(pir_here):
    said = pir_here("eval", "run=zoo:maze", "env.height=9", "env.width=9", code=2).stderr
    assert "env.height=9 env.width=9: the weights of" in said
    assert "position.weight is 121x64 there, 81x64 here" in said
    assert "model.positions=false" in said
