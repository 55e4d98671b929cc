"""Every kind of figure, in one registry: `pir plot` and `pir report` both go over it."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from pir.analysis.figures import curves, exits, harm, latents, passes, statistics, sweeps, waste
from pir.analysis.figures.layout import TITLE, Drawing, of_width
from pir.analysis.figures.style import WIDTH, save_figure, styled
from pir.analysis.reading.runs import (
    CELLS,
    EXITS,
    FACTS,
    GUIDANCE,
    IMPROVEMENT,
    LATENTS,
    METRICS,
    PER_STEP,
    STEP_SIZE,
    STEPS,
    STRATA,
    Run,
)
from pir.analysis.words import label, listed

TITLE_INCHES, TITLE_CHARACTERS = 0.3, 10
"""Height of a line of a figure's title, and characters in an inch of it."""


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        title: what it shows, in a few words.
        draw: makes the figure of one or several runs.
        describe: says in one sentence what it shows of a run, from the data.
        files: what it needs in the run folder.
        grouped: whether runs that differ in their seed only are drawn as one.
    """

    title: str
    draw: Drawing
    describe: Callable[[Run], str]
    files: tuple[str, ...]
    grouped: bool = False

    @styled
    def figure(
        self, runs: Sequence[Run], title: str | None = None, inches: float = WIDTH
    ) -> Figure:
        """Draws runs under a title, by default the puzzle and what is shown.

        Args:
            runs: to draw.
            title: of the figure.
            inches: how wide it is. Text stays as large, and panels that are side by side in a wide
                figure stand under each other in a narrow one.

        Raises:
            UserError: if a run cannot be read.
        """
        with of_width(inches):
            figure = self.draw(runs)
        envs = [*dict.fromkeys(run.facts.env for run in runs)]
        own = f"{listed(envs)}: {self.title[0].lower()}{self.title[1:]}"
        lines = textwrap.wrap(label(title or own), int(TITLE_CHARACTERS * inches)) or [""]
        figure.suptitle("\n".join(lines), **TITLE)
        figure.set_figheight(figure.get_figheight() + TITLE_INCHES * len(lines))
        return figure

    def missing(self, run: Run) -> list[str]:
        """Returns the needed files that the run folder lacks."""
        return [file for file in self.files if not run.has(file)]


KINDS = {
    "improvement": Kind(
        "What every step solves",
        curves.draw_improvement,
        curves.describe_improvement,
        (FACTS, PER_STEP),
        grouped=True,
    ),
    "loss": Kind(
        "What training minimises",
        passes.draw_loss,
        passes.describe_loss,
        (FACTS, METRICS),
        grouped=True,
    ),
    "passes": Kind(
        "What training costs",
        passes.draw_passes,
        passes.describe_passes,
        (FACTS, IMPROVEMENT, METRICS),
        grouped=True,
    ),
    "waterfall": Kind(
        "What every step gains",
        waste.draw_waterfall,
        waste.describe_waterfall,
        (FACTS, PER_STEP),
    ),
    "dead-compute": Kind(
        "Where compute is dead",
        waste.draw_dead_compute,
        waste.describe_dead_compute,
        (FACTS, STEPS, IMPROVEMENT),
    ),
    "margins": Kind(
        "Direction and size of the steps",
        waste.draw_margins,
        waste.describe_margins,
        (FACTS, CELLS),
    ),
    "harm": Kind(
        "What tells that a step harms",
        harm.draw_harm,
        harm.describe_harm,
        (FACTS, STEPS, CELLS),  # it reads no cells, but without labels there are none, and no harm
    ),
    "guidance": Kind(
        "Guidance of the policy",
        sweeps.draw_guidance,
        sweeps.describe_guidance,
        (FACTS, GUIDANCE),
    ),
    "step-size": Kind(
        "Size of the latent step",
        sweeps.draw_step_size,
        sweeps.describe_step_size,
        (FACTS, STEP_SIZE),
    ),
    "exits": Kind(
        "When to stop",
        exits.draw_exits,
        exits.describe_exits,
        (FACTS, EXITS),
        grouped=True,
    ),
    "latents": Kind(
        "Where the steps take the latent state",
        latents.draw_latents,
        latents.describe_latents,
        (FACTS, LATENTS, PER_STEP),
    ),
    "difficulty": Kind(
        "Easy and hard puzzles",
        curves.draw_difficulty,
        curves.describe_difficulty,
        (FACTS, STRATA),
    ),
    "statistics": Kind(
        "Every statistic of the ledger",
        statistics.draw_statistics,
        statistics.describe_statistics,
        (FACTS, PER_STEP),
    ),
}
"""A new kind of figure is one more entry."""


def save_kind(kind: str, folders: Sequence[Path], out: Path) -> None:
    """Writes a figure of run folders.

    Raises:
        UserError: if a run cannot be read or the figure cannot be written.
    """
    save_figure(KINDS[kind].figure([Run(folder) for folder in folders]), out)
