"""Updates of the weights: optimizer, learning-rate curve, average, and the losses to report.

To read a number off a GPU the host waits until everything that it asked for is done, and the GPU
then waits for the host. So losses and norms stay on the device, and are read together when a row is
written, a checkpoint is saved or a person looks.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel

from pir.errors import NonFiniteLossError, UserError
from pir.noise import Share, at_hand
from pir.objective import Losses
from pir.reasoner import Reasoner
from pir.rollout import Lanes
from pir.settings.training import TrainerSettings
from pir.training import parallel

if TYPE_CHECKING:
    from pir.training.state import TrainState

Part = TypeVar("Part")

BLOCKS = "blocks"
"""Matrices inside a module of that name are Muon's; embeddings and read-outs are AdamW's."""


class Muon(torch.optim.Muon):
    """torch's Muon, with all matrices of one shape in the same products.

    A GPU takes the hundreds of small products of one matrix after another for longer than some
    models take for a backward pass. Its momentum is always Nesterov's.

    Args:
        params: matrices.
        lr: learning rate; steps are larger by the root of rows over columns, if above 1.
        weight_decay: decoupled.
        momentum: of the gradients.
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, weight_decay: float, momentum: float
    ) -> None:
        """Starts without momentum; the state is torch's."""
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every matrix that has a gradient."""
        loss = closure() if closure else None
        for group in self.param_groups:
            weights, gradients, momenta = list[Tensor](), list[Tensor](), list[Tensor]()
            self._init_group(group, weights, gradients, momenta)
            if not weights:
                continue
            momentum, rate = group["momentum"], group["lr"]
            torch._foreach_lerp_(momenta, gradients, 1 - momentum)
            ahead = torch._foreach_lerp(gradients, momenta, momentum)  # Nesterov's
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
            for shape in {weight.shape: None for weight in weights}:
                alike = [place for place, weight in enumerate(weights) if weight.shape == shape]
                update = orthogonal(
                    torch.stack([ahead[place] for place in alike]),
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                ).float()
                scale = rate * math.sqrt(max(1.0, shape[0] / shape[1]))
                torch._foreach_add_([weights[p] for p in alike], list(update), alpha=-scale)
        return loss


def orthogonal(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Returns matrices near the orthogonal ones that are nearest to those given, in bfloat16.

    The quintic Newton-Schulz iteration X <- a X + (b G + c G^2) X with G = X X^T (Jordan et al.
    2024), from X of norm 1. It leaves singular values of about 0.5 to 1.5.

    Args:
        matrices: of shape (N, rows, columns).
        coefficients: a, b and c.
        steps: of the iteration.
        eps: the least norm that matrices are divided by.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _is_muons(name: str, parameter: Tensor) -> bool:
    return BLOCKS in name.split(".") and parameter.ndim == 2


class MuonAdamW(torch.optim.Optimizer):
    """`Muon` on the two-dimensional weights inside `blocks`, AdamW on the rest.

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
        in_blocks = [_is_muons(name, p) for name, p in named]
        matrices = [p for (_, p), inside in zip(named, in_blocks, strict=True) if inside]
        rest = [p for (_, p), inside in zip(named, in_blocks, strict=True) if not inside]
        if not matrices:
            raise ValueError(f"no matrix is inside a module named {BLOCKS!r}; use optim=adamw")
        super().__init__([p for _, p in named], {})
        self.muon = Muon(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)
        self.adamw = torch.optim.AdamW(
            rest, lr=adamw_lr, weight_decay=weight_decay, betas=betas, fused=True
        )
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        loss = closure() if closure else None
        self.muon.step()
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


def chosen_optimizer(
    optimizer: torch.optim.Optimizer | None, reasoner: Reasoner
) -> torch.optim.Optimizer:
    """Returns the optimizer of a run, by default `MuonAdamW`, or AdamW where that has no matrix.

    Raises:
        UserError: if no parameter is trained, or none by the optimizer.
    """
    named = reasoner.trained_parameters()
    if not named:
        raise UserError("reasoner: no parameter has requires_grad=True, so nothing can be trained")
    if optimizer is None:
        if any(_is_muons(name, parameter) for name, parameter in named):
            return MuonAdamW(named)
        return torch.optim.AdamW(
            [p for _, p in named], lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95)
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(parameter) in held for _, parameter in named):
        raise UserError(
            f"optimizer: it holds none of the {len(named)} parameters that are trained (such as "
            f"{named[0][0]}): make it from reasoner.trained_parameters()"
        )
    return optimizer


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


class Averaged(AveragedModel):
    """An exponential moving average of a module's weights, in torch's form.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the average forgets the
    random start. Torch's own update counts where the weights are, and reads that count; this one
    counts on the CPU, so that no GPU is waited for.

    Args:
        module: whose weights are averaged; the average begins as a copy.
        decay: share of the average that an update keeps, in the end.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Copies the module; the copy is only used, never trained."""
        super().__init__(module)
        self.module.eval()
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Moves the average towards the present weights; buffers are copied."""
        steps = int(self.n_averaged)
        weight = 1.0 if steps == 0 else 1 - min(self.decay, (1 + steps) / (10 + steps))
        average, current = ([p.detach() for p in m.parameters()] for m in (self.module, model))
        torch._foreach_lerp_(average, current, weight)
        for kept, new in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
        self.n_averaged += 1


class Updates:
    """Updates the weights of a run by the gradients of its losses, and keeps these.

    With `trainer.micro_batches` = M the lanes come in M parts, one after another, whose gradients
    are added up before the weights change (gradient accumulation).

    Args:
        state: the run, whose weights, optimizer, average and progress change.
        settings: learning-rate curve, largest norm and parts.
        share: the lanes of this process.
        last: the last good checkpoint, which is named if a loss is not finite.
    """

    def __init__(
        self, state: "TrainState", settings: TrainerSettings, share: Share, last: Path | None
    ) -> None:
        """Has made no update."""
        self.state, self.settings, self.last = state, settings, last
        self.shares = share.split(settings.micro_batches)
        self.alone = share.count == share.whole
        self.waiting: list[Iterator[Losses]] = []
        self.means: dict[str, Tensor] = {}
        self.unread: list[tuple[int, list[str], Tensor]] = []
        self.scores: list[Tensor] = []

    def parts_of(self, lanes: Lanes) -> Iterator[Lanes]:
        """Yields the lanes that take steps side by side: all of them, or one part after another."""
        parts = len(self.shares)
        return self._in_turn([lanes] if parts == 1 else lanes.split(len(lanes.k) // parts))

    def _in_turn(self, parts: Sequence[Part]) -> Iterator[Part]:
        """Yields what there is of each part; all draw the random numbers of the whole batch."""
        if len(parts) == 1:
            yield parts[0]
            return
        random = self.state.random
        before = random.state_dict()
        for share, part in zip(self.shares, parts, strict=True):
            random.load_state_dict(before)
            with at_hand(share):
                yield part

    def learn(self, losses: Iterator[Losses]) -> None:
        """Updates the weights by the gradient of each item that `losses` yields.

        With several parts nothing is updated before the last part has come; then each update is
        by the sum over the parts.

        Args:
            losses: `Objective.losses` of the lanes at hand; it computes an item when it is asked
                for it, so that every item after the first is of weights that were updated.

        Raises:
            NonFiniteLossError: see `read`; on a CPU, where nobody waits, at once.
        """
        self.waiting.append(losses)
        more = self._add(losses)
        if len(self.waiting) == len(self.shares):
            parts, self.waiting = self.waiting, []
            while more:
                self._update()
                more = all([self._add(part) for part in self._in_turn(parts)])

    def _add(self, losses: Iterator[Losses]) -> bool:
        """Adds the gradient of a part's next losses, and says whether there are any."""
        given = next(losses, None)
        if given is None:
            return False
        self.scores = [given.scores, *self.scores][: len(self.shares)]
        parts, total = len(self.shares), torch.stack(list(given.terms.values())).sum()
        if not total.requires_grad:
            raise UserError(
                f"objective.terms: {', '.join(given.terms)} has no gradient; a loss is computed "
                "from rollout.after, which has gradient to the parameters"
            )
        (total / parts).backward()  # type: ignore[no-untyped-call]
        for name, value in {"loss": total, **given.terms, **given.figures}.items():
            self.means[name] = self.means.get(name, 0.0) + value.detach() / parts
        return True

    def _update(self) -> None:
        """Updates the weights by the gradients that were added up, over all processes."""
        state, settings = self.state, self.settings
        losses, self.means = self.means, {}
        if not self.alone:
            losses = parallel.average(state.reasoner, losses)
        weights = list(state.reasoner.parameters())
        norm = clip_grad_norm_(weights, settings.max_grad_norm)
        named = {**losses, "norm": norm}
        values = torch.stack([value.detach().float() for value in named.values()])
        self.unread.append((state.progress.optimizer_step, list(named), values))
        if norm.device.type == "cpu":
            self.read()
        else:  # until somebody reads that a gradient is not finite, the weights stay so
            for weight in weights:
                if weight.grad is not None:
                    weight.grad.nan_to_num_(0.0, 0.0, 0.0)
        factor = learning_rate_factor(
            state.progress.optimizer_step,
            settings.warmup_steps,
            settings.decay_steps,
            settings.final_lr_ratio,
        )
        for group in state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.average.update_parameters(state.reasoner)
        state.progress.optimizer_step += 1

    def read(self) -> None:
        """Adds the losses since the last reading to the progress; a GPU is waited for.

        Raises:
            NonFiniteLossError: if a loss or a gradient was infinite or not a number; it names the
                first such update.
        """
        progress, unread = self.state.progress, self.unread
        self.unread = []
        for step, names, values in unread:
            read = dict(zip(names, values.tolist(), strict=True))
            norm = read.pop("norm")
            for what, value in (("the loss", read["loss"]), ("the gradient", norm)):
                if not math.isfinite(value):
                    raise NonFiniteLossError(self.diverged(what, value, step))
            for name, loss in read.items():
                progress.interval[name] = progress.interval.get(name, 0.0) + loss
            progress.interval_updates += 1

    def diverged(self, what: str, value: object, step: int) -> str:
        """Says what became infinite or no number at an optimizer step, and what to do."""
        kept = f"; the last good checkpoint is {self.last}" if self.last else ""
        if not all(bool(scores.isfinite().all()) for scores in self.scores):
            return (
                f"{what} became {value} at optimizer step {step}, as verify of the puzzle gives a "
                f"score that is no finite number{kept}"
            )
        return (
            f"{what} became {value} at optimizer step {step}{kept}. Start a new run with a lower "
            "optim.lr, more trainer.warmup_steps or model.dtype=float32"
        )
