"""The objectives: what makes an improvement step count. One file per idea, combined by config."""

from pir.objective import Objective, RandomDepth, Term, Weighted
from pir.objectives.advantage_weighted import AdvantageWeighted
from pir.objectives.best_later import BestLater
from pir.objectives.deep_supervision import DeepSupervision
from pir.objectives.exit_distribution import ExitDistribution, ExitImprovement
from pir.objectives.group_relative import GroupRelative
from pir.objectives.guidance import OptimalityGuidance
from pir.objectives.halting import Halting, QHalting
from pir.objectives.input_curriculum import InputCurriculum
from pir.objectives.margin import GuidedLikelihood, MarginHinge
from pir.objectives.ppo import PPO
from pir.objectives.set_likelihood import SetLikelihood
from pir.objectives.through_time import LastStep, Progressive

__all__ = [
    "PPO",
    "AdvantageWeighted",
    "BestLater",
    "DeepSupervision",
    "ExitDistribution",
    "ExitImprovement",
    "GroupRelative",
    "GuidedLikelihood",
    "Halting",
    "InputCurriculum",
    "LastStep",
    "MarginHinge",
    "Objective",
    "OptimalityGuidance",
    "Progressive",
    "QHalting",
    "RandomDepth",
    "SetLikelihood",
    "Term",
    "Weighted",
]
