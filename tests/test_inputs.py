"""Puzzle files and the run to begin with are remembered by absolute path and checksum."""

import hashlib
import json
import os
import random
import shutil

import pytest
import yaml
from omegaconf import OmegaConf
from pir.envs.views.registration import build_puzzle

from pir.cli.commands.train import _train, _with_changes
from pir.errors import UserError
from pir.puzzle import SPLITS
from pir.runs import inputs
from pir.runs.folder import RunFolder, resolved
from pir.runs.load import load_trained
from pir.runs.records import read_manifest
from tests.conftest import compose_config

FEW = ("trainer.val_puzzles=5", "trainer.test_puzzles=5", "trainer.max_optimizer_steps=3")


@pytest.fixture(scope="module")
def lines():
    puzzle = build_puzzle("sudoku4")
    given = [puzzle.sample(15, split, seed=7)["question"] for split in SPLITS]
    return [puzzle.format_question(q) for questions in given for q in questions]


@pytest.fixture
def run(tmp_path, monkeypatch, lines):
    """A run from a file that was named by a relative path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("\n".join(lines))
    folder = RunFolder("run")
    config = compose_config("env=sudoku4", "env.puzzles=p.txt", "objective=deep_supervision", *FEW)
    _train(config, folder, resuming=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "p.txt").write_text("another file of that name")
    return RunFolder(tmp_path / "run")


def resume(run):
    _train(run.read_config(), run, resuming=True)


def test_a_model_of_a_file_is_exported_without_it(run, tmp_path, pir_here):
    out, bound = tmp_path / "out", tmp_path / "bound"
    words = ("export", f"run={run.path}", "test_puzzles=5")
    pir_here(*words, f"out={out}", "env.puzzles=null")
    pir_here(*words, f"out={bound}")
    (tmp_path / "p.txt").unlink()
    manifest = read_manifest(out / "manifest.json")
    assert manifest.config["env"] == resolved(run.read_config())["env"] | {"puzzles": None}
    assert manifest.info["inputs"] == {}
    pir_here("eval", f"run={out}", "eval.puzzles=10")
    said = pir_here("eval", f"run={bound}", "eval.puzzles=10", code=2).stderr
    assert "put that file back, or solve puzzles of your own" in said
    pir_here("solve", f"run={bound}", "puzzle=....24314.233214")


def test_the_file_is_found_from_another_folder(run, tmp_path):
    file = tmp_path / "p.txt"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert yaml.safe_load(run.config.read_text())["env"]["puzzles"] == str(file)
    known = json.loads(run.info.read_text())["inputs"]
    assert known == {"env.puzzles": {"path": str(file), "sha256": digest}}
    resume(run)
    load_trained(run, "cpu")


CHANGES = {
    "shuffled": lambda lines: random.Random(1).sample(lines, len(lines)),
    "shorter": lambda lines: lines[:-1],
    "longer": lambda lines: [*lines, lines[0]],
    "a clue more": lambda lines: [lines[0].replace(".", "1", 1), *lines[1:]],
    "no puzzles": lambda lines: ["x"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_file_is_refused(run, tmp_path, lines, change):
    (tmp_path / "p.txt").write_text("\n".join(CHANGES[change](lines)))
    with pytest.raises(UserError, match=r"env\.puzzles=.*p\.txt has changed.*SHA-256"):
        resume(run)
    with pytest.raises(UserError, match="has changed"):
        load_trained(run, "cpu")


def test_a_file_that_moved_is_named_anew(run, tmp_path):
    os.rename(tmp_path / "p.txt", tmp_path / "q.txt")
    said = r"no such file.*pir train resume=.*env\.puzzles=NEWPATH"
    with pytest.raises(UserError, match=said):
        load_trained(run, "cpu")
    composed = OmegaConf.create({"env": {"puzzles": "../q.txt"}})
    config = _with_changes(run, composed, ["resume=x", "env.puzzles=../q.txt"])
    _train(config, run, resuming=True)
    assert run.read_config().env.puzzles == str(tmp_path / "q.txt")
    load_trained(run, "cpu")
    (tmp_path / "q.txt").write_text("another")
    with pytest.raises(UserError, match="has changed"):
        _train(_with_changes(run, composed, ["env.puzzles=../q.txt"]), run, resuming=True)


def test_without_info_json_nobody_knows(run):
    run.info.unlink()
    with pytest.raises(UserError, match=r"info\.json does not hold the file's checksum"):
        resume(run)


def test_files_of_plug_ins_are_inputs_too(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("puzzles")
    config = OmegaConf.create(
        {"env": {"inner": {"puzzles": str(file)}, "puzzles": "hard", "other": str(file)}}
    )
    assert list(inputs.record(config)) == ["env.inner.puzzles"]  # "hard" names no file


def test_the_run_to_begin_with_is_remembered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _train(compose_config(*FEW), RunFolder("base"), resuming=False)
    _train(compose_config(*FEW, "init=base", "seed=1"), RunFolder("run"), resuming=False)
    run = RunFolder("run")
    best = next(p for p in (RunFolder("base").end, RunFolder("base").best) if p.is_file())
    known = json.loads(run.info.read_text())["inputs"]["init"]
    assert known == {"path": os.path.abspath(best), "sha256": inputs.file_sha256(best)}
    assert run.read_config().init == str(tmp_path / "base")
    # killed before the first checkpoint: it begins with the same weights again, or not at all
    shutil.rmtree("run/checkpoints")
    for name in ("metrics.csv", "summary.json"):
        os.unlink(f"run/{name}")
    resume(run)
    shutil.rmtree("run/checkpoints")
    os.unlink("run/metrics.csv")
    _train(compose_config(*FEW, "seed=5"), RunFolder("other"), resuming=False)
    shutil.rmtree("base")
    shutil.copytree("other", "base")
    with pytest.raises(UserError, match=r"init=.* has changed"):
        resume(run)
