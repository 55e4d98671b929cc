"""Every preset (`experiment=NAME`) is composed, builds its parts, and can be trained a step."""

import pytest
import torch
from pir.envs.sudoku.rules import Sudoku

from pir.bench.training import Trained, trainer_of
from pir.settings.catalog import choices
from tests.conftest import compose_config

OF_A_FILE = ("sudoku_extreme", "sudoku_extreme_gpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Puzzles with their answers and ratings, in the columns of public files."""
    generated = Sudoku(box=(3, 3), clues=(26, 36))
    rows = ["source,question,answer,rating"]
    for split in ("train", "val", "test"):
        for puzzle in generated.sample(20, split, seed=0):
            question, answer = puzzle["question"], puzzle["solution"]
            texts = generated.format_question(question), generated.format_answer(question, answer)
            rows.append(f"tests,{texts[0]},{texts[1]},{len(rows)}")
    path = tmp_path_factory.mktemp("puzzles") / "public.csv"
    path.write_text("\n".join(rows))
    return str(path)


@pytest.mark.parametrize("name", [choice["name"] for choice in choices("experiment")])
def test_a_preset_is_complete(name, file):
    own = [f"env.puzzles={file}", "env.train_puzzles=null"] if name in OF_A_FILE else []
    config = compose_config(f"experiment={name}", *own)
    trainer = trainer_of(config, batch_size=2)
    before = [weight.detach().clone() for weight in trainer.reasoner.parameters()]
    Trained(trainer).run(1)
    after = list(trainer.reasoner.parameters())
    assert all(weight.isfinite().all() for weight in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
