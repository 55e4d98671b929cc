"""The ledger against a slow reference, and the identities behind its definitions."""

import math

import pytest
import torch
from tensordict import TensorDict

from pir.improvement import Step
from pir.ledger import IDLE_KL, STATISTICS, Ledger, puzzle_statistics
from pir.puzzle import Verdict
from pir.reasoner import Policy


def make_step(seed: int = 0, batch: int = 7, length: int = 4, vocabulary: int = 5) -> Step:
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
    answer = improved.argmax(-1)
    before, after = (torch.rand(batch, generator=generator) for _ in range(2))
    after[1], after[2], before[2] = before[1], 1.0, 0.5
    return Step(
        k=torch.arange(batch) % 3 + 1,
        puzzles=TensorDict({"solution": solution.to(torch.uint8)}, batch_size=[batch]),
        written=written,
        reference=reference,
        improved=Policy(improved, None),
        answer=answer.to(torch.uint8),
        before=Verdict(before, before == 1),
        after=Verdict(after, after == 1),
    )


def slow_statistics(step: Step, b: int) -> dict[str, float]:
    """One puzzle's statistics, by loops over cells and tokens, as docs/metrics.md defines them."""
    cells = [i for i in range(step.written.shape[1]) if step.written[b, i]]
    log_gain = kl = reverse = hits = 0.0
    for i in cells:
        u = step.reference[b, i].double().softmax(0).tolist()
        c = step.improved.logits[b, i].double().softmax(0).tolist()
        label = int(step.puzzles["solution"][b, i])
        log_gain += math.log(c[label]) - math.log(u[label])
        kl += sum(cv * math.log(cv / uv) for cv, uv in zip(c, u, strict=True))
        reverse += sum(uv * math.log(uv / cv) for cv, uv in zip(c, u, strict=True))
        hits += int(step.answer[b, i]) == label
    gain = float(step.after.score[b] - step.before.score[b])
    kind = ""
    if gain <= 0:
        too_far = -reverse < log_gain < 0
        kind = "idle" if kl / len(cells) < IDLE_KL else "overshoot" if too_far else "busy"
    return {
        "solved": float(step.after.solved[b]),
        "exact_accuracy": float(hits == len(cells)),
        "cell_accuracy": hits / len(cells),
        "score": float(step.after.score[b]),
        "gain": gain,
        "log_prob_gain": log_gain,
        "improved": float(gain > 0),
        "worsened": float(gain < 0),
        "unchanged": float(gain == 0),
        "kl": kl / len(cells),
        "advantage_margin": (log_gain - kl) / len(cells),
        "dead": float(gain <= 0),
        "idle": float(kind == "idle"),
        "busy": float(kind == "busy"),
        "overshoot": float(kind == "overshoot"),
    }


def test_statistics_match_the_slow_reference():
    kinds = set()
    for seed in range(20):
        step = make_step(seed)
        fast = torch.stack(puzzle_statistics(step), 1)
        for b in range(len(step.k)):
            slow = slow_statistics(step, b)
            assert fast[b].tolist() == pytest.approx([slow[s] for s in STATISTICS], abs=2e-5)
            kinds |= {name for name in ("idle", "busy", "overshoot") if slow[name]}
    assert kinds == {"idle", "busy", "overshoot"}


def test_dead_steps_are_idle_busy_or_overshoot():
    values = dict(zip(STATISTICS, puzzle_statistics(make_step(3, batch=200)), strict=True))
    parts = values["idle"] + values["busy"] + values["overshoot"]
    assert torch.equal(values["dead"], parts)
    assert torch.equal(values["improved"] + values["dead"], torch.ones(200))


def test_rows_are_means_per_step():
    ledger = Ledger(5, 3, torch.device("cpu"))
    steps = [make_step(seed) for seed in range(3)]
    for step in steps:
        ledger.record(step)
    rows = ledger.rows()
    assert [row["k"] for row in rows] == [1, 2, 3]
    assert [row["forward_passes"] for row in rows] == [3, 6, 9]
    for row in rows:
        seen = [slow_statistics(s, b) for s in steps for b in range(7) if s.k[b] == row["k"]]
        for name in STATISTICS:
            assert row[name] == pytest.approx(sum(s[name] for s in seen) / len(seen), abs=2e-5)
    dead = [slow_statistics(s, b)["dead"] for s in steps for b in range(7)]
    assert ledger.dead_fraction() == pytest.approx(sum(dead) / len(dead))


def test_state_survives_a_checkpoint():
    ledger, other = (Ledger(3, 3, torch.device("cpu")) for _ in range(2))
    ledger.record(make_step(0))
    other.load_state_dict(ledger.state_dict())
    for each in (ledger, other):
        each.record(make_step(1))
    assert ledger.rows() == other.rows()
    ledger.clear()
    assert ledger.rows() == []
    assert ledger.dead_fraction() == 0.0
