"""Training, evaluation and solving from Python, without settings of the command line."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from pir.analysis.reading.runs import Run

import pir
from pir import noise
from pir.cli.loading import loaded
from pir.errors import UserError
from pir.evaluation.export import export_run
from pir.models.trm import TRM
from pir.objectives import AdvantageWeighted, DeepSupervision, LastStep
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.schedules import ByLedger, Staggered, Synchronous
from tests.small_reasoners import Plain
from tests.training_runs import assert_same_run, trainer_of

ROOT = Path(__file__).parents[1]


def test_import_alone_is_light():
    code = "import pir, sys; print([m for m in ('torch', 'hydra', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_leaves_the_random_numbers_of_the_user_alone():
    code = (
        "import random; before = random.getstate(); from tests.training_runs import trainer_of; "
        "trainer_of().train(); print(random.getstate() == before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "True"


def test_every_name_is_found_typed_and_documented():
    """What a type checker sees under `if TYPE_CHECKING` is what is imported."""
    tree = ast.parse(Path(pir.__file__).read_text())
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and "TYPE" in str(ast.dump(node.test))
    )
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == pir._MODULES
    assert sorted(typed) == sorted(pir.__all__)
    for name in pir.__all__:
        assert getattr(pir, name).__doc__, name
        assert name in dir(pir)
    with pytest.raises(AttributeError, match="nothing"):
        pir.nothing  # noqa: B018


def test_code_of_the_page_runs(tmp_path, monkeypatch, finished_run):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, tmp_path / "runs/a")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) >= 8
    names = {"__name__": "page"}
    for block in blocks:
        exec(block, names)
    assert float(names["solved"][:, -1].float().mean()) > 0.5
    assert (tmp_path / "runs/from_python/metrics.csv").is_file()


def test_the_example_learns():
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/train_in_python.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main(steps=3, width=16, batch=8) < 0.5
    assert example.main(steps=60) > 0.8


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = trainer_of()
    assert trainer.train()
    assert not list(tmp_path.iterdir())
    assert [row["optimizer_step"] for row in trainer.rows["metrics.csv"].rows] == [2, 4, 6]
    assert trainer.trained is not trainer.reasoner
    with pytest.raises(UserError, match="without a folder"):
        trainer.resume()


def test_rows_are_the_same_with_and_without_a_folder(tmp_path):
    kept, written = trainer_of(), trainer_of(str(tmp_path / "run"))
    assert written.rows["metrics.csv"].rows == []
    for trainer in (kept, written):
        trainer.train()
    for name, rows in kept.rows.items():
        if name != "timing.csv":
            assert repr(written.rows[name].rows) == repr(rows.rows), name
    assert {type(v) for v in written.rows["timing.csv"].rows[0].values()} == {int, float}


def test_a_folder_resumes_to_the_bit(tmp_path):
    trainer_of(tmp_path / "whole").train()
    trainer_of(tmp_path / "parts", steps=3).train()
    with pytest.raises(UserError, match="already holds a run"):
        trainer_of(tmp_path / "parts").train()
    other = pir.Objective({"other": DeepSupervision()})
    with pytest.raises(UserError, match="objective was"):
        trainer_of(tmp_path / "parts", objective=other).resume()
    trainer = trainer_of(tmp_path / "parts")
    assert trainer.resume()
    trainer.train()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_folder_without_settings_is_read_from_python_alone(tmp_path, pir_here):
    run = tmp_path / "run"
    trainer = trainer_of(run)
    trainer.train()
    refused = pir_here("eval", f"run={run}", code=2).stderr
    assert f"pir.load_weights(reasoner, '{run}')" in refused
    fresh = trainer_of().reasoner
    assert pir.load_weights(fresh, run) is fresh
    best = checkpoint.load(RunFolder(run).best, torch.device("cpu"))
    for name, weight in checkpoint.averaged_weights(best).items():
        assert torch.equal(fresh.state_dict()[name], weight), name
    wider = TRM(trainer.puzzle, hidden_size=32, heads=2, improvement_steps=2)
    with pytest.raises(UserError, match="does not fit this model"):
        pir.load_weights(wider, run)
    shorter = TRM(trainer.puzzle, hidden_size=16, heads=2, improvement_steps=1)
    before = {name: weight.clone() for name, weight in shorter.state_dict().items()}
    with pytest.raises(UserError, match="build it with improvement_steps=2 or more"):
        pir.load_weights(shorter, run)
    assert all(torch.equal(weight, before[name]) for name, weight in shorter.state_dict().items())
    with pytest.raises(UserError, match=r"nothing.*last\.pt"):
        pir.load_weights(fresh, tmp_path / "nothing")


def test_another_default_dtype_is_no_matter():
    """The schedule, the ledger and random numbers make tensors of their own."""
    torch.set_default_dtype(torch.float64)
    try:
        schedule = ByLedger(2, torch.device("cpu"))
        trainer = trainer_of(schedule=schedule)
        trainer.train()
        sample = pir.held_out(trainer.puzzle, "test", 4)
        result = pir.evaluate(trainer.trained, trainer.puzzle, sample, 2)
        assert {values.dtype for values in result.values.values()} == {torch.float32}
        with noise.by_puzzle(0, torch.device("cpu")):
            assert noise.uniform(sample["question"], "a test", 3).dtype == torch.float32
        assert noise.normal(sample["question"], "a test", 3).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_lanes_follow_the_objective():
    assert isinstance(trainer_of().state.schedule, Staggered)
    whole = pir.Objective({"last": LastStep()}, update="rollout", backprop_steps=2)
    trainer = trainer_of(objective=whole)
    assert isinstance(trainer.state.schedule, Synchronous)
    assert trainer.train()


def test_sizes_chosen_by_doubt_are_tried(capsys):
    """All of 30 easy puzzles are solved in any case; the example runs to its end."""
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/adaptive_steps.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    found = example.main("zoo:sudoku4", steps=2, puzzles=30, env=["clues=[6,8]"])
    doubts = ("entropy of the puzzle", "entropy of the cell")  # this model has no halt head
    assert list(found) == [
        "size 1",
        *(f"{on} by {doubt}" for on in ("latents", "logits") for doubt in doubts),
    ]
    assert min(found.values()) > 0.8
    assert "size 1: " in capsys.readouterr().out


def test_a_reasoner_of_ones_own_trains_as_it_is(monkeypatch):
    """Without a module named blocks, in evaluation mode at first, and with sizes chosen for it."""
    trainer = trainer_of(reasoner=lambda puzzle: Plain(puzzle, dropout=0.5).eval())
    assert isinstance(trainer.state.optimizer, torch.optim.AdamW)
    assert trainer.train()
    assert trainer.reasoner.drop.training
    assert not trainer.trained.drop.training
    assert pir.Trainer(trainer.puzzle, Plain(trainer.puzzle), trainer.objective).settings


def test_an_optimizer_may_train_again_from_its_peak():
    first = trainer_of()
    first.train()
    optimizer = first.state.optimizer
    assert optimizer.param_groups[0]["lr"] < first.rates[0]
    again = trainer_of(reasoner=lambda _: first.reasoner, optimizer=optimizer)
    assert again.rates == first.rates


def awr(beta=1.0, **options):
    return pir.Objective({"awr": AdvantageWeighted(beta=beta)}, update="rollout", **options)


def adamw(weight_decay):
    reasoner = trainer_of().reasoner
    optimizer = torch.optim.AdamW(reasoner.parameters(), weight_decay=weight_decay)
    return {"reasoner": lambda _: reasoner, "optimizer": optimizer}


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({}, {"clues": (4, 8)}, r"puzzle.clues was \[8, 12\], is \[4, 8\]"),
        (
            {},
            {"reasoner": partial(TRM, hidden_size=16, heads=2, improvement_steps=2, cycles=2)},
            r"reasoner.cycles was 1, is 2; .*reasoner.passes_per_step was ",
        ),
        ({"objective": awr()}, {"objective": awr(9.0)}, r"awr.beta was 1.0, is 9.0$"),
        ({"objective": awr()}, {"objective": awr(epochs=2)}, "objective.epochs was 1, is 2$"),
        (
            {"objective": awr()},
            {"objective": awr(backprop_steps=2)},
            "objective.backprop_steps was 1, is 2$",
        ),
        (adamw(0.1), adamw(5.0), r"optimizer.0.weight_decay was 0.1, is 5.0$"),
        ({"record": {"note": "mine"}}, {"record": {"note": "yours"}}, "record.note was mine, is y"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_a_run_goes_on_with_its_own_settings_alone(tmp_path, before, now, message):
    trainer_of(tmp_path / "run", steps=2, **before).train()
    with pytest.raises(UserError, match=message):
        trainer_of(tmp_path / "run", **now).resume()
    assert trainer_of(tmp_path / "run", **before).resume()


def test_a_checkpoint_that_knows_fewer_settings_is_gone_on_with(tmp_path):
    trainer = trainer_of(tmp_path / "run", steps=2)
    del trainer.record["settings"], trainer.record["record"]
    trainer.train()
    assert trainer_of(tmp_path / "run", record={"clues": [8, 12], "note": "mine"}).resume()
    with pytest.raises(UserError, match=r"record: .*not JSON serializable; allowed are"):
        trainer_of(record={"puzzle": trainer.puzzle})


def test_loading_leaves_the_threads_of_the_process(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    config, before = tmp_path / "run/config.yaml", torch.get_num_threads()
    config.write_text(re.sub("threads: .*", f"threads: {before + 1}", config.read_text()))
    pir.load_trained(tmp_path / "run")
    assert torch.get_num_threads() == before
    try:
        loaded(RunFolder(tmp_path / "run"), "cpu")  # as a command does
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_folders_may_be_given_by_their_paths(finished_run, tmp_path):
    assert Run(str(finished_run)).has("metrics.csv")
    (tmp_path / "full").write_text("")
    about = {"minutes": None, "hardware": "", "command": ""}
    for out in (tmp_path, str(tmp_path)):
        with pytest.raises(UserError, match="not empty: name another folder"):
            export_run(str(finished_run), out, "float32", 1, "cpu", **about)
