"""`pir plot`: the improvement curve of one or several runs."""

import glob
from pathlib import Path

from omegaconf import DictConfig

from pir.errors import UserError
from pir.run_folder import RunFolder


def run(config: DictConfig) -> None:
    """Runs the command; see configs/plot.yaml for the settings."""
    if (config.run is None) == (config.runs is None):
        raise UserError("give either run=DIR or runs='DIR DIR ...' (patterns such as 'runs/*')")
    folders = [Path(config.run)] if config.run else find_runs(config.runs)

    from pir.analysis.curves import draw_improvement

    if config.out is None and len(folders) > 1:
        raise UserError("several runs need out=FILE")
    out = Path(config.out) if config.out else RunFolder(folders[0]).figures / "improvement.png"
    draw_improvement(folders, out)
    print(out)


def find_runs(patterns: str) -> list[Path]:
    """Returns the run folders that a path or blank-separated patterns name, sorted.

    Raises:
        UserError: if a pattern matches no run that has ended.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if Path(patterns).exists() else patterns.split():
        found_by = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern))
        matches = [Path(match) for match in found_by]
        runs = [path for path in matches if RunFolder(path).config.is_file()]
        ended = [path for path in runs if (RunFolder(path).evaluation / "eval.json").is_file()]
        if not ended:
            reason = "none of its runs has ended" if runs else "there is no run"
            raise UserError(f"runs={pattern}: {reason}")
        found |= dict.fromkeys(ended)
    return list(found)
