"""What a checkpoint may hold: plain data of known kinds, whole and finite.

It is looked at before anything is done with it, so that a file of wrong content is refused in words
and cannot make large what is small on the disk.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pir.system.device import DEVICES

LARGEST = 1 << 62
"""No count is larger: puzzles are numbered by int64."""

DEPTH = 10
"""Containers within containers."""

UNDEFINED = ("ledger.under_way", "ledger.sums")
"""Measurements, which are nan where a statistic is not defined (without a label, say)."""

MASKED = "lanes.now.logits"
"""A model may give a token that a position may not hold minus infinity."""

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
OTHERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Kind(NamedTuple):
    """A test of a value, and its name for messages."""

    holds: Callable[[Any], bool]
    name: str


def _mapping(keys: set[str]) -> Kind:
    return Kind(lambda v: isinstance(v, dict) and v.keys() == keys, f"a mapping of {sorted(keys)}")


def _count(least: int) -> Kind:
    return Kind(
        lambda v: type(v) is int and least <= v < LARGEST, f"a whole number from {least} on"
    )


COUNT = _count(0)
MEANS = Kind(
    lambda v: isinstance(v, dict) and all(type(mean) is float for mean in v.values()),
    "a mapping of names to numbers",
)
SECONDS = Kind(lambda v: type(v) is float and v >= 0, "a number of seconds")
PROGRESS = {
    "optimizer_step": COUNT,
    "improvement_step": COUNT,
    "lane_steps": COUNT,
    "puzzles_seen": COUNT,
    "logged_at": COUNT,
    "evaluated_at": _count(-1),
    "best_solved": Kind(lambda v: type(v) is float and -1 <= v <= 1, "a number from -1 to 1"),
    "best_depth": _count(1),
    "evaluations_since_best": COUNT,
    "interval_updates": COUNT,
    "interval": MEANS,
    "ledger_seconds": SECONDS,
}
"""The fields of `pir.training.state.Progress`."""

TEXT = Kind(lambda v: isinstance(v, str), "text")
TENSOR = Kind(lambda v: isinstance(v, Tensor), "a tensor")
MAPPING = Kind(lambda v: isinstance(v, dict), "a mapping")
WEIGHTS = Kind(
    lambda v: isinstance(v, dict) and bool(v) and all(isinstance(w, Tensor) for w in v.values()),
    "a mapping of names to tensors",
)
BYTES = Kind(lambda v: isinstance(v, Tensor) and v.dtype == torch.uint8 and v.ndim == 1, "bytes")
TEXTS = Kind(lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v), "a list of text")
SEAL = Kind(lambda v: v is None or isinstance(v, str), "text or null")
ROWS = Kind(
    lambda v: (
        isinstance(v, dict)
        and all(
            isinstance(file, dict)
            and file.keys() == {"header", "rows", "sha256"}
            and isinstance(file["header"], str)
            and isinstance(file["sha256"], str)
            and COUNT.holds(file["rows"])
            for file in v.values()
        )
    ),
    "a mapping of files to header, rows and sha256",
)
FACTS = Kind(
    lambda v: isinstance(v, dict) and all(isinstance(fact, str | int) for fact in v.values()),
    "a mapping of names to text and numbers",
)
GENERATORS = Kind(lambda v: isinstance(v, list) and all(map(BYTES.holds, v)), "a list")
LANES = Kind(lambda v: v is None or isinstance(v, dict), "a mapping or null")

KINDS: dict[str, Kind] = {
    "config": TEXT,
    "weights": WEIGHTS,
    "average": WEIGHTS,
    "optimizer": MAPPING,
    "random": Kind(
        lambda v: (
            isinstance(v, dict)
            and {"cpu", "cuda"} <= v.keys() <= {*DEVICES}
            and all(GENERATORS.holds(v[kind]) for kind in v.keys() - {"cpu"})
        ),
        "a mapping of kinds of devices to the states of their generators",
    ),
    "random.cpu": BYTES,
    "random.cuda": GENERATORS,
    "lanes": LANES,
    "ledger": _mapping({"names", "under_way", "counts", "sums"}),
    "ledger.names": TEXTS,
    "ledger.under_way": TENSOR,
    "ledger.counts": TENSOR,
    "ledger.sums": TENSOR,
    "schedule": MAPPING,
    "hard_puzzles": MAPPING,
    "progress": _mapping(set(PROGRESS)),
    **{f"progress.{name}": kind for name, kind in PROGRESS.items()},
    "watch": _mapping({"seconds"}),
    "watch.seconds": SECONDS,
    "run": _mapping({"id", "best", "rows", "machine"}),
    "run.id": TEXT,
    "run.best": SEAL,
    "run.rows": ROWS,
    "run.machine": FACTS,
}
"""What a checkpoint holds, by place; see `pir.training.resume.snapshot`."""

CONTENT = tuple(key for key in KINDS if "." not in key)


def fault(payload: dict[str, Any]) -> str | None:
    """Returns what is wrong with the content of a checkpoint, None if nothing is."""
    try:
        for place, value in walk(payload):
            wrong = _not_plain(value)
            if wrong:
                return f"{place} is {wrong}"
    except ValueError as error:
        return str(error)
    for place, kind in KINDS.items():
        found: Any = payload
        for name in place.split("."):
            found = found[name]
        if not kind.holds(found):
            return f"{place} is {describe(found)}, allowed is {kind.name}"
    endless = not_finite(payload)
    return f"{endless} is infinite or not a number" if endless else None


def _not_plain(value: Any) -> str | None:
    """Says what keeps a value from being plain data: a number, text, or a dense real tensor."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
            return "no dense tensor"
        if value.dtype not in FLOATS + OTHERS:
            return f"a tensor of {value.dtype}"
        if not _is_compact(value):
            return "a part or a repetition of a stored tensor"
    elif isinstance(value, float):
        return None if isfinite(value) else str(value)
    elif isinstance(value, int):
        return None if -LARGEST < value < LARGEST else "no count"
    elif value is not None and type(value) not in (str, dict, OrderedDict, list, tuple):
        return describe(value)
    return None


def not_finite(payload: dict[str, Any]) -> str | None:
    """Returns the place of the first number that is infinite or not a number; None if none is.

    What may be is left out by name: `UNDEFINED`, and minus infinity in `MASKED`.
    """
    for place, value in walk(payload):
        if isinstance(value, float) and not isfinite(value):
            return place
        if isinstance(value, Tensor) and value.is_floating_point() and place not in UNDEFINED:
            good = value.isfinite()
            if place == MASKED:
                good = good | value.isneginf()
            if not bool(good.all()):
                return place
    return None


def walk(
    value: Any, place: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yields every value inside nested containers with its place, the containers themselves too.

    A container that is met again is not gone into again.

    Raises:
        ValueError: if containers lie too deep in one another.
    """
    seen = set() if seen is None else seen
    if place:
        yield place, value
    if not isinstance(value, dict | list | tuple) or id(value) in seen:
        return
    if depth > DEPTH:
        raise ValueError(f"{place} lies too deep")
    seen.add(id(value))
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from walk(item, f"{place}.{name}" if place else str(name), depth + 1, seen)


def with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Returns nested containers in which every tensor is changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        changed = OrderedDict((name, with_tensors(item, change)) for name, item in value.items())
        vars(changed).update(getattr(value, "__dict__", {}))  # what torch and torchrl add
        return changed if isinstance(value, OrderedDict) else dict(changed)
    if isinstance(value, list | tuple):
        return type(value)(with_tensors(item, change) for item in value)
    return value


def compact(tensor: Tensor) -> Tensor:
    """Returns a tensor with storage of its own size.

    Parts of a larger one would be stored with all of it; repeated ones look large and are not.
    """
    if _is_compact(tensor):
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _is_compact(tensor: Tensor) -> bool:
    size = tensor.numel() * tensor.element_size()
    return tensor.is_contiguous() and tensor.untyped_storage().nbytes() == size


def differences(saved: Any, own: Any, place: str) -> Iterator[str]:
    """Yields where the structure of saved data is not that of our own, in words.

    Structure is names, lengths and types, and of tensors shape and dtype; floating-point numbers of
    any precision are alike.
    """
    if isinstance(own, dict) and isinstance(saved, dict):
        for name in dict.fromkeys([*own, *saved]):
            if name in own and name in saved:
                yield from differences(saved[name], own[name], f"{place}.{name}")
            else:
                there = "is missing" if name in own else "is unknown"
                yield f"{place}.{name} {there}"
    elif isinstance(own, list | tuple) and type(saved) is type(own) and len(saved) == len(own):
        for number, pair in enumerate(zip(saved, own, strict=True)):
            yield from differences(*pair, f"{place}.{number}")
    elif isinstance(own, Tensor) and isinstance(saved, Tensor):
        floating = saved.is_floating_point() and own.is_floating_point()
        if saved.shape != own.shape or not (floating or saved.dtype == own.dtype):
            yield f"{place} is {describe(saved)} there, {describe(own)} here"
    elif _kind(saved) is not _kind(own) or isinstance(own, list | tuple):
        yield f"{place} is {describe(saved)} there, {describe(own)} here"


def _kind(value: Any) -> type:
    """Returns a value's type; whole numbers and others are alike, such as learning rates."""
    return float if type(value) is int else type(value)


def describe(value: Any) -> str:
    """Returns a value for a message: what it is, and shortened if it is long."""
    if isinstance(value, Tensor):
        shape = "x".join(map(str, value.shape)) or "scalar"
        return f"{shape} {str(value.dtype).removeprefix('torch.')}"
    if value is None:
        return "null"
    if isinstance(value, dict | list | tuple):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, bool | int | float | str):
        text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST else "huge"
        return text if len(text) < 50 else f"{text[:40]}..."
    return f"a {type(value).__name__}"
