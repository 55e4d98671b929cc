"""The tiny recursive model, TRM (Jolicoeur-Martineau 2025, arXiv:2510.04871, section 4).

One small network f updates two latents of shape (B, L, D): the reasoning z and the answer y. An
improvement step is T cycles; a cycle is n updates z <- f(x + y + z) and one update y <- f(y + z),
with the embedded question x injected every time z is updated. Only the last cycle has gradient.
Whatever else a step is told (`Conditioning`) is injected at every update of either latent.
"""

from contextlib import nullcontext

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.device import fast_dtype
from pir.errors import UserError
from pir.models.conditioning import AnswerFlow, Conditioning
from pir.models.layers import (
    Attention,
    Block,
    Convolution,
    Linear,
    SwiGLU,
    TokenMixing,
    truncated_normal,
)
from pir.puzzle import PAD, Puzzle
from pir.reasoner import NOTHING, Condition, Policy, Reasoner, mask_logits

MIXERS = ("auto", "attention", "mlp", "conv")
RELATION_SCALE = 8.0
"""Scores move this much faster than the parameters that bias them, as attention is sharp only at
differences of several nats."""
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


class TRM(Reasoner):
    """A TRM over the tokens of one puzzle.

    Args:
        puzzle: gives L, V and the tokens that each position may hold.
        hidden_size: width D of the latents, a multiple of `heads`.
        layers: blocks in the network f.
        heads: attention heads.
        mixer: how tokens mix, "attention", "mlp" (over the token dimension), "conv" (3 x 3, for
            puzzles with a board), or "auto" for "conv" where there is a board, else "attention".
        expansion: inner width of the feed-forward layers, as a multiple of D.
        improvement_steps: K, the steps of a training rollout.
        cycles: T, cycles in a step; the first T - 1 run without gradient.
        latent_steps: n, updates of z in a cycle.
        halt_head: whether the read-out also estimates that its answer is right.
        continue_head: whether it also estimates that a later answer will be right (HRM).
        value_head: whether it also estimates the score that later steps will gain.
        step_embedding: whether every update is told the number k of the step (DIS).
        optimality_token: whether it is told that the answer should be good, bad or any (CFG).
        partial_answer: whether it is told a part of an answer, which grows over a rollout (Looped
            Flows); rollouts then draw random numbers.
        draw_temperature: of the draws by which that part grows, see `AnswerFlow`.
        reads_own_answer: see `Reasoner`.
        dtype: of activations and products: "float32", "bfloat16", or "auto" for bfloat16 where the
            device is fast at it. Parameters are float32 in any case.

    Raises:
        UserError: if a setting is out of range.
    """

    slot_mask: Tensor
    relations: Tensor
    owners: Tensor
    y_start: Tensor
    z_start: Tensor

    def __init__(
        self,
        puzzle: Puzzle,
        hidden_size: int = 128,
        layers: int = 2,
        heads: int = 4,
        mixer: str = "auto",
        expansion: float = 4.0,
        improvement_steps: int = 3,
        cycles: int = 1,
        latent_steps: int = 2,
        halt_head: bool = False,
        continue_head: bool = False,
        value_head: bool = False,
        step_embedding: bool = False,
        optimality_token: bool = False,
        partial_answer: bool = False,
        draw_temperature: float = 0.5,
        reads_own_answer: bool = False,
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
        if mixer == "auto":
            mixer = "attention" if puzzle.board is None else "conv"
        inner = _round_up(expansion * hidden_size * 2 / 3)
        self.blocks = nn.ModuleList(
            Block(self._mixer(mixer, puzzle, heads, expansion), SwiGLU(hidden_size, inner))
            for _ in range(layers)
        )
        self.relation_bias = None
        if puzzle.relations is not None and mixer == "attention":
            classes = int(puzzle.relations.max()) + 1
            self.relation_bias = nn.Parameter(0.25 * torch.randn(layers, heads, classes))
            self.register_buffer("relations", puzzle.relations.clone(), persistent=False)
        self.owner_map = None
        if puzzle.owners is not None:
            self.owner_map = Linear(hidden_size, hidden_size)
            self.register_buffer("owners", puzzle.owners.clone(), persistent=False)
        self.logit_head = Linear(hidden_size, vocabulary_size)
        self.halt_head = nn.Linear(hidden_size, 1) if halt_head else None
        self.continue_head = nn.Linear(hidden_size, 1) if continue_head else None
        self.value_head = nn.Linear(hidden_size, 1) if value_head else None
        self.conditioning = None
        if step_embedding or optimality_token or partial_answer:
            steps = improvement_steps if step_embedding else 0
            self.conditioning = Conditioning(
                puzzle, hidden_size, steps, optimality_token, partial_answer
            )
        self.flow = None
        if partial_answer:
            self.flow = AnswerFlow(puzzle, improvement_steps, draw_temperature)
        self.conditional, self.stochastic = optimality_token, partial_answer
        self.reads_own_answer = reads_own_answer
        self.register_buffer("slot_mask", puzzle.slot_mask.clone(), persistent=False)
        self.register_buffer("y_start", truncated_normal(hidden_size, std=1.0))
        self.register_buffer("z_start", truncated_normal(hidden_size, std=1.0))

    def _mixer(self, mixer: str, puzzle: Puzzle, heads: int, expansion: float) -> nn.Module:
        """Builds the layer by which tokens of one block mix."""
        width = self.token.embedding_dim
        if mixer == "conv":
            if puzzle.board is None:
                raise UserError("model.mixer=conv: this puzzle has no board; take attention or mlp")
            return Convolution(width, puzzle.board)
        if mixer == "mlp":
            return TokenMixing(puzzle.length, _round_up(expansion * puzzle.length * 2 / 3))
        return Attention(width, heads)

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
        state = {
            "y": self.y_start.to(self.dtype).expand(shape),
            "z": self.z_start.to(self.dtype).expand(shape),
        }
        if self.flow is not None:
            state |= self.flow.start(question)
        return TensorDict(state, batch_size=question.shape[:1])

    def improve(
        self, question: Tensor, state: TensorDict, k: Tensor, condition: Condition = NOTHING
    ) -> TensorDict:
        """Runs T cycles, the last with gradient; see `Reasoner.improve`."""
        if self.flow is not None and condition.partial_answer is None:
            condition = condition._replace(partial_answer=state["partial_answer"])
        y, z = state["y"], state["z"]
        bias = self._attention_bias()
        for cycle in range(self.cycles):
            last = cycle == self.cycles - 1
            with nullcontext() if last else torch.no_grad():
                x = self._embed(question)
                if self.conditioning is not None:
                    told = self.conditioning(k, condition).to(self.dtype)
                    x = x + told
                for _ in range(self.latent_steps):
                    z = self._network(x + y + z, bias)
                y = self._network(y + z if self.conditioning is None else y + z + told, bias)
        improved = TensorDict({"y": y, "z": z}, batch_size=state.batch_size)
        if self.flow is not None:
            with torch.no_grad():
                logits = self.read_out(improved).logits
                shown = state["partial_answer"]
                improved.update(self.flow.advance(state["order"], shown, logits, k))
        return improved

    def read_out(self, state: TensorDict) -> Policy:
        """Reads logits off every token's y, and the other estimates off their mean."""
        y = state["y"]
        heads = (self.halt_head, self.continue_head, self.value_head)
        estimates = [None if head is None else head(y.float().mean(1))[..., 0] for head in heads]
        return Policy(mask_logits(self.logit_head(y), self.slot_mask), *estimates)

    def _embed(self, question: Tensor) -> Tensor:
        embedded: Tensor = self.token(question.long()) + self.position.weight
        if self.owner_map is not None:
            is_owned = (self.owners != PAD)[:, None]
            embedded = embedded + is_owned * self.owner_map(self.token(self.owners))
        return embedded.to(self.dtype)

    def _attention_bias(self) -> list[Tensor | None]:
        """Returns one bias (heads, L, L) per block; None where the puzzle states no relations."""
        if self.relation_bias is None:
            return [None] * len(self.blocks)
        return list((RELATION_SCALE * self.relation_bias)[..., self.relations].to(self.dtype))

    def _network(self, hidden: Tensor, bias: list[Tensor | None]) -> Tensor:
        for block, block_bias in zip(self.blocks, bias, strict=True):
            hidden = block(hidden, block_bias)
        return hidden


def _round_up(width: float, multiple: int = 16) -> int:
    return max(multiple, -(-int(width) // multiple) * multiple)
