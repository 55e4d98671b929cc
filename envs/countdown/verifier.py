"""Countdown's verifier: programs run in exact integer arithmetic, on the device of the answers."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pir.envs.countdown.kernels import STOP
from torch import Tensor


class Judgement(NamedTuple):
    """What running B programs of n - 1 steps shows.

    Attributes:
        share: float32 of shape (B,), 0.2 + 0.6 * closeness if the program is legal, else 0.
        solved: bool of shape (B,).
        wrong: bool of shape (B, n - 1), the illegal steps, and the last one of a program with a
            wrong result.
    """

    share: Tensor
    solved: Tensor
    wrong: Tensor


def judge(
    numbers: Tensor, targets: Tensor, programs: Tensor, use_all: bool, pairs: Tensor
) -> Judgement:
    """Runs programs, all at once, step by step.

    A register carries, beside its value, how often it uses each number; equal numbers count as one
    kind, as they do in the printed expression. The value 0 marks an illegal result, and a register
    that is not written yet. What stands after a stop is ignored, as in the text.

    Args:
        numbers: int64 of shape (B, n), descending.
        targets: int64 of shape (B,).
        programs: int64 of shape (B, n - 1), moves, `STOP`, or any other number for no move.
        use_all: whether every number must be used.
        pairs: int64 of shape (P, 2), the operand registers of every pair, the lower one first.
    """
    n = numbers.shape[1]
    kind = (numbers[:, None, :] > numbers[:, :, None]).sum(2, keepdim=True)
    own = (kind == torch.arange(n, device=numbers.device)).long()
    available = own.sum(1)
    values, uses = F.pad(numbers, (0, n - 1)), F.pad(own, (0, 0, 0, n - 1))
    is_move = (programs >= 0) & (programs < 4 * len(pairs))
    operands = pairs[torch.where(is_move, programs >> 2, 0)]  # (B, n - 1, 2)
    runs = (programs != STOP).long().cumprod(1).bool() if not use_all else torch.ones_like(is_move)
    written = torch.arange(n, 2 * n - 1, device=numbers.device)
    known = is_move & (operands[..., 1] < written)
    for step in range(n - 1):
        read = operands[:, step]
        results = _results(*values.gather(1, read).unbind(1))
        result = results.gather(1, (programs[:, step : step + 1] & 3))[:, 0]
        made = known[:, step] & (result > 0)
        values[:, n + step] = torch.where(made, result, 0)
        both = uses.take_along_dim(read[..., None], 1).sum(1)
        uses[:, n + step] = torch.where(made[:, None], both, 0)
    wrong = runs & (values[:, n:] == 0)
    last = runs.sum(1, keepdim=True) - 1  # -1 if none runs
    end = n + last.clamp(min=0)
    result = torch.where(last >= 0, values.gather(1, end), 0)[:, 0]
    used = uses.take_along_dim(end[..., None], 1)[:, 0]
    fitting = (used == available if use_all else used <= available).all(1)
    legal = (known | ~runs).all(1) & fitting & (result > 0)
    solved = legal & (result == targets)
    is_last = torch.arange(n - 1, device=numbers.device) == last
    wrong = (wrong | is_last) & ~solved[:, None]
    away = (result - targets).abs() / targets.clamp(min=1)
    share = torch.where(legal, 0.2 + 0.6 * (1 - away).clamp(min=0), 0.0)
    return Judgement(share, solved, wrong)


def _results(first: Tensor, second: Tensor) -> Tensor:
    """Returns what the four operators make of two values: (B, 4), at most 0 where that is illegal.

    Values are at least 0; with 0, which stands for none, nothing is legal.
    """
    larger, smaller = torch.maximum(first, second), torch.minimum(first, second)
    divisor = smaller.clamp(min=1)
    quotient = torch.where(larger % divisor == 0, larger // divisor, 0)
    results = torch.stack([larger + smaller, larger - smaller, larger * smaller, quotient], 1)
    return torch.where(smaller[:, None] > 0, results, 0)
