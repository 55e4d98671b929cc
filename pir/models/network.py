"""The network that every reasoner is made of: layers in blocks, blocks over a puzzle's tokens.

Layers have no biases, and are normalised. Parameters are always kept in float32 and cast where they
are used, so the optimizer, the average and the checkpoints never see bfloat16, while products run
in the activations' dtype.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pir.checks import check_choice
from pir.errors import UserError
from pir.puzzle import Puzzle

KeysValues = tuple[Tensor, Tensor]
"""What one attention layer has read: keys and values, both (B, heads, L, width / heads)."""

LONGEST_PLAIN = {torch.float32: 40, torch.bfloat16: 256}
"""Up to this many tokens plain products beat the fused attention kernel on a CPU. With a bias they
always do: torch's kernel takes none that needs a gradient, and products of its own replace it.

Measured forward and backward, one thread, AVX512-BF16, width 128: fused over plain 1.2 times at 6
and 36 tokens and 0.9 at 81 in float32; 2.5, 8.7, 4.9, 2.0 and 1.3 times at 6, 36, 81, 256 and 900
tokens in bfloat16. Beyond 256 the fused kernel's smaller memory counts for more. With a bias, width
64: 1.2, 1.2, 1.1 and 1.1 times at 49, 81, 256 and 400 tokens in float32, 2.2, 1.9 and 1.8 times at
225, 361 and 900 in bfloat16; without gradient 1.3 to 1.5 and 2.1 to 2.5 times.
"""


def truncated_normal(*shape: int, std: float) -> Tensor:
    """Returns normal samples cut at two deviations; `std` is that before the cut."""
    return nn.init.trunc_normal_(torch.empty(*shape), std=std, a=-2 * std, b=2 * std)


def rms_norm(x: Tensor) -> Tensor:
    """Scales the last dimension to root mean square 1, without a gain (as TRM does)."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


def aligned(matrix: Tensor) -> Tensor:
    """Returns the same matrix; on CUDA its rows begin at multiples of 16 bytes.

    Products whose rows are not so aligned, such as those of 729 candidates, use kernels three times
    as slow. This is for matrices without a gradient: in the backward pass the compiler would undo
    the padding.
    """
    spare = -matrix.shape[1] % 8
    if spare == 0 or not matrix.is_cuda:
        return matrix
    return F.pad(matrix, (0, spare))[:, : matrix.shape[1]]


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain."""

    def __init__(self, width: int) -> None:
        """Starts with gain 1."""
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., width) to the same shape."""
        return rms_norm(x) * self.gain.to(x.dtype)


class Linear(nn.Module):
    """x W^T, computed in the dtype of x, started as in LeCun et al. (1998): std inputs^-1/2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Draws the weights, of shape (outputs, inputs)."""
        super().__init__()
        self.weight = nn.Parameter(truncated_normal(outputs, inputs, std=inputs**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., inputs) to (..., outputs)."""
        return F.linear(x, self.weight.to(x.dtype))


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, inner: int) -> None:
        """Keeps the weights of gate and up as one matrix."""
        super().__init__()
        self.gate_up = Linear(width, 2 * inner)
        self.down = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., width) to (..., width)."""
        # two products: halves of one are strided, on which silu takes twice as long
        gate, up = self.gate_up.weight.to(x.dtype).chunk(2)
        result: Tensor = self.down(F.silu(F.linear(x, gate)) * F.linear(x, up))
        return result


HAS_TRITON = find_spec("triton") is not None

LONGEST_FUSED = {16: 128, 32: 128, 64: 128, 128: 64}
"""The most tokens that `relation_attention` takes, by the width of a head: two tiles of keys and
values fit the 99 KiB that a block has on small cards."""


def is_fused(x: Tensor, width: int) -> bool:
    """Says whether tokens x attend with a bias in one kernel of `relation_attention`."""
    short = x.shape[1] <= LONGEST_FUSED.get(width, 0)
    return HAS_TRITON and x.is_cuda and short and x.dtype in (torch.bfloat16, torch.float16)


class Attention(nn.Module):
    """Multi-head attention over all L tokens, and what others have read, without a mask."""

    def __init__(self, width: int, heads: int) -> None:
        """Builds query, key and value as one product."""
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        memory: KeysValues | None = None,
        kept: list[KeysValues] | None = None,
    ) -> Tensor:
        """Maps (B, L, width) to the same shape.

        Args:
            x: what attends.
            bias: (heads, L, L), added to the scores.
            memory: keys and values of M tokens that another layer has read; x attends to them too.
            kept: a list that is given the keys and values of x.
        """
        alone = memory is None and kept is None
        if bias is not None and alone and is_fused(x, x.shape[-1] // self.heads):
            from pir.models.relation_attention import attend  # needs Triton

            attended: Tensor = self.out(attend(self.qkv(x), bias))
            return attended
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(2, 3)
        if kept is not None:
            kept.append((k, v))
        if memory is not None:
            k, v = torch.cat([memory[0], k], 2), torch.cat([memory[1], v], 2)
            if bias is not None:
                bias = F.pad(bias, (memory[0].shape[2], 0))
        plain = bias is not None or k.shape[2] <= LONGEST_PLAIN.get(x.dtype, 0)
        if x.device.type == "cpu" and plain:
            scores = q @ k.mT * q.shape[-1] ** -0.5
            mixed = torch.softmax(scores if bias is None else scores + bias, dim=-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class TokenMixing(nn.Module):
    """SwiGLU over the token dimension, the same for every channel (TRM's choice for short L)."""

    def __init__(self, length: int, inner: int) -> None:
        """Mixes `length` tokens through `inner` units."""
        super().__init__()
        self.mlp = SwiGLU(length, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, L, width) to the same shape; on CUDA with rows of 16 bytes, see `aligned`."""
        return self.padded(x, -x.shape[1] % 8 if x.is_cuda else 0)

    def padded(self, x: Tensor, spare: int) -> Tensor:
        """Mixes with `spare` more columns of zeros in the weights; they change nothing.

        Weights stand on the left of one product over the whole batch, (L, B * width). On a CPU with
        81 tokens that is a fifth faster than weights on the right of (B * width, L).
        """
        gate_up, columns = self.mlp.gate_up.weight.to(x.dtype), x.transpose(0, 1).flatten(1)
        if spare:
            gate_up, columns = F.pad(gate_up, (0, spare)), F.pad(columns, (0, 0, 0, spare))
        gate, up = gate_up.chunk(2)
        mixed = self.mlp.down.weight.to(x.dtype) @ (F.silu(gate @ columns) * (up @ columns))
        return mixed.view(len(mixed), len(x), x.shape[2]).transpose(0, 1)


class Convolution(nn.Module):
    """3 x 3 convolution over a board, for rules that bind neighbours (as in deep-thinking nets)."""

    def __init__(self, width: int, board: tuple[int, int]) -> None:
        """Draws the weights, kept as a matrix of shape (width, 9 * width)."""
        super().__init__()
        self.board = board
        self.weight = nn.Parameter(truncated_normal(width, 9 * width, std=(9 * width) ** -0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, L, width) to the same shape."""
        image = x.view(len(x), *self.board, x.shape[2]).permute(0, 3, 1, 2)
        kernel = self.weight.to(x.dtype).view(len(self.weight), 3, 3, -1).permute(0, 3, 1, 2)
        return F.conv2d(image, kernel, padding=1).permute(0, 2, 3, 1).flatten(1, 2)


MIXERS = ("auto", "attention", "mlp", "conv", "candidates")

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
            puzzles with a board), "candidates" (tokens are `Candidates` and mix in the sets that
            the puzzle states), or "auto" for "conv" where there is a board, else "attention".
        expansion: inner width of the feed-forward layers, as a multiple of D (of L for "mlp").
        sandwich: whether blocks normalise before their sub-layers too, see `Block`.
        related: whether attention is biased by the relations that the puzzle states.

    Attributes:
        recompute: whether the backward pass computes what is inside of a block once more, so that
            it need not be kept (`trainer.checkpoint_activations`).

    Raises:
        UserError: if a setting is out of range.
    """

    relations: Tensor
    recompute: bool = False

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
        """Initialises the parameters."""
        super().__init__()
        if layers < 1:
            raise UserError(f"model.layers={layers}: must be at least 1")
        if width < 1 or heads < 1 or width % heads:
            raise UserError(f"model.hidden_size={width}: must be a multiple of model.heads={heads}")
        check_choice("model.mixer", mixer, MIXERS)
        if not 0 < expansion < 1e4:
            raise UserError(f"model.expansion={expansion}: must be above 0")
        if mixer == "auto":
            mixer = "attention" if puzzle.board is None else "conv"
        self.attends, self.tokens_first = mixer == "attention", mixer == "candidates"
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
        if self.tokens_first:
            # one copy here instead of two in every product with the sets
            x = x.transpose(0, 1).contiguous()
            for block in self.blocks:
                x = self._through(block, x)
            return x.transpose(0, 1)
        biases = self.bias(x.dtype) if bias is None else bias
        for layer, block in enumerate(self.blocks):
            if self.attends:
                known = None if memory is None else memory[layer]
                x = self._through(block, x, _extended(biases[layer], x.shape[1]), known, kept)
            else:
                x = self._through(block, x)
        return x

    def _through(self, block: nn.Module, x: Tensor, *seen: Any) -> Tensor:
        """Passes tokens through a block, whose insides are kept for the backward pass or not."""
        lists = any(isinstance(each, list) for each in seen)  # it would be given everything twice
        if not (self.recompute and torch.is_grad_enabled()) or lists:
            result: Tensor = block(x, *seen)
            return result
        again = checkpoint(block, x, *seen, use_reentrant=False, preserve_rng_state=False)
        return cast(Tensor, again)


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
    if mixer == "candidates":
        from pir.models.candidates import SetPooling  # which is made of the layers above

        return SetPooling(puzzle, width)
    if mixer == "mlp":
        return TokenMixing(puzzle.length, round_up(expansion * puzzle.length * 2 / 3))
    return Attention(width, heads)


def round_up(width: float, multiple: int = 16) -> int:
    """Returns the next multiple that is not below a width."""
    return max(multiple, math.ceil(int(width) / multiple) * multiple)
