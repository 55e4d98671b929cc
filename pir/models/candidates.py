"""Candidates as the tokens of a network: the pairs (position, token) that an answer may hold.

Where a puzzle states sets of candidates of which an answer holds at most one
(`Layout.at_most_one`: a digit in a row, a queen on a diagonal), the network may have one latent per
candidate in place of one per position. All candidates share their weights, so that the network
treats all digits, rows and columns alike: what symbol-equivariant recursive models do for Sudoku
(SE-RRM, arXiv:2603.02193), here for any sets. A set is to candidates what a unit is to cells: they
compete in it, by a softmax, and all of them see the result.

Shapes: B puzzles, L positions, V tokens, N candidates, S sets in all, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pir.errors import UserError
from pir.models.network import Linear, aligned
from pir.puzzle import Puzzle
from pir.reasoner import MASKED_LOGIT


class Candidates(nn.Module):
    """Embeds a question as candidates, and reads logits off them.

    Args:
        puzzle: gives the candidates: what `slot_mask` allows, position by position.
        width: D.
    """

    position: Tensor
    token: Tensor
    slot_mask: Tensor

    def __init__(self, puzzle: Puzzle, width: int) -> None:
        """Draws the embeddings."""
        super().__init__()
        vocabulary_size = puzzle.slot_mask.shape[1]
        self.held, self.excluded = vocabulary_size, vocabulary_size + 1
        self.seen = nn.Embedding(vocabulary_size + 2, width)
        nn.init.normal_(self.seen.weight, std=0.7)
        self.logit_head = Linear(width, 1)
        position, token = puzzle.slot_mask.nonzero(as_tuple=True)
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("token", token, persistent=False)
        self.register_buffer("slot_mask", puzzle.slot_mask.clone(), persistent=False)

    def embed(self, tokens: Tensor, table: nn.Embedding | None = None) -> Tensor:
        """Embeds what a candidate's position holds: it, another candidate, or a token that is none.

        Args:
            tokens: uint8 of shape (B, L), a question or an answer.
            table: V + 2 embeddings; by default those of questions.

        Returns:
            float32 of shape (B, N, D), laid out as (N, B, D).
        """
        there = tokens.T.long()[self.position]
        is_candidate = self.slot_mask[self.position[:, None], there]
        decided = torch.where(there == self.token[:, None], self.held, self.excluded)
        table = self.seen if table is None else table
        embedded: Tensor = table(torch.where(is_candidate, decided, there))
        return embedded.transpose(0, 1)

    def at_candidates(self, x: Tensor) -> Tensor:
        """Gives every candidate what its position has: (B, L, D) to (B, N, D)."""
        return x[:, self.position]

    def logits(self, y: Tensor) -> Tensor:
        """Reads logits off candidates (B, N, D): float32 of shape (B, L, V)."""
        found: Tensor = self.logit_head(y.transpose(0, 1)).float()[..., 0].T
        logits = found.new_full((len(y), self.slot_mask.numel()), MASKED_LOGIT)
        place = self.position * self.slot_mask.shape[1] + self.token
        logits = logits.index_copy(1, place, found)
        return logits.view(len(y), *self.slot_mask.shape)


def sets_of(puzzle: Puzzle) -> list[Tensor]:
    """Returns, kind by kind, which candidates are in which set: bool of shape (S_kind, N).

    The first kind are the positions themselves, of which each holds one token.

    Raises:
        UserError: if the puzzle states no sets.
    """
    if puzzle.at_most_one is None:
        raise UserError(
            "model.mixer=candidates: this puzzle states no sets of which an answer holds at most "
            "one (at_most_one); take attention or mlp"
        )
    position = torch.arange(puzzle.length)[:, None].expand(puzzle.slot_mask.shape)
    kinds = [position, *puzzle.at_most_one]
    return [torch.arange(int(kind.max()) + 1)[:, None] == kind[puzzle.slot_mask] for kind in kinds]


SCORE_CAP = 10.0
"""Scores of candidates are bent into (-10, 10), so that their exponentials can be added up."""

TINY = 1e-9
"""The least divisor. A set without candidates has weight 0: its message is 0, and reaches none."""


class SetPooling(nn.Module):
    """Mixes candidates within their sets; a kind of sets is what a head is to attention.

    In every set of a kind, the mean of the candidates' values is taken, weighted by the softmax of
    their scores, and its image is added to each of them.

    Args:
        puzzle: states the sets.
        width: D; values have half of it.
    """

    membership: Tensor

    def __init__(self, puzzle: Puzzle, width: int) -> None:
        """Draws the weights."""
        super().__init__()
        sets = sets_of(puzzle)
        self.sizes = [len(kind) for kind in sets]
        self.inner = max(1, width // 2)
        self.value = Linear(width, len(sets) * self.inner)
        self.score = Linear(width, len(sets))
        self.out = Linear(len(sets) * self.inner, width)
        self.register_buffer("membership", torch.cat(sets).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, B, D) to the same shape: whole rows of the products below lie together."""
        batch, dtype = x.shape[1], x.dtype
        # float32, (N, B, kinds): numerator and denominator of the softmax are sums over a set
        weight = (SCORE_CAP * torch.tanh(self.score(x).float() / SCORE_CAP)).exp()
        value_maps = self.value.weight.to(dtype).chunk(len(self.sizes))
        out_maps = self.out.weight.to(dtype).chunk(len(self.sizes), 1)
        # a product spreads the weights over the values three times as fast as broadcasting
        spread = x.new_ones(self.inner, 1)
        low = aligned(self.membership.to(dtype))
        both = (torch.split(each, self.sizes) for each in (self.membership, low))
        messages = []
        for g, (members, low_members) in enumerate(zip(*both, strict=True)):
            spread_weight = F.linear(weight[..., g, None].to(dtype), spread)
            weighted = F.linear(x, value_maps[g]) * spread_weight
            pooled = (low_members @ weighted.flatten(1)).view(len(members), batch, self.inner)
            total = (members @ weight[..., g]).clamp(min=TINY)[..., None].to(dtype)
            messages.append((F.linear(pooled, out_maps[g]) / total).flatten(1))
        return (low.T @ torch.cat(messages)).view_as(x)
