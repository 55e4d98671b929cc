"""`pir bench`: how fast generators, verifiers and views are, and how fast training is."""

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pir.checks import check_choice, check_count, check_ending
from pir.cli.words import several
from pir.errors import UserError, installs
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/bench.yaml for the settings."""
    check_choice("what", config.what, ("envs", "train", "growth"))
    check_choice("output", config.output, ("text", "json"))
    if not 0 < config.seconds < float("inf"):
        raise UserError(f"seconds={config.seconds}: must be above 0 and finite")
    if config.out is not None and config.what != "growth":
        raise UserError(f"out={config.out}: only `pir bench growth` draws a figure")
    {"envs": _envs, "train": _train, "growth": _growth}[config.what](config)


def _envs(config: DictConfig) -> None:
    """Times puzzles on one core."""
    import torch

    from pir.envs import benchmark

    torch.set_num_threads(1)
    rows = []
    for row in benchmark.measure(config.seconds):
        rows.append(row)
        if config.output == "text":
            say(_as_line(row))
    result = {"rows": rows, "reasoning_gym": find_spec("reasoning_gym") is not None}
    if config.output == "json":
        say(json.dumps(result))
    elif not result["reasoning_gym"]:
        say(f"(reasoning-gym is timed beside ours after {installs('bench')})")


def _as_line(row: dict[str, Any]) -> str:
    goal = f"{'goal':>6} {row['goal']:>10,}" if row["goal"] is not None else ""
    ratio = ""
    if row["peer"] is not None:
        ratio = f"  {row['value'] / row['peer_value']:,.0f} x {row['peer']} ({row['peer_value']:,})"
    return f"{row['name']:<52}{row['value']:>12,} {row['unit']:<12}{goal}{ratio}"


def _train(config: DictConfig) -> None:
    """Times training steps."""
    check_count("batch_size", config.batch_size)

    from pir.bench.training import measure

    device, info, title = _hardware(config)
    rows: list[dict[str, Any]] = []
    presets, against = several(config.preset), several(config.against)
    tell = partial(say, error=True)  # minutes may pass before a row is there
    for row in measure(presets, against, config.seconds, device, config.batch_size, tell):
        if config.output == "text":
            if not rows:
                say(title)
            say(_as_lines(row))
        rows.append(row)
    if config.output == "json":
        say(json.dumps({"info": info, "rows": rows}))


def _hardware(config: DictConfig) -> tuple[Any, dict[str, Any], str]:
    """Chooses device and threads: the device, what is known of the machine, and both in a line."""
    from pir.runs.folder import run_info
    from pir.system.device import choose_device, prepare_cpu

    device = choose_device(config.device)
    prepare_cpu(config.threads, "threads")
    info = run_info() | {"device": str(device)}
    name = info["gpus"][device.index or 0] if device.type == "cuda" else info["processor"]
    version, torch = (info["commit"] or info["pir"] or "")[:10], info["versions"]["torch"]
    threads = f"{info['threads']} thread{'s' * (info['threads'] != 1)}"
    return device, info, f"{name}, {threads}, torch {torch}, pir {version}"


def _growth(config: DictConfig) -> None:
    """Measures how training steps grow."""
    from pir.analysis.figures.growth import save_growth
    from pir.bench.growth import REST, measure

    out = None if config.out is None else Path(config.out)
    if out is not None:
        check_ending(out)
    device, info, title = _hardware(config)
    rows: list[dict[str, Any]] = []
    rest = ", ".join(f"{name} {size}" for name, size in REST.items())
    for row in measure(several(config.axes), config.seconds, device):
        if config.output == "text":
            if not rows:
                say(f"{title}\nat rest: {rest}; * where it leaves the straight line")
                say(f"{'':8}{'size':>6}{'ms':>12}{'GiB':>9}")
            slow, large = ("*" if row[f"{name}_bends"] else " " for name in ("time", "memory"))
            memory = row["memory_bytes"] / 2**30
            say(
                f"{row['axis']:8}{row['size']:>6}{row['milliseconds']:>11,.1f}{slow}"
                f"{memory:>8.2f}{large}"
            )
        rows.append(row)
    if out is not None:
        save_growth(rows, title, out)
    if config.output == "json":
        say(json.dumps({"info": info, "rows": rows}))


def _as_lines(row: dict[str, Any]) -> str:
    longer = row["times_as_long_as_pir"]
    lines = [
        f"{row['preset']} {row['model']}, batch {row['batch_size']}, {row['tokens']} tokens: "
        f"{row['contender']}"
        + (f", {longer:.2f} times as long as pir" if row["contender"] != "pir" else ""),
        f"  {row['milliseconds']:,.1f} ms/step   "
        f"{row['improvement_steps_per_second']:,.0f} improvement steps/s   "
        f"{row['tokens_per_second']:,.0f} tokens/s",
    ]
    if row["parameters"] is not None:
        lines.append(
            f"  {row['parameters'] / 1e6:.2f} M parameters   {row['dtype']}   "
            f"{row['flops_per_second'] / 1e12:.3g} of {row['peak_flops_per_second'] / 1e12:.3g} "
            f"TFLOP/s, utilisation {row['utilisation']:.2f}"
        )
    if row["shares"] is not None:
        parts = "  ".join(f"{name} {share:.1%}" for name, share in row["shares"].items())
        lines += [f"  peak memory {row['peak_memory_bytes'] / 2**30:.2f} GiB", f"  {parts}"]
    return "\n".join(lines)
