"""Slow, exact checkers and exhaustive solvers for the printed puzzles.

They share nothing with the fast verifiers: only the printed text of a question and of an answer
comes in, and only the standard library is used. Text that does not parse is never right, and no
checker raises. Text is taken to the letter; only a Countdown expression may hold spaces.
"""

import ast
import operator
import re
from collections import Counter, deque
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

Cell = tuple[int, int]

SYMBOLS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NODE = r"(?:0|[1-9][0-9]{0,8})"
POSITIVE = r"[1-9][0-9]{0,8}"
GRAPH = re.compile(rf"({NODE}>{NODE}(?: {NODE}>{NODE})*) \| ({NODE}) \? ({NODE}) ({NODE})")
WALK = re.compile(rf"{NODE}(?:>{NODE})+")
COUNTDOWN = re.compile(rf"({POSITIVE}(?: {POSITIVE})*) = ({POSITIVE})")
EXPRESSION = re.compile(r"[0-9+\-*/() ]+")
OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


# --- Sudoku ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _sudoku_units(box_height: int, box_width: int) -> tuple[tuple[int, ...], ...]:
    """Give the cell indices of every row, column and box; nothing for sizes without symbols."""
    n = box_height * box_width
    if box_height < 1 or box_width < 1 or n > len(SYMBOLS):
        return ()
    rows = [tuple(r * n + c for c in range(n)) for r in range(n)]
    columns = [tuple(r * n + c for r in range(n)) for c in range(n)]
    boxes = [
        tuple((top + r) * n + left + c for r in range(box_height) for c in range(box_width))
        for top in range(0, n, box_height)
        for left in range(0, n, box_width)
    ]
    return tuple(rows + columns + boxes)


def sudoku(question: str, answer: str, box_height: int, box_width: int) -> bool:
    """Say whether the answer fills the grid by the rules and keeps every clue."""
    units = _sudoku_units(box_height, box_width)
    n = box_height * box_width
    if not units or len(question) != n * n or len(answer) != n * n:
        return False
    if not all(clue in ".0" or clue == cell for clue, cell in zip(question, answer, strict=True)):
        return False
    wanted = set(SYMBOLS[:n])
    return all({answer[i] for i in unit} == wanted for unit in units)


def sudoku_solutions(question: str, box_height: int, box_width: int, limit: int) -> list[str]:
    """List up to `limit` completions, by backtracking on the cell with the fewest candidates."""
    units = _sudoku_units(box_height, box_width)
    n = box_height * box_width
    symbols = SYMBOLS[:n]
    if not units or len(question) != n * n or not set(question) <= set(symbols + ".0"):
        return []
    cells = ["." if clue == "0" else clue for clue in question]
    missing = [set(symbols) - {cells[i] for i in unit} for unit in units]
    if any(
        sum(cells[i] != "." for i in u) + len(m) != n for u, m in zip(units, missing, strict=True)
    ):
        return []
    holders = [[m for u, m in zip(units, missing, strict=True) if i in u] for i in range(n * n)]
    found: list[str] = []

    def fill() -> None:
        choices = {
            i: row & column & box for i, (row, column, box) in enumerate(holders) if cells[i] == "."
        }
        if not choices:
            found.append("".join(cells))
            return
        tightest = min(choices, key=lambda i: len(choices[i]))
        for symbol in sorted(choices[tightest]):
            if len(found) < limit:
                cells[tightest] = symbol
                for holder in holders[tightest]:
                    holder.remove(symbol)
                fill()
                for holder in holders[tightest]:
                    holder.add(symbol)
        cells[tightest] = "."

    if limit > 0:
        fill()
    return found


# --- Maze -----------------------------------------------------------------------------------------


def _around(cell: Cell) -> list[Cell]:
    """Give the four cells one step away, in the grid or not."""
    r, c = cell
    return [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]


@lru_cache(maxsize=4096)
def _maze_route(question: str) -> tuple[Cell, Cell, int] | None:
    """Give start, goal and shortest length, or None for a malformed or unsolvable maze."""
    rows = question.split("/")
    if not set(question) <= set("#.SG/") or len({len(row) for row in rows}) != 1:
        return None
    if question.count("S") != 1 or question.count("G") != 1:
        return None
    cells = {(r, c): text for r, row in enumerate(rows) for c, text in enumerate(row)}
    start = next(cell for cell, text in cells.items() if text == "S")
    goal = next(cell for cell, text in cells.items() if text == "G")
    steps = {start: 0}
    queue = deque([start])
    while queue:
        cell = queue.popleft()
        for near in _around(cell):
            if cells.get(near, "#") != "#" and near not in steps:
                steps[near] = steps[cell] + 1
                queue.append(near)
    return (start, goal, steps[goal]) if goal in steps else None


def maze_shortest_length(question: str) -> int | None:
    """Give the number of steps of a shortest path from S to G, None where there is none."""
    route = _maze_route(question)
    return None if route is None else route[2]


def maze(question: str, answer: str) -> bool:
    """Say whether the answer marks exactly one shortest path and changes nothing else."""
    route = _maze_route(question)
    if route is None or len(answer) != len(question):
        return False
    pairs = zip(question, answer, strict=True)
    if not all(old == new or (old == "." and new == "o") for old, new in pairs):
        return False
    cell, goal, shortest = route
    unwalked = {
        (r, c)
        for r, row in enumerate(answer.split("/"))
        for c, text in enumerate(row)
        if text in "oG"
    }
    if len(unwalked) != shortest:
        return False
    while cell != goal:
        ahead = [near for near in _around(cell) if near in unwalked]
        if len(ahead) != 1:
            return False
        cell = ahead[0]
        unwalked.remove(cell)
    return not unwalked


# --- Queens ---------------------------------------------------------------------------------------


def _queens_board(text: str) -> list[int | None] | None:
    """Read one column or blank per row; None where an entry is neither."""
    entries = text.split(",")
    columns: dict[str, int | None] = {str(column): column for column in range(len(entries))}
    columns["."] = None
    return [columns[entry] for entry in entries] if all(e in columns for e in entries) else None


def _attack(row: int, column: int, other_row: int, other_column: int) -> bool:
    """Say whether two queens in different rows share a column or a diagonal."""
    return abs(column - other_column) in (0, abs(row - other_row))


def queens(question: str, answer: str) -> bool:
    """Say whether the answer places N peaceful queens and keeps the given ones."""
    given, placed = _queens_board(question), _queens_board(answer)
    if given is None or placed is None or len(given) != len(placed):
        return False
    if any(old is not None and old != new for old, new in zip(given, placed, strict=True)):
        return False
    board = [(row, column) for row, column in enumerate(placed) if column is not None]
    if len(board) != len(given):
        return False
    return not any(_attack(*one, *other) for one, other in combinations(board, 2))


def queens_solutions(question: str) -> list[str]:
    """List every completion, by trying the columns row after row."""
    given = _queens_board(question)
    boards: list[list[int]] = [[]] if given is not None else []
    for row, kept in enumerate(given or []):
        boards = [
            [*board, column]
            for board in boards
            for column in (range(len(given or [])) if kept is None else [kept])
            if not any(_attack(row, column, r, c) for r, c in enumerate(board))
        ]
    return [",".join(map(str, board)) for board in boards]


# --- Countdown ------------------------------------------------------------------------------------


def _value(node: ast.expr) -> Fraction | None:
    """Evaluate a tree of the four operations; None if any result is not a positive integer."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if not isinstance(node, ast.BinOp) or type(node.op) not in OPERATORS:
        return None
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None or (right == 0 and isinstance(node.op, ast.Div)):
        return None
    result = OPERATORS[type(node.op)](left, right)
    return result if result > 0 and result.denominator == 1 else None


def countdown(question: str, answer: str, use_all: bool) -> bool:
    """Say whether the expression makes the target from the given numbers, each used once."""
    asked = COUNTDOWN.fullmatch(question)
    if asked is None or EXPRESSION.fullmatch(answer) is None:
        return False
    given, used = Counter(asked[1].split()), Counter(re.findall("[0-9]+", answer))
    enough = used == given if use_all else used <= given and used.total() >= 2
    if not enough:
        return False
    try:
        return _value(ast.parse(answer.strip(), mode="eval").body) == int(asked[2])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def countdown_reachable(numbers: list[int], use_all: bool) -> set[int]:
    """Give every value that a legal expression can have, by splitting subsets in two."""
    every = (1 << len(numbers)) - 1
    values: dict[int, set[int]] = {1 << i: {number} for i, number in enumerate(numbers)}
    for subset in range(1, every + 1):
        if subset in values:
            continue
        made = values[subset] = set()
        for part in range(1, subset):
            if part & subset != part:
                continue
            for a in values[part]:
                for b in values[subset ^ part]:
                    made |= {a + b, a * b}
                    if a > b:
                        made.add(a - b)
                    if a % b == 0:
                        made.add(a // b)
    if use_all:
        return set(values.get(every, set()))
    return set().union(*(made for subset, made in values.items() if subset.bit_count() > 1))


# --- Graph ----------------------------------------------------------------------------------------


class Graph(NamedTuple):
    """A question read: its edges, its source, its two candidates and the steps to each node."""

    edges: frozenset[tuple[int, int]]
    source: int
    candidates: tuple[int, int]
    steps: dict[int, int]


@lru_cache(maxsize=4096)
def _graph(question: str) -> Graph | None:
    """Read a question and search it breadth first; None where it is malformed."""
    asked = GRAPH.fullmatch(question)
    if asked is None:
        return None
    ends = [edge.split(">") for edge in asked[1].split(" ")]
    edges = frozenset((int(tail), int(head)) for tail, head in ends)
    source = int(asked[2])
    steps = {source: 0}
    queue = deque([source])
    while queue:
        node = queue.popleft()
        for tail, head in edges:
            if tail == node and head not in steps:
                steps[head] = steps[node] + 1
                queue.append(head)
    return Graph(edges, source, (int(asked[3]), int(asked[4])), steps)


def graph_reachable(question: str) -> set[int]:
    """Give the nodes reachable from the source, the source itself among them."""
    graph_read = _graph(question)
    return set() if graph_read is None else set(graph_read.steps)


def graph_distance(question: str, target: int) -> int | None:
    """Give the fewest steps from the source to the target, None where there is no way."""
    graph_read = _graph(question)
    return None if graph_read is None else graph_read.steps.get(target)


def graph(question: str, answer: str, path: bool) -> bool:
    """Say whether the answer is a reachable candidate, or a walk along edges to a candidate."""
    asked = _graph(question)
    if asked is None or re.fullmatch(WALK if path else NODE, answer) is None:
        return False
    walk = [int(node) for node in answer.split(">")]
    if walk[-1] not in asked.candidates:
        return False
    if not path:
        return walk[-1] in asked.steps
    return walk[0] == asked.source and all(step in asked.edges for step in pairwise(walk))
