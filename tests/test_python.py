"""Training, evaluation and solving from Python, without settings of the command line."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pir.analysis.reading.runs import Run
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku
from tensordict import TensorDict

import pir
from pir import noise
from pir.cli.loading import loaded
from pir.errors import UserError
from pir.evaluation.export import export_run
from pir.evaluation.solve import Stop
from pir.exits import Entropy, Verifier
from pir.models.trm import TRM
from pir.objectives import AdvantageWeighted, DeepSupervision, LastStep
from pir.runs import checkpoint
from pir.runs.folder import RunFolder
from pir.schedules import ByLedger, Staggered, Synchronous
from tests.small_reasoners import Plain
from tests.training_runs import assert_same_run

ROOT = Path(__file__).parents[1]


def trainer_of(folder=None, steps=6, objective=None, clues=(8, 12), reasoner=None, **options):
    torch.manual_seed(0)
    puzzle = Sudoku(box=(2, 2), clues=clues)
    make = partial(TRM, hidden_size=16, heads=2, improvement_steps=2)
    reasoner = (reasoner or make)(puzzle)
    settings = pir.TrainerSettings(
        batch_size=8,
        max_optimizer_steps=steps,
        log_every=2,
        eval_every=2,
        val_puzzles=10,
    )
    objective = objective or pir.Objective({"supervision": DeepSupervision()})
    return pir.Trainer(puzzle, reasoner, objective, settings=settings, folder=folder, **options)


def test_import_alone_is_light():
    code = "import pir, sys; print([m for m in ('torch', 'hydra', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_leaves_the_random_numbers_of_the_user_alone():
    code = (
        "import random; before = random.getstate(); from tests.test_python import trainer_of; "
        "trainer_of().train(); print(random.getstate() == before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "True"


class MasksByInfinity(Plain):
    def read_out(self, state):
        policy = super().read_out(state)
        return policy._replace(logits=policy.logits.masked_fill(policy.logits < -1e3, -torch.inf))


def test_logits_of_minus_infinity_are_refused_before_training():
    with pytest.raises(UserError, match="MASKED_LOGIT"):
        trainer_of(reasoner=MasksByInfinity)


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
        (lambda: pir.TrainerSettings(batch_size="8"), "batch_size='8': allowed is a whole number"),
        (lambda: pir.TrainerSettings(threads="1"), "'1': allowed is a whole number or None"),
        (lambda: pir.TrainerSettings(eval_every=None), "=None: allowed is a whole number"),
        (lambda: pir.TrainerSettings(max_optimizer_steps=10.5), "=10.5: allowed is a whole number"),
        (lambda: pir.TrainerSettings(warmup_steps=True), "=True: allowed is a whole number"),
        (lambda: pir.TrainerSettings(compile=None), "=None: allowed is a text"),
    ):
        with pytest.raises(pir.UserError, match=message):
            mistake()
    assert pir.TrainerSettings(max_optimizer_steps=1e4).max_optimizer_steps == 10_000


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


def frozen(puzzle):
    return Plain(puzzle).requires_grad_(False)


class Constant(pir.Term):
    def loss(self, rollout, puzzle, reasoner):
        return rollout.after.score.mean()


def test_what_would_train_nothing_is_refused():
    other = torch.optim.AdamW(trainer_of().reasoner.parameters())
    with pytest.raises(UserError, match=r"holds none of the \d+ parameters that are trained"):
        trainer_of(optimizer=other)
    with pytest.raises(UserError, match="no parameter has requires_grad"):
        trainer_of(reasoner=frozen)
    trainer = trainer_of(objective=pir.Objective({"constant": Constant()}))
    with pytest.raises(UserError, match=r"objective\.terms: constant has no gradient"):
        trainer.train()


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
