"""The picture of a graph."""

import numpy as np
from pir.envs.graph.tokens import FIRST_NODE, GraphTokens
from torch import Tensor

from pir.notation.picture import Cell, Picture, Role, Stroke
from pir.puzzle import Drawing


class GraphPicture(GraphTokens, Drawing):
    """The picture of `Graph`."""

    def picture(self, question: Tensor, answer: Tensor) -> Picture:
        """Draws the nodes in columns by their distance from the source; see `Puzzle.picture`."""
        graphs, sources, targets = self._decode(question[None])
        graph, source = graphs[0], int(sources[0])
        wrong = self.conflicts(question[None], answer[None])[0, self.answer_start :].tolist()
        walk = [t - FIRST_NODE for t in answer[self.answer_start :].tolist() if t >= FIRST_NODE]
        bad = {node for node, is_wrong in zip(walk, wrong, strict=False) if is_wrong}
        places = _layers(graph, source)
        cells = []
        for node, (x, y) in places.items():
            role: Role = "blank"
            if node in walk:
                role = "wrong" if node in bad else "answer"
            elif node == source or node in targets[0]:
                role = "given"
            mark = ">" if node == source else "?" if node in targets[0] else ""
            cells.append(Cell(x, y, f"{mark}{node}", role))
        steps = (
            {(a, b) for a, b in zip([source, *walk], walk, strict=False)} if self.path else set()
        )
        strokes = []
        for node, row in enumerate(graph.tolist()):
            for after in row:
                if after >= 0:
                    (x0, y0), (x1, y1) = places[node], places[after]
                    strokes.append(Stroke(x0, y0, x1, y1, bold=(node, after) in steps, arrow=True))
        return Picture(tuple(cells), tuple(strokes), tiled=False)


def _layers(graph: np.ndarray, source: int) -> dict[int, tuple[float, float]]:
    """Places nodes at (distance from the source, rank there), unreachable ones to the right."""
    layers, seen = [[source]], {source}
    while layers[-1]:
        ahead = sorted({int(b) for a in layers[-1] for b in graph[a] if b >= 0} - seen)
        layers.append(ahead)
        seen |= set(ahead)
    rest = [node for node in range(len(graph)) if node not in seen]
    height = max(map(len, layers))
    layers[-1:] = [rest[i : i + height] for i in range(0, len(rest), height)]
    return {
        node: (1.5 * x, y + (height - len(layer)) // 2)
        for x, layer in enumerate(layers)
        for y, node in enumerate(layer)
    }
