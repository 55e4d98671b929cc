"""The hardware that a run trained on, from info.json and the setting `device`."""

import re
from collections.abc import Mapping
from typing import Any

from pir.analysis.words import plain

UNKNOWN = "unknown hardware"

_LEFT_OUT = re.compile(
    r"\((?:R|TM)\)|\bCPU\b|@.*|\b(?:\d+|Two|Four|Six|Eight|Dual|Quad)-Core\b|\bProcessor\b"
    r"|[ -]\d+GB\b|\bHBM\d\w*"
)
"""What makes the name of a processor or of a GPU long: marks, clock, cores, memory."""


def short_hardware(info: Mapping[str, Any], device: str) -> str:
    """Names the hardware in a few words, as in `AMD EPYC, 1 thread` or `NVIDIA H100`.

    Args:
        info: the content of info.json.
        device: the setting of the run.
    """
    gpu, processor = (_short(name) for name in (_gpu(info, device), text_of(info, "processor")))
    if gpu or not processor:
        return gpu or UNKNOWN
    if not _on_processor(info, device):
        return f"{processor}, {plain(device)}"
    return f"{processor}{_count(info, 'threads')}"


def whole_hardware(info: Mapping[str, Any], device: str) -> str:
    """Names the hardware as it names itself, a processor with its cores and the threads used."""
    counts = f"{_count(info, 'cores')}{_count(info, 'threads')}"
    gpu, processor = _gpu(info, device), text_of(info, "processor")
    return gpu or (f"{processor}{counts}" if processor else UNKNOWN)


def _gpu(info: Mapping[str, Any], device: str) -> str:
    """Returns the name of the GPU that a device is; as `choose_device` takes them."""
    names = info.get("gpus")
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cuda") or not isinstance(names, list):
        return ""
    numbered = {str(number): name for number, name in enumerate(names) if isinstance(name, str)}
    return plain(numbered.get(index or "0", ""))


def _on_processor(info: Mapping[str, Any], device: str) -> bool:
    """Says whether a device that is no known GPU is the processor; auto may be mps on a Mac."""
    kind = device.partition(":")[0]
    return kind == "cpu" or (kind == "auto" and not text_of(info, "platform").startswith("macOS"))


def text_of(info: Mapping[str, Any], key: str) -> str:
    """Returns a text of info.json on one line; "" where there is none."""
    value = info.get(key)
    return plain(value) if isinstance(value, str) else ""


def _count(info: Mapping[str, Any], key: str) -> str:
    """Returns `, 2 cores`, or nothing if the number is not known."""
    count = info.get(key)
    if type(count) is not int:
        return ""
    return f", {count} {key if count > 1 else key.removesuffix('s')}"


def _short(name: str) -> str:
    return " ".join(_LEFT_OUT.sub(" ", name).split())
