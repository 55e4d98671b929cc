"""`pir check-env`: whether a puzzle keeps the laws, in plain words, and how fast it is."""

import json
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pir.checks import check_choice
from pir.errors import UserError
from pir.settings import plugins
from pir.settings.build import build
from pir.system.terminal import paragraph, say

if TYPE_CHECKING:
    from pir.laws.checks import LawResult
    from pir.puzzle import Puzzle

BATCH = 256


def run(config: DictConfig) -> None:
    """Runs the command; see configs/check-env.yaml for the settings."""
    check_choice("output", config.output, ("text", "json"))
    import torch

    from pir.laws.checks import fingerprint, per_second
    from pir.laws.form import unlike_names
    from pir.puzzle import Puzzle

    torch.set_num_threads(1)
    node: Any = config.env
    if config.target is not None:
        plugins.open_module(config.target.partition(":")[0])
        named = [word.partition("=")[0] for word in HydraConfig.get().overrides.task]
        given = [key.removeprefix("++env.") for key in named if key.startswith("++env.")]
        node = OmegaConf.create({"_target_": config.target.replace(":", ".")})
        for name in given:
            OmegaConf.update(node, name, OmegaConf.select(config.env, name))
    puzzle, anew = (build(node, "env", Puzzle) for _ in range(2))  # type: ignore[type-abstract]
    name = config.target or type(puzzle).__name__
    text = config.output == "text"
    found = list(_while_printing(_results(puzzle, anew), text))
    for note in unlike_names(puzzle):
        say(f"note: {note}", error=True)
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


def _results(puzzle: "Puzzle", anew: "Puzzle") -> Iterator["LawResult"]:
    """Yields the laws, and those of the views if instances can be drawn."""
    from pir.laws.checks import LAWS, law_results

    for result in law_results(puzzle, anew=anew):
        yield result
    if result.law in LAWS:
        yield from _views(puzzle)


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


def _views(puzzle: "Puzzle") -> Iterator["LawResult"]:
    """Runs Gymnasium's and TorchRL's own checks on the puzzle's views."""
    import contextlib
    import io
    import warnings

    from pir.envs.views.gymnasium_view import RevisionEnv
    from pir.envs.views.torchrl_view import PuzzleEnv
    from pir.laws.checks import LawResult
    from pir.laws.form import failure

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
            yield LawResult(law, False, failure(error, puzzle))
        else:
            yield LawResult(law, True, "")
