"""JSON content as dataclasses: types with ranges, read strictly and written in the order of fields.

A field that is `key(..., within=NAME)` is written only if the field NAME is not None.
"""

import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any

from pir.checks import MOST_STEPS
from pir.system.terminal import one_line

Steps = Annotated[int, (1, MOST_STEPS)]
Count = Annotated[int, (1, 1 << 53)]
Total = Annotated[int, (0, 1 << 53)]
Flag = Annotated[int, (0, 1)]
Share = Annotated[float, (0, 1)]
Amount = Annotated[float, (0, 1e300)]
"""Numbers with the least and the most that they can be."""

Rows = tuple[dict[str, Any], ...]
"""Rows of a table, each by column."""


@dataclass(frozen=True)
class Column:
    """A column of a CSV file, a key of a JSON file or an array of a .npz file.

    Attributes:
        kind: the type, with its range; the type and shape of an array as text.
        meaning: in a few words, with the unit.
    """

    kind: Any
    meaning: str


def key(meaning: str, default: Any = MISSING, within: str | None = None) -> Any:
    """Returns a dataclass field.

    Args:
        meaning: in a few words, with the unit.
        default: what it is in files that lack it; without one it is required.
        within: the field without which this one is not written.
    """
    return field(default=default, metadata={"meaning": meaning, "within": within})


def columns_of(record: type[Any], prefix: str = "") -> Iterator[tuple[str, Column]]:
    """Returns the keys of a record, dotted where records hold records; * is any name."""
    hints = typing.get_type_hints(record, include_extras=True)
    for each in fields(record):
        kind, place = hints[each.name], f"{prefix}{each.name}"
        yield place, Column(kind, each.metadata["meaning"])
        inner = without_none(kind)
        arguments = typing.get_args(inner)
        if typing.get_origin(inner) is dict:
            inner, place = arguments[1], f"{place}.*"
        elif typing.get_origin(inner) is tuple:
            inner, place = arguments[0], f"{place}.*"
        if is_dataclass(inner) and isinstance(inner, type):
            yield from columns_of(inner, f"{place}.")


def without_none(kind: Any) -> Any:
    """Returns the type that an optional one is beside None."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return typing.get_args(kind)[0]
    return kind


def span(kind: Any) -> tuple[Any, float, float]:
    """Returns a scalar type without its range, and the range."""
    kind = without_none(kind)
    if typing.get_origin(kind) is Annotated:
        plain, (least, most) = typing.get_args(kind)
        return plain, least, most
    return kind, float("-inf"), float("inf")


def from_json(kind: Any, value: Any, key: str = "") -> Any:
    """Checks JSON content against dataclasses, tuples, dicts, options, ranges and scalars.

    Args:
        kind: the type.
        value: the content.
        key: its place, for messages.

    Returns:
        The content as that type; keys that a dataclass does not have are left out.

    Raises:
        ValueError: naming the key that is missing, of another type or out of range.
    """
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else from_json(options[0], value, key)
    if origin is Annotated:
        number, (least, most) = from_json(options[0], value, key), options[1]
        if not least <= number <= most:
            raise ValueError(f"{key} is {number}, out of range")
        return number
    if origin in (tuple, list) and isinstance(value, list):
        return origin(from_json(options[0], item, f"{key}.{i}") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: from_json(options[1], item, f"{key}.{name}") for name, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind, include_extras=True)
        given = {field.name for field in fields(kind)} & set(value)
        missing = {f.name for f in fields(kind) if f.default is MISSING} - given
        if missing:
            inside = f" in {key}" if key else ""
            raise ValueError(f"{', '.join(sorted(missing))} missing{inside}")
        arguments = {name: from_json(hints[name], value[name], name) for name in given}
        return typing.cast(type, kind)(**arguments)
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not (origin or kind):
        raise ValueError(f"{key} is of another type: {one_line(repr(value), 60)}")
    return value


def to_json(value: Any) -> Any:
    """Returns dataclasses as plain content, in the order of their fields."""
    if is_dataclass(value):
        return {
            each.name: to_json(getattr(value, each.name))
            for each in fields(value)
            if (within := each.metadata["within"]) is None or getattr(value, within) is not None
        }
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
