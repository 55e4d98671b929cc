"""What a run has learnt: its averaged weights, in a reasoner as the run's settings have it."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from pir.components import Components
from pir.errors import UserError
from pir.reasoner import Reasoner
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.runs.inputs import naming_config_dir, refuse_changed
from pir.runs.names import find_run
from pir.runs.weights import read_weights
from pir.system.device import prepare_cpu
from pir.system.terminal import say


def best_checkpoint(folder: RunFolder, device: torch.device) -> tuple[dict[str, Any], Path]:
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


def _trained(folder: RunFolder, device: torch.device) -> tuple[dict[str, Tensor], int, Path]:
    """Reads averaged weights, of the best checkpoint or an exported model.

    Returns:
        the weights by name, the trained number of improvement steps, and the file.
    """
    if folder.exported:
        weights, manifest = read_weights(folder)
        return weights, manifest.improvement_steps, folder.weights
    saved, path = best_checkpoint(folder, device)
    return checkpoint.averaged_weights(saved), saved["progress"]["best_depth"], path


def load_trained(
    run: RunFolder | str | Path, device: str = "auto", reads_puzzles: bool = True
) -> tuple[Components, DictConfig, Path]:
    """Loads the averaged weights of a run's best checkpoint, or of an exported model.

    Args:
        run: the run folder, or a name as `run=` takes it, such as `zoo:sudoku4`.
        device: where to compute, as the setting names it.
        reads_puzzles: whether puzzles of the run's own will be read, so that a puzzle file that it
            was made from has to be there, unchanged.

    Returns:
        puzzle and reasoner, the run's config, and the file of weights that was read.

    Raises:
        UserError: if the folder holds no run, no checkpoint yet, or a damaged one, or the puzzle
            file of the run is another.
    """
    folder = run if isinstance(run, RunFolder) else find_run(run)
    config = folder.read_config()
    if reads_puzzles:
        refuse_changed(config, folder)
    config.device = device
    prepare_cpu(config.trainer.threads)
    with naming_config_dir(folder):
        parts = Components.build(config)
    weights, depth, path = _trained(folder, parts.device)
    checkpoint.load_weights(parts.reasoner, weights, path)
    if depth > parts.reasoner.improvement_steps:
        raise UserError(f"{path} is damaged: it was trained for {depth} improvement steps")
    parts.reasoner.improvement_steps = depth
    parts.reasoner.eval()
    torch.manual_seed(0)  # stochastic rollouts answer alike in every process
    return parts, config, path


def take_weights(reasoner: Reasoner, folder: RunFolder, device: torch.device) -> tuple[Path, str]:
    """Gives a reasoner a run's trained weights, as far as names and shapes agree.

    Returns:
        the file that was read; what was taken and what stays fresh, for the user.

    Raises:
        UserError: if that run cannot be read, has no weight in common, or lacks one that the
            reasoner never trains.
    """
    theirs, _, path = _trained(folder, device)
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
