"""Signals at any moment end a command cleanly, and clocks that jump do no harm."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

import pir.cli.commands.train_end
import pir.evaluation.measured
import pir.evaluation.run
from pir.cli.commands.train import _train
from pir.errors import UserError
from pir.runs.folder import RunFolder
from pir.system import interrupt, stopwatch
from pir.training import progress
from pir.training.trainer import Trainer
from tests.conftest import TINY, compose_config
from tests.training_runs import start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.15, 0.6, 1.5, 3.0])
def test_a_signal_while_the_command_starts(tmp_path, number, after):
    """While it imports, composes or builds: no traceback and no folder."""
    words = ["train", *TINY, "trainer.max_optimizer_steps=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pir", *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    begun = list(tmp_path.glob("runs/*/*/config.yaml"))
    assert begun or not list(tmp_path.iterdir())


def test_a_signal_in_executed_text_has_the_status_of_a_signal(tmp_path):
    (tmp_path / "interrupted.py").write_text(
        "import sys\n"
        "from pir import __main__\n"
        "from pir.cli import main as cli\n"
        "from pir.system import interrupt\n"
        "def answer(words):\n"
        "    with interrupt.stoppable():\n"
        "        exec('import os, signal; os.kill(os.getpid(), signal.SIGINT)')\n"
        "cli._answer = answer\n"
        "sys.exit(__main__.main())\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 130


def test_signals_are_ignored_while_the_process_ends():
    code = (
        "import signal, sys, pir.cli.main; sys.argv = ['pir', '--version']; pir.cli.main.main();"
        "print(all(signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_what_a_signal_does_depends_on_what_there_is_to_lose():
    before = signal.getsignal(signal.SIGINT)
    with interrupt.handled():
        with pytest.raises(KeyboardInterrupt), interrupt.stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.exit_status() == 143
    with interrupt.postponed():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested()
        assert interrupt.exit_status() == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_finalizer_swallows_is_seen_later(capsys):
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    def go_on():
        with interrupt.stoppable():
            pass

    with interrupt.handled():
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            go_on()
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupted_test_leaves_a_run_that_can_be_gone_on_with(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    folder, config = RunFolder(tmp_path / "run"), compose_config("trainer.max_optimizer_steps=3")
    with monkeypatch.context() as patch:
        patch.setattr("pir.evaluation.run.evaluate_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _train(config, folder, resuming=False)
    assert "the run has ended and is saved; its test was interrupted" in capsys.readouterr().err
    assert not folder.summary.exists()
    with folder.claim():
        _train(folder.read_config(), folder, resuming=True)
    assert folder.summary.exists()


class Signals:
    """An interrupt that Python turns into RuntimeError (3.11), for a class is being made."""

    def __set_name__(self, owner, name):
        signalled()


def signalled():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


LATE = {
    "last validation": (Trainer, "_evaluate_validation", 2, signalled),
    "last checkpoint": (Trainer, "save", 3, signalled),
    "test": (pir.evaluation.measured, "evaluate", 1, signalled),
    "test, as another error": (
        pir.evaluation.measured,
        "evaluate",
        1,
        lambda: type("Made", (), {"part": Signals()}),
    ),
    "files of the test": (pir.evaluation.run, "write_evaluation", 1, signalled),
    "summary": (pir.cli.commands.train_end, "write_json", 1, signalled),
}
"""The end of a run: a function of a module or class, at which call of it, and what happens then."""


@pytest.mark.parametrize("moment", LATE)
def test_a_signal_at_the_end_of_a_run(pir_here, tmp_path, at, moment):
    """The run is saved, it is said how to go on, and Hydra and Python say nothing."""
    folder = RunFolder(tmp_path / "run")
    words = [*TINY, "device=cpu", "trainer.max_optimizer_steps=3", f"run={folder.path}"]
    at(*LATE[moment])
    done = pir_here("train", *words, code=130)
    assert f"pir train resume={folder.path}" in done.stderr
    assert "Error" not in done.stderr
    assert folder.end.is_file()
    assert not folder.summary.exists()
    pir_here("train", f"resume={folder.path}")
    assert folder.summary.exists()


def test_an_error_that_no_signal_caused_stays_what_it_is():
    def fail():
        signalled()
        raise UserError("a full disk")

    with interrupt.handled():
        with pytest.raises(ZeroDivisionError), interrupt.stoppable():
            _ = 1 / 0
        with pytest.raises(UserError), interrupt.stoppable(), interrupt.postponed():
            fail()


class Clock:
    """A clock that the test moves, instead of the module `time`."""

    def __init__(self):
        self.now = self.worked = 0.0

    def pass_time(self, seconds, work=0.0):
        self.now += seconds
        self.worked += work


@pytest.fixture
def clock(monkeypatch):
    moved = Clock()
    fake = types.SimpleNamespace(monotonic=lambda: moved.now, process_time=lambda: moved.worked)
    monkeypatch.setattr(stopwatch, "time", fake)
    return moved


def test_the_stopwatch_survives_a_clock_that_jumps(clock):
    watch = stopwatch.Stopwatch(5.0)
    clock.pass_time(2)
    assert watch.seconds() == 7
    clock.pass_time(86_400)
    assert watch.seconds() == 7 + stopwatch.LONGEST_WAIT
    clock.pass_time(-2 * 86_400)
    assert watch.seconds() == 7 + stopwatch.LONGEST_WAIT
    clock.pass_time(3)
    assert watch.seconds() == 10 + stopwatch.LONGEST_WAIT
    clock.pass_time(3600, work=3500)  # an hour of real work between two readings
    assert watch.seconds() == 3610 + stopwatch.LONGEST_WAIT


def test_the_rate_survives_a_clock_that_jumps(clock):
    meter = progress.RateMeter()
    assert meter.read(0) is None
    clock.pass_time(2)
    assert meter.read(10) == 5
    clock.pass_time(-1000)
    assert meter.read(20) >= 0
    clock.pass_time(1)
    assert meter.read(30) == 10


def test_a_day_that_jumps_by_does_not_end_a_run(tmp_path, monkeypatch):
    trainer = start(tmp_path / "run", "trainer.max_minutes=2")
    real, calls = time.monotonic, []

    def jumping():
        calls.append(None)
        return real() + (86_400 if len(calls) > 8 else 0)

    fake = types.SimpleNamespace(monotonic=jumping, process_time=time.process_time)
    monkeypatch.setattr(stopwatch, "time", fake)
    assert trainer.train()
    assert trainer.progress.optimizer_step == 12
    assert 0 <= trainer.state.watch.seconds() < 60
