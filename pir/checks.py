"""What a setting may be, and messages that say so; imports nothing but the errors."""

import difflib
from collections.abc import Iterable, Sequence

from pir.errors import UserError


def check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a value that is none of the allowed ones.

    Raises:
        UserError: naming the key, the value and the allowed values.
    """
    if value not in allowed:
        raise UserError(f"{key}={value}: allowed are {', '.join(allowed)}")


def check_seed(key: str, value: int) -> None:
    """Refuses a number that is no seed, or no number of a puzzle in its stream.

    Raises:
        UserError: naming the key and what is allowed.
    """
    if not 0 <= value < 1 << 62:
        raise UserError(f"{key}={value}: allowed are 0 to 2**62 - 1")


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: a near miss if any, and what exists."""
    options = list(allowed)
    near = difflib.get_close_matches(name, options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint} (allowed: {', '.join(sorted(options))})"
