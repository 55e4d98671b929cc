"""Runs and trained models by name, as `run=` and `init=` give them.

A name is that of a folder, `zoo:NAME` for a model that comes with this package, or `hf:OWNER/NAME`
for one on the Hugging Face Hub. What is made of a model of the last two kinds, such as an
evaluation, goes to a folder of the user's: `runs/zoo/NAME`, `runs/hf/OWNER/NAME`.
"""

import glob
import os
import re
import shlex
from pathlib import Path

from pir.checks import suggest
from pir.errors import UserError
from pir.runs.folder import RunFolder, as_yaml, write_atomically, write_json, write_text
from pir.runs.folder_lock import remove
from pir.runs.records import read_manifest
from pir.runs.schema import FACTS, HUB, MODEL_NAMES, MOST_WEIGHTS, SWEEP, ZOO
from pir.system.stored import read_bytes
from pir.system.terminal import say

SHIPPED = Path(__file__).parents[1] / "zoo"
"""The models that come with this package, a folder each."""


def shipped() -> dict[str, RunFolder]:
    """Returns the models of the zoo by name, sorted."""
    folders = {path.name: RunFolder(path) for path in sorted(SHIPPED.iterdir())}
    return {name: folder for name, folder in folders.items() if folder.exported}


def find_run(name: str | Path) -> RunFolder:
    """Returns the folder that a name stands for, to read from.

    Raises:
        UserError: if there is no such model, or it cannot be downloaded.
    """
    kind, rest = _parts(name)
    if kind == ZOO:
        models = shipped()
        if rest not in models:
            raise UserError(f"{name}: there is no such model{suggest(rest, models)}")
        return models[rest]
    if kind == HUB:
        from pir.runs.hub import download

        return RunFolder(download(rest))
    if not Path(name).exists() and rest in shipped():
        raise UserError(f"{name}: there is no such folder; did you mean {ZOO}{rest}?")
    return RunFolder(name)


def results_of(name: str | Path) -> RunFolder:
    """Returns the folder for what is made of a run; it may not be there yet.

    Raises:
        UserError: if the name cannot be one of the Hub.
    """
    kind, rest = _parts(name)
    return RunFolder(Path("runs", kind.removesuffix(":"), rest) if kind else name)


def working_folder(name: str | Path) -> RunFolder:
    """Returns the folder for what is made of a run, as evaluations and figures need it.

    One of an exported model has the files of a run folder that its manifest holds. One of a model
    of the zoo or the Hub has a copy of the model too, so it is a run by itself.

    Raises:
        UserError: if there is no such run, or the folder cannot be written or holds another run.
    """
    found, own = find_run(name), results_of(name)
    found.require()
    if not found.exported:
        return own
    if own.path != found.path:
        if own.config.exists() and not own.exported:
            raise UserError(f"{own.path} holds a run, and results of {name} go there: move it")
        if not (own.exported and own.manifest.read_bytes() == found.manifest.read_bytes()):
            remove(own.evaluated(FACTS))  # of another version of the model
            _copy(found.weights, own.weights)
            _copy(found.manifest, own.manifest)
    manifest = read_manifest(found.manifest)
    write_json(own.info, manifest.info)
    write_text(own.command, manifest.command + "\n")
    write_text(own.config, as_yaml(manifest.config))
    return own


def find_runs(patterns: str, evaluated: bool = False, evaluation: str | None = None) -> list[Path]:
    """Returns the run folders that a path or blank-separated patterns name, sorted.

    The folder of a sweep stands for the runs in it.

    Args:
        patterns: as the user typed them.
        evaluated: only runs with an evaluation, which training writes when it ends.
        evaluation: the name of that evaluation.

    Raises:
        UserError: if a pattern matches no such run.
    """
    if not patterns.strip():
        raise UserError(f"runs={patterns!r}: names no folder")
    found: dict[Path, None] = {}
    # a list of many folders is too long for a path, which Path.exists does not take for an answer
    for pattern in [patterns] if os.path.exists(patterns) else patterns.split():
        found_by = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
        runs = [run for match in found_by for run in _runs_of(Path(match), evaluation)]
        for run in runs:
            run.require()
        chosen = [r for r in runs if not evaluated or r.evaluated(FACTS).is_file()]
        if not chosen:
            reason = "there is no run" + _runs_inside(pattern)
            if runs:
                named = "" if evaluation is None else f" eval.name={shlex.quote(evaluation)}"
                command = f"pir eval run={shlex.quote(str(runs[0].path))}{named}"
                which = "an evaluation" if evaluation is None else f"the evaluation {evaluation}"
                reason = f"none of its runs has {which}; make one with `{command}`"
            raise UserError(f"runs={pattern}: {reason}")
        if left_out := ", ".join(str(run.path) for run in runs if run not in chosen):
            say(f"runs={pattern}: left out, without that evaluation: {left_out}", error=True)
        found |= dict.fromkeys(run.path for run in chosen)
    return list(found)


def _runs_inside(folder: str) -> str:
    """Returns a proposal for a folder that is no run, if runs or sweeps are in it."""
    if os.path.isdir(folder) and any(map(_runs_of, Path(folder).iterdir())):
        return f"; did you mean runs={shlex.quote(os.path.join(folder, '*'))}?"
    return ""


def _runs_of(place: Path, evaluation: str | None = None) -> list[RunFolder]:
    """Returns a folder that is a run, and those of a sweep that ran in it."""
    jobs = sorted(place.iterdir()) if (place / SWEEP).is_file() else []
    folders = (RunFolder(job, evaluation) for job in (place, *jobs))  # one job alone runs in place
    return [run for run in folders if run.config.is_file() or run.exported]


def chosen_runs(
    run: str | None, runs: str | None, evaluated: bool = False, evaluation: str | None = None
) -> list[Path]:
    """Returns the folders that the settings `run` or `runs` name: `working_folder`, `find_runs`.

    Raises:
        UserError: if both or neither is given, or there is no such run.
    """
    if (run is None) == (runs is None):
        raise UserError("give either run=DIR or runs='DIR DIR ...' (patterns such as 'runs/*')")
    names = [str(run)] if runs is None else find_runs(runs, evaluated, evaluation)
    return [working_folder(name).path for name in names]


def absolute(name: str) -> str:
    """Returns a name that stands for the same from any directory."""
    return name if _parts(name)[0] else os.path.abspath(name)


def _copy(source: Path, copy: Path) -> None:
    content = read_bytes(source, MOST_WEIGHTS)
    write_atomically(copy, lambda file: file.write(content))


def _parts(name: str | Path) -> tuple[str, str]:
    """Parts `zoo:` or `hf:` from what follows; "" for the name of a folder.

    Raises:
        UserError: if what follows cannot be a name on the Hub, or leads out of a folder.
    """
    kind = next((kind for kind in MODEL_NAMES if str(name).startswith(kind)), "")
    rest = str(name).removeprefix(kind)
    if kind == HUB and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", rest, re.ASCII):
        raise UserError(f"{name}: a model on the Hugging Face Hub is hf:OWNER/NAME")
    return kind, rest
