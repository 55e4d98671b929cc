"""Puzzles whose text is malformed are refused, by a message that says what is wrong and where."""

import pytest
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens

from pir.errors import PuzzleTextError

MALFORMED = {
    "countdown": (
        Countdown(),
        [
            ("", "numbers, one '='", 1),
            ("3 7 8", "numbers, one '='", 6),
            ("3 7 8 = 29 = 3", "numbers, one '='", 12),
            ("3 7 x = 29", "'x' is no number", 5),
            ("3 7 = 29", "2 numbers where this puzzle has 3", 5),
            ("3 7 8 9 = 29", "4 numbers", 9),
            ("3 7 26 = 29", "outside 1..25", 5),
            ("3 7 8 = 101", "outside 10..100", 9),
            ("3 7 8 = 99999999999999999999", "outside 10..100", 9),
            ("-3 7 8 = 29", "'-' is no number", 1),
            ("3 7 ８ = 29", "is no number", 5),
            ("3 7 ² = 29", "is no number", 5),
            ("3 7 " + "9" * 9999 + " = 29", "outside 1..25", 5),
            ("__import__('os') 1 2 = 10", "is no number", 1),
        ],
    ),
    "graph": (
        Graph(6, branching=2, hops=(2, 4)),
        [
            ("", "a graph is edges", 1),
            ("0>1 | 0 ? 3", "a graph is edges", 12),
            ("0>1 1>2 | 0 ? 3 3", "must differ", 11),
            ("0>1 0>1 | 0 ? 3 5", "a loop or a repetition", 5),
            ("0>0 | 0 ? 3 5", "a loop or a repetition", 1),
            ("0>1 0>2 0>3 | 0 ? 3 5", "more than 2 successors", 9),
            ("0>9 | 0 ? 3 5", "'9' is no node", 1),
            ("0>1 0-2 | 0 ? 3 5", "'0-2' is no edge", 5),
            ("0>1 | x ? 3 5", "'x' is no node", 7),
        ],
    ),
    "maze": (
        Maze(5, 5),
        [
            ("", "a row of 0 cells", 1),
            ("#####", "1 rows where this maze has 5", 6),
            ("#####/#S.x#/#.#.#/#..G#/#####", "'x' is none of", 10),
            ("#####/#S..#/#.#.#/#..G##/#####", "a row of 6 cells", 24),
            ("#####/#S..#/#.#.#/#...#/#####", "0 cells are G", 30),
            ("#####/#SS.#/#.#.#/#..G#/#####", "2 cells are S", 30),
            ("#####/#So.#/#.#.#/#..G#/#####", "'o' is none of", 9),
        ],
    ),
    "queens": (
        Queens(),
        [
            ("0,1", "2 rows where this board has 8", 4),
            ("0,1,8,.,.,.,.,.", "'8' is neither", 5),
            ("0, x,.,.,.,.,.,.", "'x' is neither", 4),
            ("", "'' is neither", 1),
        ],
    ),
}
"""A puzzle, and its malformed texts, each with the message and the column that it names."""


@pytest.mark.parametrize(
    ("puzzle", "text", "message", "column"),
    [(puzzle, *case) for puzzle, cases in MALFORMED.values() for case in cases],
    ids=lambda value: repr(value[:20]) if isinstance(value, str) else type(value).__name__,
)
def test_malformed_text_is_refused(puzzle, text, message, column):
    with pytest.raises(PuzzleTextError, match=message) as caught:
        puzzle.parse(text)
    assert caught.value.column == column
