"""Attention with a bias between positions, in one kernel on a CUDA device, for short puzzles.

softmax(q k^T / sqrt(width) + bias) v of up to 128 tokens, whose scores fit into registers: a
program takes some rows of one lane and head, and nothing of size L x L is ever written on the way
forward. The gradient of the bias is written once per lane and then added up, so that it is the same
in every run. PyTorch's fused kernels either take no bias or were measured to be slower
(docs/benchmark.md). The kernels are Triton's, which comes with PyTorch for CUDA.

Shapes: qkv (B, L, 3 * heads * width) as one product leaves it; bias (heads, N, N), N the power of
two from L on, in units of log2 e, -inf at keys from L on; results (B, L, heads * width).
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

LOG2E = tl.constexpr(1.4426950408889634)
"""Kernels use powers of two: exp(x) = 2^(x log2 e)."""

ROWS, WARPS = 64, 4
"""Rows of scores in a program, and its warps. On an H200 with B = 768, L = 81 and 8 heads of width
64 they take 0.13 ms forward and 0.56 ms backward; 32 rows 0.18 and 0.63, 8 warps 0.23 and 0.93;
PyTorch's kernel with a bias 0.31 and 0.71."""


@triton.jit
def _forward(
    qkv,
    bias,
    out,
    norm,
    HEADS: tl.constexpr,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    N: tl.constexpr,
):
    """Writes the result of rows i, and the log2 of the sum that their softmax divides by."""
    lane, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    j, d = tl.arange(0, N), tl.arange(0, WIDTH)
    mine, there = (i < LENGTH)[:, None], (j < LENGTH)[:, None]
    row = 3 * HEADS * WIDTH
    base = qkv + lane * (LENGTH * row) + head * WIDTH
    q = tl.load(base + i[:, None] * row + d[None, :], mask=mine, other=0.0)
    k = tl.load(base + HEADS * WIDTH + j[:, None] * row + d[None, :], mask=there, other=0.0)
    v = tl.load(base + 2 * HEADS * WIDTH + j[:, None] * row + d[None, :], mask=there, other=0.0)
    between = tl.load(bias + head * (N * N) + i[:, None] * N + j[None, :]).to(tl.float32)
    scores = tl.dot(q, tl.trans(k)) * (LOG2E * WIDTH**-0.5) + between
    top = tl.max(scores, 1)
    p = tl.exp2(scores - top[:, None])
    total = tl.sum(p, 1)
    mixed = tl.dot(p.to(v.dtype), v) * (1 / total)[:, None]
    place = lane * (LENGTH * HEADS * WIDTH) + head * WIDTH
    place += i[:, None] * (HEADS * WIDTH) + d[None, :]
    tl.store(out + place, mixed.to(v.dtype), mask=mine)
    tl.store(norm + (lane * HEADS + head) * N + i, top + tl.log2(total))


@triton.jit
def _backward_rows(
    qkv,
    bias,
    out,
    norm,
    grad,
    d_qkv,
    d_scores,
    along,
    HEADS: tl.constexpr,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    N: tl.constexpr,
    STRIDE: tl.constexpr,
):
    """Writes the gradients of q and of the scores of rows i, and grad . out of each (`along`)."""
    lane, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    j, d = tl.arange(0, N), tl.arange(0, WIDTH)
    mine, there = (i < LENGTH)[:, None], (j < LENGTH)[:, None]
    row = 3 * HEADS * WIDTH
    base = lane * (LENGTH * row) + head * WIDTH
    own = lane * (LENGTH * HEADS * WIDTH) + head * WIDTH
    own += i[:, None] * (HEADS * WIDTH) + d[None, :]
    keys = qkv + base + HEADS * WIDTH + j[:, None] * row + d[None, :]
    q = tl.load(qkv + base + i[:, None] * row + d[None, :], mask=mine, other=0.0)
    k = tl.load(keys, mask=there, other=0.0)
    v = tl.load(keys + HEADS * WIDTH, mask=there, other=0.0)
    d_out = tl.load(grad + own, mask=mine, other=0.0)
    mixed = tl.load(out + own, mask=mine, other=0.0)
    part = tl.sum(d_out.to(tl.float32) * mixed.to(tl.float32), 1)
    at = (lane * HEADS + head) * N + i
    tl.store(along + at, part)
    between = tl.load(bias + head * (N * N) + i[:, None] * N + j[None, :]).to(tl.float32)
    scores = tl.dot(q, tl.trans(k)) * (LOG2E * WIDTH**-0.5) + between
    p = tl.exp2(scores - tl.load(norm + at)[:, None])
    d_s = (p * (tl.dot(d_out, tl.trans(v)) - part[:, None])).to(v.dtype)
    pair = (lane * HEADS + head) * (LENGTH * STRIDE) + i[:, None] * STRIDE + j[None, :]
    tl.store(d_scores + pair, d_s, mask=mine & (j < STRIDE)[None, :])
    d_q = tl.dot(d_s, k) * WIDTH**-0.5
    tl.store(d_qkv + base + i[:, None] * row + d[None, :], d_q.to(v.dtype), mask=mine)


@triton.jit
def _backward_keys(
    qkv,
    bias,
    norm,
    grad,
    d_qkv,
    along,
    HEADS: tl.constexpr,
    LENGTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    N: tl.constexpr,
):
    """Writes the gradients of keys and values j; the bias comes with keys first."""
    lane, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    j = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    i, d = tl.arange(0, N), tl.arange(0, WIDTH)
    mine, there = (j < LENGTH)[:, None], (i < LENGTH)[:, None]
    row = 3 * HEADS * WIDTH
    base = lane * (LENGTH * row) + head * WIDTH
    keys = base + HEADS * WIDTH + j[:, None] * row + d[None, :]
    q = tl.load(qkv + base + i[:, None] * row + d[None, :], mask=there, other=0.0)
    k = tl.load(qkv + keys, mask=mine, other=0.0)
    v = tl.load(qkv + keys + HEADS * WIDTH, mask=mine, other=0.0)
    own = lane * (LENGTH * HEADS * WIDTH) + head * WIDTH
    own += i[:, None] * (HEADS * WIDTH) + d[None, :]
    d_out = tl.load(grad + own, mask=there, other=0.0)
    at = (lane * HEADS + head) * N + i
    sums = tl.load(norm + at, mask=i < LENGTH, other=0.0)
    part = tl.load(along + at, mask=i < LENGTH, other=0.0)
    between = tl.load(bias + head * (N * N) + j[:, None] * N + i[None, :]).to(tl.float32)
    scores = tl.dot(k, tl.trans(q)) * (LOG2E * WIDTH**-0.5) + between
    p = tl.exp2(scores - sums[None, :])
    d_s = p * (tl.dot(v, tl.trans(d_out)) - part[None, :])
    d_k = tl.dot(d_s.to(v.dtype), q) * WIDTH**-0.5
    tl.store(d_qkv + keys, d_k.to(v.dtype), mask=mine)
    d_v = tl.dot(p.to(v.dtype), d_out)
    tl.store(d_qkv + keys + HEADS * WIDTH, d_v.to(v.dtype), mask=mine)


def _sizes(qkv: Tensor, bias: Tensor) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Returns the grid of programs, and what they are compiled for: heads, L, width, rows, N."""
    heads, n = bias.shape[:2]
    length, width, rows = qkv.shape[1], qkv.shape[2] // (3 * heads), min(ROWS, n)
    return (len(qkv), heads, triton.cdiv(length, rows)), (heads, length, width, rows, n)


@torch.library.custom_op("pir::relation_attention", mutates_args=())
def _attended(qkv: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    out = qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)
    norm = qkv.new_empty(len(qkv), *bias.shape[:2], dtype=torch.float32)
    grid, sizes = _sizes(qkv, bias)
    with torch.cuda.device_of(qkv):  # Triton launches on the current device, whatever the tensors'
        _forward[grid](qkv, bias, out, norm, *sizes, num_warps=WARPS, num_stages=1)
    return out, norm


@_attended.register_fake
def _(qkv: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    out = qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)
    return out, qkv.new_empty(len(qkv), *bias.shape[:2], dtype=torch.float32)


@torch.library.custom_op("pir::relation_attention_backward", mutates_args=())
def _gradients(
    grad: Tensor, qkv: Tensor, bias: Tensor, out: Tensor, norm: Tensor
) -> tuple[Tensor, Tensor]:
    d_qkv, along, grad = torch.empty_like(qkv), torch.empty_like(norm), grad.contiguous()
    grid, sizes = _sizes(qkv, bias)
    n, length = sizes[-1], sizes[1]
    stride = -(-length // 8) * 8  # rows of 16 bytes
    d_scores = qkv.new_empty(*grid[:2], length, stride)
    options = {"num_warps": WARPS, "num_stages": 1}
    seen = (qkv, bias, out, norm, grad, d_qkv, d_scores, along)
    keys_first = bias.mT.contiguous()
    with torch.cuda.device_of(qkv):
        _backward_rows[grid](*seen, *sizes, stride, **options)
        _backward_keys[grid](qkv, keys_first, norm, grad, d_qkv, along, *sizes, **options)
    d_bias = d_scores.sum(0, dtype=torch.float32)[..., :length]
    return d_qkv, F.pad(d_bias, (0, n - length, 0, n - length))


@_gradients.register_fake
def _(grad: Tensor, qkv: Tensor, bias: Tensor, out: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qkv), torch.empty_like(bias, dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    d_qkv, d_bias = _gradients(grad, *ctx.saved_tensors)
    return d_qkv, (d_bias / LOG2E.value).to(ctx.saved_tensors[1].dtype)


_attended.register_autograd(_backward, setup_context=_keep)


@register_flop_formula(torch.ops.pir.relation_attention)
def _flops(qkv: tuple[int, ...], bias: tuple[int, ...], **_: Any) -> int:
    """Counts the two products of attention; shapes are given in place of tensors."""
    return 4 * qkv[0] * qkv[1] ** 2 * (qkv[2] // 3)


@register_flop_formula(torch.ops.pir.relation_attention_backward)
def _flops_backward(
    grad: tuple[int, ...], qkv: tuple[int, ...], bias: tuple[int, ...], *_: Any, **__: Any
) -> int:
    """Counts the four products of the gradients, not the scores that are computed once more."""
    return 2 * _flops(qkv, bias)


def attend(qkv: Tensor, bias: Tensor) -> Tensor:
    """Lets every position attend to all, with gradients to both arguments.

    Args:
        qkv: bfloat16 or float16 of shape (B, L, 3 * heads * width): queries, keys and values, each
            head by head; L up to 128, width a power of two from 16 on.
        bias: of the same dtype and of shape (heads, L, L), added to the scores.

    Returns:
        of shape (B, L, heads * width).
    """
    length = bias.shape[1]
    spare = max(16, triton.next_power_of_2(length)) - length
    wide = F.pad(F.pad(bias * LOG2E.value, (0, spare), value=-torch.inf), (0, 0, 0, spare))
    out: Tensor = _attended(qkv.contiguous(), wide.contiguous())[0]
    return out
