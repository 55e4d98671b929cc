"""`pir list`: what there is to choose from."""

import json
from typing import Any

from omegaconf import DictConfig
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from pir.checks import check_choice
from pir.runs.names import shipped
from pir.runs.records import read_manifest
from pir.settings.catalog import GROUPS, choices
from pir.system.terminal import printable, say

ZOO = "zoo"
"""The trained models that come with this package."""

COLUMNS = ("name", "puzzle", "parameters", "solved", "min", "hardware", "kB")


def run(config: DictConfig) -> None:
    """Runs the command; see configs/list.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    plural = {group: name for name, group in GROUPS.items()}
    what = plural.get(config.what, config.what)
    if what is not None:
        check_choice("what", what, (*GROUPS, ZOO))
    wanted = [what] if what else [*GROUPS, ZOO]
    found = {name: zoo() if name == ZOO else choices(GROUPS[name]) for name in wanted}
    if config.output == "json":
        say(json.dumps(found[what] if what else found))
        return
    table = Table(box=None, pad_edge=False, show_header=what == ZOO, collapse_padding=what == ZOO)
    if what == ZOO:
        for column in COLUMNS:
            side: JustifyMethod = "left" if column in ("name", "puzzle", "hardware") else "right"
            table.add_column(column, justify=side, no_wrap=column != "hardware")
        for row in found[ZOO]:
            table.add_row(*zoo_cells(row))
    else:
        for name, rows in found.items():
            if not what:
                table.add_row(Text(name, style="bold"), "")
            for row in rows:
                key = "run=zoo:" if name == ZOO else f"{GROUPS[name]}="
                texts = (f"  {key}{row['name']}", row["summary"])
                table.add_row(*(Text(printable(text)) for text in texts))
    Console().print(table)


def zoo() -> list[dict[str, Any]]:
    """Returns what the manifests say of the models of the zoo."""
    rows = []
    for name, folder in shipped().items():
        manifest = read_manifest(folder.manifest)
        last, puzzle = manifest.evaluation.per_step[-1], manifest.config["choices"]["env"]
        summary = f"{puzzle}, {manifest.parameters:,} parameters: {last.solved:.1%} solved"
        rows.append(
            {
                "name": name,
                "summary": summary,
                "puzzle": puzzle,
                "parameters": manifest.parameters,
                "solved": last.solved,
                "solved_interval": [last.solved_low, last.solved_high],
                "test_puzzles": manifest.evaluation.puzzles,
                "improvement_steps": manifest.improvement_steps,
                "minutes": manifest.minutes,
                "hardware": manifest.hardware,
                "bytes": manifest.bytes,
                "dtype": manifest.dtype,
            }
        )
    return rows


def zoo_cells(row: dict[str, Any]) -> list[str]:
    """Returns a model of the zoo as the cells of a table, in the order of `COLUMNS`."""
    minutes = "" if row["minutes"] is None else f"{row['minutes']:.1f}"
    return [
        f"{ZOO}:{row['name']}",
        row["puzzle"],
        f"{row['parameters']:,}",
        f"{row['solved']:.1%}",
        minutes,
        row["hardware"],
        f"{row['bytes'] / 1000:,.0f}",
    ]
