"""The report of a run: one page with every figure and table that its folder has data for."""

import shlex
from pathlib import Path
from typing import Any

from pir.analysis.figures.exits import rule_name
from pir.analysis.figures.kinds import KINDS
from pir.analysis.pages import report_tables as tables
from pir.analysis.pages.page import page
from pir.analysis.pages.svg import inline_svg
from pir.analysis.reading.runs import BREADTH, CELLS, CONFIG, EXAMPLES, INFO, PER_STEP, Run
from pir.analysis.reading.settings import RunSettings
from pir.analysis.words import NONE, listed, number, percent

from pir.errors import UserError
from pir.runs.folder import write_text
from pir.system.work import part

SYMBOLS = (
    ("k, K", "number of an improvement step, and of steps in all; step 0 is the start"),
    ("u", "the policy before a step: for every cell a probability of every token"),
    ("c", "the policy after the step"),
    ("y*", "a right answer, the label"),
    ("A(y*)", "gain of a step, log c(y*) - log u(y*), in nats; above 0 the step helped"),
    ("KL(c || u)", "how far a step moves the policy, the mean of log c - log u under c, in nats"),
    ("w", "guidance: the policy u^(1-w) c^w, made to sum to 1; 0 is u, 1 is c, more goes on"),
    ("score", "what the verifier gives an answer, from 0 to 1, where 1 is solved"),
    ("dead", "a step that does not raise the score; live: one that raises it by more than 0.01"),
    ("idle", "dead, and the policy hardly moved"),
    ("busy", "dead, though the policy moved"),
    ("overshoot", "dead, but a smaller step in the same direction would have helped"),
    ("forward pass", "one evaluation of the network; every step costs the same number of them"),
)
"""What figures and tables write for short."""

FRAMES = 8
"""Answers that are shown of a puzzle, the first ones and the last."""


def write_report(run: Run, out: Path, title: str | None = None) -> None:
    """Writes the page of a run.

    Args:
        run: the run.
        out: the file.
        title: of the page; by default puzzle, model and objective.

    Raises:
        UserError: if the run cannot be read or the page cannot be written.
    """
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"out={out}: the ending must be .html")
    write_text(out, report(run, title))


def report(run: Run, title: str | None = None) -> str:
    """Returns the page of a run; see `write_report`.

    Raises:
        UserError: if the run cannot be read.
    """
    wanted = _missing(run)
    found = [
        tables.step_table(run),
        tables.strata_table(run),
        tables.floor_table(run),
        tables.exit_table(run),
        tables.breadth_table(run),
        *tables.statistics_tables(run),
    ]
    return page(
        title=title or _title(run),
        symbols=[(term, meaning) for term, meaning in SYMBOLS],
        started_by=run.started_by,
        settings=_settings(run),
        examples=_examples(run),
        subject=_subject(run),
        origin=_origin(run),
        headline=_headline(run),
        figures=[_figure(run, name) for name, kind in KINDS.items() if not kind.missing(run)],
        missing=[f"{t} (needs labels)" if file == CELLS else t for t, file in wanted.items()],
        command=run.command(*wanted.values()),
        tables=[table for table in found if table is not None],
    )


def _title(run: Run) -> str:
    """Names puzzle, model and objective, as far as they are known."""
    facts = run.facts
    return ", ".join(name for name in (facts.env, facts.model, facts.objective) if name)


def _settings(run: Run) -> list[tuple[str, str]]:
    """Every setting with its value."""
    if not run.has(CONFIG):
        return []
    return sorted(RunSettings(run).settings.items())


def _examples(run: Run) -> list[dict[str, Any]]:
    """A few puzzles, each with its answers over the steps, thinned."""
    table = run.table(EXAMPLES)
    if table is None:
        return []
    found = []
    for index in table.distinct("index"):
        rows = table.where(table["index"] == index)
        steps = [
            {
                "name": f"step {k:.0f}" if k else "the start",
                "state": "solved" if solved else f"score {number(score)}",
                "drawing": str(drawing).splitlines(),
            }
            for k, solved, score, drawing in zip(
                rows["k"], rows["solved"], rows["score"], rows["drawing"], strict=True
            )
        ]
        kept = [*steps[: FRAMES - 1], steps[-1]] if len(steps) > FRAMES else steps
        found.append({"puzzle": str(rows["puzzle"][0]), "steps": kept,
                      "left_out": len(steps) - len(kept)})  # fmt: skip
    return found


def _subject(run: Run) -> str:
    facts = run.facts
    puzzles = f"{number(facts.puzzles)} {facts.split} puzzles"
    said = ("split", "improvement_steps")
    how = listed([f"{name} {v}" for name, v in facts.conditions.items() if name not in said])
    return (
        f"A reasoner for {facts.env}, trained for {facts.trained_steps} improvement steps and "
        f"evaluated for {facts.improvement_steps} on {puzzles}"
        f"{f' ({how})' if how else ''}."
    )


def _origin(run: Run) -> list[tuple[str, str, str]]:
    """Where the run comes from: choices, size, code and machine."""
    facts, info = run.facts, run.content(INFO) or {}
    machine = [str(info[key]) for key in ("processor", "platform") if info.get(key)]
    gpus = info.get("gpus")
    machine = [str(gpu) for gpu in gpus] if gpus and isinstance(gpus, list) else machine[:1]
    origin = {
        "run": run.name,
        "evaluation": run.evaluation,
        "env": facts.env,
        "model": facts.model,
        "objective": facts.objective,
        "seed": facts.seed,
        "parameters": number(facts.parameters),
        "checkpoint": facts.checkpoint,
        "date": str(info.get("date") or "")[:10] or None,
        "commit": str(info.get("commit") or "")[:12] or None,
        "pir": info.get("pir"),
        "machine": ", ".join(machine) or None,
        "cores": info.get("cores"),
    }
    return [(term, str(value), "") for term, value in origin.items() if value not in (None, "")]


def _headline(run: Run) -> list[tuple[str, str, str]]:
    """The numbers to read first; those that the evaluation lacks are left out."""
    facts = run.facts
    trained = run.at_trained_depth(run.required(PER_STEP))
    depth = int(trained["k"][0])
    best, cost, named = facts.best_exit, facts.cost, facts.depth_name
    tiles = [
        ("Solved", percent(trained["solved"][0]),
         f"95 % interval {tables.interval(trained, 0)}, after {depth} steps"),
        ("Dead compute", percent(facts.dead_fraction),
         f"of the forward passes to {named} bought nothing"),
        ("Live depth", number(facts.live_depth),
         f"of {depth} steps gain more than {number(facts.live_gain)} in score"),
        ("Steps to solve", number(facts.steps_to_solve),
         f"mean over puzzles solved by {named}"),
        ("Fixed points", percent(facts.fixed_point_rate),
         "of the puzzles once solved stay solved to the last step"),
        ("Forward passes", number(trained["forward_passes"][0]), f"per puzzle, to {named}"),
    ]  # fmt: skip
    if cost is not None:
        flops, seconds = cost.flops_per_step, cost.seconds_per_step
        tiles += [
            ("FLOPs", number(flops * depth if flops else None), f"per puzzle, to {named}"),
            ("Milliseconds", number(1000 * seconds * depth if seconds else None),
             f"per puzzle, to {named}, {number(cost.batch_size)} at once"),
        ]  # fmt: skip
    if best is not None:
        tiles.append(
            ("Saved by stopping early", percent(1 - best.forward_passes / best.full_forward_passes),
             f"of the passes, rule {rule_name(best.rule)}; solves {percent(best.solved)}"
             + (f", takes {percent(best.seconds / best.full_seconds, 0)} of the time"
                if best.seconds and best.full_seconds else ""))
        )  # fmt: skip
    for name, floor in (facts.floors or {}).items():
        tiles.append(("Floor: " + name.replace("_", " "), percent(floor.solved), "without a model"))
    if facts.sampled_solved is not None:
        more = [
            text.format(percent(share))
            for share, text in (
                (facts.pass_at_k, "at least one of them for {} of the puzzles"),
                (facts.coverage, "they cover {} of all right answers"),
            )
            if share is not None
        ]
        said = "; ".join([f"of {number(facts.samples)} per puzzle", *more])
        tiles.append(("Samples right", percent(facts.sampled_solved), said))
    return [tile for tile in tiles if tile[1] != NONE]


def _figure(run: Run, name: str) -> dict[str, Any]:
    kind = KINDS[name]
    with part(f"figure {name}"):
        sentence = kind.describe(run)
        svg = inline_svg(kind.draw([run]), name, f"{kind.title}. {sentence}")
    return {
        "name": name,
        "title": kind.title,
        "svg": svg,
        "sentence": sentence,
        "command": " ".join(
            [f"pir plot run={shlex.quote(str(run.folder))} kind={name}"]
            + ([f"eval={shlex.quote(run.evaluation)}"] if run.evaluation else [])
        ),
    }


def _missing(run: Run) -> dict[str, str]:
    """Names what an evaluation did not measure, and the file that would hold it."""
    wanted = {
        kind.title: file
        for kind in KINDS.values()
        for file in kind.missing(run)[:1]
        if file.startswith("eval/")
    }
    if not run.has(BREADTH):
        wanted["Several starts per puzzle"] = BREADTH
    return wanted
