"""Optimizer, learning-rate curve and averaged weights."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

BLOCKS = "blocks"
"""Matrices inside a module of that name are Muon's; embeddings and read-outs are AdamW's."""


class MuonAdamW(torch.optim.Optimizer):
    """torch's Muon on the two-dimensional weights inside `blocks`, AdamW on the rest.

    Muon (Jordan et al. 2024) replaces the momentum of a matrix by its nearest orthogonal matrix.

    Args:
        params: named parameters, as from `module.named_parameters()`.
        lr: learning rate of the matrices.
        adamw_lr: learning rate of everything else.
        weight_decay: decoupled, for both.
        momentum: Muon's momentum.
        betas: AdamW's moments.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        lr: float = 0.01,
        adamw_lr: float = 2e-3,
        weight_decay: float = 0.3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        """Splits the parameters by name."""
        named = list(params)
        in_blocks = [BLOCKS in name.split(".") and p.ndim == 2 for name, p in named]
        matrices = [p for (_, p), inside in zip(named, in_blocks, strict=True) if inside]
        rest = [p for (_, p), inside in zip(named, in_blocks, strict=True) if not inside]
        if not matrices:
            raise ValueError(f"no matrix is inside a module named {BLOCKS!r}; use optim=adamw")
        super().__init__([p for _, p in named], {})
        self.muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)
        self.adamw = torch.optim.AdamW(
            rest, lr=adamw_lr, weight_decay=weight_decay, betas=betas, fused=True
        )
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        loss = closure() if closure else None
        self.muon.step()  # type: ignore[no-untyped-call]
        self.adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns both optimizers' states."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes both states back."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]


def learning_rate_factor(
    optimizer_step: int, warmup_steps: int, decay_steps: int, final_ratio: float
) -> float:
    """Returns the learning rate of an optimizer step (from 0) as a share of its peak.

    Linear warm-up over `warmup_steps`, then a half cosine down to `final_ratio` at `decay_steps`,
    where it stays. A function of the step alone: how long a run lasts never bends its curve.
    """
    if optimizer_step < warmup_steps:
        return (optimizer_step + 1) / warmup_steps
    progress = (optimizer_step - warmup_steps) / max(1, decay_steps - warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return final_ratio + (1 - final_ratio) * cosine


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """Returns an exponential moving average of a module's weights, kept by torch.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the average forgets the
    random start.
    """

    @torch.no_grad()
    def update(average: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        steps = int(count)
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(average, current, weight)

    return AveragedModel(module, multi_avg_fn=update)  # type: ignore[arg-type]
