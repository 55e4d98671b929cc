"""Numbers and names as text, for figures, reports and comparisons."""

import math
from collections.abc import Iterable, Sequence

NONE = "\N{EN DASH}"
"""What stands where a value is undefined."""

EXACT = 1e-7
"""Shares that differ by less are equal: they are means of float32."""


def plain(text: str) -> str:
    """Returns a name as one line that can be printed; other characters become `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)


def label(text: str) -> str:
    """Returns a name as a figure's text: $ would start a formula, a first _ hide it in a legend."""
    shown = plain(text)
    return f"{' ' if shown.startswith('_') else ''}{shown}".replace("$", r"\$")


def percent(share: float | None, digits: int = 1) -> str:
    """Writes a share as `96.2 %`; what is not none and not all is `< 0.1 %` and `> 99.9 %`."""
    if share is None or math.isnan(share):
        return NONE
    text, last = f"{100 * share:.{digits}f}", 10**-digits
    if EXACT < share < 1 - EXACT and float(text) in (0, 100):
        text = f"< {last:g}" if share < 0.5 else f"> {100 - last:g}"
    return f"{text} %"


def number(value: float | None, digits: int = 3) -> str:
    """Writes a number with so many significant digits; counts below a million in full."""
    if value is None or not math.isfinite(value):
        return NONE
    rounded = float(f"{value:.{digits}g}")  # what is nearly a thousand is written as one
    if abs(round(value)) >= 1e6:
        size, name = (1e9, "billion") if abs(rounded) >= 1e9 else (1e6, "million")
        return f"{rounded / size:,g} {name}"
    if value == round(value) or abs(rounded) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def millions(value: float) -> str:
    """Writes a count as `0.4 M`, so that large ones can be compared at a glance."""
    return f"{float(f'{value / 1e6:.3g}'):,g} M"


def quantity(value: float | None, unit: str) -> str:
    """Writes a value in its unit: shares in per cent, the rest as a number."""
    return percent(value) if unit.startswith("share") else number(value)


def difference(value: float, unit: str) -> str:
    """Writes a signed difference; of shares in points (see `unit_of_difference`)."""
    return f"{100 * value:+.1f}" if unit.startswith("share") else f"{value:+.3g}"


def unit_of_difference(unit: str) -> str:
    """Returns the unit of what `difference` writes."""
    if unit.startswith("share"):
        return "points"
    return f"on a {scale(unit)}" if " to " in unit else unit


def scale(unit: str) -> str:
    """Writes a unit for the label of an axis; `0 to 1` are the ends of a scale."""
    return f"scale of {unit}" if " to " in unit else unit


def between(low: float, high: float) -> str:
    """Writes `3` or `3 to 5`."""
    first, last = number(low), number(high)
    return first if first == last else f"{first} to {last}"


def steps(first: int, last: int) -> str:
    """Writes `step 2` or `steps 2 to 6`."""
    return f"step {first}" if first == last else f"steps {first} to {last}"


def are_numbers(values: Iterable[str]) -> bool:
    """Says whether all of these are finite numbers."""
    try:
        return all(math.isfinite(float(value)) for value in values)
    except ValueError:
        return False


def listed(words: Sequence[str]) -> str:
    """Joins words as `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
