"""The layout of the tokens of a graph: reading and writing it."""

import numpy as np
import torch
from torch import Tensor

from pir.puzzle import PAD, Rules

BLANK, STOP, FIRST_NODE = 1, 2, 3


class GraphTokens(Rules):
    """Questions as graphs, and back.

    Attributes:
        nodes: nodes of the graph.
        branching: most successors of a node.
        hops: fewest and most steps from the source to the target.
        path: whether the answer is the walk, or the target alone.
        table_end: position of the source, after the table of successors and before the two targets.
        answer_start: first position of the answer.
    """

    nodes: int
    branching: int
    hops: tuple[int, int]
    path: bool
    table_end: int
    answer_start: int

    def _encode(self, graphs: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> Tensor:
        question = np.full((len(graphs), self.length), BLANK, np.uint8)
        table = graphs.reshape(len(graphs), self.table_end)
        question[:, : self.table_end] = np.where(table >= 0, table + FIRST_NODE, PAD)
        question[:, self.table_end] = sources + FIRST_NODE
        question[:, self.table_end + 1 : self.answer_start] = targets + FIRST_NODE
        return torch.from_numpy(question)

    def _decode(self, question: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tokens = question.cpu().numpy().astype(np.int64) - FIRST_NODE
        graphs = np.maximum(tokens[:, : self.table_end], -1)
        graphs = graphs.reshape(-1, self.nodes, self.branching)
        ends = tokens[:, self.table_end : self.answer_start]
        return graphs, ends[:, 0].copy(), ends[:, 1:].copy()
