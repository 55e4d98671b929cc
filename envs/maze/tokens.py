"""The maze's tokens, one per cell; `PATH` is in answers only."""

WALL, OPEN, START, GOAL, PATH = range(1, 6)
