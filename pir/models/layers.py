"""Building blocks of the reasoners: bias-free, normalised, float32 or bfloat16 arithmetic.

Parameters are always kept in float32 and cast where they are used, so the optimizer, the average
and the checkpoints never see bfloat16, while products run in the activations' dtype.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
"""What one attention layer has read: keys and values, both (B, heads, L, width / heads)."""

LONGEST_PLAIN = {torch.float32: 40, torch.bfloat16: 256}
"""Up to this many tokens plain products beat the fused attention kernel on a CPU.

Measured forward and backward, one thread, AVX512-BF16, width 128: fused over plain 1.2 times at 6
and 36 tokens and 0.9 at 81 in float32; 2.5, 8.7, 4.9, 2.0 and 1.3 times at 6, 36, 81, 256 and 900
tokens in bfloat16. Beyond 256 the fused kernel's smaller memory counts for more.
"""


def truncated_normal(*shape: int, std: float) -> Tensor:
    """Returns normal samples cut at two deviations; `std` is that before the cut."""
    return nn.init.trunc_normal_(torch.empty(*shape), std=std, a=-2 * std, b=2 * std)


def rms_norm(x: Tensor) -> Tensor:
    """Scales the last dimension to root mean square 1, without a gain (as TRM does)."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


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
        """Builds gate and up as one product."""
        super().__init__()
        self.gate_up = Linear(width, 2 * inner)
        self.down = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., width) to (..., width)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        result: Tensor = self.down(F.silu(gate) * up)
        return result


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
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(2, 3)
        if kept is not None:
            kept.append((k, v))
        if memory is not None:
            k, v = torch.cat([memory[0], k], 2), torch.cat([memory[1], v], 2)
            if bias is not None:
                bias = F.pad(bias, (memory[0].shape[2], 0))
        if x.device.type == "cpu" and k.shape[2] <= LONGEST_PLAIN.get(x.dtype, 0):
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
        """Maps (B, L, width) to the same shape."""
        result: Tensor = self.mlp(x.mT).mT
        return result


class Convolution(nn.Module):
    """3 x 3 convolution over a board, for rules that bind neighbours (as in deep-thinking nets)."""

    def __init__(self, width: int, board: tuple[int, int]) -> None:
        """Draws the weights, kept as a matrix of shape (width, 9 * width)."""
        super().__init__()
        self.board = board
        self.weight = nn.Parameter(truncated_normal(width, 9 * width, std=(9 * width) ** -0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, L, width) to the same shape."""
        image = x.view(len(x), *self.board, -1).permute(0, 3, 1, 2)
        kernel = self.weight.to(x.dtype).view(len(self.weight), 3, 3, -1).permute(0, 3, 1, 2)
        return F.conv2d(image, kernel, padding=1).permute(0, 2, 3, 1).flatten(1, 2)
