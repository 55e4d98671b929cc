"""The weights of an exported model: a file of safetensors, which holds numbers and no code.

A tensor that a module has under several names, as one network in two roles, is stored once. The
file's metadata names the other names with the one that is stored, as `safetensors.torch.save_model`
does it.
"""

import hashlib
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pir.runs.folder import RunFolder
from pir.runs.records import Manifest, read_manifest
from pir.runs.schema import MOST_WEIGHTS
from pir.system.stored import open_regular, refuse


@torch.no_grad()
def round_weights(module: torch.nn.Module) -> None:
    """Rounds every floating-point weight to bfloat16; it is kept in the dtype that it has."""
    for weight in module.state_dict().values():
        if weight.is_floating_point():
            weight.copy_(weight.bfloat16())


def packed(module: torch.nn.Module, dtype: str) -> bytes:
    """Returns the weights of a module as the content of a file.

    Args:
        module: has the weights.
        dtype: `bfloat16` to store floating-point weights so, else they are stored as they are.
    """
    state = module.state_dict()
    stored: dict[Any, str] = {}
    others = {}
    for name, weight in state.items():
        place = weight.data_ptr(), weight.shape, weight.stride()
        if stored.setdefault(place, name) != name and weight.numel():
            others[name] = stored[place]
    kept = {}
    for name, weight in state.items():
        if name not in others:
            rounded = dtype == "bfloat16" and weight.is_floating_point()
            part = weight.bfloat16() if rounded else weight
            kept[name] = part.cpu().clone(memory_format=torch.contiguous_format)
    return save(kept, others)


def read_weights(folder: RunFolder) -> tuple[dict[str, Tensor], Manifest]:
    """Reads the weights of an exported model, on the CPU, and its manifest.

    Raises:
        UserError: if a file is missing or damaged, or the weights are not those of the manifest.
    """
    manifest, path = read_manifest(folder.manifest), folder.weights
    with open_regular(path, MOST_WEIGHTS) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if digest != manifest.sha256:
        refuse(path, f"its SHA-256 is {digest[:12]}..., in {folder.manifest.name} another")
    try:
        with safe_open(path, framework="pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            others = stored.metadata() or {}
        weights |= {name: weights[kept] for name, kept in others.items()}
    except (SafetensorError, KeyError) as error:
        refuse(path, error)
    return weights, manifest
