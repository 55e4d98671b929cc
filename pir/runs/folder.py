"""The run folder: everything a run leaves (docs/run_folder.md).

Scripts rely on the names here. Every file is written whole or appended by whole rows, so that a run
killed at any moment leaves a folder that can be read and resumed.
"""

import csv
import io
import json
import math
import os
import platform
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pir.errors import UserError
from pir.runs import schema
from pir.runs.folder_lock import FolderLock, held, refuse_lost, remove
from pir.runs.records import read_manifest
from pir.runs.schema import LOCK, NAMED
from pir.settings import plugins
from pir.settings.schema import TrainConfig
from pir.system.stored import literal, read_object, read_settings, refuse

T = TypeVar("T")

CHOSEN = ("env", "model", "objective")
"""The choices that every run has a name for."""

PACKAGES = ("torch", "numpy", "numba", "tensordict", "torchrl", "gymnasium", "hydra-core")


def write_atomically(path: Path, write: Callable[[IO[bytes]], T]) -> T:
    """Writes a file beside its place, then moves it there.

    Args:
        path: the place.
        write: writes the content into a file that is open for writing and reading.

    Returns:
        What `write` returned.

    Raises:
        UserError: if it cannot be written; what stood there before still stands.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        refuse_lost(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # a link there would lead the write elsewhere
        with partial.open("x+b") as file:
            result = write(file)
            file.flush()
            os.fsync(file.fileno())
        refuse_lost(path)  # a large file takes a while
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError, UserError):
            remove(partial)
        if not isinstance(error, OSError | RuntimeError):  # torch.save: a full disk is the latter
            raise
        kept = "; the file that was there is kept" if path.exists() else ""
        raise UserError(f"cannot write {path}: {error}{kept}") from error
    return result


def write_text(path: Path, text: str) -> None:
    """Writes a text file; names of files that are no UTF-8 keep their bytes."""
    write_atomically(path, lambda file: file.write(text.encode(errors="surrogateescape")))


def as_json(content: Any, indent: int | None = None) -> str:
    """Returns content as JSON; what is undefined (nan) is null there."""

    def defined(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: defined(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [defined(item) for item in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return json.dumps(defined(content), indent=indent, allow_nan=False)


def resolved(config: DictConfig) -> dict[str, Any]:
    """Returns a config as plain content, all interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def as_yaml(content: Mapping[str, Any]) -> str:
    """Returns plain settings as YAML; text with `${` stays as it is."""
    return OmegaConf.to_yaml(OmegaConf.create(literal(content)), resolve=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, readable by people too."""
    write_text(path, as_json(content, indent=2) + "\n")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a CSV file anew."""
    write_text(path, as_csv(rows))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes numpy arrays as a compressed archive (.npz), to be read without pickle."""
    write_atomically(path, lambda file: np.savez_compressed(file, **dict(arrays)))  # type: ignore[arg-type]


class RunFolder:
    """Paths and files of one run.

    Args:
        path: the folder.
        evaluation: the name of the evaluation meant; None for the one without a name.
    """

    def __init__(self, path: str | Path, evaluation: str | None = None) -> None:
        """Names the files; touches nothing."""
        self.path = Path(path)
        self.config = self.path / schema.CONFIG
        self.command = self.path / schema.COMMAND
        self.info = self.path / schema.INFO
        self.metrics = self.path / schema.METRICS
        self.improvement = self.path / schema.IMPROVEMENT
        self.outcomes = self.path / schema.OUTCOMES
        self.summary = self.path / schema.SUMMARY
        self.last = self.path / schema.LAST
        self.best = self.path / schema.BEST
        self.end = self.path / schema.END
        self.evaluation = self.path / schema.place(schema.EVALUATION, evaluation)
        self.figures = self.path / schema.FIGURES
        self.report = self.path / schema.REPORT
        self.manifest = self.path / schema.MANIFEST
        self.weights = self.path / schema.WEIGHTS

    @property
    def exported(self) -> bool:
        """Whether the folder holds an exported model, and no checkpoints."""
        return self.manifest.is_file()

    def evaluated(self, file: str) -> Path:
        """Returns the place of a file of the evaluation."""
        return self.evaluation / file.removeprefix(schema.EVALUATION)

    @cached_property
    def run_id(self) -> str:
        """A random name of the run, as `info.json` and every checkpoint keep it."""
        return self.named_run_id or secrets.token_hex(8)

    @property
    def named_run_id(self) -> str | None:
        """The name of the run in `info.json`, None if it is missing, damaged or names none."""
        known = self.read_info().get("run_id")
        return known if isinstance(known, str) and known else None

    def refuse_existing(self) -> None:
        """Makes sure that no run is overwritten.

        Raises:
            UserError: if the folder already holds a run, or is a file.
        """
        path = shlex.quote(str(self.path))
        if str(self.path).startswith(schema.MODEL_NAMES) or self.exported:
            raise UserError(
                f"run={self.path} is a trained model, to begin with by init={path}; "
                "name another folder with run="
            )
        if self.config.exists():
            raise UserError(
                f"{self.path} already holds a run: go on with `pir train resume={path}`, "
                "or name another folder with run="
            )
        self._refuse_links()
        rest = next((f for f in (self.last, self.best, self.metrics) if f.exists()), None)
        if rest is not None:
            raise UserError(
                f"{self.path} holds what is left of a run ({rest.name}) without its "
                f"{self.config.name}: name another folder with run="
            )
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"run={self.path} is a file; name a folder")

    def create(
        self, config: DictConfig, command: Sequence[str], inputs: Mapping[str, Any] | None = None
    ) -> None:
        """Starts a new run: config.yaml, command.txt and info.json.

        Args:
            config: the settings.
            command: what the user typed.
            inputs: the files that the run is made from, see `pir.runs.inputs`.

        Raises:
            UserError: if the folder cannot be written.
        """
        started = datetime.now(UTC).isoformat(timespec="seconds")
        about = {"run_id": self.run_id, "seed": config.seed, "date": started}
        about["config_dir"] = str(plugins.folders[0]) if plugins.folders else None
        write_json(self.info, run_info() | about | {"inputs": inputs or {}})
        write_text(self.command, shlex.join(command) + "\n")
        self.write_config(config)

    def read_info(self) -> dict[str, Any]:
        """Returns the content of info.json, nothing if it is missing or damaged."""
        with suppress(UserError):
            return read_manifest(self.manifest).info if self.exported else read_object(self.info)
        return {}

    def write_config(self, config: DictConfig) -> None:
        """Writes the resolved config, without the folder's own name: it may be moved."""
        content = {k: v for k, v in resolved(config).items() if k not in ("run", "resume")}
        write_text(self.config, as_yaml(content))

    @contextmanager
    def claim(self) -> Iterator["RunFolder"]:
        """Keeps every other process from training in this folder, which is made if need be.

        What this process holds already stays held afterwards.

        Raises:
            UserError: if another process does so now, the folder cannot be written in, or it holds
                a model without what its training needs to go on.
        """
        if self.exported:
            raise UserError(
                f"{self.path} holds an exported model, which lacks the state of its training: "
                f"begin a new run with its weights, `pir train init={shlex.quote(str(self.path))}`"
            )
        if held(self.path):
            yield self
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(self.path)
        except OSError as error:
            raise UserError(f"cannot write in {self.path}: {error}") from error
        with closing(lock):
            yield self

    def require(self) -> None:
        """Makes sure that the folder holds a run.

        Raises:
            UserError: if it does not.
        """
        if not (self.config.is_file() or self.exported):
            if self.last.is_file() and not self.config.exists():
                raise UserError(
                    f"{self.path} has no {self.config.name}, which is so if it was trained from "
                    "Python. Only Python reads it then: build the same reasoner, and "
                    f"pir.load_weights(reasoner, {str(self.path)!r}) gives it the weights "
                    "(docs/python.md)"
                )
            raise UserError(f"{self.path} holds no run: there is no {self.config.name} in it")
        self._refuse_links()

    def _refuse_links(self) -> None:
        """Makes sure that what is written in the folder stays in it.

        Files are written without following links; a folder that is a link would be followed.

        Raises:
            UserError: naming the link that leads out, or a lock that is no file.
        """
        lock, inside = self.path / LOCK, self.path.resolve()
        if lock.exists() and not lock.is_symlink() and not lock.is_file():
            raise UserError(f"{lock} is no regular file")
        folders = (self.path, self.path / NAMED)
        for entry in (entry for f in folders if f.is_dir() for entry in f.iterdir()):
            if entry.is_symlink() and (entry.name == LOCK or not entry.is_file()):
                target = entry.resolve()
                if not target.is_relative_to(inside):
                    raise UserError(f"{entry} is a link that leads out of the run folder: {target}")

    def read_config(self) -> DictConfig:
        """Reads the config of an existing run.

        Raises:
            UserError: if the folder holds no run or its config is damaged.
        """
        self.require()
        file = self.manifest if self.exported else self.config
        settings = read_manifest(file).config if self.exported else read_settings(file)
        try:
            merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), literal(settings))
            config = cast(DictConfig, merged)
            missing = OmegaConf.missing_keys(config)
            chosen = config.choices or {}
            missing |= {f"choices.{key}" for key in CHOSEN if not isinstance(chosen[key], str)}
            resolved(config)
        except (OmegaConfBaseException, LookupError, ValueError, TypeError) as error:
            refuse(file, error)
        if missing:
            raise UserError(f"{file} is damaged: {', '.join(sorted(missing))} missing")
        return config


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as CSV text with a header; floats in their shortest exact form."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def run_info() -> dict[str, Any]:
    """Returns commit, versions and hardware, for `info.json` and bug reports."""
    import torch

    return {
        "pir": version_of("policy-improvement-reasoners"),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def version_of(distribution: str) -> str | None:
    """Returns the installed version of a distribution, None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Returns the commit of a source checkout, with `+changes` if it was edited."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """Returns the processor's name."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
