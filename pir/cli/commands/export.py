"""`pir export`: a trained model as two files that others can use."""

import re
import shlex

from omegaconf import DictConfig

from pir.checks import check_choice, check_count
from pir.errors import UserError
from pir.runs.folder import RunFolder, resolved
from pir.runs.hub import push, require_client
from pir.runs.names import find_run
from pir.runs.records import Manifest
from pir.runs.schema import MODEL_DTYPES, MODEL_NAMES
from pir.settings import plugins
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/export.yaml for the settings."""
    check_choice("dtype", config.dtype, MODEL_DTYPES)
    check_count("test_puzzles", config.test_puzzles)
    if config.push is not None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.push):
            raise UserError(f"push={config.push}: allowed is OWNER/NAME of a repository on the Hub")
        require_client(config.push)
    if config.out is not None and str(config.out).startswith(MODEL_NAMES):
        raise UserError(f"out={config.out}: that is the name of a model; name a folder to write")
    folder = find_run(config.run)
    folder.require()
    if folder.exported and config.out is not None:
        raise UserError(f"run={config.run} is exported already: use it as it is")
    if folder.exported and config.push is None:
        raise UserError(
            f"run={config.run} is exported already; push=OWNER/NAME writes it to the Hub"
        )
    if not folder.exported and config.out is None:
        raise UserError("out=DIR is needed: the folder to write")
    if not folder.exported:
        folder = _export(config, folder)
    if config.push is not None:
        push(folder.path, config.push)
        say(f"pushed; it is read by run=hf:{config.push}")


def _export(config: DictConfig, folder: RunFolder) -> RunFolder:
    """Exports a run, and says what came out."""
    from pir.analysis.reading.hardware import short_hardware
    from pir.analysis.reading.runs import SUMMARY, Run
    from pir.evaluation.export import export_run
    from pir.system.device import prepare_cpu
    from pir.system.view import View

    run, out = Run(folder.path), RunFolder(config.out)
    seconds = (run.content(SUMMARY) or {}).get("seconds")
    words, settings = shlex.split(run.started_by), folder.read_config()
    with View(f"pir export {config.run}"):
        prepare_cpu(settings.trainer.threads)
        manifest = export_run(
            folder,
            out,
            config.dtype,
            config.test_puzzles,
            config.device,
            changed=resolved(config)["env"],
            minutes=None if seconds is None else round(seconds / 60, 1),
            hardware=short_hardware(folder.read_info(), str(settings.device)),
            command=shlex.join(word for word in words if not word.startswith("run=")),
        )
    say(_described(manifest))
    command = f"pir solve run={shlex.quote(str(out.path))} puzzle='...'{plugins.option()}"
    say(f"written to {out.path}; next: {command}")
    return out


def _described(manifest: Manifest) -> str:
    """Returns what was exported, in a sentence."""
    measured, last = manifest.evaluation, manifest.evaluation.per_step[-1]
    before = measured.unrounded_solved
    return (
        f"{manifest.parameters:,} parameters as {manifest.dtype}, {manifest.bytes:,} bytes: solved "
        f"{last.solved:.1%} of {measured.puzzles} test puzzles after {last.k} improvement steps"
        + (f" ({before:.1%} before rounding)" if before is not None else "")
    )
