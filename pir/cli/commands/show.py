"""`pir show`: an instance of a puzzle, with its answer, as text and as a figure."""

import shlex
from pathlib import Path

from omegaconf import DictConfig

from pir.checks import check_choice, check_ending, check_seed
from pir.errors import UserError
from pir.settings import plugins
from pir.settings.build import build
from pir.system.terminal import columns, say


def run(config: DictConfig) -> None:
    """Runs the command; see configs/show.yaml for the settings."""
    from pir.cli.boards import Board, has_board, side_by_side
    from pir.notation.picture import as_text
    from pir.puzzle import SPLITS, Puzzle
    from pir.puzzle_files.given import FilePuzzle

    if config.split is not None:
        check_choice("split", config.split, SPLITS)
    for key in ("index", "seed"):
        check_seed(key, config[key])
    if config.out is not None:
        check_ending(Path(config.out))
    puzzle = build(config.env, "env", Puzzle)  # type: ignore[type-abstract]
    given = puzzle.whole_file() if isinstance(puzzle, FilePuzzle) and not config.split else None
    if given:
        rows = given.checked[config.index : config.index + 1]
        if len(rows) == 0:
            raise UserError(f"index={config.index}: the file holds {len(given.checked)} puzzles")
        sample = given.instances(rows)
    else:
        sample = puzzle.sample(1, config.split or "test", seed=config.seed, start=config.index)
    question, solution = sample["question"][0], sample["solution"][0]
    rating = float(puzzle.rating(sample["question"])[0])
    say(f"question  {puzzle.format_question(question)}")
    say(f"answer    {puzzle.format_answer(question, solution)}")
    say(f"rating    {rating:g} {puzzle.rating_name}")
    text = shlex.quote(puzzle.format_question(question))
    say(f"to solve  pir solve run=RUN puzzle={text}{plugins.option()}\n")
    pictures = [puzzle.picture(question, tokens) for tokens in (question, solution)]
    boards = [Board(n, as_text(p)) for n, p in zip(("question", "answer"), pictures, strict=True)]
    say(side_by_side(boards, columns()) if has_board(puzzle) else boards[1].text)
    if config.out is not None:
        from pir.analysis.figures.draw import save_pictures

        save_pictures(pictures, ["question", "answer"], Path(config.out))
        say(config.out)
