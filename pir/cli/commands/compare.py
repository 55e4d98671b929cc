"""`pir compare`: runs against each other at equal forward passes."""

from pathlib import Path

from omegaconf import DictConfig

from pir.checks import check_choice, check_name
from pir.runs.folder import as_json
from pir.runs.names import find_runs
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/compare.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))

    from pir.analysis.figures.style import save_figure
    from pir.analysis.pages import compare_view
    from pir.analysis.reading.groups import give_labels
    from pir.analysis.reading.runs import Run
    from pir.analysis.statistics.compare import compare

    check_name("eval", config.eval)
    folders = find_runs(config.runs, evaluated=True, evaluation=config.eval)
    runs = [Run(folder, config.eval) for folder in folders]
    give_labels(runs, config.label, grouped=True)
    result = compare(runs, config.metric)
    if config.out is not None:
        save_figure(compare_view.draw_comparison(result, config.title), Path(config.out))
        say(config.out, error=True)
    if config.output == "json":
        say(as_json(compare_view.as_json(result)))
    else:
        say(compare_view.as_text(result))
