"""What the words of a command line mean, and what reaches the terminal."""

import ast
import io
import json
import resource
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from pir.cli.main import main
from pir.cli.words import part, prepare, quote
from pir.errors import UserError
from pir.system import memory
from pir.system.device import choose_device
from pir.system.terminal import one_line, printable, say
from pir.training.progress import ProgressView
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parent.parent
ODD_PATHS = [
    "sw/seed=0", "1e3", "true", "a,b", "a b", "#x", "[a]", "{a: b}", "it's", '"a"', "ä/ö", "a&b;c",
    "$HOME", "${x}", "a\\b", "a\\", "a\nb", "a@b", "x:y", "=", "choice(1,2)", "null ", "*?",
]  # fmt: skip


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")


def value(command, word, *options):
    """Returns what Hydra reads out of a word; a list for a sweep."""
    _, parted = part(options)
    prepared = prepare(command, [word], parted)
    override = OverridesParser.create().parse_override(prepared[0])
    if override.is_sweep_override():
        return override.key_or_group, [item.text for item in override.sweep_iterator()]
    return override.key_or_group, override.value()


@pytest.mark.parametrize("text", ODD_PATHS)
@pytest.mark.parametrize("key", ["init", "run", "resume", "env.puzzles", "+init", "++env.puzzles"])
def test_paths_are_taken_literally(key, text):
    read = value("train", f"{key}={text}")[1]
    assert read.replace("\\${", "${").replace("\\\\$", "\\$") == text
    if key == "run":
        assert value("train", f"run={text}", "-m")[0] == "hydra.sweep.dir"


def test_commas_part_paths_of_a_sweep_alone():
    assert value("train", "init=a,b") == ("init", "a,b")
    assert value("train", "init=sw/seed=0,b", "-m") == ("init", ["sw/seed=0", "b"])
    assert value("train", "env.puzzles=~/a,1e3", "-m") == ("env.puzzles", ["/home/me/a", "1e3"])
    assert value("train", "run=a,b", "-m") == ("hydra.sweep.dir", "a,b")
    with pytest.raises(UserError, match="a part is empty"):
        value("train", "init=a,,b", "-m")


@pytest.mark.parametrize(
    ("command", "word", "read"),
    [
        ("train", "run=~/r", "/home/me/r"),
        ("train", "resume=~/r", "/home/me/r"),
        ("train", "init=~", "/home/me"),
        ("train", "env.puzzles=~/p.txt", "/home/me/p.txt"),
        ("train", "+env.puzzles=~/p.txt", "/home/me/p.txt"),
        ("train", "hydra.sweep.dir=~/sw", "/home/me/sw"),
        ("train", "model.backbone.name=~/gpt2", "/home/me/gpt2"),
        ("solve", "puzzles=~/p.txt", "/home/me/p.txt"),
        ("solve", "puzzles=-", "-"),
        ("train", "env.puzzles=-", "-"),
        ("solve", "puzzle=~/p", "~/p"),
        ("show", "out=~/s.png", "/home/me/s.png"),
        ("show", "out=./~/s.png", "./~/s.png"),
        ("show", "out=a~b", "a~b"),
        ("plot", "runs=~/a b ~/c/*", "/home/me/a b /home/me/c/*"),
        ("plot", "runs=a~/b", "a~/b"),
        ("train", "run=null", None),
    ],
)
def test_the_home_folder(command, word, read):
    assert value(command, word)[1] == read


def test_the_home_folder_elsewhere(capsys):
    assert part(["--config-dir=~/my"])[1] == {"--config-dir": "/home/me/my"}
    assert part(["-cd", "~/my"])[1] == {"--config-dir": "/home/me/my"}
    assert main(["train", "run=~nobody_there/r"]) == 2
    assert "there is no home folder ~nobody_there" in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "model=null"], "model is no setting (allowed: env, index, out, seed, split)"),
        (["info", "env=1e9"], "env=1e9: there is no such choice"),
        (["info", "env=null"], "env=null: there is no such choice"),
        (["info", "env=[a,b]"], "env=[a,b]: there is no such choice"),
        (["info", "model=true"], "model=true: there is no such choice"),
        (["solve", "exit=0", "run=x", "puzzle=1"], "exit=0: there is no such choice"),
        (["train", "trainr.max_minutes=1"], "trainr is no setting; did you mean trainer?"),
        (["train", "trainer.sub.key=1"], "trainer.sub.key is no setting (allowed: batch_size"),
        (["train", "--resolve"], "--resolve goes with --cfg"),
        (["train", "--shell-completion"], "--shell-completion is no option"),
        (["train", "--experimental-rerun=x"], "--experimental-rerun is no option"),
        (["train", "--cfg"], "--cfg needs a value"),
        (["train", "--cfg=nosuch"], "--cfg=nosuch: allowed are job, hydra, all"),
        (["train", "--cfg=job", "--info"], "--cfg and --info exclude each other"),
        (["train", "--cfg=job", "--package=nosuch"], "package 'nosuch' not found"),
        (["bench", "-m"], "-m is for `pir train` alone"),
        (["eval", "--multirun", "run=x"], "-m is for `pir train` alone"),
        (["bench", "hydra.mode=MULTIRUN"], "hydra.mode is no setting"),
        (["train", "-m", "env=nosuch,maze"], "env=nosuch: there is no such choice"),
        (["train", "-m", "a=["], "a is no setting"),
        (["train", "-m", "seed=["], "no viable alternative"),
        (["train", "seed=9223372036854775808"], "seed=9223372036854775808: allowed are 0 to"),
        (["train", "seed=-1"], "seed=-1: allowed are 0 to 2**62 - 1"),
        (["show", "seed=-1"], "seed=-1: allowed are 0 to 2**62 - 1"),
        (["train", "trainer.threads=2147483648"], "allowed are 1 to 1024"),
        (["train", "device=meta"], "device=meta: not available; allowed are auto, cpu"),
        (["train", "device=cpu:3"], "device=cpu:3: not available; allowed are"),
        (["train", "trainer.batch_size=100000000"], "trainer.batch_size=100000000: needs"),
        (["train", "trainer.val_puzzles=1000000000000"], "puzzles of the val split: needs"),
        (["train", "model.hidden_size=1000000000"], "model.hidden_size=1000000000: must be at mo"),
        (["train", "device=\x1b]0;X"], "device=\\x1b]0;X cannot be read"),
        (["\x1b[2J"], "\\x1b[2J is no command"),
        (["plot", "runs= "], "names no folder"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_mistakes_leave_a_sentence_and_nothing_else(capsys, words, message):
    assert main([*words, *(TINY if words == ["train"] else ())]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert "\x1b" not in out + err
    assert not list(Path().rglob("*"))


def test_a_refused_sweep_keeps_what_was_there(capsys):
    Path("sw").mkdir()
    Path("sw/mine").touch()
    assert main(["train", "-m", "run=sw", "trainer.threads=0,-1"]) == 2
    assert Path("sw/mine").is_file()
    assert not [path for path in Path("sw").iterdir() if path.is_dir() and list(path.iterdir())]


# ---------------------------------------------------------------- the terminal


def test_what_steers_a_terminal_is_escaped():
    assert printable("a\tb\nc ä 名 😀 €") == "a\tb\nc ä 名 😀 €"
    assert printable("3\x1b]0;X\x07\r\x7f\x9b") == "3\\x1b]0;X\\x07\\x0d\\x7f\\x9b"
    assert printable("\u202e\u200b\u2028\ufeff\udcff") == "\\u202e\\u200b\\u2028\\ufeff\\udcff"
    assert printable("\U000e0001") == "\\U000e0001"
    assert one_line("a\n  b" + "x" * 300, 20) == "a bxxxxxxxxxxxxx ..."


def test_say_writes_whole_lines(capsys):
    say("a\x1b")
    say(Path("b\x1b"), error=True)
    assert capsys.readouterr() == ("a\\x1b\n", "b\\x1b\n")


def test_commands_print_through_one_door():
    for file in (ROOT / "pir" / "cli").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "sys.stdout.write"), file


def test_titles_and_tables_are_plain_text(capsys, tmp_path):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=200)
    with ProgressView("[/x] {task.id} \u202e\x1b]0;X\x07 [red]", console):
        pass
    shown = stream.getvalue()
    assert "[/x] {task.id} \\u202e\\x1b]0;X\\x07 [red]" in shown
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "[bold]x.yaml").write_text("# [/red] \x1b]0;X\x07\n_target_: x.X\n")
    assert main(["list", "envs", f"--config-dir={tmp_path}"]) == 2  # YAML has no such characters
    (tmp_path / "env" / "[bold]x.yaml").write_text("# [/red] \u202e\n_target_: x.X\n")
    assert main(["list", "envs", f"--config-dir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "env=[bold]x" in out
    assert "[/red] \\u202e" in out


def test_puzzles_and_settings_reach_the_terminal_escaped(capsys, tiny_run, tmp_path):
    (tmp_path / "p.txt").write_text("3\x1b]0;X\x07 7 8 = 29\n")
    assert main(["solve", f"run={tiny_run}", f"puzzles={tmp_path / 'p.txt'}"]) == 2
    assert main(["solve", f"run={tiny_run}", "puzzle=3\x9b2J 7 8 = 29", "output=json"]) == 2
    assert main(["train", "--cfg", "job", "run=\u202e\x1b[2J"]) == 0
    out, err = capsys.readouterr()
    assert not set("\x1b\x07\x9b\u202e") & set(out + err)
    assert json.loads(out.splitlines()[0])["puzzle"] == "3\x9b2J 7 8 = 29"


# ---------------------------------------------------------------- memory


def test_memory_that_is_not_there_is_refused():
    total = memory.total_memory()
    assert total
    assert total > 1 << 28
    memory.require_memory(total, "x=1")
    with pytest.raises(UserError, match=r"x=1: needs .* GiB of memory at least, there are"):
        memory.require_memory(total + 1, "x=1")
    assert memory.is_out_of_memory(MemoryError())
    assert memory.is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not memory.is_out_of_memory(RuntimeError("shapes differ"))
    assert not memory.is_out_of_memory(ValueError("out of memory"))


def test_allocations_end_at_the_memory_there_is(monkeypatch):
    import torch

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory.limited_memory():
        if resource.getrlimit(resource.RLIMIT_DATA) == before:
            pytest.skip("no limit on this system")
        with pytest.raises(RuntimeError) as caught:
            torch.empty(memory.total_memory(), dtype=torch.uint8)
        assert memory.is_out_of_memory(caught.value)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_devices_that_compute():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("cpu:0").type == "cpu"
    for name in ("meta", "cpu:1", "lazy", "mkldnn", "privateuseone", "nosuch", ""):
        with pytest.raises(UserError, match=f"device={name}"):
            choose_device(name)


def test_quotes_of_quotes():
    for text in ("a'b", "a\\'b", "a\\\\", "'", "\\"):
        assert OverridesParser.create().parse_override(f"x={quote(text)}").value() == text


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.output_subdir", "+hydra.job.chdir"])
def test_hydra_makes_no_folder(key, capsys):
    assert main(["show", "env=sudoku4", f"{key}=x2"]) == 2
    assert "run=DIR names the folder" in capsys.readouterr().err
