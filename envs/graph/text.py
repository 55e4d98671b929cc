"""Graphs as text: edges, `|`, the source, `?` and the targets."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from pir.envs.graph.tokens import FIRST_NODE, STOP, GraphTokens
from torch import Tensor

from pir.errors import PuzzleTextError
from pir.puzzle import TextForm
from pir.puzzle_files.fields import one_value


class GraphText(GraphTokens, TextForm):
    """The text form of `Graph`."""

    field_names = ("edges", "source", "root", "targets", "target", "neg_target")

    def parse(self, text: str) -> Tensor:
        """Reads `0>3 0>5 3>7 4>9 | 0 ? 7 9`; see `Puzzle.parse`."""
        form = "a graph is edges, `|`, a source, `?` and two targets, like `0>3 3>7 4>9 | 0 ? 7 9`"
        tokens = list(re.finditer(r"[^\s|?]+|[|?]", text))
        words = [token.group() for token in tokens]
        if words.count("|") != 1 or words.count("?") != 1 or words[-5:-2:2] != ["|", "?"]:
            raise PuzzleTextError(form, len(text) + 1)
        graph = np.full((self.nodes, self.branching), -1, np.int64)
        for token in tokens[:-5]:
            ends = token.group().split(">")
            if len(ends) != 2:
                raise PuzzleTextError(f"{token.group()!r} is no edge; {form}", token.start() + 1)
            column = token.start() + 1
            first, second = (self._read_node(end, column) for end in ends)
            row = graph[first]
            if first == second or second in row:
                raise PuzzleTextError(f"the edge {token.group()} is a loop or a repetition", column)
            if row[-1] >= 0:
                raise PuzzleTextError(
                    f"node {first} has more than {self.branching} successors", column
                )
            row[(row >= 0).sum()] = second
        places = [tokens[i] for i in (-4, -2, -1)]
        source, *targets = (self._read_node(t.group(), t.start() + 1) for t in places)
        if len({source, *targets}) < 3:
            raise PuzzleTextError("source and targets must differ", places[0].start() + 1)
        graph = np.sort(np.where(graph < 0, self.nodes, graph), axis=1)
        graph[graph == self.nodes] = -1
        question = self._encode(graph[None], np.array([source]), np.array([targets]))[0]
        steps = int(self.rating(question[None])[0])
        if self.path and steps > self.hops[1]:
            raise PuzzleTextError(
                f"the shortest walk takes {steps} steps, more than env.hops' {self.hops[1]}",
                places[1].start() + 1,
            )
        return question

    def _read_node(self, word: str, column: int) -> int:
        if not re.fullmatch(r"[0-9]{1,3}", word) or int(word) >= self.nodes:
            raise PuzzleTextError(f"{word!r} is no node of 0 to {self.nodes - 1}", column)
        return int(word)

    def text_of_fields(self, fields: Mapping[str, Any]) -> str | None:
        """Reads `edges`, `source` (or `root`) and `targets`, or `target` and `neg_target`.

        See `Puzzle.text_of_fields`; edges are text as in `0>3 0>5`, or pairs of nodes.
        """
        edges, source = fields.get("edges"), one_value(fields, ("source", "root"))
        pair = [fields.get("target"), fields.get("neg_target")]
        lists = {"targets": fields.get("targets"), "target": None if None in pair else pair}
        targets = one_value(lists, lists) or pair
        if isinstance(targets, str):
            targets = targets.split()
        if not isinstance(targets, list) or not targets or None in targets:
            return None
        if edges in (None, "") or source in (None, ""):
            return None
        if isinstance(edges, list):
            pairs = (edge if isinstance(edge, list) else [edge] for edge in edges)
            edges = " ".join(">".join(map(str, pair)) for pair in pairs)
        return f"{edges} | {source} ? {' '.join(map(str, targets))}"

    def format_question(self, question: Tensor) -> str:
        """Prints `0>3 0>5 3>7 4>9 | 0 ? 7 9`; see `Puzzle.format_question`."""
        graphs, sources, targets = self._decode(question[None])
        edges = [
            f"{node}>{after}" for node, row in enumerate(graphs[0]) for after in row if after >= 0
        ]
        return f"{' '.join(edges)} | {sources[0]} ? {targets[0, 0]} {targets[0, 1]}"

    def parse_answer(self, question: Tensor, text: str) -> Tensor:
        """Reads a walk `0>3>7`, or a node; see `Puzzle.parse_answer`."""
        words = text.split(">")
        columns = [1 + len(">".join(words[:i])) + (i > 0) for i in range(len(words))]
        nodes = [self._read_node(w.strip(), c) for w, c in zip(words, columns, strict=True)]
        source = int(question[self.table_end]) - FIRST_NODE
        if self.path:
            if nodes[0] != source:
                raise PuzzleTextError(f"the walk must start at {source}", 1)
            nodes, columns = nodes[1:], columns[1:]
        room = self.length - self.answer_start
        if not 1 <= len(nodes) <= room:
            most = f"{room} steps" if self.path else "one node"
            raise PuzzleTextError(f"the answer has at least one and at most {most}", len(text) + 1)
        answer = question.clone()
        answer[self.answer_start :] = STOP
        for place, node in enumerate(nodes):
            answer[self.answer_start + place] = node + FIRST_NODE
        return answer

    def format_answer(self, question: Tensor, answer: Tensor) -> str:
        """Prints a walk `0>3>7`, or a node; see `Puzzle.format_answer`."""
        tokens = answer[self.answer_start :].tolist()
        while tokens and tokens[-1] == STOP:
            tokens.pop()
        words = [self.vocabulary[t] if t < len(self.vocabulary) else "?" for t in tokens]
        source = str(int(question[self.table_end]) - FIRST_NODE)
        return ">".join([source, *words] if self.path else words)
