"""Runs by their settings: which values they have, and in which of them runs differ."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pir.analysis.reading.hardware import short_hardware
from pir.analysis.reading.minutes import MINUTES, SHARE, time_to_share
from pir.analysis.reading.runs import FACTS, IMPROVEMENT, INFO, SUMMARY, TIMING, Run
from pir.analysis.words import NONE, plain

from pir.checks import suggest
from pir.errors import UserError

FREE = ("seed", "device", "logger", "trainer.threads", "trainer.max_minutes")
"""What may differ between runs that are averaged: the seed, where they ran, the guard on time."""

INIT = "init"
"""The run that another began with; it has no parts, and still is no mere name of a choice."""

HARDWARE = "hardware"
"""What a run trained on; runs of which minutes are averaged do not differ in it."""

EXPERIMENT = "experiment"
"""The experiment of a run, or `env=...` where it has none."""

EVALUATION = "eval."
"""What the name of a number of eval.json begins with."""

EVALUATED = ("split", "puzzles", "improvement_steps", "samples")
"""Settings of `pir eval` that its numbers depend on, and that eval.json repeats."""

Span = tuple[float, float]


class Entry:
    """A run, its settings and one of its numbers.

    Args:
        run: the run.
        metric: a number of summary.json, or with the prefix `eval.` of eval.json, by dotted key;
            or `minutes_to_share`.
        share: of the validation puzzles, for that.

    Attributes:
        settings: every setting by dotted key, as text; `objective` and the like are the choices,
            and `hardware` stands among them.
        info: where the run comes from.
        summary: the numbers of summary.json.
        evaluation: those of eval.json.
        timed: whether the metric is `minutes_to_share`.
        time: what the validations say about it; None where the run has no timed one.
        value: the metric; None where the run lacks it, or never came to the share.
        interval: of the metric over puzzles, where summary.json has one.
    """

    def __init__(self, run: Run, metric: str, share: float = SHARE) -> None:
        """Reads the files."""
        self.run = run
        self.info = run.content(INFO) or {}
        summary, evaluation = (flat(run.content(file) or {}) for file in (SUMMARY, FACTS))
        self.summary, self.evaluation = _numbers(summary), _numbers(evaluation)
        settings = {key.removeprefix("choices."): v for key, v in flat(run.config).items()}
        if metric.startswith(EVALUATION):
            settings |= {f"eval.{key}": v for key, v in evaluation.items() if key in EVALUATED}
        self.settings = {key: _text(value) for key, value in settings.items()}
        if settings.get(EXPERIMENT) is None and "env" in settings:
            self.settings[EXPERIMENT] = f"env={self.settings['env']}"
        self.settings[HARDWARE] = short_hardware(self.info, self.device)
        self.timed = metric == MINUTES
        self.time = time_to_share(run, share) if self.timed else None
        self.value = self.numbers(metric).get(metric.removeprefix(EVALUATION))
        if self.time is not None:
            self.value = self.time.minutes
        match summary.get(f"{metric}_interval"):
            case [int() | float() as low, int() | float() as high]:
                self.interval: Span | None = (low, high)
            case _:
                self.interval = None

    @property
    def device(self) -> str:
        """The setting `device`."""
        return str(self.run.config.get("device", "auto"))

    @property
    def commit(self) -> str:
        """The commit of info.json, shortened; `+changes` marks edited code."""
        whole = str(self.info.get("commit") or "unknown")
        return plain(f"{whole[:7]}{'+changes' if '+' in whole else ''}")

    @property
    def measured(self) -> bool:
        """Whether the run says something about the metric, if only that it was not reached."""
        return self.value is not None or self.time is not None

    def numbers(self, metric: str) -> dict[str, float]:
        """Returns the numbers of the file that a metric is of."""
        return self.evaluation if metric.startswith(EVALUATION) else self.summary

    def at(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Returns the values of settings, a dash for one that the run does not have."""
        return tuple(self.settings.get(key, NONE) for key in keys)


Groups = dict[tuple[str, ...], list[Entry]]


def grouped(entries: Sequence[Entry], keys: Sequence[str]) -> Groups:
    """Puts runs together that agree in settings, in the order given."""
    groups: Groups = {}
    for entry in entries:
        groups.setdefault(entry.at(keys), []).append(entry)
    return groups


def differing(entries: Sequence[Entry]) -> list[str]:
    """Returns the settings in which runs differ; where choices do, those stand for what they set.

    A choice alone makes no difference: two recipes may set the same. Hardware makes one where the
    metric is a time.
    """
    alone = {INIT, HARDWARE} if any(entry.timed for entry in entries) else {INIT}
    keys = dict.fromkeys(key for entry in entries for key in entry.settings)
    apart = [
        key
        for key in keys
        if key not in FREE and not key.startswith("logger.") and len(_values(entries, key)) > 1
    ]
    set_by = {key.split(".")[0] for key in apart if "." in key}
    chosen = [key for key in apart if key in set_by or key in alone]
    return chosen + [key for key in apart if "." in key and key.split(".")[0] not in chosen]


def _values(entries: Sequence[Entry], key: str) -> set[tuple[str, ...]]:
    """Returns the values of a setting; a run without an evaluation has none of that."""
    of_evaluation = key.startswith(EVALUATION)
    return {entry.at([key]) for entry in entries if entry.evaluation or not of_evaluation}


def refuse_unknown_settings(entries: Sequence[Entry], axis: str, keys: Sequence[str]) -> None:
    """Refuses keys that are settings of no run.

    Raises:
        UserError: naming what there is beside it.
    """
    known = {key for entry in entries for key in entry.settings}
    for key in keys:
        if key not in known:
            near = [k for k in known if "." not in k or k.split(".")[0] == key.split(".")[0]]
            raise UserError(f"{axis}={key} is no setting of these runs{suggest(key, near)}")


def refuse_unknown_metric(entries: Sequence[Entry], metric: str) -> None:
    """Refuses a metric that no run has.

    Raises:
        UserError: naming those that there are.
    """
    if any(entry.measured for entry in entries):
        return
    if metric == MINUTES:
        raise UserError(
            f"metric={MINUTES}: none of the runs has validations ({IMPROVEMENT}) with their times "
            f"({TIMING})"
        )
    prefix = EVALUATION if metric.startswith(EVALUATION) else ""
    names = {f"{prefix}{name}" for entry in entries for name in entry.numbers(metric)}
    names |= set() if prefix else {MINUTES}
    raise UserError(f"metric={metric} is a number of none of the runs{suggest(metric, names)}")


def refuse_same_seed(entries: Sequence[Entry]) -> None:
    """Refuses runs that do not even differ in their seed: the same twice is no second seed.

    Raises:
        UserError: naming two of them.
    """
    for (seed,), (first, *others) in grouped(entries, ["seed"]).items():
        if others:
            raise UserError(
                f"{first.run.folder} and {others[0].run.folder} have the same settings and the "
                f"same seed, {seed}: name one of them only"
            )


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested content by dotted keys."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        key = f"{prefix}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in content.items() if isinstance(value, int | float)}


def _text(value: Any) -> str:
    """Writes a setting so that equal ones are equal: 1 and 1.0 are."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return plain(value if isinstance(value, str) else json.dumps(value, default=str))
