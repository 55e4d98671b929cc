"""`pir report`: one page with every figure and table of a run."""

from pathlib import Path

from omegaconf import DictConfig

from pir.runs.names import working_folder
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/report.yaml for the settings."""
    from pir.system.view import View

    folder = working_folder(config.run)
    out = Path(config.out) if config.out else folder.report
    with View(f"pir report {config.run}"):
        from pir.analysis.pages.report import write_report

        write_report(folder.path, out)
    say(out)
