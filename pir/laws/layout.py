"""The law of the layout: what a puzzle tells networks of its positions is true."""

import torch

from pir.laws.case import Case, NotChecked
from pir.laws.form import LawError


def layout_fits(case: Case) -> str:
    """Checks board, owners, relations and sets against L, V and the right answers."""
    puzzle, length = case.puzzle, case.puzzle.length
    if puzzle.board is not None and puzzle.board[0] * puzzle.board[1] != length:
        raise LawError(f"the board {puzzle.board} has not {length} cells")
    owners = puzzle.owners
    if owners is not None:
        if owners.dtype != torch.int64 or owners.shape != (length,):
            raise LawError(f"owners are {owners.dtype} {tuple(owners.shape)}")
        if not 0 <= int(owners.min()) <= int(owners.max()) < len(puzzle.vocabulary):
            raise LawError("an owner is no token")
    values = puzzle.token_values
    if values is not None and (
        values.dtype != torch.float32 or values.shape != (len(puzzle.vocabulary),)
    ):
        raise LawError(f"token_values are {values.dtype} {tuple(values.shape)}")
    _sets_hold(case)
    relations = puzzle.relations
    if relations is None:
        if puzzle.board is None and owners is None and puzzle.at_most_one is None:
            return NotChecked("the puzzle states no board, owners, relations or sets")
        return "no relations stated"
    if relations.dtype != torch.int64 or relations.shape != (length, length):
        raise LawError(f"relations are {relations.dtype} {tuple(relations.shape)}")
    if int(relations.min()) < 0:
        raise LawError("a relation is negative")
    return f"{int(relations.max()) + 1} classes of relations"


def _sets_hold(case: Case) -> None:
    """Checks `at_most_one`: its form, and that no right answer holds two pairs of a set."""
    sets, puzzle = case.puzzle.at_most_one, case.puzzle
    if sets is None:
        return
    if sets.dtype != torch.int64 or sets.shape[1:] != puzzle.slot_mask.shape:
        raise LawError(f"at_most_one is {sets.dtype} {tuple(sets.shape)}")
    if int(sets.min()) < -1:
        raise LawError("a set of at_most_one has a number below -1")
    solved = puzzle.verify(case.questions, case.answers).solved
    for question, answer in zip(case.questions[solved], case.answers[solved], strict=True):
        for kind in sets:
            held = kind[torch.arange(puzzle.length), answer.long()]
            held = held[held >= 0]
            if len(held.unique()) < len(held):
                shown = puzzle.format_answer(question, answer)
                raise LawError(f"a right answer holds two of a set of at_most_one: {shown}")
