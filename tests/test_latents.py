"""Latent vectors as evaluations keep them, and what analysis says that they share."""

import re

import numpy as np
import pytest
import torch
from pir.analysis.figures.kinds import KINDS, save_kind
from pir.analysis.figures.sharing import describe_sharing, sharing
from pir.analysis.pages.report import report
from pir.analysis.reading.runs import LATENTS, Run
from pir.analysis.statistics.subspaces import (
    cross_capture,
    fixed_rank,
    mean_off_diagonal,
    principal_directions,
    rank_correlation,
    silhouette,
)
from pir.analysis.words import percent
from pir.envs.countdown.rules import Countdown
from tensordict import TensorDict

from pir.errors import UserError
from pir.evaluation.probes import LatentSample, spread
from pir.evaluation.rollouts import evaluate
from pir.models.dual import Dual
from pir.models.trm import TRM
from pir.rollout import begin, improve
from tests.run_folders import write_run

NAN = float("nan")


def centred(rng, count, width, scale=1.0):
    vectors = rng.normal(size=(count, width)) * scale
    return vectors - vectors.mean(0)


def slow_capture(x_i, x_j, rank):
    """Share of ||X_j||^2 in the first right singular vectors of X_i, vector by vector."""
    _, _, directions = np.linalg.svd(x_i)
    inside = total = 0.0
    for vector in x_j:
        total += sum(value * value for value in vector)
        for direction in directions[:rank]:
            inside += sum(a * b for a, b in zip(vector, direction, strict=True)) ** 2
    return inside / total


def slow_silhouette(vectors, labels):
    scores = []
    for i, vector in enumerate(vectors):
        means = {}
        for name in set(labels):
            others = [
                np.linalg.norm(vector - vectors[j])
                for j in range(len(vectors))
                if labels[j] == name and j != i
            ]
            means[name] = np.mean(others) if others else None
        a, b = means.pop(labels[i]), min(means.values())
        scores.append(0 if a is None or max(a, b) == 0 else (b - a) / max(a, b))
    return np.mean(scores)


def test_cross_capture_against_singular_vectors_one_by_one():
    rng = np.random.default_rng(0)
    groups = [centred(rng, n, 7, np.geomspace(3, 0.2, 7)[rng.permutation(7)]) for n in (30, 9, 12)]
    for rank in (1, 3, 7):
        capture = cross_capture(groups, rank)
        expected = [[slow_capture(x_i, x_j, rank) for x_j in groups] for x_i in groups]
        assert capture == pytest.approx(np.array(expected))
        assert (capture <= np.diagonal(capture) + 1e-12).all()  # no subspace beats one's own
    assert capture == pytest.approx(np.ones((3, 3)))


def test_cross_capture_of_one_subspace_and_of_orthogonal_ones():
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    one, other = (centred(rng, 40, 3) @ basis[:3] for _ in range(2))
    apart = centred(rng, 40, 2) @ basis[5:7]
    capture = cross_capture([one, one, other, apart], 4)
    expected = np.ones((4, 4))
    expected[3, :3] = expected[:3, 3] = 0
    # a rank above that of the data adds no direction that captures by chance
    assert capture == pytest.approx(expected, abs=1e-9)
    assert mean_off_diagonal(capture) == pytest.approx(0.5)


def test_cross_capture_does_not_depend_on_rotation_scale_or_order():
    rng = np.random.default_rng(2)
    groups = [centred(rng, 25, 6, [4, 3, 2, 1, 1, 0.5]), centred(rng, 25, 6, [1, 1, 5, 2, 1, 1])]
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    capture = cross_capture(groups, 2)
    assert cross_capture([group @ turn for group in groups], 2) == pytest.approx(capture)
    assert cross_capture([groups[0] * 7, groups[1][::-1]], 2) == pytest.approx(capture)
    assert abs(capture[0, 1] - capture[1, 0]) > 0.01  # of j in i, not of i in j
    directions = principal_directions(groups[0], 2)
    assert directions.T @ directions == pytest.approx(np.eye(2))


def test_random_directions_capture_rank_over_width():
    rng = np.random.default_rng(3)
    groups = [centred(rng, 9, 64) for _ in range(40)]
    assert mean_off_diagonal(cross_capture(groups, 8)) == pytest.approx(8 / 64, abs=0.003)
    assert [fixed_rank(width) for width in (2, 5, 16, 32, 768)] == [1, 1, 4, 8, 8]


def test_groups_that_do_not_vary_or_run_away_have_no_capture():
    rng = np.random.default_rng(4)
    groups = [centred(rng, 10, 5), np.zeros((10, 5)), centred(rng, 10, 5), np.full((10, 5), np.inf)]
    capture = cross_capture(groups, 2)
    assert np.isnan(capture[[1, 3]]).all()
    assert np.isnan(capture[:, [1, 3]]).all()
    assert mean_off_diagonal(capture) == pytest.approx((capture[0, 2] + capture[2, 0]) / 2)
    assert np.isnan(mean_off_diagonal(cross_capture(groups[:1], 2)))
    assert np.isnan(mean_off_diagonal(cross_capture(groups[:2], 2)))


def test_silhouette_against_its_definition():
    rng = np.random.default_rng(5)
    labels = np.array([4, 4, 4, 1, 1, 7, 1, 7, 7, 9, 4])  # 9 is alone
    vectors = rng.normal(size=(11, 3)) + labels[:, None] * 0.3
    score = silhouette(vectors, labels)
    assert score == pytest.approx(slow_silhouette(vectors, labels))
    assert silhouette(vectors + 1e4, labels) == pytest.approx(score)
    gap = np.append(vectors, np.full((1, 3), np.nan), 0)
    assert silhouette(gap, np.append(labels, 1)) == pytest.approx(score)


def test_silhouette_of_clusters_that_are_far_apart_mingled_or_misplaced():
    rng = np.random.default_rng(6)
    labels = np.arange(60) % 3
    noise = rng.normal(size=(60, 4))
    assert silhouette(noise + 1000 * labels[:, None], labels) > 0.99
    assert abs(silhouette(noise, labels)) < 0.05
    assert silhouette(noise + 50 * (np.arange(60) < 30)[:, None], labels) < 0
    assert silhouette(np.repeat(np.eye(3), 2, 0), np.repeat([0, 1, 2], 2)) == pytest.approx(1)
    assert silhouette(np.ones((6, 4)), labels[:6]) == 0
    assert np.isnan(silhouette(noise, np.zeros(60)))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0.1, 0.2, 0.9], [1, 5, 6], 1),
        ([0.1, 0.2, 0.9], [6, 5, 1], -1),
        ([1, 2, 2, 3], [1, 3, 2, 4], 3 / 10**0.5),  # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4
        ([1, NAN, 2, 3], [1, 9, 2, 3], 1),
        ([1, 1, 1], [1, 2, 3], NAN),
        ([NAN, NAN], [1, 2], NAN),
    ],
)
def test_rank_correlation(x, y, expected):
    assert rank_correlation(np.array(x), np.array(y)) == pytest.approx(expected, nan_ok=True)


def test_rank_correlation_is_the_correlation_of_mean_ranks():
    rng = np.random.default_rng(7)
    for n in range(5, 60):
        x, y = rng.integers(0, 9, n).astype(float), rng.normal(size=n).round(1)
        ranks = [[(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x] for x in (x, y)]
        assert rank_correlation(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1])


@pytest.fixture(scope="module")
def puzzle():
    return Countdown()


def small(network, puzzle, **settings):
    torch.manual_seed(0)
    return network(puzzle, hidden_size=16, heads=2, improvement_steps=2, **settings).eval()


@pytest.mark.parametrize("network", [TRM, Dual])
def test_slots_are_kept_as_the_reasoner_tells_them_apart(puzzle, network):
    model = small(network, puzzle)
    puzzles = puzzle.sample(30, "test", seed=0)
    sample = LatentSample(model, 3, 2)
    evaluate(model, puzzle, puzzles, 3, 20, [sample])
    arrays = sample.arrays
    count = 4 if network is Dual else 2 * puzzles["question"].shape[1]  # y and z of every token
    assert arrays["slots"].shape == (30, 4, count, 16)
    assert arrays["slots"].dtype == torch.float16
    assert arrays["slot_steps"].tolist() == [0, 1, 2, 3]
    assert arrays["slot_index"].tolist() == list(range(count))
    with torch.no_grad():
        lanes, first = improve(model, puzzle, begin(model, puzzle, puzzles))
        _, second = improve(model, puzzle, lanes)
    states = [first.before.state, first.after.state, second.after.state]
    for k, state in enumerate(states):
        expected = model.slots(state).half()
        torch.testing.assert_close(arrays["slots"][:, k], expected, atol=2e-3, rtol=2e-3)


def test_latents_of_several_widths_keep_the_widest():
    state = TensorDict(
        {
            "a": torch.ones(2, 3, 4),
            "b": torch.ones(2, 5),
            "c": torch.ones(2),
        },
        batch_size=[2],
    )
    assert TRM.slots(None, state).shape == (2, 1, 5)
    assert TRM.slots(None, state.exclude("b")).shape == (2, 3, 4)
    assert TRM.slots(None, state.exclude("a", "b")).shape == (2, 1, 1)


def test_long_evaluations_are_thinned(puzzle):
    model = small(TRM, puzzle)
    sample = LatentSample(model, 64, 6)
    evaluate(model, puzzle, puzzle.sample(5, "test", seed=0), 64, 5, [sample])
    steps = sample.arrays["slot_steps"].tolist()
    assert len(steps) <= 18
    assert {0, 1, 6, 64} <= set(steps)
    assert max(np.diff(steps)) <= 5
    assert sample.arrays["latents"].shape[1] == 65
    assert sample.arrays["slots"].shape[1] == len(steps)


@pytest.mark.parametrize(
    ("num_steps", "slots", "width", "kept", "puzzles"),
    [
        (6, 14, 128, 14, 256),
        (6, 162, 128, 16, 256),
        (64, 162, 128, 16, 113),
        (64, 450, 512, 4, 113),
        (64, 450, 4096, 4, 14),
        (1, 1, 2, 1, 256),
        (64, 4, 10**9, 4, 1),
    ],
)
def test_the_file_stays_small(num_steps, slots, width, kept, puzzles):
    sample = LatentSample(None, num_steps, min(6, num_steps))
    index, count = sample._thinned(slots, width)
    assert (len(index), count) == (kept, puzzles)
    assert {0, slots - 1} == {index[0], index[-1]}


def test_what_is_spread_is_even_and_has_both_ends():
    for count in range(1, 70):
        index = spread(count, 16)
        gaps = np.diff(index)
        assert index[0] == 0
        assert index[-1] == count - 1
        assert len(index) == min(count, 16)
        assert not len(gaps) or 1 <= gaps.min() <= gaps.max() <= gaps.min() + 1


def rewrite(folder, **changes):
    with np.load(folder / LATENTS) as content:
        arrays = {name: content[name] for name in content.files} | changes
    np.savez(folder / LATENTS, **{name: a for name, a in arrays.items() if a is not None})


def test_an_old_file_is_named_with_the_command_that_writes_it_anew(tmp_path):
    folder = write_run(tmp_path / "run", extra=False)
    rewrite(folder, slots=None, slot_steps=None, slot_index=None)
    message = f"has no array slots: .*; `pir eval run={folder}` writes it anew"
    with pytest.raises(UserError, match=message):
        save_kind("latents", [folder], tmp_path / "out.png")
    with pytest.raises(UserError, match=message):
        KINDS["latents"].describe(Run(folder))
    (folder / LATENTS).unlink()
    with pytest.raises(UserError, match=f"is missing: `pir eval run={folder}` writes it"):
        save_kind("latents", [folder], tmp_path / "out.png")


@pytest.mark.parametrize(
    "changes",
    [
        {"slots": np.zeros((12, 7, 8))},
        {"slots": np.zeros((12, 6, 2, 8))},
        {"slots": np.zeros((0, 7, 2, 8))},
        {"slot_index": np.arange(3)},
        {"slot_steps": np.array([0, 1, 2, 4, 5, 6, 7])},  # without the trained depth
        {"slots": np.zeros((12, 1, 2, 8)), "slot_steps": np.array([0])},
    ],
)
def test_slots_that_do_not_fit_are_refused(tmp_path, changes):
    folder = write_run(tmp_path / "run")
    rewrite(folder, **changes)
    with pytest.raises(UserError, match="its slots and their numbers do not fit"):
        save_kind("latents", [folder], tmp_path / "out.png")


def test_sharing_of_known_slots(tmp_path):
    shared = sharing(Run(write_run(tmp_path / "run")))
    assert (shared.depth, shared.chance) == (3, 0.25)
    assert shared.by_slot == pytest.approx(np.array([[1, 0.64], [0.8, 1]]))
    assert shared.by_previous == pytest.approx([0.2, *[10.25 / 11.25] * 4])
    assert shared.dead == pytest.approx([0, 0.8, 1, 1, 1, 1])
    with np.load(tmp_path / "run" / LATENTS) as content:
        slots = content["slots"].astype(float)
    places = np.tile([0, 1], 12)
    assert shared.slot_silhouette == pytest.approx(
        slow_silhouette(slots[:, 3].reshape(-1, 8), places)
    )
    within = [
        slow_silhouette(slots[:, 1:, s].reshape(-1, 8), np.tile(np.arange(6), 12)) for s in (0, 1)
    ]
    assert shared.step_silhouette == pytest.approx(np.mean(within))


def test_one_slot_one_step_and_latents_that_never_vary_or_run_away(tmp_path):
    folder = write_run(tmp_path / "run")
    with np.load(folder / LATENTS) as content:
        slots = content["slots"]

    def said(**changes):
        rewrite(folder, **changes)
        save_kind("latents", [folder], tmp_path / "out.png")
        return describe_sharing(sharing(Run(folder)))

    still = said(slots=np.ones_like(slots))
    assert "captures – of the variance of another slot (H_off; – of its own" in still
    assert "rank" not in still
    far = slots.copy()
    far[0, 6] = np.inf
    assert ": 20 % of step 2 in that of step 1" in (ran_away := said(slots=far))
    assert "; – of step 6 in that of step 5" in ran_away
    one_slot = said(slots=slots[:, :, :1], slot_index=np.array([5]))
    assert one_slot.startswith("A step's captures")
    one_step = said(slots=slots[:, :2], slot_steps=np.arange(2), slot_index=np.arange(2))
    assert one_step.startswith("After step 1 a slot's")
    assert "A step's" not in one_step
    neither = said(slots=slots[:, :2, :1], slot_index=np.array([0]))
    assert neither == "There is one slot and one step: nothing to compare."


@pytest.mark.parametrize("count", [3, 12])
def test_the_figure_shows_capture_scores_and_dead_steps(tmp_path, count):
    folder = write_run(tmp_path / "run")
    rng = np.random.default_rng(0)
    rewrite(folder, slots=rng.normal(size=(12, 7, count, 8)), slot_index=np.arange(count) * 2)
    shared = sharing(Run(folder))
    _, _, slots, steps, lines, _ = KINDS["latents"].draw([Run(folder)]).axes
    assert np.asarray(slots.images[0].get_array()) == pytest.approx(shared.by_slot)
    assert np.asarray(steps.images[0].get_array()) == pytest.approx(shared.by_step)
    mean = percent(mean_off_diagonal(shared.by_slot), 0)
    assert f"shared {mean}, silhouette" in slots.get_title("left")
    assert slots.get_xticklabels()[1].get_text() == ("3" if count == 3 else "7")  # from 1
    assert len(slots.texts) == (9 if count == 3 else 0)
    captured, own, dead = lines.get_lines()
    assert captured.get_label() == "variance of the step in the subspace of the step before"
    assert captured.get_xydata() == pytest.approx(np.c_[np.arange(2, 7), shared.by_previous])
    assert own.get_ydata() == pytest.approx(np.diagonal(shared.by_step))
    assert dead.get_xydata() == pytest.approx(np.c_[np.arange(1, 7), [0, 0.8, 1, 1, 1, 1]])

    rewrite(folder, slot_steps=np.array([0, 1, 3, 6, 9, 12, 15]))
    captured, *_ = KINDS["latents"].draw([Run(folder)]).axes[4].get_lines()
    assert captured.get_xdata().tolist() == [3, 6, 9, 12, 15]
    assert captured.get_label().endswith("in the subspace of the last step kept before it")


def test_a_run_says_what_its_latents_share(pir_here, tiny_run):
    pir_here("eval", f"run={tiny_run}", "eval.puzzles=40", "eval.improvement_steps=5")
    save_kind("latents", [tiny_run], tiny_run / "latents.png")
    assert (tiny_run / "latents.png").stat().st_size > 20000
    sentence = KINDS["latents"].describe(Run(tiny_run))
    pattern = (
        r"After step 2 a slot's .* captures \d+ % .* \(H_off; \d+ % of its own, 25 % by chance\), "
        r"silhouette by slot -?0\.\d\d\. A step's captures \d+ % .*, silhouette by step "
        r"-?0\.\d\d: \d+ % of step 2 in that of step 1, .*; \d+ % of step 5 in that of step 4"
    )
    assert re.search(pattern, sentence)
    assert 'id="latents"' in report(Run(tiny_run))
