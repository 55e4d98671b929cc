"""`pir gif`: an answer that improves step by step, as an animation."""

from pathlib import Path

from omegaconf import DictConfig

from pir.checks import check_choice, check_seed
from pir.errors import UserError
from pir.runs.names import results_of
from pir.system.terminal import say
from pir.system.view import View


def run(config: DictConfig) -> None:
    """Runs the command; see configs/gif.yaml for the settings."""
    check_seed("index", config.index)
    if config.improvement_steps is not None and config.improvement_steps < 1:
        raise UserError(f"improvement_steps={config.improvement_steps}: must be at least 1")

    import torch
    from tensordict import TensorDict

    from pir.analysis.figures.draw import save_animation
    from pir.evaluation.rollouts import EVALUATION_SEED
    from pir.noise import by_puzzle
    from pir.puzzle import SPLITS
    from pir.puzzle_files.reader import only_puzzle
    from pir.rollout import begin, improve
    from pir.runs.load import load_trained

    check_choice("split", config.split, SPLITS)
    parts, _, _ = load_trained(config.run, config.device, reads_puzzles=config.puzzle is None)
    puzzle, reasoner = parts.puzzle, parts.reasoner
    if config.puzzle is None:
        sample = puzzle.sample(1, config.split, seed=EVALUATION_SEED, start=config.index)
        question = sample["question"][0]
    else:
        question = only_puzzle(puzzle, config.puzzle)
    pictures, captions = [puzzle.picture(question, question)], ["the question"]
    with torch.no_grad(), by_puzzle(EVALUATION_SEED, parts.device):
        batch = TensorDict({"question": question[None]}, batch_size=[1]).to(parts.device)
        lanes = begin(reasoner, puzzle, batch)
        count = config.improvement_steps or reasoner.improvement_steps
        for _ in range(count):
            lanes, step = improve(reasoner, puzzle, lanes)
            pictures.append(puzzle.picture(question, step.after.answer[0].cpu()))
            solved, score = bool(step.after.solved[0]), float(step.after.score[0])
            captions.append(
                f"step {int(step.k[0])}: {'solved' if solved else f'score {score:.2f}'}"
            )
    name = "puzzle" if config.puzzle else f"{config.split}{config.index}"
    out = Path(config.out) if config.out else results_of(config.run).figures / f"{name}.gif"
    with View("pir gif"):
        save_animation(pictures, captions, out)
    say(out)
