"""Kills and signals at random moments, and runs that go on until they end.

`python -m tests.kills FOLDER SETUP KILLS SEED` trains one of `SETUPS` whole, then again and again
with a SIGKILL, SIGINT or SIGTERM at a random moment of every attempt, until KILLS have hit. Every
run that so comes to its end must equal the whole one to the bit: checkpoints, CSV files, summary.
It prints what happened as JSON. Attempts are forked from a process that has imported everything, so
that they begin in a tenth of a second.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from pir.puzzle import SPLITS
from tests.conftest import TINY
from tests.forks import forked
from tests.training_runs import assert_same_run

PLAIN = ["trainer.threads=1", "device=cpu"]
HALTING = ["model.halt_head=true", "+objective.terms.halt={_target_: pir.objectives.Halting}"]
REPLAY = ["trainer.replay_share=0.5", "trainer.replay_size=20"]
ROLLOUTS = ["trainer.lanes=synchronous", "model.value_head=true"]
FEEDFORWARD = [word for word in TINY if "latent_steps" not in word]

SETUPS: dict[str, list[str]] = {
    "countdown": ["env=countdown", "objective=set_likelihood"],
    "replay": ["env=countdown", "objective=group_relative", *REPLAY],
    "file": ["env=sudoku4", "objective=deep_supervision", "env.puzzles=FILE"],
    "halting": ["env=countdown", "objective=awr", "trainer.lanes=halting", *HALTING],
    "ledger": ["env=queens", "objective=deep_supervision", "trainer.lanes=ledger", "optim=adamw"],
    "ppo": ["env=countdown", "objective=ppo", *ROLLOUTS, *REPLAY],
    "dis": ["env=sudoku4", "objective=dis", *REPLAY],
    "curriculum": ["env=maze", "objective=input_curriculum"],
    "margin": ["env=graph", "objective=margin", "trainer.patience=3"],
    "hrm": ["env=sudoku4", "model=hrm", "objective=deep_supervision", "optim=adamw"],
    "random_depth": ["env=queens", "objective=recurrent_depth", "trainer.lanes=synchronous"],
    "init": ["env=countdown", "model=feedforward", "objective=set_likelihood", "init=INIT"],
}
"""The words after `pir train`; FILE and INIT are made first."""

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
ENDS = {signal.SIGINT: (0, 130), signal.SIGTERM: (0, 143)}
CHANGING = ("seconds", "ledger_share")


def prepared(setup: str, folder: Path) -> list[str]:
    """Returns the words of a set-up, and makes the files that it needs."""
    from pir.cli.main import main

    words = SETUPS[setup]
    tiny = FEEDFORWARD if "model=feedforward" in words or "model=hrm" in words else TINY
    words = [*tiny, *PLAIN, *words]
    if "env.puzzles=FILE" in words:
        from pir.envs.views.registration import build_puzzle

        puzzle = build_puzzle("sudoku4")
        given = [puzzle.sample(40, split, seed=7)["question"] for split in SPLITS]
        file = folder / "puzzles.txt"
        file.write_text("".join(f"{puzzle.format_question(q)}\n" for qs in given for q in qs))
        words[words.index("env.puzzles=FILE")] = f"env.puzzles={file}"
        words += ["trainer.val_puzzles=5", "trainer.test_puzzles=5"]
    if "init=INIT" in words:
        words.remove("init=INIT")
        assert main(["train", *words, "seed=9", f"run={folder / 'init'}"]) == 0
        words.append(f"init={folder / 'init'}")
    return words


def attempt(words: list[str], log: Path, sent: signal.Signals, after: float) -> int | None:
    """Runs the command in a process of its own and signals it; None if that came too late."""
    child = forked(words, log)
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0, log.read_text()
            return None
        time.sleep(0.002)
    os.kill(child, sent)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def same_end(one: Path, other: Path) -> None:
    """Compares everything that two runs left, but how long they took."""
    assert_same_run(one, other)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (one, other)]
    for summary in summaries:
        for key in CHANGING:
            del summary[key]
    assert summaries[0] == summaries[1]
    assert (one / "checkpoints/end.pt").exists() == (other / "checkpoints/end.pt").exists()


def trial(folder: Path, setup: str, kills: int, seed: int) -> dict[str, int]:
    """Kills runs until `kills` have hit.

    Returns:
        How often each signal hit, and how many runs came to their end.

    Raises:
        AssertionError: if a run differs from the whole one, or an attempt ends in another way.
    """
    from pir.cli.main import main

    rng, counts = random.Random(seed), Counter[str]()
    words, whole, log = prepared(setup, folder), folder / "whole", folder / "log.txt"
    assert main(["train", *words, f"run={whole}"]) == 0
    started = time.monotonic()
    main(["train", *words, f"run={folder / 'again'}"])  # everything is compiled and imported now
    lasts = 1.1 * (time.monotonic() - started)
    same_end(whole, folder / "again")
    number = 0
    while sum(counts[sent.name] for sent in SIGNALS) < kills:
        run, number = folder / f"run{number}", number + 1
        while True:
            begun, there = (run / "config.yaml").exists(), run.exists()
            command = ["train", f"resume={run}"] if begun else ["train", *words, f"run={run}"]
            left = kills - sum(counts[sent.name] for sent in SIGNALS)
            sent = rng.choice(SIGNALS)
            after = rng.uniform(0, lasts) if left else 600.0
            status = attempt(command, log, sent, after)
            if status is None:
                break
            counts[sent.name] += 1
            text = log.read_text()
            assert "Traceback" not in text, f"{setup}, {sent.name} after {after:.3f} s:\n{text}"
            expected = ENDS.get(sent, (-signal.SIGKILL, 0))
            starting = status == -sent and not text  # the interpreter had not come to our code yet
            assert status in expected or starting, (
                f"{setup}, {sent.name} after {after:.3f} s: {status}\n{text}"
            )
            if status == 0:
                break
            # an attempt that was killed may have left an empty folder, which is not the next one's
            if sent != signal.SIGKILL and not (run / "config.yaml").exists():
                assert there or not run.exists(), (
                    f"{setup}, {sent.name} after {after:.3f} s: stray {run}"
                )
        same_end(whole, run)
        counts["runs"] += 1
    return dict(counts)


if __name__ == "__main__":
    place, name, how_many, number = sys.argv[1:]
    print(json.dumps(trial(Path(place), name, int(how_many), int(number))))
