"""The laws that every puzzle keeps, as checks that say in plain words what is wrong.

`pir check-env` runs them on a puzzle of yours, the test suite on every puzzle of this repository.
"""

import hashlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from pir.laws.calls import (
    a_puzzle_built_anew_agrees,
    arguments_stay_as_they_are,
    results_depend_on_arguments_alone,
    results_have_their_form,
)
from pir.laws.case import (
    Case,
    LawResult,
    NotChecked,
    build_case,
    judged,
    require,
    sundry_answers,
)
from pir.laws.devices import (
    any_token_is_judged,
    results_stay_on_the_device,
    rounding_decides_nothing,
)
from pir.laws.form import TOKENS, LawError, failure
from pir.laws.images import images_depend_on_their_place, revealed_cells_are_given
from pir.laws.layout import layout_fits
from pir.laws.text import every_answer_can_be_drawn, malformed_text_is_refused, text_round_trip
from pir.puzzle import KEY_RANGE, PAD, SPLITS, Puzzle, Rules, split_range

__all__ = [
    "LAWS",
    "Case",
    "LawError",
    "LawResult",
    "build_case",
    "fingerprint",
    "law_results",
    "per_second",
    "sundry_answers",
]  # fmt: skip

FEW = 4
"""An endless stream repeats itself if fewer than one in so many of the puzzles drawn differ."""

REPLACED = 1 << 13
"""Right answers in which tokens are replaced by forbidden ones."""


def law_results(
    puzzle: Puzzle, case: Case | None = None, anew: Puzzle | None = None
) -> Iterator[LawResult]:
    """Judges a puzzle by every law, one after the other.

    Args:
        puzzle: the puzzle.
        case: what the laws look at; made here by default.
        anew: for a case that is made here, see `Case`.
    """
    try:
        case = case or build_case(puzzle, anew=anew)
    except Exception as error:  # a plug-in may fail in any way
        yield LawResult("instances can be drawn", False, failure(error, puzzle))
        return
    for law, check in LAWS.items():
        try:
            detail = check(case) or ""
        except LawError as error:
            yield LawResult(law, False, str(error))
        except Exception as error:  # a plug-in may fail in any way; the other laws still run
            yield LawResult(law, False, failure(error, puzzle))
        else:
            yield LawResult(law, True, detail, not isinstance(detail, NotChecked))


# -------------------------------------------------------------------------- instances


def _shapes(case: Case) -> str:
    puzzle = case.puzzle
    length, vocabulary = puzzle.slot_mask.shape
    if bool(puzzle.slot_mask[:, PAD].any()):
        raise LawError(f"slot_mask allows token {PAD}, which is PAD: no answer may hold it")
    for sample in case.samples.values():
        for name in ("question", "solution"):
            tokens = sample[name]
            if int(tokens.max()) >= vocabulary:
                raise LawError(f"{name} holds token {int(tokens.max())} of {vocabulary}")
        question, solution = sample["question"], sample["solution"]
        written = puzzle.written(question)
        require(written.any(1), case, question, "no position is written")
        place = torch.arange(length).expand_as(question)
        fits = puzzle.slot_mask[place, solution.long()] | ~written
        require(fits.all(1), case, question, "slot_mask forbids a token of the label")
        order = puzzle.solution_order(question, solution)
        if order.dtype != torch.int64 or order.shape != question.shape or int(order.min()) < 0:
            raise LawError(f"solution_order gives {order.dtype} {tuple(order.shape)}, or ranks < 0")
    return f"{length} tokens, vocabulary {vocabulary}"


def _same_instance_in_any_batch(case: Case) -> None:
    puzzle, seed = case.puzzle, 11
    whole = puzzle.sample(24, "train", seed=seed, start=7)
    for first, count in ((30, 1), (7, 1), (12, 5), (7, 24)):
        part = puzzle.sample(count, "train", seed=seed, start=first)
        for name in ("question", "solution"):
            if not bool((part[name] == whole[name][first - 7 : first - 7 + count]).all()):
                raise LawError(f"{name} {first} of a stream depends on the batch it is drawn in")
    other = puzzle.sample(24, "train", seed=seed + 1, start=7)
    if bool((other["question"] == whole["question"]).all()):
        raise LawError("two seeds give the same stream")


def _splits_share_no_key(case: Case) -> str:
    puzzle = case.puzzle
    if not puzzle.disjoint_splits:
        return NotChecked("not claimed: disjoint_splits is false")
    keys = {}
    for split, sample in case.samples.items():
        images = puzzle.augment(sample.clone(), seed=3)
        found = torch.cat([puzzle.key(sample["question"]), puzzle.key(images["question"])])
        if int(found.min()) < 0 or int(found.max()) >= 1 << 62:
            raise LawError("a key lies outside [0, 2**62)")
        keys[split] = set(found.tolist())
        different, count = len(sample["question"].unique(dim=0)), len(sample)
        if puzzle.size(split) is None and FEW * different < count:
            raise LawError(
                f"of {count} puzzles drawn in {split} only {different} differ, as if there were "
                "more: generate more of them, or give a fixed list, with size(split)"
            )
    for one in SPLITS:
        for other in SPLITS:
            if one < other and keys[one] & keys[other]:
                raise LawError(f"{one} and {other} share {len(keys[one] & keys[other])} keys")
    return ", ".join(f"{len(found)} keys in {split}" for split, found in keys.items())


def _key_is_invariant(case: Case) -> str | None:
    sample = case.samples["train"]
    question = sample["question"]
    changed = torch.zeros(len(question), dtype=torch.bool)
    for seed in range(3):
        image = case.puzzle.augment(sample.clone(), seed=seed)
        same = case.puzzle.key(image["question"]) == case.puzzle.key(question)
        require(same, case, question, "a symmetric image has another key")
        solved = judged(case.puzzle, image["question"], image["solution"]).solved
        require(solved, case, image["question"], "the label of a symmetric image is wrong")
        changed |= (image["question"] != question).any(1)
    return None if changed.any() else NotChecked("the puzzle states no symmetries")


def _key_decides_the_split(case: Case) -> str | None:
    if not case.puzzle.splits_by_key:
        return NotChecked("not claimed: splits_by_key is false")
    for split, sample in case.samples.items():
        low, high = split_range(split)
        remainder = case.puzzle.key(sample["question"]) % KEY_RANGE
        inside = (remainder >= low) & (remainder < high)
        require(inside, case, sample["question"], f"a key of {split} belongs to another split")
    return None


def _label_is_first(case: Case) -> str | None:
    sample = case.samples["train"]
    if not case.puzzle.lists_solutions:
        return NotChecked("the puzzle does not list its answers")
    listed = case.puzzle.solutions(sample["question"], 2)
    found = listed.valid[:, 0] | listed.given_up
    require(found, case, sample["question"], "the list of answers is empty")
    if case.puzzle.unique:
        require(~listed.valid[:, 1], case, sample["question"], "there is a second answer")
    image = case.puzzle.augment(sample.clone(), seed=5)
    of_image = case.puzzle.solutions(image["question"], 1)
    for puzzles, (answers, valid, _) in ((sample, listed), (image, of_image)):
        if case.puzzle.disjoint_splits:
            same = (answers[:, 0] == puzzles["solution"]).all(1) | ~valid[:, 0]
            require(same, case, puzzles["question"], "the label is not the first listed answer")
    return None


def _listed_answers_are_right(case: Case) -> str:
    puzzle, limit = case.puzzle, 16
    question = case.samples["test"]["question"]
    if not puzzle.lists_solutions:
        return NotChecked("the puzzle does not list its answers")
    answers, valid, complete = puzzle.solutions(question, limit)
    repeated = question[:, None].expand_as(answers)
    solved = judged(puzzle, repeated[valid], answers[valid]).solved
    require(solved, case, repeated[valid], "a listed answer is wrong")
    for row, ok in zip(answers, valid, strict=True):
        listed = [tuple(answer) for answer in row[ok].tolist()]
        if len(set(listed)) < len(listed):
            raise LawError("an answer is listed twice")
    if bool((valid[:, 1:] & ~valid[:, :-1]).any()):
        raise LawError("valid answers do not come first in the list")
    more = puzzle.solutions(question, 2 * limit).valid.sum(1)
    missing = complete & (more > valid.sum(1))
    require(~missing, case, question, "a list called complete lacks an answer")
    return f"{valid.sum(1).float().mean():.1f} answers on average, {limit} at most"


# -------------------------------------------------------------------------- the verifier


def _labels_verify(case: Case) -> None:
    for sample in case.samples.values():
        question, solution = sample["question"], sample["solution"]
        verdict = judged(case.puzzle, question, solution)
        require(verdict.solved, case, question, "the label is not solved")
        require(verdict.score == 1, case, question, "the label's score is not 1")


def _score_is_graded(case: Case) -> str:
    score, solved = judged(case.puzzle, case.questions, case.answers)
    inside = (score >= 0) & (score <= 1)  # no NaN is
    if not bool(inside.all()):
        found = float(score[~inside][0])
        require(inside, case, case.questions, f"a score is {found}; from 0 to 1 is allowed")
    require((score == 1) == solved, case, case.questions, "a score is 1 but not solved, or solved "
             "but not 1")  # fmt: skip
    return f"{len(score)} answers, {len(set(score.tolist()))} different scores"


def _clues_are_clamped(case: Case) -> None:
    puzzle, question = case.puzzle, case.samples["test"]["question"]
    written = puzzle.written(question)
    noise = torch.randint(0, len(puzzle.vocabulary), question.shape, dtype=torch.uint8,
                          generator=torch.Generator().manual_seed(0))  # fmt: skip
    clamped = puzzle.clamp(question, noise)
    require(((clamped == question) | written).all(1), case, question, "clamp changes a clue")
    kept = ((case.answers == case.questions) | puzzle.written(case.questions)).all(1)
    solved = judged(puzzle, case.questions, case.answers).solved
    require(kept | ~solved, case, case.questions, "an answer that changes a clue is solved")


def _forbidden_tokens_are_wrong(case: Case) -> str:
    """No right answer stays right with a token that its position may not hold, in one or in all."""
    puzzle, sample = case.puzzle, case.samples["test"]
    length, vocabulary = puzzle.slot_mask.shape
    allowed = torch.zeros(length, TOKENS, dtype=torch.bool)
    allowed[:, :vocabulary] = puzzle.slot_mask
    likely = torch.full((TOKENS,), 2.0)  # first what slips through most: the ends, then our own
    likely[:vocabulary], likely[[PAD, vocabulary % TOKENS, TOKENS - 2, TOKENS - 1]] = 1, 0
    pair = torch.arange(max(length * TOKENS, REPLACED)) % (length * TOKENS)
    late = likely[pair % TOKENS] + torch.rand(len(pair), generator=torch.Generator().manual_seed(2))
    chosen = pair[late.argsort()[:REPLACED]]
    one = torch.arange(length) == (chosen // TOKENS)[:, None]
    every = torch.ones(4 * TOKENS, length, dtype=torch.bool)
    for places, tokens in ((one, chosen % TOKENS), (every, torch.arange(4 * TOKENS) % TOKENS)):
        row = torch.arange(len(tokens)) // 4 % len(sample)
        question, label = sample["question"][row], sample["solution"][row]
        held = torch.where(puzzle.written(question), allowed.T[tokens], places is every)
        answers = torch.where(places & ~held, tokens.to(torch.uint8)[:, None], label)
        solved = judged(puzzle, question, answers).solved & (answers != label).any(1)
        if bool(solved.any()):
            found = int(tokens[solved][0])
            require(~solved, case, question, f"a right answer stays right with token {found} at "
                    "positions that may not hold it: slot_mask, or a clue")  # fmt: skip
    return f"{len(one) + len(every)} answers"


def _no_conflicts_in_solved_answers(case: Case) -> str:
    puzzle = case.puzzle
    if type(puzzle).conflicts is Rules.conflicts:
        return NotChecked("the puzzle marks no conflicts")
    conflicts = puzzle.conflicts(case.questions, case.answers)
    solved = judged(puzzle, case.questions, case.answers).solved
    require(~(conflicts.any(1) & solved), case, case.questions, "a solved answer has conflicts")
    inside = (conflicts & ~puzzle.written(case.questions)).any(1)
    require(~inside, case, case.questions, "a clamped position is marked as a conflict")
    return (
        f"{float(conflicts.any(1)[~solved].float().mean()):.0%} of wrong answers have some marked"
    )


LAWS: dict[str, Callable[[Case], str | None]] = {
    "no method changes its arguments": arguments_stay_as_they_are,  # first: nothing is changed yet
    "results have the dtype and shape of the contract": results_have_their_form,
    "shapes, dtypes and slot mask fit": _shapes,
    "an instance depends on seed, split and index alone": _same_instance_in_any_batch,
    "no key occurs in two splits, also among symmetric images": _splits_share_no_key,
    "key % 10000 decides the split": _key_decides_the_split,
    "symmetric images keep key and right label": _key_is_invariant,
    "every instance is solvable, and the label the first answer": _label_is_first,
    "listed answers are right and differ": _listed_answers_are_right,
    "labels verify with score 1": _labels_verify,
    "scores lie in [0, 1], 1 exactly when solved": _score_is_graded,
    "clamped cells cannot be changed": _clues_are_clamped,
    "a token that its position may not hold is wrong": _forbidden_tokens_are_wrong,
    "a result depends on question and answer alone": results_depend_on_arguments_alone,
    "a puzzle that has drawn nothing judges alike": a_puzzle_built_anew_agrees,
    "no verdict hangs on the rounding of fractions": rounding_decides_nothing,
    "results lie on the device of what they are computed from": results_stay_on_the_device,
    "an answer of any tokens is judged": any_token_is_judged,
    "solved answers have no conflicts": _no_conflicts_in_solved_answers,
    "text reads back": text_round_trip,
    "malformed text is refused with its column": malformed_text_is_refused,
    "an image depends on seed and place alone": images_depend_on_their_place,
    "what is revealed of an answer is given": revealed_cells_are_given,
    "every answer prints and draws": every_answer_can_be_drawn,
    "board, owners, relations and sets fit the layout": layout_fits,
}


def fingerprint(puzzle: Puzzle, count: int = 64) -> str:
    """Hashes the first instances of every split; the same on every machine."""
    digest = hashlib.sha256()
    for split in SPLITS:
        size = puzzle.size(split)
        sample = puzzle.sample(count if size is None else min(count, size), split, seed=0)
        digest.update(bytes([PAD]))
        for name in ("question", "solution"):
            digest.update(np.ascontiguousarray(sample[name].numpy()).tobytes())
    return digest.hexdigest()[:16]


def per_second(work: Callable[[], int], seconds: float = 0.3) -> float:
    """Repeats some work, which returns how much it did, for a while; returns the best rate."""
    work()
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0 or time.perf_counter() < end:
        started = time.perf_counter()
        done = work()
        best = max(best, done / (time.perf_counter() - started))
    return best
