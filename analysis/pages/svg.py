"""Figures inside a page: they take its colours and font, and share its name space of ids."""

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from pir.analysis.figures.style import COLOURS, GRID, INK, MUTED, PAPER, styled
from pir.analysis.words import plain

VARIABLES = {
    INK: "ink",
    "#000000": "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    **{colour.lower(): f"colour-{i}" for i, colour in enumerate(COLOURS[:-1])},
}
"""CSS variable of every colour that a page may put its own in place of."""

REFERENCE = re.compile(r"#([\w-]+)")
"""What stands in `url(#...)` and `href="#..."`."""


@styled
def inline_svg(figure: Figure, prefix: str, description: str) -> str:
    """Returns a figure as an `<svg>` element.

    Args:
        figure: the figure.
        prefix: of its ids, different for every figure of a page.
        description: what it shows, for those who cannot see it.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(stream.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    referenced = {
        name
        for element in root.iter()
        for value in element.attrib.values()
        if value.startswith(("#", "url(#"))
        for name in REFERENCE.findall(value)
    }
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _adapted(name, value, prefix)
            for name, value in element.attrib.items()
            if name != "id" or value in referenced
        }
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": plain(description),
    }
    return ElementTree.tostring(root, encoding="unicode")


def _adapted(name: str, value: str, prefix: str) -> str:
    """Returns an attribute's value with the page's colours and font and the figure's own ids."""
    if name == "id":
        return f"{prefix}-{value}"
    if value.startswith(("#", "url(#")):
        return REFERENCE.sub(rf"#{prefix}-\1", value)
    if name == "style":
        value = re.sub(r"font-family:[^;]*(;|$)", "", value)
        for colour, variable in VARIABLES.items():
            value = value.replace(colour, f"var(--{variable})")
    return value
