"""Trained models as two files: exported, read by every command, shipped, and on the Hub."""

import hashlib
import io
import json
import shutil
import sys
import types
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import pir as library
from pir.errors import UserError
from pir.evaluation.export import FIRST
from pir.evaluation.rollouts import evaluate, held_out
from pir.runs.folder import RunFolder, write_json
from pir.runs.load import load_trained
from pir.runs.names import find_run, results_of, shipped, working_folder
from pir.runs.records import read_manifest
from pir.runs.typed import to_json
from pir.system.stored import read_settings
from tests import zoo_table
from tests.conftest import TINY, in_this_process

MOST_BYTES = 2_000_000


def solved_of_first(parts):
    """Counts the first puzzles that are solved after each step to the trained depth."""
    puzzles = held_out(parts.puzzle, "test", FIRST)
    depth = parts.reasoner.improvement_steps
    return evaluate(parts.reasoner, parts.puzzle, puzzles, depth).solved.sum(0).tolist()


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """The tiny run, exported."""
    folder, said = tmp_path_factory.mktemp("exported") / "model", io.StringIO()
    with redirect_stdout(said):
        in_this_process("export", f"run={finished_run}", f"out={folder}", "test_puzzles=150")
    assert "of 150 test puzzles after 2 improvement steps" in said.getvalue()
    return folder


@pytest.fixture
def model(exported, tmp_path):
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


def change(folder, **fields):
    """Changes fields of a manifest; the hash follows the weights."""
    manifest = read_manifest(folder / "manifest.json")
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    write_json(folder / "manifest.json", to_json(replace(manifest, **{"sha256": sha256, **fields})))


# ---------------------------------------------------------------- the zoo


LONG = ("graph", "maze")
"""Models whose hundred puzzles take seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in shipped()]
)
def test_a_shipped_model_is_what_its_manifest_says(name):
    folder = shipped()[name]
    manifest, content = read_manifest(folder.manifest), folder.weights.read_bytes()
    assert len(content) == manifest.bytes < MOST_BYTES
    assert hashlib.sha256(content).hexdigest() == manifest.sha256
    assert {path.name for path in folder.path.iterdir()} == {"manifest.json", "model.safetensors"}
    assert manifest.info["commit"]
    assert manifest.minutes
    assert "/" not in manifest.command
    parts, config, path = load_trained(f"zoo:{name}", "cpu")
    assert parts.reasoner.parameter_count() == manifest.parameters
    assert config.choices.env == manifest.config["choices"]["env"]
    assert path == folder.weights
    reference = manifest.evaluation
    assert reference.puzzles >= FIRST == reference.first_puzzles
    assert len(reference.per_step) == manifest.improvement_steps
    for solved, row in zip(solved_of_first(parts), reference.per_step, strict=True):
        assert abs(solved - row.first_solved) <= 3  # rounding differs between machines


def test_the_page_has_the_models():
    text = zoo_table.DOCUMENT.read_text()
    assert zoo_table.replaced(text) == text, "make zoo"


def test_the_zoo_is_listed(pir_here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = json.loads(pir_here("list", "zoo", "output=json").stdout)
    assert {row["name"] for row in rows} == set(shipped()) >= {"sudoku4", "queens_orbits"}
    text = pir_here("list", "zoo").stdout
    assert len(text.splitlines()) == 1 + len(rows)  # no row is broken
    for row in rows:
        assert f"zoo:{row['name']}" in text
        assert f"{row['parameters']:,}" in text
    assert "run=zoo:sudoku4" in pir_here("list").stdout


def test_models_of_the_zoo_are_used_as_runs_and_never_written_to(pir_here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = shipped()["sudoku4"].path
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    done = pir_here("solve", "run=zoo:sudoku4", "puzzle=....24314.233214", "output=json")
    assert json.loads(done.stdout)["solved"]
    assert not list(tmp_path.iterdir())
    own = tmp_path / "runs/zoo/sudoku4"
    pir_here("gif", "run=zoo:sudoku4")
    assert (own / "figures/test0.gif").is_file()
    done = pir_here("report", "run=zoo:sudoku4", code=2)
    assert "`pir eval run=runs/zoo/sudoku4`" in done.stderr
    pir_here("eval", "run=zoo:sudoku4", "eval.puzzles=20", "eval.exit=entropy")
    pir_here("plot", "run=zoo:sudoku4")
    assert (own / "figures/improvement.png").is_file()
    words = ("puzzle=....24314.233214", "exit=entropy", "output=json")
    done = pir_here("solve", "run=zoo:sudoku4", *words)
    assert len(json.loads(done.stdout)["steps"]) < 3
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == before


def test_results_of_an_older_model_go_when_the_zoo_has_a_newer_one(tmp_path, monkeypatch, exported):
    monkeypatch.chdir(tmp_path)
    own = results_of("zoo:sudoku4")
    shutil.copytree(exported, own.path)
    facts = own.evaluated("eval.json")
    facts.parent.mkdir()
    for left in (False, True):
        facts.write_text("{}")
        assert working_folder("zoo:sudoku4").path == own.path
        assert facts.exists() == left
        assert own.manifest.read_bytes() == shipped()["sudoku4"].manifest.read_bytes()


def test_a_run_in_the_way_is_kept(tmp_path, monkeypatch, tiny_run):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/zoo/sudoku4")
    with pytest.raises(UserError, match="holds a run, and results of zoo:sudoku4 go there"):
        working_folder("zoo:sudoku4")
    assert not RunFolder("runs/zoo/sudoku4").exported


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo:sudok4", "did you mean sudoku4"),
        ("sudoku4", "there is no such folder; did you mean zoo:sudoku4?"),
        ("zoo:../runs", "there is no such model"),
        ("zoo:", "there is no such model"),
        ("hf:model", "is hf:OWNER/NAME"),
        ("hf:../..", "is hf:OWNER/NAME"),
        ("hf:a/b/c", "is hf:OWNER/NAME"),
    ],
)
def test_an_unknown_name_is_refused(pir_here, name, message):
    assert message in pir_here("solve", f"run={name}", "puzzle=x", code=2).stderr


# ---------------------------------------------------------------- an exported folder


def test_an_export_answers_as_its_run(exported, finished_run):
    ours, config, _ = load_trained(exported, "cpu")
    theirs = load_trained(RunFolder(finished_run), "cpu")[0]
    for (name, one), other in zip(
        ours.reasoner.state_dict().items(), theirs.reasoner.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    manifest = read_manifest(exported / "manifest.json")
    assert manifest.config == read_settings(finished_run / "config.yaml")
    assert config.seed == manifest.info["seed"]
    assert manifest.command.startswith("pir train env=countdown")
    assert "run=" not in manifest.command
    assert manifest.evaluation.unrounded_solved is None
    assert [row.first_solved for row in manifest.evaluation.per_step] == solved_of_first(ours)
    texts = ["3 7 8 = 29"]
    assert library.solve(ours.reasoner, ours.puzzle, texts) == library.solve(
        theirs.reasoner, theirs.puzzle, texts
    )


def test_a_tensor_of_two_names_is_stored_once(exported):
    reasoner = load_trained(exported, "cpu")[0].reasoner
    stored, state = load_file(exported / "model.safetensors"), reasoner.state_dict()
    assert len(stored) == len({weight.data_ptr() for weight in state.values()}) < len(state)


def test_bfloat16_halves_the_file_and_is_measured_beside(
    finished_run, exported, pir_here, tmp_path
):
    words = ("export", f"run={finished_run}", f"out={tmp_path}/half", "dtype=bfloat16")
    assert "before rounding)" in pir_here(*words, "test_puzzles=20").stdout
    manifest = read_manifest(tmp_path / "half/manifest.json")
    assert manifest.evaluation.unrounded_solved is not None
    assert manifest.bytes < 0.7 * read_manifest(exported / "manifest.json").bytes
    whole, half = (load_trained(path, "cpu")[0].reasoner for path in (exported, tmp_path / "half"))
    pairs = zip(whole.state_dict().values(), half.state_dict().values(), strict=True)
    assert all(torch.equal(one.bfloat16().to(one.dtype), other) for one, other in pairs)


def test_an_exported_folder_is_evaluated_and_begun_with(model, pir_here, tmp_path):
    pir_here("eval", f"runs={tmp_path}/mod*", "eval.puzzles=20")
    assert json.loads((model / "eval/eval.json").read_text())["checkpoint"] == "model.safetensors"
    assert read_settings(model / "config.yaml")["choices"]["env"] == "countdown"
    run = tmp_path / "run"
    words = [word for word in TINY if "max_optimizer_steps" not in word]
    done = pir_here("train", f"init={model}", f"run={run}", *words, "trainer.max_optimizer_steps=1")
    assert f"weights from {model / 'model.safetensors'}" in done.stderr
    assert json.loads((run / "info.json").read_text())["inputs"]["init"]["sha256"]


def test_the_zoo_is_begun_with_from_anywhere(pir_here, tmp_path):
    words = ("env=sudoku4", "init=zoo:sudoku4", "trainer.max_optimizer_steps=1")
    small = ("trainer.val_puzzles=10", "trainer.test_puzzles=10", "trainer.threads=1")
    done = pir_here("train", *words, *small, f"run={tmp_path / 'run'}")
    assert "fresh" not in done.stderr
    assert read_settings(tmp_path / "run/config.yaml")["init"] == "zoo:sudoku4"


def test_an_exported_folder_is_not_trained_in_or_exported_again(model, finished_run, pir_here):
    before = sorted(model.rglob("*"))
    done = pir_here("train", f"resume={model}", code=2)
    assert f"pir train init={model}" in done.stderr
    assert "trained model" in pir_here("train", f"run={model}", *TINY, code=2).stderr
    assert "trained model" in pir_here("train", "run=zoo:sudoku4", *TINY, code=2).stderr
    done = pir_here("export", f"run={finished_run}", f"out={model}", code=2)
    assert "not empty" in done.stderr
    assert "out=DIR is needed" in pir_here("export", f"run={finished_run}", code=2).stderr
    done = pir_here("export", "run=zoo:sudoku4", f"out={model.parent / 'b'}", code=2)
    assert "is exported already" in done.stderr
    done = pir_here("export", f"run={finished_run}", "out=x", "dtype=int8", code=2)
    assert "dtype=int8: allowed are float32, bfloat16" in done.stderr
    assert sorted(model.rglob("*")) == before


def test_what_strangers_changed_is_refused(model, pir_here):
    solve = ("solve", f"run={model}", "puzzle=3 7 8 = 29")
    pir_here(*solve)
    weights, manifest = model / "model.safetensors", read_manifest(model / "manifest.json")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "damaged: its SHA-256 is" in pir_here(*solve, code=2).stderr
    weights.write_bytes(content[: len(content) // 2])
    change(model)
    assert "model.safetensors is damaged" in pir_here(*solve, code=2).stderr
    save_file({"other": torch.zeros(3)}, weights)
    change(model)
    assert "does not fit this model" in pir_here(*solve, code=2).stderr
    save_file(load_file(model / "model.safetensors"), weights, {"y": "nowhere"})
    change(model)
    assert "model.safetensors is damaged" in pir_here(*solve, code=2).stderr
    weights.write_bytes(content)
    change(model, improvement_steps=3)
    assert "trained for 3 improvement steps" in pir_here(*solve, code=2).stderr
    evil = manifest.config | {"env": {"_target_": "os.system"}}
    change(model, improvement_steps=2, config=evil)
    assert "env._target_=os.system: no such class" in pir_here(*solve, code=2).stderr
    change(model, improvement_steps=2, config={"seed": 1})
    assert "manifest.json is damaged: " in pir_here(*solve, code=2).stderr
    change(model, schema_version=9)
    assert "no manifest of a pir model, version 1" in pir_here(*solve, code=2).stderr


# ---------------------------------------------------------------- the Hub


def test_models_are_pushed_to_the_hub_and_read_from_it(
    model, pir_here, monkeypatch, tmp_path, finished_run
):
    hub = tmp_path / "hub"

    def upload_folder(*, repo_id, folder_path, allow_patterns):
        for name in allow_patterns:
            (hub / repo_id).mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder_path) / name, hub / repo_id / name)

    def snapshot_download(*, repo_id, allow_patterns):
        if not (hub / repo_id).is_dir():
            raise FileNotFoundError(f"no {repo_id} there")
        return str(hub / repo_id)

    fake = types.SimpleNamespace(upload_folder=upload_folder, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.chdir(tmp_path)
    done = pir_here("export", f"run={model}", "push=me/tiny")
    assert "run=hf:me/tiny" in done.stdout
    assert {path.name for path in (hub / "me/tiny").iterdir()} == {
        "manifest.json",
        "model.safetensors",
    }
    pir_here("solve", "run=hf:me/tiny", "puzzle=3 7 8 = 29")
    assert working_folder("hf:me/tiny").path == Path("runs/hf/me/tiny")
    assert Path("runs/hf/me/tiny/model.safetensors").is_file()
    assert find_run("hf:me/tiny").exported
    done = pir_here("solve", "run=hf:me/none", "puzzle=3 7 8 = 29", code=2)
    assert "hf:me/none: no me/none there" in done.stderr


def test_without_its_library_the_hub_is_explained(pir_here, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = pir_here("solve", "run=hf:me/tiny", "puzzle=x", code=2)
    assert "pip install 'policy-improvement-reasoners[hub]'" in done.stderr
