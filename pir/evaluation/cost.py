"""What a step costs: forward passes, floating-point operations, seconds."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pir.reasoner import Reasoner


@torch.no_grad()
def flops_per_step(reasoner: Reasoner, question: Tensor) -> int:
    """Returns the floating-point operations of one step of one puzzle, its read-out included.

    Counted by torch over matrix products, convolutions and attention, a multiplication and an
    addition as two; element-wise work is left out.

    Args:
        reasoner: does the step.
        question: uint8 of shape (1, L), any one.
    """
    return _counted(reasoner, question)


def training_flops_per_step(reasoner: Reasoner, question: Tensor) -> int:
    """Returns those of a step and of the gradient of what it reads out; see `flops_per_step`.

    Cycles that a reasoner takes without gradient count once, and nothing is computed twice.
    """
    with torch.enable_grad():
        return _counted(reasoner, question, reasoner.trained_parameters())


def _counted(
    reasoner: Reasoner, question: Tensor, learnt: Sequence[tuple[str, Tensor]] = ()
) -> int:
    first = torch.ones(1, dtype=torch.int64, device=question.device)
    state, condition = reasoner.start(question), reasoner.context(question)
    # the counter knows no fused attention of the CPU, but the products that it is made of
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        policy = reasoner.read_out(reasoner.improve(question, state, first, condition))
        if learnt:
            weights = [weight for _, weight in learnt]
            torch.autograd.grad(policy.logits.sum(), weights, allow_unused=True)
    return int(counter.get_total_flops())
