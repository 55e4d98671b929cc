"""Checkpoints: plain tensors and numbers, written whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from pir.errors import UserError
from pir.run_folder import write_atomically

FORMAT = "pir checkpoint"
SCHEMA_VERSION = 4
CONTENT = (
    "config",
    "weights",
    "average",
    "optimizer",
    "random",
    "lanes",
    "ledger",
    "ledger_depth",
    "hard_puzzles",
    "interval",
    "seconds",
    "numbers",
)
"""What a checkpoint holds, see `pir.trainer_state.snapshot`."""


def save(path: Path, payload: dict[str, Any]) -> None:
    """Writes a checkpoint; an interrupted or failed write leaves the old file as it was.

    Raises:
        UserError: if the file cannot be written (a full disk, say).
    """
    assert set(payload) == set(CONTENT)
    content = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **payload}
    write_atomically(path, lambda file: torch.save(content, file))


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads a checkpoint without unpickling any code.

    Raises:
        UserError: if the file is missing, damaged or no checkpoint of this version.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        payload = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged or no checkpoint: {reason}") from error
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint written by pir")
    if payload.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {payload.get('schema_version')}; "
            f"this version of pir reads {SCHEMA_VERSION}"
        )
    missing = [key for key in CONTENT if key not in payload]
    if missing:
        raise UserError(f"{path} is damaged: {', '.join(missing)} missing")
    return payload


def load_weights(module: torch.nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Loads weights strictly into a module.

    Raises:
        UserError: if names or shapes differ, naming the first that do.
    """
    expected = module.state_dict()
    wrong = [
        f"{name} is {shape_of(weights.get(name))} there, {shape_of(expected.get(name))} here"
        for name in sorted(expected.keys() | weights.keys())
        if shape_of(weights.get(name)) != shape_of(expected.get(name))
    ]
    if wrong:
        raise UserError(
            f"{path} does not fit the model of this config: {'; '.join(wrong[:3])}"
            + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )
    module.load_state_dict(weights)


def shape_of(value: Any) -> str:
    """Returns a tensor's shape as text, `absent` for none."""
    return "x".join(map(str, value.shape)) or "scalar" if hasattr(value, "shape") else "absent"


def random_state() -> dict[str, Any]:
    """Returns torch's random states."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Puts torch's random states back."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
