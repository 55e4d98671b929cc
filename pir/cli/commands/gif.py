"""`pir gif`: an answer that improves step by step, as an animation."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from pir.checks import check_choice, check_ending, check_seed, check_steps
from pir.cli.loading import loaded
from pir.errors import UserError
from pir.runs.folder import resolved
from pir.runs.names import results_of
from pir.system.terminal import say
from pir.system.view import View

STEPS_MORE = 2
"""So many steps are shown after the one from which on the answer is right."""


def steps_to_show(solved: Sequence[bool]) -> int:
    """Returns how many steps are worth showing.

    Args:
        solved: whether the answer is right at the start and after every step.
    """
    last_wrong = max((k for k, right in enumerate(solved) if not right), default=0)
    return min(len(solved) - 1, last_wrong + 1 + STEPS_MORE)


def run(config: DictConfig) -> None:
    """Runs the command; see configs/gif.yaml for the settings."""
    if config.index is not None and config.puzzle is not None:
        raise UserError(f"index={config.index}: picks one of the run's puzzles; puzzle= is given")
    if config.index is not None:
        check_seed("index", config.index)
    check_steps("improvement_steps", config.improvement_steps)
    if config.out is not None:
        check_ending(Path(config.out), (".gif",))

    from pir.analysis.figures.draw import save_animation
    from pir.evaluation.examples import LOOKED_AT, AnswerSample, most_instructive
    from pir.evaluation.rollouts import EVALUATION_SEED, evaluate, held_out
    from pir.puzzle import SPLITS, instances
    from pir.puzzle_files.reader import only_puzzle

    check_choice("split", config.split, SPLITS)
    changed, own = resolved(config)["env"], config.puzzle is None
    parts, _, _ = loaded(config.run, config.device, reads_puzzles=own, changed=changed)
    puzzle, reasoner = parts.puzzle, parts.reasoner
    if config.puzzle is not None:
        question = only_puzzle(puzzle, config.puzzle)[None]
        sample = instances(question, question).exclude("solution")
    elif config.index is None:
        sample = held_out(puzzle, config.split, LOOKED_AT)
    else:
        sample = puzzle.sample(1, config.split, seed=EVALUATION_SEED, start=config.index)
    seen = AnswerSample()
    steps = config.improvement_steps or reasoner.improvement_steps
    with View("pir gif", unnamed=f"puzzles to try: {len(sample)}"):
        evaluate(reasoner, puzzle, sample.to(parts.device), steps, observers=[seen])
        row = most_instructive(seen.answers, seen.solved)[0]
        question, answers = sample["question"][row], seen.answers[row]
        pictures, captions = [puzzle.picture(question, question)], ["the question"]
        if config.improvement_steps is None:
            steps = steps_to_show(seen.solved[row].tolist())
        for k in range(1, steps + 1):
            pictures.append(puzzle.picture(question, answers[k]))
            solved, score = bool(seen.solved[row, k]), float(seen.score[row, k])
            captions.append(f"step {k}: {'solved' if solved else f'score {score:.2f}'}")
        index = row if config.index is None else config.index
        name = "puzzle" if config.puzzle else f"{config.split}{index}"
        figures = results_of(config.run).figures
        out = Path(config.out) if config.out else figures / f"{name}.gif"
        save_animation(pictures, captions, out)
    if config.index is None and config.puzzle is None:
        say(
            f"puzzle {index} of the first {len(sample)}: its answer changes in most steps "
            f"{'and ends solved' if bool(seen.solved[row, -1]) else '(none ends solved)'}; "
            "index=N picks another",
            error=True,
        )
    say(out)
