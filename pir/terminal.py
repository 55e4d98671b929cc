"""Text of others on the terminal: control characters are shown, never sent."""

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""Returns text in which what a terminal would obey or hide is written as an escape.

    These are the C0 and C1 controls (line ends too), the marks that change the direction of text,
    and characters without width: `\x1b` is shown in place of the escape character.
    """
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)
