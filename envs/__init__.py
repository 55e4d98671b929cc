"""The puzzles: one module per puzzle, each a `pir.puzzle.Puzzle`.

Importing this package registers every puzzle with Gymnasium: `gymnasium.make("pir/Countdown-v0")`.
"""

if __name__ != "pir.envs":
    raise ImportError(
        "this folder is the package pir.envs: run `pip install -e .` and `import pir.envs`"
    )

from pir.envs.views.registration import register_puzzles

register_puzzles()
