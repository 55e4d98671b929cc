"""Embeddings of tokens that stand for numbers, which start with the arithmetic in them.

Sums of numbers are sums of phases, so a network adds and compares numbers more easily if it reads
them as sines and cosines (FoNE, Zhou et al. 2025, arXiv:2502.09741, section 3, with periods that
are powers of ten and fixed features; here with many periods, as a start that is trained on).
"""

import math

import torch
from torch import Tensor

PERIODS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 20, 25, 32, 50, 64, 100, 128, 256)


def number_embeddings(values: Tensor, width: int) -> Tensor:
    """Draws embeddings in which numbers are sines and cosines of `PERIODS`, mixed at random.

    Args:
        values: float32 of shape (N,), the numbers.
        width: D.

    Returns:
        float32 of shape (N, D), with standard deviation 1 over all of it.
    """
    phases = 2 * math.pi * values[:, None] / torch.tensor(PERIODS)
    features = torch.cat([phases.sin(), phases.cos()], 1)
    mixed = features @ torch.randn(features.shape[1], width)
    return mixed / mixed.std()
