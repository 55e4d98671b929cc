"""The board: minutes of training to a share of solved puzzles, by experiment and hardware."""

import json
import shlex
from pathlib import Path

import pytest
from pir.analysis.pages.table_figure import draw_table
from pir.analysis.pages.table_view import as_json, as_markdown, as_text
from pir.analysis.reading.hardware import short_hardware, whole_hardware
from pir.analysis.reading.minutes import MINUTES, TimeToShare, time_to_share
from pir.analysis.reading.runs import Run
from pir.analysis.statistics.table import make_table

from pir.errors import UserError
from tests.run_folders import write_csv, write_run

DOCUMENT = Path(__file__).parents[1] / "docs" / "speedruns.md"
CLOCK = {10: 6.0, 30: 18.0, 50: 33.0, 70: 48.0}
REACHING = {0: 0.1, 20: 0.5, 40: 0.95, 60: 0.9}
SHORT = {0: 0.1, 20: 0.5, 60: 0.94}


def write(folder, solved=REACHING, clock=CLOCK, end=None, gpus=(), threads=1, **settings):
    """Writes a run that solved shares of the validation puzzles after step 3 (after step 2: all).

    `clock` has seconds by optimizer step, `end` both of the summary.
    """
    write_run(folder, extra=False, **settings)
    rows = [
        {"optimizer_step": step, "k": k, "forward_passes": 3 * k, "solved": (0, 1, share)[k - 1]}
        for step, share in solved.items()
        for k in (1, 2, 3)
    ]
    write_csv(folder / "improvement.csv", rows)
    if clock:
        write_csv(
            folder / "timing.csv",
            [{"optimizer_step": step, "seconds": seconds, "ledger_seconds": 0.1}
             for step, seconds in clock.items()],
        )  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    del summary["seconds"]
    if end:
        summary |= {"optimizer_steps": end[0], "seconds": end[1]}
    (folder / "summary.json").write_text(json.dumps(summary))
    info = json.loads((folder / "info.json").read_text())
    info |= {"processor": "AMD EPYC", "gpus": list(gpus), "threads": threads}
    info |= {"date": "2026-11-27T07:15:46+00:00"}
    (folder / "info.json").write_text(json.dumps(info))
    words = ["/home/someone/.venv/bin/python", "-m", "pir", "train", f"run={folder.name}"]
    (folder / "command.txt").write_text(shlex.join([*words, "a=b c"]) + "\n")
    return folder


def choose(folder, **choices):
    """Adds choices to a run's settings."""
    text = (folder / "config.yaml").read_text()
    words = ", ".join(f"{key}: {value}" for key, value in choices.items())
    (folder / "config.yaml").write_text(text.replace("choices: {", f"choices: {{{words}, "))
    return folder


def board(*folders, rows=("experiment",), columns=("hardware",), share=0.95):
    return make_table([Run(folder) for folder in folders], rows, columns, MINUTES, share)


def minutes(folder, share=0.95):
    time = time_to_share(Run(folder), share)
    return time and time.minutes


# ---------------------------------------------------------------- one run


def test_the_first_validation_that_reaches_counts_by_the_first_clock_after_it(tmp_path):
    folder = write(tmp_path / "a")
    assert time_to_share(Run(folder), 0.95) == TimeToShare(33 / 60, 33 / 60, 40, 0.95)
    assert minutes(folder, 0.5) == pytest.approx(18 / 60)
    assert minutes(folder, 0.05) == pytest.approx(6 / 60)
    assert minutes(write(tmp_path / "b", clock=CLOCK | {40: 25.0}), 0.95) == pytest.approx(33 / 60)
    exact = {10: 6.0, 40: 25.0, 50: 33.0}
    assert minutes(write(tmp_path / "c", clock=exact)) == pytest.approx(25 / 60)


def test_the_trained_depth_counts(tmp_path):
    folder = write(tmp_path / "a")
    text = (folder / "config.yaml").read_text()
    for depth, found in ((2, 6), (3, 33), (9, 33)):
        (folder / "config.yaml").write_text(
            text.replace("name: trm}", f"name: trm, improvement_steps: {depth}}}")
        )
        assert minutes(folder) == pytest.approx(found / 60)


def test_a_share_beyond_the_last_clock_is_found_at_the_end(tmp_path):
    late = {0: 0.1, 80: 0.99}
    assert minutes(write(tmp_path / "ended", solved=late, end=(80, 60.0))) == pytest.approx(1.0)
    assert minutes(write(tmp_path / "bare", solved=late, clock={}, end=(80, 60.0))) == 1.0
    for name, end in (("killed", None), ("resumed", (70, 50.0))):
        assert time_to_share(Run(write(tmp_path / name, solved=late, end=end)), 0.95) is None


def test_never_reached(tmp_path):
    ended = write(tmp_path / "ended", solved=SHORT, end=(60, 42.0))
    assert time_to_share(Run(ended), 0.95) == TimeToShare(None, 42 / 60, 60, 0.94)
    going_on = time_to_share(Run(write(tmp_path / "going_on", solved=SHORT)), 0.95)
    assert going_on.within == pytest.approx(33 / 60)  # the clock after step 60 proves nothing
    assert time_to_share(Run(write(tmp_path / "new", solved={0: 0.0})), 0.95) is None
    result = board(ended)
    assert "not within 0.7 min, one seed" in as_text(result, "")
    (cell,) = as_json(result, "")["cells"]
    assert (cell["mean"], cell["values"], cell["reached"], cell["seeds"]) == (None, [None], 0, 1)
    assert cell["times"][0]["not_within"] == pytest.approx(0.7)
    assert result.lacking == []
    with pytest.raises(UserError, match=r"no cell has a mean to draw; out=FILE.md writes"):
        draw_table(result)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_what_is_no_share_is_refused(tmp_path, share):
    with pytest.raises(UserError, match=r"share=\S+: allowed are numbers above 0, up to 1"):
        board(write(tmp_path / "a"), share=share)


# ---------------------------------------------------------------- seeds


def test_a_mean_over_seeds(tmp_path):
    folders = [
        write(tmp_path / f"{seed}", clock={40: 60.0 * seed}, seed=seed, env="maze")
        for seed in (1, 2, 3)
    ]
    result = board(*folders)
    cell = result.cells[0, 0]
    assert cell.mean == pytest.approx(2.0)
    assert cell.interval == pytest.approx((0.0, 2 + 4.302653 / 3**0.5))  # none below 0
    assert "| env=maze | 2 min (0 to 4.48 min), 3 seeds |" in as_markdown(result, "")
    assert draw_table(result).axes


def test_two_of_three_runs(tmp_path):
    folders = [write(tmp_path / f"{seed}", clock={40: 60.0 * seed}, seed=seed) for seed in (1, 2)]
    folders.append(write(tmp_path / "3", solved=SHORT, end=(60, 738.0), seed=3))
    result = board(*folders)
    text = "1.5 min, 2 of 3 runs; 1 not within 12.3 min"
    assert text in as_text(result, "")
    assert f"| env=countdown | {text} |" in as_markdown(result, "")
    assert "where some runs never came to it, the mean is of those that did" in as_text(result, "")
    (cell,) = as_json(result, "")["cells"]
    assert (cell["mean"], cell["interval"], cell["mean_of_reached"]) == (None, None, 1.5)
    assert cell["values"] == [1.0, 2.0, None]
    assert (cell["reached"], cell["seeds"]) == (2, 3)
    assert "not within 1, 2 and 12.3 min, 3 seeds" in as_text(board(*folders, share=0.99), "")


def test_runs_without_a_timed_validation_are_named_and_no_seeds(tmp_path):
    folders = [write(tmp_path / "a"), write(tmp_path / "b", clock={}, seed=2)]
    result = board(*folders)
    assert result.lacking == [str(folders[1])]
    assert "0.55 min, one seed" in as_text(result, "")
    assert "seed 2: no validation with its time; 2026-11-27" in as_markdown(result, "")
    (folders[1] / "improvement.csv").unlink()
    with pytest.raises(UserError, match=r"metric=minutes_to_share: none .* \(timing.csv\)"):
        board(folders[1])


# ---------------------------------------------------------------- rows and columns


def test_rows_by_experiment_and_by_env_without_one(tmp_path):
    folders = [
        choose(write(tmp_path / "a", env="maze"), experiment="fast"),
        choose(write(tmp_path / "b", env="sudoku9"), experiment="null"),
        write(tmp_path / "c", env="maze", seed=2),
    ]
    rows = [row["experiment"] for row in board(*folders).rows]
    assert rows == ["fast", "env=sudoku9", "env=maze"]


@pytest.mark.parametrize(
    ("info", "device", "short", "whole"),
    [
        ({"processor": "AMD EPYC", "cores": 2, "threads": 1}, "auto",
         "AMD EPYC, 1 thread", "AMD EPYC, 2 cores, 1 thread"),
        ({"processor": "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", "threads": 4, "gpus": []}, "cpu",
         "Intel Xeon Gold 6148, 4 threads", "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz, 4 threads"),
        ({"processor": "AMD EPYC 7763 64-Core Processor", "threads": 2, "gpus": ["G"]}, "cpu",
         "AMD EPYC 7763, 2 threads", "AMD EPYC 7763 64-Core Processor, 2 threads"),
        ({"processor": "x", "gpus": ["NVIDIA H100 80GB HBM3"]}, "auto",
         "NVIDIA H100", "NVIDIA H100 80GB HBM3"),
        ({"gpus": ["A", "NVIDIA A100-SXM4-40GB"]}, "cuda:1",
         "NVIDIA A100-SXM4", "NVIDIA A100-SXM4-40GB"),
        ({"processor": "arm", "platform": "macOS-15-arm64", "threads": 8}, "auto",
         "arm, auto", "arm, 8 threads"),
        ({"processor": "arm", "threads": 8}, "mps", "arm, mps", "arm, 8 threads"),
        ({}, "auto", "unknown hardware", "unknown hardware"),
        ({"processor": 3, "gpus": [None], "threads": "x"}, "cuda:" + "9" * 5000,
         "unknown hardware", "unknown hardware"),
    ],
)  # fmt: skip
def test_hardware_in_a_few_words(info, device, short, whole):
    assert (short_hardware(info, device), whole_hardware(info, device)) == (short, whole)


def test_minutes_on_unlike_hardware_are_never_averaged(tmp_path):
    gpu = {"gpus": ["NVIDIA H100 80GB HBM3"]}
    folders = [
        write(tmp_path / f"{seed}", seed=seed, **(gpu if seed == 3 else {})) for seed in (1, 2, 3)
    ]
    across = board(*folders)
    hardware = [column["hardware"] for column in across.columns]
    assert hardware == ["AMD EPYC, 1 thread", "NVIDIA H100"]
    down = board(*folders, columns=("env",))
    assert [row["hardware"] for row in down.rows] == hardware
    assert [len(cell.values) for cell in down.cells.values()] == [2, 1]
    runs = [Run(folder) for folder in folders]
    solved = make_table(runs, ["objective"], ["env"], "solved")
    assert len(solved.cells[0, 0].values) == 3  # what is solved does not hang on it


def test_the_fastest_is_marked_on_the_same_puzzles_only(tmp_path):
    def marked(*envs):
        folders = [
            write(tmp_path / "".join((name, *envs)), clock={40: seconds}, env=env, objective=name)
            for name, seconds, env in zip(("awr", "label"), (90.0, 60.0), envs, strict=True)
        ]
        table = board(*folders, rows=("objective",))
        return [place for place in table.cells if table.is_best(*place)]

    assert marked("maze", "maze") == [(1, 0)]
    assert marked("maze", "countdown") == []


# ---------------------------------------------------------------- by command


def test_the_board_by_the_command_of_its_page(pir_here, tmp_path, tiny_run, monkeypatch):
    """With a run that `pir train` wrote, beside others; as the page has it."""
    (tmp_path / "runs").mkdir()
    tiny_run.rename(tmp_path / "runs" / "tiny")
    write(tmp_path / "runs" / "fast", env="sudoku9", gpus=["NVIDIA H100 80GB HBM3"])
    monkeypatch.chdir(tmp_path)
    (line,) = [x for x in DOCUMENT.read_text().splitlines() if x.startswith("pir table")]
    assert line == (
        "pir table runs='runs/*' rows=experiment columns=hardware "
        "metric=minutes_to_share out=board.md"
    )
    words = shlex.split(line)[1:]
    done = pir_here(*words)
    assert done.stderr.strip() == "board.md"
    assert done.stdout.splitlines()[0].split("  ")[0] == "experiment"
    text = (tmp_path / "board.md").read_text(encoding="utf-8")
    header, _, first, second = text.splitlines()[:4]
    assert header.startswith("| experiment | NVIDIA H100 | ")
    assert first == "| env=sudoku9 | 0.55 min, one seed | – |"
    assert second.startswith("| env=countdown | – | not within ")
    assert "until 95 % of the validation puzzles" in text
    assert "metric=minutes_to_share share=0.95`: 2 runs" in text
    assert (
        "* env=sudoku9, NVIDIA H100\n"
        "  * seed 1: 0.55 min (95.0 % of the validation puzzles at step 40); 2026-11-27, "
        "commit abc1234; NVIDIA H100 80GB HBM3; `pir train run=fast 'a=b c'`\n"
    ) in text
    assert "/home/someone" not in text
    assert "seed 0: not within" in text
    content = json.loads(pir_here(*words[:-1], "share=0.5", "output=json").stdout)
    assert content["share"] == 0.5
    assert content["cells"][0]["times"][0]["command"].startswith("pir train run=fast")
    for share in ("0", "1.2"):
        refused = pir_here(*words, f"share={share}", code=2).stderr
        assert f"share={share}: allowed are numbers above 0, up to 1" in refused
    assert "mean minutes_to_share?" in pir_here(*words[:4], "metric=minute_to_share", code=2).stderr
