"""Whether an objective, a reasoner and a lane schedule fit together, checked before training."""

import torch
from tensordict import TensorDict

from pir.errors import UserError
from pir.objectives import Objective, Term
from pir.reasoner import Reasoner, refuse_infinite
from pir.schedules import LaneSchedule
from pir.settings.training import TrainerSettings

SETTINGS = {
    "halt_logit": "a halt head: set model.halt_head=true",
    "continue_logit": "a continue head: set model.continue_head=true",
    "value": "a value head: set model.value_head=true",
    "optimality": "an optimality token: set model.optimality_token=true",
    "partial_answer": "a partial answer: set model.partial_answer=true",
    "written_answer": "the answer written so far: set model.written_answer=true",
}
"""What the built-in reasoners have only if they are asked to, and how to ask."""


@torch.no_grad()
def refuse_misfit(
    objective: Objective,
    reasoner: Reasoner,
    schedule: LaneSchedule,
    puzzles: TensorDict,
    settings: TrainerSettings,
) -> None:
    """Refuses what would fail or mislead while it trains.

    Args:
        objective: its terms say what they need.
        reasoner: says what it reads; what it reads out is tried.
        schedule: says what it needs.
        puzzles: one puzzle or more, on the reasoner's device.
        settings: say what enters the lanes: failed puzzles again, late states.

    Raises:
        UserError: naming the part that lacks something, and the setting that mends it.
    """
    policy = reasoner.read_out(reasoner.start(puzzles["question"]))
    refuse_infinite(policy.logits)
    if objective.update != "step" and not schedule.whole_rollouts:
        raise UserError(
            f"objective.update={objective.update} gathers the gradient of steps of one rollout: "
            "set trainer.lanes=synchronous, or take an objective that updates after every step, "
            "such as objective=set_likelihood"
        )
    one_step = reasoner.improvement_steps > 1 and not reasoner.carries_gradient
    if objective.backprop_steps > 1 and one_step:
        raise UserError(
            f"objective.backprop_steps={objective.backprop_steps}: {ONE_STEP}, or take an "
            "objective that updates after every step, such as objective=deep_supervision"
        )
    if settings.late_share > 0 and schedule.reads_outcomes:
        raise UserError(
            f"trainer.late_share={settings.late_share}: these lanes choose their depth by what "
            "steps gain, of which late states tell little: set trainer.late_share=0, or "
            "trainer.lanes to another choice than ledger"
        )
    if settings.late_share > 0 and not reasoner.reads_start:
        raise UserError(
            f"trainer.late_share={settings.late_share}: the first step of this model does not read "
            "the state that it starts in, so late states teach it nothing: set trainer.late_share=0"
        )
    needs = {"trainer.lanes": schedule.outputs}
    for name, term in objective.used_terms().items():
        place = f"objective.terms.{name}"
        needs[place] = term.outputs
        _refuse_inputs(place, term, reasoner, schedule, settings)
    for place, outputs in needs.items():
        for name in outputs:
            if getattr(policy, name) is None:
                raise UserError(f"{place} needs {_lacking(name)}")


def _refuse_inputs(
    place: str,
    term: Term,
    reasoner: Reasoner,
    schedule: LaneSchedule,
    settings: TrainerSettings,
) -> None:
    """Refuses a term that needs the reasoner to read what it does not, or not to."""
    for read in term.inputs:
        if read not in reasoner.inputs:
            raise UserError(f"{place} needs a model that reads {_lacking(read)}")
    for condition in term.conditions:
        if condition not in reasoner.inputs:
            raise UserError(f"{place} conditions the model on {_lacking(condition)}")
    if term.conditions and (schedule.reads_outcomes or settings.replay_share > 0):
        raise UserError(
            f"{place} conditions the model on more than it knows in use "
            f"({', '.join(term.conditions)}), so how its rollouts end says little: set "
            "trainer.replay_share=0, and trainer.lanes to another choice than ledger"
        )
    if term.unrolls and not reasoner.carries_gradient:
        raise UserError(f"{place}: {ONE_STEP}")
    if term.unrolls and (held := reasoner.inputs & set(READ_BY)):
        raise UserError(
            f"{place} takes steps again, whose inputs must not change with the answer: set "
            + " and ".join(f"model.{READ_BY[name]}=false" for name in sorted(held))
        )


ONE_STEP = (
    "all cycles of a step of this model but the last run without gradient, so that none reaches an "
    "earlier step: set model.cycles=1 (HRM: model.high_cycles=1)"
)

READ_BY = {
    "partial_answer": "partial_answer",
    "own_answer": "reads_own_answer",
    "written_answer": "written_answer",
}
"""The settings by which the built-in reasoners read an answer."""


def _lacking(name: str) -> str:
    return SETTINGS.get(name, f"{name}, which this model does not have")
