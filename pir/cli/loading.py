"""A trained run, loaded for a command."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pir.runs.folder import RunFolder

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pir.components import Components


def loaded(
    run: RunFolder | str, device: str, **options: Any
) -> tuple["Components", "DictConfig", Path]:
    """Loads a run; the process then computes with as many threads as the run's settings say.

    Args:
        run: see `load_trained`.
        device: see `load_trained`.
        options: see `load_trained`.
    """
    from pir.runs.load import load_trained
    from pir.system.device import prepare_cpu

    parts, config, path = load_trained(run, device, **options)
    prepare_cpu(config.trainer.threads)
    return parts, config, path
