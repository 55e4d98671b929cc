"""The reachability graphs' searching parts, compiled by numba: generator, walks, key.

A graph is a table of successors, int64 of shape (nodes, branching), each row ascending and filled
up with -1.
"""

import numpy as np
from numba import njit, uint64
from pir.envs.counter_random import draw_below, mix, open_stream, shuffle, step_stream
from pir.envs.instance_stream import DRAW, Stream, ask_to_draw, open_row

from pir.system.slices import FILLED

MAX_ATTEMPTS = 50_000
FAR = 1 << 30


@njit(cache=True, nogil=True)
def distances_to(successors: np.ndarray, target: int, field: np.ndarray) -> None:
    """Fills `field`, int64 of shape (nodes,), with steps to the target, `FAR` where none lead."""
    nodes, branching = successors.shape
    field[:] = FAR
    field[target] = 0
    changed = True
    while changed:
        changed = False
        for node in range(nodes):
            for slot in range(branching):
                after = successors[node, slot]
                if after >= 0 and field[after] + 1 < field[node]:
                    field[node] = field[after] + 1
                    changed = True


@njit(cache=True, nogil=True)
def _exact_walks(successors: np.ndarray, field: np.ndarray, longest: int) -> np.ndarray:
    """Returns whether a walk of exactly s steps leads from a node to the target, (longest, nodes).

    A depth-first search that asks this never meets a dead end, of which long walks have
    exponentially many.
    """
    nodes, branching = successors.shape
    leads = np.zeros((longest, nodes), np.bool_)
    leads[0] = field == 0
    for steps in range(1, longest):
        for node in range(nodes):
            for slot in range(branching):
                after = successors[node, slot]
                leads[steps, node] |= after >= 0 and leads[steps - 1, after]
    return leads


@njit(cache=True, nogil=True)
def walks(
    successors: np.ndarray, source: int, field: np.ndarray, longest: int, found: np.ndarray
) -> int:
    """Lists walks to the target, the shortest first, then in lexicographic order.

    Args:
        successors: see the module.
        source: where the walks start.
        field: `distances_to` the target.
        longest: most steps of a walk.
        found: int64 of shape (limit, longest), receives the nodes after the source, then -1.

    Returns:
        How many were written.
    """
    nodes, branching = successors.shape
    path, cursor = np.zeros(longest + 1, np.int64), np.zeros(longest + 1, np.int64)
    leads = np.zeros((0, nodes), np.bool_)  # whether a walk of so many steps ends at the target
    count = 0
    for length in range(max(1, field[source]), longest + 1):
        if length > field[source] and len(leads) == 0:
            leads = _exact_walks(successors, field, longest)
        path[0] = source
        depth, cursor[0] = 0, 0
        while depth >= 0:
            if depth == length:
                if field[path[depth]] == 0:
                    found[count, :] = -1
                    found[count, :length] = path[1 : length + 1]
                    count += 1
                    if count == len(found):
                        return count
                depth -= 1
                continue
            if cursor[depth] == branching:
                depth -= 1
                continue
            after = successors[path[depth], cursor[depth]]
            cursor[depth] += 1
            steps = length - depth - 1
            if after >= 0 and (leads[steps, after] if len(leads) else field[after] == steps):
                depth += 1
                path[depth], cursor[depth] = after, 0
    return count


@njit(cache=True, nogil=True)
def list_walks(
    graphs: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    found: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Lists walks from the source to the targets, those to the nearer one first, for every graph.

    Args:
        graphs: int64 of shape (B, nodes, branching).
        sources: int64 of shape (B,).
        targets: int64 of shape (B, 2).
        found: int64 of shape (B, limit, longest), see `walks`.
        counts: int64 of shape (B,), receives how many were written.
    """
    fields = np.zeros((2, graphs.shape[1]), np.int64)
    for b in range(len(graphs)):
        counts[b] = 0
        for candidate in range(2):
            distances_to(graphs[b], targets[b, candidate], fields[candidate])
        nearer = 0 if fields[0, sources[b]] <= fields[1, sources[b]] else 1
        for field in (fields[nearer], fields[1 - nearer]):
            if counts[b] < found.shape[1]:
                counts[b] += walks(
                    graphs[b], sources[b], field, found.shape[2], found[b, counts[b] :]
                )


@njit(cache=True, nogil=True)
def graph_key(successors: np.ndarray, source: int, targets: np.ndarray) -> int:
    """Hashes a puzzle to [0, 2**62), equally under every renaming of nodes and swap of targets.

    Colour refinement: five rounds in which every node is coloured by the sums of its successors'
    and predecessors' colours.
    """
    nodes, branching = successors.shape
    colour, ahead, behind = np.zeros((3, nodes), np.uint64)
    colour[source] = uint64(1)
    colour[targets[0]] = uint64(2)
    colour[targets[1]] = uint64(2)
    for round_ in range(5):
        ahead[:] = uint64(0)
        behind[:] = uint64(round_)
        for node in range(nodes):
            for slot in range(branching):
                after = successors[node, slot]
                if after >= 0:
                    ahead[node] += mix(colour[after])
                    behind[after] += mix(colour[node])
        for node in range(nodes):
            colour[node] = mix(colour[node] ^ mix(ahead[node]) ^ mix(mix(behind[node])))
    total = uint64(nodes)
    for node in range(nodes):
        total += mix(colour[node])
    return np.int64(mix(total) >> uint64(2))


@njit(cache=True, nogil=True)
def graph_keys(
    graphs: np.ndarray, sources: np.ndarray, targets: np.ndarray, keys: np.ndarray
) -> None:
    """Runs `graph_key` on every graph, see `list_walks`; keys is int64 of shape (B,)."""
    for b in range(len(graphs)):
        keys[b] = graph_key(graphs[b], sources[b], targets[b])


@njit(cache=True, nogil=True)
def _add_edge(successors: np.ndarray, node: int, after: int) -> bool:
    """Adds an edge where the node has room for one and it is new."""
    for slot in range(successors.shape[1]):
        if successors[node, slot] == after or node == after:
            return False
        if successors[node, slot] < 0:
            successors[node, slot] = after
            return True
    return False


@njit(cache=True, nogil=True)
def _grow(
    state: np.uint64, successors: np.ndarray, first: int, last: int, lowest: int, extra: float
) -> np.uint64:
    """Joins nodes first .. last - 1 to a tree from `first`, then adds edges to lowest .. last - 1.

    Every free slot is filled with chance `extra`.
    """
    branching = successors.shape[1]
    for node in range(first + 1, last):
        joined = False
        while not joined:
            state = step_stream(state)
            joined = _add_edge(successors, first + draw_below(state, node - first), node)
    threshold = int(extra * (1 << 30))
    for node in range(first, last):
        for _ in range(branching):
            state = step_stream(state)
            if draw_below(state, 1 << 30) < threshold:
                state = step_stream(state)
                _add_edge(successors, node, lowest + draw_below(state, last - lowest))
    return state


@njit(cache=True, nogil=True)
def _rename(names: np.ndarray, successors: np.ndarray, out: np.ndarray) -> None:
    """Writes a graph under new names of its nodes, every row ascending."""
    nodes, branching = successors.shape
    out[:] = -1
    for node in range(nodes):
        row = out[names[node]]
        for slot in range(branching):
            if successors[node, slot] >= 0:
                after = names[successors[node, slot]]
                place = slot
                while place > 0 and row[place - 1] > after:
                    row[place] = row[place - 1]
                    place -= 1
                row[place] = after


@njit(cache=True, nogil=True)
def rename_all(
    seed: int, first_index: int, graphs: np.ndarray, sources: np.ndarray, targets: np.ndarray
) -> None:
    """Gives the nodes of every graph random new names, in place; shapes as in `list_walks`."""
    names = np.zeros(graphs.shape[1], np.int64)
    old = np.zeros(graphs.shape[1:], np.int64)
    for b in range(len(graphs)):
        state = shuffle(open_stream(seed, -1, first_index + b), names)
        old[:] = graphs[b]
        _rename(names, old, graphs[b])
        sources[b] = names[sources[b]]
        swap = draw_below(step_stream(state), 2)
        first, second = names[targets[b, swap]], names[targets[b, 1 - swap]]
        targets[b, 0], targets[b, 1] = first, second


@njit(cache=True, nogil=True)
def generate(
    stream: Stream,
    hops: tuple[int, int],
    unreachable: int,
    extra: float,
    graphs: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    progress: np.ndarray,
    budget: int,
) -> int:
    """Fills one row per instance.

    The source reaches a random tree with extra edges; beside it grows a second such part, which
    has edges into the first but none back. One target lies in either, at a place in their lists
    and under names that are drawn at random.

    Args:
        stream: the instances to draw.
        hops: fewest and most steps from the source to its target.
        unreachable: nodes of the second part, at least 2.
        extra: chance of every free slot to get an edge.
        graphs: int64 of shape (count, nodes, branching), receives the successors.
        sources: int64 of shape (count,).
        targets: int64 of shape (count, 2).
        progress: where the generator stands, see `pir.system.slices.generate_rows`.
        budget: stops after so many draws.

    Returns:
        `BUSY`, `FILLED` or `GIVEN_UP`.
    """
    nodes = graphs.shape[1]
    reachable = nodes - unreachable
    successors = np.zeros(graphs.shape[1:], np.int64)
    names, field = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    for b in range(np.int64(progress[0]), len(graphs)):
        state, draws = open_row(stream, b, progress)
        while True:
            status = ask_to_draw(stream, b, draws, state, progress, budget)
            if status != DRAW:
                return status
            draws, budget = draws + 1, budget - 1
            successors[:] = -1
            state = _grow(state, successors, 0, reachable, 0, extra)
            state = _grow(state, successors, reachable, nodes, 0, extra)
            state = step_stream(state)
            right = 1 + draw_below(state, reachable - 1)
            state = step_stream(state)
            wrong = reachable + 1 + draw_below(state, unreachable - 1)
            distances_to(successors, right, field)
            if not hops[0] <= field[0] <= hops[1]:
                continue
            state = shuffle(state, names)
            _rename(names, successors, graphs[b])
            state = step_stream(state)
            first = draw_below(state, 2)
            sources[b] = names[0]
            targets[b, first], targets[b, 1 - first] = names[right], names[wrong]
            key = graph_key(graphs[b], sources[b], targets[b])
            if stream.low <= key % stream.key_range < stream.high:
                break
    return FILLED
