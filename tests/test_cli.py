"""The command line as a user types it."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from pir.cli.main import main
from pir.cli.words import quote
from pir.runs.folder import RunFolder
from pir.system.terminal import NO_READER
from tests.conftest import TINY

RUN_FILES = [
    "config.yaml",
    "metrics.csv",
    "improvement.csv",
    "improvement_train.csv",
    "timing.csv",
    "checkpoints/last.pt",
    "checkpoints/best.pt",
    "figures/improvement.png",
    "eval/per_step.csv",
    "eval/per_puzzle.csv",
    "eval/eval.json",
]

SUMMARY_KEYS = [
    "env",
    "model",
    "objective",
    "seed",
    "parameters",
    "improvement_steps",
    "forward_passes",
    "optimizer_steps",
    "puzzles_seen",
    "seconds",
    "solved",
    "solved_interval",
    "exact_accuracy",
    "cell_accuracy",
    "dead_fraction",
]


def test_help_and_list_are_quick_and_light(pir):
    for words in (["--help"], ["list"], ["list", "envs"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        pir(*words)
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.0, words
    check = (
        "import sys, pir.cli.main; pir.cli.main.main(['list']);"
        "print({'torch', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_list_as_json(pir_here):
    envs = json.loads(pir_here("list", "envs", "output=json").stdout)
    assert {"name", "summary"} == set(envs[0])
    assert "countdown" in [env["name"] for env in envs]
    everything = json.loads(pir_here("list", "output=json").stdout)
    assert {"trm"} <= {row["name"] for row in everything["models"]}
    assert {"awr", "deep_supervision", "set_likelihood"} <= {
        row["name"] for row in everything["objectives"]
    }
    assert all(row["summary"] for rows in everything.values() for row in rows)


def test_info(pir_here):
    info = json.loads(pir_here("info", "model.hidden_size=64", "output=json").stdout)
    assert info["model"]["forward_passes"] == 9
    assert info["model"]["flops_per_step"] > 3 * info["model"]["parameters"]
    assert info["model"]["parameters"] > 50_000
    assert info["versions"]["torch"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "did you mean train?"),
        (["train", "env=cuontdown"], "env=cuontdown: there is no such choice; did you mean coun"),
        (
            ["train", "objective=foo"],
            "allowed: awr, awr_revisions, cfg, deep_supervision, dis",
        ),
        (["train", "modle=trm"], "modle is no setting; did you mean model?"),
        (["train", "trainer.max_minuts=1"], "did you mean max_minutes?"),
        (["train", "model.hiden_size=3"], "did you mean hidden_size?"),
        (["train", "trainer.max_minutes=abc"], "trainer.max_minutes=abc: allowed is a number"),
        (["train", "optim.lr=nan"], "optim.lr=nan: allowed is a finite number"),
        (["train", "optim.lr=inf"], "optim.lr=inf: allowed is a finite number"),
        (["train", "resume=zoo:sudoku4"], "holds an exported model"),
        (["solve", "run=zoo:sudoku4", "puzzle=1", "improvement_steps=1000001"], "at most 1000000"),
        (["export", "run=zoo:sudoku4", "push=me"], "push=me: allowed is OWNER/NAME"),
        (["train", "trainer.batch_size=1.55e1"], "batch_size=1.55e1: allowed is a whole number"),
        (["train", "lr=0.001"], "lr is no setting; did you mean optim.lr?"),
        (["train", "hiden_size=3"], "hiden_size is no setting; did you mean model.hidden_size?"),
        (["solve", "run=x", "puzzle=3", "7", "8", "=", "29"], "quotes: puzzle='3 7 8 = 29'"),
        (["solve", "run=x", "puzzle=3 7", "outptu=json"], "did you mean output?"),
        (["eval", "runs=a", "b", "eval.puzzles=3"], "needs quotes: runs='a b'\n"),
        (["train", "model.hidden_size=abc"], "model.hidden_size=abc: allowed is a whole number"),
        (["train", "env.numbers=9"], "env.numbers=9: allowed are 3 to 6"),
        (["train", "+model.extra=1"], "model.extra is unknown"),
        (["train", "model._target_=os.system"], "no such class"),
        (["train", "model._target_=subprocess.Popen"], "no such class"),
        (["train", "model._target_=pir.runs.loggers.NoLogger"], "is no pir.reasoner.Reasoner"),
        (["train", "env=countdown", "countdown"], "settings are key=value"),
        (["train", "run="], "run= is empty"),
        (["train", "trainer.max_minutes=[1"], "no viable alternative"),
        (["train", "device=quantum"], "device=quantum: not available"),
        (["eval", "run=/nonexistent"], "holds no run"),
        (["eval"], "run"),
        (["solve", "run=/nonexistent", "puzzle=1 2 3 = 10"], "holds no run"),
        (["solve", "run=/nonexistent"], "give either puzzle="),
        (["plot", "runs=/nonexistent/*"], "there is no run"),
        (["plot"], "give either run="),
        (["list", "envz"], "allowed are envs"),
        (["list", "output=xml"], "output=xml: allowed are text, json"),
        (["train", "puzle=3 7 8 = 29"], "puzle is no setting"),
        (["solve", "puzle=3 7 8 = 29"], "did you mean puzzle?"),
        (["train", "optim=adamw", "optim.momentum=1"], "(allowed: _target_, betas, lr, weight_dec"),
        (["train", "objective=awr", "objective.terms.advantage.bta=1"], "did you mean beta?"),
        (["train", "run=" + "a" * 300], "File name too long"),
        (["train", "run=/dev/null/x"], "/dev/null/x"),
        (["train", "resume=/nonexistent"], "holds no run"),
        (["train", "recipe=nosuch"], "recipe=nosuch: allowed are"),
        (["show", "index=99999999999999999999"], "allowed are 0 to 2**62 - 1"),
        (["bench", "seconds=nan"], "must be above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_a_message(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert len(err) < 600
    assert "Traceback" not in err


def test_hydras_own_options_work(pir_here):
    assert "hidden_size: 99" in pir_here("train", "--cfg", "job", "model.hidden_size=99").stdout
    assert "batch_size: 1000" in pir_here("train", "--cfg=job", "trainer.batch_size=1e3").stdout


def test_train_leaves_a_whole_run_folder(tiny_run):
    summary = json.loads((tiny_run / "summary.json").read_text())
    for key in SUMMARY_KEYS:
        assert key in summary, key
    assert summary["forward_passes"] == 4
    assert summary["optimizer_steps"] == 12
    low, high = summary["solved_interval"]
    assert 0 <= low <= summary["solved"] <= high <= 1
    info = json.loads((tiny_run / "info.json").read_text())
    assert info["seed"] == 0
    assert "pir train" in (tiny_run / "command.txt").read_text()
    for name in RUN_FILES:
        assert (tiny_run / name).stat().st_size > 0, name
    header = (tiny_run / "improvement.csv").read_text().splitlines()[0]
    assert header.startswith("optimizer_step,k,forward_passes,solved,exact_accuracy,cell_accuracy")


def test_a_run_is_never_overwritten(pir_here, tiny_run):
    before = (tiny_run / "summary.json").read_bytes()
    done = pir_here("train", f"run={tiny_run}", *TINY, code=2)
    assert "already holds a run" in done.stderr
    assert (tiny_run / "summary.json").read_bytes() == before


def test_resume_by_command(pir_here, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    folder = tmp_path / "run"
    pir_here("train", f"run={folder}", *TINY, "trainer.max_optimizer_steps=4")
    done = pir_here("train", f"resume={folder}", "trainer.max_optimizer_steps=8")
    assert "changed on resume: trainer.max_optimizer_steps 4 -> 8" in done.stderr
    assert json.loads((folder / "summary.json").read_text())["optimizer_steps"] == 8
    config = (folder / "config.yaml").read_bytes()
    assert main(["train", f"resume={folder}", "device=quantum"]) == 2
    assert (folder / "config.yaml").read_bytes() == config
    for override in ("model.hidden_size=32", "seed=5", "trainer.batch_size=8", "trainer=default"):
        assert main(["train", f"resume={folder}", override]) == 2
        assert "cannot change when a run is resumed" in capsys.readouterr().err


def test_a_mistake_leaves_no_run_behind(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert main(["train", f"run={tmp_path / 'run'}", "trainer.lanes=odd"]) == 2
    said = capsys.readouterr().err
    assert "allowed are halting, ledger, staggered" in said
    assert "run folder" not in said
    assert not (tmp_path / "run").exists()


def test_sweep_makes_one_run_per_job(pir_here, tmp_path):
    pir_here("train", "-m", "env=countdown", "seed=0,1", f"run={tmp_path / 'sweep'}", *TINY)
    folders = sorted(path.parent for path in tmp_path.glob("sweep/*/summary.json"))
    seeds = [json.loads((folder / "summary.json").read_text())["seed"] for folder in folders]
    assert sorted(seeds) == [0, 1]


def test_eval_to_any_depth(pir_here, tiny_run):
    words = ["eval", f"run={tiny_run}", "eval.improvement_steps=7", "eval.puzzles=30"]
    result = json.loads(pir_here(*words, "output=json").stdout)
    assert [row["k"] for row in result["per_step"]] == list(range(1, 8))
    assert [row["forward_passes"] for row in result["per_step"]] == list(range(2, 15, 2))
    rows = (tiny_run / "eval/per_step.csv").read_text().splitlines()
    assert len(rows) == 8
    assert len((tiny_run / "eval/per_puzzle.csv").read_text().splitlines()) == 31
    assert "<- trained" in pir_here(*words).stdout


def test_solve_one_puzzle(pir_here, tiny_run):
    done = pir_here("solve", f"run={tiny_run}", "puzzle=3 7 8 = 29")
    first, *lines = done.stdout.splitlines()
    assert first == "3 7 8 = 29"
    assert re.match(r"  (steps 1-2|step 2)  \S", lines[-1])
    assert lines[-1].endswith("solved") != ("not solved; improvement_steps=8" in done.stderr)
    words = ["solve", f"run={tiny_run}", "puzzle=3 7 8 = 29", "improvement_steps=5", "output=json"]
    result = json.loads(pir_here(*words).stdout)
    assert set(result) >= {"puzzle", "answer", "solved", "steps"}
    assert [step["k"] for step in result["steps"]] == [1, 2, 3, 4, 5]
    assert set(result["steps"][0]) == {"k", "answer", "solved", "score"}


def test_solve_tells_what_is_lacking(pir_here, tiny_run):
    words = ["solve", f"run={tiny_run}"]
    lacking = pir_here(*words, "exit=halt_head", "puzzle=3 7 8 = 29", code=2).stderr
    assert "exit=halt_head needs halt_probability, which this model does not have" in lacking
    assert "is written so: puzzle='24 19 17 = 60'" in pir_here(*words, "puzzle=3 7", code=2).stderr


def test_solve_a_file_with_bad_lines(pir_here, tiny_run, tmp_path):
    file = tmp_path / "puzzles = ü #1.txt"
    file.write_text("3 7 8 = 29\n\n1 2 x = 10\n1 1 1 = 99\n4 5 6 = 15\n", encoding="utf-8")
    done = pir_here("solve", f"run={tiny_run}", f"puzzles={file}", "output=json", code=2)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["puzzle"] for result in results] == [
        "3 7 8 = 29",
        "1 2 x = 10",
        "1 1 1 = 99",
        "4 5 6 = 15",
    ]
    assert results[1]["error"] == "'x' is no number (column 5)"
    assert results[2]["error"].startswith("no answer exists (exhaustive search): every division")
    assert results[1]["answer"] is None
    assert len(results[3]["steps"]) == 2
    assert "line 3" in done.stderr
    assert "line 4" in done.stderr


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b"\n\n"])
def test_files_without_puzzles_are_refused(pir_here, tiny_run, tmp_path, content):
    file = tmp_path / "puzzles.txt"
    file.write_bytes(content)
    done = pir_here("solve", f"run={tiny_run}", f"puzzles={file}", code=2)
    assert "puzzles=" in done.stderr


def test_plot_several_runs(pir_here, tiny_run, tmp_path):
    out = tmp_path / "curve, of = all.png"
    pir_here("plot", f"runs={tiny_run.parent}/*", f"out={out}")
    assert out.stat().st_size > 5000
    assert "must be one of .png" in pir_here("plot", f"run={tiny_run}", "out=x.bmp", code=2).stderr


def test_options_may_stand_anywhere(pir_here, tmp_path):
    (tmp_path / "env").mkdir()
    pir_here("list", "output=json", "envs", "--config-dir", str(tmp_path))
    pir_here("train", "--config-dir", str(tmp_path), "env=countdown", "--cfg", "job", "seed=3")
    assert (
        "search path" in pir_here("train", "env=countdown", "--info", "searchpath").stdout.lower()
    )


def test_two_processes_cannot_train_in_one_folder(pir, tiny_run):
    with RunFolder(tiny_run).claim():
        done = pir("train", f"resume={tiny_run}", code=2)
    assert "another process is training" in done.stderr


def test_a_sweep_goes_on_after_a_mistake(pir_here, tmp_path):
    words = ["train", "-m", "env.numbers=9,3", f"run={tmp_path / 'sweep'}", *TINY]
    done = pir_here(*words, code=2)
    assert "env.numbers=9: allowed are 3 to 6" in done.stderr
    assert len(list(tmp_path.glob("sweep/*/summary.json"))) == 1


def test_a_damaged_config_is_refused(capsys, monkeypatch, tiny_run, tmp_path):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    text = (folder / "config.yaml").read_text()
    for damaged in ("trainer: 5\n", "a: [", text.replace("batch_size: 16", "batch_size: x"), "x"):
        (folder / "config.yaml").write_text(damaged)
        assert main(["solve", f"run={folder}", "puzzle=3 7 8 = 29"]) == 2
        assert "config.yaml is damaged" in capsys.readouterr().err, damaged


def test_a_folder_of_settings_adds_choices(pir_here, tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env/mine.yaml").write_text(
        "# My own Countdown.\n_target_: pir.envs.countdown.Countdown\nnumbers: 4\n"
    )
    done = pir_here("list", "envs", f"--config-dir={tmp_path}", "output=json")
    assert {"name": "mine", "summary": "My own Countdown."} in json.loads(done.stdout)
    shown = pir_here("train", "--config-dir", str(tmp_path), "env=mine", "--cfg", "job").stdout
    assert "numbers: 4" in shown


@pytest.mark.parametrize(
    "text",
    [
        "3 7 8 = 29",
        "it's",
        "a\\",
        "\\'",
        "a\\\\'b",
        "${oc.env:HOME}",
        "a\\${b}",
        "ü#=,[]{}()~+",
        '"',
        "a, b",
    ],
)
def test_raw_text_reaches_the_command_as_typed(pir_here, monkeypatch, text):
    puzzles = []
    solve = types.SimpleNamespace(run=lambda config: puzzles.append(config.puzzle))
    monkeypatch.setitem(sys.modules, "pir.cli.commands.solve", solve)
    pir_here("solve", "run=x", f"puzzle={text}")
    assert puzzles == [text], quote(text)


def test_paths_as_typed(pir_here, tiny_run, tmp_path):
    copy = tmp_path / "ein Lauf = #1 'ü'"
    subprocess.run(["cp", "-r", tiny_run, copy], check=True)
    pir_here("eval", f"run={copy}", "eval.puzzles=10")
    pir_here("plot", f"run={copy}")
    assert Path(copy / "eval/eval.json").exists()


def printed_to(stdout, *words):
    command = [sys.executable, "-m", "pir", *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["list"], ["list", "envs", "output=json"], ["eval", "-h"]]
)
def test_a_reader_that_has_seen_enough(words):
    """As `pir list | head -1`: no traceback, and no word of Python at its end."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = printed_to(writer, *words)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (NO_READER, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_under_the_output():
    with open("/dev/full", "w") as full:
        done = printed_to(full, "--help")
    assert (done.returncode, done.stderr) == (2, "pir: [Errno 28] No space left on device\n")
