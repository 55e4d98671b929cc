"""Who is measured: a trainer of ours, and peers that take training steps of the same shapes.

A peer is a function of `Shapes` that returns a step: a callable without arguments that takes one
training step (forward, backward, update) on the whole batch each time it is called.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from pir.bench.parts import replaced, timed_parts
from pir.errors import MissingExtraError, UserError
from pir.models.network import round_up
from pir.settings import plugins
from pir.system.device import time_on
from pir.training.trainer import Trainer


@dataclass(frozen=True)
class Shapes:
    """What a peer is measured on.

    Attributes:
        batch_size: B, puzzles in a step.
        tokens: L, per puzzle.
        vocabulary: V.
        hidden_size: D.
        layers: blocks of the network.
        heads: attention heads.
        mixer: how tokens mix: attention, mlp, conv ... (`ModelSettings.mixer`).
        expansion: inner width of the gated feed-forward layers, times 3 / 2, as a multiple of D.
        cycles: T; the last alone has gradient.
        latent_steps: n.
        dtype: of activations and products of ours.
        device: where to compute.
        question: uint8 of shape (B, L).
        solution: uint8 of shape (B, L).
    """

    batch_size: int
    tokens: int
    vocabulary: int
    hidden_size: int
    layers: int
    heads: int
    mixer: str
    expansion: float
    cycles: int
    latent_steps: int
    dtype: torch.dtype
    device: torch.device
    question: Tensor
    solution: Tensor


Step = Callable[[], Any]
Peer = Callable[[Shapes], Step]


class Contender(ABC):
    """Something that takes training steps."""

    @abstractmethod
    def run(self, steps: int) -> float:
        """Takes at least so many steps, and returns the seconds that so many of them take."""


class Trained(Contender):
    """A trainer of ours, in its own loop, without a folder.

    Args:
        trainer: has no budget but optimizer steps.
    """

    def __init__(self, trainer: Trainer) -> None:
        """Keeps the trainer."""
        self.trainer = trainer

    def run(self, steps: int) -> float:
        """Trains one step more, and takes the time from the first update to the last."""
        return self._train(steps, lambda: None)

    def shares(self, steps: int) -> dict[str, float]:
        """Returns the share of every part (`PARTS`), with the device waited for at its end."""
        with timed_parts(self.trainer) as timer:
            found: list[dict[str, float]] = []
            self._train(steps, timer.clear, lambda: found.append(timer.shares()))
        return found[0]

    def _train(
        self, steps: int, begun: Callable[[], None], ended: Callable[[], None] = lambda: None
    ) -> float:
        trainer, marks, count = self.trainer, list[float](), 0
        optimizer = trainer.state.optimizer
        update = optimizer.step

        def marked() -> None:
            nonlocal count
            count += 1
            if count in (1, steps + 1):
                marks.append(time_on(trainer.device))
                (begun if count == 1 else ended)()
            update()

        trainer.settings.max_optimizer_steps = trainer.progress.optimizer_step + steps + 1
        with replaced(optimizer, "step", marked):
            if not trainer.train():
                raise KeyboardInterrupt
        return marks[1] - marks[0]


class PeerSteps(Contender):
    """A peer's training step, called again and again.

    Args:
        step: takes it.
        device: computes.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        """Keeps the step."""
        self.step, self.device = step, device

    def run(self, steps: int) -> float:
        """Takes one step before the clock starts."""
        self.step()
        started = time_on(self.device)
        for _ in range(steps):
            self.step()
        return time_on(self.device) - started


# ---------------------------------------------------------------- peers


LUCIDRAINS = "tiny_recursive_model"


def lucidrains(shapes: Shapes) -> Step:
    """The step of PyPI's `tiny-recursive-model`, in float32 as shipped, with as many products.

    Its trainer's own loop takes whole data sets, so its parts are called here: forward with loss,
    backward, update, average. The state goes on from step to step.

    Raises:
        UserError: if it is not installed, or has no such shapes.
    """
    if find_spec(LUCIDRAINS) is None:
        raise MissingExtraError("against=lucidrains", "bench")
    if shapes.cycles < 2 or shapes.mixer not in ("mlp", "attention"):
        raise UserError(
            "against=lucidrains: it takes at least two cycles, and attention or mlp: "
            "preset=compact or preset=paper"
        )
    from ema_pytorch import EMA
    from tiny_recursive_model import MLPMixer1D, TinyRecursiveModel
    from x_transformers import Encoder

    width, gated = shapes.hidden_size, shapes.expansion * 2 / 3
    network: torch.nn.Module
    if shapes.mixer == "mlp":  # two products in a layer where a gated one has three
        channels, tokens = round_up(gated * width), round_up(gated * shapes.tokens)
        network = MLPMixer1D(
            dim=width,
            depth=shapes.layers,
            seq_len=shapes.tokens,
            expansion_factor=1.5 * tokens / width,
            expansion_factor_token=1.5 * channels / width,
        )
    else:
        network = Encoder(
            dim=width,
            depth=shapes.layers,
            heads=shapes.heads,
            attn_dim_head=width // shapes.heads,
            ff_mult=gated,
            ff_glu=True,
            ff_swish=True,
        )
    model = TinyRecursiveModel(
        dim=width,
        num_tokens=shapes.vocabulary,
        network=network,
        num_refinement_blocks=shapes.cycles,
        num_latent_refinements=shapes.latent_steps,
    ).to(shapes.device)
    optimizer, average = torch.optim.AdamW(model.parameters(), lr=1e-4), EMA(model, beta=0.995)
    question, solution = shapes.question.long(), shapes.solution.long()
    outputs, latents = model.get_initial()

    def step() -> None:
        nonlocal outputs, latents
        loss, _, outputs, latents, _, _ = model(question, outputs, latents, labels=solution)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update()

    return step


def find_peer(name: str) -> Peer:
    """Returns what makes the step of a peer: "lucidrains", or a function by `module:function`.

    Raises:
        UserError: if there is no such function.
    """
    return lucidrains if name == "lucidrains" else plugins.find_function(name, "against")


def peer_step(name: str, shapes: Shapes) -> Step:
    """Returns the step of a peer.

    Raises:
        UserError: if there is no such peer, or it returns nothing that can be called.
    """
    step = find_peer(name)(shapes)
    if not callable(step):
        raise UserError(f"against={name}: {type(step).__name__} was returned; a callable is due")
    return step
