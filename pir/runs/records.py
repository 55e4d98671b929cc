"""The content of eval.json, summary.json and manifest.json: what is written is what is read back.

What older files lack is None or empty.
"""

# ruff: noqa: RUF009, `key` returns a dataclass field

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pir.runs.typed import Amount, Count, Rows, Share, Steps, Total, from_json, key
from pir.system.stored import read_object, refuse

MODEL_FORMAT, MODEL_VERSION = "pir model", 1
"""What the manifest of an exported model says it is."""


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A column of the ledger, described."""

    name: str = key("name of the column")
    meaning: str = key("one sentence")
    unit: str = key("of its values")
    label: bool = key("whether it needs the known answer")


@dataclass(frozen=True, kw_only=True)
class PuzzleFile:
    """The file that the puzzles were read from."""

    path: str = key("absolute path, `-` for the standard input")
    sha256: str = key("hash of the file")
    left_out: Total = key("faulty puzzles that were left out")
    in_training_split: Total | None = key("puzzles whose key belongs to the training split")
    in_training_file: Total | None = key("puzzles like one of the file that was trained on")


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What a policy without a model solves; one of the counts says from how much."""

    solved: Share = key("share of puzzles solved")
    answers: Count | None = key("answers drawn", None, within="answers")
    training_puzzles: Count | None = key(
        "training puzzles looked up", None, within="training_puzzles"
    )


@dataclass(frozen=True, kw_only=True)
class OneBlank:
    """Puzzles with all cells but one revealed."""

    solved: Share = key("share of puzzles solved")
    solved_low: Share = key("lower end of its 95 % interval")
    solved_high: Share = key("upper end of its 95 % interval")
    puzzles: Count = key("puzzles")


@dataclass(frozen=True, kw_only=True)
class PathIndependence:
    """Rollouts that go on from another puzzle's state; empty for a single puzzle."""

    alignment: float | None = key("mean cosine of the two ends", None, within="puzzles")
    same_answer: Share | None = key("share with the same answer", None, within="puzzles")
    puzzles: Count | None = key("puzzles", None, within="puzzles")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One improvement step of one puzzle."""

    passes_per_step: Count = key("forward passes")
    flops_per_step: Amount | None = key("floating-point operations")
    seconds_per_step: Amount | None = key("seconds")
    batch_size: Count = key("puzzles improved at once")


@dataclass(frozen=True, kw_only=True)
class BestExit:
    """The best rule to stop early, beside the trained depth."""

    rule: str = key("name of the rule")
    threshold: float = key("in the rule's own unit")
    depth: Steps | None = key("the most steps", None)
    solved: Share = key("share of puzzles solved")
    forward_passes: Amount = key("per puzzle, mean")
    full_solved: Share = key("share of puzzles solved at the trained depth")
    full_forward_passes: Annotated[float, (1, 1e300)] = key("per puzzle, at the trained depth")
    seconds: Amount | None = key("of all puzzles with the rule", None)
    full_seconds: Amount | None = key("of all puzzles at the trained depth", None)


@dataclass(frozen=True, kw_only=True)
class ExitPoint:
    """Where a rule stops, as chosen on validation puzzles."""

    threshold: float = key("in the rule's own unit")
    improvement_steps: Steps = key("the most steps")
    state: dict[str, Any] = key("what the rule learnt")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """eval.json."""

    run: str = key("the run folder, as the command named it", "")
    checkpoint: str = key("file whose averaged weights were evaluated", "")
    env: str = key("name of the puzzle")
    model: str | None = key("name of the model", None)
    objective: str | None = key("name of the objective", None)
    seed: int | None = key("seed of the run", None)
    split: str = key("split of the puzzles, `file` for those of a file")
    puzzle_file: PuzzleFile | None = key("with `env.puzzles`", None, within="puzzle_file")
    changed: dict[str, Any] | None = key(
        "settings of the puzzle that are other than in training, by name", None, within="changed"
    )
    puzzles: Count = key("puzzles evaluated")
    trained_steps: Steps = key("improvement steps that the model was trained for")
    improvement_steps: Steps = key("improvement steps evaluated")
    parameters: Amount | None = key("parameters of the model", None)
    seconds: Amount | None = key("spent in improvement steps", None)
    dtype: str | None = key("with `eval.dtype`: of activations and products", None, within="dtype")
    step_noise: Amount | None = key(
        "with `eval.step_noise`: noise on the state after every step", None, within="step_noise"
    )
    dead_fraction: Share | None = key("dead forward passes in the trained depth, share", None)
    live_depth: Amount | None = key("live steps of a puzzle in the trained depth, mean", None)
    live_gain: Amount | None = key("a step is live above this gain in score", None)
    idle_kl: Amount | None = key("a dead step is idle below this KL, nats per cell", None)
    steps_to_solve: Amount | None = key("first step whose answer is right, mean", None)
    fixed_point_rate: Share | None = key("solved puzzles that stay solved, share", None)
    floors: dict[str, Floor] | None = key("`masked_random` and `look_up`", None)
    one_blank: OneBlank | None = key("puzzles with all cells but one given", None)
    path_independence: PathIndependence | None = key("{} for a single puzzle", None)
    rating_name: str = key("unit of the puzzles' rating", "rating")
    cost: Cost | None = key("of one improvement step of one puzzle", None)
    guidance: Rows = key("rows of `guidance.csv` at the trained depth", ())
    optimality: Rows = key("rows of `optimality.csv` at the trained depth", ())
    step_size: Rows = key("rows of `step_size.csv` at the trained depth", ())
    damping_after: Total | None = key(
        "with `eval.damping_after`: first steps that are not scaled", None, within="damping_after"
    )
    breadth: Rows = key("rows of `breadth.csv`", ())
    best_exit: BestExit | None = key("the cheapest rule that can be run and saves something", None)
    skipped_exits: dict[str, str] = key("why a rule was left out, by name", None, within="exits")
    exits: dict[str, ExitPoint] | None = key(
        "with `eval.exit`: where each rule stops, for `pir solve exit=RULE`", None, within="exits"
    )
    exit_front: Rows = key("rows of `exits.csv`", None, within="exits")
    statistics: tuple[Statistic, ...] = key("the statistics of the ledger", ())
    per_step: Rows = key("rows of `per_step.csv`", ())
    samples: Count | None = key("with several answers: drawn per puzzle", None, within="samples")
    sampled_from: str | None = key("`policy` or `rollouts`", None, within="samples")
    sampled_solved: Share | None = key("share of right ones among them", None, within="samples")
    pass_at_k: Share | None = key(
        "puzzles with at least one right among them, share", None, within="samples"
    )
    coverage: Share | None = key(
        "distinct right ones over all right answers, mean", None, within="samples"
    )
    sampled_puzzles: Count | None = key("puzzles that were sampled", None, within="samples")

    @property
    def puzzles_of(self) -> str:
        """Where the puzzles are from, other than from the run's own: settings, a file, or both."""
        changed = [f"env.{name}={value}" for name, value in (self.changed or {}).items()]
        file = [f"a file ({self.puzzle_file.sha256[:12]})"] if self.puzzle_file else []
        return " ".join([*changed, *file]) or "the run's own"

    @property
    def deep(self) -> bool:
        """Whether the evaluation has as many steps as the model was trained for."""
        return self.improvement_steps >= self.trained_steps

    @property
    def depth(self) -> int:
        """The step at which results are told: the last trained one, or else the last evaluated."""
        return min(self.trained_steps, self.improvement_steps)

    @property
    def depth_name(self) -> str:
        """What texts call `depth`."""
        return "the trained depth" if self.deep else f"step {self.depth} of {self.trained_steps}"

    @property
    def conditions(self) -> dict[str, Any]:
        """What an evaluation was asked for that changes its numbers, by the names of settings."""
        other = self.puzzles_of if self.changed or self.puzzle_file else None
        asked = {
            "split": self.split,
            "puzzles of": other,
            "dtype": self.dtype,
            "step_noise": self.step_noise or None,
            "improvement_steps": None if self.deep else self.improvement_steps,
        }
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """summary.json: the result on the test split, at the trained depth."""

    env: str | None = key("name of the puzzle", None)
    model: str | None = key("name of the model", None)
    objective: str | None = key("name of the objective", None)
    seed: int | None = key("seed of the run", None)
    parameters: Amount | None = key("parameters of the model", None)
    improvement_steps: Steps | None = key("trained improvement steps", None)
    forward_passes: Count | None = key("per puzzle", None)
    optimizer_steps: Total | None = key("updates of the parameters", None)
    puzzles_seen: Total | None = key("training puzzles that entered a lane", None)
    training_forward_passes: Total | None = key("of training, over all lanes", None)
    seconds: Amount | None = key("of training, over all resumes", None)
    ledger_share: Amount | None = key("of these seconds, spent in the ledger", None)
    stopped_by: str | None = key(
        "`max_optimizer_steps`, `max_minutes`, `max_forward_passes` or `patience`", None
    )
    schedule_share: Share | None = key("of `trainer.decay_steps`, share that was trained", None)
    learning_rate_share: Amount | None = key("last learning rate, share of its peak", None)
    checkpoint: str | None = key("file that was tested", None)
    validation_solved: float | None = key("share of validation puzzles it solved", None)
    test_puzzles: Count | None = key("test puzzles", None)
    solved: Share | None = key("share of test puzzles solved", None)
    solved_interval: tuple[Share, ...] | None = key("its 95 % Wilson interval", None)
    exact_accuracy: Share | None = key("share of answers equal to the label", None)
    cell_accuracy: Share | None = key("share of cells equal to the label", None)
    score: float | None = key("the verifier's graded value, mean", None)
    dead_fraction: Share | None = key("dead forward passes, share", None)
    live_depth: Amount | None = key("live steps of a puzzle, mean", None)
    sampled_solved: Share | None = key(
        "with several answers: share of right ones among drawn ones", None, within="sampled_solved"
    )
    pass_at_k: Share | None = key(
        "puzzles with at least one right among them, share", None, within="sampled_solved"
    )
    coverage: Share | None = key(
        "distinct right ones over all right answers, mean", None, within="sampled_solved"
    )


@dataclass(frozen=True, kw_only=True)
class ReferenceStep:
    """The reference evaluation after one improvement step."""

    k: Steps = key("improvement step, from 1")
    forward_passes: Amount = key("of one puzzle so far")
    solved: Share = key("share of puzzles solved")
    solved_low: Share = key("lower end of its 95 % interval")
    solved_high: Share = key("upper end of its 95 % interval")
    score: float = key("the verifier's graded value, mean")
    first_solved: Total = key("of the first `first_puzzles` puzzles, how many are solved")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the exported weights solve; whoever has the file can measure it again."""

    split: str = key("split of the puzzles")
    puzzles: Count = key("first puzzles of the split")
    first_puzzles: Count = key("of these, the first that `first_solved` counts")
    unrounded_solved: Share | None = key(
        "with `dtype=bfloat16`: share solved at the trained depth by the weights as trained",
        None,
        within="unrounded_solved",
    )
    per_step: tuple[ReferenceStep, ...] = key("every step to the trained depth")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """manifest.json: all that an exported model needs beside its weights, and where it is from."""

    format: str = key(f"`{MODEL_FORMAT}`")
    schema_version: int = key(f"{MODEL_VERSION}")
    sha256: str = key("hash of `model.safetensors`")
    bytes: Count = key("size of `model.safetensors`")
    dtype: str = key("`float32`: weights as trained; `bfloat16`: rounded to it")
    parameters: Count = key("of the model")
    improvement_steps: Steps = key("trained improvement steps")
    evaluation: Reference = key("the exported weights on the test split")
    minutes: Amount | None = key("of training, over all resumes", None)
    hardware: str = key("that it was trained on, in a few words")
    command: str = key("that trained it, without the name of the run folder")
    info: dict[str, Any] = key("`info.json` of the run: commit, versions, seed, hardware")
    config: dict[str, Any] = key(
        "`config.yaml` of the run: every setting; `env` as the model was exported with"
    )


def read_manifest(path: Path) -> Manifest:
    """Reads manifest.json.

    Raises:
        UserError: if it is damaged, or of another version.
    """
    content = read_object(path)
    version = content.get("schema_version")
    if content.get("format") != MODEL_FORMAT or version != MODEL_VERSION:
        refuse(path, f"it is no manifest of a {MODEL_FORMAT}, version {MODEL_VERSION}")
    try:
        manifest: Manifest = from_json(Manifest, content)
    except ValueError as error:
        refuse(path, error)
    return manifest


def read_facts(path: Path) -> Facts:
    """Reads eval.json.

    Raises:
        UserError: if it is damaged: a key is missing, of another type or out of range.
    """
    try:
        facts: Facts = from_json(Facts, read_object(path))
    except ValueError as error:
        refuse(path, error)
    return facts
