"""The tiny recursive model, TRM (Jolicoeur-Martineau 2025, arXiv:2510.04871, section 4).

One small network f updates two latents of shape (B, L, D): the reasoning z and the answer y. An
improvement step is T cycles; a cycle is n updates z <- f(x + y + z) and one update y <- f(y + z),
with the embedded question x injected every time z is updated. Only the last cycle has gradient.
"""

from contextlib import nullcontext

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.device import fast_dtype
from pir.errors import UserError
from pir.models.layers import Attention, Block, Linear, SwiGLU, TokenMixing, truncated_normal
from pir.puzzle import Puzzle
from pir.reasoner import Policy, Reasoner, mask_logits

MIXERS = ("attention", "mlp")
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


class TRM(Reasoner):
    """A TRM over the tokens of one puzzle.

    Args:
        puzzle: gives L, V and the tokens that each position may hold.
        hidden_size: width D of the latents, a multiple of `heads`.
        layers: blocks in the network f.
        heads: attention heads.
        mixer: how tokens mix, "attention" or "mlp" (over the token dimension).
        expansion: inner width of the feed-forward layers, as a multiple of D.
        improvement_steps: K, the steps of a training rollout.
        cycles: T, cycles in a step; the first T - 1 run without gradient.
        latent_steps: n, updates of z in a cycle.
        halt_head: whether the read-out also estimates that its answer is right.
        dtype: of activations and products: "float32", "bfloat16", or "auto" for bfloat16 where the
            device is fast at it. Parameters are float32 in any case.

    Raises:
        UserError: if a setting is out of range.
    """

    slot_mask: Tensor
    y_start: Tensor
    z_start: Tensor

    def __init__(
        self,
        puzzle: Puzzle,
        hidden_size: int = 128,
        layers: int = 2,
        heads: int = 4,
        mixer: str = "attention",
        expansion: float = 4.0,
        improvement_steps: int = 3,
        cycles: int = 1,
        latent_steps: int = 2,
        halt_head: bool = False,
        dtype: str = "auto",
    ) -> None:
        """Builds the network with fresh parameters from torch's global random state."""
        super().__init__()
        if hidden_size < 1 or heads < 1 or hidden_size % heads:
            raise UserError(
                f"model.hidden_size={hidden_size}: must be a multiple of model.heads={heads}"
            )
        if mixer not in MIXERS:
            raise UserError(f"model.mixer={mixer}: allowed are {', '.join(MIXERS)}")
        if dtype not in DTYPES:
            raise UserError(f"model.dtype={dtype}: allowed are {', '.join(DTYPES)}")
        if not 0 < expansion < 1e4:
            raise UserError(f"model.expansion={expansion}: must be above 0")
        for name, value in {
            "layers": layers,
            "improvement_steps": improvement_steps,
            "cycles": cycles,
            "latent_steps": latent_steps,
        }.items():
            if value < 1:
                raise UserError(f"model.{name}={value}: must be at least 1")
        self.improvement_steps, self.cycles, self.latent_steps = (
            improvement_steps,
            cycles,
            latent_steps,
        )
        self.chosen_dtype = DTYPES[dtype]
        length, vocabulary_size = puzzle.slot_mask.shape
        self.token = nn.Embedding(vocabulary_size, hidden_size)
        self.position = nn.Embedding(length, hidden_size)
        nn.init.normal_(self.token.weight, std=0.7)
        nn.init.normal_(self.position.weight, std=0.7)
        inner = _round_up(expansion * hidden_size * 2 / 3)
        self.blocks = nn.ModuleList(
            Block(
                Attention(hidden_size, heads)
                if mixer == "attention"
                else TokenMixing(length, _round_up(expansion * length * 2 / 3)),
                SwiGLU(hidden_size, inner),
            )
            for _ in range(layers)
        )
        self.logit_head = Linear(hidden_size, vocabulary_size)
        self.halt_head = nn.Linear(hidden_size, 1) if halt_head else None
        self.register_buffer("slot_mask", puzzle.slot_mask.clone(), persistent=False)
        self.register_buffer("y_start", truncated_normal(hidden_size, std=1.0))
        self.register_buffer("z_start", truncated_normal(hidden_size, std=1.0))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations and products on the present device."""
        return self.chosen_dtype or fast_dtype(self.y_start.device)

    @property
    def passes_per_step(self) -> int:
        """T * (n + 1) evaluations of the network."""
        return self.cycles * (self.latent_steps + 1)

    def start(self, question: Tensor) -> TensorDict:
        """Sets y and z to their fixed starts; see `Reasoner.start`."""
        shape = (*question.shape, self.y_start.shape[0])
        return TensorDict(
            {
                "y": self.y_start.to(self.dtype).expand(shape),
                "z": self.z_start.to(self.dtype).expand(shape),
            },
            batch_size=question.shape[:1],
        )

    def improve(self, question: Tensor, state: TensorDict, k: Tensor) -> TensorDict:
        """Runs T cycles, the last with gradient; see `Reasoner.improve`."""
        y, z = state["y"], state["z"]
        for cycle in range(self.cycles):
            last = cycle == self.cycles - 1
            with nullcontext() if last else torch.no_grad():
                x = self._embed(question)
                for _ in range(self.latent_steps):
                    z = self._network(x + y + z)
                y = self._network(y + z)
        return TensorDict({"y": y, "z": z}, batch_size=state.batch_size)

    def read_out(self, state: TensorDict) -> Policy:
        """Reads logits off every token's y, and the halt logit off their mean."""
        y = state["y"]
        halt = None
        if self.halt_head is not None:
            halt = self.halt_head(y.float().mean(1)).squeeze(-1)
        return Policy(mask_logits(self.logit_head(y), self.slot_mask), halt)

    def _embed(self, question: Tensor) -> Tensor:
        embedded: Tensor = self.token(question.long()) + self.position.weight
        return embedded.to(self.dtype)

    def _network(self, hidden: Tensor) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


def _round_up(width: float, multiple: int = 16) -> int:
    return max(multiple, -(-int(width) // multiple) * multiple)
