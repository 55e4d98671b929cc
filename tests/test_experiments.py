"""Every preset (`experiment=NAME`) is composed, builds its parts, and can be trained a step."""

import pytest
import torch
from pir.envs.sudoku.rules import Sudoku

from pir.bench.training import Trained, trainer_of
from pir.settings.catalog import choices
from tests.conftest import compose_config
from tests.training_runs import read_rows, start

NAMES = [choice["name"] for choice in choices("experiment")]
OF_A_FILE = ("sudoku_extreme", "sudoku_extreme_gpu")

SMALL = [
    "model.hidden_size=32",
    "trainer.batch_size=16",
    "trainer.val_puzzles=20",
    "trainer.test_puzzles=20",
    "trainer.max_optimizer_steps=40",
    "trainer.decay_steps=40",
    "trainer.warmup_steps=0",
    "trainer.log_every=1",
    "trainer.compile=none",
    "trainer.max_minutes=null",
]


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


def words(name, file):
    """The preset, and what it needs of a file as small as this."""
    own = [f"env.puzzles={file}", "env.train_puzzles=null"] if name in OF_A_FILE else []
    return [f"experiment={name}", *own]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_complete(name, file):
    config = compose_config(*words(name, file))
    trainer = trainer_of(config, batch_size=2)
    before = [weight.detach().clone() for weight in trainer.reasoner.parameters()]
    Trained(trainer).run(1)
    after = list(trainer.reasoner.parameters())
    assert all(weight.isfinite().all() for weight in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_gpu")])
def test_the_loss_of_a_preset_for_a_gpu_falls(name, file, tmp_path):
    trainer = start(tmp_path / "run", *words(name, file), *SMALL)
    trainer.train()
    losses = [float(row["loss"]) for row in read_rows(trainer.folder.metrics)]
    assert len(losses) == 40
    assert sum(losses[-10:]) < sum(losses[:10])


def test_mazes_of_a_file_are_not_turned():
    """Whichever preset trains on the mazes of Maze-Hard; other mazes are turned."""
    hard = ("experiment=maze_hard", "experiment=maze_hard_gpu", "env=maze_hard")
    assert not any(compose_config(word).env.augment_file for word in hard)
    assert compose_config("env=maze").env.augment_file
