"""The condition of a step, as a sum of embeddings that is added to what the network reads."""

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from torch import Tensor, nn

from pir import noise
from pir.errors import UserError
from pir.models.network import Linear
from pir.puzzle import Puzzle
from pir.reasoner import Optimality
from pir.rollout import draw_tokens


class Conditioning(nn.Module):
    """Embeds the number of the step, an optimality token and a partial answer.

    Args:
        puzzle: gives V.
        width: of the embeddings, D.
        steps: numbers of steps K that have an embedding of their own, later ones take the last; 0
            for none. Integers work better than continuous time (arXiv:2511.16886v2, section 4).
        optimality: whether there is an optimality token (CFGRL, arXiv:2505.23458). It starts as
            zeros, so that all of its policies start as one.
        partial_answer: whether a part of an answer is read, see `AnswerFlow`.
    """

    def __init__(
        self, puzzle: Puzzle, width: int, steps: int, optimality: bool, partial_answer: bool
    ) -> None:
        """Builds the embeddings that are switched on."""
        super().__init__()
        self.step = nn.Embedding(steps, width) if steps else None
        self.optimality = nn.Embedding(len(Optimality), width) if optimality else None
        self.answer = Linear(len(puzzle.vocabulary), width) if partial_answer else None
        if self.step is not None:
            nn.init.normal_(self.step.weight, std=0.7)
        if self.optimality is not None:
            nn.init.zeros_(self.optimality.weight)
        if self.answer is not None:
            nn.init.normal_(self.answer.weight, std=0.7)

    def forward(self, k: Tensor, condition: TensorDict) -> Tensor:
        """Returns the sum, float32 of shape (B, 1, D) or, with a partial answer, (B, L, D).

        Args:
            k: int64 of shape (B,), the number of the step.
            condition: see `Reasoner.inputs`; with a partial answer if one is read.
        """
        total = torch.zeros(len(k), 1, 1, device=k.device)
        if self.step is not None:
            total = total + self.step((k - 1).clamp(max=self.step.num_embeddings - 1))[:, None]
        if self.optimality is not None:
            token = condition.get("optimality")
            if token is None:
                token = torch.full_like(k, Optimality.GOOD)
            total = total + self.optimality(token)[:, None]
        if self.answer is not None:
            total = total + self.answer(condition["partial_answer"])
        return total


class AnswerFlow:
    """How a rollout comes from nothing to a whole answer, seen by the reasoner as an input.

    Step k reads the answer at about a share t_k = (k - 1) / K of its written cells, those that come
    first in a random order which the steps of a rollout share: noise that fades, as in Looped Flows
    (arXiv:2609.11801), here by masking instead of Gaussian noise. Cells that step k reveals are
    drawn from its policy and stay. So rollouts of one puzzle differ, and with K above the number of
    written cells an answer is drawn by the chain rule, cell after cell.

    Args:
        puzzle: says what is written.
        num_steps: K; later steps read what step K did.
        temperature: cells are drawn from the policy to the power of 1 / temperature. Below 1 the
            answers are right more often, and differ a little less.

    Raises:
        UserError: if the temperature is not above 0.
    """

    def __init__(self, puzzle: Puzzle, num_steps: int, temperature: float = 1.0) -> None:
        """Keeps all three."""
        if not temperature > 0:
            raise UserError(f"model.draw_temperature={temperature}: must be above 0")
        self.puzzle, self.num_steps, self.temperature = puzzle, num_steps, temperature

    def start(self, question: Tensor) -> dict[str, Tensor]:
        """Draws the order, and shows nothing of an answer."""
        written = self.puzzle.written(question)
        chance = noise.uniform(question, "order", question.shape[1])
        rank = torch.where(written, chance, torch.inf).argsort(1).argsort(1)
        order = (rank + 1) / (written.sum(1, keepdim=True) + 1)
        shown = torch.zeros(*question.shape, len(self.puzzle.vocabulary), device=question.device)
        return {"order": order, "partial_answer": shown}

    def advance(
        self, question: Tensor, order: Tensor, shown: Tensor, logits: Tensor, k: Tensor
    ) -> dict[str, Tensor]:
        """Returns order and partial answer for the step after step k.

        Args:
            question: uint8 of shape (B, L), what step k has read as the question.
            order: float32 of shape (B, L), evenly within (0, 1) at written cells.
            shown: float32 of shape (B, L, V), the partial answer that step k has read.
            logits: float32 of shape (B, L, V), the policy after step k.
            k: int64 of shape (B,).
        """
        fresh = self.shown(order, k + 1) & ~self.shown(order, k)
        policy = (logits / self.temperature).softmax(-1)
        drawn = draw_tokens(question, "partial_answer", policy, k=k)[..., 0]
        tokens = F.one_hot(drawn, logits.shape[-1]).float()
        return {"order": order, "partial_answer": torch.where(fresh[..., None], tokens, shown)}

    def shown(self, order: Tensor, k: Tensor) -> Tensor:
        """Returns which cells step k reads, bool of shape (B, L): those with order <= t_k.

        Decided in integers, as quotients that should be equal are not on every device: of n cells,
        the i-th has order i / (n + 1), so that i K <= (k - 1) (n + 1).
        """
        all_and_one = order.amin(1, keepdim=True).reciprocal().round().long()  # n + 1
        place = (order * all_and_one).round().long()
        steps_before = (k - 1).clamp(max=self.num_steps - 1)[:, None]
        return place * self.num_steps <= steps_before * all_and_one
