"""The ledger against a slow reference, and the identities behind its definitions."""

import math
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

import pir.ledger.statistics
from pir.errors import UserError
from pir.ledger.cells import IDLE_KL, Cells
from pir.ledger.ledger import Ledger
from pir.ledger.statistics import LIVE_GAIN, STATISTICS, finish, puzzle_statistics, statistic
from pir.rollout import Iterate, Rollout, changed


def make_step(seed: int = 0, batch: int = 7, length: int = 4, vocabulary: int = 5) -> Rollout:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    written = torch.ones(batch, length, dtype=torch.bool)
    written[:, 0] = False
    written[0, 1] = False
    reference = normal(batch, length, vocabulary)
    improved = reference + 0.7 * normal(batch, length, vocabulary)
    improved[1] = reference[1]  # an idle step
    solution = torch.randint(0, vocabulary, (batch, length), generator=generator)
    before, after = (torch.rand(batch, generator=generator) for _ in range(2))
    after[1], after[2], before[2], before[3] = before[1], 1.0, 0.5, 1.0
    k = torch.arange(batch) % 3 + 1
    states = [
        TensorDict({"y": normal(batch, length, 3), "z": normal(batch, 2)}, batch_size=[batch])
        for _ in range(2)
    ]
    halt_logit = normal(batch)

    def iterate(state: TensorDict, logits: torch.Tensor, score: torch.Tensor) -> Iterate:
        return Iterate(
            state=state,
            context=TensorDict(batch_size=[batch]),
            logits=logits,
            answer=logits.argmax(-1).to(torch.uint8),
            score=score,
            solved=score == 1,
            halt_logit=halt_logit,
            batch_size=[batch],
        )

    return Rollout(
        k=k,
        puzzles=TensorDict({"solution": solution.to(torch.uint8)}, batch_size=[batch]),
        written=written,
        condition=TensorDict(batch_size=[batch]),
        before=iterate(states[0], reference, before),
        after=iterate(states[1], improved, after),
        first_solved=torch.where(after == 1, k, 0),
        experience=TensorDict(batch_size=[batch]),
        batch_size=[batch],
    )


def slow_statistics(step: Rollout, b: int) -> dict[str, float]:
    """One puzzle's statistics, by loops over cells and tokens, as docs/metrics.md defines them."""
    cells = [i for i in range(step.written.shape[1]) if step.written[b, i]]
    names = "A kl reverse hits flips fixed broken moved entropy log_answer"
    totals = dict.fromkeys(names.split(), 0.0)
    regions = dict.fromkeys(["harmful", "overshoot", "sized_right", "under_sized"], 0)
    bins = [0.0] * 10
    for i in cells:
        u = step.before.logits[b, i].double().softmax(0).tolist()
        c = step.after.logits[b, i].double().softmax(0).tolist()
        label, now = int(step.puzzles["solution"][b, i]), c.index(max(c))
        earlier = u.index(max(u))
        gain = math.log(c[label]) - math.log(u[label])
        kl = sum(cv * math.log(cv / uv) for cv, uv in zip(c, u, strict=True))
        reverse = sum(uv * math.log(uv / cv) for cv, uv in zip(c, u, strict=True))
        totals["A"] += gain
        totals["moved"] += math.dist(*(p.logits[b, i].tolist() for p in (step.before, step.after)))
        totals["kl"] += kl
        totals["reverse"] += reverse
        totals["entropy"] -= sum(cv * math.log(cv) for cv in c)
        totals["log_answer"] += math.log(c[now])
        totals["hits"] += now == label
        totals["flips"] += now != earlier
        totals["fixed"] += earlier != label and now == label
        totals["broken"] += earlier == label and now != label
        if kl >= IDLE_KL:
            kind = "under_sized" if gain > kl else "sized_right" if gain >= 0 else "overshoot"
            regions["harmful" if gain <= -reverse else kind] += 1
        bins[min(9, int(c[now] * 10))] += (c[now] - (now == label)) / len(cells)
    gain = float(step.after.score[b] - step.before.score[b])
    kind = ""
    if gain <= 0:
        too_far = -totals["reverse"] < totals["A"] < 0
        kind = "idle" if totals["kl"] / len(cells) < IDLE_KL else "overshoot" if too_far else "busy"
    answer_bins = [0.0] * 10
    probability = math.exp(totals["log_answer"])
    answer_bins[min(9, int(probability * 10))] = probability - float(step.after.solved[b])
    flat = [
        torch.cat([state[key][b].flatten() for key in ("y", "z")]).double()
        for state in (step.before.state, step.after.state)
    ]
    per_cell = {name: value / len(cells) for name, value in totals.items()}
    return {
        "solved": float(step.after.solved[b]),
        "exact_accuracy": float(totals["hits"] == len(cells)),
        "cell_accuracy": per_cell["hits"],
        "score": float(step.after.score[b]),
        "gain": gain,
        "log_prob_gain": totals["A"],
        "improved": float(gain > 0),
        "worsened": float(gain < 0),
        "unchanged": float(gain == 0),
        "live": float(gain > 0.01),
        "newly_solved": float(
            step.first_solved[b] == step.k[b] and not bool(step.before.solved[b])
        ),
        "lost": float(step.before.solved[b] and not step.after.solved[b]),
        "cells_fixed": per_cell["fixed"],
        "cells_broken": per_cell["broken"],
        "kl": per_cell["kl"],
        "reverse_kl": per_cell["reverse"],
        "flips": per_cell["flips"],
        "state_change": float((flat[1] - flat[0]).norm() / flat[0].norm()),
        "logit_change": per_cell["moved"],
        "entropy": per_cell["entropy"],
        "halt_probability": 1 / (1 + math.exp(-float(step.after.halt_logit[b]))),
        "advantage_margin": per_cell["A"] - per_cell["kl"],
        "advantage_margin_0": per_cell["A"] + per_cell["reverse"],
        "dead": float(gain <= 0),
        "idle": float(kind == "idle"),
        "busy": float(kind == "busy"),
        "overshoot": float(kind == "overshoot"),
        "harmful_cells": regions["harmful"] / len(cells),
        "overshoot_cells": regions["overshoot"] / len(cells),
        "sized_right_cells": regions["sized_right"] / len(cells),
        "under_sized_cells": regions["under_sized"] / len(cells),
        "ece": bins,
        "answer_ece": answer_bins,
    }


def slow_row(puzzles: list[dict[str, float]]) -> dict[str, float]:
    """Means over puzzles; calibration errors add up the sizes of their bins' means."""
    row = {}
    for name in STATISTICS:
        values = [p[name] for p in puzzles]
        if isinstance(values[0], list):
            row[name] = sum(abs(sum(column)) / len(values) for column in zip(*values, strict=True))
        else:
            row[name] = sum(values) / len(values)
    return row


def test_statistics_match_the_slow_reference():
    kinds = set()
    for seed in range(20):
        step = make_step(seed)
        fast = puzzle_statistics(step)
        for b in range(len(step.k)):
            slow = slow_statistics(step, b)
            assert set(slow) == set(STATISTICS)
            flat = [v for s in STATISTICS for v in (slow[s] if "ece" in s else [slow[s]])]
            assert fast[b].tolist() == pytest.approx(flat, abs=2e-5)
            kinds |= {name for name in ("idle", "busy", "overshoot") if slow[name]}
    assert kinds == {"idle", "busy", "overshoot"}


def test_dead_steps_are_idle_busy_or_overshoot():
    values = finish(puzzle_statistics(make_step(3, batch=200)))
    parts = values["idle"] + values["busy"] + values["overshoot"]
    assert torch.equal(values["dead"], parts)
    assert torch.equal(values["improved"] + values["dead"], torch.ones(200))
    moved = sum(values[f"{kind}_cells"] for kind in REGIONS)
    assert ((moved - 1).abs() < 1e-6).sum() == 199  # one policy did not move


REGIONS = ("harmful", "overshoot", "sized_right", "under_sized")


def rollouts(count: int, length: int = 3) -> list[Rollout]:
    """Steps 1 to `length` of `count` puzzles each, one step after the other."""
    steps = [make_step(seed, batch=count) for seed in range(length)]
    return [changed(step, k=torch.full((count,), k + 1)) for k, step in enumerate(steps)]


def test_rows_are_means_per_step_and_outcome():
    ledger = Ledger(9, 5, 3, torch.device("cpu"))
    steps = rollouts(9)
    for step in steps:
        assert ledger.rows() == []
        ledger.record(step, step.k == 3)
    every = [[slow_statistics(step, b) for b in range(9)] for step in steps]
    ends_well = [bool(steps[-1].after.solved[b]) for b in range(9)]
    assert set(ends_well) == {True, False}
    for outcome, chosen in (
        (None, [True] * 9),
        ("solved", ends_well),
        ("failed", [not e for e in ends_well]),
    ):
        rows = ledger.rows(outcome)
        assert [row["k"] for row in rows] == [1, 2, 3]
        assert [row["forward_passes"] for row in rows] == [3, 6, 9]
        for row, seen in zip(rows, every, strict=True):
            slow = slow_row([s for s, c in zip(seen, chosen, strict=True) if c])
            for name in STATISTICS:
                assert row[name] == pytest.approx(slow[name], abs=2e-5), name
    apart = ledger.outcome_rows()
    assert [row["outcome"] for row in apart] == ["solved"] * 3 + ["failed"] * 3
    assert {row["puzzles"] for row in apart} == {sum(ends_well), 9 - sum(ends_well)}
    dead = [s["dead"] for seen in every for s in seen]
    assert ledger.dead_fraction() == pytest.approx(sum(dead) / len(dead))
    live = [s["live"] for seen in every[:2] for s in seen]
    assert ledger.live_depth(2) == pytest.approx(sum(live) / 9)


def test_steps_that_end_no_rollout_are_only_kept():
    """So deep rollouts do not add up all their steps at every one of them."""
    told, asked = (Ledger(9, 3, 3, torch.device("cpu")) for _ in range(2))
    for step in rollouts(9):
        last = step.k == 3
        told.record(step, last if last.all() else None)
        asked.record(step, last)
    assert torch.equal(told.counts, asked.counts)
    assert torch.equal(told.sums, asked.sums)
    assert told.counts.sum() == 27


def test_rollouts_of_unequal_length():
    ledger = Ledger(4, 3, 1, torch.device("cpu"))
    for step in rollouts(4, 2):
        ledger.record(step, torch.tensor([True, False, True, False]) | (step.k == 2))
    counts = ledger.counts.sum(0).tolist()
    assert counts == [6, 4, 0]  # two that ended at once, and both lanes twice more at step 2
    ended = [int(row["puzzles"]) for row in ledger.outcome_rows() if row["k"] == 1]
    names = [row["outcome"] for row in ledger.outcome_rows() if row["k"] == 1]
    solved = dict(zip(names, ended, strict=True)).get("solved", 0)
    assert ledger.solved_share() == solved / 6
    assert len(ledger.rows()) == 2


def test_puzzles_without_a_label_still_have_a_ledger():
    step = make_step(0)
    bare = changed(step, puzzles=TensorDict({}, batch_size=[7]))
    with_label, without = (finish(puzzle_statistics(s)) for s in (step, bare))
    for name, kind in STATISTICS.items():
        if kind.label:
            assert without[name].isnan().all(), name
        elif name != "busy":
            assert torch.equal(without[name], with_label[name]), name
    assert torch.equal(without["dead"], without["idle"] + without["busy"])


def test_a_new_statistic_is_one_function(monkeypatch):
    monkeypatch.setattr("pir.ledger.statistics.STATISTICS", dict(STATISTICS))
    monkeypatch.setattr("pir.ledger.ledger.STATISTICS", pir.ledger.statistics.STATISTICS)

    @statistic("share")
    def surely_right(cells):
        """Right answers that had a probability above one half."""
        return cells.step.after.solved & (cells.sum(cells.log_confidence).exp() > 0.5)

    ledger = Ledger(7, 3, 3, torch.device("cpu"))
    ledger.record(make_step(0), torch.ones(7, dtype=torch.bool))
    assert all(0 <= row["surely_right"] <= row["solved"] for row in ledger.rows())
    old = Ledger(7, 3, 3, torch.device("cpu"))
    state = {**old.state_dict(), "names": list(STATISTICS)}
    with pytest.raises(UserError, match=r"other statistics.*surely_right"):
        old.load_state_dict(state)


def test_definitions_are_written_once():
    text = Path("docs/metrics.md").read_text()
    assert f"above {LIVE_GAIN:g}" in STATISTICS["live"].meaning
    assert f"below {IDLE_KL:g}" in STATISTICS["idle"].meaning
    for each in STATISTICS.values():
        meaning = each.meaning.replace("|", "\\|")
        row = f"| `{each.name}` | {meaning} | {each.unit} | {'yes' if each.label else ''} |"
        assert row in text


def test_state_survives_a_checkpoint():
    ledger, other = (Ledger(9, 3, 3, torch.device("cpu")) for _ in range(2))
    first, *rest = rollouts(9)
    ledger.record(first, first.k == 3)
    other.load_state_dict(ledger.state_dict())
    for each in (ledger, other):
        for step in rest:
            each.record(step, step.k == 3)
    assert len(ledger.rows()) == 3
    assert str(ledger.rows()) == str(other.rows())
    ledger.clear()
    assert ledger.rows() == []
    assert ledger.dead_fraction() == 0.0


def test_statistics_do_not_depend_on_whether_written_cells_are_picked(monkeypatch):
    def statistics(way):
        monkeypatch.setattr(pir.ledger.statistics, "Cells", lambda step: Cells(step, way))
        return puzzle_statistics(step)

    step = make_step()
    step.before.logits[:, 0] = torch.nan  # nothing is said of cells that are not written
    picked, masked = statistics(True), statistics(False)
    torch.testing.assert_close(masked, picked, equal_nan=True)
