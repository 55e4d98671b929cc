"""`pir bench`: how fast generators, verifiers and views are, on one core."""

import json
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig

from pir.checks import check_choice
from pir.errors import UserError
from pir.system.terminal import say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/bench.yaml for the settings."""
    check_choice("what", config.what, ("envs",))
    check_choice("output", config.output, ("text", "json"))
    if not config.seconds > 0:
        raise UserError(f"seconds={config.seconds}: must be above 0")
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
        say("(with the extra `bench` installed, reasoning-gym is timed beside ours)")


def _as_line(row: dict[str, Any]) -> str:
    goal = f"{'goal':>6} {row['goal']:>10,}" if row["goal"] is not None else ""
    ratio = ""
    if row["peer"] is not None:
        ratio = f"  {row['value'] / row['peer_value']:,.0f} x {row['peer']} ({row['peer_value']:,})"
    return f"{row['name']:<52}{row['value']:>12,} {row['unit']:<12}{goal}{ratio}"
