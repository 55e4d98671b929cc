"""Graph reachability: which of two nodes can be reached from the source, and by which way.

Description:
    A random directed graph, a source and two targets, one of which can be reached (after ProsQA,
    arXiv:2412.06769). In text: edges, `|`, the source, `?` and the targets,
    `0>3 0>5 3>7 4>9 | 0 ? 7 9`. The answer is a walk `0>3>7` from the source to a target; with
    `path=false` it is the target alone, `7`.

Layout:
    One token per successor: `branching` positions for every node in turn, ascending, then `PAD`;
    then the source, the two targets, and the answer: the nodes after the source and then `.`, or
    with `path=false` one node. Tokens: 1 blank, 2 `.`, 3 + i for node i. The label is the shortest
    walk, the lexicographically first of them. Walks may be longer than that, up to `hops`' most.

Score:
    1 if solved; else 0.8 times the share of the written steps that follow edges one after another
    (0 with `path=false`).
"""

from typing import Unpack

import numpy as np
import torch
from pir.envs.graph import kernels
from pir.envs.graph.picture import GraphPicture
from pir.envs.graph.text import GraphText
from pir.envs.graph.tokens import FIRST_NODE, STOP
from pir.envs.instance_stream import stream_of
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_pairs
from pir.errors import UserError
from pir.puzzle import PAD, Solutions, Verdict, instances
from pir.puzzle_files.given import FilePuzzle, FileSettings
from pir.system.slices import generate_rows, over_rows


class Graph(GraphText, GraphPicture, FilePuzzle):
    """Reachability in random directed graphs.

    Args:
        nodes: nodes of the graph, 6 to 200.
        branching: most successors of a node, 2 to 8.
        distractors: share of the nodes that the source cannot reach.
        extra: chance of every free successor of a node to get an edge.
        hops: fewest and most steps from the source to the target.
        path: whether the answer is the walk, or the target alone.
        file: a file of graphs and how it is used; see `FileSettings`.

    Raises:
        UserError: if a setting is out of range.
    """

    rating_name = "hops"
    no_answer = "neither target can be reached within env.hops"

    def __init__(
        self,
        nodes: int = 10,
        branching: int = 2,
        distractors: float = 0.4,
        extra: float = 0.3,
        hops: tuple[int, int] = (2, 3),
        path: bool = True,
        **file: Unpack[FileSettings],
    ) -> None:
        """Lays out the tokens."""
        super().__init__(**file)
        check_pairs("env", hops=hops)
        if not 6 <= nodes <= 200:
            raise UserError(f"env.nodes={nodes}: allowed are 6 to 200")
        if not 2 <= branching <= 8:
            raise UserError(f"env.branching={branching}: allowed are 2 to 8")
        self.unreachable = round(nodes * distractors)
        if not (0 < distractors < 1 and 2 <= self.unreachable <= nodes - 3):
            raise UserError(
                f"env.distractors={distractors}: at least 2 nodes must be out of reach, 3 within"
            )
        if not 0 <= extra <= 1:
            raise UserError(f"env.extra={extra}: allowed is 0 to 1")
        if not 1 <= hops[0] <= hops[1] < nodes:
            raise UserError(f"env.hops={list(hops)}: allowed is 1 <= fewest <= most < {nodes}")
        self.nodes, self.branching, self.extra = nodes, branching, extra
        self.hops, self.path = hops, path
        self.unique = not path
        self.vocabulary = ("PAD", "_", ".", *map(str, range(nodes)))
        self.table_end = nodes * branching
        self.answer_start = self.table_end + 3
        length = self.answer_start + (hops[1] if path else 1)
        self.slot_mask = torch.zeros(length, len(self.vocabulary), dtype=torch.bool)
        self.slot_mask[:, FIRST_NODE:] = True
        self.slot_mask[self.answer_start + 1 :, STOP] = True
        self.relations = self._build_relations()
        node = torch.arange(self.table_end) // branching
        self.owners = torch.full((length,), PAD)
        self.owners[: self.table_end] = node + FIRST_NODE

    def _build_relations(self) -> Tensor:
        """Returns 1 for successors of one node, 2 and 3 for neighbours in the walk, else 0."""
        place = torch.arange(self.length)
        node = torch.where(place < self.table_end, place // self.branching, -1 - place)
        relations = (node == node[:, None]).long()
        in_walk = (place > self.table_end + 2) | (place == self.table_end)
        order = torch.where(place == self.table_end, self.answer_start - 1, place)
        step = order - order[:, None]
        both = in_walk & in_walk[:, None]
        relations[both & (step == 1)] = 2
        relations[both & (step == -1)] = 3
        return relations

    # ---------------------------------------------------------------- instances

    def sample_new(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Grows random graphs; see `Puzzle.sample`."""
        graphs = np.zeros((count, self.nodes, self.branching), np.int64)
        sources, targets = np.zeros(count, np.int64), np.zeros((count, 2), np.int64)
        found = generate_rows(
            kernels.generate,
            stream_of(split, seed, start, kernels.MAX_ATTEMPTS),
            self.hops,
            self.unreachable,
            self.extra,
            graphs,
            sources,
            targets,
        )
        if not found:
            raise UserError(
                f"no graph found in the {split} split with env.nodes={self.nodes}, "
                f"env.hops={list(self.hops)}; lower the hops or take more nodes"
            )
        return self._labelled(self._encode(graphs, sources, targets))

    def augment(self, puzzles: TensorDict, *, seed: int, start: int = 0) -> TensorDict:
        """Renames nodes and swaps targets at random, and labels anew; see `Puzzle.augment`."""
        graphs, sources, targets = self._decode(puzzles["question"])
        kernels.rename_all(seed, start, graphs, sources, targets)
        device = puzzles["question"].device
        return self._labelled(self._encode(graphs, sources, targets)).to(device)

    def _labelled(self, question: Tensor) -> TensorDict:
        solution = self.solutions(question, 1)[0][:, 0]
        return instances(question, solution)

    def key(self, question: Tensor) -> Tensor:
        """Hashes without regard to names and the targets' order; see `Puzzle.key`."""
        keys = np.zeros(len(question), np.int64)
        graphs, sources, targets = self._decode(question)
        over_rows(
            len(keys), lambda r: kernels.graph_keys(graphs[r], sources[r], targets[r], keys[r])
        )
        return torch.from_numpy(keys).to(question.device)

    def rating(self, question: Tensor) -> Tensor:
        """Counts the steps of the shortest walk; see `Puzzle.rating`."""
        found, counts = self._walks(question, 1, self.nodes)
        steps = np.where(counts > 0, (found[:, 0] >= 0).sum(1), 0)
        return torch.from_numpy(steps).float().to(question.device)

    # ---------------------------------------------------------------- rules

    def written(self, question: Tensor) -> Tensor:
        """Returns the answer's positions; see `Puzzle.written`."""
        position = torch.arange(self.length, device=question.device)
        return (position >= self.answer_start).expand(question.shape)

    def verify(self, question: Tensor, answer: Tensor) -> Verdict:
        """Follows the walk, or searches the graph; see `Puzzle.verify`."""
        kept = ((answer == question) | self.written(question)).all(1)
        last, right, written = self._follow(question, answer)
        named = (question[:, self.table_end + 1 : self.answer_start] == last[:, None]).any(1)
        solved = named & (right == written) & (written > 0) & kept
        # divided first, so that equal shares have equal scores
        share = (0.8 if self.path else 0.0) * (right / written.clamp(min=1))
        return Verdict.graded(solved, torch.where(kept, share, 0.0))

    def _follow(self, question: Tensor, answer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the last node's token, the steps that follow edges, and the steps written.

        With `path=false` the one step follows an edge if the node can be reached.
        """
        table = question[:, : self.table_end].view(-1, self.nodes, self.branching)
        steps = answer[:, self.answer_start :]
        if not self.path:
            reached = self._reached(question)
            node = self._node(steps[:, 0])
            inside = reached.gather(1, node[:, None])[:, 0]
            return steps[:, 0], inside.long(), torch.ones_like(node)
        rows = torch.arange(len(answer), device=answer.device)
        here = last = question[:, self.table_end]
        right = torch.zeros(len(answer), dtype=torch.long, device=answer.device)
        written = torch.zeros_like(right)
        unbroken, open_ = torch.ones_like(here, dtype=torch.bool), torch.ones_like(here) > 0
        for token in steps.unbind(1):
            ends = open_ & (token == STOP)
            open_ = open_ & ~ends
            # Anything but a stop after the stop is one more step, and a broken one.
            counts = open_ | ~ends & (token != STOP)
            node = (here.long() - FIRST_NODE).clamp(0, self.nodes - 1)
            is_edge = (table[rows, node] == token[:, None]).any(1) & (token >= FIRST_NODE)
            unbroken = unbroken & (~counts | is_edge & open_)
            right, written = right + (unbroken & counts), written + counts
            here, last = torch.where(counts, token, here), torch.where(counts, token, last)
        return last, right, written

    def _node(self, token: Tensor) -> Tensor:
        """Returns the nodes that tokens name, int64; the number of nodes for what names none."""
        node = token.long() - FIRST_NODE
        return torch.where((node >= 0) & (node < self.nodes), node, self.nodes)

    def _reached(self, question: Tensor) -> Tensor:
        """Returns the nodes that some walk from the source ends at, bool of shape (B, nodes + 1).

        The last column stands for what is no node, and is false.
        """
        target = self._node(question[:, : self.table_end])
        source = self._node(question[:, self.table_end])
        origin = torch.arange(self.nodes, device=question.device).repeat_interleave(self.branching)
        node = torch.arange(self.nodes + 1, device=question.device)
        reached = ((node == source[:, None]) & (node < self.nodes)).int()
        for _ in range(self.nodes - 1):
            reached = reached.scatter_reduce(1, target, reached[:, origin], "amax")
            reached[:, self.nodes] = 0
        return reached > 0

    def conflicts(self, question: Tensor, answer: Tensor) -> Tensor:
        """Marks the steps that are no edges, and the end of a walk to nowhere.

        See `Puzzle.conflicts`.
        """
        wrong = torch.zeros_like(question, dtype=torch.bool)
        table = question[:, : self.table_end].view(-1, self.nodes, self.branching)
        rows = torch.arange(len(answer), device=answer.device)
        last_place = torch.full_like(rows, self.answer_start)
        here = question[:, self.table_end]
        for place in range(self.answer_start, self.length if self.path else self.answer_start):
            token = answer[:, place]
            node = (here.long() - FIRST_NODE).clamp(0, self.nodes - 1)
            is_node = token >= FIRST_NODE
            wrong[:, place] = is_node & ~(table[rows, node] == token[:, None]).any(1)
            last_place = torch.where(is_node, place, last_place)
            here = torch.where(is_node, token, here)
        solved = self.verify(question, answer).solved
        wrong[rows, last_place] |= (answer[rows, last_place] >= FIRST_NODE) & ~solved
        return wrong & ~solved[:, None]

    def solutions(self, question: Tensor, limit: int) -> Solutions:
        """Lists walks, the shortest first; with `path=false` the targets that can be reached.

        See `Puzzle.solutions`.
        """
        answers = question[:, None].repeat(1, limit, 1)
        if self.path:
            found, counted = self._walks(question, limit, self.hops[1])
            tokens = torch.from_numpy(np.where(found >= 0, found + FIRST_NODE, STOP))
            answers[:, :, self.answer_start :] = tokens.to(question)
            return Solutions.counted(answers, torch.from_numpy(counted).to(question.device))
        targets = question[:, self.table_end + 1 : self.answer_start]
        right = self._reached(question).gather(1, self._node(targets))
        first = right.int().argsort(dim=1, descending=True, stable=True)[:, :limit]
        answers[:, : first.shape[1], self.answer_start] = targets.gather(1, first)
        return Solutions.counted(answers, right.sum(1).clamp(max=limit))

    def _walks(self, question: Tensor, limit: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.full((len(question), limit, longest), -1, np.int64)
        counts = np.zeros(len(question), np.int64)
        graphs, sources, targets = self._decode(question)
        over_rows(
            len(counts),
            lambda r: kernels.list_walks(graphs[r], sources[r], targets[r], found[r], counts[r]),
        )
        return found, counts
