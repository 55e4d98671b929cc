"""Command lines at random: a sentence and exit status 2, or success; nothing left lying about."""

import faulthandler
import re
import signal
import sys
from pathlib import Path

import pytest
from pir.envs import benchmark

from pir.bench import training
from pir.cli.main import main
from tests.conftest import TINY
from tests.fuzzed_lines import line

FEW, MANY = 48, 2000
"""Lines in the ordinary test, and in both."""

SECONDS = 60
"""A line that takes longer hangs."""

SAFE = {
    "train": [*TINY, "trainer.max_optimizer_steps=1", "trainer.val_puzzles=2", "run=r"],
    "bench": ["seconds=0.001"],
    "eval": ["eval.puzzles=2"],
}
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


class HangsError(Exception):
    """The watchdog's; no handler of the program catches it by name."""


def _hang(*_):
    raise HangsError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current directory and home."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path.parent))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(benchmark, "measure", lambda seconds: iter(()))
    monkeypatch.setattr(training, "measure", lambda *_: iter(()))
    before = signal.signal(signal.SIGALRM, _hang)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def check(words, place, capsys):
    """Runs a line; everything that is wrong with how it ends is an assertion."""
    faulthandler.dump_traceback_later(4 * SECONDS, exit=True, file=sys.__stderr__)
    signal.alarm(SECONDS)
    try:
        status = main(words)
    except BaseException as error:
        raise AssertionError(f"pir {words!r} ends with {error!r}") from error
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    out, err = capsys.readouterr()
    assert status in (0, 2), words
    assert "Traceback" not in out + err, words
    assert not STEERS.search(out + err), (words, out, err)
    left = sorted(path.relative_to(place) for path in place.rglob("*"))
    if status == 2:
        assert err.startswith("pir") or "\npir" in err, (words, err)
        assert len(err) < 20_000, words
        assert left == [Path("here"), Path("home")], (words, left)
    return status, out, err


def _sweep_up(place):
    for path in sorted(place.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        if len(path.relative_to(place).parts) > 1:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def lines(first, last):
    """The lines of some seeds, each once; the short ones are drawn again and again."""
    return list(dict.fromkeys(tuple(line(seed, SAFE)) for seed in range(first, last)))


@pytest.mark.parametrize("shard", range(4))
def test_lines_at_random(shard, place, capsys):
    for words in lines(0, FEW)[shard::4]:
        check(list(words), place, capsys)
        _sweep_up(place)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(20))
def test_many_lines_at_random(shard, place, capsys):
    for words in lines(FEW, MANY)[shard::20]:
        check(list(words), place, capsys)
        _sweep_up(place)
