"""What the built-in reasoners share: embedding of questions and conditions, and the read-out.

A reasoner adds what its paper is about: its latents, and how one step changes them.
"""

from abc import abstractmethod
from typing import TypedDict, Unpack

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.checks import check_choice, check_keywords
from pir.errors import UserError
from pir.models.candidates import Candidates
from pir.models.conditioning import AnswerFlow, Conditioning
from pir.models.network import Linear, Network
from pir.models.number_features import number_embeddings
from pir.puzzle import PAD, Puzzle
from pir.reasoner import MASKED_LOGIT, Policy, Reasoner
from pir.settings.model import ModelSettings
from pir.system.device import fast_dtype

DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


class Shared(TypedDict, total=False):
    """The types of `ModelSettings`, for the signatures of reasoners."""

    hidden_size: int
    heads: int
    mixer: str
    positions: bool
    expansion: float
    improvement_steps: int
    halt_head: bool
    continue_head: bool
    value_head: bool
    step_embedding: bool
    optimality_token: bool
    partial_answer: bool
    draw_temperature: float
    number_features: bool
    reads_own_answer: bool
    written_answer: bool
    dtype: str


class PuzzleModel(Reasoner):
    """A reasoner over the tokens of one puzzle, without its loop.

    Args:
        puzzle: gives L, V and the tokens that each position may hold.
        **shared: the settings by name, see `ModelSettings`.

    Raises:
        UserError: if a setting is unknown or out of range.
    """

    slot_mask: Tensor
    owners: Tensor

    def __init__(self, puzzle: Puzzle, **shared: Unpack[Shared]) -> None:
        """Builds all but the loop, with parameters from torch's global random state."""
        super().__init__()
        check_keywords("model", shared, type(self), Shared)
        settings = ModelSettings(**shared)
        check_choice("model.dtype", settings.dtype, [*DTYPES])
        hidden_size, improvement_steps = settings.hidden_size, settings.improvement_steps
        at_least_one(hidden_size=hidden_size, improvement_steps=improvement_steps)
        self.hidden_size, self.heads = hidden_size, settings.heads
        self.mixer, self.expansion = settings.mixer, settings.expansion
        self.improvement_steps = improvement_steps
        self.chosen_dtype = DTYPES[settings.dtype]
        length, vocabulary_size = puzzle.slot_mask.shape
        self.candidates = None
        if settings.mixer == "candidates":
            self.candidates = Candidates(puzzle, hidden_size)
        else:
            self.token = nn.Embedding(vocabulary_size, hidden_size)
            self.position = nn.Embedding(length, hidden_size) if settings.positions else None
            nn.init.normal_(self.token.weight, std=0.7)
            if self.position is not None:
                nn.init.normal_(self.position.weight, std=0.7)
            if puzzle.token_values is not None and settings.number_features:
                numbers = ~puzzle.token_values.isnan()
                features = number_embeddings(puzzle.token_values[numbers], hidden_size)
                self.token.weight.data[numbers] = 0.7 * features
            self.owner_map = None
            if puzzle.owners is not None:
                self.owner_map = Linear(hidden_size, hidden_size)
                self.register_buffer("owners", puzzle.owners.clone(), persistent=False)
            self.logit_head = Linear(hidden_size, vocabulary_size)
        self.halt_head = nn.Linear(hidden_size, 1) if settings.halt_head else None
        self.continue_head = nn.Linear(hidden_size, 1) if settings.continue_head else None
        self.value_head = nn.Linear(hidden_size, 1) if settings.value_head else None
        if self.value_head is not None:  # what is drawn at random would be noise in every advantage
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
        self.conditioning = None
        if settings.step_embedding or settings.optimality_token or settings.partial_answer:
            self.conditioning = Conditioning(
                puzzle,
                hidden_size,
                improvement_steps if settings.step_embedding else 0,
                settings.optimality_token,
                settings.partial_answer,
            )
        self.flow = None
        if settings.partial_answer:
            self.flow = AnswerFlow(puzzle, improvement_steps, settings.draw_temperature)
        self.written = None
        if settings.written_answer:
            rows = vocabulary_size if self.candidates is None else vocabulary_size + 2
            self.written = nn.Embedding(rows, hidden_size)
            nn.init.zeros_(self.written.weight)
        read = {
            "optimality": settings.optimality_token,
            "partial_answer": settings.partial_answer,
            "own_answer": settings.reads_own_answer,
            "written_answer": settings.written_answer,
        }
        self.inputs = frozenset(name for name, is_read in read.items() if is_read)
        self.register_buffer("slot_mask", puzzle.slot_mask.clone(), persistent=False)

    def network(
        self, puzzle: Puzzle, layers: int, sandwich: bool = False, related: bool = True
    ) -> Network:
        """Builds a network of this model's width over a puzzle's tokens."""
        settings = (self.hidden_size, layers, self.heads, self.mixer, self.expansion)
        return Network(puzzle, *settings, sandwich, related)

    @property
    def num_latents(self) -> int:
        """N, the latent vectors per puzzle: one per position, or one per candidate."""
        return len(self.slot_mask if self.candidates is None else self.candidates.position)

    def blank(self, question: Tensor) -> Tensor:
        """Returns a latent of zeros, (B, N, D)."""
        shape = (len(question), self.num_latents, self.hidden_size)
        return torch.zeros(shape, dtype=self.dtype, device=question.device)

    def repeated(self, start: Tensor, question: Tensor) -> Tensor:
        """Returns a latent (B, N, D) that starts with the same vector (D,) everywhere."""
        return start.to(self.dtype).expand(len(question), self.num_latents, -1)

    # ---------------------------------------------------------------- what a reasoner adds

    @abstractmethod
    def first_latents(self, question: Tensor) -> dict[str, Tensor]:
        """Returns the latents before the first step, each of batch size B."""

    @abstractmethod
    def step(
        self, x: Tensor, condition: Tensor | None, latents: TensorDict, k: Tensor
    ) -> dict[str, Tensor]:
        """Returns the latents after step k.

        Args:
            x: (B, N, D), the embedded question with the embedded condition added to it.
            condition: (B, 1 or N, D), the embedded condition alone; None if the model has none.
            latents: the latents before the step.
            k: int64 of shape (B,).
        """

    @abstractmethod
    def answer(self, latents: TensorDict) -> Tensor:
        """Returns what the policy is read off, (B, N, D)."""

    # ---------------------------------------------------------------- the contract of a reasoner

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations and products on the present device."""
        return self.chosen_dtype or fast_dtype(self.slot_mask.device)

    def start(self, question: Tensor) -> TensorDict:
        """See `Reasoner.start`."""
        return TensorDict(self.first_latents(question), batch_size=question.shape[:1])

    def improve(
        self, question: Tensor, state: TensorDict, k: Tensor, condition: TensorDict | None = None
    ) -> TensorDict:
        """See `Reasoner.improve`."""
        condition = self.context(question) if condition is None else condition
        x, embedded = self.embed(condition.get("own_answer", question)), None
        if self.conditioning is not None:
            embedded = self.conditioning(k, condition).to(self.dtype)
            if self.candidates is not None and embedded.shape[1] > 1:
                embedded = self.candidates.at_candidates(embedded)
        if self.written is not None:
            written = self._embed_written(condition.get("written_answer", question))
            embedded = written if embedded is None else embedded + written
        if embedded is not None:
            x = x + embedded
        return TensorDict(self.step(x, embedded, state, k), batch_size=state.batch_size)

    def context(self, question: Tensor) -> TensorDict:
        """Shows nothing of an answer yet; see `Reasoner.context`."""
        context = super().context(question)
        if "own_answer" in self.inputs:
            context["own_answer"] = question
        if "written_answer" in self.inputs:
            context["written_answer"] = question
        if self.flow is not None:
            context.update(self.flow.start(question))
        return context

    def next_context(
        self, question: Tensor, context: TensorDict, logits: Tensor, answer: Tensor, k: Tensor
    ) -> TensorDict:
        """Shows the answer held now, or a larger part of one; see `Reasoner.next_context`."""
        following = context.clone(recurse=False)
        if "own_answer" in self.inputs:
            following["own_answer"] = answer
        if "written_answer" in self.inputs:
            following["written_answer"] = answer
        if self.flow is not None:
            order, shown = context["order"], context["partial_answer"]
            following.update(self.flow.advance(question, order, shown, logits, k))
        return following

    def read_out(self, state: TensorDict) -> Policy:
        """Reads logits off every token, and the other estimates off their mean."""
        y = self.answer(state)
        heads = (self.halt_head, self.continue_head, self.value_head)
        estimates = [None if head is None else head(y.float().mean(1))[..., 0] for head in heads]
        return Policy(self._logits(y), *estimates)

    def _logits(self, y: Tensor) -> Tensor:
        if self.candidates is not None:
            return self.candidates.logits(y)
        return torch.where(self.slot_mask, self.logit_head(y).float(), MASKED_LOGIT)

    def embed(self, question: Tensor) -> Tensor:
        """Embeds a question, with positions and owners or as candidates: (B, N, D)."""
        if self.candidates is not None:
            return self.candidates.embed(question).to(self.dtype)
        embedded: Tensor = self.token(question.long())
        if self.position is not None:
            embedded = embedded + self.position.weight
        if self.owner_map is not None:
            is_owned = (self.owners != PAD)[:, None]
            embedded = embedded + is_owned * self.owner_map(self.token(self.owners))
        return embedded.to(self.dtype)

    def _embed_written(self, answer: Tensor) -> Tensor:
        assert self.written is not None
        if self.candidates is not None:
            return self.candidates.embed(answer, self.written).to(self.dtype)
        embedded: Tensor = self.written(answer.long())
        return embedded.to(self.dtype)


MOST = 65_536
"""The most layers, steps, cycles or channels of a model."""


def at_least_one(**settings: int) -> None:
    """Refuses settings of a model that are below 1, or so large that it would never be built.

    Raises:
        UserError: naming the first that is.
    """
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"model.{name}={value}: must be at least 1")
        if value > MOST:
            raise UserError(f"model.{name}={value}: must be at most {MOST}")
