"""The loop of the papers: a policy in, an improved policy out, K times.

Training, evaluation and solving all call `improve` in a loop, and all see the same plain data: the
`Lanes` that puzzles move through, and the `Rollout` of the steps that were taken. What takes a step
again (`replay`, `retake`) or looks ahead (`look_ahead`) is a function of a reasoner and a rollout.

Shapes: B lanes, K improvement steps, L positions, V vocabulary, S answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from tensordict import TensorClass, TensorDict
from torch import Tensor

from pir import noise
from pir.puzzle import Puzzle, Verdict
from pir.reasoner import Policy, Reasoner


class Iterate(TensorClass):  # type: ignore[misc]
    """What B lanes hold between two improvement steps.

    Attributes:
        state: the reasoner's latents.
        context: what the next step reads beside question and latents, see `Reasoner.context`.
        logits: float32 of shape (B, L, V), the policy.
        answer: uint8 of shape (B, L), the answer that is written: the policy's most likely one, or,
            where an objective asks for it while training, one drawn from the policy.
        score: float32 of shape (B,), the verifier's graded value of it.
        solved: bool of shape (B,), whether the verifier accepts it.
        halt_logit: see `Policy`; None, as the two below, where the model has no such head. What
            needs them declares it (`Term.outputs`), which is checked before training.
        continue_logit: see `Policy`.
        value: see `Policy`.
    """

    state: TensorDict
    context: TensorDict
    logits: Tensor
    answer: Tensor
    score: Tensor
    solved: Tensor
    halt_logit: Tensor = None  # type: ignore[assignment]
    continue_logit: Tensor = None  # type: ignore[assignment]
    value: Tensor = None  # type: ignore[assignment]


class Rollout(TensorClass):  # type: ignore[misc]
    """Improvement steps as plain data: of shape (K, B), or (B,) for a single one.

    `rollout[k]` is a step, `stack(steps)` a rollout of them, `rollout.flatten(0, 1)` are all
    its steps side by side as if they were one. Below, B stands for either shape.

    Attributes:
        k: int64 of shape (B,), the number of the step, from 1.
        puzzles: the puzzles it works on: `question`, `solution` if known, and what an objective
            prepared.
        written: bool of shape (B, L), the positions that the policy writes.
        condition: what the reasoner read beside question and latents.
        before: what the lanes held before the step, without gradient.
        after: what they hold after it, with gradient while training.
        first_solved: int64 of shape (B,), the first step whose answer was right; 0 if none yet.
        experience: what an objective keeps of a rollout for all its updates; empty at first.
    """

    k: Tensor
    puzzles: TensorDict
    written: Tensor
    condition: TensorDict
    before: Iterate
    after: Iterate
    first_solved: Tensor
    experience: TensorDict


class Lanes(TensorClass):  # type: ignore[misc]
    """B slots, each holding a puzzle and how far its answer has come.

    A finished lane takes the next puzzle; TRM's code hides this in its "carry".

    Attributes:
        puzzles: `question`, and whatever else was sampled with it.
        now: what the lanes hold.
        k: int64 of shape (B,), improvement steps taken.
        first_solved: int64 of shape (B,), the first step whose answer was right; 0 if none yet.
        finished: bool of shape (B,), lanes that take a new puzzle next.
    """

    puzzles: TensorDict
    now: Iterate
    k: Tensor
    first_solved: Tensor
    finished: Tensor


Data = TypeVar("Data", Rollout, Lanes)


@torch.no_grad()
def begin(
    reasoner: Reasoner, puzzle: Puzzle, puzzles: TensorDict, state: TensorDict | None = None
) -> Lanes:
    """Puts one puzzle into every lane, at the reasoner's starting state or at a given one.

    A reasoner that reads the answer written so far begins with the question, as in an `Episode`.
    """
    question = puzzles["question"]
    state = reasoner.start(question) if state is None else state
    context = reasoner.context(question)
    k = torch.zeros(len(question), dtype=torch.int64, device=question.device)
    policy, first = reasoner.read_out(state), context.get("written_answer", None)
    return Lanes(
        puzzles=puzzles,
        now=_iterate(puzzle, question, state, context, policy, first),
        k=k,
        first_solved=k.clone(),
        finished=torch.zeros_like(k, dtype=torch.bool),
        batch_size=k.shape,
    )


def improve(
    reasoner: Reasoner,
    puzzle: Puzzle,
    lanes: Lanes,
    condition: Mapping[str, Tensor] | None = None,
    step_size: float = 1.0,
    step_noise: float = 0.0,
    through_time: bool = False,
    sampled: bool = False,
) -> tuple[Lanes, Rollout]:
    """Takes one improvement step in every lane.

    By default the state goes on to the next step without gradient (deep supervision, Wang et al.
    2025, arXiv:2506.21734, section 2), so that an objective differentiates through one step.

    Args:
        reasoner: takes the step.
        puzzle: judges the answers.
        lanes: the puzzles and how far they are.
        condition: what the step reads beside its context, by name; see `Reasoner.inputs`.
        step_size: how much of the latents' change is made, alpha in s + alpha (s' - s).
        step_noise: relative size of the noise on the latents after it, see `pir.noise.disturbed`.
        through_time: keeps the graph of the state, so that gradient reaches back from later steps.
        sampled: writes an answer that is drawn from the policy; else its most likely one.

    Returns:
        the lanes after the step, and the step, a rollout of shape (B,).
    """
    question, before, k = lanes.puzzles["question"], lanes.now, lanes.k + 1
    read = before.context.clone(recurse=False).update(dict(condition or {}))
    state = _take_step(reasoner, question, before.state, k, read)
    if step_size != 1.0:
        state = part_way(before.state, state, step_size)
    if step_noise:
        state = noise.disturbed(state, question, "step noise", step_noise, k)
    policy = reasoner.read_out(state)
    drawn = sample_answers(puzzle, question, policy.logits, 1, k)[:, 0] if sampled else None
    after = _iterate(puzzle, question, state, before.context, policy, drawn)
    with torch.no_grad():
        after.context = reasoner.next_context(
            question, before.context, after.logits.detach(), after.answer, k
        )
    first_time = after.solved & (lanes.first_solved == 0)
    first_solved = torch.where(first_time, k, lanes.first_solved)
    step = Rollout(
        k=k,
        puzzles=lanes.puzzles,
        written=puzzle.written(question),
        condition=read,
        before=before.detach(),
        after=after,
        first_solved=first_solved,
        experience=TensorDict(batch_size=k.shape),
        batch_size=k.shape,
    )
    now = after if through_time else after.detach()
    return changed(lanes, now=now, k=k, first_solved=first_solved), step


def part_way(before: TensorDict, after: TensorDict, share: float) -> TensorDict:
    """Returns the state at a share of the way between two, latent by latent of the same name."""
    # TensorDict.lerp pairs them by their order, which a reasoner may choose anew in every step
    return cast(TensorDict, before.apply(lambda here, there: here.lerp(there, share), after))


def _iterate(
    puzzle: Puzzle,
    question: Tensor,
    state: TensorDict,
    context: TensorDict,
    policy: Policy,
    answer: Tensor | None = None,
) -> Iterate:
    """Has an answer judged: the one given, or else the most likely one of a policy."""
    if answer is None:
        answer = puzzle.clamp(question, policy.logits.argmax(-1))
    verdict = puzzle.verify(question, answer)
    return Iterate(
        state=state,
        context=context,
        answer=answer,
        score=verdict.score,
        solved=verdict.solved,
        **policy._asdict(),
        batch_size=question.shape[:1],
    )


def gradient_in(k: int, num_steps: int, backprop_steps: int) -> AbstractContextManager[Any]:
    """Returns the context in which step k of a rollout is taken: with gradient, or without.

    With `backprop_steps` = 1 every step has gradient, which ends at the step's start. With more,
    only the last `backprop_steps` steps have gradient, and `improve(..., through_time=True)` makes
    them one graph (truncated back-propagation through time).
    """
    has_gradient = backprop_steps == 1 or k > num_steps - backprop_steps
    return nullcontext() if has_gradient else torch.no_grad()


def stack(steps: Sequence[Rollout]) -> Rollout:
    """Returns K steps of shape (B,) as a rollout of shape (K, B); a single one is not copied."""
    if len(steps) == 1:
        return cast(Rollout, steps[0].unsqueeze(0))
    return cast(Rollout, torch.stack(list(steps)))


def side_by_side(parts: Sequence[tuple[Lanes, Rollout]]) -> tuple[Lanes, Rollout]:
    """Returns parts of the lanes and their steps (K, B) as one; a single part is not copied."""
    if len(parts) == 1:
        return parts[0]
    lanes = torch.cat([cast(Any, lanes.detach()) for lanes, _ in parts])
    rollout = torch.cat([cast(Any, rollout.detach()) for _, rollout in parts], dim=1)
    return cast(Lanes, lanes), cast(Rollout, rollout)


def changed(data: Data, **parts: Any) -> Data:
    """Returns data with other parts; `TensorDict.replace` would merge nested ones instead."""
    copy = data.clone(recurse=False)
    for name, part in parts.items():
        setattr(copy, name, part)
    return cast(Data, copy)


def lane_numbers(step: Rollout) -> Tensor:
    """Returns the numbers of a step's lanes, int64 (B,): from 0 on, over all processes."""
    share = noise.SHARE.get()
    return torch.arange(len(step.k), device=step.k.device) + (share.first if share else 0)


# ---------------------------------------------------------------- steps taken again


def replay(reasoner: Reasoner, step: Rollout, count: int = 1, **condition: Tensor) -> Policy:
    """Takes a step once more, from the same state and with gradient to the parameters.

    Args:
        reasoner: takes it.
        step: of shape (B,).
        count: steps that are taken in all, with gradient through every one of them.
        condition: conditions in place of those that the step had.
    """
    return reasoner.read_out(_state_again(reasoner, step, count, **condition))


def _state_again(
    reasoner: Reasoner, step: Rollout, count: int = 1, **condition: Tensor
) -> TensorDict:
    read = step.condition.clone(recurse=False).update(condition)
    state = step.before.state
    for later in range(count):
        state = _take_step(reasoner, step.puzzles["question"], state, step.k + later, read)
    return state


def retake(
    reasoner: Reasoner, puzzle: Puzzle, rollout: Rollout, same_answers: bool = False
) -> Rollout:
    """Returns a rollout (K, B) whose steps are taken once more by the parameters as they are now.

    Every step begins where it began, and on request writes the same answer.
    """
    steps = []
    for step in rollout.unbind(0):
        state = _state_again(reasoner, step)
        policy, question = reasoner.read_out(state), step.puzzles["question"]
        answer = step.after.answer if same_answers else None
        after = _iterate(puzzle, question, state, step.after.context, policy, answer)
        steps.append(changed(step, after=after))
    return stack(steps)


@torch.no_grad()
def look_ahead(reasoner: Reasoner, step: Rollout) -> Policy:
    """Returns the policy that the step after a step (B,) would reach under the same condition."""
    condition = step.condition.clone(recurse=False).update(step.after.context)
    question = step.puzzles["question"]
    state = _take_step(reasoner, question, step.after.state, step.k + 1, condition)
    return reasoner.read_out(state)


# ---------------------------------------------------------------- forward passes


@dataclass
class StepCounter:
    """Counts improvement steps of single lanes, those of all processes that train together.

    Attributes:
        lane_steps: steps taken so far.
    """

    lane_steps: int = 0


_COUNTERS: ContextVar[tuple[StepCounter, ...]] = ContextVar("counters", default=())


@contextmanager
def counted(counter: StepCounter) -> Iterator[None]:
    """Has a counter count every step that is taken inside, steps taken again included."""
    token = _COUNTERS.set((*_COUNTERS.get(), counter))
    try:
        yield
    finally:
        _COUNTERS.reset(token)


def _take_step(
    reasoner: Reasoner, question: Tensor, state: TensorDict, k: Tensor, condition: TensorDict
) -> TensorDict:
    share = noise.SHARE.get()
    taken = len(k) if share is None else len(k) // share.count * share.side_by_side
    for counter in _COUNTERS.get():
        counter.lane_steps += taken
    return reasoner.improve(question, state, k, condition)


# ---------------------------------------------------------------- answers drawn from a policy


def draw_tokens(
    question: Tensor, purpose: str, policy: Tensor, count: int = 1, k: Tensor | None = None
) -> Tensor:
    """Draws tokens from a policy (B, L, V), each by itself: int64 of shape (B, L, S).

    While training from torch's generator; inside of `noise.by_puzzle` numbers of the puzzle's own.
    """
    policy = torch.where(policy.isfinite().all(-1, keepdim=True), policy, 1.0)  # if it diverged
    if noise.SEED.get() is not None:
        return noise.tokens(question, purpose, policy, count, k)
    return choices(policy, count)


def choices(weights: Tensor, count: int = 1) -> Tensor:
    """Draws columns by their weights (rows, ..., C), with replacement: int64 (rows, ..., count).

    Numbers are drawn for the whole batch (`noise.Share`): random states agree in all processes.
    """
    share = noise.SHARE.get()
    every = (weights if share is None else share.spread(weights)).flatten(0, -2)
    if count == 1:  # as multinomial, but for its check of the weights, which the CPU waits for
        drawn = (every / torch.empty_like(every).exponential_()).argmax(-1)
    else:
        drawn = every.multinomial(count, replacement=True)
    drawn = drawn.view(-1, *weights.shape[1:-1], count)
    return drawn if share is None else share.of(drawn)


def sample_answers(
    puzzle: Puzzle, question: Tensor, logits: Tensor, count: int, k: Tensor | None = None
) -> Tensor:
    """Draws answers from a policy, every token by itself; clamped positions are kept.

    Args:
        puzzle: says what is clamped.
        question: uint8 of shape (B, L).
        logits: float32 of shape (B, L, V).
        count: answers S per puzzle.
        k: int64 of shape (B,), the step that they are drawn after, see `pir.noise`.

    Returns:
        uint8 of shape (B, S, L).
    """
    drawn = draw_tokens(question, "answers", torch.softmax(logits, -1), count, k)
    answers = drawn.to(question.dtype).movedim(-1, 1)
    repeated = question[:, None].expand(answers.shape).flatten(0, 1)
    return puzzle.clamp(repeated, answers.flatten(0, 1)).view(answers.shape)


def verify_answers(puzzle: Puzzle, question: Tensor, answers: Tensor) -> Verdict:
    """Judges several answers per puzzle: of (B, S, L) to questions (B, L), with results (B, S)."""
    repeated = question.repeat_interleave(answers.shape[1], 0)
    verdict = puzzle.verify(repeated, answers.flatten(0, 1))
    return Verdict(*(part.view(answers.shape[:2]) for part in verdict))
