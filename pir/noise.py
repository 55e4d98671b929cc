"""Random numbers of rollouts: torch's own while training, in use a function of the puzzle.

Within `by_puzzle` every number depends on a seed, the question, what it is for and the step, and on
nothing else: not on the batch, its size or order, nor on the device. So a puzzle that is evaluated
among others, or solved alone, has one rollout. Reasoners that draw numbers do it with `uniform`,
`normal` and `tokens`.

While training, the rows at hand may be a share of a larger batch: of the lanes of several
processes, or of the lanes whose gradient is accumulated. Numbers are drawn for the whole batch
then, and those of the rows at hand are taken (`drawn`; `pir.rollout.choices`), so that a run draws
the same however its batch is parted.

Mixing: splitmix64 (Steele, Lea and Flood 2014), on int64, whose products wrap.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.system.device import own_random_stream

SEED: ContextVar[int | None] = ContextVar("seed of the random numbers by puzzle", default=None)


def _signed(word: int) -> int:
    """Returns the int64 with the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FACTORS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))
_BITS = 23
"""Of a uniform number; with the half that is added, float32 holds it exactly."""


@dataclass(frozen=True)
class Share:
    """Which rows of the whole batch are at hand: `count` from `first` on, of `whole`.

    Tensors that hold K steps of every row have them step by step, so K * `count` rows.

    Attributes:
        first: number of the first row at hand.
        count: rows at hand, at least 1.
        whole: rows of the whole batch.
        side_by_side: rows that all processes have at hand together.
    """

    first: int
    count: int
    whole: int
    side_by_side: int

    def split(self, parts: int) -> "list[Share]":
        """Returns the rows at hand in equal parts, one after another; their number divides them."""
        count, together = self.count // parts, self.side_by_side // parts
        firsts = range(self.first, self.first + self.count, count)
        return [Share(first, count, self.whole, together) for first in firsts]

    def of(self, numbers: Tensor) -> Tensor:
        """Returns the rows at hand of numbers for the whole batch."""
        steps = numbers.reshape(-1, self.whole, *numbers.shape[1:])
        mine: Tensor = steps[:, self.first : self.first + self.count].flatten(0, 1)
        return mine

    def spread(self, weights: Tensor) -> Tensor:
        """Returns the weights of the rows at hand among rows of ones, for the whole batch."""
        here = weights.reshape(-1, self.count, *weights.shape[1:])
        every = weights.new_ones(len(here), self.whole, *weights.shape[1:])
        every[:, self.first : self.first + self.count] = here
        return every.flatten(0, 1)


SHARE: ContextVar[Share | None] = ContextVar("rows at hand; None for all", default=None)


@contextmanager
def at_hand(share: Share | None) -> Iterator[None]:
    """Has numbers drawn for the whole batch that `share` is a part of; None for all of it."""
    token = SHARE.set(None if share is None or share.count == share.whole else share)
    try:
        yield
    finally:
        SHARE.reset(token)


def drawn(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """Returns the numbers of `rows` rows at hand, from torch's generator.

    Args:
        draw: draws for a number of rows.
        rows: how many are at hand.
    """
    share = SHARE.get()
    return draw(rows) if share is None else share.of(draw(rows // share.count * share.whole))


@contextmanager
def by_puzzle(seed: int, device: torch.device) -> Iterator[None]:
    """Has reasoners draw numbers that belong to their puzzles.

    Reasoners that draw from torch all the same find it seeded; its state is put back afterwards.

    Args:
        seed: other seeds give other numbers.
        device: whose random state is put back, beside the CPU's.
    """
    with own_random_stream(device):
        torch.manual_seed(seed)
        token = SEED.set(seed)
        try:
            yield
        finally:
            SEED.reset(token)


def uniform(question: Tensor, purpose: str, *shape: int, k: Tensor | None = None) -> Tensor:
    """Draws evenly from (0, 1).

    Args:
        question: uint8 of shape (B, L).
        purpose: what the numbers are for; another purpose has other numbers.
        shape: of a puzzle's numbers.
        k: int64 of shape (B,), the step that draws them; None for once in a rollout.

    Returns:
        float32 of shape (B, *shape); from torch's generator outside of `by_puzzle`.
    """
    seed = SEED.get()
    if seed is None:
        device = question.device
        return drawn(
            lambda n: torch.rand(n, *shape, dtype=torch.float32, device=device), len(question)
        )
    count = torch.arange(math.prod(shape), device=question.device)
    keys = _keys(question, f"{seed} {purpose}", k)[:, None] + count * _GOLDEN
    return uniform_of(keys).view(len(question), *shape)


def normal(
    question: Tensor,
    purpose: str,
    *shape: int,
    deviation: float = 1.0,
    cut: float = 5.0,
    k: Tensor | None = None,
) -> Tensor:
    """Draws from a normal distribution around 0 that is cut; see `uniform`.

    Args:
        question: see `uniform`.
        purpose: see `uniform`.
        shape: see `uniform`.
        deviation: before the cut.
        cut: the largest size of a number, in deviations.
        k: see `uniform`.
    """
    if SEED.get() is None:
        bound = cut * deviation

        def draw(rows: int) -> Tensor:
            numbers = torch.empty(rows, *shape, dtype=torch.float32, device=question.device)
            return nn.init.trunc_normal_(numbers, std=deviation, a=-bound, b=bound)

        return drawn(draw, len(question))
    within = math.erf(cut / math.sqrt(2))
    chance = uniform(question, purpose, *shape, k=k)
    return ((2 * chance - 1) * within).erfinv() * (deviation * math.sqrt(2))


def disturbed(
    state: TensorDict, question: Tensor, purpose: str, size: float, k: Tensor | None = None
) -> TensorDict:
    """Returns a state with Gaussian noise on every latent, see `normal`.

    Args:
        state: the latents, batch size B.
        question: see `uniform`.
        purpose: see `uniform`; every latent has numbers of its own.
        size: standard deviation, as a share of the root mean square of each puzzle's latent, or of
            1 where that is 0, as latents are about so large later.
        k: see `uniform`.
    """

    def changed(name: str, values: Tensor) -> Tensor:
        added = normal(question, f"{purpose} {name}", *values.shape[1:], k=k)
        scale = values.float().flatten(1).square().mean(1).sqrt()
        scale = torch.where(scale > 0, scale, 1.0).view(-1, *[1] * (values.ndim - 1))
        return (values + size * scale * added).to(values.dtype)

    return state.named_apply(changed)


def tokens(
    question: Tensor, purpose: str, policy: Tensor, count: int = 1, k: Tensor | None = None
) -> Tensor:
    """Draws tokens from a policy, each by itself, inside of `by_puzzle`; see `uniform`.

    Args:
        question: see `uniform`.
        purpose: see `uniform`.
        policy: probabilities, float32 of shape (B, L, V), all finite.
        count: tokens S per position.
        k: see `uniform`.

    Returns:
        int64 of shape (B, L, S).
    """
    cumulative = policy.cumsum(-1)
    chance = uniform(question, purpose, policy.shape[1], count, k=k)
    # below the total, also where rounding makes that another than 1: no token without a chance
    return torch.searchsorted(cumulative, chance * cumulative[..., -1:], right=True)


def uniform_of(keys: Tensor) -> Tensor:
    """Returns the number in (0, 1) that belongs to each key: float32, for int64 of any shape."""
    return ((_scrambled(keys) >> (64 - _BITS)) % (1 << _BITS)).float().add(0.5) * 2.0**-_BITS


def _keys(question: Tensor, purpose: str, k: Tensor | None) -> Tensor:
    """Returns where the numbers of each puzzle begin, int64 of shape (B,)."""
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little", signed=True)
    place = torch.arange(1, question.shape[1] + 1, device=question.device) << 32
    keys = _scrambled(_scrambled(place + question).sum(1) ^ word)
    return keys if k is None else _scrambled(keys + k * _GOLDEN)


def _scrambled(words: Tensor) -> Tensor:
    """Maps 64 bits one to one."""
    words = words + _GOLDEN
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        words = _shifted(words, shift).bitwise_xor_(words).mul_(factor)
    return _shifted(words, 31).bitwise_xor_(words)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shifts to the right, with zeros from the left."""
    return (words >> bits).bitwise_and_((1 << (64 - bits)) - 1)
