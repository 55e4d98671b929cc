"""Errors that another process raised reach the one that waits for it."""

import importlib
import inspect
import pickle
import re
from pathlib import Path

import pytest

from tests.test_rooms import modules

ARGUMENTS = {str: "what is wrong", int: 3}


def error_classes():
    for name, file in modules():
        for found in re.findall(r"^class (\w+Error)\(", Path(file).read_text(), re.MULTILINE):
            yield pytest.param(name, found, id=found)


@pytest.mark.parametrize(("module", "name"), [*error_classes()])
def test_every_error_is_the_same_after_pickle(module, name):
    kind = getattr(importlib.import_module(module), name)
    hints = ["what is wrong"]
    if "__init__" in vars(kind):
        parameters = list(inspect.signature(kind).parameters.values())
        hints = [ARGUMENTS.get(parameter.annotation) for parameter in parameters]
    error = kind(*hints)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))
