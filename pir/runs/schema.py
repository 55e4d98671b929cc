"""The schema of a run folder: every file that it may hold, and the columns and keys of each.

Writers and readers take the names from here; docs/run_folder.md is checked against it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pir.runs.records import Facts, Manifest, Summary
from pir.runs.typed import Amount, Column, Count, Flag, Share, Steps, Total, columns_of

CONFIG = "config.yaml"
COMMAND = "command.txt"
INFO = "info.json"
METRICS = "metrics.csv"
IMPROVEMENT = "improvement.csv"
OUTCOMES = "improvement_outcomes.csv"
TRAINING_LEDGER = "improvement_train.csv"
TRAINING_OUTCOMES = "improvement_train_outcomes.csv"
TIMING = "timing.csv"
SUMMARY = "summary.json"
LAST = "checkpoints/last.pt"
BEST = "checkpoints/best.pt"
END = "checkpoints/end.pt"
EVALUATION = "eval/"
FACTS = "eval/eval.json"
PER_STEP = "eval/per_step.csv"
PER_OUTCOME = "eval/per_outcome.csv"
STRATA = "eval/strata.csv"
PER_PUZZLE = "eval/per_puzzle.csv"
STEPS = "eval/steps.npz"
CELLS = "eval/cells.csv"
LATENTS = "eval/latents.npz"
EXAMPLES = "eval/examples.csv"
GUIDANCE = "eval/guidance.csv"
OPTIMALITY = "eval/optimality.csv"
STEP_SIZE = "eval/step_size.csv"
BREADTH = "eval/breadth.csv"
EXITS = "eval/exits.csv"
NAMED = "evals/"
FIGURES = "figures/"
REPORT = "report.html"
TENSORBOARD = "tensorboard/"
WANDB = "wandb/"
MLFLOW = "mlflow/"
LOCK = ".lock"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
SWEEP = "multirun.yaml"  # Hydra writes it into the folder of a sweep

MODEL_DTYPES = ("float32", "bfloat16")
"""Of the weights in an exported model."""

MOST_WEIGHTS = 1 << 34
"""Bytes of a file of weights that is read."""

ZOO, HUB = MODEL_NAMES = "zoo:", "hf:"
"""What names of trained models begin with, in `run=` and `init=`."""


@dataclass(frozen=True)
class File:
    """A file of the run folder, or a folder in it; the end of its name tells the format.

    Attributes:
        meaning: what it holds, and when it is written.
        columns: the columns of a CSV file, the keys of a JSON file, the arrays of a .npz file.
        statistics: whether columns follow for all statistics of the ledger, or arrays.
        after: columns after those.
        record: the dataclass that a JSON file is read as.
    """

    meaning: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    statistics: bool = False
    after: Mapping[str, Column] = field(default_factory=dict)
    record: type[Any] | None = None

    @property
    def known(self) -> Mapping[str, Column]:
        """All columns but the statistics."""
        return {**self.columns, **self.after}

    def names(self, statistics: Sequence[str]) -> list[str]:
        """Returns the names of all columns in their order."""
        return [*self.columns, *(statistics if self.statistics else ()), *self.after]


_OPTIMIZER_STEP = {"optimizer_step": Column(Total, "updates of the parameters so far")}
_OUTCOME = {
    "outcome": Column(str, "`solved` or `failed`"),
    "puzzles": Column(Count, "puzzles with that outcome"),
}
_K = {"k": Column(Steps, "improvement step, from 1")}
_STEP = {**_K, "forward_passes": Column(Amount, "of one puzzle so far")}
_SOLVED = {"solved": Column(Share | None, "share of puzzles solved")}
_BOUNDS = {
    "solved_low": Column(Share | None, "lower end of its 95 % Wilson interval"),
    "solved_high": Column(Share | None, "upper end of its 95 % Wilson interval"),
}
_SCORE = {"score": Column(float | None, "the verifier's graded value, mean")}
_RATED = {**_SOLVED, **_BOUNDS, **_SCORE}
_GUIDED = {
    "w": Column(float, "weight of the guided policy"),
    **_STEP,
    **_RATED,
    "drawn_solved": Column(Share | None, "share solved by one drawn answer"),
    "nll": Column(float | None, "negative log-likelihood of the label, nats per cell"),
    "margin": Column(float | None, "advantage margin at w, nats per cell"),
}


def _ledger(meaning: str, outcome: bool = False) -> File:
    """Returns a file of training: the ledger as it was at some optimizer steps."""
    first = {**_OPTIMIZER_STEP, **(_OUTCOME if outcome else {})}
    return File(meaning, {**first, **_STEP}, statistics=True)


FILES: dict[str, File] = {
    CONFIG: File("every setting, resolved; `choices` names the chosen options"),
    COMMAND: File("the command that started the run"),
    INFO: File(
        "where the run comes from",
        {
            "pir": Column(str | None, "version"),
            "commit": Column(str | None, "of a source checkout, with `+changes` if edited"),
            "python": Column(str, "version"),
            "platform": Column(str, "operating system"),
            "processor": Column(str, "name"),
            "cores": Column(int | None, "of the machine"),
            "threads": Column(int, "of torch"),
            "gpus": Column(list[str], "names"),
            "versions": Column(dict[str, Any], "of packages, by name"),
            "run_id": Column(str, "a random name of the run"),
            "seed": Column(int, "of the run"),
            "date": Column(str, "start, UTC"),
            "config_dir": Column(str | None, "folder of `--config-dir`, absolute; only named"),
            "inputs": Column(dict[str, Any], "files that the run was made from, by setting"),
        },
    ),
    METRICS: File(
        "training, one row per logging interval; means over it, on training puzzles",
        {
            **_OPTIMIZER_STEP,
            "puzzles_seen": Column(Total, "training puzzles that entered a lane"),
            "forward_passes": Column(Amount, "of training so far, one per lane and pass"),
            "learning_rate": Column(float, "of the first parameter group at the last update"),
            "loss": Column(float | None, "what is minimised, nats; of policy gradients no unit"),
            "loss_<term>": Column(
                float | None, "a weighted term of it, likewise; 0 where it does not act"
            ),
            "<term>_<figure>": Column(float | None, "what a term says of its updates"),
            "depth": Column(Steps, "improvement steps of a rollout"),
            "solved": Column(Share | None, "share solved where the rollouts ended"),
            "dead_fraction": Column(Share | None, "dead forward passes, share"),
            "live_depth": Column(Amount | None, "live steps of a puzzle, mean"),
        },
    ),
    IMPROVEMENT: _ledger("validation, one row per evaluation and improvement step"),
    OUTCOMES: _ledger("the same for solved and failed puzzles apart", outcome=True),
    TRAINING_LEDGER: _ledger("the ledger on training puzzles, per logging interval"),
    TRAINING_OUTCOMES: _ledger("the same for solved and failed puzzles apart", outcome=True),
    TIMING: File(
        "clock at every row of `metrics.csv`",
        {
            **_OPTIMIZER_STEP,
            "seconds": Column(Amount, "of training so far"),
            "ledger_seconds": Column(Amount, "of these, spent in the ledger"),
        },
    ),
    SUMMARY: File(
        "the result on the test split, written when the run ends",
        dict(columns_of(Summary)),
        record=Summary,
    ),
    LAST: File(
        "raw and averaged weights, optimizer, random states, data position, config, schema "
        "version, name of the run, rows written so far, checksum"
    ),
    BEST: File("the same, where most validation puzzles were solved"),
    END: File(
        "the same, if the evaluation at a budget's end was the best; a resumed run removes it"
    ),
    EVALUATION: File("the last evaluation without a name: at the end of training, or `pir eval`"),
    FACTS: File("what was evaluated, and single numbers", dict(columns_of(Facts)), record=Facts),
    PER_STEP: File("the ledger, one row per step", _STEP, True, _BOUNDS),
    PER_OUTCOME: File(
        "the same for solved and failed puzzles apart, by the answer after the trained depth",
        {**_OUTCOME, **_STEP},
        True,
    ),
    STRATA: File(
        "every step of puzzles in up to four groups of difficulty",
        {
            "stratum": Column(Count, "number of the group, from the easiest"),
            "rating_low": Column(float, "of the easiest puzzle in it"),
            "rating_high": Column(float, "of the hardest puzzle in it"),
            "puzzles": Column(Count, "in the group"),
            **_STEP,
            **_SOLVED,
            **_SCORE,
            "gain": Column(float | None, "score after the step minus score before it, mean"),
            "dead": Column(Share | None, "share of puzzles for which the step is dead"),
            **_BOUNDS,
        },
    ),
    PER_PUZZLE: File(
        "one row per puzzle",
        {
            "index": Column(Total, "number of the puzzle, from 0"),
            "puzzle": Column(str, "its text"),
            "first_solved": Column(Steps | None, "first step after which the answer is right"),
            "solved": Column(Flag, "1 if the answer after the last step is right"),
            "score": Column(float, "after the last step"),
            "rating": Column(float | None, "difficulty, in the puzzle's own unit"),
        },
    ),
    STEPS: File(
        "every puzzle at every step; the statistics without the calibration errors, float32 (N, K)",
        statistics=True,
        after={"rating": Column("float32 (N,)", "difficulty")},
    ),
    CELLS: File(
        "with labels: up to 300 written cells per step, drawn among those of all puzzles",
        {
            **_K,
            "solved": Column(Flag, "1 if the puzzle is solved after the trained depth"),
            "gain": Column(float, "log-probability of the label, after minus before, nats"),
            "kl": Column(float, "KL(c || u), nats"),
            "reverse_kl": Column(float, "KL(u || c), nats"),
            "region": Column(str, "`harmful`, `overshoot`, `sized_right`, `under_sized`, `still`"),
            "best_w": Column(float, "weight that the label likes best, within 0 to 8"),
        },
    ),
    LATENTS: File(
        "latent states of the first puzzles, the start and every step",
        {
            "latents": Column("float32 (M, K + 1, D)", "states averaged over tokens"),
            "slots": Column("float16 (M', K' + 1, S', D')", "single latent vectors"),
            "slot_steps": Column("int64 (K' + 1,)", "the steps of `slots`, 0 for the start"),
            "slot_index": Column("int64 (S',)", "the slots of `slots`, from 0"),
            "solved": Column("bool (M,)", "whether the answer after the trained depth is right"),
        },
    ),
    EXAMPLES: File(
        "up to three puzzles whose answers change in most steps and end solved",
        {
            "index": Column(Total, "number of the puzzle, from 0"),
            "puzzle": Column(str, "its text"),
            "k": Column(Total, "improvement step, 0 for the start; only those that change it"),
            "solved": Column(Flag, "1 if the answer then is right"),
            "score": Column(float, "of the answer then"),
            "drawing": Column(str, "the answer then as lines of text, `!` behind wrong cells"),
        },
    ),
    GUIDANCE: File("with `eval.guidance`: what the policies guided by w answer", _GUIDED),
    OPTIMALITY: File(
        "with `eval.guidance` and an optimality token: the same between the policy of any answer "
        "(w = 0) and that of good ones (w = 1)",
        _GUIDED,
    ),
    STEP_SIZE: File(
        "with `eval.step_size`: changes of the state scaled, at every step or at one alone",
        {
            "step_size": Column(float, "share of the change"),
            **_STEP,
            **_RATED,
            "probe_solved": Column(Share | None, "share solved if that one step is scaled alone"),
            "probe_score": Column(float | None, "mean score if that one step is scaled alone"),
            "lost": Column(Share | None, "share solved before this step and not after it"),
        },
    ),
    BREADTH: File(
        "with `eval.breadth`: several starts, one row per selector",
        {
            "selector": Column(str, "what chooses among the answers"),
            "starts": Column(Count, "starts per puzzle"),
            "forward_passes": Column(Amount, "of one puzzle, all starts"),
            **_RATED,
        },
    ),
    EXITS: File(
        "with `eval.exit`: the front of every exit rule; see below",
        {
            "rule": Column(str, "name of the rule"),
            "threshold": Column(float | None, "in the rule's own unit"),
            "depth": Column(Steps, "the most steps"),
            "forward_passes": Column(Amount, "of one puzzle, mean"),
            **_SOLVED,
            **_BOUNDS,
            "chosen": Column(Flag, "1 for the threshold chosen on validation"),
            "seconds": Column(Amount | None, "of all puzzles, for chosen rules that can be run"),
        },
    ),
    NAMED: File(
        "`NAME/` with the files of `eval/` for each evaluation with a name: `pir eval "
        "eval.name=NAME`, or the name of the file of `pir eval env.puzzles=FILE`, "
        "or settings of the puzzle such as `height=31,width=31`"
    ),
    FIGURES: File("`improvement.png`, the improvement curve, and what `pir plot` drew"),
    REPORT: File("written by `pir report`"),
    TENSORBOARD: File("with `logger=tensorboard`: event files"),
    WANDB: File("with `logger=wandb`: its files, offline"),
    MLFLOW: File("with `logger=mlflow`: its database"),
    LOCK: File("held by the process that trains here"),
    MANIFEST: File(
        "of an exported model, in the place of checkpoints ([the zoo](zoo.md)): what it is and "
        "what it solves",
        dict(columns_of(Manifest)),
        record=Manifest,
    ),
    WEIGHTS: File("of an exported model: its averaged weights"),
}
"""Every file by its place in the run folder; one row of a CSV file has all columns of it."""


def place(file: str, evaluation: str | None) -> str:
    """Returns where a file of the schema lies if the evaluation meant is the one of this name."""
    if evaluation is None or not file.startswith(EVALUATION):
        return file
    return f"{NAMED}{evaluation}/{file.removeprefix(EVALUATION)}"
