"""The page of a report: `report.html` filled in, every text escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pir.analysis.words import plain


@dataclass(frozen=True)
class PageTable:
    """A table that scrolls inside its box; the first cell of a row is its heading.

    Attributes:
        caption: what the table holds.
        header: of every column.
        rows: the cells.
        words: columns that hold sentences.
        marked: a row to set off.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = ()
    marked: int | None = None


def page(**content: Any) -> str:
    """Returns the page with this content."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html").render(content)


def _printable(content: Any) -> Any:
    """Makes any text printable, and keeps the signs of per cent with their numbers."""
    is_markup = hasattr(content, "__html__")
    return content if is_markup else plain(str(content)).replace(" %", "\N{NO-BREAK SPACE}%")
