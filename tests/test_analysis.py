"""Figures come from run folders alone, and say what the numbers say."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from pir.analysis.figures.curves import draw_improvement
from pir.analysis.figures.exits import draw_exits, mean_line
from pir.analysis.figures.kinds import KINDS, exits, latents, save_kind, waste
from pir.analysis.figures.style import COLOURS, GRID, INK, MUTED, PAPER, save_figure
from pir.analysis.reading.groups import give_labels, group_by_seed, run_names
from pir.analysis.reading.runs import Run
from pir.analysis.words import difference, label, listed, number, percent, plain

from pir.cli.main import main
from pir.errors import UserError
from pir.settings.catalog import choices
from pir.training.progress import bar_row, clock
from tests.run_folders import step_values, write_csv, write_run

SENTENCES = {
    "improvement": "80.0 % of the puzzles are solved after the 3 steps that the model was trained "
    "for (95 % interval 75.0 % to 85.0 %), 60.0 % after step 1, 80.0 % after step 6, beyond the "
    "trained depth.",
    "loss": "The loss falls from 6 to 2.67 (optimizer steps 100 to 300).",
    "passes": "Training ends with 80.0 % of the validation puzzles solved, after 36,000 forward "
    "passes; the first evaluation to solve as many came after 9,000.",
    "waterfall": "Step 1 gains 0.550, all 3 trained steps together 0.650; steps 3 to 6 are dead "
    "for at least 100.0 % of puzzles.",
    "dead-compute": "60 % of the forward passes of the 3 trained steps are dead (20 % idle, 40 % "
    "busy and 0 % overshoot): on average 1.2 of 3 steps of a puzzle raise its score.",
    "margins": "Of 20 sampled cells 50 % stand still; of the steps of the others 10 % harmful, "
    "20 % overshoot, 30 % sized right and 40 % under-sized.",
    "guidance": "At the trained depth (step 3) guidance w 1.5 solves 80.0 %, guidance w 1 78.0 %, "
    "which lies inside the interval of the former (78.0 % to 82.0 %).",
    "step-size": "At the trained depth (step 3) no step size of 0.5 to 2 solves more than step "
    "size 1 (80.0 %).",
    "harm": "Whether the next step takes log-probability from the label is told with these areas "
    "under the ROC curve, means over steps by the puzzles they harm, with 95 % intervals: "
    "entropy after it 0.53 (0.43 to 0.63), change of the latents 0.51 (0.41 to 0.61), KL of the "
    "step 0.50, advantage margin (needs the label) 0.42 (0.33 to 0.51) and change "
    "of the logits 0.41 (0.31 to 0.51).",
    "exits": "Rule kl with threshold 0.01 solves 79.0 % with 4.5 forward passes on average, 50 % "
    "fewer than the 9 of the full depth (80.0 %).",
    "latents": "for 8 solved puzzles and 1.8 % for 4 failed puzzles (medians). After step 3 a "
    "slot's principal subspace captures 72 % of the variance of another slot (H_off; 100 % of its "
    "own, 25 % by chance), silhouette by slot 0.71. A step's captures 67 % of another step (91 % "
    "of its own), silhouette by step -0.06: 20 % of step 2 in that of step 1, and step 2 dead for "
    "80 % of puzzles; 91 % of step 6 in that of step 5, and step 6 dead for 100 % of puzzles (rank "
    "correlation over 5 steps 1.00).",
    "difficulty": "At the trained depth 100.0 % of the easiest puzzles are solved (answers 1), "
    "0.0 % of the hardest (answers 5).",
    "statistics": "12 statistics at every step; at step 3 the policy still moves by 0.0157 nats "
    "per cell on solved puzzles and 0.0625 nats per cell on failed puzzles (KL).",
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "a_seed1")


def test_every_kind_says_what_the_numbers_say(run_folder):
    assert set(SENTENCES) == set(KINDS)
    for name, sentence in SENTENCES.items():
        assert KINDS[name].describe(Run(run_folder)).endswith(sentence), name


def test_a_waterfall_of_losses_says_so(tmp_path):
    folder = write_run(tmp_path / "run", lost=20)
    rows = [
        {"k": 1, "gain": -0.1, "dead": 0.5, "score": 0.4, "solved": 0.1},
        {"k": 2, "gain": -0.2, "dead": 1, "score": 0.2, "solved": 0.1},
    ]
    write_csv(folder / "eval/per_step.csv", rows)
    sentence = KINDS["waterfall"].describe(Run(folder))
    assert sentence == (
        "No step gains: steps 1 to 2 change the score by -0.300; step 2 is dead for 100.0 % "
        "of puzzles."
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "statistics"])
def test_every_kind_draws_one_run_and_several(run_folder, kind):
    one = KINDS[kind].draw([Run(run_folder)])
    two = KINDS[kind].draw([Run(run_folder), Run(run_folder)])
    if kind in ("improvement", "passes", "loss"):
        assert len(two.axes) == len(one.axes)
    else:
        assert len(two.axes) == 2 * len(one.axes)
        assert two.get_figheight() == pytest.approx(2 * one.get_figheight())


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_same_data_same_figure(run_folder, tmp_path, ending):
    kind = {"png": "margins", "pdf": "dead-compute", "svg": "improvement"}[ending]
    for name in ("one", "two"):
        save_kind(kind, [run_folder, run_folder], tmp_path / f"{name}.{ending}")
    one = (tmp_path / f"one.{ending}").read_bytes()
    assert one == (tmp_path / f"two.{ending}").read_bytes()
    assert len(one) > 3000


def test_analysis_loads_no_model(run_folder):
    code = (
        "import sys; from pathlib import Path; import pir.analysis.pages.report;"
        "import pir.analysis.statistics.compare;"
        "from pir.analysis.reading.runs import Run; from pir.analysis.figures.kinds import KINDS;"
        f"run = Run(Path({str(run_folder)!r})); [k.describe(run) for k in KINDS.values()];"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_regions_of_the_plane_are_where_the_definition_puts_them(run_folder):
    """The middle of every band, turned back into A and KL, lies in the region named beside it."""
    kl, reverse_kl = 0.5, 0.8
    figure = KINDS["margins"].draw([Run(run_folder)])
    axis = figure.axes[0]
    bands = [patch.get_extents() for patch in axis.patches]
    middles = [axis.transData.inverted().transform((b.x0, (b.y0 + b.y1) / 2))[1] for b in bands]
    names = list(waste.REGIONS)
    for middle, name in zip(middles, names, strict=True):
        gain = middle * (kl if middle >= 0 else reverse_kl)
        expected = (
            "harmful" if gain <= -reverse_kl
            else "overshoot" if gain < 0
            else "sized_right" if gain <= kl
            else "under_sized"
        )  # fmt: skip
        assert name == expected
    solved = [text.get_text() for text in figure.axes[0].texts]
    failed = [text.get_text() for text in figure.axes[1].texts]
    assert solved == ["harmful\n0 %", "overshoot\n11 %", "sized right\n11 %", "under-sized\n22 %"]
    assert failed == ["harmful\n9 %", "overshoot\n9 %", "sized right\n18 %", "under-sized\n18 %"]


def test_cells_lie_in_the_bands_of_their_regions(run_folder):
    """Gains are divided by KL(c || u), losses by KL(u || c)."""
    figure = KINDS["margins"].draw([Run(run_folder)])
    points = [c.get_offsets() for axis in figure.axes for c in axis.collections]
    assert {float(ratio) for cells in points for _, ratio in cells} == {-1.5, -0.25, 0.5, 1, 2}


def test_kinds_of_steps(run_folder, tmp_path):
    kinds = waste.step_kinds(Run(run_folder))
    names = np.array(list(waste.STEP_KINDS))
    assert names[kinds[0]].tolist() == ["gains", "busy", "idle", "idle", "idle", "idle"]
    assert names[kinds[-1]].tolist() == ["gains", "busy", "busy", "busy", "busy", "idle"]
    unlabelled = write_run(tmp_path / "unlabelled", labels=False)
    assert (waste.step_kinds(Run(unlabelled)) == kinds).all()


def test_principal_components_against_the_singular_values():
    states = np.random.default_rng(0).normal(size=(9, 4, 6)) * [5, 3, 1, 1, 1, 0.1]
    points, shares = latents.principal_components(states)
    flat = (states - states.mean((0, 1))).reshape(-1, 6)
    _, sizes, directions = np.linalg.svd(flat)
    assert shares == pytest.approx(sizes[:2] ** 2 / (sizes**2).sum())
    assert np.abs(points.reshape(-1, 2)) == pytest.approx(np.abs(flat @ directions[:2].T))
    moves = latents.relative_moves(np.array([[[0.0, 0.0], [3.0, 4.0], [3.0, 9.0]]]))
    assert moves.tolist() == [[1.0, 1.0]]


def test_runs_that_differ_in_seed_only_are_one_line(tmp_path):
    folders = [
        write_run(tmp_path / f"long_seed{seed}", seed=seed, lost=10 * seed) for seed in (1, 2)
    ]
    folders.append(write_run(tmp_path / "other", env="maze"))
    groups = group_by_seed([Run(folder) for folder in folders])
    assert [group.label for group in groups] == ["countdown (2 seeds)", "maze"]
    figure = draw_improvement([Run(folder) for folder in folders])
    solved, lines = figure.axes[0], figure.axes[0].get_lines()
    assert lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4, 5, 6]  # from the start on
    assert lines[0].get_ydata()[[0, 5]] == pytest.approx([0, np.mean([0.75, 0.70])])
    assert figure.axes[1].get_lines()[0].get_ydata()[0] == pytest.approx(0.25)
    band = solved.collections[0].get_datalim(solved.transData).intervaly
    assert band == pytest.approx([0, 0.8])
    assert len(lines) == 2
    one = draw_improvement([Run(folders[0])]).axes[1]
    ends = one.collections[0].get_paths()[0].vertices
    scores = step_values(lost=10)["score"][:, 4]  # after step 5
    half = 1.96 * scores.std(ddof=1) / math.sqrt(len(scores))
    found = ends[ends[:, 0] == 5][:, 1]
    ends = scores.mean() + half * np.array([-1, 1])
    assert [found.min(), found.max()] == pytest.approx(ends, 1e-3)


def test_exit_rules_are_means_over_seeds(tmp_path):
    folders = [write_run(tmp_path / f"a_{seed}", seed=seed) for seed in (1, 2)]
    file = folders[1] / "eval/exits.csv"
    file.write_text(file.read_text().replace("kl,2,6.0,0.7,", "kl,2,7.0,0.9,"))
    (axis,) = draw_exits([Run(folder) for folder in folders]).axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert lines["fixed"].get_xydata() == pytest.approx(np.array([[3, 0.65], [6, 0.7], [9, 0.75]]))
    assert lines["kl: 80.0 % in 6.5"].get_xdata() == pytest.approx([3, 6, 7, 9])
    between = (0.7 + (0.65 + 0.25 * 3 / 4)) / 2, (0.7 + 0.05 / 3 + 0.9) / 2
    assert lines["kl: 80.0 % in 6.5"].get_ydata() == pytest.approx([0.65, *between, 0.75])
    (star,) = [
        line
        for line in axis.get_lines()
        if line.get_markersize() == exits.STAR and len(line.get_xdata())
    ]
    assert star.get_xydata() == pytest.approx(np.array([[6.5, 0.8]]))


def test_the_mean_of_lines_is_taken_where_all_of_them_are():
    one = (np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.2, 0.6]))
    other = (np.array([2.0, 3.0, 5.0]), np.array([0.4, 0.5, 0.7]))
    passes, solved = mean_line([one, other])
    assert passes == pytest.approx([2, 3, 4])
    assert solved == pytest.approx([0.3, 0.45, 0.6])
    points = [(np.array([x]), np.array([x / 2])) for x in (1.0, 2.0)]
    assert [part.tolist() for part in mean_line(points)] == [[1.5], [0.75]]
    beside = (np.array([3.0]), np.array([0.7]))
    assert np.concatenate(mean_line([one, beside])) == pytest.approx([3.0, 0.55])
    apart = (np.array([5.0, 6.0]), np.array([0.8, 0.9]))
    assert [len(part) for part in mean_line([one, apart])] == [0, 0]


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("a1", "a2"), "a"),
        (("c_1", "c_2"), "c"),
        (("heads=1,seed=1", "heads=1,seed=2"), "heads=1"),
        (("heads=1", "heads=1,seed=2"), "heads=1"),
    ],
)
def test_groups_are_named_by_what_their_runs_share(tmp_path, names, label):
    folders = [write_run(tmp_path / name, seed=seed) for seed, name in enumerate(names, start=1)]
    again = write_run(tmp_path / "again", seed=1)  # no setting tells it from the others
    groups = group_by_seed([Run(folder) for folder in (*folders, again)])
    assert [group.label for group in groups] == [f"{label} (2 seeds)", "again"]
    (alone,) = group_by_seed([Run(folder) for folder in folders])
    assert alone.label == "trm, set likelihood (2 seeds)"


def test_names_are_what_tells_runs_apart_or_what_the_user_says(tmp_path):
    folders = [
        write_run(tmp_path / f"{lr}{model}{seed}", seed=seed, model=model,
                  settings=f"optim: {{lr: {lr}, same: 1}}\n")
        for lr, model, seed in ((0.1, "trm", 1), (0.2, "trm", 1), (0.2, "trm", 2), (0.2, "x_y", 1))
    ]  # fmt: skip
    runs = [Run(folder) for folder in folders]
    labels = [group.label for group in group_by_seed(runs)]
    assert labels == ["trm, lr 0.1", "trm, lr 0.2 (2 seeds)", "x y, lr 0.2"]
    assert run_names(runs)[1:3] == ["trm, lr 0.2, seed 1", "trm, lr 0.2, seed 2"]
    give_labels(runs, '[low, "high, twice", other]', grouped=True)
    assert [group.label for group in group_by_seed(runs)] == ["low", "high, twice", "other"]
    assert run_names(runs)[1:3] == ["high, twice", "high, twice"]
    give_labels(runs, "a,b,c,d", grouped=False)
    assert run_names(runs) == ["a", "b", "c", "d"]
    with pytest.raises(UserError, match="label=a,b: 2 names for 4: a; b; c; d"):
        give_labels(runs, "a,b", grouped=False)


def test_axes_of_shares_are_honest(run_folder, tmp_path):
    figure = KINDS["improvement"].figure([Run(run_folder)])
    assert figure.get_suptitle() == "countdown: what every step solves"
    for kind in ("improvement", "difficulty", "statistics", "step-size"):
        for axis in KINDS[kind].draw([Run(run_folder)]).axes:
            if "%" in str(getattr(axis.yaxis.get_major_formatter(), "symbol", "")):
                low, high = axis.get_ylim()
                assert low == 0 or f"begins at {percent(low)}" in axis.get_ylabel()
                assert low >= 0
                assert high <= 1.05
    file = write_run(tmp_path / "exits") / "eval/exits.csv"
    text = file.read_text()
    for before, after in (("0.65", "0.985"), ("0.7,", "0.99,"), ("0.75", "0.995")):
        text = text.replace(before, after)
    file.write_text(text)
    (axis,) = draw_exits([Run(file.parents[1])]).axes
    assert "begins at 98.4 %" in axis.get_ylabel()


def test_every_rule_to_stop_has_a_colour_of_its_own():
    rules = [row["name"] for row in choices("exit") if row["name"] not in ("fixed", "oracle")]
    styles = {(style := exits.rule_style(rule))["color"] + style["linestyle"] for rule in rules}
    assert len(styles) == len(rules)


def test_the_legend_says_where_stars_are_that_cover_each_other(tmp_path):
    folder = write_run(tmp_path / "run")
    rows = [
        {"rule": rule, "threshold": 1, "forward_passes": 3.25, "solved": 0.8, "solved_low": 0.7,
         "solved_high": 0.9, "chosen": 1}
        for rule in ("fixed", "kl", "verifier", "oracle")
    ]  # fmt: skip
    write_csv(folder / "eval/exits.csv", rows)
    (legend,) = draw_exits([Run(folder)]).subfigs[0].legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [f"{rule}: 80.0 % in 3.25" for rule in ("kl", "verifier")] + [
        "oracle (a bound)",
        "fixed: 80.0 % in 3.25",
    ]


def test_the_loss_and_its_terms(tmp_path):
    folders = [write_run(tmp_path / f"a{seed}", seed=seed) for seed in (1, 3)]
    (axis,) = KINDS["loss"].draw([Run(folder) for folder in folders]).axes
    total, policy, halting = axis.get_lines()
    assert total.get_xydata().tolist() == [[100, 7], [200, 4.5], [300, 5 / 3 + 2]]
    assert (policy.get_label(), halting.get_label()) == ("term policy", "term halting")
    assert policy.get_ydata().tolist() == [5, 2.5, 5 / 3]
    band = axis.collections[0].get_datalim(axis.transData).intervaly
    assert band == pytest.approx([5 / 3 + 1, 8])


def test_names_of_runs_are_text_and_no_formula(tmp_path):
    folder = write_run(tmp_path / "_$x^{$ \udcff\u202e 名")
    for kind in ("improvement", "exits"):
        save_kind(kind, [folder, folder], tmp_path / f"{kind}.svg")
    assert label("_a$b") == r" _a\$b"
    assert plain("a\nb\udcff\u202e") == "a?b??"


def test_no_element_takes_the_colours_of_the_paper():
    """A page puts its own colours in their place, so they must tell these elements apart."""
    reserved = {INK, MUTED, GRID, PAPER}
    assert len(reserved | {colour.lower() for colour in COLOURS}) == 4 + len(COLOURS)


def test_numbers_as_text():
    assert [percent(0.9615), percent(0.5, 0), percent(float("nan"))] == ["96.2 %", "50 %", "–"]
    assert [number(v) for v in (4000, 0.01234, 3.14159, 2.5e6, 1234.5, None)] == [
        "4,000", "0.0123", "3.14", "2.5 million", "1,234", "–",
    ]  # fmt: skip
    assert [difference(0.0134, "share"), difference(-0.5, "nats")] == ["+1.3", "-0.5"]
    assert [listed(["a"]), listed(["a", "b", "c"])] == ["a", "a, b and c"]


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs `pir` in this process."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", list(sys.argv))
        status = main(words)
        return status, *capsys.readouterr()

    return run


def test_plot_of_every_kind_by_command(command, tmp_path):
    write_run(tmp_path / "runs/a")
    write_run(tmp_path / "runs/b", seed=2, extra=False)
    out = tmp_path / "dead, of = all.png"
    status, shown, told = command(
        "plot", f"runs={tmp_path}/runs/*", "kind=dead-compute", f"out={out}"
    )
    assert (status, shown.strip()) == (0, str(out))
    assert "a: 60 % of the forward passes" in told
    assert "b: 60 % of the forward passes" in told
    status, shown, _ = command("plot", f"run={tmp_path}/runs/a", "kind=latents")
    assert shown.strip() == f"{tmp_path}/runs/a/figures/latents.png"
    assert (tmp_path / "runs/a/figures/latents.png").stat().st_size > 5000


def test_plot_names_runs_without_the_data(command, tmp_path):
    write_run(tmp_path / "runs/a")
    write_run(tmp_path / "runs/b", extra=False)
    words = ("plot", "kind=guidance", f"out={tmp_path}/out.png")
    status, _, told = command(*words, f"runs={tmp_path}/runs/*")
    assert status == 0
    lacking = f"{tmp_path}/runs/b has no eval/guidance.csv, which kind=guidance needs: "
    lacking += f"`pir eval run={tmp_path}/runs/b 'eval.guidance="
    assert f"left out: {lacking}" in told
    status, shown, told = command(*words, f"run={tmp_path}/runs/b")
    assert (status, shown) == (2, "")
    assert lacking in told
    shutil.rmtree(tmp_path / "runs/b/eval")
    _, _, told = command(*words, f"run={tmp_path}/runs/b")
    assert "has no eval/eval.json, eval/guidance.csv, which" in told
    assert told.count("pir eval") == 1
    status, _, told = command("plot", f"run={tmp_path}/runs/a", "kind=waterfal")
    assert status == 2
    assert f"kind=waterfal: allowed are {', '.join(KINDS)}" in told


def test_endings_that_are_no_figure_are_refused(run_folder, tmp_path):
    with pytest.raises(UserError, match=r"must be one of \.png, \.pdf, \.svg"):
        save_figure(draw_improvement([Run(run_folder)]), tmp_path / "x.bmp")


def test_bars_and_clock():
    assert bar_row([0.0, 0.5, 1.0], 0.75) == "| ▄█|  75.0 %"
    assert bar_row([], None) == ""
    assert [clock(s) for s in (0, 61.4, 3725)] == ["0:00", "1:01", "1:02:05"]
