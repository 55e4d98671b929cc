"""Settings that would be ignored, or do harm, are refused before anything is done or lost."""

import json
import shutil

import pytest
from omegaconf import OmegaConf

from pir.cli.commands import export as export_command
from pir.errors import MissingExtraError, UserError
from pir.evaluation.export import export_run
from pir.runs.folder import RunFolder
from pir.settings.training import TrainerSettings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "eval.split=val", "env.puzzles=FILE"], "eval.split=val: env.puzzles is a test"),
        (["eval", "env.skip_faulty=true"], "env.skip_faulty=true: there is no file"),
        (["eval", "eval.dtype=float16"], "eval.dtype=float16"),
        (["eval", "eval.exit=halt_head"], "eval.exit=halt_head: it needs halt_probability"),
        (["solve", "puzzle=3 7 8 = 29", "exit.threshold=2", "improvement_steps=2"],
         "exit.threshold and improvement_steps both"),
        (["gif", "puzzle=3 7 8 = 29", "index=7"], "index=7: picks one of the run's puzzles"),
        (["export", "out=zoo:mine"], "out=zoo:mine: that is the name of a model"),
        (["export", "out=made", "push=a/b/"], "push=a/b/: allowed is OWNER/NAME"),
    ],
)  # fmt: skip
def test_what_a_run_is_asked_for_in_vain(pir_here, tiny_run, words, message):
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    said = pir_here(words[0], f"run={tiny_run}", *words[1:], code=2).stderr
    assert message in said
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "envs", "seconds=inf"], "seconds=inf: must be above 0 and finite"),
        (["bench", "envs", "out=a.png"], "out=a.png: only `pir bench growth` draws"),
        (["bench", "train", "against=nobody"], "against=nobody"),
        (["train", "init=nowhere"], "init=nowhere: there is no such folder"),
        (["train", "experiment=countdown_stress"], "start it with `pir train -m"),
        (["train", "trainer.max_minutes=inf"], "trainer.max_minutes=inf: must be a finite"),
    ],
)
def test_what_any_command_is_asked_for_in_vain(pir_here, words, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = pir_here(*words, code=2).stderr
    assert message in said
    assert "ms/step" not in said
    assert "compil" not in said


def test_standard_input_is_for_one_run(pir_here, tiny_run, tmp_path):
    other = shutil.copytree(tiny_run, tmp_path / "other")
    said = pir_here("eval", f"runs={tiny_run} {other}", "env.puzzles=-", code=2).stderr
    assert "standard input is read once" in said


def test_a_client_that_is_missing_is_told_before_anything_is_written(monkeypatch, tiny_run):
    def missing(repo):
        raise MissingExtraError(f"hf:{repo}", "hub")

    monkeypatch.setattr(export_command, "require_client", missing)
    out = tiny_run / "exported"
    config = OmegaConf.create({
        "run": str(tiny_run), "out": str(out), "dtype": "float32", "test_puzzles": 5,
        "push": "me/model", "device": "cpu",
    })  # fmt: skip
    with pytest.raises(MissingExtraError):
        export_command.run(config)
    assert not out.exists()


def test_an_export_that_fails_leaves_no_half(tiny_run, tmp_path):
    out = RunFolder(tmp_path / "out")
    with pytest.raises(ValueError, match="JSON"):
        export_run(RunFolder(tiny_run), out, "float32", 5, "cpu", minutes=float("inf"),
                   hardware="", command="")  # fmt: skip
    assert not out.weights.exists()


def test_weights_are_exported_in_no_other_dtype(tiny_run, tmp_path):
    with pytest.raises(UserError, match="dtype=float16: allowed are float32, bfloat16"):
        export_run(RunFolder(tiny_run), RunFolder(tmp_path / "out"), "float16", 5, "cpu",
                   minutes=None, hardware="", command="")  # fmt: skip


@pytest.mark.parametrize("key", ["max_minutes", "ema_decay", "max_grad_norm", "replay_share"])
def test_numbers_of_training_are_finite(key):
    for value in (float("inf"), float("nan")):
        with pytest.raises(UserError, match=f"trainer.{key}"):
            TrainerSettings(**{"max_optimizer_steps": 1, key: value})


def test_fewer_steps_than_trained_are_called_so(pir_here, tiny_run):
    """The tiny run is trained for 2 steps."""
    words = ["eval", f"run={tiny_run}", "eval.puzzles=20", "eval.step_size=[0.5]"]
    said = pir_here(*words, "eval.improvement_steps=1").stdout
    assert "step size, at step 1 of 2: " in said
    plotted = pir_here("plot", f"run={tiny_run}", "kind=step-size").stderr
    assert "At step 1 of 2 " in plotted
    assert " are solved after step 1 of 2 (95 %" in pir_here("plot", f"run={tiny_run}").stderr
    assert "at the trained depth: " in pir_here(*words).stdout
    assert (
        "At the trained depth (step 2) "
        in pir_here("plot", f"run={tiny_run}", "kind=step-size").stderr
    )


def test_tables_that_a_resumed_run_takes_away_are_named(pir_here, tiny_run):
    pir_here("eval", f"run={tiny_run}", "eval.puzzles=20", "eval.exit=fixed")
    assert (tiny_run / "eval/exits.csv").is_file()
    more = json.loads((tiny_run / "summary.json").read_text())["optimizer_steps"] + 1
    done = pir_here(
        "train", f"resume={tiny_run}", f"trainer.max_optimizer_steps={more}",
        "trainer.test_puzzles=10",
    )  # fmt: skip
    assert "gone with the evaluation before: exits.csv" in done.stderr
