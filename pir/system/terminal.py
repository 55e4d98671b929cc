"""What is written to the terminal: text of any origin, without the characters that steer one.

File names, puzzles and settings may come from other people. Control characters in them could move
the cursor, change the title or hide text, so every command writes through `say`.
"""

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from contextlib import nullcontext, suppress

USER_ERROR = 2
"""Exit status after a mistake that the user can mend."""

NO_READER = 1
"""Exit status when the reader of the output has seen enough, as `head` has."""

ESCAPED = ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")
"""Unicode categories that are shown as escapes: control and format characters (bidirectional marks,
zero width), separators of lines, and what is no character."""


def printable(text: str) -> str:
    r"""Returns text for a terminal: what steers it becomes an escape such as `\x1b`.

    New lines and tabs stay.
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(map(_shown, text))


def one_line(text: str, width: int = 200) -> str:
    """Returns text as one printable line of at most `width` characters, for messages.

    Where Python's objects lie in memory is left out: libraries say so in their errors.
    """
    line = printable(" ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", text).split()))
    return line if len(line) <= width else f"{line[: width - 4]} ..."


def say(text: object = "", error: bool = False) -> None:
    """Writes a line to standard output, or standard error, at once.

    What is told on standard error is no result: where nobody can read it any more, work goes on.
    """
    with suppress(OSError) if error else nullcontext():
        print(printable(str(text)), file=sys.stderr if error else sys.stdout, flush=True)


def columns() -> int:
    """Returns how wide text for people is: the terminal's width, within 40 to 100 columns."""
    return max(40, min(100, shutil.get_terminal_size((80, 24)).columns))


def paragraph(text: str, indent: int = 0) -> str:
    """Returns text broken at words for a terminal, and as it is for files and pipes.

    Args:
        text: without new lines.
        indent: blanks before further lines.
    """
    if not sys.stdout.isatty() or len(text) <= columns():
        return text
    return textwrap.fill(
        text,
        columns(),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def program() -> str:
    """Returns how `pir` is called here, for commands to copy."""
    if shutil.which("pir"):
        return "pir"
    python = os.path.relpath(sys.executable)
    return f"{sys.executable if python.startswith('..') else python} -m pir"


def write_no_more() -> int:
    """Lets further output vanish, for nobody reads it, and returns the exit status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NO_READER


class Screen:
    """What is known of the terminal; there is one per process.

    Attributes:
        shared: whether other processes write to it too, so that no live view can be drawn.
    """

    shared = False


def _shown(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ESCAPED:
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else (f"\\U{code:08x}")
    )
