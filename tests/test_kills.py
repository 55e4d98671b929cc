"""Runs that are killed or signalled at random moments go on to the bit; see `tests.kills`."""

import json
import subprocess
import sys

import pytest

from tests.kills import SETUPS

KILLS = 42
"""Of every set-up in the slow test: 504 in all."""


def kill(folder, setup, kills, seed):
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", str(folder), setup, str(kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts.pop("runs") > 0
    assert sum(counts.values()) >= kills


def test_six_kills_and_signals(tmp_path):
    kill(tmp_path, "replay", 6, seed=14)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "setup"), list(enumerate(SETUPS, 1)))
def test_five_hundred_kills_and_signals(tmp_path, seed, setup):
    kill(tmp_path, setup, KILLS, seed)
