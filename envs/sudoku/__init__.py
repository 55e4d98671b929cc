"""Sudoku: fill a grid so that every row, column and box holds every digit once."""

from pir.envs.sudoku.rules import Sudoku

__all__ = ["Sudoku"]
