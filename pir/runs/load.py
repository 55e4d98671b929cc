"""What a run has learnt: its averaged weights, in a reasoner as the run's settings have it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from pir.components import Components, build_puzzle
from pir.errors import UserError
from pir.reasoner import Reasoner
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.runs.inputs import FILE_KEY, naming_config_dir, refuse_changed
from pir.runs.names import find_run
from pir.runs.weights import read_weights
from pir.settings.build import plain
from pir.settings.plugins import open_folder
from pir.system.device import device_of, own_random_stream
from pir.system.terminal import say


def _best_checkpoint(folder: RunFolder, device: torch.device) -> tuple[dict[str, Any], Path]:
    """Reads a run's best checkpoint, or the last if that is gone, which is said; and says which.

    Raises:
        UserError: if there is none, or it is damaged or of another run.
    """
    path = next((p for p in (folder.end, folder.best) if p.is_file()), folder.last)
    saved = checkpoint.load(path, device)
    if not checkpoint.refuse_other_run(folder, saved, path):
        rest = "" if path == folder.last else f", and {folder.last} is missing"
        say(
            f"warning: whether {path} is of this run is not known: {folder.info} does not name "
            f"the run{rest}",
            error=True,
        )
    if path == folder.last:
        say(f"warning: {folder.best} is missing; {path.name} is used", error=True)
    return saved, path


class Trained(NamedTuple):
    """What a run has learnt.

    Attributes:
        weights: averaged weights by name.
        improvement_steps: the trained number.
        path: the file that they were read from.
        validation_solved: share of validation puzzles that they solve; None in an exported model.
    """

    weights: dict[str, Tensor]
    improvement_steps: int
    path: Path
    validation_solved: float | None = None


def read_trained(folder: RunFolder, device: torch.device) -> Trained:
    """Reads averaged weights, of the best checkpoint or an exported model.

    Raises:
        UserError: if there are none, or they are damaged or of another run.
    """
    if folder.exported:
        weights, manifest = read_weights(folder)
        return Trained(weights, manifest.improvement_steps, folder.weights)
    saved, path = _best_checkpoint(folder, device)
    progress = saved["progress"]
    weights = checkpoint.averaged_weights(saved)
    return Trained(weights, progress["best_depth"], path, progress["best_solved"])


def load_trained(
    run: RunFolder | str | Path,
    device: str = "auto",
    reads_puzzles: bool = True,
    trained: Trained | None = None,
    changed: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    config_dir: str | Path | None = None,
) -> tuple[Components, DictConfig, Path]:
    """Loads the averaged weights of a run's best checkpoint, or of an exported model.

    Args:
        run: the run folder, or a name as `run=` takes it, such as `zoo:sudoku4`.
        device: where to compute, as the setting names it.
        reads_puzzles: whether puzzles of the run's own will be read, so that a puzzle file that it
            was made from has to be there, unchanged.
        trained: what it has learnt, if that has been read already (`read_trained`).
        changed: settings of the puzzle that are other than in training, by name: a larger board for
            a network that fits boards of every size, other clues for any.
        dtype: of activations and products, in place of the run's `model.dtype`.
        config_dir: a bare folder whose modules the run may name, as `--config-dir`; its code runs.

    Returns:
        puzzle and reasoner, the run's config with these changes, and the file of weights.

    Raises:
        UserError: if the folder holds no run, no checkpoint yet, or a damaged one, or the puzzle
            file of the run is another, or the weights do not fit the changed puzzle, or the model
            has no setting `dtype`.
    """
    folder = run if isinstance(run, RunFolder) else find_run(run)
    if config_dir is not None:
        open_folder(str(config_dir), ())
    config = folder.read_config()
    changed = changed or {}
    if reads_puzzles and FILE_KEY not in changed:
        refuse_changed(config, folder)
    for name, value in changed.items():
        OmegaConf.update(config, f"env.{name}", plain(value), force_add=True)
    if dtype is not None:
        if "dtype" not in config.model:
            raise UserError(f"eval.dtype={dtype}: the model of {folder.path} has no model.dtype")
        config.model.dtype = dtype
    config.device = device
    with naming_config_dir(folder), own_random_stream(torch.device("cpu")):
        parts = Components.build(config, build_puzzle(config))
    trained = trained or read_trained(folder, parts.device)
    wrong = checkpoint.other_shapes(parts.reasoner, trained.weights) if changed else []
    if wrong:
        settings = " ".join(f"env.{name}={value}" for name, value in changed.items())
        raise UserError(
            f"{settings}: the weights of {folder.path} do not fit this puzzle ({wrong[0]}); those "
            "of a run with model.mixer=conv model.positions=false fit boards of every size"
        )
    _give(parts.reasoner, trained)
    return parts, config, trained.path


def load_weights(reasoner: Reasoner, run: RunFolder | str | Path) -> Reasoner:
    """Gives a reasoner the averaged weights of a run's best checkpoint, or of an exported model.

    For a run from Python, whose folder has no settings: the reasoner is built as it was there.

    Args:
        reasoner: of the class and the arguments of the run's own.
        run: the run folder, or a name as `run=` takes it.

    Returns:
        the reasoner, with the number of improvement steps that solved most validation puzzles.

    Raises:
        UserError: if there is no checkpoint, or it is damaged or of another reasoner.
    """
    folder = run if isinstance(run, RunFolder) else find_run(run)
    _give(reasoner, read_trained(folder, device_of(reasoner)))
    return reasoner


def _give(reasoner: Reasoner, trained: Trained) -> None:
    """Gives a reasoner what a run has learnt, to be used."""
    weights, depth, path, _ = trained
    if depth > reasoner.improvement_steps:
        raise UserError(
            f"{path} was trained for {depth} improvement steps, this model is built for "
            f"{reasoner.improvement_steps}: build it with improvement_steps={depth} or more"
        )
    checkpoint.load_weights(reasoner, weights, path)
    reasoner.improvement_steps = depth
    reasoner.eval()


def take_weights(reasoner: Reasoner, folder: RunFolder, device: torch.device) -> tuple[Path, str]:
    """Gives a reasoner a run's trained weights, as far as names and shapes agree.

    Returns:
        the file that was read; what was taken and what stays fresh, for the user.

    Raises:
        UserError: if that run cannot be read, has no weight in common, or lacks one that the
            reasoner never trains.
    """
    if not (folder.exported or folder.last.is_file() or folder.best.is_file()):
        raise UserError(f"init={folder.path}: holds no trained weights, such as {folder.last.name}")
    theirs, _, path, _ = read_trained(folder, device)
    own = reasoner.state_dict()
    common = {n: w for n, w in theirs.items() if n in own and w.shape == own[n].shape}
    if not any(w.ndim > 1 for w in common.values()):  # a bias fits any width
        raise UserError(f"init={folder.path}: no matrix in {path} is one of this model")
    never = {n for n, p in reasoner.named_parameters() if not p.requires_grad}
    if reasoner.needs_init and (lacking := never - common.keys()):
        parts = ", ".join(sorted({n.split(".")[0] for n in lacking}))
        raise UserError(f"init={folder.path}: {path} lacks weights that are not trained: {parts}")
    reasoner.load_state_dict(own | common)
    # every tensor once, also where two networks are the same
    names = [n for n, _ in (*reasoner.named_parameters(), *reasoner.named_buffers()) if n in own]
    taken = f"{sum(n in common for n in names)} of {len(names)} weights from {path}"
    fresh = sorted({n.split(".")[0] for n in names if n not in common})
    return path, taken + (f"; fresh: {', '.join(fresh)}" if fresh else "")
