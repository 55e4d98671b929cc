"""Training: one loop over improvement steps, with budgets, checkpoints and exact resume."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_seed
from pir.errors import NonFiniteLossError
from pir.evaluation.batch_size import fitting_batch, named_when_short
from pir.evaluation.rollouts import Evaluation, evaluate, held_out, refuse_empty
from pir.laws.training import refuse_unfit
from pir.ledger.ledger import Ledger
from pir.noise import at_hand
from pir.objective import Objective
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.rollout import Lanes, Rollout, begin, counted, gradient_in, improve, side_by_side, stack
from pir.runs import checkpoint
from pir.runs.checkpoint_content import not_finite
from pir.runs.folder import RunFolder
from pir.runs.load import take_weights
from pir.runs.loggers import Logger, NoLogger
from pir.schedules import LaneSchedule, Staggered, Synchronous
from pir.settings.training import BUDGETS, TrainerSettings
from pir.system import processes
from pir.system.device import DeviceTime, device_of, own_random_stream, prepare_cpu, sent, time_on
from pir.system.interrupt import postponed, requested
from pir.system.memory import require_memory
from pir.training import parallel, report, sizing
from pir.training.compiled import chosen_mode, compile_for_validation, compile_networks
from pir.training.filling import fill_lanes
from pir.training.fit import refuse_misfit
from pir.training.hard_puzzles import HardPuzzles
from pir.training.optim import Averaged, Updates, chosen_optimizer
from pir.training.puzzle_stream import PuzzleStream
from pir.training.record import described
from pir.training.resume import opened, resume, snapshot
from pir.training.state import TrainState

MEASURED_DIVISOR, MEASURED_AT_LEAST = 4, 64
"""While training, the ledger measures the first quarter of the lanes, at least so many."""


class Trainer:
    """One run: its parts, the loop that changes them (`TrainState`), and what it writes.

    It draws from torch's global random state: `torch.manual_seed`, before the reasoner is made,
    makes a run repeat itself.

    Args:
        puzzle: gives the puzzles and judges the answers.
        reasoner: the network that is trained, on its device.
        objective: what is minimised.
        optimizer: updates the reasoner; by default `MuonAdamW` on the weights that are trained, or
            AdamW if no module is named `blocks`. Its rates are the peaks; after a run, those that
            the run began with (`initial_lr`).
        schedule: says which lanes take a new puzzle; by default `Synchronous` for an objective of
            whole rollouts, else `Staggered`.
        settings: how long to train, and all other numbers; by default those that fit (`sizing`).
        seed: names the stream of training puzzles.
        folder: where rows and checkpoints are written, or its path; None to write nothing and keep
            the rows in memory.
        logger: receives scalars too, if there is a folder.
        title: heads a view of the progress on standard error; None for no view.
        record: settings of your own, kept in checkpoints and compared when the run is resumed, as
            are the classes and the plain settings of the parts, `settings` and `seed`.

    Attributes:
        rows: what is told while it trains, by the names of the files (docs/run_folder.md).

    Raises:
        UserError: if the parts do not fit together.
    """

    def __init__(
        self,
        puzzle: Puzzle,
        reasoner: Reasoner,
        objective: Objective,
        optimizer: torch.optim.Optimizer | None = None,
        schedule: LaneSchedule | None = None,
        settings: TrainerSettings | None = None,
        *,
        seed: int = 0,
        folder: RunFolder | str | Path | None = None,
        logger: Logger | None = None,
        title: str | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts at optimizer step 0."""
        check_seed("seed", seed)
        refuse_unfit(puzzle)
        self.puzzle, self.reasoner, self.objective = puzzle, reasoner, objective
        self.settings, self.seed = settings or sizing.sized(puzzle, reasoner, objective), seed
        self.folder = RunFolder(folder) if isinstance(folder, str | Path) else folder
        self.title = title
        self.logger = logger if logger and processes.rank() == 0 else NoLogger()
        prepare_cpu(self.settings.threads)
        self.device = device_of(reasoner)
        self.stream = PuzzleStream(puzzle, seed, ahead=self.device.type != "cpu")
        self.num_steps = self.reasoner.improvement_steps
        if self.settings.checkpoint_activations:
            parallel.recompute(reasoner)
        optimizer = chosen_optimizer(optimizer, reasoner)
        if schedule is None:
            kind = Staggered if objective.update == "step" else Synchronous
            schedule = kind(self.num_steps, self.device)
        self.record = described(self, optimizer, schedule, record)
        # one that has trained before is left at its last rate, and keeps the peak as torch's do
        self.rates = [g.setdefault("initial_lr", g["lr"]) for g in optimizer.param_groups]
        batch = self.settings.batch_size
        self.share = parallel.own_share(self.settings, objective)
        self.one_lane = self._one_lane()
        size = sum(leaf.nbytes for leaf in self.one_lane.now.to_tensordict().values(True, True))
        require_memory(self.share.count * size, f"trainer.batch_size={batch}")
        # Lanes are alike, so a share of them measures the same at a share of the cost.
        self.measured = max(min(MEASURED_AT_LEAST, batch), math.ceil(batch / MEASURED_DIVISOR))
        self.measured_here = parallel.measured_here(self.share, self.measured)
        self.state = self._first_state(optimizer, schedule)
        mode = chosen_mode(self.settings, self.reasoner, self.one_lane.puzzles["question"])
        self.settings = replace(self.settings, compile=mode)
        compile_networks(self.reasoner, mode)
        self.progress = self.state.progress
        last = self.folder.last if self.folder else None
        self.updates = Updates(self.state, self.settings, self.share, last)
        self.ledger_time = DeviceTime(self.device)
        self.eval_batch: int | None = None
        self.validated_in = 0.0  # seconds
        self.best_checksum: str | None = None
        self.began_with: Path | None = None
        self.ended_at: dict[str, float] = {}
        self.rows = report.rows_of(self.folder if processes.rank() == 0 else None)
        refuse_empty(self.puzzle, "test")  # now, not after hours of training
        count = self.settings.val_puzzles
        self.validation = parallel.part_of(held_out(self.puzzle, "val", count, self.device), "val")
        puzzles = self.one_lane.puzzles
        refuse_misfit(self.objective, self.reasoner, schedule, puzzles, self.settings)

    def _first_state(self, optimizer: torch.optim.Optimizer, schedule: LaneSchedule) -> TrainState:
        """Returns what changes while it trains, before the first step."""
        random_depth, settings = self.objective.depth, self.settings
        longest = self.num_steps if random_depth is None else random_depth.longest(self.num_steps)
        return TrainState(
            self.reasoner,
            optimizer,
            schedule,
            Ledger(self.measured_here, longest, self.reasoner.passes_per_step, self.device),
            HardPuzzles(settings.replay_share, settings.replay_size),
            settings.ema_decay,
        )

    def _one_lane(self) -> Lanes:
        """Puts a single puzzle into a lane: what the lanes of this run are made of."""
        with own_random_stream(self.device):
            return self.begin(self.puzzle.sample(1, "train", seed=self.seed))

    # ---------------------------------------------------------------- the loop

    def train(self) -> bool:
        """Trains until a budget is spent or the run is interrupted.

        Returns:
            Whether the run ended by itself; if not, it was interrupted and can be resumed.
        """
        if not self.reasoner.training:  # else parts that were put into another mode stay there
            self.reasoner.train()
        self.view = report.view_of(self.title)
        with opened(self), self.view or nullcontext(), self.stream, postponed():
            if self.progress.evaluated_at < 0:
                self._validate()
            while not self._budget_spent():
                with counted(self.progress), at_hand(self.share):
                    if not fill_lanes(self):
                        self._save_last()
                        return False
                    self.improve_lanes()
                self._report()
                if processes.any_of(requested()):
                    self._save_last()
                    return False
            self.ended_at = self.budget_shares()
            self._save_last()
            if self.progress.evaluated_at < self.progress.optimizer_step:
                end = self.folder.end if self.folder else None
                self._keep_if_best(self._evaluate_validation(), end)
            # a signal may have come while the last weights were evaluated
            return not processes.any_of(requested())

    def improve_lanes(self) -> None:
        """Takes the steps of one update in all lanes, and updates the parameters by them."""
        reasoner, puzzle, objective = self.reasoner, self.puzzle, self.objective
        progress, updates, schedule = self.progress, self.updates, self.state.schedule
        optimizer_step, backprop = progress.optimizer_step, objective.backprop_steps
        bptt, sampled = backprop > 1, objective.samples_answers(optimizer_step)
        length = self._rollout_length()
        # k counts the steps of this update; `lanes.k` says which step of a rollout it is
        num_steps = objective.steps_of_update(length, progress.improvement_step)
        assert self.state.lanes is not None
        taken: list[tuple[Lanes, Rollout]] = []
        for lanes in updates.parts_of(self.state.lanes):
            steps = []
            for k in range(1, num_steps + 1):
                condition = objective.condition(lanes, optimizer_step)
                with gradient_in(k, num_steps, backprop):
                    lanes, step = improve(
                        reasoner, puzzle, lanes, condition, through_time=bptt, sampled=sampled
                    )
                steps.append(step)
            rollout = stack(steps)
            updates.learn(objective.losses(rollout, puzzle, reasoner, optimizer_step))
            taken.append((lanes, rollout))
        lanes, rollout = side_by_side(taken)
        for step in rollout.unbind(0):
            progress.improvement_step += 1
            lanes.finished = schedule.finished(step, progress.improvement_step, length)
            self._record(step, lanes.finished)
        if self.settings.replay_share > 0:
            self.state.hard_puzzles.add_failed(lanes, objective.lanes_per_puzzle)
        self.state.lanes = lanes.detach()

    def _rollout_length(self) -> int:
        """Returns how many improvement steps the next rollouts have: K, or a number drawn."""
        random_depth = self.objective.depth
        return self.num_steps if random_depth is None else random_depth.draw(self.num_steps)

    def begin(self, puzzles: TensorDict) -> Lanes:
        """Puts freshly sampled puzzles into lanes of their own."""
        puzzles = self.objective.prepare(self.puzzle, puzzles, self.num_steps)
        return begin(self.reasoner, self.puzzle, sent(puzzles, self.device))

    def _record(self, step: Rollout, finished: Tensor) -> None:
        """Has the ledger record a step, and keeps the time that it takes."""
        with self.ledger_time:
            if self.measured_here:
                self.state.ledger.record(step[: self.measured_here], finished[: self.measured_here])

    # ---------------------------------------------------------------- budgets and reports

    def budget_shares(self) -> dict[str, float]:
        """Returns the spent share of every budget that is set, by the name of its setting."""
        spent = {
            "max_optimizer_steps": self.progress.optimizer_step,
            "max_minutes": self.state.watch.seconds() / 60,
            "max_forward_passes": self.forward_passes,
        }
        allowed = {name: getattr(self.settings, name) for name in BUDGETS}
        return {name: spent[name] / most for name, most in allowed.items() if most is not None}

    def _budget_spent(self) -> bool:
        patience = self.settings.patience
        spent = patience is not None and self.progress.evaluations_since_best >= patience
        return processes.any_of(spent or max(self.budget_shares().values()) >= 1)

    def totals(self) -> dict[str, Any]:
        """Returns the totals of the run so far, for the summary."""
        seconds = self.state.watch.seconds()
        return {
            "optimizer_steps": self.progress.optimizer_step,
            "puzzles_seen": self.progress.puzzles_seen,
            "training_forward_passes": self.forward_passes,
            "seconds": round(seconds, 1),
            "ledger_share": round(self.progress.ledger_seconds / max(seconds, 1e-9), 5),
        }

    @property
    def forward_passes(self) -> int:
        """Network evaluations so far, counted once per lane, those of updates included."""
        return self.progress.lane_steps * self.reasoner.passes_per_step

    def _report(self) -> None:
        """Writes rows and checkpoints where an interval ends; wall-clock only paces the view."""
        progress, step = self.progress, self.progress.optimizer_step
        report.show(self)
        if step >= progress.logged_at + self.settings.log_every:
            self.look()
            self.state.ledger.add_up()
            report.log_interval(self)
            self.state.ledger.clear()
            progress.interval, progress.interval_updates = {}, 0
            progress.logged_at = step
        if step >= progress.evaluated_at + self.settings.eval_every:
            self._validate()

    def look(self) -> None:
        """Reads what the device has computed since the last look; see `Updates.read`."""
        self.updates.read()
        self.progress.ledger_seconds += self.ledger_time.read()

    # ---------------------------------------------------------------- evaluation

    def _evaluate_validation(self) -> Evaluation:
        wanted = self.settings.eval_batch_size
        with named_when_short("trainer.eval_batch_size", wanted):
            if self.eval_batch is None:
                question = self.validation["question"]
                fitting = fitting_batch(wanted, self.trained, question)
                lanes = self.share.count // self.settings.micro_batches
                mode = self.settings.compile
                self.eval_batch = compile_for_validation(
                    self.trained, mode, question, lanes, fitting
                )
            started = time_on(self.device)
            result = evaluate(
                self.trained, self.puzzle, self.validation, self.num_steps, self.eval_batch
            )
            self.validated_in = time_on(self.device) - started
        result.ledger.add_up()
        report.log_validation(self, result.ledger)
        return result

    def _validate(self) -> None:
        """Evaluates the averaged weights, then writes the checkpoints."""
        result = self._evaluate_validation()
        self.progress.evaluated_at = self.progress.optimizer_step
        self.progress.evaluations_since_best += 1
        self._keep_if_best(result, self.folder.best if self.folder else None)
        self._save_last()

    def _keep_if_best(self, evaluation: Evaluation, path: Path | None) -> None:
        """Writes a checkpoint if the validation solved share rose, or is as large again.

        The later of two equals is kept, for what does not show in the share, such as a halt head.
        What counts is the share at the trained depth; where the schedule chooses the depth of
        training, at the first step with the largest share, which the checkpoint remembers.

        It goes to best.pt, except after the evaluation at a budget's end, which a resumed run will
        not have made: that one goes to end.pt.
        """
        progress = self.progress
        solved = [row["solved"] for row in evaluation.ledger.rows()]
        chosen = self.state.schedule.reads_outcomes
        depth = solved.index(max(solved)) + 1 if chosen else self.num_steps
        improved = solved[depth - 1] > progress.best_solved
        if improved:
            progress.evaluations_since_best = 0
        if solved[depth - 1] >= progress.best_solved:
            progress.best_solved, progress.best_depth = solved[depth - 1], depth
            self.best_checksum = self.save(path) if path else None
        if self.view:
            self.view.validated(solved[:depth], progress.best_solved, improved)

    @property
    def trained(self) -> Reasoner:
        """The reasoner with the averaged weights, which change while it trains."""
        return cast(Reasoner, self.state.average.module)

    # ---------------------------------------------------------------- checkpoints

    def resume(self) -> bool:
        """Goes back to where this run's last checkpoint was written; see `resume`."""
        return resume(self)

    def _save_last(self) -> None:
        """Writes last.pt, if there is a folder."""
        self.look()
        if self.folder:
            self.save(self.folder.last)

    def save(self, path: Path) -> str:
        """Writes everything that a resumed run needs to go on to the bit.

        Returns:
            The file's checksum.

        Raises:
            NonFiniteLossError: if anything in it is infinite or not a number, where that means
                something; nothing is written then.
            UserError: if the file cannot be written.
        """
        self.look()
        content = snapshot(self)  # by all processes together
        where = not_finite(content)
        if where:
            what = self.updates.diverged(
                where, "infinite or not a number", self.progress.optimizer_step
            )
            raise NonFiniteLossError(what)
        return checkpoint.save(path, content) if processes.rank() == 0 else ""

    def warm_start(self, folder: RunFolder) -> str:
        """Begins with the weights of another run; see `take_weights`."""
        self.began_with, taken = take_weights(self.reasoner, folder, self.device)
        self.state.average = Averaged(self.reasoner, self.settings.ema_decay)
        return taken
