"""The halt head's loss: is the answer held now a right one?"""

import torch.nn.functional as F
from torch import Tensor

from pir.errors import UserError
from pir.improvement import Step
from pir.objectives.base import Term
from pir.puzzle import Puzzle


class Halting(Term):
    """Binary cross-entropy of the halt logit against the verifier's word on the current answer.

    Source: TRM (arXiv:2510.04871, section 4.6), there against equality with the label.
    """

    def loss(self, puzzle: Puzzle, step: Step) -> Tensor:
        """Returns the mean over lanes, in nats.

        Raises:
            UserError: if the model has no halt head.
        """
        if step.improved.halt_logit is None:
            raise UserError("the objective trains a halt head: set model.halt_head=true")
        return F.binary_cross_entropy_with_logits(
            step.improved.halt_logit, step.after.solved.float()
        )
