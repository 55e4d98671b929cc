"""What eval.json says of an evaluation, as types with their ranges."""

import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any

from pir.system.terminal import one_line

MOST_STEPS = 1_000_000
"""The largest number of an improvement step that is read."""

Steps = Annotated[int, (1, MOST_STEPS)]
Count = Annotated[int, (1, 1 << 53)]
Share = Annotated[float, (0, 1)]
Amount = Annotated[float, (0, 1e300)]
"""Numbers with the least and the most that they can be."""


@dataclass(frozen=True)
class Statistic:
    """A column of the ledger; `label` tells whether it needs the known answer."""

    name: str
    meaning: str
    unit: str
    label: bool


@dataclass(frozen=True)
class Floor:
    """What a policy without a model solves; one of the counts says from how much."""

    solved: Share
    answers: Count | None = None
    training_puzzles: Count | None = None


@dataclass(frozen=True)
class OneBlank:
    """Puzzles with all cells but one revealed."""

    solved: Share
    solved_low: Share
    solved_high: Share
    puzzles: Count


@dataclass(frozen=True)
class Cost:
    """One improvement step of one puzzle."""

    passes_per_step: Count
    flops_per_step: Amount | None
    seconds_per_step: Amount | None
    batch_size: Count


@dataclass(frozen=True)
class BestExit:
    """The best rule to stop early, beside the trained depth."""

    rule: str
    threshold: float
    solved: Share
    forward_passes: Amount
    full_solved: Share
    full_forward_passes: Annotated[float, (1, 1e300)]
    seconds: Amount | None = None
    full_seconds: Amount | None = None


@dataclass(frozen=True)
class ExitPoint:
    """Where a rule stops, as chosen on validation; `state` is what the rule learnt."""

    threshold: float
    improvement_steps: Steps
    state: dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """eval.json; what older evaluations lack is None or empty."""

    env: str
    split: str
    puzzles: Count
    trained_steps: Steps
    improvement_steps: Steps
    checkpoint: str = ""
    parameters: Amount | None = None
    model: str | None = None
    objective: str | None = None
    seed: int | None = None
    statistics: tuple[Statistic, ...] = ()
    dead_fraction: Share | None = None
    live_depth: Amount | None = None
    live_gain: Amount | None = None
    idle_kl: Amount | None = None
    steps_to_solve: Amount | None = None
    fixed_point_rate: Share | None = None
    floors: dict[str, Floor] | None = None
    one_blank: OneBlank | None = None
    rating_name: str = "rating"
    cost: Cost | None = None
    best_exit: BestExit | None = None
    exits: dict[str, ExitPoint] | None = None
    samples: Count | None = None
    sampled_solved: Share | None = None
    coverage: Share | None = None


def read_facts(content: dict[str, Any]) -> Facts:
    """Reads the content of eval.json.

    Raises:
        ValueError: naming the key that is missing, of another type or out of range.
    """
    facts: Facts = _typed(Facts, content, "")
    return facts


def _typed(kind: Any, value: Any, key: str) -> Any:
    """Checks JSON content against dataclasses, tuples, dicts, options, ranges and scalars."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType or origin is typing.Union:
        return None if value is None else _typed(options[0], value, key)
    if origin is Annotated:
        number, (least, most) = _typed(options[0], value, key), options[1]
        if not least <= number <= most:
            raise ValueError(f"{key} is {number}, out of range")
        return number
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(options[0], item, f"{key}.{i}") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: _typed(options[1], item, f"{key}.{name}") for name, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind, include_extras=True)
        given = {field.name for field in fields(kind)} & set(value)
        missing = {f.name for f in fields(kind) if f.default is MISSING} - given
        if missing:
            inside = f" in {key}" if key else ""
            raise ValueError(f"{', '.join(sorted(missing))} missing{inside}")
        arguments = {name: _typed(hints[name], value[name], name) for name in given}
        return typing.cast(type, kind)(**arguments)
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{key} is of another type: {one_line(repr(value), 60)}")
    return value
