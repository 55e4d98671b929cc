"""`pir check-env`: whether a puzzle keeps the laws, in plain words, and how fast it is."""

import json
import logging
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pir.checks import check_choice
from pir.errors import UserError
from pir.settings import plugins
from pir.settings.build import build
from pir.system.terminal import paragraph, say

if TYPE_CHECKING:
    from pir.laws.checks import LawResult

BATCH = 256


def run(config: DictConfig) -> None:
    """Runs the command; see configs/check-env.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    import torch

    from pir.laws.checks import fingerprint, law_results, per_second
    from pir.puzzle import Puzzle

    torch.set_num_threads(1)
    node: Any = config.env
    if config.target is not None:
        plugins.open_module(config.target.partition(":")[0])
        node = OmegaConf.create({"_target_": config.target.replace(":", ".")})
    puzzle, anew = (build(node, "env", Puzzle) for _ in range(2))  # type: ignore[type-abstract]
    name = config.target or type(puzzle).__name__
    text = config.output == "text"
    found = list(_while_printing(chain(law_results(puzzle, anew=anew), _views(puzzle)), text))
    broken = [result.law for result in found if not result.kept]
    result: dict[str, Any] = {
        "puzzle": name,
        "kept": not broken,
        "laws": [
            {"law": r.law, "kept": r.kept if r.checked else None, "detail": r.detail} for r in found
        ],
    }
    if not broken:
        sample = puzzle.sample(BATCH, "train", seed=0)

        def generate() -> int:
            return len(puzzle.sample(BATCH, "train", seed=0))

        def verify() -> int:
            return len(puzzle.verify(sample["question"], sample["solution"]).score)

        result |= {
            "puzzles_per_second": round(per_second(generate)),
            "verdicts_per_second": round(per_second(verify)),
            "fingerprint": fingerprint(puzzle),
        }
    if config.output == "json":
        say(json.dumps(result))
    elif not broken:
        say(
            f"{name} keeps {_count(found)}; {result['puzzles_per_second']:,} puzzles and "
            f"{result['verdicts_per_second']:,} verdicts per second on one core\n"
            f"fingerprint of the first instances: {result['fingerprint']}"
        )
    if broken:
        raise UserError(f"{name} breaks {len(broken)} of {len(found)} laws: {'; '.join(broken)}")


def _count(found: Sequence["LawResult"]) -> str:
    """Says how many laws are kept, and how many there was no way to check."""
    checked = sum(result.checked for result in found)
    if checked == len(found):
        return f"all {checked} laws"
    return f"all {checked} laws that were checked; {len(found) - checked} were not"


def _while_printing(found: Any, text: bool) -> Any:
    for result in found:
        if text:
            mark = "BROKEN" if not result.kept else "ok" if result.checked else "not checked"
            detail = f": {result.detail}" if result.detail else ""
            say(paragraph(f"{mark:<11}  {result.law}{detail}", indent=13))
        yield result


def _views(puzzle: Any) -> Any:
    """Runs Gymnasium's and TorchRL's own checks on the puzzle's views."""
    import contextlib
    import io
    import warnings

    from pir.envs.views.gymnasium_view import RevisionEnv
    from pir.envs.views.torchrl_view import PuzzleEnv
    from pir.laws.checks import LawResult

    def gymnasium_check() -> None:
        from gymnasium.utils.env_checker import check_env

        check_env(RevisionEnv(puzzle), skip_render_check=True)

    def torchrl_check() -> None:
        from torchrl.envs import check_env_specs

        logging.getLogger("torchrl").setLevel(logging.WARNING)
        check_env_specs(PuzzleEnv(puzzle, num_envs=4))

    for law, check in (
        ("the Gymnasium view passes check_env", gymnasium_check),
        ("the TorchRL view passes check_env_specs", torchrl_check),
    ):
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("error", UserWarning)
                check()
        except Exception as error:  # a plug-in may fail in any way
            yield LawResult(law, False, f"{type(error).__name__}: {error}")
        else:
            yield LawResult(law, True, "")
