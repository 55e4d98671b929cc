"""Run folders with known numbers, written without training anything."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import yaml
from pir.analysis.reading.settings import flat

TRAINED, STEPS, PASSES = 3, 6, 3
EASY, SLOW, NEVER = 120, 40, 40
"""Puzzles that step 1 solves, that step 2 solves, and that no step solves."""

STATISTICS = [
    ("solved", "the answer is right", "share", False),
    ("exact_accuracy", "the answer equals the label", "share", True),
    ("score", "the verifier's graded value", "[0, 1]", False),
    ("gain", "score after minus before", "[-1, 1]", False),
    ("log_prob_gain", "log c(y*) - log u(y*)", "nats per puzzle", True),
    ("kl", "mean KL(c || u)", "nats per cell", False),
    ("newly_solved", "solved after and not before", "share", False),
    ("lost", "solved before and not after", "share", False),
    ("dead", "the step gains nothing", "share", False),
    ("idle", "dead, and hardly moved", "share", False),
    ("busy", "dead, moved to no avail", "share", False),
    ("overshoot", "dead, too far", "share", True),
]


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def step_values(lost=0, labels=True, passes_scale=1.0):
    """Statistics of every puzzle and step, (N, K); `lost` easy puzzles fail from step 5 on."""
    n = EASY + SLOW + NEVER
    solved = np.zeros((n, STEPS))
    solved[:EASY] = 1
    solved[EASY : EASY + SLOW, 1:] = 1
    solved[:lost, 4:] = 0
    score = np.where(solved > 0, 1.0, 0.5)
    gain = np.diff(score, axis=1, prepend=0.25)
    kl = np.tile(passes_scale * 2.0 ** -np.arange(0, 2 * STEPS, 2), (n, 1))
    kl[:EASY, 2:] = 1e-4
    dead = gain <= 0
    idle = dead & (kl < 1e-3)
    values = {
        "solved": solved,
        "exact_accuracy": solved if labels else np.full_like(solved, np.nan),
        "score": score,
        "gain": gain,
        "log_prob_gain": gain - 0.01 if labels else np.full_like(solved, np.nan),
        "kl": kl,
        "newly_solved": np.diff(solved, axis=1, prepend=0) > 0,
        "lost": np.diff(solved, axis=1, prepend=0) < 0,
        "dead": dead,
        "idle": idle,
        "busy": dead & ~idle,
        "overshoot": np.zeros_like(solved) if labels else np.full_like(solved, np.nan),
    }
    return {name: array.astype(np.float32) for name, array in values.items()}


def _means(values, rows=slice(None)):
    return [
        {"k": k + 1, "forward_passes": PASSES * (k + 1)}
        | {name: float(array[rows, k].astype(float).mean()) for name, array in values.items()}
        for k in range(STEPS)
    ]


def _bounds(row):
    return row | {
        "solved_low": max(0.0, row["solved"] - 0.05),
        "solved_high": min(1.0, row["solved"] + 0.05),
    }


def write_run(folder, *, seed=1, lost=0, labels=True, env="countdown", model="trm", puzzles=None,
              objective="set_likelihood", settings="", typed=None, extra=True):  # fmt: skip
    """Writes a run folder.

    `settings` are further lines of config.yaml, `typed` those of them that the command names (by
    default all); `extra` adds the files that evaluations write only
    on demand.
    """
    folder = Path(folder)
    (folder / "eval").mkdir(parents=True)
    values = step_values(lost, labels)
    n = EASY + SLOW + NEVER
    rating = np.repeat([1.0, 2.0, 5.0], [EASY, SLOW, NEVER])
    texts = puzzles or [f"puzzle {i} <b> & $x$" for i in range(n)]
    steps = [_bounds(row) for row in _means(values)]
    (folder / "config.yaml").write_text(
        f"env: {{_target_: x, name: {env}}}\nmodel: {{name: {model}}}\nseed: {seed}\n"
        f"objective: {{name: {objective}}}\n{settings}"
        f"choices: {{env: {env}, model: {model}, objective: {objective}}}\n"
    )
    named = flat(yaml.safe_load(settings) or {})
    words = [f"{key}={value}" for key, value in named.items()] if typed is None else typed.split()
    (folder / "command.txt").write_text(
        shlex.join(["pir", "train", f"env={env}", f"seed={seed}", *words]) + "\n"
    )
    info = {"pir": "0.1.0", "commit": "abc1234", "processor": "A & B <CPU>", "cores": 2,
            "threads": 1, "gpus": [], "versions": {"torch": "2.13.0"}, "seed": seed}  # fmt: skip
    (folder / "info.json").write_text(json.dumps(info))
    (folder / "summary.json").write_text(
        json.dumps({"training_forward_passes": 1000 * seed, "seconds": 60.0 * seed,
                    "solved": 0.8, "solved_interval": [0.738, 0.850]})
    )  # fmt: skip
    facts = {
        "run": str(folder.name), "checkpoint": "best.pt", "env": env, "model": model,
        "objective": objective, "seed": seed, "split": "test", "puzzles": n,
        "trained_steps": TRAINED, "improvement_steps": STEPS, "parameters": 4321, "seconds": 1.5,
        "statistics": [
            dict(zip(("name", "meaning", "unit", "label"), statistic, strict=True))
            for statistic in STATISTICS
        ],
        "dead_fraction": float(values["dead"][:, :TRAINED].mean()), "live_depth": 1.2,
        "live_gain": 0.01, "idle_kl": 0.001, "steps_to_solve": 1.25, "fixed_point_rate": 0.9,
        "floors": {"masked_random": {"solved": 0.023, "answers": 2000},
                   "look_up": {"solved": 0.01, "training_puzzles": 5000}},
        "one_blank": {"solved": 0.99, "solved_low": 0.98, "solved_high": 1.0, "puzzles": 100},
        "rating_name": "answers",
        "cost": {"passes_per_step": PASSES, "flops_per_step": 2.5e6, "seconds_per_step": 0.0012,
                 "batch_size": 100},
        "best_exit": {"rule": "kl", "threshold": 0.01, "solved": 0.79, "forward_passes": 4.5,
                      "full_solved": 0.8, "full_forward_passes": 9.0},
        "per_step": steps,
    }  # fmt: skip
    (folder / "eval/eval.json").write_text(json.dumps(facts))
    write_csv(folder / "eval/per_step.csv", steps)
    outcome = values["solved"][:, TRAINED - 1] > 0
    write_csv(
        folder / "eval/per_outcome.csv",
        [
            {"outcome": name, "puzzles": int(mask.sum())} | row
            for name, mask in (("solved", outcome), ("failed", ~outcome))
            for row in _means(values, mask)
        ],
    )
    write_csv(
        folder / "eval/strata.csv",
        [
            {"stratum": i + 1, "rating_low": low, "rating_high": low,
             "puzzles": int((rating == low).sum())}
            | {key: _bounds(row)[key] for key in ("k", "forward_passes", "solved", "solved_low",
                                                  "solved_high", "score", "gain", "dead")}
            for i, low in enumerate((1.0, 2.0, 5.0))
            for row in _means(values, rating == low)
        ],
    )  # fmt: skip
    write_csv(
        folder / "eval/per_puzzle.csv",
        [
            {"index": i, "puzzle": texts[i],
             "first_solved": int(values["solved"][i].argmax()) + 1 if values["solved"][i].any()
             else "", "solved": int(values["solved"][i, -1]), "score": values["score"][i, -1],
             "rating": rating[i]}
            for i in range(n)
        ],
    )  # fmt: skip
    others = _others(values["score"].shape)
    np.savez(folder / "eval/steps.npz", **others | values, rating=rating.astype(np.float32))
    rng = np.random.default_rng(seed)
    solved = np.arange(12) < 8
    start = np.zeros((12, 1, 5))
    moves = rng.normal(size=(12, STEPS, 5)) * 0.5 ** np.arange(STEPS)[:, None]
    latents = np.concatenate([start, np.cumsum(moves, 1)], 1).astype(np.float32)
    np.savez(folder / "eval/latents.npz", latents=latents, solved=solved, slots=_slots(),
             slot_steps=np.arange(STEPS + 1), slot_index=np.arange(2))  # fmt: skip
    if labels:
        write_csv(folder / "eval/cells.csv", _cells())
    write_csv(
        folder / "improvement.csv",
        [
            {"optimizer_step": step} | row | {"dead": min(1.0, row["dead"] + 10 / step)}
            for step in (100, 200, 400)
            for row in _means(values)[:TRAINED]
        ],
    )
    write_csv(
        folder / "metrics.csv",
        [
            {
                "optimizer_step": step,
                "forward_passes": 90 * step,
                "loss": 500 / step + seed,
                "loss_policy": 500 / step,
                "loss_halting": seed,
            }
            for step in (100, 200, 300)
        ],
    )
    write_csv(
        folder / "eval/examples.csv",
        [
            {"index": 4, "puzzle": texts[4], "k": k, "solved": int(k == 9), "score": k / 9,
             "drawing": f"1 2!\n3 {k}"}
            for k in range(10)
        ],
    )  # fmt: skip
    if extra:
        _write_on_demand(folder)
    return folder


def _slots():
    """Two slots, each of which varies in a direction of its own and, more so, in one they share.

    That one is another after step 1 than from step 2 on, so that step 1 captures little.
    """
    directions = np.eye(8)
    a, b = np.tile([1, -1], 6)[:, None], np.repeat([1, -1], 6)[:, None]
    slots = np.zeros((12, STEPS + 1, 2, 8), dtype=np.float16)
    for k in range(1, STEPS + 1):
        shared = 2 * a * directions[3 if k == 1 else 0]
        slots[:, k, 0] = shared + b * directions[1]
        slots[:, k, 1] = shared + 1.5 * b * directions[2] + 10 * directions[4]
    return slots


def _cells():
    """Four cells of every region, one still."""
    regions = {
        "harmful": (-3.0, 1.0, 2.0),
        "overshoot": (-0.5, 1.0, 2.0),
        "sized_right": (0.5, 1.0, 2.0),
        "under_sized": (2.0, 1.0, 0.5),
        "still": (1e-4, 1e-4, 1e-4),
    }
    counts = {"harmful": 1, "overshoot": 2, "sized_right": 3, "under_sized": 4, "still": 10}
    return [
        {"k": 1 + j % 3, "solved": j % 2, "gain": gain, "kl": kl, "reverse_kl": reverse,
         "region": region, "best_w": 1.0}
        for region, (gain, kl, reverse) in regions.items()
        for j in range(counts[region])
    ]  # fmt: skip


def _others(shape):
    """Statistics of single puzzles that nothing but the figure `harm` reads; no halt head."""
    rng = np.random.default_rng(0)
    names = ("advantage_margin", "state_change", "logit_change", "entropy")
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name in names}
    return drawn | {"halt_probability": np.full(shape, np.nan, np.float32)}


def _write_on_demand(folder):
    def share(value):
        return {"solved": value, "solved_low": value - 0.02, "solved_high": value + 0.02}

    sizes = (0.5, 1.0, 1.5, 2.0)
    write_csv(
        folder / "eval/guidance.csv",
        [
            {"w": w, "k": k, "forward_passes": PASSES * k}
            | share(0.5 + 0.1 * min(k, 3) - 0.04 * abs(w - 1.5))
            | {"score": 0.8, "drawn_solved": 0.7, "nll": 0.1 * w / k, "margin": 0.0}
            for w in sizes
            for k in range(1, STEPS + 1)
        ],
    )
    write_csv(
        folder / "eval/step_size.csv",
        [
            {"step_size": size, "k": k, "forward_passes": PASSES * k}
            | share(0.5 + 0.1 * min(k, 3) - 0.1 * abs(size - 1))
            | {"score": 0.8, "probe_solved": 0.7, "probe_score": 0.8}
            for size in sizes
            for k in range(1, STEPS + 1)
        ],
    )
    write_csv(
        folder / "eval/breadth.csv",
        [
            {"selector": selector, "starts": starts, "forward_passes": 9 * starts}
            | share(0.8 + 0.01 * starts)
            | {"score": 0.9}
            for selector in ("first", "vote")
            for starts in (1, 2, 4)
        ],
    )
    write_csv(
        folder / "eval/exits.csv",
        [
            {"rule": rule, "threshold": i, "forward_passes": 3.0 * i, **share(0.6 + 0.05 * i),
             "chosen": int(rule == "kl" and i == 2)}
            for rule in ("fixed", "kl", "entropy", "oracle")
            for i in (1, 2, 3)
        ],
    )  # fmt: skip
