"""`pir list`: what there is to choose from."""

import json

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pir.checks import check_choice
from pir.settings.catalog import GROUPS, choices
from pir.system.terminal import printable, say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/list.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    plural = {group: name for name, group in GROUPS.items()}
    what = plural.get(config.what, config.what)
    if what is not None:
        check_choice("what", what, tuple(GROUPS))
    wanted = [what] if what else list(GROUPS)
    found = {name: choices(GROUPS[name]) for name in wanted}
    if config.output == "json":
        say(json.dumps(found[what] if what else found))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, rows in found.items():
        if not what:
            table.add_row(Text(name, style="bold"), "")
        for row in rows:
            texts = (f"  {GROUPS[name]}={row['name']}", row["summary"])
            table.add_row(*(Text(printable(text)) for text in texts))
    Console().print(table)
