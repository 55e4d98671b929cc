"""A checkpoint of a run, and how the run goes on from it to the bit."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pir.errors import UserError
from pir.runs import checkpoint
from pir.runs.checkpoint_content import describe, differences, walk, with_tensors
from pir.runs.folder import RunFolder, run_info, write_json
from pir.runs.folder_lock import remove
from pir.runs.row_file import RowFile
from pir.system import processes
from pir.system.terminal import one_line, say
from pir.training.machine import machine, say_other_machine
from pir.training.parallel import gathered, shared_out
from pir.training.record import refuse_other_settings

if TYPE_CHECKING:
    from pir.training.trainer import Trainer


@contextmanager
def opened(trainer: "Trainer") -> Iterator[None]:
    """Keeps other processes out of the folder of a run, if there is one, while the run trains.

    It makes the folder of a run that begins in Python; `pir train` has made its own.

    Raises:
        UserError: if another process trains in it, it holds another run, or cannot be written.
    """
    folder = trainer.folder
    if folder is None or processes.rank() > 0:
        yield
        return
    with folder.claim():
        if trainer.progress.evaluated_at < 0 and folder.last.is_file():
            raise UserError(
                f"{folder.path} already holds a run: go on by Trainer.resume(), or name another "
                "folder"
            )
        if not folder.info.exists():
            started = datetime.now(UTC).isoformat(timespec="seconds")
            about = {"run_id": folder.run_id, "seed": trainer.seed, "date": started}
            write_json(folder.info, run_info() | about | {"inputs": {}})
        trainer.logger.open(folder.path, trainer.progress.optimizer_step)
        yield


def folder_of(trainer: "Trainer") -> RunFolder:
    """Returns the folder of a trainer.

    Raises:
        UserError: if it has none.
    """
    if trainer.folder is None:
        raise UserError("a run without a folder keeps no checkpoint: give the Trainer a folder")
    return trainer.folder


def _row_files(trainer: "Trainer") -> dict[str, RowFile]:
    return {name: file for name, file in trainer.rows.items() if isinstance(file, RowFile)}


def snapshot(trainer: "Trainer") -> dict[str, Any]:
    """Returns the content of a checkpoint (`checkpoint.CONTENT`): plain tensors and numbers."""
    return {
        **gathered(trainer, trainer.state.state_dict()),
        "config": json.dumps(trainer.record),
        "run": {
            "id": folder_of(trainer).run_id,
            "best": trainer.best_checksum,
            "rows": {name: file.state() for name, file in _row_files(trainer).items()},
            "machine": machine(trainer),
        },
    }


def resume(trainer: "Trainer") -> bool:
    """Puts a trainer where its run's last checkpoint was written.

    Everything is looked at before a file of the run is touched.

    Returns:
        False if the run was killed before its first checkpoint was whole: it starts anew.

    Raises:
        UserError: if a checkpoint is missing, damaged, of another run or does not fit the config,
            there is no folder, or another process trains in it.
    """
    folder = folder_of(trainer)
    if not folder.path.is_dir():
        return False
    with folder.claim() if processes.rank() == 0 else nullcontext():
        return _resume(trainer, folder)


def _resume(trainer: "Trainer", folder: RunFolder) -> bool:
    """See `resume`."""
    last, files = folder.last, _row_files(trainer)
    if not last.is_file() and not folder.metrics.is_file():
        for file in files.values():
            remove(file.path)
        return False
    saved = checkpoint.load(last, trainer.device)
    checkpoint.refuse_other_run(folder, saved, last)
    best = _checksum_of_best(trainer, saved)
    restore(trainer, saved, last)
    trainer.best_checksum = best
    folder.run_id = saved["run"]["id"]  # info.json may not name the run any more
    progress = trainer.progress
    for name, file in files.items():
        validation = file.path in (folder.improvement, folder.outcomes)
        reached = progress.evaluated_at if validation else progress.logged_at
        lost = file.resume(saved["run"]["rows"][name], reached)
        if lost:
            say(f"warning: {lost}", error=True)
    if processes.rank() == 0:
        remove(folder.end)
        remove(folder.summary)  # it is of the budgets before
        say_other_machine(saved["run"]["machine"], machine(trainer))
    return True


def restore(trainer: "Trainer", saved: dict[str, Any], path: Path) -> None:
    """Puts a trainer where the checkpoint at `path` was written.

    Raises:
        UserError: if the checkpoint does not fit the trainer's config.
    """
    refuse_other_settings(folder_of(trainer), saved["config"], trainer.record, path)
    _refuse_misfit(trainer, saved, path)
    state = trainer.state
    try:
        _try_optimizer(trainer, saved["optimizer"], saved["progress"]["optimizer_step"])
        _try_hard_puzzles(trainer, saved["hard_puzzles"])
        checkpoint.refuse_other_weights(state.reasoner, saved["weights"], path)
        checkpoint.refuse_other_weights(state.average, saved["average"], path)
        state.load_state_dict(shared_out(trainer, saved))
    except UserError:
        raise
    except Exception as error:  # torch and torchrl raise many kinds for a state of another kind
        reason = one_line(str(error).split("\n")[0]) or type(error).__name__
        raise UserError(f"{path} does not fit this run: {reason}") from error


def _checksum_of_best(trainer: "Trainer", saved: dict[str, Any]) -> str:
    """Returns the checksum of best.pt, which is the one that last.pt was written beside.

    A later one of the same run is right too: the run was killed before it wrote last.pt, and will
    come to that step again.

    Raises:
        UserError: if it is another.
    """
    folder = folder_of(trainer)
    instead = (
        "put the run's own file back, or begin a new run with the last weights: remove best.pt, "
        f"then `pir train init={folder.path}`"
    )
    if not folder.best.is_file():
        raise UserError(f"{folder.best} is missing, which {folder.last.name} needs: {instead}")
    best = checkpoint.load(folder.best, torch.device("cpu"))
    step = best["progress"]["optimizer_step"]
    if best["run"]["id"] != saved["run"]["id"]:
        raise UserError(f"{folder.best} is of another run: {instead}")
    if best["checksum"] != saved["run"]["best"] and step <= saved["progress"]["optimizer_step"]:
        raise UserError(
            f"{folder.best}, of optimizer step {step}, is not the one that {folder.last.name} was "
            f"written beside: {instead}"
        )
    checksum: str = best["checksum"]
    return checksum


def _refuse_misfit(trainer: "Trainer", saved: dict[str, Any], path: Path) -> None:
    """Makes sure that what is saved has the structure of what this run would save.

    Raises:
        UserError: naming the first places that differ.
    """
    faults = [*_count_faults(trainer, saved), *_lane_faults(trainer, saved["lanes"])]
    state = trainer.state
    if saved["ledger"]["names"] == list(state.ledger.names):  # the ledger itself says if not
        own = state.ledger.state_dict()
        whole = own["under_way"].new_zeros(trainer.measured, *own["under_way"].shape[1:])
        faults += differences(saved["ledger"], own | {"under_way": whole}, "ledger")
    faults += differences(saved["schedule"], state.schedule.state_dict(), "schedule")
    if faults:
        raise UserError(f"{path} does not fit this run: {'; '.join(faults[:3])}")


def _count_faults(trainer: "Trainer", saved: dict[str, Any]) -> Iterator[str]:
    """Yields the numbers and names that cannot be."""
    progress = saved["progress"]
    for name in ("logged_at", "evaluated_at"):
        if progress[name] > progress["optimizer_step"]:
            yield f"progress.{name} is {progress[name]}"
    depths = {"progress.best_depth": progress["best_depth"]}
    if "depth" in saved["schedule"]:
        depths["schedule.depth"] = saved["schedule"]["depth"]
    for name, depth in depths.items():
        if type(depth) is not int or not 1 <= depth <= trainer.num_steps:
            yield f"{name} is {describe(depth)}"
    known = {"loss", *trainer.objective.terms, *trainer.objective.figure_names}
    for name in progress["interval"].keys() - known:
        yield f"progress.interval.{name} is unknown"
    if saved["run"]["rows"].keys() != trainer.rows.keys():
        yield f"run.rows is {describe(saved['run']['rows'])}"


def _lane_faults(trainer: "Trainer", saved: dict[str, Any] | None) -> Iterator[str]:
    """Yields what is wrong with lanes, by the one that the trainer began with."""
    if saved is None:
        return
    batch = trainer.settings.batch_size
    own = with_tensors(trainer.one_lane.to_dict(), lambda lane: lane.expand(batch, *lane.shape[1:]))
    faults = list(differences(saved, own, "lanes"))
    yield from faults
    if faults:
        return
    longest = trainer.state.ledger.under_way.shape[1]
    under_way = (saved["k"] >= 0) & (saved["k"] < longest)
    if not bool((under_way | (saved["finished"] & (saved["k"] == longest))).all()):
        yield f"lanes.k is out of 0 to {longest}"
    yield from _token_faults(
        trainer, saved["puzzles"] | {"answer": saved["now"]["answer"]}, "lanes"
    )


def _token_faults(trainer: "Trainer", tokens: dict[str, Any], place: str) -> Iterator[str]:
    """Yields the tensors that hold a token outside the puzzle's vocabulary."""
    for name in ("question", "solution", "answer"):
        if name in tokens and int(tokens[name].max()) >= len(trainer.puzzle.vocabulary):
            yield f"{place}.{name} holds a token outside the vocabulary"


def _try_optimizer(trainer: "Trainer", saved: dict[str, Any], steps: int) -> None:
    """Gives the optimizer its state and a step on trial, so that it fails now if it ever does.

    The step changes the weights: they are to be loaded afterwards.

    Args:
        trainer: owns the optimizer.
        saved: its state.
        steps: that it has taken.

    Raises:
        Exception: of many kinds, if the state is not that of this optimizer.
    """
    optimizer = trainer.state.optimizer
    _step_on_trial(optimizer)  # makes the state that it would have, to compare with
    own = optimizer.state_dict()
    faults = list(differences(saved, _as_far_as(own, saved), "optimizer"))
    if faults:
        raise ValueError("; ".join(faults[:3]))
    if _numbers_of_parameters(saved) != _numbers_of_parameters(own):
        raise ValueError("the optimizer's state is of other parameters")
    known = zip(_known(own), _known(saved), strict=True)
    if steps and any(here and not there for here, there in known):
        raise ValueError("the optimizer's state is missing")
    optimizer.load_state_dict(copy.deepcopy(saved))
    if [group["initial_lr"] for group in optimizer.param_groups] != trainer.rates:
        raise ValueError("the optimizer's learning rates are not those of the config")
    _step_on_trial(optimizer)


def _step_on_trial(optimizer: torch.optim.Optimizer) -> None:
    """Has an optimizer take a step by gradients of 0.

    Raises:
        ValueError: if a weight is infinite or not a number then.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise ValueError("the optimizer's state makes a weight infinite or not a number")


def _as_far_as(own: Any, saved: Any) -> Any:
    """Returns an optimizer's state without the parameters that a saved one knows nothing of."""
    if not isinstance(own, dict) or not isinstance(saved, dict):
        return own
    kept = {name: _as_far_as(part, saved.get(name)) for name, part in own.items()}
    if isinstance(saved.get("state"), dict):
        kept["state"] = {
            n: part for n, part in own.get("state", {}).items() if saved["state"].get(n)
        }
        kept["state"] |= {n: {} for n, part in saved["state"].items() if part == {}}
    return kept


def _numbers_of_parameters(state: dict[str, Any]) -> list[Any]:
    """Returns how an optimizer's state numbers the parameters of every group."""
    return [numbers for place, numbers in walk(state) if place.endswith(".params")]


def _known(state: dict[str, Any]) -> list[int]:
    """Returns of how many parameters an optimizer, or each of its parts, knows something."""
    parts = [_known(part) for name, part in state.items() if name != "state" and type(part) is dict]
    own = state.get("state", {})
    return [sum(map(bool, own.values())), *(count for part in parts for count in part)]


def _try_hard_puzzles(trainer: "Trainer", saved: dict[str, Any]) -> None:
    """Gives the pool of failed puzzles its content.

    Raises:
        Exception: of many kinds, if it is not that of this run's pool.
    """
    pool, size = trainer.state.hard_puzzles, trainer.settings.replay_size
    if pool.share == 0:
        return
    for place, value in walk({**saved, "coming": {}}, "hard_puzzles"):
        if isinstance(value, torch.Tensor) and len(value) > size:
            raise ValueError(f"{place} is {describe(value)}")
        if place.endswith("._cursor") and not (type(value) is int and 0 <= value < max(1, size)):
            raise ValueError(f"{place} is {describe(value)}")
    pool.load_state_dict(saved)
    for kept in pool.content():
        rows, own = len(kept), trainer.one_lane.puzzles
        expected = {n: own[n].expand(rows, -1).cpu() for n in ("question", "solution")}
        if "failed" in kept.keys():  # noqa: SIM118, a TensorDict has no `in`
            expected["failed"] = torch.ones(rows, dtype=torch.bool)
        found = {name: kept[name] for name in expected}
        differ = differences(found, expected, "hard_puzzles")
        for fault in chain(differ, _token_faults(trainer, found, "hard_puzzles")):
            raise ValueError(fault)
