"""The laws without which training learns something else, or breaks: checked before it begins."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakValueDictionary

import numpy as np
import torch

from pir.errors import UserError
from pir.laws.called import calls
from pir.laws.case import Case, judged, sundry_answers
from pir.laws.checks import LAWS
from pir.laws.form import drawn, failure, require_statements
from pir.puzzle import Puzzle
from pir.system.device import own_random_stream

COUNT, SEARCHED = 32, 4
"""Training instances that are looked at, and those that methods which search are called with."""

_kept: WeakValueDictionary[int, Puzzle] = WeakValueDictionary()
"""Puzzles that were checked, by their id."""


def refuse_unfit(puzzle: Puzzle, named: str | None = None) -> None:
    """Checks some training instances of a plug-in's puzzle, once; ours are tested.

    The global random states stay as they are.

    Args:
        puzzle: the puzzle.
        named: how `pir check-env` is told of it; by default as `module:Class`.

    Raises:
        UserError: naming what is wrong.
    """
    kind = type(puzzle)
    if kind.__module__.partition(".")[0] == "pir" or _kept.get(id(puzzle)) is puzzle:
        return
    try:
        with _random_states_kept():
            _check(puzzle)
    except UserError:
        raise
    except Exception as error:  # a plug-in may fail in any way
        named = named or f"{kind.__module__}:{kind.__qualname__}"
        raise UserError(
            f"{kind.__name__} cannot be trained on: {failure(error, puzzle)}; "
            f"`pir check-env {named}` checks all that a puzzle must keep"
        ) from error
    _kept[id(puzzle)] = puzzle


def _check(puzzle: Puzzle) -> None:
    """Breaks a law where the puzzle does: first that of the form, on which the others build."""
    require_statements(puzzle)
    sample = drawn(puzzle, COUNT, "train")
    few = dict.fromkeys(("train", "test"), sample[:SEARCHED])
    case = Case(puzzle, few, sample["question"], sample["solution"])
    judged(puzzle, sample["question"].clone(), sample["solution"].clone())
    for call in calls(case):
        if call.name != "the text form":  # training reads none
            call.require_form()
    whole = replace(case, samples={"train": sample})
    LAWS["shapes, dtypes and slot mask fit"](whole)
    LAWS["labels verify with score 1"](whole)
    questions, answers = sundry_answers(puzzle, sample, per_puzzle=1, seed=0)
    LAWS["scores lie in [0, 1], 1 exactly when solved"](
        replace(whole, questions=questions, answers=answers)
    )
    LAWS["every instance is solvable, and the label the first answer"](case)
    LAWS["board, owners, relations and sets fit the layout"](case)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with own_random_stream(torch.device("cpu")):
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)  # noqa: NPY002
