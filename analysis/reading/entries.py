"""Runs with one of their numbers, by their settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from pir.analysis.reading.hardware import short_hardware
from pir.analysis.reading.minutes import MINUTES, SHARE, time_to_share
from pir.analysis.reading.runs import FACTS, IMPROVEMENT, INFO, SUMMARY, TIMING, Run
from pir.analysis.reading.settings import INIT, PACKS, RunSettings, flat, text_of
from pir.analysis.words import NONE, plain

from pir.checks import suggest
from pir.errors import UserError

HARDWARE = "hardware"
"""What a run trained on; runs of which minutes are averaged do not differ in it."""

EXPERIMENT = "experiment"
"""The experiment of a run, or `env=...` where it has none."""

EVALUATION = "eval."
"""What the name of a number of eval.json begins with."""

EVALUATED = ("split", "puzzles", "improvement_steps", "samples", "dtype", "step_noise")
"""Settings of `pir eval` that its numbers depend on, and that eval.json repeats; beside them stand
the file of the puzzles and what was changed of the puzzle."""

Span = tuple[float, float]


class Entry(RunSettings):
    """A run, its settings and one of its numbers.

    Args:
        run: the run.
        metric: a number of summary.json, or with the prefix `eval.` of eval.json, by dotted key;
            or `minutes_to_share`.
        share: of the validation puzzles, for that.

    Attributes:
        settings: every setting by dotted key, as text; `hardware` stands among them.
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
        super().__init__(run)
        self.info = run.content(INFO) or {}
        summary, evaluation = (flat(run.content(file) or {}) for file in (SUMMARY, FACTS))
        self.summary, self.evaluation = _numbers(summary), _numbers(evaluation)
        if metric.startswith(EVALUATION):
            of_evaluation = {
                key: value
                for key, value in evaluation.items()
                if key in (*EVALUATED, "puzzle_file.sha256") or key.startswith("changed.")
            }
            self.settings |= {f"eval.{k}": text_of(v) for k, v in of_evaluation.items()}
        if self.settings.get(EXPERIMENT, "null") == "null" and "env" in self.settings:
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

    def names(self, key: str) -> bool:
        """Says whether a user gave a setting, of the training or of the evaluation."""
        return key.startswith(EVALUATION) or super().names(key)

    def has(self, key: str) -> bool:
        """Says whether a setting is one of this run: without evaluation it has none of that."""
        return bool(self.evaluation) or not key.startswith(EVALUATION)


def alone(entries: Sequence[Entry]) -> set[str]:
    """Returns what makes a difference by itself: where the metric is a time, the hardware too."""
    return {INIT, HARDWARE} if any(entry.timed for entry in entries) else {INIT}


def given_value(entry: Entry, key: str, cell: Sequence[Entry]) -> str:
    """Returns the value of a setting that a user gave; a dash if it is what runs have without."""
    if key in PACKS:
        return entry.at([key])[0] if key in (entry.run.typed or {}) else NONE
    if "." not in key:
        return entry.at([key])[0]
    if not entry.names(key):
        return NONE
    value = entry.varied(key)
    defaults = {other.at([key])[0] for other in cell if not other.names(key)}
    return NONE if value in defaults else value


Groups = dict[tuple[str, ...], list[Entry]]


def grouped(entries: Sequence[Entry], keys: Sequence[str]) -> Groups:
    """Puts runs together that agree in settings, in the order given."""
    groups: Groups = {}
    for entry in entries:
        groups.setdefault(entry.at(keys), []).append(entry)
    return groups


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


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in content.items() if isinstance(value, int | float)}
