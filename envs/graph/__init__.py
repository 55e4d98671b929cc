"""Graph reachability: which of two nodes can be reached, and by which way."""

from pir.envs.graph.rules import Graph

__all__ = ["Graph"]
