"""Where the time of a training step goes, seen from outside the loop."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from pir.system.device import time_on
from pir.training.trainer import Trainer

PARTS = ("data", "forward", "backward", "optimizer", "ledger", "waiting")
"""Puzzles drawn and prepared; improvement steps, verdicts and losses; gradients; clipping, update
and average; statistics; and what is left, in which the device waits for the loop."""


@contextmanager
def replaced(holder: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Puts a function in the place of an object's method, until the end."""
    setattr(holder, name, function)
    try:
        yield
    finally:
        delattr(holder, name)


class PartTimer:
    """Adds up time by the innermost part that runs; the device has done it all at every change.

    Args:
        device: computes.
    """

    def __init__(self, device: torch.device) -> None:
        """Starts in no part."""
        self.device, self.stack = device, ["waiting"]
        self.clear()

    def clear(self) -> None:
        """Starts anew."""
        self.seconds, self.at = dict.fromkeys(PARTS, 0.0), time_on(self.device)

    def enter(self, part: str) -> None:
        """Begins a part within the present one."""
        self._add()
        self.stack.append(part)

    def leave(self) -> None:
        """Goes back to the part around."""
        self._add()
        self.stack.pop()

    def _add(self) -> None:
        now = time_on(self.device)
        self.seconds[self.stack[-1]] += now - self.at
        self.at = now

    def shares(self) -> dict[str, float]:
        """Returns the share of every part in the time since it was cleared."""
        self._add()
        total = sum(self.seconds.values())
        return {part: seconds / total for part, seconds in self.seconds.items()}

    def within(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function with its time taken."""

        def timed(*arguments: Any, **named: Any) -> Any:
            self.enter(part)
            try:
                return function(*arguments, **named)
            finally:
                self.leave()

        return timed

    def iterated(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that iterates, with the time of every item taken."""

        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            items = iter(function(*arguments, **named))
            take = self.within(part, lambda: next(items, items))
            while (item := take()) is not items:
                yield item

        return timed


@contextmanager
def timed_parts(trainer: Trainer) -> Iterator[PartTimer]:
    """Takes the time of a trainer's parts by what it calls: the methods of its components."""
    timer = PartTimer(trainer.device)
    puzzle, reasoner, objective, state = (
        trainer.puzzle,
        trainer.reasoner,
        trainer.objective,
        trainer.state,
    )
    backward, average = torch.Tensor.backward, state.average.update_parameters

    def then_updates(*arguments: Any, **named: Any) -> None:
        """What follows the backward pass, until the average is updated, is the optimizer's."""
        timer.within("backward", backward)(*arguments, **named)
        timer.enter("optimizer")

    def updated(*arguments: Any) -> None:
        average(*arguments)
        timer.leave()

    plain = [
        (trainer.stream, "take", "data"),
        (objective, "prepare", "data"),
        (reasoner, "start", "forward"),
        (reasoner, "improve", "forward"),
        (reasoner, "read_out", "forward"),
        (puzzle, "verify", "forward"),
        (state.ledger, "record", "ledger"),
    ]
    with ExitStack() as stack:
        for holder, name, part in plain:
            function = timer.within(part, getattr(holder, name))
            stack.enter_context(replaced(holder, name, function))
        losses = timer.iterated("forward", objective.losses)
        stack.enter_context(replaced(objective, "losses", losses))
        stack.enter_context(replaced(state.average, "update_parameters", updated))
        torch.Tensor.backward = then_updates  # type: ignore[method-assign]
        stack.callback(setattr, torch.Tensor, "backward", backward)
        yield timer
