"""`pir plot`: a figure of one or several runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pir.checks import check_choice, check_name
from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.runs.names import chosen_runs
from pir.system.terminal import say
from pir.system.view import View

if TYPE_CHECKING:
    from pir.analysis.reading.runs import Run


NARROWEST, WIDEST = 2.5, 20
"""Inches of a figure."""


def run(config: DictConfig) -> None:
    """Runs the command; see configs/plot.yaml for the settings."""
    from pir.analysis.figures.kinds import KINDS
    from pir.analysis.figures.style import save_figure
    from pir.analysis.reading.groups import give_labels
    from pir.analysis.reading.runs import Run

    check_choice("kind", config.kind, tuple(KINDS))
    check_name("eval", config.eval)
    if not NARROWEST <= config.width <= WIDEST:
        raise UserError(f"width={config.width:g}: allowed are {NARROWEST} to {WIDEST} inches")
    kind = KINDS[config.kind]
    folders = chosen_runs(config.run, config.runs, evaluated=True, evaluation=config.eval)
    if config.out is None and len(folders) > 1:
        raise UserError("several runs need out=FILE")
    name = config.kind if config.eval is None else f"{config.kind}-{config.eval}"
    out = config.out or RunFolder(folders[0]).figures / f"{name}.png"

    runs = [Run(folder, config.eval) for folder in folders]
    complete = [run for run in runs if not kind.missing(run)]
    lacking = [
        f"{run.folder} has no {', '.join(files)}, which kind={config.kind} needs: {remedy}"
        for run in runs
        for files, remedy in _remedies(run, kind.missing(run))
    ]
    if not complete:
        raise UserError("\n".join(lacking))
    for line in lacking:
        say(f"left out: {line}", error=True)
    give_labels(complete, config.label, kind.grouped)
    with View(f"pir plot kind={config.kind}"):
        save_figure(kind.figure(complete, config.title, config.width), Path(out))
    say(out)
    for each in complete:
        before = f"{each.name}: " if len(complete) > 1 else ""
        say(f"{before}{kind.describe(each)}", error=True)


def _remedies(run: "Run", missing: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Yields the missing files that one command writes, and those that none does."""
    evaluated = [file for file in missing if file.startswith("eval/")]
    if evaluated:
        yield evaluated, f"`{run.command(*evaluated)}`"
    rest = [file for file in missing if file not in evaluated]
    if rest:
        yield rest, "only training writes this"
