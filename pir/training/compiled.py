"""The networks of a reasoner under torch.compile: the same arithmetic, less traffic to memory.

A compiled network rounds otherwise than a plain one, so what `auto` means is decided before
training, by the settings and by whether torch can compile in all processes, and written to the
run's config.yaml: a resumed run goes on as it began.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pir.checks import check_choice
from pir.errors import UserError
from pir.models.network import Network
from pir.reasoner import Reasoner
from pir.settings.training import TrainerSettings
from pir.system import processes
from pir.system.device import own_random_stream

MODES = ("auto", "none", "default", "reduce-overhead")

WORTH_ON_CPU, WORTH_ON_CUDA = 1.5e9, 1.5e11
"""Latent numbers computed in a whole run (lanes x N x D x passes x updates) from which compiling
pays. On a CPU compiling takes half a minute, and a thread computes about ten million in a second;
on CUDA it takes some ten seconds."""

VALIDATION_WORTH = {"cpu": 5e8, "cuda": 5e10}
"""Latent numbers computed in one validation from which compiling the averaged copy pays. On a CPU
it takes ten seconds, and saves a fifth of a validation that takes ten."""

SHORTEST = {"cpu": 4.0, "cuda": 1.0}
"""Minutes that a budget must leave, so that compiling is a small share of them."""


def chosen_mode(settings: TrainerSettings, reasoner: Reasoner, question: Tensor) -> str:
    """Returns what `trainer.compile` means for a run: "none", "default" or "reduce-overhead".

    Args:
        settings: of the run.
        reasoner: on its device.
        question: uint8 of shape (1, L).

    Raises:
        UserError: if the setting is unknown, or names a mode without a network to compile or a
            compiler that works.
    """
    mode = settings.compile
    check_choice("trainer.compile", mode, MODES)
    networks = networks_of(reasoner)
    if mode == "none" or (mode == "auto" and not networks):
        return "none"
    device = question.device
    if mode == "auto":
        worth = _is_worth_it(settings, reasoner, question)
        works = worth and not processes.any_of(compiler_fault(device) is not None)
        return "default" if works else "none"
    if not networks:
        raise UserError(f"trainer.compile={mode}: this model has no network of pir's; take none")
    fault = compiler_fault(device)
    if fault:
        raise UserError(f"trainer.compile={mode}: {fault}; take trainer.compile=none")
    return mode


def networks_of(reasoner: Reasoner) -> list[Network]:
    """Returns the networks that a reasoner calls as a whole."""
    return [module for module in reasoner.modules() if isinstance(module, Network)]


def _is_worth_it(settings: TrainerSettings, reasoner: Reasoner, question: Tensor) -> bool:
    kind = question.device.type
    if kind not in SHORTEST:
        return False
    minutes = settings.max_minutes
    if minutes is not None and minutes < SHORTEST[kind]:
        return False
    largest = _latent_numbers(reasoner, question)
    steps, passes = settings.max_optimizer_steps, settings.max_forward_passes
    worth = WORTH_ON_CPU if kind == "cpu" else WORTH_ON_CUDA
    work = [worth]
    if steps is not None:
        work.append(settings.batch_size * largest * reasoner.passes_per_step * steps)
    if passes is not None:
        work.append(largest * passes)
    return min(work) >= worth


@torch.no_grad()
def _latent_numbers(reasoner: Reasoner, question: Tensor) -> int:
    """Returns how many numbers the largest latent of one puzzle has."""
    with own_random_stream(question.device):  # some reasoners draw their start
        return max(int(latent.numel()) for latent in reasoner.start(question).values())


def compiler_fault(device: torch.device) -> str | None:
    """Says why nothing can be compiled for a device here; None if it works."""
    # torch reads what it has compiled before; its own place, in /tmp, others may write to
    try:
        place = str(Path.home() / ".cache" / "pir" / "torch")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", place)
        torch.compile(_small)(torch.ones(8, device=device))
    except Exception as error:  # torch raises many kinds: no compiler, no headers, no Triton
        return f"torch.compile does not work here ({type(error).__name__})"
    return None


def _small(x: Tensor) -> Tensor:
    return x * x + 1


def compile_networks(reasoner: Reasoner, mode: str, only: int | None = None) -> None:
    """Has a reasoner's networks compiled at their first use; copies and weights are as before.

    Args:
        reasoner: whose networks are compiled in place; a deep copy of it is not compiled.
        mode: "none" leaves them as they are, "reduce-overhead" uses CUDA graphs too.
        only: the batch size that compiled code is used for; others run as they are. None for all.
    """
    if mode == "none":
        return
    options: dict[str, bool] = {"cpp.dynamic_threads": True}  # as many as at the time of use
    if mode == "reduce-overhead":
        options["triton.cudagraphs"] = True
    # a network is compiled once for every form of its inputs: with and without gradient, with the
    # cache of another (dual), in another number of lanes
    torch._dynamo.config.recompile_limit = 64
    for network in networks_of(reasoner):
        nn.Module.compile(network, options=options)
        whole = network._compiled_call_impl
        if whole is not None and mode == "reduce-overhead":
            whole = network._compiled_call_impl = _copied(whole)
        if only is not None and whole is not None:
            network._compiled_call_impl = _by_batch(only, whole, network._call_impl)


def _copied(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a call whose results stay: CUDA graphs write the next ones into the same memory.

    A reasoner calls its network many times and keeps what it gave, from one update to the next.
    """

    def call(*given: Any, **named: Any) -> Any:
        found = compiled(*given, **named)
        if named.get("kept"):  # keys and values are given in this list
            named["kept"][:] = _cloned(named["kept"])
        return _cloned(found)

    return call


def _cloned(parts: Any) -> Any:
    return tree_map(lambda part: part.clone() if isinstance(part, Tensor) else part, parts)


def _by_batch(
    size: int, compiled: Callable[..., Any], plain: Callable[..., Any]
) -> Callable[..., Any]:
    """Returns a network's call that is compiled for batches of one size alone."""

    def call(x: Tensor, *others: Any, **named: Any) -> Any:
        return (compiled if len(x) == size else plain)(x, *others, **named)

    return call


def compile_for_validation(
    copy: Reasoner, mode: str, questions: Tensor, lanes: int, batch_size: int
) -> int:
    """Has the averaged copy run compiled code too, where that saves time.

    It takes as many puzzles at once as training does, which compiled code is there for already, at
    least in part; what is left over runs as it is. Nothing here depends on budgets or on the clock.

    Args:
        copy: the reasoner with averaged weights.
        mode: what `chosen_mode` said. CUDA graphs hold the addresses of the weights that they were
            made with, so with "reduce-overhead" the copy stays as it is.
        questions: uint8 of shape (N, L), those of validation.
        lanes: puzzles that training improves at once.
        batch_size: puzzles that validation would improve at once.

    Returns:
        the puzzles that validation improves at once.
    """
    steps = len(questions) * copy.improvement_steps * copy.passes_per_step
    worth = VALIDATION_WORTH.get(questions.device.type)
    if (
        mode != "default"
        or lanes > batch_size
        or worth is None
        or steps * _latent_numbers(copy, questions[:1]) < worth
    ):
        return batch_size
    compile_networks(copy, mode, only=lanes)
    return lanes
