"""What `pir bench train` measures: an optimizer step of every preset, and peers on the same shapes.

Contenders run in turn (A B A B), as a machine is not equally fast at all times; the medians of
their rounds are compared. Utilisation is that of products: the floating-point operations of the
improvement step and its gradient, over what one large product reaches in the same run.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from pir.bench.contenders import Contender, PeerSteps, Shapes, Trained, find_peer, peer_step
from pir.checks import check_choice
from pir.components import Components, build_puzzle
from pir.evaluation.cost import training_flops_per_step
from pir.settings.build import build
from pir.settings.describe import composed
from pir.settings.training import MOST_COUNTED, TrainerSettings
from pir.system.device import time_on
from pir.system.memory import PeakMemory, memory_in_use
from pir.training.build import build_objective, build_schedule
from pir.training.compiled import chosen_mode
from pir.training.trainer import Trainer

PAPER = ["env=sudoku9", "recipe=none", "recipe_pair=none", "objective=deep_supervision"]

PRESETS = {
    "tiny": [["env=countdown", "model=trm"]],
    "compact": [[*PAPER, "model=trm_7m", "model.hidden_size=176", "trainer.batch_size=128"]],
    "paper": [
        [*PAPER, "model=trm_5m", "trainer.batch_size=768"],
        [*PAPER, "model=trm_7m", "trainer.batch_size=768"],
    ],
}
"""What is trained, in settings of `pir train`: the main job; 0.8 million parameters; the sizes of
the paper."""

ROUNDS = 3

PRODUCT = {"cuda": 8192, "cpu": 2048}
"""Rows and columns of the matrices whose product shows what a device can do."""


def measure(
    presets: Sequence[str],
    against: Sequence[str],
    seconds: float,
    device: torch.device,
    batch_size: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """Yields one row per model and contender, ours first.

    Args:
        presets: names of `PRESETS`.
        against: peers: "float32" (the same trainer, in float32 and not compiled), "lucidrains", or
            `module:function`, see `pir.bench.contenders`.
        seconds: that a round takes at least; it has at least one step.
        device: where to compute.
        batch_size: in place of the preset's.
        tell: is told in a line what was measured, when everyone is warm and after every round.

    Raises:
        UserError: if there is no such preset or peer.
    """
    for name in against:
        if name != "float32":
            find_peer(name)  # before anything is compiled
    for preset in presets:
        check_choice("preset", preset, list(PRESETS))
        for words in PRESETS[preset]:
            yield from _in_turn(preset, words, against, seconds, device, batch_size, tell)


def _in_turn(
    preset: str,
    words: list[str],
    against: Sequence[str],
    seconds: float,
    device: torch.device,
    batch_size: int | None,
    tell: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Measures one model and its peers."""
    config = composed("train", [*words, f"device={device}", "run=null"]).config
    counts, held, before = dict[str, int](), dict[str, int](), memory_in_use(device)
    trainer = trainer_of(config, batch_size)
    ours = Trained(trainer)
    trainers, contenders = {"pir": trainer}, dict[str, Contender](pir=ours)
    model = next(w.partition("=")[2] for w in words if w.startswith("model="))
    for name in ("pir", *against):
        if name == "float32":
            config.model.dtype, config.trainer.compile = "float32", "none"
            trainers[name] = trainer_of(config, batch_size)
            contenders[name] = Trained(trainers[name])
        elif name != "pir":
            contenders[name] = PeerSteps(peer_step(name, _shapes(trainer, config)), device)
        contenders[name].run(1)  # warm up, and see how long a step takes
        taken = contenders[name].run(1)
        counts[name] = max(1, math.ceil(seconds / max(taken, 1e-9)))
        now = memory_in_use(device)
        held[name], before = max(0, now - before), now
        tell(f"{preset} {model}: {name} is warm, {1000 * taken:,.1f} ms/step")
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    memory = dict.fromkeys(contenders, 0)
    for number in range(1, ROUNDS + 1):
        for name, contender in contenders.items():
            peak = PeakMemory(device)
            rounds[name].append(contender.run(counts[name]) / counts[name])
            of_others = sum(held.values()) - held[name]
            memory[name] = max(memory[name], peak.read() - of_others)
        last = ", ".join(f"{name} {1000 * each[-1]:,.1f}" for name, each in rounds.items())
        tell(f"{preset} {model}: round {number} of {ROUNDS}, ms/step: {last}")
    lanes = trainer.settings.batch_size
    for name in contenders:
        taken = median(rounds[name])
        row = {
            "preset": preset,
            "model": model,
            "contender": name,
            "batch_size": lanes,
            "tokens": trainer.puzzle.length,
            "milliseconds": 1000 * taken,
            "milliseconds_of_rounds": [1000 * each for each in rounds[name]],
            "times_as_long_as_pir": taken / median(rounds["pir"]),
            "improvement_steps_per_second": lanes / taken,
            "tokens_per_second": lanes * trainer.puzzle.length / taken,
            "peak_memory_bytes": memory[name],
        }
        shares = ours.shares(counts[name]) if name == "pir" else None
        yield row | _utilisation(trainers.get(name), taken, seconds) | {"shares": shares}


def trainer_of(config: DictConfig, batch_size: int | None = None) -> Trainer:
    """Builds a trainer that ends after optimizer steps alone, and validates on one puzzle."""
    torch.manual_seed(0)
    parts, node = Components.build(config, build_puzzle(config)), config.trainer
    names = [e.name for e in fields(TrainerSettings) if not OmegaConf.is_missing(node, e.name)]
    given = TrainerSettings(**{name: node[name] for name in names})
    given = replace(given, batch_size=batch_size or given.batch_size)
    question = torch.zeros(1, parts.puzzle.length, dtype=torch.uint8, device=parts.device)
    settings = replace(
        given,
        compile=chosen_mode(given, parts.reasoner, question),
        max_minutes=None,
        max_optimizer_steps=1,
        patience=None,
        eval_every=MOST_COUNTED,
        val_puzzles=1,
    )
    named = parts.reasoner.trained_parameters()
    return Trainer(
        parts.puzzle,
        parts.reasoner,
        build_objective(config.objective),
        build(config.optim, "optim", torch.optim.Optimizer, params=named),
        build_schedule(config, parts),
        settings,
    )


def _shapes(trainer: Trainer, config: DictConfig) -> Shapes:
    model, puzzle = config.model, trainer.puzzle
    puzzles = puzzle.sample(trainer.settings.batch_size, "train", seed=0).to(trainer.device)
    length, vocabulary = puzzle.slot_mask.shape
    same = ("hidden_size", "layers", "heads", "mixer", "expansion", "cycles", "latent_steps")
    return Shapes(
        batch_size=trainer.settings.batch_size,
        tokens=length,
        vocabulary=vocabulary,
        **{name: model[name] for name in same},
        dtype=_dtype(trainer),
        device=trainer.device,
        question=puzzles["question"],
        solution=puzzles["solution"],
    )


def _dtype(trainer: Trainer) -> torch.dtype:
    dtype: torch.dtype = getattr(trainer.reasoner, "dtype", torch.float32)
    return dtype


def _utilisation(trainer: Trainer | None, taken: float, seconds: float) -> dict[str, Any]:
    """Returns what is known of a trainer of ours, of a peer that it is not known."""
    if trainer is None:
        return dict.fromkeys(
            (
                "compile",
                "parameters",
                "dtype",
                "flops_per_second",
                "peak_flops_per_second",
                "utilisation",
            )
        )
    question = trainer.validation["question"][:1]
    flops = training_flops_per_step(trainer.reasoner, question) * trainer.settings.batch_size
    peak = product_peak(trainer.device, _dtype(trainer), seconds)
    return {
        "compile": trainer.settings.compile,
        "parameters": trainer.reasoner.parameter_count(),
        "dtype": str(_dtype(trainer)).removeprefix("torch."),
        "flops_per_second": flops / taken,
        "peak_flops_per_second": peak,
        "utilisation": flops / taken / peak,
    }


def product_peak(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Returns the floating-point operations per second of the best of several large products."""
    size = PRODUCT.get(device.type, PRODUCT["cpu"])
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    best, end = float("inf"), None
    while end is None or time_on(device) < end:
        started = time_on(device)
        _ = a @ b
        finished = time_on(device)
        if end is None:  # the first prepares the product
            end = finished + seconds
        else:
            best = min(best, finished - started)
    return 2 * size**3 / best if best < float("inf") else product_peak(device, dtype, 10 * seconds)
