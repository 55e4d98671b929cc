"""The parts of a self-contained HTML page; every text is escaped here."""

import html
from collections.abc import Iterable, Sequence

from pir.analysis.words import plain

STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1b1d; --muted: #5e5e61; --grid: #e4e4e7; --paper: #fefefe; --card: #f5f5f7;
  --colour-0: #0072b2; --colour-1: #d55e00; --colour-2: #009e73; --colour-3: #cc79a7;
  --colour-4: #e69f00; --colour-5: #56b4e9; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8e8ea; --muted: #a3a3a8; --grid: #36363b; --paper: #18181b; --card: #232327;
  --colour-0: #4aa8e8; --colour-1: #f5853f; --colour-2: #2cc79b; --colour-3: #e39cc4;
  --colour-4: #f2b63c; --colour-5: #86cdf5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .8rem; border-bottom: 1px solid var(--grid); }
h3 { font-size: 1.05rem; margin: 0 0 .4rem; }
a { color: var(--colour-0); }
code { font: .84em ui-monospace, monospace; background: var(--card); padding: .1em .35em;
  border-radius: .25em; }
small, .note { color: var(--muted); font-size: .87rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; padding: 0; }
.facts, .tiles { display: grid; gap: .6rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.facts > div { min-width: 0; }
.tiles { grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); }
.tiles > div { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; min-width: 0; }
dt { color: var(--muted); font-size: .87rem; }
dd { margin: 0; }
.tiles dd { font-size: 1.55rem; line-height: 1.25; }
.tiles dd small { display: block; font-size: .84rem; line-height: 1.35; }
figure { margin: 0 0 2.4rem; }
figcaption p { margin: .3rem 0; }
.scroll { overflow-x: auto; background:
  linear-gradient(90deg, var(--paper) 30%, transparent) left / 3rem 100% no-repeat local,
  linear-gradient(-90deg, var(--paper) 30%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(90deg, var(--grid), transparent) left / 1rem 100% no-repeat,
  linear-gradient(-90deg, var(--grid), transparent) right / 1rem 100% no-repeat; }
figure svg { display: block; width: 100%; min-width: 40rem; height: auto;
  stroke-linejoin: round; stroke-linecap: butt; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--grid); text-align: right;
  white-space: nowrap; vertical-align: top; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th[scope=row] { text-align: left; font-weight: 500; position: sticky; left: 0;
  background: var(--paper); }
.words { text-align: left; white-space: normal; min-width: 16rem; }
tr.marked > * { background: var(--card); }
.scroll:has(table) { margin: 0 0 1.8rem; }
"""


def text(content: str) -> str:
    """Escapes any text, and keeps the signs of per cent with their numbers."""
    return html.escape(plain(content)).replace(" %", "&nbsp;%")


def definitions(pairs: Iterable[tuple[str, str, str]], kind: str) -> str:
    """Returns terms with their values and notes on them as a list of class `kind`."""
    items = "".join(
        f"<div><dt>{text(term)}</dt><dd>{text(value)}"
        + (f"<small>{text(note)}</small>" if note else "")
        + "</dd></div>"
        for term, value, note in pairs
    )
    return f'<dl class="{kind}">{items}</dl>'


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: Sequence[int] = (),
    marked: int | None = None,
) -> str:
    """Returns a table that scrolls inside its box; the first cell of a row is its heading.

    Args:
        caption: what the table holds.
        header: of every column.
        rows: the cells.
        words: columns that hold sentences.
        marked: a row to set off.
    """

    def cell(column: int, content: str) -> str:
        style = ' class="words"' if column in words else ""
        if column == 0:
            return f'<th scope="row"{style}>{text(content)}</th>'
        return f"<td{style}>{text(content)}</td>"

    def heading(column: int, content: str) -> str:
        # the first column and sentences are flush left, as are their headings
        style = ' class="words"' if column in words else ""
        left = ' style="text-align: left"' if column == 0 else ""
        return f'<th scope="col"{style}{left}>{text(content)}</th>'

    head = "".join(heading(column, content) for column, content in enumerate(header))
    body = "".join(
        f"<tr{' class=marked' if number == marked else ''}>"
        + "".join(cell(column, content) for column, content in enumerate(row))
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return (
        f'<div class="scroll" role="region" aria-label="{text(caption)}" tabindex="0"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def figure(name: str, title: str, svg: str, sentence: str, command: str) -> str:
    """Returns a figure with its sentence and the command that draws it anew."""
    return (
        f'<figure id="{text(name)}"><h3>{text(title)}</h3>'
        f'<div class="scroll" role="region" aria-label="{text(title)}" tabindex="0">{svg}</div>'
        f"<figcaption><p>{text(sentence)}</p><p><code>{text(command)}</code></p></figcaption>"
        "</figure>"
    )


def section(name: str, title: str, *parts: str) -> str:
    """Returns a section with a heading, or nothing where there is nothing to show."""
    content = "\n".join(filter(None, parts))
    if not content:
        return ""
    return f'<section id="{name}"><h2>{text(title)}</h2>\n{content}</section>'


def page(title: str, *parts: str) -> str:
    """Returns a whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main></body></html>\n"
    )
