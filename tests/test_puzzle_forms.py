"""The forms of files that docs/puzzles.md lists, and their relatives: what is read from each."""

import gzip
import io
import json

import numpy as np
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku

from pir.puzzle_files.given import GivenPuzzles

NINE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
NINE_ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
FOUR, FOUR_ANSWER = "1...............", "1234341221434321"
FOUR_UNIQUE = "12.434122.434321"
SHIDOKU, SHIDOKU_ANSWER = "12.434122.434321", "1234341221434321"
MAZE = "#####/#S..#/#.#.#/#..G#/#####"
MAZE_ANSWER = "#####/#S..#/#o#.#/#ooG#/#####"
QUEENS, QUEENS_ANSWER = ".,.,.,4,7,.,.,.", "2,0,6,4,7,1,3,5"
GRAPH = "0>3 0>5 3>7 4>9 | 0 ? 7 9"

PUZZLES = {
    "nine": lambda: Sudoku((3, 3)),
    "four": Sudoku,
    "sixteen": lambda: Sudoku((4, 4)),
    "maze": lambda: Maze(5, 5),
    "queens": Queens,
    "countdown": Countdown,
    "graph": Graph,
}


def rows(text, width):
    return [text[i : i + width] for i in range(0, len(text), width)]


def gaps(text, width):
    return [[sign.replace(".", "") for sign in row] for row in rows(text, width)]


def ruled(text):
    """A grid as pencil-and-paper programs print it."""
    lines = []
    for i, row in enumerate(rows(text, 9)):
        if i % 3 == 0:
            lines.append("+-------+-------+-------+")
        lines.append("| " + " | ".join(" ".join(row[j : j + 3]) for j in (0, 3, 6)) + " |")
    return "\n".join([*lines, "+-------+-------+-------+"])


def boxed(text):
    """The same with three columns of signs and lines of dashes."""
    lines = ["|".join(rows(row, 3)) for row in rows(text, 9)]
    return "\n".join([*lines[:3], "---+---+---", *lines[3:6], "---+---+---", *lines[6:]])


def drawn(text):
    lines = ["╔═══╤═══╤═══╗"]
    lines += ["║" + "│".join(rows(row, 3)) + "║" for row in rows(text, 9)]
    return "\n".join([*lines, "╚═══╧═══╧═══╝"])


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def digits(text):
    return np.array([int(c) for c in text.replace(".", "0")], np.uint8)


def nested(text, width):
    return digits(text).reshape(-1, width).tolist()


MAZE_TOKENS = np.array([" #.SGo".index(c) for c in MAZE.replace("/", "")], np.uint8)
MAZE_LABEL = np.array([" #.SGo".index(c) for c in MAZE_ANSWER.replace("/", "")], np.uint8)
DIGITS, DIGITS_ANSWER = digits(NINE)[None], digits(NINE_ANSWER)[None]
TWO = NINE_ANSWER[:40] + "." + NINE_ANSWER[41:]

FORMS = {
    # one puzzle per line
    "plain": ("nine", f"{NINE}\n{TWO}\n", 2, 0),
    "no end of the last line": ("nine", f"{NINE}\n{TWO}", 2, 0),
    "windows": ("nine", f"{NINE}\r\n\r\n{TWO}\r\n", 2, 0),
    "old mac": ("nine", f"{NINE}\r{TWO}\r", 2, 0),
    "bom": ("nine", f"\ufeff{NINE}\n", 1, 0),
    "utf-16": ("nine", f"{NINE}\n{TWO}\n".encode("utf-16"), 2, 0),
    "zeros": ("nine", NINE.replace(".", "0"), 1, 0),
    "underscores": ("nine", NINE.replace(".", "_"), 1, 0),
    "stars": ("nine", NINE.replace(".", "*"), 1, 0),
    "dashes": ("nine", NINE.replace(".", "-"), 1, 0),
    "question marks": ("nine", NINE.replace(".", "?"), 1, 0),
    "crosses": ("nine", NINE.replace(".", "x"), 1, 0),
    "large crosses": ("nine", NINE.replace(".", "X"), 1, 0),
    "blanks": ("nine", NINE.replace(".", " "), 1, 0),
    "comma": ("nine", f"{NINE},{NINE_ANSWER}\n{TWO}\n", 2, 1),
    "semicolon": ("nine", f"{NINE};{NINE_ANSWER}", 1, 1),
    "tab": ("nine", f"{NINE}\t{NINE_ANSWER}", 1, 1),
    "blank": ("nine", f"{NINE}   {NINE_ANSWER}", 1, 1),
    "bar": ("nine", f"{NINE} | {NINE_ANSWER}", 1, 1),
    "answer first": ("nine", f"{NINE_ANSWER},{NINE}", 1, 1),
    "trailing comma": ("nine", f"{NINE},\n{NINE},{NINE_ANSWER},\n", 2, 1),
    "indented": ("nine", f"  {NINE}\n", 1, 0),
    "81 fields": ("nine", ",".join(NINE.replace(".", "0")), 1, 0),
    "162 fields": ("nine", ",".join(NINE.replace(".", "0") + NINE_ANSWER), 1, 1),
    "81 words": ("nine", " ".join(NINE), 1, 0),
    "rows in a line": ("nine", " ".join(rows(NINE, 9)), 1, 0),
    "rows parted by /": ("nine", "/".join(rows(NINE, 9)), 1, 0),
    "rows parted by |": ("nine", "|".join(rows(NINE, 9)), 1, 0),
    "number words": ("sixteen", " ".join(["10", "0", "16", *["0"] * 253]), 1, 0),
    "lower case": ("sixteen", "a.g" + "." * 253, 1, 0),
    # comments, tags, ratings
    "comments": ("nine", f"# mine\n#{TWO}\n{NINE} # easy\n{NINE}\t#x\n// end\n", 2, 0),
    "hash before": ("nine", f"0000183b305c {NINE.replace('.', '0')}  1.2\n", 1, 0),
    "ratings behind": ("nine", f"{NINE};ED=11.9/11.9/2.6;abc\n{NINE} 11.9\n{NINE},8.9,5\n", 3, 0),
    "name and number": ("nine", f"Golden Nugget,{NINE},11.90\n12;{NINE};T&E 3\n", 2, 0),
    "number with a dot": ("nine", f"1. {NINE}\n2. {TWO}\n", 2, 0),
    "numbers with brackets": ("nine", f"1) {NINE}\n(2) {TWO}\n3: {TWO}\n", 3, 0),
    "numbered countdown": ("countdown", "1. 3 7 8 = 29\n(2) 3 7 8 = 29, 7*3+8 # easy\n", 2, 1),
    "numbered graph": ("graph", f"12) {GRAPH}; 0>3>7\n", 1, 1),
    # tables
    "sudoku-extreme": ("nine", f"source,question,answer,rating\nx,{NINE},,5\n", 1, 0),
    "sudoku-extreme 2": (
        "nine",
        f"source,question,answer,rating\na,{NINE},{NINE_ANSWER},5\nlonger name,{NINE},,112\n",
        2,
        1,
    ),
    "kaggle": ("nine", f"quizzes,solutions\n{NINE.replace('.', '0')},{NINE_ANSWER}\n", 1, 1),
    "puzzle,solution": ("nine", f"puzzle,solution\r\n{NINE},{NINE_ANSWER}\r\n", 1, 1),
    "five columns": (
        "nine",
        f"id,puzzle,solution,clues,difficulty\n1,{NINE},{NINE_ANSWER},30,2.2\n2,{TWO},,80,0.0\n",
        2,
        1,
    ),
    "other order": ("nine", f"rating;Answer;Question\n1;{NINE_ANSWER};{NINE}\n", 1, 1),
    "tsv": ("nine", f"Puzzle\tSolution\n{NINE}\t{NINE_ANSWER}\n", 1, 1),
    "quoted": ("nine", f'"puzzle","solution"\n"{NINE}", "{NINE_ANSWER}"\n', 1, 1),
    "bom and quotes": ("nine", f'\ufeff"Puzzle","Solution"\n"{NINE}","{NINE_ANSWER}"\n', 1, 1),
    "one column": ("nine", f"puzzle\n{NINE}\n", 1, 0),
    "long names": ("nine", f"Puzzle String,Solved Puzzle\n{NINE},{NINE_ANSWER}\n", 1, 1),
    "unknown names": ("nine", f"left,right\n{NINE},{NINE_ANSWER}\n", 1, 1),
    "grid in a field": ("nine", 'id,puzzle\n1,"' + "\n".join(rows(NINE, 9)) + '"\n', 1, 0),
    "trailing commas in a table": ("nine", f"puzzle,solution\n{NINE},{NINE_ANSWER},,\n", 1, 1),
    "excel": ("nine", f"sep=;\r\npuzzle;solution\r\n{NINE};{NINE_ANSWER}\r\n", 1, 1),
    "excel, no header": ("nine", f'"sep=,"\n{NINE},{NINE_ANSWER}\n{TWO}\n', 2, 1),
    "excel, countdown": ("countdown", "sep=;\nnums;target\n3,7,8;29\n", 1, 0),
    "markdown": (
        "nine",
        f"# Mine\n\n| # | puzzle | solution |\n|--:|:-:|---|\n| 1 | `{NINE}` | {NINE_ANSWER} |\n"
        f"| 2 | {TWO} | |\n",
        2,
        1,
    ),
    "markdown, one column": ("nine", f"| Puzzle |\n| --- |\n| {NINE} |\n|{TWO}|\n", 2, 0),
    "markdown without ends": ("maze", f"quiz | answer\n-- | --\n{MAZE} | {MAZE_ANSWER}\n", 1, 1),
    "markdown, countdown": ("countdown", "| nums | target |\n|---|---|\n| 3 7 8 | 29 |\n", 1, 0),
    # several lines
    "nine lines": ("nine", "\n".join(rows(NINE, 9)) + "\n\n" + "\n".join(rows(TWO, 9)), 2, 0),
    "no empty line": ("nine", "\n".join(rows(NINE, 9) + rows(TWO, 9)), 2, 0),
    "titles": (
        "nine",
        "\n".join(["Grid 01", *rows(NINE, 9), "Grid 02", *rows(TWO.replace(".", "0"), 9)]),
        2,
        0,
    ),
    "sdk": ("nine", "#A me\n[Puzzle]\n" + "\n".join(rows(NINE, 9)), 1, 0),
    "ruled": ("nine", ruled(NINE) + "\n\n" + ruled(TWO), 2, 0),
    "boxed": ("nine", boxed(NINE) + "\n", 1, 0),
    "drawn": ("nine", drawn(NINE), 1, 0),
    "dashes and rules": ("nine", ruled(NINE.replace(".", "-")), 1, 0),
    "bands": (
        "nine",
        "\n\n".join("\n".join(rows(NINE, 9)[i : i + 3]) for i in (0, 3, 6)),
        1,
        0,
    ),
    "blank cells": ("nine", "\n".join(rows(NINE.replace(".", " "), 9)), 1, 0),
    "words in rows": ("nine", "\n".join(" ".join(row) for row in rows(NINE, 9)), 1, 0),
    "spreadsheet": ("nine", "\n".join(map(",".join, gaps(NINE, 9))), 1, 0),
    "spreadsheet with tabs": ("nine", "\r\n".join(map("\t".join, gaps(NINE, 9) * 2)), 2, 0),
    "queens in a spreadsheet": ("queens", ";;;4;7;;;\n,,,4,7,,,\n", 2, 0),
    "spreadsheet of one line": ("nine", ";".join(gaps(NINE, 81)[0]) + "\n", 1, 0),
    "commas in rows": ("nine", "\n".join(map(",".join, rows(NINE.replace(".", "0"), 9))), 1, 0),
    "answer below": ("nine", ruled(NINE) + "\n\n" + ruled(NINE_ANSWER), 1, 1),
    # JSON
    "json lines": ("nine", json.dumps({"puzzle": NINE, "solution": NINE_ANSWER}) + "\n", 1, 1),
    "json question": (
        "nine",
        "\n".join(json.dumps({"question": p, "answer": None, "rating": 3}) for p in (NINE, TWO)),
        2,
        0,
    ),
    "json lists": ("nine", json.dumps({"Puzzle": nested(NINE, 9)}), 1, 0),
    "json flat": ("nine", json.dumps({"question": digits(NINE).tolist()}) + "\n", 1, 0),
    "json array": ("nine", json.dumps([{"puzzle": NINE}, {"puzzle": TWO}]), 2, 0),
    "json pretty": ("nine", json.dumps([{"puzzle": NINE}, {"puzzle": TWO}], indent=2), 2, 0),
    "json strings": ("nine", json.dumps([NINE, TWO, NINE]), 3, 0),
    "json pairs": ("nine", json.dumps([NINE, NINE_ANSWER]) + "\n", 1, 1),
    "json grid": ("nine", json.dumps(nested(NINE, 9), indent=1), 1, 0),
    "json grids": ("nine", json.dumps([nested(NINE, 9), nested(TWO, 9)]), 2, 0),
    "json wrapped": ("nine", json.dumps({"puzzles": [{"puzzle": NINE}, {"puzzle": TWO}]}), 2, 0),
    "json rows": ("nine", json.dumps({"board": rows(NINE, 9)}), 1, 0),
    "json text with line ends": ("nine", json.dumps({"board": "\n".join(rows(NINE, 9))}), 1, 0),
    "dosuku": (
        "nine",
        json.dumps(
            {
                "newboard": {
                    "grids": [{"value": nested(NINE, 9), "solution": nested(NINE_ANSWER, 9)}],
                }
            }
        ),
        1,
        1,
    ),
    "our own lines": (
        "nine",
        json.dumps({"puzzle": NINE, "answer": NINE_ANSWER, "solved": True, "steps": []})
        + "\n"
        + json.dumps({"puzzle": TWO, "answer": NINE, "solved": False, "steps": []}),
        2,
        1,
    ),
    # mazes
    "maze": ("maze", f"{MAZE}\n", 1, 0),
    "maze and answer": ("maze", f"{MAZE},{MAZE_ANSWER}\n{MAZE} {MAZE_ANSWER}\n", 2, 2),
    "maze in one string": ("maze", MAZE.replace("/", ""), 1, 0),
    "maze-hard": (
        "maze",
        "source,question,answer,rating\n"
        f"x,{MAZE.replace('/', '').replace('.', ' ')},"
        f"{MAZE_ANSWER.replace('/', '').replace('.', ' ')},7\n",
        1,
        1,
    ),
    "maze on lines": ("maze", "\n".join([*MAZE.split("/"), "", *MAZE.split("/")]), 2, 0),
    "maze with blanks": ("maze", MAZE.replace("/", "\n").replace(".", " "), 1, 0),
    "maze with blanks in a line": ("maze", MAZE.replace(".", " "), 1, 0),
    "maze with A and B": ("maze", MAZE.replace("S", "A").replace("G", "B"), 1, 0),
    "maze with comments": ("maze", f"# my maze\n{MAZE} # easy\n\n#two\n{MAZE}\n", 2, 0),
    "maze in words": ("maze", "\n".join(" ".join(row) for row in MAZE.split("/")), 1, 0),
    "maze answer below": (
        "maze",
        MAZE.replace("/", "\n") + "\n\n" + MAZE_ANSWER.replace("/", "\n"),
        1,
        1,
    ),
    "maze as json": ("maze", json.dumps({"maze": [list(r) for r in MAZE.split("/")]}), 1, 0),
    "maze rows as json": (
        "maze",
        json.dumps({"question": MAZE.split("/"), "answer": MAZE_ANSWER.split("/")}),
        1,
        1,
    ),
    # queens
    "queens": ("queens", f"{QUEENS}\n{QUEENS},{QUEENS_ANSWER}\n{QUEENS}; {QUEENS_ANSWER}\n", 3, 2),
    "queens short": ("queens", "...47...\n. . . 4 7 . . .\n-1,-1,-1,4,7,-1,-1,-1\n", 3, 0),
    "queens table": ("queens", f"puzzle;solution\n{QUEENS};{QUEENS_ANSWER}\n", 1, 1),
    "queens quoted": ("queens", f'puzzle,solution\n"{QUEENS}","{QUEENS_ANSWER}"\n', 1, 1),
    "queens json": ("queens", json.dumps({"board": [-1, None, None, 4, 7, *[None] * 3]}), 1, 0),
    # countdown
    "countdown": ("countdown", "3 7 8 = 29\n3 7 8=29 # easy\n", 2, 0),
    "countdown answers": (
        "countdown",
        "3 7 8 = 29, 7*3+8\n3 7 8 = 29\t8 + 7 * 3\n3 7 8 = 29;7*3 + 8\n3 7 8 = 29 7 * 3 + 8\n",
        4,
        4,
    ),
    "countdown tagged": ("countdown", "p1;3 7 8 = 29;7*3+8\nb, 3 7 8 = 29\n3 7 8 = 29;1.5\n", 3, 1),
    "countdown nums": ("countdown", '{"nums": [3, 7, 8], "target": 29}\n' * 2, 2, 0),
    "countdown numbers": (
        "countdown",
        json.dumps([{"numbers": [3, 7, 8], "target": 29, "solution": "7*3+8"}]),
        1,
        1,
    ),
    "countdown table": ("countdown", 'target,nums\n29,"[3, 7, 8]"\n29,[3 7 8]\n', 2, 0),
    "countdown question": ("countdown", 'question,answer\n"3 7 8 = 29",7*3+8\n', 1, 1),
    # graphs
    "graph": ("graph", f"{GRAPH}\n{GRAPH}, 0>3>7\n{GRAPH} 0>3>7\n{GRAPH};0>3>7\n", 4, 3),
    "graph json": (
        "graph",
        json.dumps(
            {"edges": [[0, 3], [0, 5], [3, 7], [4, 9]], "source": 0, "targets": [7, 9]}
        ),
        1,
        0,
    ),
    "graph prosqa": (
        "graph",
        json.dumps({"edges": [[0, 3], [3, 7], [4, 9]], "root": 0, "target": 7, "neg_target": 9}),
        1,
        0,
    ),
    # arrays and compressed text
    "npy of digits": ("nine", npy(np.stack([digits(NINE), digits(TWO)])), 2, 0),
    "npy of boards": ("nine", npy(digits(NINE).reshape(1, 9, 9).astype(np.int64)), 1, 0),
    "npy of one board": ("nine", npy(digits(NINE).reshape(9, 9).astype(">i4")), 1, 0),
    "npy of tokens": ("nine", npy(digits(NINE)[None] + 1), 1, 0),
    "npz of digits": ("nine", npz(quizzes=DIGITS, solutions=DIGITS_ANSWER), 1, 1),
    "npz of tokens": ("nine", npz(inputs=DIGITS + 1, labels=DIGITS_ANSWER + 1), 1, 1),
    "npz puzzles": ("nine", npz(puzzles=digits(NINE)[None], ids=np.arange(1)), 1, 0),
    "npz of text": ("nine", npz(puzzles=np.array([NINE, TWO])), 2, 0),
    "npz of mazes": ("maze", npz(inputs=MAZE_TOKENS[None], labels=MAZE_LABEL[None]), 1, 1),
    "npy of queens": ("queens", npy(np.array([[-1, -1, -1, 4, 7, -1, -1, -1]], np.int8)), 1, 0),
    "gzip": ("nine", gzip.compress(f"{NINE}\n{TWO}\n".encode()), 2, 0),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms(tmp_path, form):
    name, content, count, answers = FORMS[form]
    puzzle = PUZZLES[name]()
    path = tmp_path / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    given = GivenPuzzles(puzzle, str(path), "env.puzzles")
    assert [fault[:3] for fault in given.faults] == []
    assert (len(given.questions), int(given.given.sum())) == (count, answers)
    known = {
        "nine": {NINE, TWO},
        "maze": {MAZE},
        "queens": {QUEENS, ".,.,.,4,7,.,.,."},
        "countdown": {"8 7 3 = 29"},
        "graph": {GRAPH, "0>3 3>7 4>9 | 0 ? 7 9"},
    }
    texts = {puzzle.format_question(torch.from_numpy(q)) for q in given.questions}
    assert name == "sixteen" or texts <= known[name]
    if name != "sixteen":
        given.check(np.arange(count))
        given.finish()
        assert puzzle.verify(*given.instances(given.checked).values()).solved.all()
