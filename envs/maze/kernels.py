"""The maze's searching parts, compiled by numba: distances, paths, judgement.

A maze is a row of height * width tokens: `WALL`, `OPEN`, `START`, `GOAL`, and in answers `PATH`.
Steps go to the four neighbours; where several shortest paths exist, the first in the order south,
west, east, north is the label (the convention of the Maze-Hard benchmark).
"""

import numpy as np
from numba import njit
from pir.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL

FAR = 1 << 30


def build_neighbours(height: int, width: int, reach: int = 1) -> np.ndarray:
    """Returns the cells `reach` steps south, west, east and north of every cell.

    Returns:
        int32 of shape (L, 4), L = height * width; L outside the maze.
    """
    row, column = np.divmod(np.arange(height * width), width)
    table = np.full((height * width, 4), height * width, dtype=np.int32)
    for direction, (dy, dx) in enumerate([(reach, 0), (0, -reach), (0, reach), (-reach, 0)]):
        y, x = row + dy, column + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        table[inside, direction] = (y * width + x)[inside]
    return table


@njit(cache=True, nogil=True)
def distances(
    maze: np.ndarray,
    around: np.ndarray,
    source: int,
    target: int,
    field: np.ndarray,
    queue: np.ndarray,
) -> int:
    """Fills `field`, int32 of shape (L + 1,), with steps from `source`.

    Walls, and the entry L that stands for all cells outside, get -1; open cells that no way leads
    to get `FAR`. Written without branches inside, because those of a maze cannot be predicted.

    Args:
        maze: uint8 of shape (L,).
        around: `build_neighbours` of the maze's shape.
        source: where to start.
        target: the cell at which to stop; -1 to go everywhere. Cells farther off may stay `FAR`.
        field: see above.
        queue: int32 of shape (L + 1,), receives the cells reached, nearest first.

    Returns:
        How many cells were reached.
    """
    length = len(maze)
    for cell in range(length):
        field[cell] = -1 if maze[cell] == WALL else FAR
    field[length] = -1
    field[source] = 0
    queue[0] = source
    head, tail = 0, 1
    while head < tail:
        cell = queue[head]
        head += 1
        if cell == target:
            break
        after = field[cell] + 1
        for direction in range(4):
            other = around[cell, direction]
            steps = field[other]
            field[other] = min(steps, after)
            queue[tail] = other
            tail += steps == FAR
    return tail


@njit(cache=True, nogil=True)
def find(maze: np.ndarray, token: int) -> int:
    """Returns the first cell that holds a token; -1 if none does."""
    for cell in range(len(maze)):
        if maze[cell] == token:
            return cell
    return -1


@njit(cache=True, nogil=True)
def descend(maze: np.ndarray, around: np.ndarray, field: np.ndarray, answer: np.ndarray) -> int:
    """Writes the label into `answer`: from the start, greedy descent of the distance to the goal.

    Returns:
        Steps from start to goal; `FAR` if none lead there, and then nothing is marked.
    """
    answer[:] = maze
    cell = find(maze, START)
    steps = field[cell]
    for _ in range(steps - 1 if steps < FAR else 0):
        for direction in range(4):
            other = around[cell, direction]
            if field[other] == field[cell] - 1:
                cell = other
                break
        answer[cell] = PATH
    return steps


@njit(cache=True, nogil=True)
def label_all(
    mazes: np.ndarray, around: np.ndarray, answers: np.ndarray, steps: np.ndarray
) -> None:
    """Labels mazes (B, L); `steps`, int64 of shape (B,), receives what `descend` returns."""
    field = np.zeros(mazes.shape[1] + 1, np.int32)
    queue = np.zeros(mazes.shape[1] + 1, np.int32)
    for row in range(len(mazes)):
        maze = mazes[row]
        distances(maze, around, find(maze, GOAL), find(maze, START), field, queue)
        steps[row] = descend(maze, around, field, answers[row])


@njit(cache=True, nogil=True)
def shortest_paths(
    mazes: np.ndarray, around: np.ndarray, found: np.ndarray, counts: np.ndarray
) -> None:
    """Enumerates shortest paths, the label first, depth-first in the order of directions.

    Args:
        mazes: uint8 of shape (B, L).
        around: see `distances`.
        found: uint8 of shape (B, limit, L), receives the answers.
        counts: int64 of shape (B,), receives how many there are, at most `limit`.
    """
    length, limit = mazes.shape[1], found.shape[1]
    field, queue = np.zeros(length + 1, np.int32), np.zeros(length + 1, np.int32)
    path = np.zeros(length + 1, np.int64)
    cursor = np.zeros(length + 1, np.int64)
    for row in range(len(mazes)):
        maze = mazes[row]
        path[0] = find(maze, START)
        distances(maze, around, find(maze, GOAL), path[0], field, queue)
        counts[row] = 0
        if field[path[0]] == FAR:
            continue
        depth, cursor[0] = 0, 0
        while depth >= 0:
            cell = path[depth]
            if field[cell] <= 1:
                found[row, counts[row]] = maze
                for step in range(1, depth + 1):
                    found[row, counts[row], path[step]] = PATH
                counts[row] += 1
                depth -= 1
                if counts[row] == limit:
                    break
                continue
            if cursor[depth] == 4:
                depth -= 1
                continue
            other = around[cell, cursor[depth]]
            cursor[depth] += 1
            if field[other] == field[cell] - 1:
                depth += 1
                path[depth], cursor[depth] = other, 0


@njit(cache=True, nogil=True)
def rank_paths(
    mazes: np.ndarray, answers: np.ndarray, around: np.ndarray, ranks: np.ndarray
) -> None:
    """Ranks path cells by their steps along the path to the start or the goal, the nearer of them.

    Args:
        mazes: uint8 of shape (B, L).
        answers: uint8 of shape (B, L), a shortest path in each: it touches itself nowhere.
        around: see `distances`.
        ranks: int64 of shape (B, L), zeros; receives the ranks, from 1 on, of path cells.
    """
    path = np.zeros(mazes.shape[1] + 1, np.int64)
    for row in range(len(mazes)):
        path[0] = find(mazes[row], START)
        steps, is_longer = 0, True
        while is_longer:
            is_longer = False
            for other in around[path[steps]]:
                inside = other < mazes.shape[1]
                if inside and answers[row, other] == PATH and ranks[row, other] == 0:
                    steps += 1
                    path[steps] = other
                    ranks[row, other] = steps
                    is_longer = True
                    break
        for step in range(1, steps + 1):
            ranks[row, path[step]] = min(step, steps + 1 - step)


@njit(cache=True, nogil=True)
def _mark_shortest(
    start: int, around: np.ndarray, field: np.ndarray, on_path: np.ndarray, queue: np.ndarray
) -> None:
    """Sets `on_path` at the cells of all shortest paths, by descending `field` from the start."""
    on_path[start] = True
    queue[0] = start
    head, tail = 0, 1
    while head < tail:
        cell = queue[head]
        head += 1
        if field[cell] == 0:
            break
        for direction in range(4):
            other = around[cell, direction]
            if not on_path[other] and field[other] == field[cell] - 1:
                on_path[other] = True
                queue[tail] = other
                tail += 1


@njit(cache=True, nogil=True)
def judge(
    mazes: np.ndarray,
    answers: np.ndarray,
    around: np.ndarray,
    shares: np.ndarray,
    solved: np.ndarray,
    wrong: np.ndarray,
) -> None:
    """Judges answers by the rules.

    Solved: every clamped cell kept, only open cells marked, start and goal with one marked
    neighbour, path cells with two (start and goal count as marked), and as many marked cells as a
    shortest path has. A path of that length from S to G is then there, and nothing besides.

    Args:
        mazes: uint8 of shape (B, L).
        answers: uint8 of shape (B, L).
        around: see `distances`.
        shares: float32 of shape (B,), receives right path cells / (steps of a shortest path - 1 +
            superfluous ones), at most 0.99. A marked cell is right if it lies on a shortest path
            and is alone in its distance from the goal.
        solved: bool of shape (B,).
        wrong: bool of shape (B, L), receives marked cells that are superfluous or loose.
    """
    length = mazes.shape[1]
    field, queue = np.zeros(length + 1, np.int32), np.zeros(length + 1, np.int32)
    on_path = np.zeros(length + 1, np.bool_)
    marked_at = np.zeros(length + 1, np.int64)
    for row in range(len(mazes)):
        maze, answer = mazes[row], answers[row]
        start = find(maze, START)
        distances(maze, around, find(maze, GOAL), start, field, queue)
        steps = min(field[start], length)
        on_path[:] = False
        if steps < length:
            _mark_shortest(start, around, field, on_path, queue)
        marked_at[: steps + 1] = 0
        for cell in range(length):
            if maze[cell] == OPEN and answer[cell] == PATH and on_path[cell]:
                marked_at[field[cell]] += 1
        right, superfluous, legal = 0, 0, steps < length
        for cell in range(length):
            wrong[row, cell] = False
            if maze[cell] == WALL or (maze[cell] == OPEN and answer[cell] != PATH):
                legal &= answer[cell] == maze[cell]
                continue
            neighbours = 0
            for direction in range(4):
                other = around[cell, direction]
                if other < length and maze[other] != WALL:
                    neighbours += maze[other] != OPEN or answer[other] == PATH
            if maze[cell] != OPEN:
                legal &= neighbours == 1 and answer[cell] == maze[cell]
                continue
            alone = on_path[cell] and marked_at[field[cell]] == 1
            right += alone
            superfluous += not alone
            legal &= neighbours == 2 and alone
            wrong[row, cell] = neighbours != 2 or not alone
        solved[row] = legal and right == steps - 1
        shares[row] = min(0.99, right / max(1, steps - 1 + superfluous))
