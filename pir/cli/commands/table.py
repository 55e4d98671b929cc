"""`pir table`: means over seeds of many runs, by settings in rows and columns; a figure too."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from pir.checks import FIGURES, check_choice, check_ending, check_name
from pir.runs.folder import as_json, write_text
from pir.runs.names import find_runs
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/table.yaml for the settings."""
    check_choice("output", config.output, ("text", "markdown", "json"))
    check_name("eval", config.eval)
    out = None if config.out is None else Path(config.out)
    if out is not None:
        check_ending(out, (".md", *FIGURES))

    from pir.analysis.pages import table_view
    from pir.analysis.pages.table_view import row_names
    from pir.analysis.reading.groups import read_labels
    from pir.analysis.reading.runs import Run
    from pir.analysis.statistics.table import make_table

    rows, columns = _keys(config.rows), _keys(config.columns)
    runs = [Run(folder, config.eval) for folder in find_runs(config.runs)]
    table = make_table(runs, rows, columns, config.metric, config.share)
    if config.label is not None:
        table = replace(table, labels=tuple(read_labels(config.label, row_names(table))))
    table = replace(table, title=config.title)
    words = [f"runs={config.runs}", f"rows={_typed(rows)}", f"columns={_typed(columns)}"]
    words += [f"metric={config.metric}", *([f"share={config.share:g}"] if table.timed else [])]
    words += [f"{key}={config[key]}" for key in ("eval", "label", "title") if config[key]]
    command = shlex.join(["pir", "table", *words])
    if out is not None:
        if out.suffix == ".md":
            write_text(out, table_view.as_markdown(table, command) + "\n")
        else:
            from pir.analysis.figures.style import save_figure
            from pir.analysis.pages.table_figure import draw_table

            save_figure(draw_table(table), out)
        say(out, error=True)
    if config.output == "json":
        say(as_json(table_view.as_json(table, command)))
    else:
        width = shutil.get_terminal_size((table_view.WIDTH, 1)).columns
        text = table_view.as_text(table, command, width)
        say(text if config.output == "text" else table_view.as_markdown(table, command))


def _keys(value: Any) -> list[str]:
    """Reads one key of a setting, or a list of them."""
    return [str(key) for key in (value if isinstance(value, ListConfig) else [value])]


def _typed(keys: list[str]) -> str:
    """Writes keys as the user types them."""
    return keys[0] if len(keys) == 1 else f"[{','.join(keys)}]"
