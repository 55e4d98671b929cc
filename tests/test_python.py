"""Training, evaluation and solving from Python, without settings of the command line."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku
from tensordict import TensorDict

import pir
from pir import noise
from pir.errors import UserError
from pir.evaluation.solve import Stop
from pir.exits import Entropy, Verifier
from pir.models.trm import TRM
from pir.objectives import DeepSupervision, LastStep
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.schedules import ByLedger, Staggered, Synchronous
from tests.training_runs import assert_same_run

ROOT = Path(__file__).parents[1]


def trainer_of(folder=None, steps=6, objective=None, **options):
    torch.manual_seed(0)
    puzzle = Sudoku(box=(2, 2), clues=(8, 12))
    reasoner = TRM(puzzle, hidden_size=16, heads=2, improvement_steps=2)
    settings = pir.TrainerSettings(
        batch_size=8,
        max_optimizer_steps=steps,
        log_every=2,
        eval_every=2,
        val_puzzles=10,
    )
    objective = objective or pir.Objective({"supervision": DeepSupervision()})
    folder = None if folder is None else RunFolder(folder)
    return pir.Trainer(puzzle, reasoner, objective, settings=settings, folder=folder, **options)


def test_import_alone_is_light():
    code = "import pir, sys; print([m for m in ('torch', 'hydra', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_mistakes_are_user_errors(finished_run):
    parts, *_ = pir.load_trained(finished_run)
    puzzle, reasoner = parts.puzzle, parts.reasoner
    sample = pir.held_out(puzzle, "test", 2)
    question = sample["question"][0]
    for mistake, message in (
        (lambda: pir.held_out(puzzle, "exam", 4), "split=exam: allowed are train, val, test"),
        (lambda: pir.held_out(puzzle, "test", 0), "0 puzzles of the test split"),
        (lambda: pir.evaluate(reasoner, puzzle, sample, 0), "num_steps=0: must be at least 1"),
        (lambda: pir.evaluate(reasoner, puzzle, sample[:0], 2), r"puzzles has the shape \(0,\)"),
        (lambda: pir.evaluate(reasoner, puzzle, sample[0], 2), r"puzzles has the shape \(\)"),
        (lambda: pir.evaluate(reasoner, puzzle, sample, 2, 0), "batch_size=0: must be at least 1"),
        (lambda: pir.solve(reasoner, puzzle, "3 7 8 = 29"), "a list of texts is expected"),
        (lambda: pir.solve(reasoner, puzzle, sample), "or of tokens, not one TensorDict"),
        (lambda: pir.solve(reasoner, puzzle, [question[:3]]), r"questions\[0\] has the shape"),
        (lambda: pir.solve(reasoner, puzzle, [question + 200]), r"questions\[0\] holds the token"),
        (lambda: pir.solve(reasoner, puzzle, [question.float()]), r"\] holds torch.float32"),
        (lambda: pir.solve(reasoner, puzzle, [question], starts=0), "starts=0: must be at least 1"),
        (lambda: pir.solve(reasoner, puzzle, [question], None, -1), "batch_size=-1: must be at"),
        (lambda: pir.solve(reasoner, puzzle, [question], Stop(Verifier(), 1, 0)), "stop.most=0"),
        (lambda: pir.solve(reasoner, puzzle, [question], Entropy()), "Entropy has no threshold"),
        (lambda: pir.Objective({"wrong": 3}), "3 is no term"),
    ):
        with pytest.raises(pir.UserError, match=message):
            mistake()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: Queens(size=12), r"env\.size is unknown \(allowed: augment_file, hide, n, "),
        (lambda: Queens(hid=(1, 2)), r"env\.hid is unknown; did you mean hide\?"),
        (lambda: TRM(Queens(), hiden_size=4), r"model\.hiden_size .* did you mean hidden_size\?"),
        (lambda: Sudoku(clues=8), r"env\.clues=8: allowed are two whole numbers, as \(4, 9\)"),
        (lambda: Sudoku(box=4), r"env\.box=4: allowed are two whole numbers"),
        (lambda: Queens(hide=(1, 2.5)), r"env\.hide=\(1, 2.5\): allowed are two whole"),
        (lambda: Countdown(number_range=5), r"env\.number_range=5: allowed are two whole"),
        (lambda: Graph(hops="23"), r"env\.hops=23: allowed are two whole"),
        (lambda: Sudoku().sample(2, "dev", seed=0), "split=dev: allowed are train, val, test"),
        (lambda: pir.held_out(Queens(), "test", 2, "nowhere"), "device=nowhere: not available"),
    ],
)
def test_wrong_keywords_are_refused(mistake, message):
    with pytest.raises(UserError, match=message):
        mistake()


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


class NoParameters(pir.Reasoner):
    """Answers every question with the first of all tokens."""

    improvement_steps, passes_per_step = 2, 1

    def start(self, question):
        logits = torch.zeros(*question.shape, len(Countdown().vocabulary))
        return TensorDict({"logits": logits}, batch_size=question.shape[:1])

    def improve(self, question, state, k, condition=None):
        return state

    def read_out(self, state):
        return pir.Policy(state["logits"])


def test_logits_of_minus_infinity_are_refused():
    class Masks(NoParameters):
        def read_out(self, state):
            return pir.Policy(state["logits"].masked_fill(~Countdown().slot_mask, -torch.inf))

    sample = pir.held_out(Countdown(), "test", 2)
    for use in (pir.evaluate, lambda r, p, s, _: pir.solve(r, p, s["question"])):
        with pytest.raises(UserError, match=r"logits hold -inf.*MASKED_LOGIT \(-10000\)"):
            use(Masks(), Countdown(), sample, 2)


def test_settings_may_be_tuples_and_numbers_of_numpy():
    changed = {"clues": (9, np.int64(10)), "guesses": None}
    puzzle = pir.load_trained("zoo:sudoku4", changed=changed)[0].puzzle
    assert puzzle.clues == (9, 10)


def test_questions_are_texts_or_tokens_of_any_kind():
    puzzle, reasoner = Countdown(), NoParameters()
    questions = pir.held_out(puzzle, "test", 2)["question"]
    texts = [puzzle.format_question(question) for question in questions]
    found = pir.solve(reasoner, puzzle, texts)
    mixed = [questions[0], texts[1]]
    for same in (questions, questions.numpy(), questions.long(), questions.tolist(), mixed):
        assert pir.solve(reasoner, puzzle, same) == found
    assert pir.solve(reasoner, puzzle, questions[:0]) == []


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
