"""`pir report`: one page with every figure and table of a run."""

from pathlib import Path

from omegaconf import DictConfig

from pir.checks import check_name
from pir.runs.names import working_folder
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/report.yaml for the settings."""
    from pir.system.view import View

    check_name("eval", config.eval)
    folder = working_folder(config.run)
    named = folder.report
    if config.eval is not None:
        named = named.with_stem(f"{named.stem}-{config.eval}")
    out = Path(config.out) if config.out else named
    with View(f"pir report {config.run}"):
        from pir.analysis.pages.report import write_report
        from pir.analysis.reading.runs import Run

        write_report(Run(folder.path, config.eval), out, config.title)
    say(out)
