"""Where the figures of a table come from: what it takes to measure every one of them again."""

from typing import Any

from pir.analysis.reading.entries import Entry
from pir.analysis.reading.hardware import text_of, whole_hardware
from pir.analysis.reading.minutes import TimeToShare
from pir.analysis.words import number, percent


def origin(entry: Entry) -> dict[str, Any]:
    """Returns a run's time with all that repeats it, for other programs."""
    time = entry.time
    return {
        "run": str(entry.run.folder),
        "seed": entry.run.config.get("seed"),
        "minutes": time and time.minutes,
        "not_within": time.within if time and time.minutes is None else None,
        "optimizer_step": time and time.optimizer_step,
        "validation_solved": time and time.solved,
        "hardware": whole_hardware(entry.info, entry.device),
        "date": text_of(entry.info, "date")[:10] or None,
        "commit": text_of(entry.info, "commit") or None,
        "command": entry.run.started_by or None,
    }


def as_line(entry: Entry) -> str:
    """Writes the same for people, as one line of Markdown."""
    parts = origin(entry)
    command = parts["command"]
    return "; ".join(
        [
            f"seed {parts['seed']}: {_measured(entry.time)}",
            f"{parts['date'] or 'date unknown'}, commit {entry.commit}",
            parts["hardware"],
            f"`{command.replace('`', '?')}`" if command else "command unknown",
        ]
    )


def minutes_text(minutes: float) -> str:
    """Writes `12.3 min`."""
    return f"{number(minutes)} min"


def _measured(time: TimeToShare | None) -> str:
    if time is None:
        return "no validation with its time"
    found = f"{percent(time.solved)} of the validation puzzles at step {time.optimizer_step:,}"
    if time.minutes is None:
        return f"not within {minutes_text(time.within)} ({found})"
    return f"{minutes_text(time.minutes)} ({found})"
