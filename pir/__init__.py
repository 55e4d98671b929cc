"""Policy-improvement reasoners: small recursive networks whose iterations improve a policy.

The names below train, evaluate and solve from Python (docs/python.md). Each is imported when it is
first used, so that `import pir` alone loads no torch.
"""

import os as _os
import sys as _sys
from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pir.errors import UserError
    from pir.evaluation.rollouts import evaluate, held_out
    from pir.evaluation.solve import solve
    from pir.ledger.ledger import Ledger
    from pir.objective import Objective, Term, Weighted
    from pir.puzzle import Puzzle
    from pir.reasoner import Policy, Reasoner
    from pir.rollout import Lanes, Rollout, begin, improve, stack
    from pir.runs.folder import RunFolder
    from pir.runs.load import load_trained, load_weights
    from pir.settings.training import TrainerSettings
    from pir.training.trainer import Trainer

__all__ = [
    "Lanes",
    "Ledger",
    "Objective",
    "Policy",
    "Puzzle",
    "Reasoner",
    "Rollout",
    "RunFolder",
    "Term",
    "Trainer",
    "TrainerSettings",
    "UserError",
    "Weighted",
    "begin",
    "evaluate",
    "held_out",
    "improve",
    "load_trained",
    "load_weights",
    "solve",
    "stack",
]

_MODULES = {
    "Lanes": "pir.rollout",
    "Ledger": "pir.ledger.ledger",
    "Objective": "pir.objective",
    "Policy": "pir.reasoner",
    "Puzzle": "pir.puzzle",
    "Reasoner": "pir.reasoner",
    "Rollout": "pir.rollout",
    "RunFolder": "pir.runs.folder",
    "Term": "pir.objective",
    "Trainer": "pir.training.trainer",
    "TrainerSettings": "pir.settings.training",
    "UserError": "pir.errors",
    "Weighted": "pir.objective",
    "begin": "pir.rollout",
    "evaluate": "pir.evaluation.rollouts",
    "held_out": "pir.evaluation.rollouts",
    "improve": "pir.rollout",
    "load_trained": "pir.runs.load",
    "load_weights": "pir.runs.load",
    "solve": "pir.evaluation.solve",
    "stack": "pir.rollout",
}
"""Where every name of `__all__` lies."""

__version__ = "0.1.0"

# `python -m pir` puts the current directory before all libraries. It may hold anything, a yaml.py
# say, so it goes before any of them is imported; this package has been found by then.
if _sys.argv[:1] == ["-m"] and not _sys.flags.safe_path:
    _words = [word for word in _sys.orig_argv if word.split(".")[0] in ("-mpir", "pir")]
    if _words:
        del _sys.path[0]

# In a source checkout the folders envs/, configs/ and analysis/ lie beside this package, an
# installed wheel holds them inside it; they import as pir.envs, pir.configs and pir.analysis.
_root = _os.path.dirname(_os.path.dirname(_os.path.realpath(__file__)))
_marks = (_os.path.join("envs", "__init__.py"), "pyproject.toml")
if all(_os.path.isfile(_os.path.join(_root, _mark)) for _mark in _marks):
    __path__.append(_root)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
