"""Folders and files of somebody else: their code does not run, they lead nowhere else."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from pir.analysis.figures.style import save_figure
from pir.analysis.reading.runs import Run

from pir.cli.main import main
from pir.errors import UserError
from pir.runs.folder import (
    RunFolder,
    as_yaml,
    write_atomically,
    write_text,
)
from pir.runs.load import load_trained
from pir.runs.names import find_runs
from pir.runs.row_file import RowFile
from pir.settings import plugins
from pir.system.stored import literal, parse_settings, read_object, read_settings, read_table
from tests.conftest import TINY
from tests.run_folders import write_run

CODE = "from pathlib import Path; Path({!r}).touch()\n"


@pytest.fixture(autouse=True)
def keep_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    plugins.forget()


@pytest.fixture
def strangers_run(tiny_run, tmp_path):
    """A copy of a trained run, to be spoiled."""
    return Path(shutil.copytree(tiny_run, tmp_path / "theirs"))


def edit(folder, **settings):
    """Changes config.yaml of a run; a key may be dotted with two underscores."""
    content = yaml.safe_load((folder / "config.yaml").read_text())
    for key, value in settings.items():
        *path, name = key.split("__")
        place = content
        for part in path:
            place = place[part]
        place[name] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(content))


# ---------------------------------------------------------------- code


@pytest.mark.parametrize(
    "target",
    ["this.X", "idlelib.idle.X", "antigravity.X", "os.path.X", "pir.../../x", "pir.setup.X", "X",
     "pir.tests.X", "torch.hub.X", "torch.optimizers.X", "evil.X", "pir", ".pir.X", "builtins.eval",
     "pir.envs.sudoku.Sudoku\n", "pir..X", "numpy.ndarray", 7, None, ["this.X"]],
)  # fmt: skip
def test_a_class_is_looked_up_without_importing_its_module(
    strangers_run, capsys, monkeypatch, target
):
    (strangers_run / "evil.py").write_text(CODE.format(str(strangers_run / "ran")))
    monkeypatch.chdir(strangers_run)
    edit(strangers_run, env___target_=target)
    before = set(sys.modules)
    for words in (["solve", "run=.", "puzzle=3 7 8 = 29"], ["train", "resume=."]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "env._target_" in err or "no pir.puzzle.Puzzle" in err or "env has no" in err
    new = {"this", "idlelib", "antigravity", "evil", "setup", "pir.setup", "pir.tests", "torch.hub"}
    assert not (set(sys.modules) - before) & new
    assert not (strangers_run / "ran").exists()


def test_a_folder_named_by_the_user_may_hold_the_class(tmp_path):
    (tmp_path / "trusted.py").write_text("class Thing: pass\n")
    with pytest.raises(UserError, match="need --config-dir=FOLDER in every command"):
        plugins.find_class("trusted.Thing", "env._target_")
    plugins.open_folder(str(tmp_path), ["env"])
    assert str(tmp_path) not in sys.path  # nothing there hides a library's module
    assert plugins.find_class("trusted.Thing", "env._target_").__name__ == "Thing"
    (tmp_path / "json.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UserError, match="another module is called json"):
        plugins.find_class("json.Thing", "env._target_")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UserError, match="SystemExit: 3"):
        plugins.find_class("leaves.Thing", "env._target_")


def test_a_plug_in_folder_that_is_not_chosen_runs_no_code(tmp_path, capsys):
    for name in ("torch", "yaml", "triton", "hydra_plugins", "plug"):
        (tmp_path / f"{name}.py").write_text(CODE.format(str(tmp_path / "ran")))
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "plug.yaml").write_text("# Plug\n_target_: plug.Plug\n")
    assert main(["list", "envs", f"--config-dir={tmp_path}"]) == 0
    assert main(["show", "env=countdown", f"--config-dir={tmp_path}"]) == 0
    assert "env=plug" in capsys.readouterr().out
    assert not (tmp_path / "ran").exists()
    (tmp_path / "env" / "bomb.yaml").write_text("a: &a [x]\nb: [*a, *a]\n")
    assert main(["list", "envs", f"--config-dir={tmp_path}"]) == 2
    assert "bomb.yaml is damaged: anchors and aliases" in capsys.readouterr().err


def test_the_current_directory_is_no_library(pir, strangers_run):
    """Modules, and settings of libraries, that lie where the command is typed."""
    for name in (
        "yaml",
        "torch",
        "hydra",
        "evil",
        "pathlib",
        "numba",
        "matplotlib",
        "rich",
        "numpy",
    ):
        (strangers_run / f"{name}.py").write_text(
            f"open({str(strangers_run / ('ran ' + name))!r}, 'w')\n"
        )
    for name in ("hydra_plugins", "conf", ".hydra"):
        (strangers_run / name).mkdir()
        (strangers_run / name / "evil.py").write_text(
            f"open({str(strangers_run / 'ran')!r}, 'w')\n"
        )
    (strangers_run / ".numba_config.yaml").write_text("cache_dir: .\ndisable_jit: 1\n")
    os.mkfifo(strangers_run / "matplotlibrc")
    pir("gif", "run=.", "puzzle=3 7 8 = 29", "out=a.gif", cwd=strangers_run)
    assert (strangers_run / "a.gif").is_file()
    assert not list(strangers_run.rglob("ran*"))
    assert not list(strangers_run.rglob("*.nbi"))


# ---------------------------------------------------------------- settings


def test_the_environment_is_never_read(strangers_run, monkeypatch, capsys):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2hunter2")
    secret = "${oc.env:SECRET_TOKEN}"
    edit(strangers_run, choices__env=secret, choices__model="${seed}", logger__x=None)
    edit(strangers_run, objective__name=secret, init=secret)
    for words in (
        ["eval", f"run={strangers_run}", "eval.puzzles=4"],
        ["report", f"run={strangers_run}"],
        ["table", f"runs={strangers_run}"],
        ["train", f"resume={strangers_run}", "trainer.max_optimizer_steps=13"],
    ):
        main(words)
    out = "".join(capsys.readouterr())
    assert "hunter2" not in out
    for file in strangers_run.rglob("*"):
        assert not file.is_file() or b"hunter2" not in file.read_bytes(), file
    assert json.loads((strangers_run / "eval/eval.json").read_text())["env"] == secret


def test_text_with_a_dollar_survives(tmp_path):
    content = {"a": "${x}", "b": [r"\${y}", r"\\${z", "$", "}"], "c": {"d": "runs/${now}/1e-5"}}
    text = as_yaml(content)
    assert parse_settings(text, "here") == content
    config = OmegaConf.create(literal(parse_settings(text, "here")))
    assert OmegaConf.to_container(config, resolve=True) == content
    assert config.c.d == "runs/${now}/1e-5"
    write_text(tmp_path / "x.yaml", text)
    assert read_settings(tmp_path / "x.yaml") == content


BOMB = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "anchors and aliases"),
        ("a: &x 1\n", "anchors and aliases"),
        ("a: {<<: {b: 1}}\n", "a key is no text"),
        ("a: !!python/object/apply:os.system [ls]\n", "tag"),
        ("a: !x 1\n", "tag"),
        ("a: 1\na: 2\n", "a comes twice"),
        ("[" * 100_000, "nested too deeply"),
        ("a: " * 60, "damaged"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("1: 2\n", "a key is no text"),
        ("a: " + "9" * 5000, "digit"),
        ("x" * (1 << 19), "at most"),
        ("a: \x00", "damaged"),
        ("- 1\n", "holds no settings"),
        ("", "holds no settings"),
        ("a: 1\n---\nb: 2\n", "damaged"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_settings_that_are_no_plain_yaml_are_refused(tmp_path, text, message):
    started = time.monotonic()
    with pytest.raises(UserError, match=message):
        parse_settings(text, "config.yaml")
    write_run(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text(text)
    for read in (
        lambda: RunFolder(tmp_path / "run").read_config(),
        lambda: Run(tmp_path / "run").config,
    ):
        with pytest.raises(UserError, match=r"config\.yaml") as caught:
            read()
        assert len(str(caught.value)) < 500
    assert time.monotonic() - started < 5


def test_numbers_and_dates_are_read_as_they_are_written():
    content = {"a": 1e-05, "b": "1e-05", "c": "2026-11-26", "d": 1e300, "e": "1e3",
               "f": float("inf"), "g": "true", "h": "~", "i": "0x1", "j": "1:30", "k": "null",
               "l": None, "m": -3}  # fmt: skip
    assert parse_settings(as_yaml(content), "x") == content


@pytest.mark.parametrize(
    "settings", [{"choices": 3}, {"choices": {"env": 1}}, {"trainer": []}, {"x": 1}]
)
def test_settings_of_wrong_types_are_refused(strangers_run, settings):
    edit(strangers_run, **settings)
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        RunFolder(strangers_run).read_config()


def test_pipes_and_devices_are_not_waited_for(strangers_run):
    for name in ("config.yaml", "eval/eval.json", "metrics.csv", "eval/steps.npz"):
        file = strangers_run / name
        file.unlink()
        os.mkfifo(file)
        for read in (read_settings, read_object, read_table):
            with pytest.raises(UserError, match="no regular file"):
                read(file)
    with pytest.raises(UserError, match="no regular file"):
        read_object(Path("/dev/zero"))
    with pytest.raises(UserError, match="holds no run"):
        RunFolder(strangers_run).read_config()
    with pytest.raises(UserError, match=r"metrics\.csv"):
        RowFile(strangers_run / "metrics.csv").append([{"a": 1}])
    for name in ("config.yaml", ".lock"):
        (strangers_run / name).unlink(missing_ok=True)
    os.mkfifo(strangers_run / ".lock")
    with pytest.raises(UserError, match=r"\.lock is no regular file"):
        RunFolder(strangers_run).refuse_existing()


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["eval", "figures", "checkpoints", "tensorboard", ".lock"])
def test_links_out_of_a_run_folder_are_refused(strangers_run, tmp_path, capsys, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    place = strangers_run / name
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.symlink_to(outside / "file" if name == ".lock" else outside)
    for words in (
        ["eval", f"run={strangers_run}", "eval.puzzles=2"],
        ["train", f"resume={strangers_run}", "trainer.max_optimizer_steps=99"],
        ["plot", f"runs={strangers_run}"],
        ["report", f"run={strangers_run}"],
    ):
        assert main(words) == 2
        assert "a link that leads out of the run folder" in capsys.readouterr().err
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "mine"


def test_files_that_are_links_are_replaced_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    folder = write_run(tmp_path / "run", extra=False)
    for name in ("report.html", "report.html.partial", "figures/x.svg", "figures/x.svg.partial"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(mine)
    assert main(["report", f"run={folder}"]) == 0
    save_figure(Figure(), folder / "figures/x.svg")
    assert not (folder / "report.html").is_symlink()
    assert not (folder / "figures/x.svg").is_symlink()
    (folder / "metrics.csv").unlink()
    (folder / "metrics.csv").symlink_to(mine)
    with pytest.raises(UserError, match="cannot write"):
        RowFile(folder / "metrics.csv").append([{"a": 1}])
    (folder / "x.partial").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(folder / "x", lambda file: file.write(b"x"))
    assert mine.read_text() == "mine"


def test_links_inside_a_run_folder_are_fine(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "eval").rename(folder / "first")
    (folder / "eval").symlink_to("first")
    assert find_runs(str(folder), evaluated=True) == [folder]
    RunFolder(folder).require()


def test_a_run_that_names_a_class_is_read_again_with_its_folder(tmp_path, capsys):
    (tmp_path / "plug.py").write_text(
        "from pir.envs.countdown.rules import Countdown\n\nclass Plug(Countdown):\n    pass\n"
    )
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "plug.yaml").write_text("# Plug\n_target_: plug.Plug\n")
    run = tmp_path / "theirs"
    words = ["train", "env=plug", f"run={run}", *TINY, "trainer.max_optimizer_steps=1"]
    assert main([*words, "-cd", str(tmp_path)]) == 0
    capsys.readouterr()
    solve = ["solve", f"run={run}", "puzzle=3 7 8 = 29"]
    assert main(solve) == 2
    named = f"this run was trained with --config-dir={tmp_path}: repeat the command with that"
    assert named in capsys.readouterr().err  # named, and not used
    assert main(["train", f"resume={run}", "trainer.max_optimizer_steps=2"]) == 2
    assert named in capsys.readouterr().err
    assert main([*solve, f"--config-dir={tmp_path}"]) == 0
    plugins.forget()
    with pytest.raises(UserError, match="in Python give load_trained that folder as config_dir"):
        load_trained(run)
    assert type(load_trained(run, config_dir=tmp_path)[0].puzzle).__name__ == "Plug"
    (tmp_path / "run").mkdir()
    assert main([*solve, f"--config-dir={tmp_path}"]) == 2
    assert "its folder run hides a setting" in capsys.readouterr().err
