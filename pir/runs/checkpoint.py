"""Checkpoints: plain tensors and numbers, written whole or not at all, sealed by a checksum.

A checkpoint is a file of `torch.save`, a zip archive. The comment at its end is `pir sha256 ` and
the SHA-256 of every byte before the digits, so any bit that changes later shows; torch and zip
tools read the file as it is.
"""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from pir.errors import UserError
from pir.runs import checkpoint_content
from pir.runs.checkpoint_content import CONTENT, describe
from pir.runs.folder import RunFolder, write_atomically
from pir.system.terminal import one_line

FORMAT = "pir checkpoint"
SCHEMA_VERSION = 6

SEAL, DIGITS = b"pir sha256 ", 64
"""What the comment begins with, and how many hexadecimal digits follow."""


def save(path: Path, payload: dict[str, Any]) -> str:
    """Writes a checkpoint; an interrupted or failed write leaves the old file as it was.

    Args:
        path: the file.
        payload: what `CONTENT` names.

    Returns:
        The file's checksum, which tells it from every other.

    Raises:
        UserError: if the file cannot be written (a full disk, say).
    """
    assert set(payload) == set(CONTENT)
    content = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **payload}

    def write(file: IO[bytes]) -> str:
        torch.save(checkpoint_content.with_tensors(content, checkpoint_content.compact), file)
        return _seal(file)

    return write_atomically(path, write)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads a checkpoint without unpickling any code.

    Returns:
        What `CONTENT` names, and `checksum`, what `save` returned.

    Raises:
        UserError: if the file is missing, damaged or no checkpoint of this version.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        with path.open("rb") as file:
            checksum = _checksum(file)
            _refuse_compressed(file)
            file.seek(0)
            payload = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        first = str(error).split("\n")[0].split(". ")[0]
        reason = one_line(first, 120) or type(error).__name__
        raise UserError(f"{path} is damaged or no checkpoint: {reason}") from error
    written_by = payload.get("format") if isinstance(payload, dict) else None
    if not isinstance(written_by, str) or written_by != FORMAT:
        raise UserError(f"{path} is no checkpoint written by pir")
    version = payload.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {describe(version)}; "
            f"this version of pir reads {SCHEMA_VERSION}"
        )
    missing = [key for key in CONTENT if key not in payload]
    if missing:
        raise UserError(f"{path} is damaged: {', '.join(missing)} missing")
    if checksum is None:
        raise UserError(f"{path} is damaged: its checksum does not fit")
    fault = checkpoint_content.fault({key: payload[key] for key in CONTENT})
    if fault:
        raise UserError(f"{path} is damaged: {fault}")
    return {**payload, "checksum": checksum}


def refuse_other_run(folder: RunFolder, saved: dict[str, Any], path: Path) -> bool:
    """Makes sure that a checkpoint is one of this folder's run.

    info.json names the run; where it does not, last.pt does.

    Args:
        folder: the run folder.
        saved: the content of the checkpoint.
        path: where it was read, for the message.

    Returns:
        Whether another file than the checkpoint names the run.

    Raises:
        UserError: if the checkpoint is of another run, or last.pt is needed and damaged.
    """
    run_id, named_in = folder.named_run_id, folder.info
    if run_id is None and path != folder.last and folder.last.is_file():
        run_id, named_in = load(folder.last, torch.device("cpu"))["run"]["id"], folder.last
    if run_id is not None and saved["run"]["id"] != run_id:
        raise UserError(
            f"{path} is of another run (its name is {saved['run']['id']}, that of this folder "
            f"{run_id} in {named_in.name}): put the run's own file back"
        )
    return run_id is not None


def _seal(file: IO[bytes]) -> str:
    """Appends the checksum to an archive without comment, and returns it."""
    file.seek(-2, os.SEEK_END)  # where an archive keeps the length of its comment
    file.write((len(SEAL) + DIGITS).to_bytes(2, "little") + SEAL)
    file.seek(0)
    checksum = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0, os.SEEK_END)
    file.write(checksum.encode())
    return checksum


def _checksum(file: IO[bytes]) -> str | None:
    """Returns the checksum at the end of a file, None if it is not that of what is before it."""
    left = file.seek(0, os.SEEK_END) - DIGITS
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (part := file.read(min(1 << 20, left))):
        digest.update(part)
        left -= len(part)
    found = digest.hexdigest()
    return found if file.read() == found.encode() else None


def _refuse_compressed(file: IO[bytes]) -> None:
    """Makes sure that an archive is no larger in memory than on the disk.

    Raises:
        ValueError: if it is.
    """
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its parts are larger than the file")


def averaged_weights(saved: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the averaged weights of a checkpoint, by the names of the module itself."""
    prefix = "module."
    average: dict[str, torch.Tensor] = saved["average"]
    return {n.removeprefix(prefix): w for n, w in average.items() if n.startswith(prefix)}


def load_weights(module: torch.nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Loads weights strictly into a module; see `refuse_other_weights`."""
    refuse_other_weights(module, weights, path)
    module.load_state_dict(weights)


def refuse_other_weights(module: torch.nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Makes sure that weights are those of a module.

    Raises:
        UserError: if names, shapes or kinds of numbers differ, naming the first that do.
    """
    wrong = other_shapes(module, weights) or list(
        checkpoint_content.differences(weights, dict(module.state_dict()), "weights")
    )
    if wrong:
        raise UserError(
            f"{path} does not fit this model: {'; '.join(wrong[:3])}"
            + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            + ". The puzzle or the model has been changed since it was written: undo that, or "
            "train anew"
        )


def other_shapes(module: torch.nn.Module, weights: dict[str, Any]) -> list[str]:
    """Says which weights are not of the shape that a module has; nothing if all are."""
    expected = module.state_dict()
    return [
        f"{name} is {shape_of(weights.get(name))} there, {shape_of(expected.get(name))} here"
        for name in sorted(expected.keys() | weights.keys())
        if shape_of(weights.get(name)) != shape_of(expected.get(name))
    ]


def shape_of(value: Any) -> str:
    """Returns a tensor's shape as text, `absent` for none."""
    return "x".join(map(str, value.shape)) or "scalar" if hasattr(value, "shape") else "absent"
