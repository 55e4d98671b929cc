"""Reading files that other people may have written: settings, JSON and CSV.

Every reader takes regular files only (a pipe would wait for ever), up to a size; runs no code; and
turns all that can be wrong with a file into a `UserError` that names it.
"""

import csv
import io
import json
import math
import os
import re
import stat
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import yaml

from pir.errors import UserError
from pir.system.terminal import one_line

MOST_SETTINGS = 1 << 18
"""Bytes of a file of settings; those of a run are a hundredth of it."""

MOST_JSON = 1 << 25
MOST_TABLE = 1 << 28
MOST_CELLS = 20_000_000
MOST_COLUMNS = 1000

DEEPEST = 50
"""Levels of nested settings or JSON."""

LARGEST_INTEGER = 1 << 63


# ---------------------------------------------------------------- files


def open_regular(path: Path, most: int) -> IO[bytes]:
    """Opens a file for reading.

    Raises:
        UserError: if it is no regular file, larger than `most` bytes, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {_reason(error)}") from error
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise UserError(f"{path} cannot be read: it is no regular file")
    if status.st_size > most:
        file.close()
        raise UserError(f"{path} is damaged: {status.st_size:,} bytes, at most {most:,} are read")
    return file


def read_bytes(path: Path, most: int) -> bytes:
    """Reads a file whole; see `open_regular` for what is refused."""
    with open_regular(path, most) as file:
        try:
            return file.read(most)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {_reason(error)}") from error


def refuse(path: object, reason: str | BaseException) -> NoReturn:
    """Raises the `UserError` of a damaged file."""
    raise UserError(f"{path} is damaged: {_reason(reason)}") from (
        reason if isinstance(reason, BaseException) else None
    )


def _reason(reason: str | BaseException) -> str:
    if isinstance(reason, RecursionError):
        return "it is nested too deeply"
    return one_line(str(reason) or type(reason).__name__)


_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


# ---------------------------------------------------------------- settings


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a file of stored settings; see `parse_settings`.

    Raises:
        UserError: if it is missing or damaged.
    """
    return parse_settings(read_bytes(path, MOST_SETTINGS), path)


def parse_settings(text: str | bytes, source: object) -> dict[str, Any]:
    """Reads stored settings: plain YAML without anchors, aliases, tags and merged or double keys.

    Text with `${...}` is text here. To build an OmegaConf config of it, see `literal`.

    Args:
        text: the YAML, UTF-8.
        source: what it was read from, for messages.

    Raises:
        UserError: if it is anything else.
    """
    if not isinstance(text, str | bytes) or len(text) > MOST_SETTINGS:
        refuse(source, f"settings are text of at most {MOST_SETTINGS:,} bytes")
    try:
        content = yaml.load(text, Loader=_SettingsLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        refuse(source, error)
    if not isinstance(content, dict):
        refuse(source, "it holds no settings")
    return content


def literal(content: Any) -> Any:
    r"""Returns settings for OmegaConf that mean the same there: `${` is written `\${`."""
    if isinstance(content, str):
        return re.sub(r"(\\*)\$\{", lambda found: found.group(1) * 2 + r"\${", content)
    if isinstance(content, Mapping):
        return {key: literal(value) for key, value in content.items()}
    if isinstance(content, Sequence):
        return [literal(value) for value in content]
    return content


def refuse_aliases(path: Path) -> None:
    """Refuses a file of settings with anchors or aliases: a few lines of them can fill any memory.

    Raises:
        UserError: naming the place; also if the file cannot be read, or is no YAML.
    """
    text = read_bytes(path, MOST_SETTINGS)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) is not None:
                refuse(path, f"anchors and aliases are refused ({event.start_mark})")
    except (yaml.YAMLError, ValueError) as error:
        refuse(path, error)


class _SettingsLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Takes nodes as they come, so that what is refused is refused before it grows."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.depth += 1
        reason = (
            "anchors and aliases are refused"
            if event.anchor is not None
            else f"tag {event.tag} is refused"
            if getattr(event, "tag", None) is not None
            else "it is nested too deeply"
            if self.depth > DEEPEST
            else ""
        )
        if reason:
            raise yaml.MarkedYAMLError(None, None, reason, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(None, None, "a key is no text", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key.value} comes twice", key.start_mark)
            seen.add(key.value)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return content


# As OmegaConf writes them: 1e-05 is a number, 2026-11-26 is text.
_SettingsLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if not pair[0].endswith(":timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


# ---------------------------------------------------------------- JSON


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object; NaN is read as null.

    Raises:
        UserError: if it is damaged, nested deeper than `DEEPEST`, or holds an infinite number or a
            whole number of 2**63 or more.
    """
    text = read_bytes(path, MOST_JSON)
    try:
        content = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
        _refuse_deep(content)
    except (ValueError, RecursionError) as error:
        refuse(path, error)
    if not isinstance(content, dict):
        refuse(path, "it holds no object")
    return content


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= LARGEST_INTEGER:
        raise ValueError(f"{digits[:20]}... is too large a number")
    return int(digits)


def _finite(digits: str) -> float | None:
    if digits == "NaN":  # undefined, as null is
        return None
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:20]} is no number")
    return value


def _refuse_deep(content: Any) -> None:
    level = [content]
    for _ in range(DEEPEST):
        level = [
            item
            for holder in level
            if isinstance(holder, dict | list)
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return
    raise RecursionError


# ---------------------------------------------------------------- CSV


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Reads a CSV file: a header and at least one row, all of one length.

    Returns:
        the names of the columns, and the rows.

    Raises:
        UserError: naming the line, if the file is damaged or holds more than `MOST_CELLS` cells.
    """
    rows: list[list[str]] = []
    with open_regular(path, MOST_TABLE) as file:
        stream = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        reader = csv.reader(stream)
        try:
            header = next(reader, [])
            if not header or len(header) > MOST_COLUMNS or len(set(header)) < len(header):
                raise ValueError("its header names no columns, too many, or one twice")
            for row in reader:
                if len(row) != len(header):
                    raise ValueError(f"{len(row)} cells, the header has {len(header)}")
                rows.append(row)
                if len(rows) * len(header) > MOST_CELLS:
                    raise ValueError(f"more than {MOST_CELLS:,} cells")
        except (csv.Error, ValueError, OSError) as error:
            refuse(path, f"line {max(1, reader.line_num)}: {error}")
    if not rows:
        refuse(path, "no rows")
    return header, rows
