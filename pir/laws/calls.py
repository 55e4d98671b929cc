"""The laws of calls: what a method returns depends on its arguments alone, and leaves them be."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pir.laws.called import PUZZLES, calls, same
from pir.laws.case import Case, NotChecked, judged, require
from pir.laws.form import LawError

Part = Callable[[int], range]
"""Names rows of a batch, given how many there are."""

FIRST_HALF = "in the first half of its batch"


def results_have_their_form(case: Case) -> str:
    """Every method returns tensors of the dtype and shape that the contract names."""
    few = list(calls(case, lambda values: values[:PUZZLES]))
    for call in few:
        call.require_form()
    return f"{len(few)} methods"


def arguments_stay_as_they_are(case: Case) -> None:
    """No method writes to the tensors that it is given."""
    count = len(case.samples["test"])
    # Drawn again: what the case holds went through methods that may have changed it already.
    sample = case.puzzle.sample(count, "test", seed=0)
    questions = sample["question"].repeat(len(case.answers) // count, 1)
    fresh = replace(case, samples={"test": sample}, questions=questions)
    for call in calls(fresh, partial(_rows, _third)):
        before = [argument.clone() for argument in call.arguments]
        call.run()
        for argument, kept in zip(call.arguments, before, strict=True):
            if not bool((argument == kept).all()):
                raise LawError(f"{call.name} changes its arguments in place: change a clone()")


def results_depend_on_arguments_alone(case: Case) -> None:
    """Neither the rest of the batch, nor its order, nor the global random state matters."""
    states = _global_random_states()
    case.puzzle.sample(4, "train", seed=99)
    _require_untouched(states, "sample")
    whole = {}
    for call in calls(case):
        whole[call.name] = call.run()
        _require_untouched(states, call.name)
    count = len(case.samples["test"])
    parts: dict[str, Part] = {
        "in the reverse order": lambda rows: range(rows - 1, -1, -1),
        FIRST_HALF: lambda rows: range(rows // 2),
        "in a third of its batch": _third,
        "among rows of the same question": lambda rows: range(0, rows, count),
        "alone": lambda rows: range(count % rows, count % rows + 1),
    }
    for words, part in parts.items():
        for call in calls(case, partial(_rows, part)):
            if call.name == "augment" and words != FIRST_HALF:
                continue  # an image depends on its place in the batch too
            expected = [_rows(part, result) for result in whole[call.name]]
            if not same(expected, call.run()):
                raise LawError(
                    f"{call.name} gives something else for a row {words}, or changes from call to "
                    "call: compute every row from its own question and answer"
                )


def a_puzzle_built_anew_agrees(case: Case) -> str | None:
    """A second puzzle of the same settings, which drew no instance, gives the same results."""
    if case.anew is None:
        return NotChecked("no second puzzle was built")
    advice = (
        "a puzzle that is built anew with the same settings, and has drawn nothing, {}: compute "
        "from question and answer, by the rules, not from what was drawn, noted or labelled before"
    )
    for sample in case.samples.values():
        question, solution = sample["question"], sample["solution"]
        solved = judged(case.anew, question, solution).solved
        require(solved, case, question, advice.format("does not take the label as solved"))
    known, new = (  # backwards, as what is numbered as it comes differs then
        calls(replace(case, puzzle=puzzle), partial(_rows, lambda rows: range(rows - 1, -1, -3)))
        for puzzle in (case.puzzle, case.anew)
    )
    for call, again in zip(known, new, strict=True):
        if not same(call.run(), again.run()):
            raise LawError(advice.format(f"gives something else by {call.name}"))
    return None


def _third(rows: int) -> range:
    return range(1, rows, 3)


def _rows(part: Part, values: Tensor) -> Tensor:
    """Copies some rows."""
    return values[list(part(len(values)))]


def _require_untouched(states: tuple[Any, ...], name: str) -> None:
    if _global_random_states() != states:
        raise LawError(
            f"{name} draws from the global random state, or seeds it: use a generator of its own"
        )


def _global_random_states() -> tuple[Any, ...]:
    _, keys, *rest = np.random.get_state()  # noqa: NPY002 - what a plug-in may draw from
    torchs = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), np.asarray(keys).tobytes(), rest, torchs
