"""The objectives: what makes an improvement step count. One file per idea, combined by config."""

from pir.objectives.advantage_weighted import AdvantageWeighted
from pir.objectives.base import Combined, Objective, Term
from pir.objectives.deep_supervision import DeepSupervision
from pir.objectives.halting import Halting
from pir.objectives.set_likelihood import SetLikelihood

__all__ = [
    "AdvantageWeighted",
    "Combined",
    "DeepSupervision",
    "Halting",
    "Objective",
    "SetLikelihood",
    "Term",
]
