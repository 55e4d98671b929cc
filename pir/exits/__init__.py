"""Exit rules: when to stop improving an answer, and the loop in which puzzles leave when done.

Rules may be imported from here; the loop is `early_exit.steps_until_exit`.
"""

from pir.exits.rules import (
    Entropy,
    ExitGate,
    ExitRule,
    FixedDepth,
    HaltHead,
    KLThreshold,
    Oracle,
    PredictedGain,
    StateChange,
    Verifier,
    Wait,
)

__all__ = [
    "Entropy",
    "ExitGate",
    "ExitRule",
    "FixedDepth",
    "HaltHead",
    "KLThreshold",
    "Oracle",
    "PredictedGain",
    "StateChange",
    "Verifier",
    "Wait",
]
