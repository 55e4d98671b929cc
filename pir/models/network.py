"""The network that every reasoner is made of: blocks one after another over a puzzle's tokens."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pir.errors import UserError
from pir.models.layers import (
    Attention,
    Convolution,
    KeysValues,
    RMSNorm,
    SwiGLU,
    TokenMixing,
    rms_norm,
)
from pir.puzzle import Puzzle

MIXERS = ("auto", "attention", "mlp", "conv")

RELATION_SCALE = 8.0
"""Scores move this much faster than the parameters that bias them, as attention is sharp only at
differences of several nats."""


class Block(nn.Module):
    """One layer: token mixing, then a feed-forward, each added and normalised after (post-norm).

    Args:
        mixer: mixes tokens.
        feed_forward: maps every token by itself.
        sandwich: width, to normalise before both as well, all four times with a gain (recurrent
            depth, arXiv:2502.05171, section 3.2); None for post-norm without gains.
    """

    def __init__(
        self, mixer: nn.Module, feed_forward: nn.Module, sandwich: int | None = None
    ) -> None:
        """Takes the two sub-layers."""
        super().__init__()
        self.mixer, self.feed_forward = mixer, feed_forward
        self.norms = nn.ModuleList(RMSNorm(sandwich) for _ in range(4)) if sandwich else None

    def forward(self, x: Tensor, *seen: Any) -> Tensor:
        """Maps (B, L, width) to the same shape; what else is seen goes to the mixer."""
        if self.norms is None:
            x = rms_norm(x + self.mixer(x, *seen))
            return rms_norm(x + self.feed_forward(x))
        before_mixer, after_mixer, before_mlp, after_mlp = self.norms
        x = after_mixer(x + self.mixer(before_mixer(x), *seen))
        result: Tensor = after_mlp(x + self.feed_forward(before_mlp(x)))
        return result


class Network(nn.Module):
    """Blocks one after another, over the tokens of a puzzle and further ones.

    Args:
        puzzle: gives L, the board and the relations of its positions.
        width: of the tokens, D, a multiple of `heads`.
        layers: blocks.
        heads: attention heads.
        mixer: how tokens mix, "attention", "mlp" (over the token dimension), "conv" (3 x 3, for
            puzzles with a board), or "auto" for "conv" where there is a board, else "attention".
        expansion: inner width of the feed-forward layers, as a multiple of D (of L for "mlp").
        sandwich: whether blocks normalise before their sub-layers too, see `Block`.
        related: whether attention is biased by the relations that the puzzle states.

    Raises:
        UserError: if a setting is out of range.
    """

    relations: Tensor

    def __init__(
        self,
        puzzle: Puzzle,
        width: int,
        layers: int,
        heads: int,
        mixer: str,
        expansion: float,
        sandwich: bool = False,
        related: bool = True,
    ) -> None:
        """Draws fresh parameters."""
        super().__init__()
        if layers < 1:
            raise UserError(f"model.layers={layers}: must be at least 1")
        if width < 1 or heads < 1 or width % heads:
            raise UserError(f"model.hidden_size={width}: must be a multiple of model.heads={heads}")
        if mixer not in MIXERS:
            raise UserError(f"model.mixer={mixer}: allowed are {', '.join(MIXERS)}")
        if not 0 < expansion < 1e4:
            raise UserError(f"model.expansion={expansion}: must be above 0")
        if mixer == "auto":
            mixer = "attention" if puzzle.board is None else "conv"
        self.attends = mixer == "attention"
        inner = round_up(expansion * width * 2 / 3)
        self.blocks = nn.ModuleList(
            Block(
                _mixer(mixer, puzzle, width, heads, expansion),
                SwiGLU(width, inner),
                width if sandwich else None,
            )
            for _ in range(layers)
        )
        self.relation_bias = None
        if puzzle.relations is not None and self.attends and related:
            classes = int(puzzle.relations.max()) + 1
            self.relation_bias = nn.Parameter(0.25 * torch.randn(layers, heads, classes))
            self.register_buffer("relations", puzzle.relations.clone(), persistent=False)

    def bias(self, dtype: torch.dtype) -> list[Tensor | None]:
        """Returns one bias (heads, L, L) per block; None where there are no relations."""
        if self.relation_bias is None:
            return [None] * len(self.blocks)
        return list((RELATION_SCALE * self.relation_bias)[..., self.relations].to(dtype))

    def forward(
        self,
        x: Tensor,
        bias: list[Tensor | None] | None = None,
        memory: Sequence[KeysValues] | None = None,
        kept: list[KeysValues] | None = None,
    ) -> Tensor:
        """Maps (B, L, width) to the same shape.

        Args:
            x: the tokens. Beyond the puzzle's L, further ones without relations may follow.
            bias: what `bias` returns, to share it between calls; None to have it computed.
            memory: by layer, what the same layer of another network has read; for attention.
            kept: a list that is given what every layer reads; for attention.
        """
        biases = self.bias(x.dtype) if bias is None else bias
        for layer, block in enumerate(self.blocks):
            if self.attends:
                known = None if memory is None else memory[layer]
                x = block(x, _extended(biases[layer], x.shape[1]), known, kept)
            else:
                x = block(x)
        return x


def _extended(bias: Tensor | None, length: int) -> Tensor | None:
    """Extends a bias by further tokens, which have no relations."""
    if bias is None or bias.shape[-1] == length:
        return bias
    extra = length - bias.shape[-1]
    return F.pad(bias, (0, extra, 0, extra))


def _mixer(mixer: str, puzzle: Puzzle, width: int, heads: int, expansion: float) -> nn.Module:
    """Builds the layer by which the tokens of one block mix."""
    if mixer == "conv":
        if puzzle.board is None:
            raise UserError("model.mixer=conv: this puzzle has no board; take attention or mlp")
        return Convolution(width, puzzle.board)
    if mixer == "mlp":
        return TokenMixing(puzzle.length, round_up(expansion * puzzle.length * 2 / 3))
    return Attention(width, heads)


def round_up(width: float, multiple: int = 16) -> int:
    """Returns the next multiple that is not below a width."""
    return max(multiple, -(-int(width) // multiple) * multiple)
