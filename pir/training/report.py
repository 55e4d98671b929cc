"""What a run tells while it trains: the view of its progress, and rows in files of its folder."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pir.ledger.ledger import Ledger
from pir.runs import schema
from pir.runs.folder import RunFolder
from pir.runs.row_file import RowFile, as_numbers

if TYPE_CHECKING:
    from pir.training.progress import ProgressView
    from pir.training.trainer import Trainer


FILES = (
    schema.METRICS,
    schema.TRAINING_LEDGER,
    schema.TRAINING_OUTCOMES,
    schema.TIMING,
    schema.IMPROVEMENT,
    schema.OUTCOMES,
)
"""The files that rows are written to while a run trains."""


class KeptRows:
    """The rows of a run without a folder.

    Attributes:
        rows: all of them, from the first on.
    """

    def __init__(self) -> None:
        """Starts without rows."""
        self.rows: list[Mapping[str, Any]] = []

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keeps further rows."""
        self.rows.extend(map(as_numbers, rows))


def rows_of(folder: RunFolder | None) -> dict[str, RowFile | KeptRows]:
    """Returns where rows go, by the name of the file."""
    return {name: RowFile(folder.path / name) if folder else KeptRows() for name in FILES}


def view_of(title: str | None) -> "ProgressView | None":
    """Returns the view of a run's progress; None without a title."""
    if title is None:
        return None
    from pir.training.progress import ProgressView  # rich draws from Python's `random` on import

    return ProgressView(title)


def show(trainer: "Trainer") -> None:
    """Brings the view of progress up to date, if it is time to; wall-clock paces nothing else."""
    progress = trainer.progress
    if trainer.view and trainer.view.due():
        trainer.look()
        trainer.view.update(
            share_done=max(trainer.budget_shares().values()),
            optimizer_step=progress.optimizer_step,
            seconds=trainer.state.watch.seconds(),
            loss=progress.interval.get("loss", 0.0) / max(1, progress.interval_updates),
            solved=[row["solved"] for row in trainer.state.ledger.rows()],
            solved_at_end=trainer.state.ledger.solved_share(),
        )


def log_interval(trainer: "Trainer") -> None:
    """Writes one interval's row to metrics.csv, the training ledger and timing.csv."""
    progress, ledger = trainer.progress, trainer.state.ledger
    rows = ledger.rows()
    means = {name: total / progress.interval_updates for name, total in progress.interval.items()}
    row: dict[str, Any] = {
        "optimizer_step": progress.optimizer_step,
        "puzzles_seen": progress.puzzles_seen,
        "forward_passes": trainer.forward_passes,
        "learning_rate": trainer.state.optimizer.param_groups[0]["lr"],
        "loss": means["loss"],
    }
    row |= {f"loss_{name}": means.get(name, "") for name in trainer.objective.terms}
    row |= {name: means.get(name, "") for name in trainer.objective.figure_names}
    solved = ledger.solved_share()
    row |= {
        "depth": trainer.state.schedule.depth,
        "solved": "" if solved is None else solved,
        "dead_fraction": ledger.dead_fraction() if rows else "",
        "live_depth": ledger.live_depth() if rows else "",
    }
    trainer.rows[schema.METRICS].append([row])
    at = {"optimizer_step": progress.optimizer_step}
    trainer.rows[schema.TRAINING_LEDGER].append([at | row for row in rows])
    trainer.rows[schema.TRAINING_OUTCOMES].append([at | r for r in ledger.outcome_rows()])
    taken = {
        "seconds": trainer.state.watch.seconds(),
        "ledger_seconds": progress.ledger_seconds,
    }
    trainer.rows[schema.TIMING].append([at | {k: f"{v:.3f}" for k, v in taken.items()}])
    trainer.logger.log({f"train/{k}": v for k, v in means.items()}, progress.optimizer_step)


def log_validation(trainer: "Trainer", ledger: Ledger) -> None:
    """Writes the rows of an evaluation on the validation puzzles."""
    rows = ledger.rows()
    step = trainer.progress.optimizer_step
    at = {"optimizer_step": step}
    trainer.rows[schema.IMPROVEMENT].append([at | row for row in rows])
    trainer.rows[schema.OUTCOMES].append([at | row for row in ledger.outcome_rows()])
    trainer.logger.log({f"val/{k}": v for k, v in rows[-1].items()}, step)
