"""Figures and tables, made from run folders alone: no module here loads a model."""

if __name__ != "pir.analysis":
    raise ImportError(
        "this folder is the package pir.analysis: run `pip install -e .` and `import pir.analysis`"
    )
