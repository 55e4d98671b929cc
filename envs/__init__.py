"""The puzzles: one module per puzzle, each a `pir.puzzle.Puzzle`."""

if __name__ != "pir.envs":
    raise ImportError(
        "this folder is the package pir.envs: run `pip install -e .` and `import pir.envs`"
    )
