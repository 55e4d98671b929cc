"""Input curriculum: of the answer, more and more is shown over a rollout."""

import torch
import torch.nn.functional as F
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.noise import drawn
from pir.objective import right_answers
from pir.objectives.deep_supervision import DeepSupervision
from pir.puzzle import Puzzle
from pir.rollout import Lanes, Rollout, choices


class InputCurriculum(DeepSupervision):
    """Cross-entropy against a right answer, of which a growing part is read.

    The answer is drawn evenly among the puzzle's right ones where they are listed, once per
    rollout; else it is the label. Before step k the reasoner is shown it at a share t_k of the
    written cells, beside the question as it is, with times t_1 < .. < t_K drawn evenly and sorted,
    and one order of the cells per rollout; the target is always the whole answer (Looped Flows,
    arXiv:2609.11801, with masking for its Gaussian noise). As in use there is no answer, a share of
    the rollouts can be shown what they would be shown then, their own draws. The curriculum is in
    the input alone, where DIS has it in the target.

    Args:
        limit: at most so many right answers are listed.
        pseudo_target: share of rollouts that are shown their own draws.
    """

    conditions = ("partial_answer",)

    def __init__(self, limit: int = 64, pseudo_target: float = 0.0) -> None:
        """Checks and keeps the settings."""
        super().__init__()
        if not 0 <= pseudo_target <= 1:
            raise UserError(f"objective: pseudo_target={pseudo_target}; must lie in [0, 1]")
        if limit < 1:
            raise UserError(f"objective: limit={limit}; at least 1")
        self.limit, self.pseudo_target = limit, pseudo_target

    def prepare(self, puzzle: Puzzle, puzzles: TensorDict, num_steps: int) -> dict[str, Tensor]:
        """Draws answer and times of every rollout, and whether it is shown its own draws."""
        answers, valid = right_answers(puzzle, puzzles, self.limit)
        chosen = choices(valid.float())[:, 0]
        times = drawn(lambda rows: torch.rand(rows, num_steps), len(puzzles)).sort(1).values
        own = drawn(torch.rand, len(puzzles)) < self.pseudo_target
        answer = answers[torch.arange(len(answers)), chosen]
        return {"times": times, "shown_own": own, "answer": answer}

    def target(self, rollout: Rollout) -> Tensor:
        """Returns the rollout's answer."""
        answer: Tensor = rollout.puzzles["answer"]
        return answer

    def condition(self, lanes: Lanes) -> dict[str, Tensor]:
        """Shows a part of the answer, or what the rollout has come to by itself."""
        context, times = lanes.now.context, lanes.puzzles["times"]
        own = context["partial_answer"]
        now = lanes.k.clamp(max=times.shape[1] - 1)[:, None]
        shown = shown_at(context["order"], times.gather(1, now)[:, 0])
        answer = F.one_hot(lanes.puzzles["answer"].long(), own.shape[-1]) * shown[..., None]
        takes_own = lanes.puzzles["shown_own"][:, None, None]
        return {"partial_answer": torch.where(takes_own, own, answer.float())}


def shown_at(order: Tensor, time: Tensor) -> Tensor:
    """Returns which cells are shown, bool of shape (B, L), at times t of shape (B,), any numbers.

    Of n written cells 0 to n are shown, every number equally often at even times.

    Args:
        order: float32 of shape (B, L), the times at which cells are shown.
        time: float32 of shape (B,).
    """
    return order <= time[:, None]
