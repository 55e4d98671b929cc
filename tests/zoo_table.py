"""The table of the zoo in docs/zoo.md, from the manifests; `make zoo` rewrites it."""

from pathlib import Path

from pir.cli.commands.list import COLUMNS, zoo, zoo_cells

DOCUMENT = Path(__file__).parents[1] / "docs" / "zoo.md"


def table() -> str:
    """Returns the models of the zoo as a table in Markdown."""
    rows = [zoo_cells(row) for row in zoo()]
    lines = [f"| {' | '.join(cells)} |" for cells in [COLUMNS, *rows]]
    return "\n".join([lines[0], "|---" * len(COLUMNS) + "|", *lines[1:]])


def replaced(text: str) -> str:
    """Returns the document with the table as it ought to be."""
    before, rest = text.split("| name |", 1)
    after = rest.split("\n\n", 1)[1]
    return f"{before}{table()}\n\n{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(replaced(DOCUMENT.read_text()))
