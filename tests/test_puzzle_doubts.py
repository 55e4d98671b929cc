"""Files of puzzles that can be read in two ways: refused with the place, or read if one is sure."""

import json
import time

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku

from pir.errors import PuzzleTextError, UserError
from pir.puzzle_files import source as puzzle_source
from pir.puzzle_files.given import GivenPuzzles
from pir.puzzle_files.reader import read_puzzles
from tests.test_puzzle_forms import MAZE, NINE, NINE_ANSWER, TWO, rows

NINE_BY_NINE, SIXTEEN = Sudoku((3, 3)), Sudoku((4, 4))


def read(puzzle, tmp_path, content):
    """Returns the puzzles of a file as text, each with its line and answer, and its faults."""
    path = tmp_path / "f"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found, faults = [], []
    for batch in read_puzzles(puzzle, str(path), "env.puzzles"):
        for row, question in enumerate(torch.from_numpy(batch.questions)):
            answer = None
            if batch.answers is not None and batch.answers[row].any():
                answer = puzzle.format_answer(question, torch.from_numpy(batch.answers[row]))
            found.append((int(batch.lines[row]), puzzle.format_question(question), answer))
        faults += [f"{fault.line}:{fault.column} {fault.reason}" for fault in batch.faults]
    return found, faults


# ------------------------------------------------------------------------------ signs

HEXADECIMAL = "".join(
    "0123456789ABCDEF"[(5 * i + i // 16) % 16] if i % 3 else "." for i in range(256)
)


@pytest.mark.parametrize("parted", ["", " ", "\n"])
@pytest.mark.parametrize("blank", ["._"])
def test_a_zero_beside_other_blanks_is_refused(tmp_path, parted, blank):
    for sign in blank:
        text = HEXADECIMAL.replace(".", sign)
        content = "\n".join(rows(text, 16)) if parted == "\n" else parted.join(text)
        found, faults = read(SIXTEEN, tmp_path, content)
        place = text.index("0")
        line, column = divmod(place, 16) if parted == "\n" else (0, place * (2 if parted else 1))
        assert (found, len(faults)) == ([], 1)
        assert faults[0].startswith(f"{line + 1}:{column + 1} 0 may be a blank, or a clue")
    with pytest.raises(PuzzleTextError, match="0 may be a blank"):
        SIXTEEN.parse(HEXADECIMAL)


def test_a_zero_beside_the_highest_clue_is_a_blank(tmp_path):
    text = NINE.replace(".", "0", 5)
    lines = [NINE, text, NINE.replace(".", "0"), text.replace("9", "."), NINE.replace(".", "0")]
    found, faults = read(NINE_BY_NINE, tmp_path, "\n".join(lines))
    assert [(line, question) for line, question, _ in found] == [(n, NINE) for n in (1, 2, 3, 5)]
    assert [fault.partition(" ")[0] for fault in faults] == ["4:3"]


def test_numbers_that_touch_are_refused(tmp_path):
    lines = [
        "...47...",
        "--1-47--",
        "-1-1-147",
        "-1 -1 -1 4 7",
        "-1,-1,-1,4,7,-1,-1,-1",
        "-1047526",
    ]
    found, faults = read(Queens(), tmp_path, "\n".join(lines))
    assert [line for line, _, _ in found] == [1, 2, 5, 6]
    assert [question for _, question, _ in found][1:] == [
        ".,.,1,.,4,7,.,.",
        ".,.,.,4,7,.,.,.",
        ".,1,0,4,7,5,2,6",
    ]
    assert [fault.partition(":")[0] for fault in faults] == ["3", "4"]
    assert faults[0].startswith("3:1 it may be numbers that touch")
    assert faults[1].endswith("5 numbers where this puzzle has 8 cells")


# ------------------------------------------------------------------------------ answers

OTHER_DIGITS = str.maketrans("123456789", "234567891")


@pytest.mark.parametrize("block", [1 << 21, 90])
def test_answers_on_lines_of_their_own_are_refused(tmp_path, monkeypatch, block):
    monkeypatch.setattr(puzzle_source, "BLOCK", block)
    for pair in ((NINE, NINE_ANSWER), (NINE_ANSWER, NINE)):
        other = [text.translate(OTHER_DIGITS) for text in pair]
        found, faults = read(NINE_BY_NINE, tmp_path, "\n".join(["# mine", *pair, *other, ""]))
        assert [line for line, _, _ in found] == [2, 4]
        assert [fault.partition(" ")[0] for fault in faults] == ["3:1", "5:1"]
        assert "this board and that of line 2 may be puzzle and answer" in faults[0]


def test_full_boards_beside_other_puzzles_are_puzzles(tmp_path):
    found, faults = read(NINE_BY_NINE, tmp_path, json.dumps([NINE, NINE_ANSWER, TWO]))
    assert [fault.partition(" ")[0] for fault in faults] == ["1:1", "1:1"]
    lines = [NINE, NINE_ANSWER.translate(OTHER_DIGITS), f"{NINE},{NINE_ANSWER}", NINE_ANSWER]
    found, faults = read(NINE_BY_NINE, tmp_path, "\n".join(lines))
    assert [line for line, _, _ in found] == [1, 2, 3]
    assert [fault.partition(" ")[0] for fault in faults] == ["4:1"]
    found, faults = read(NINE_BY_NINE, tmp_path, "\n".join([NINE_ANSWER, lines[1], lines[2]]))
    assert ([line for line, _, _ in found], faults) == ([1, 2, 3], [])


def test_an_empty_answer_does_not_hide_a_faulty_one(tmp_path):
    """Lines alike are read together, but not past what their answer's field holds."""
    for end in ("", ",5"):
        lines = [
            f"{NINE},{end}",
            f"{NINE},53467{end}",
            f"{NINE},{NINE_ANSWER}{end}",
            f"{NINE},{end}",
        ]
        header = "puzzle,solution" + end.replace("5", "rating")
        found, faults = read(NINE_BY_NINE, tmp_path, "\n".join([header, *lines]))
        assert [(line, bool(answer)) for line, _, answer in found] == [(2, 0), (4, 1), (5, 0)]
        assert [fault.partition(":")[0] for fault in faults] == ["3"]


def test_boards_in_play_are_refused(tmp_path):
    parts = {"[Puzzle]": NINE, "[State]": TWO, "[Solution]": NINE_ANSWER}
    content = "\n".join(f"{title}\n" + "\n".join(rows(b, 9)) for title, b in parts.items())
    found, faults = read(NINE_BY_NINE, tmp_path, content)
    assert found == [(2, NINE, None)]
    assert [fault.partition(" ")[0] for fault in faults] == ["12:1", "22:1"]


def test_floats_that_have_lost_digits_are_refused(tmp_path):
    _, faults = read(NINE_BY_NINE, tmp_path, json.dumps({"puzzle": float(NINE.replace(".", "0"))}))
    assert len(faults) == 1


# ------------------------------------------------------------------------------ fields

FOUR, FOUR_ANSWER, OTHER = "12.434122.434321", "1234341221434321", "1..............."
EDGES = {"edges": "0>3 3>7 4>9", "target": 7, "neg_target": 9}
NUMBERS = {"nums": [3, 7, 8], "target": 29}
MADE, PART = "8 7 3 = 29", "0>3 3>7 4>9 | 0 ? 7 9"
DIFFERENT = {
    "questions": (Sudoku(), {"puzzle": FOUR, "quizzes": OTHER}, "puzzle and quizzes"),
    "case": (Sudoku(), {"puzzle": FOUR, "Puzzle": OTHER}, "puzzle comes twice"),
    "answers": (
        Sudoku(),
        {"puzzle": FOUR, "solution": FOUR_ANSWER, "answer": FOUR},
        "answer and solution",
    ),
    "target": (
        Sudoku(),
        {"puzzle": FOUR, "solution": FOUR_ANSWER, "target": FOUR},
        "solution and target",
    ),
    "numbers": (Countdown(), NUMBERS | {"numbers": [3, 7, 9]}, "nums and numbers"),
    "question": (Countdown(), NUMBERS | {"question": "3 7 9 = 29"}, "question and nums and target"),
    "target of a question": (
        Countdown(),
        {"question": "3 7 8 = 29", "target": 30},
        "question and target",
    ),
    "source": (Graph(), EDGES | {"source": 0, "root": 3}, "source and root"),
    "targets": (Graph(), EDGES | {"source": 0, "targets": [9, 7]}, "targets and target"),
}


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("form", ["json", "table"])
def test_fields_that_differ_are_refused(tmp_path, name, form):
    puzzle, fields, reason = DIFFERENT[name]
    content = json.dumps(fields)
    if form == "table":
        values = (json.dumps(v).strip('"') for v in fields.values())
        content = "\t".join(fields) + "\n" + "\t".join(values)
    found, faults = read(puzzle, tmp_path, content)
    assert found == []
    assert faults[0].startswith(f"{1 + (form == 'table')}:1 {reason}"), faults
    assert "differ" in faults[0]


@pytest.mark.parametrize(
    ("puzzle", "fields", "question", "answer"),
    [
        (Sudoku(), {"puzzle": FOUR, "target": FOUR_ANSWER}, FOUR, FOUR_ANSWER),
        (Sudoku(), {"puzzle": FOUR, "Quiz": FOUR, "answer": ""}, FOUR, None),
        (Sudoku(), {"Puzzle": "", "puzzle": FOUR, "answer": FOUR_ANSWER, "solution": FOUR_ANSWER},
         FOUR, FOUR_ANSWER),
        (Countdown(), NUMBERS | {"numbers": [3, 7, 8], "question": "7 8 3 = 29"}, MADE, None),
        (Countdown(), NUMBERS | {"question": "Make 29 of 3, 7 and 8."}, MADE, None),
        (Countdown(), {"question": "3 7 8 = 29", "target": 29}, MADE, None),
        (Countdown(), {"question": "3 7 8", "target": 29}, MADE, None),
        (Graph(), EDGES | {"source": 0, "root": 0, "targets": [7, 9]}, PART, None),
    ],
)  # fmt: skip
def test_fields_that_agree_are_read(tmp_path, puzzle, fields, question, answer):
    found, faults = read(puzzle, tmp_path, json.dumps(fields))
    assert (found, faults) == ([(1, question, answer)], [])


# ------------------------------------------------------------------------------ boards on lines

MAZE_ROWS, NINE_ROWS, TWO_ROWS = MAZE.split("/"), rows(NINE, 9), rows(TWO, 9)


@pytest.mark.parametrize("gap", ["", "\n", "\n\n"])
@pytest.mark.parametrize("place", range(5))
def test_a_faulty_row_leaves_the_other_boards_whole(tmp_path, gap, place):
    faulty = ["?" + row[1:] if i == place else row for i, row in enumerate(MAZE_ROWS)]
    for at in range(3):
        boards = [MAZE_ROWS, MAZE_ROWS]
        boards.insert(at, faulty)
        found, faults = read(Maze(5, 5), tmp_path, ("\n" + gap).join("\n".join(b) for b in boards))
        firsts = [1 + i * (5 + len(gap)) for i in range(3)]
        assert [(line, q) for line, q, _ in found] == [
            (line, MAZE) for i, line in enumerate(firsts) if i != at
        ]
        assert [fault.partition(" ")[0] for fault in faults] == [f"{firsts[at] + place}:1"]


@pytest.mark.parametrize("board", [0, 1, 2])
def test_boards_beside_a_missing_row_are_left_out(tmp_path, board, capsys):
    """Without a gap between boards nobody knows which of them lacks the row."""
    boards = [NINE_ROWS, TWO_ROWS, NINE_ROWS]
    boards[board] = boards[board][1:]
    lines = [row for rows_ in boards for row in rows_]
    path = tmp_path / "f"
    path.write_text("\n".join([NINE, "", *lines, "", *NINE_ROWS]))
    given = GivenPuzzles(NINE_BY_NINE, str(path), "env.puzzles", skip_faulty=True)
    assert given.lines.tolist() == [1, 30]
    given.check_all()
    assert "3 of 5 puzzles left out, the first line 28, column 1: 8 rows" in capsys.readouterr().err
    with pytest.raises(UserError, match="no board from line 3 on is sure"):
        GivenPuzzles(NINE_BY_NINE, str(path), "env.puzzles").check_all()


def test_the_line_above_the_rows_is_told_too(tmp_path):
    _, faults = read(Maze(5, 5), tmp_path, "\n".join(["?#", *MAZE_ROWS[1:], *MAZE_ROWS]))
    assert [fault.partition(" ")[0] for fault in faults] == ["1:1", "10:1"]
    found, faults = read(Maze(5, 5), tmp_path, "\n".join(["hello", *MAZE_ROWS]))
    assert (len(found), faults) == (1, [])


def test_rulings_alone_are_no_board(tmp_path):
    found, faults = read(Maze(5, 5), tmp_path, f"- | --\n{MAZE}\n- | --\n")
    assert ([line for line, _, _ in found], faults) == ([2], [])


def test_faults_of_boards_on_lines_have_their_row(tmp_path):
    text = MAZE.replace("S..", "So.").replace("/", "\n")
    assert read(Maze(5, 5), tmp_path, text)[1] == ["2:3 'o' stands in answers only"]


def test_the_answer_to_a_faulty_board_is_no_puzzle(tmp_path):
    faulty = [*NINE_ROWS[:8], "....z..79"]
    content = "\n".join([*NINE_ROWS, "", *faulty, "", *rows(NINE_ANSWER, 9)])
    found, faults = read(NINE_BY_NINE, tmp_path, content)
    assert found == [(1, NINE, None)]
    assert [fault.partition(" ")[0] for fault in faults] == ["19:5", "21:1"]


# ------------------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (NINE_ROWS[:8], "1:1 8 rows where this puzzle has 9"),
        ({"board": NINE_ROWS[:8]}, "1:1 8 rows where this puzzle has 9"),
        ({"board": [*NINE_ROWS[:8], "....8..7z"]}, "1:1 row 9: 'z' is no sign of this puzzle"),
        ({"board": [*NINE_ROWS[:8], "....8..7"]}, "1:1 row 9: 8 cells where a row has 9"),
        ({"board": [list(row) for row in NINE_ROWS[:8]] + [["1", "10"]]}, "1:1 row 9: '10' is no"),
        (["hello"], "1:1 'h' is neither"),
        ([NINE, "Easy ones:"], "1:1 'E' is neither"),
        ([NINE, *NINE_ROWS[:5]], "1:1 6 rows where this puzzle has 9"),
        ([NINE, TWO, NINE_ROWS[0]], "1:1 1 rows where this puzzle has 9"),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_faults_of_lists_speak_of_rows(tmp_path, value, reason, indent):
    _, faults = read(NINE_BY_NINE, tmp_path, json.dumps(value, indent=indent))
    assert len(faults) == 1
    assert indent or faults[0].startswith(reason)


# ------------------------------------------------------------------------------ marks and comments


def test_marks_of_inches_swallow_no_rows(tmp_path):
    """A quotation mark opens a field only where the field begins with it."""
    rows = [f"{n}\t{note}\t{NINE}" for n, note in enumerate(('the 5" one', "", "", '7" wide'))]
    quoted = f'5\t"on two\nlines, ""quoted"""\t{TWO}'
    lines = ["id\tnote\tpuzzle", *rows, quoted]
    found, faults = read(NINE_BY_NINE, tmp_path, "\n".join(lines))
    assert ([line for line, _, _ in found], faults) == ([2, 3, 4, 5, 6], [])
    assert read(NINE_BY_NINE, tmp_path, f'id\tpuzzle\n1\t"{NINE}\n2\t{TWO}')[1] == [
        "2:1 a quotation mark is not closed"
    ]


def test_a_comment_with_commas_is_no_header(tmp_path):
    wrong = NINE_ANSWER[::-1]
    for line, answer in ((f"{NINE},{NINE_ANSWER}", NINE_ANSWER), (f"{NINE};{NINE_ANSWER}", None)):
        content = f"# my sudoku puzzles, from the newspaper\n{line}"
        found, faults = read(NINE_BY_NINE, tmp_path, content)
        assert ([line for line, _, _ in found], faults) == ([2], [])
        assert answer is None or found[0][2] == answer
    found, faults = read(NINE_BY_NINE, tmp_path, f"# puzzles, of mine\n{NINE},{wrong}")
    assert (found, faults[0][:2]) == ([], "2:")
    found, _ = read(NINE_BY_NINE, tmp_path, f"#id,puzzle\n1,{NINE}")
    assert [line for line, _, _ in found] == [2]


def test_rows_of_a_maze_are_no_comments(tmp_path):
    puzzle = Maze(3, 5)
    content = "maze,solution\n#####/#S.G#/#####\n# a remark\n#####/#G.S#/#####,"
    found, faults = read(puzzle, tmp_path, content)
    assert ([line for line, _, _ in found], faults) == ([2, 4], [])


def test_a_sign_more_than_a_board_has_is_refused_everywhere(tmp_path):
    puzzle = Queens(8)
    good, more = ".,.,.,4,7,.,.,.", ".,.,.,.,4,7,.,.,."
    alone, behind = (read(puzzle, tmp_path, text) for text in (more, f"{good}\n{more}"))
    assert alone[1][0].split(" ", 1)[1] == behind[1][0].split(" ", 1)[1]
    assert [line for line, _, _ in behind[0]] == [1]


def test_boards_without_a_blank_are_faults(tmp_path):
    path = tmp_path / "f"
    path.write_text(f"{NINE}\n{NINE_ANSWER.translate(OTHER_DIGITS)}\n{TWO}\n")
    with pytest.raises(UserError, match="line 2, column 1: it is solved as it stands"):
        GivenPuzzles(NINE_BY_NINE, str(path), "env.puzzles").check_all()


def test_long_lines_that_are_no_puzzles_are_quick(tmp_path):
    """No title, comment or separator is looked for from every character to the end."""
    started = time.process_time()
    for puzzle, line in (
        (NINE_BY_NINE, "a:" * 200_000 + "b"),
        (Countdown(), "3 7 8" + " " * 200_000 + "= x"),
    ):
        found, faults = read(puzzle, tmp_path, line)
        assert (found, len(faults)) == ([], 1)
    assert time.process_time() - started < 10
