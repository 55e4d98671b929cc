"""Puzzles from outside: an installed package, a bare folder, a class without settings."""

import copy
import importlib
import json
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from pir.envs.countdown.rules import Countdown

from pir.cli.main import main
from pir.errors import UserError
from pir.laws.training import refuse_unfit
from pir.settings import plugins
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "pir_lights"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder for PYTHONPATH into which the example package was installed."""
    source = tmp_path_factory.mktemp("source") / "pir_lights"
    shutil.copytree(EXAMPLE, source)
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True)
    return str(target)


@pytest.fixture
def folder(tmp_path):
    """A bare folder with a module and its settings."""
    (tmp_path / "env").mkdir()
    module = (EXAMPLE / "pir_lights" / "puzzle.py").read_text()
    (tmp_path / "my_lights.py").write_text(module)
    settings = (EXAMPLE / "pir_lights" / "configs" / "env" / "lights.yaml").read_text()
    (tmp_path / "env" / "my_lights.yaml").write_text(
        settings.replace("pir_lights.puzzle", "my_lights")
    )
    return tmp_path


def test_an_installed_package_is_listed_and_trained(
    pir, pir_here, installed, tmp_path, monkeypatch
):
    envs = json.loads(pir("list", "envs", "output=json", PYTHONPATH=installed).stdout)
    (lights,) = [env for env in envs if env["name"] == "lights"]
    assert lights["summary"].startswith("Lights Out")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.syspath_prepend(installed)
        pir_here("train", "env=lights", "env.size=3", f"run={run}", *TINY)
        assert json.loads((run / "summary.json").read_text())["env"] == "lights"
        done = pir_here("solve", f"run={run}", "puzzle=*..*.....", "output=json")
        assert set(json.loads(done.stdout)["answer"]) <= set(".x")
    missing = pir_here("solve", f"run={run}", "puzzle=*..*.....", code=2)
    assert "no such class" in missing.stderr


def test_a_bare_folder_is_found_by_config_dir(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    run = tmp_path / "runs" / "a"
    words = ["env=my_lights", "env.size=3", f"run={run}", *TINY, f"--config-dir={folder}"]
    assert main(["train", *words]) == 0
    assert f"train resume={run} --config-dir={folder} " in capsys.readouterr().out
    assert main(["list", "envs", "output=json", "--config-dir", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "my_lights" in out.splitlines()[-1]
    assert main(["eval", f"run={run}", "eval.puzzles=10", f"--config-dir={folder}"]) == 0


def test_an_error_in_a_plug_in_names_its_line(pir_here, folder, monkeypatch):
    monkeypatch.chdir(folder)
    module = folder / "my_lights.py"
    text = module.read_text()
    lines = text.splitlines()
    for name, error in (("self.board = (size, size)", "cannot be built"), ("DARK, LIT", "no such")):
        monkeypatch.delitem(sys.modules, "my_lights", raising=False)
        module.write_text(text.replace(name, f"1 / 0; {name}", 1))
        line = 1 + next(n for n, each in enumerate(lines) if each.strip().startswith(name))
        said = pir_here("show", "env=my_lights", f"--config-dir={folder}", code=2).stderr
        assert error in said
        assert f"ZeroDivisionError: division by zero, my_lights.py, line {line}" in said


def test_the_example_with_clues_keeps_the_laws(pir_here, folder):
    shutil.copy(EXAMPLE / "pir_lights" / "latin.py", folder / "latin_square.py")
    settings = (EXAMPLE / "pir_lights" / "configs" / "env" / "latin.yaml").read_text()
    (folder / "env" / "latin.yaml").write_text(settings.replace("pir_lights.latin", "latin_square"))
    done = pir_here("check-env", "latin", f"--config-dir={folder}")
    assert "LatinSquare keeps all" in done.stdout


def test_a_class_is_checked_without_settings(pir, folder):
    done = pir("check-env", "my_lights:LightsOut", "output=json", cwd=folder)
    result = json.loads(done.stdout)
    assert result["kept"]
    assert len(result["laws"]) == 27
    assert result["puzzles_per_second"] > 0


def test_a_class_that_is_named_takes_settings(pir_here, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "my_lights", raising=False)
    said = pir_here("check-env", "my_lights:LightsOut", "env.size=99", code=2).stderr
    assert said.startswith("pir check-env: env.size=99: ")
    said = pir_here("check-env", "my_lights:LightsOut", "env.sise=4", code=2).stderr
    assert said == "pir check-env: env.sise is unknown; did you mean size? (allowed: size)\n"


@pytest.mark.parametrize(
    ("right", "wrong", "law", "reason"),
    [
        ("Verdict.graded(legal &", "Verdict.graded(~legal &", "labels verify with score 1",
         "labels verify with score 1: the label is not solved"),
        ("return Verdict.graded(legal & dark.all(1), share)", "return Verdict(share, share == 1)",
         "no verdict hangs on the rounding of fractions", "build the verdict by Verdict.graded"),
    ],
)  # fmt: skip
def test_a_faulty_puzzle_is_named_in_plain_words(
    pir_here, folder, monkeypatch, right, wrong, law, reason
):
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "my_lights", raising=False)
    module = folder / "my_lights.py"
    text = module.read_text()
    assert right in text
    module.write_text(text.replace(right, wrong))
    done = pir_here("check-env", "my_lights:LightsOut", code=2)
    assert f"BROKEN       {law}" in done.stdout
    assert reason in done.stdout
    assert "my_lights:LightsOut breaks" in done.stderr


@pytest.mark.parametrize("name", ["recipe/sudoku4", "experiment/queens10", "env/countdown"])
def test_a_file_that_would_be_passed_over_is_refused(pir_here, folder, name):
    file = folder / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text("# @package _global_\n# Mine.\ntrainer:\n  batch_size: 7\n")
    for words in (["list", "envs"], ["train", "env=my_lights", "--cfg", "job"]):
        said = pir_here(*words, f"--config-dir={folder}", code=2).stderr
        assert f"{folder}: {name}.yaml has the name of one of pir's own, which wins" in said


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Installs packages of settings that hold the files named."""

    def install(**held):
        entries = []
        for package, files in held.items():
            for name in files:
                file = tmp_path / "site" / package / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("# Theirs.\n_target_: gone.Gone\n")
            entries.append(EntryPoint(package, package, plugins.GROUP))
        monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
        return entries

    return install


def test_a_file_that_an_installed_package_has_too_is_refused(pir_here, folder, packages):
    packages(theirs=["env/my_lights.yaml"])
    said = pir_here("list", "envs", f"--config-dir={folder}", code=2).stderr
    assert "env/my_lights.yaml has the name of one of the installed theirs, which wins" in said


def test_what_packages_have_in_vain_is_told_once(pir_here, packages):
    entries = packages(one=["env/new.yaml"], two=["env/new.yaml", "env/maze.yaml"])
    said = pir_here("list", "envs").stderr
    assert said.count("pir: env/new.yaml of two is not used: that of one is\n") == 1
    assert said.count("pir: env/maze.yaml of two is not used: that of pir.configs is\n") == 1
    entries[:] = [EntryPoint("same", each.value, plugins.GROUP) for each in entries]
    said = pir_here("list", "envs").stderr
    assert said.count("pir: two plug-ins are called same: one is used, two is not\n") == 1


def test_a_recipe_of_a_folder_may_be_named(pir_here, folder):
    (folder / "recipe").mkdir()
    text = "# @package _global_\n# Mine.\ntrainer:\n  batch_size: 7\n"
    (folder / "recipe" / "mine.yaml").write_text(text)
    words = ["train", "env=my_lights", "--cfg", "job", f"--config-dir={folder}"]
    assert "batch_size: 7" in pir_here(*words, "recipe=mine").stdout
    assert "mine, none" in pir_here(*words, "recipe=min", code=2).stderr


def test_a_module_that_is_missing_is_looked_for_by_name(pir_here, tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env/dark.yaml").write_text("_target_: dark_rooms.Dark\n")
    said = pir_here("show", "env=dark", f"--config-dir={tmp_path}", code=2).stderr
    assert f"there is no dark_rooms.py and no package dark_rooms in {tmp_path}" in said


def test_missing_folders_and_packages_are_reported(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    assert main(["list", "envs", "--config-dir=/nonexistent"]) == 2
    assert "there is no such folder" in capsys.readouterr().err

    class Entry:
        name, value = "gone", "no_such_package.configs"

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry()])
    assert plugins.config_packages() == {}
    assert "the plug-in gone fails: ModuleNotFoundError" in capsys.readouterr().err
    Entry.value = "json.configs"
    assert plugins.config_packages() == {}
    assert "the plug-in gone" in capsys.readouterr().err


LATIN = """
import torch
from latin_square import LatinSquare as Base
from pir.puzzle import Verdict

class LatinSquare(Base):
    verdicts = 0
"""


@pytest.fixture
def latin(folder, monkeypatch):
    """Writes a module with a faulty puzzle, given the faulty methods; returns where it lies."""
    shutil.copy(EXAMPLE / "pir_lights" / "latin.py", folder / "latin_square.py")
    (folder / "env" / "odd.yaml").write_text("# Odd.\n_target_: odd.LatinSquare\n")
    monkeypatch.chdir(folder)

    def write(methods):
        for name in ("odd", "latin_square"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        (folder / "odd.py").write_text(LATIN + textwrap.indent(methods, "    "))
        return folder

    return write


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ("def generate(self, rng):\n  return super().generate(rng)[::-1]", "no position is writ"),
        ("def generate(self, rng):\n  pass", "generate gives None; a pair of tensors"),
        ("def generate(self, rng):\n  return super().generate(rng)[0]", "generate gives a tensor"),
        ("def generate(self, rng):\n  return rng.boom", "LatinSquare.generate fails: Attri"),
        ("def sample(self, count, split, *, seed, start=0):\n  return None", "sample gives None"),
        ("def size(self, split):\n  return 'many'", "size gives 'many' for train"),
        ("def written(self, question):\n  return question == 1.0, 7", "written is a tuple"),
        ("def key(self, question):\n  return 7", "key is a int"),
        ("def verify(self, question, answer):\n  return 7", "verify gives a int; a Verdict"),
        ("def verify(self, question, answer):\n  v = super().verify(question, answer)\n"
         "  return Verdict(v.score * 100, v.solved)", "the label's score is not 1"),
        ("def __init__(self):\n  super().__init__()\n  self.slot_mask[:, 2] = False",
         "slot_mask forbids a token of the label"),
        ("def __init__(self):\n  super().__init__()\n  self.slot_mask[:, 0] = True",
         "slot_mask allows token 0, which is PAD"),
        ("def __init__(self):\n  super().__init__()\n  self.board = 4", "board is 4; None or"),
        ("def __init__(self):\n  super().__init__()\n  del self.slot_mask", "slot_mask is None"),
    ],
)  # fmt: skip
def test_nothing_is_trained_on_a_faulty_puzzle(pir_here, latin, methods, words):
    """It is refused with the command that tells more, which says the same."""
    latin(methods)
    said = pir_here("train", "env=odd", "run=a", "--config-dir=.", *TINY, code=2).stderr
    assert words in said
    assert "`pir check-env odd --config-dir=.` checks" in said
    assert not Path("a").exists()
    assert words in pir_here("check-env", "odd", "--config-dir=.", code=2).stdout


def test_a_puzzle_is_checked_once_and_draws_nothing_of_the_world(latin, monkeypatch):
    monkeypatch.syspath_prepend(
        latin("def rating(self, question):\n  return torch.rand(len(question))")
    )
    puzzle = importlib.import_module("odd").LatinSquare()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    refuse_unfit(puzzle)
    assert torch.equal(torch.rand(1), expected)
    puzzle.vocabulary = ()
    refuse_unfit(puzzle)
    with pytest.raises(
        UserError, match=r"vocabulary has 0 tokens.*`pir check-env odd:LatinSquare`"
    ):
        refuse_unfit(copy.copy(puzzle))


def test_what_the_type_checker_alone_imports_is_unknown(pir_here, latin):
    folder = latin(
        "def __init__(self, size: int = 4, told: 'Gone | None' = None):\n  super().__init__(size)"
    )
    (folder / "odd.py").write_text(
        f"from __future__ import annotations\n{(folder / 'odd.py').read_text()}"
    )
    assert pir_here("show", "env=odd", "+env.size=6", "+env.told=x", "--config-dir=.").stdout
    said = pir_here("show", "env=odd", "+env.size=x", "--config-dir=.", code=2).stderr
    assert "env.size=x: allowed is a whole number" in said


def test_a_sampler_that_would_pass_over_a_file_is_refused():
    class Sampled(Countdown):
        def sample(self, count, split, *, seed, start=0):
            return super().sample(count, split, seed=seed, start=start)

    Sampled()
    with pytest.raises(UserError, match=r"Sampled overrides sample; call that method sample_new"):
        Sampled(puzzles="some.txt")


def test_commands_that_are_printed_name_the_folder(pir_here, latin, tmp_path):
    folder = latin("")
    (folder / "odd.py").write_text("from latin_square import LatinSquare\n")
    option = f"--config-dir={folder}"
    words = ["env=odd", "run=a", option, *TINY]
    assert "puzzle=" in pir_here("train", *words).stdout
    assert pir_here("show", "env=odd", option).stdout.splitlines()[3].endswith(" --config-dir=.")
    said = pir_here("export", "run=a", "out=b", "test_puzzles=2", option).stdout
    assert said.endswith("next: pir solve run=b puzzle='...' --config-dir=.\n")
    (folder / "odd.py").rename(folder / "other.py")
    named = "repeat the command with that added"
    assert named not in pir_here("eval", "run=a", option, code=2).stderr
    assert named in pir_here("eval", "run=a", code=2).stderr


def test_a_misspelt_name_is_told_and_other_libraries_are_cut_to_a_line(pir_here, latin):
    latin(
        "def verify(self, question, answer):\n"
        "  v = super().verify(question, answer)\n"
        "  return Verdict(v.score * 100, v.solved)\n"
        "def solution(self, question, limit):\n"
        "  return self.uniqe"
    )
    done = pir_here("check-env", "odd", "output=json", "--config-dir=.", code=2)
    assert (
        "note: solution is no part of a puzzle that pir uses; did you mean solutions?"
        in done.stderr
    )
    views = [each for each in json.loads(done.stdout)["laws"] if "view" in each["law"]]
    assert len(views) == 2
    assert all(len(each["detail"]) < 400 and "\n" not in each["detail"] for each in views)


def test_a_plug_in_that_fails_while_training_is_named_with_the_command_to_go_on(latin, capsys):
    latin(
        "def verify(self, question, answer):\n"
        "  LatinSquare.verdicts += 1\n"
        "  return super().verify(question, answer if self.verdicts < 20 else None)"
    )
    assert main(["train", "env=odd", "run=a", "--config-dir=.", *TINY]) == 2
    above, _, last = capsys.readouterr().err.rpartition("pir train: ")
    assert "Traceback" in above
    assert last.startswith("LatinSquare._are_numbers of a plug-in fails: TypeError: ")
    assert "(latin_square.py, line " in last
    assert "; mend it, then go on with: " in last
    assert last.endswith(" train resume=a --config-dir=.\n")
