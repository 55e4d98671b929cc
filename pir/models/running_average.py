"""A running average of a latent, which lets new values move it less and less (InfiLoop).

Source: arXiv:2610.11570. With a proposal z_t for every token, a learnt direction q and a learnt
decay beta,

    h_t = N_t / D_t,  N_t = beta N_{t-1} + e_t z_t,  D_t = beta D_{t-1} + e_t,
    e_t = exp(q . RMSNorm(z_t)),  N_0 = D_0 = 0.

So h_t = h_{t-1} + gamma_t (z_t - h_{t-1}) with gamma_t = e_t / D_t, which is 1 at first and, where
all e_t are alike, 1 - beta in the end.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pir.models.network import rms_norm

FIRST_DECAY = 0.9
"""beta before training."""

LEAST_SCORE = -60.0
"""q . RMSNorm(z) of less counts as so much, so that log(1 + D) is above 0 in float32."""


class RunningAverage(nn.Module):
    """Averages the proposals for a latent (B, N, D), token by token.

    What is kept beside the average is the weight of all that is in it, as log(1 + D): 0 at the
    start, where log D is infinite.

    Args:
        width: D of the latent.
    """

    def __init__(self, width: int) -> None:
        """Starts with q = 0, a plain average, and a decay of `FIRST_DECAY`."""
        super().__init__()
        self.direction = nn.Parameter(torch.zeros(width))
        # the decay's logit beyond that of FIRST_DECAY, so that weight decay draws it back there
        self.decay = nn.Parameter(torch.zeros(()))

    def forward(self, average: Tensor, weight: Tensor, proposal: Tensor) -> tuple[Tensor, Tensor]:
        """Takes a proposal into the average.

        Args:
            average: h_{t-1}, (B, N, D).
            weight: log(1 + D_{t-1}), float32 of shape (B, N, 1); below 0, which noise makes, counts
                as 0.
            proposal: z_t, (B, N, D).

        Returns:
            h_t, in the dtype of the proposal, and log(1 + D_t).
        """
        new = proposal.float()
        score = (rms_norm(new) * self.direction).sum(-1, keepdim=True).clamp(min=LEAST_SCORE)
        # log D of log(1 + D), by the way that neither overflows nor cancels
        weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        log_d = weight + torch.log(-torch.expm1(-weight))
        decayed = log_d + F.logsigmoid(self.decay + math.log(FIRST_DECAY / (1 - FIRST_DECAY)))
        total = torch.logaddexp(decayed, score)
        moved = average.float().lerp(new, (score - total).exp())
        return moved.to(proposal.dtype), F.softplus(total)
