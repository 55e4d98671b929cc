"""Maze: mark a shortest path from the start to the goal."""

from pir.envs.maze.rules import Maze

__all__ = ["Maze"]
