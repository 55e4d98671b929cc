"""Mazes: shapes, labels, shortest paths and files, against plain search and by hand."""

import itertools

import numpy as np
import pytest
import torch
from pir.envs.maze.rules import Maze
from pir.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL

from pir.errors import UserError
from tests import slow_checkers as slow

LOOP = "#####/#S..#/#.#.#/#..G#/#####"


def doors_and_rooms(puzzle, maze):
    board = (maze.view(puzzle.height, puzzle.width) != WALL).numpy()
    rooms = board[1::2, 1::2]
    return board.sum() - rooms.sum(), rooms.sum(), rooms.size


def test_perfect_mazes_are_spanning_trees():
    puzzle = Maze(15, 9, loops=0.0)
    for maze in puzzle.sample(50, "train", seed=0)["question"]:
        doors, dug, rooms = doors_and_rooms(puzzle, maze)
        assert dug == rooms
        assert doors == rooms - 1
        text = puzzle.format_question(maze)
        assert slow.maze_shortest_length(text) is not None
        assert bool(puzzle.solutions(maze[None], 2)[1].sum() == 1)


def test_share_of_extra_doors():
    puzzle = Maze(31, 31, loops=0.1)
    found = [doors_and_rooms(puzzle, m) for m in puzzle.sample(100, "train", seed=0)["question"]]
    extra = sum(doors - rooms + 1 for doors, _, rooms in found)
    closed = len(found) * (2 * 15 * 14 - 224)
    assert extra / closed == pytest.approx(0.1, abs=0.015)


def test_random_walls_have_their_density_and_length():
    puzzle = Maze(30, 30, "walls", wall_density=0.37, min_path=109)
    sample = puzzle.sample(20, "train", seed=0)
    assert (puzzle.rating(sample["question"]) >= 109).all()
    assert (sample["question"] == WALL).float().mean() == pytest.approx(0.37, abs=0.02)
    for maze, length in zip(sample["question"], puzzle.rating(sample["question"]), strict=True):
        assert slow.maze_shortest_length(puzzle.format_question(maze)) == length


def test_label_takes_south_west_east_north():
    puzzle = Maze(5, 5)
    question = puzzle.parse(LOOP)
    answers, valid, _ = puzzle.solutions(question[None], 5)
    listed = [puzzle.format_answer(question, answer) for answer in answers[0][valid[0]]]
    south, east = "#####/#S..#/#o#.#/#ooG#/#####", "#####/#Soo#/#.#o#/#..G#/#####"
    assert listed == [south, east]


@pytest.mark.parametrize(("width", "count"), [(5, 12), pytest.param(6, 20, marks=pytest.mark.slow)])
def test_all_shortest_paths_are_listed_and_accepted(width, count):
    puzzle = Maze(5, width, "walls", wall_density=0.25, min_path=4)
    for question in puzzle.sample(count, "train", seed=3)["question"]:
        open_cells = (question == OPEN).nonzero().flatten().tolist()
        steps = int(puzzle.rating(question[None])[0])
        right = set()
        for cells in itertools.combinations(open_cells, steps - 1):
            answer = question.clone()
            answer[list(cells)] = PATH
            if slow.maze(puzzle.format_question(question), puzzle.format_answer(question, answer)):
                right.add(tuple(answer.tolist()))
        answers, valid, _ = puzzle.solutions(question[None], 500)
        assert set(map(tuple, answers[0][valid[0]].tolist())) == right


def test_score_rewards_the_part_of_the_path_that_is_there():
    puzzle = Maze(3, 8, "walls", min_path=1)
    question = puzzle.parse("......../S.....G./........")
    right = puzzle.parse_answer(question, "......../SoooooG./........")
    half = puzzle.parse_answer(question, "......../Sooo..G./........")
    astray = puzzle.parse_answer(question, "o......./SoooooG./........")
    scores = puzzle.verify(question.expand(4, -1), torch.stack([right, half, astray, question]))
    assert scores.score.tolist() == pytest.approx([1, 3 / 5, 5 / 6, 0])
    wrong = puzzle.conflicts(question.expand(2, -1), torch.stack([half, astray]))
    assert wrong.nonzero().tolist() == [[0, 11], [1, 0]]


def test_augmentation_relabels():
    puzzle = Maze()
    sample = puzzle.sample(200, "train", seed=0)
    image = puzzle.augment(sample, seed=0)
    assert (puzzle.solutions(image["question"], 1)[0][:, 0] == image["solution"]).all()
    images = puzzle.symmetric_images(sample["question"][:1])
    assert len(images) == 8
    assert len(set(puzzle.key(images[:, 0]).tolist())) == 1
    assert len(Maze(7, 9).symmetric_images(Maze(7, 9).sample(1, "val", seed=0)["question"])) == 4


def test_key_ignores_which_end_is_the_start():
    puzzle = Maze(5, 5)
    back = LOOP.translate(str.maketrans("SG", "GS"))
    keys = puzzle.key(torch.stack([puzzle.parse(LOOP), puzzle.parse(back)]))
    assert keys[0] == keys[1]


def test_archives_are_read(tmp_path):
    made = Maze(8, 8, "walls", wall_density=0.3, min_path=6)
    mazes = torch.cat([made.sample(20, s, seed=0)["question"] for s in ("train", "val", "test")])
    path = tmp_path / "mazes.npz"
    np.savez(path, inputs=mazes.numpy())
    puzzle = Maze(8, 8, "walls", puzzles=str(path), train_puzzles=15)
    assert puzzle.size("test") == 20
    train = puzzle.sample(60, "train", seed=0)
    assert puzzle.verify(*train.values()).solved.all()
    assert len(set(puzzle.key(train["question"]).tolist())) == 15
    text = tmp_path / "mazes.txt"
    text.write_text("\n".join(puzzle.format_question(maze) for maze in mazes))
    again = Maze(8, 8, puzzles=str(text))
    assert (again.sample(20, "test", seed=0)["question"] == mazes[40:]).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.ones((2, 63), np.uint8), r"shape \(N, 64\) or \(N, 8, 8\) are expected"),
        (np.ones((2, 64), np.float32), "numbers of type float32 are no puzzle"),
        (np.ones((2, 64), np.int64), "puzzle 2, cell 1: 0 cells are S"),
        (np.ones((0, 64), np.uint8), "holds no puzzle"),
        (np.full((1, 64), 7, np.uint8), "puzzle 1, cell 1: 7 is no cell; allowed are 1 to 4"),
        (np.array([[START, WALL, GOAL] + [OPEN] * 0 + [WALL] * 61], np.uint8), "no way leads"),
    ],
)
def test_faulty_archives_are_refused(tmp_path, inputs, message):
    np.savez(tmp_path / "mazes.npz", inputs=inputs)
    with pytest.raises(UserError, match=message):
        Maze(8, 8, "walls", puzzles=str(tmp_path / "mazes.npz")).size("test")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "cut array", "flipped"])
def test_damaged_archives_are_refused(tmp_path, damage):
    path = tmp_path / "mazes.npz"
    mazes = Maze(8, 8, "walls", wall_density=0.3).sample(50, "train", seed=0)["question"]
    np.savez_compressed(path, inputs=mazes.numpy())
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 255
    np.save(tmp_path / "array.npy", mazes.numpy())
    content = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"#####"}
    content |= {"cut array": (tmp_path / "array.npy").read_bytes()[:-1], "flipped": bytes(middle)}
    path.write_bytes(content[damage])
    messages = {"empty": "holds no puzzle", "text": "line 1, column 6: a row of 5 cells"}
    with pytest.raises(UserError, match=messages.get(damage, "cannot be read")):
        Maze(8, 8, "walls", puzzles=str(path)).size("test")


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "mazes.npz", inputs=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot be read"):
        Maze(8, 8, "walls", puzzles=str(tmp_path / "mazes.npz")).size("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 2}, r"env\.height=2"),
        ({"width": 65}, r"env\.width=65"),
        ({"width": 10}, "odd for rooms"),
        ({"layout": "hexagons"}, r"env\.layout=hexagons"),
        ({"loops": 1.5}, r"env\.loops=1\.5"),
        ({"min_path": 0}, r"env\.min_path=0"),
        ({"train_puzzles": 5}, "needs env.puzzles"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        Maze(**options)


def test_impossible_settings_end_with_a_message(monkeypatch):
    from pir.envs.maze import generator_kernels as maze_kernels

    monkeypatch.setattr(maze_kernels, "MAX_ATTEMPTS", 1000)
    with pytest.raises(UserError, match="lower it"):
        Maze(min_path=120).sample(1, "train", seed=0)
