"""Training: one loop over improvement steps, with budgets, checkpoints and exact resume."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from pir import checkpoint, training_report
from pir.batch_size import fitting_batch, named_when_short
from pir.checkpoint_content import not_finite
from pir.components import Components, take_weights
from pir.config import check_seed
from pir.depth import LedgerDepth
from pir.device import own_random_stream, prepare_cpu, time_on
from pir.errors import NonFiniteLossError, UserError
from pir.evaluation.rollouts import Evaluation, evaluate, held_out, refuse_empty
from pir.improvement import Lanes, Step, improvement_steps
from pir.interrupt import postponed, requested, stoppable
from pir.ledger import Ledger
from pir.memory import require_memory
from pir.optim import averaged, learning_rate_factor
from pir.progress import LONGEST_WAIT, ProgressView, Stopwatch
from pir.reasoner import NOTHING, Condition, Reasoner
from pir.replay import HardPuzzles
from pir.row_file import RowFile
from pir.run_folder import RunFolder
from pir.trainer_settings import check_settings
from pir.trainer_state import resume, snapshot

MEASURED_SHARE, MEASURED_AT_LEAST = 4, 64
"""While training, the ledger looks at every fourth lane, and at this many at least."""


class Trainer:
    """One run: everything that changes while it trains, and the loop that changes it.

    Args:
        config: the resolved settings.
        folder: the run folder, created already.

    Raises:
        UserError: if a setting is out of range.
    """

    def __init__(self, config: DictConfig, folder: RunFolder) -> None:
        """Builds the components at optimizer step 0."""
        self.config, self.folder, self.settings = config, folder, config.trainer
        check_settings(config.trainer)
        check_seed("seed", config.seed)
        prepare_cpu(self.settings.threads)
        torch.manual_seed(config.seed)
        parts = Components.build(config)
        self.device, self.puzzle, self.reasoner = parts.device, parts.puzzle, parts.reasoner
        self._refuse_too_many_lanes()
        self.objective = parts.build_objective(config)
        self.optimizer = parts.build_optimizer(config)
        if self.objective.update == "rollout" and self.settings.lanes != "synchronous":
            raise UserError(
                "objective.update=rollout gathers the gradient of whole rollouts: "
                "set trainer.lanes=synchronous"
            )
        self.logger = parts.build_logger(config)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = averaged(self.reasoner, self.settings.ema_decay)
        self.num_steps = self.rollout_steps = self.reasoner.improvement_steps
        passes, batch = self.reasoner.passes_per_step, self.settings.batch_size
        # Lanes are alike, so a share of them measures the same at a share of the cost.
        self.measured = max(min(MEASURED_AT_LEAST, batch), -(-batch // MEASURED_SHARE))
        depth = self.objective.depth
        longest = self.num_steps if depth is None else depth.longest(self.num_steps)
        self.ledger = Ledger(self.measured, longest, passes, self.device)

        self.by_ledger = self.settings.lanes == "ledger"
        self.ledger_depth = LedgerDepth(self.num_steps, self.device)

        self.hard_puzzles = HardPuzzles(self.settings.replay_share, self.settings.replay_size)
        self.optimizer_step = 0
        self.improvement_step = 0
        self.puzzles_seen = 0
        self.logged_at = 0
        self.evaluated_at = -1
        self.best_solved, self.best_depth = -1.0, self.num_steps
        self.evaluations_since_best = 0
        self.eval_batch: int | None = None
        self.best_checksum: str | None = None
        self.began_with: Path | None = None
        self.lanes: Lanes | None = None
        self.interval: dict[str, float] = {}
        self.interval_updates = 0
        self.watch, self.ledger_seconds = Stopwatch(), 0.0
        files = (*folder.logged, folder.improvement, folder.outcomes)
        self.rows = {path.name: RowFile(path) for path in files}
        refuse_empty(self.puzzle, "test")  # now, not after hours of training
        count = self.settings.val_puzzles
        self.validation = held_out(self.puzzle, "val", count, self.device)
        self._rehearse()

    def _refuse_too_many_lanes(self) -> None:
        """Refuses a batch whose states alone are more than the memory; measured on one lane."""
        batch = self.settings.batch_size
        with own_random_stream(self.device), torch.no_grad():
            sample = self.puzzle.sample(1, "train", seed=self.config.seed).to(self.device)
            lane = Lanes.begin(self.reasoner, self.puzzle, sample)
        require_memory(batch * lane.bytes(), f"trainer.batch_size={batch}")

    def _rehearse(self) -> None:
        """Takes a step with one puzzle in every phase of the objective.

        Settings that do not fit are refused at once, not after hours.
        """
        with own_random_stream(self.device), torch.no_grad():
            for phase in self.objective.phases:
                self.optimizer_step = phase
                lanes = self._begin(self.puzzle.sample(1, "train", seed=self.config.seed))
                rollout = next(iter(self._rollouts(lanes)))
                next(self.objective.updates(self.puzzle, rollout, self.optimizer_step))
                self._finished(rollout[-1])
                self._refuse_told(rollout[-1])
        self.rehearsed = lanes.state_dict()
        self.optimizer_step = self.improvement_step = self.lane_steps = 0

    def _refuse_told(self, step: Step) -> None:
        """Refuses to learn of lanes from rollouts that are told what others are not.

        Raises:
            UserError: if the ledger chooses the depth, or failed puzzles come back.
        """
        if step.condition != NOTHING and (self.by_ledger or self.settings.replay_share > 0):
            raise UserError(
                "this objective tells its rollouts more than they know in use (wrong answers to "
                "give, parts of the label), so how they end says little: set "
                "trainer.replay_share=0, and trainer.lanes to another choice than ledger"
            )

    # ---------------------------------------------------------------- the loop

    def train(self) -> bool:
        """Trains until a budget is spent or the run is interrupted.

        Returns:
            Whether the run ended by itself; if not, it was interrupted and can be resumed.
        """
        self.logger.open(self.folder.path, self.optimizer_step)
        names = self.config.choices
        title = f"{names.env} · {names.model} · {names.objective}"
        with ProgressView(title) as self.view, postponed():
            if self.evaluated_at < 0:
                self._validate()
            while not self._budget_spent():
                lanes = self._fill_lanes()
                if lanes is None:
                    self.save(self.folder.last)
                    return False
                for steps in self._rollouts(lanes):
                    updates = self.objective.updates(self.puzzle, steps, self.optimizer_step)
                    for losses in updates:
                        self._learn(losses)
                    for step in steps:
                        lanes.finished = self._finished(step)
                        self._measure(step, lanes.finished)
                    self.hard_puzzles.add(lanes.puzzles, lanes.finished & ~lanes.verdict.solved)
                self._report()
                if requested():
                    self.save(self.folder.last)
                    return False
            self.save(self.folder.last)
            if self.evaluated_at < self.optimizer_step:
                self._keep_if_best(self._evaluate_validation(), self.folder.end)
            return not requested()  # a signal may have come while the last weights were evaluated

    def _rollouts(self, lanes: Lanes) -> Iterator[Sequence[Step]]:
        """Improves the lanes until budgets and lanes are looked at; yields what an update sees."""
        if self.objective.depth is not None:
            self.rollout_steps = self.objective.depth.draw(self.num_steps)
        count = self.rollout_steps if self.settings.lanes == "synchronous" else 1
        steps = improvement_steps(
            self.reasoner,
            self.puzzle,
            lanes,
            count,
            condition=self._condition,
            backprop_steps=self.objective.backprop_steps,
        )
        seen = count if self.objective.update == "rollout" else 1
        for first in steps:
            rollout = [first, *islice(steps, seen - 1)]
            self.improvement_step += seen
            yield rollout

    def _condition(self, lanes: Lanes) -> Condition:
        """Has the objective say what the reasoner is told before a step."""
        return self.objective.condition(lanes, self.optimizer_step)

    def _begin(self, puzzles: TensorDict) -> Lanes:
        """Puts freshly sampled puzzles into lanes of their own."""
        puzzles = self.objective.prepare(self.puzzle, puzzles, self.num_steps).to(self.device)
        return Lanes.begin(self.reasoner, self.puzzle, puzzles)

    def _fill_lanes(self) -> Lanes | None:
        """Puts new puzzles into the finished lanes; returns None if a signal stops it.

        Generation may take long, so a signal ends it at once, as if it had not begun.
        """
        count = self.settings.batch_size if self.lanes is None else int(self.lanes.finished.sum())
        if count > 0:
            before = checkpoint.random_state()
            again = self.hard_puzzles.draws(count)
            seed, start = self.config.seed, self.puzzles_seen
            try:
                with stoppable():
                    puzzles = self.puzzle.sample(count - again, "train", seed=seed, start=start)
            except KeyboardInterrupt:
                checkpoint.set_random_state(before)
                return None
            if again:
                puzzles = torch.cat([puzzles, self.hard_puzzles.draw(again)])
            fresh = self._begin(puzzles)
            self.lanes = fresh if self.lanes is None else self.lanes.refill(fresh)
            self.puzzles_seen += count - again
        assert self.lanes is not None
        return self.lanes

    def _finished(self, step: Step) -> Tensor:
        """Says which lanes take a new puzzle after this step."""
        if self.settings.lanes == "staggered":
            lane = torch.arange(len(step.k), device=self.device)
            return lane % self.num_steps == self.improvement_step % self.num_steps
        if self.by_ledger:
            return self.ledger_depth.finished(step.k, self.improvement_step)
        finished = step.k >= self.rollout_steps
        if self.settings.lanes == "halting":
            finished = finished | step.improved.halts()
        return finished

    def _measure(self, step: Step, finished: Tensor) -> None:
        """Has the ledger record the step, and keeps the time that it takes."""
        started = time_on(self.device)
        self.ledger.record(step.first(self.measured), finished[: self.measured])
        if self.by_ledger:
            self.ledger_depth.observe(step)
        taken = time_on(self.device) - started
        self.ledger_seconds += min(max(0.0, taken), LONGEST_WAIT)  # the clock may jump

    def _learn(self, losses: dict[str, Tensor]) -> None:
        """Updates the parameters by the gradient of the losses' sum."""
        total = torch.stack(list(losses.values())).sum()
        if not math.isfinite(total.item()):
            raise NonFiniteLossError(self._diverged("the loss", total.item()))
        total.backward()  # type: ignore[no-untyped-call]
        for name, loss in {"loss": total, **losses}.items():
            self.interval[name] = self.interval.get(name, 0.0) + loss.item()
        self.interval_updates += 1
        self._update_parameters()

    def _diverged(self, what: str, value: object) -> str:
        return (
            f"{what} became {value} at optimizer step {self.optimizer_step}; the last good "
            f"checkpoint is {self.folder.last}. Start a new run with a lower optim.lr, more "
            "trainer.warmup_steps or model.dtype=float32"
        )

    def _update_parameters(self) -> None:
        parameters = list(self.reasoner.parameters())
        norm = clip_grad_norm_(parameters, self.settings.max_grad_norm).item()
        if not math.isfinite(norm):
            raise NonFiniteLossError(self._diverged("the gradient", norm))
        factor = learning_rate_factor(
            self.optimizer_step,
            self.settings.warmup_steps,
            self.settings.decay_steps,
            self.settings.final_lr_ratio,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.reasoner)
        self.optimizer_step += 1

    # ---------------------------------------------------------------- budgets and reports

    def budget_shares(self) -> list[float]:
        """Returns the spent share of every budget that is set."""
        settings = self.settings
        used = [
            (self.optimizer_step, settings.max_optimizer_steps),
            (self.watch.seconds() / 60, settings.max_minutes),
            (self.forward_passes, settings.max_forward_passes),
        ]
        return [spent / allowed for spent, allowed in used if allowed is not None]

    def _budget_spent(self) -> bool:
        patience = self.settings.patience
        if patience is not None and self.evaluations_since_best >= patience:
            return True
        return max(self.budget_shares()) >= 1

    def progress(self) -> dict[str, Any]:
        """Returns the totals of the run so far, for the summary."""
        return {
            "optimizer_steps": self.optimizer_step,
            "puzzles_seen": self.puzzles_seen,
            "training_forward_passes": self.forward_passes,
            "seconds": round(self.watch.seconds(), 1),
            "ledger_share": round(self.ledger_seconds / max(self.watch.seconds(), 1e-9), 5),
        }

    @property
    def depth(self) -> int:
        """Improvement steps of the rollouts that are trained now."""
        return self.ledger_depth.depth if self.by_ledger else self.num_steps

    @property
    def forward_passes(self) -> int:
        """Network evaluations so far, counted once per lane, those of updates included."""
        return self.lane_steps * self.reasoner.passes_per_step

    @property
    def lane_steps(self) -> int:
        """Improvement steps that single lanes took, those taken again for an update included."""
        return self.reasoner.steps_taken

    @lane_steps.setter
    def lane_steps(self, count: int) -> None:
        self.reasoner.steps_taken = count

    def _report(self) -> None:
        """Writes rows and checkpoints where an interval ends; wall-clock only paces the view."""
        step = self.optimizer_step
        training_report.show(self)
        if step >= self.logged_at + self.settings.log_every:
            training_report.log_interval(self)
            self.ledger.clear()
            self.interval, self.interval_updates = {}, 0
            self.logged_at = step
        if step >= self.evaluated_at + self.settings.eval_every:
            self._validate()

    # ---------------------------------------------------------------- evaluation

    def _evaluate_validation(self) -> Evaluation:
        averaged_reasoner = cast(Reasoner, self.average.module)
        wanted = self.settings.eval_batch_size
        with named_when_short("trainer.eval_batch_size", wanted):
            if self.eval_batch is None:
                question = self.validation["question"]
                self.eval_batch = fitting_batch(wanted, averaged_reasoner, question)
            result = evaluate(
                averaged_reasoner, self.puzzle, self.validation, self.num_steps, self.eval_batch
            )
        training_report.log_validation(self, result.ledger)
        return result

    def _validate(self) -> None:
        """Evaluates the averaged weights, then writes the checkpoints."""
        result = self._evaluate_validation()
        self.evaluated_at = self.optimizer_step
        self.evaluations_since_best += 1
        self._keep_if_best(result, self.folder.best)
        self.save(self.folder.last)

    def _keep_if_best(self, evaluation: Evaluation, path: Path) -> None:
        """Writes a checkpoint if the validation solved share rose, or is as large again.

        The later of two equals is kept, for what does not show in the share, such as a halt head.
        What counts is the share at the trained depth; where the ledger chooses the depth of
        training, at the first step with the largest share, which the checkpoint remembers.

        It goes to best.pt, except after the evaluation at a budget's end, which a resumed run will
        not have made: that one goes to end.pt.
        """
        solved = [row["solved"] for row in evaluation.ledger.rows()]
        depth = solved.index(max(solved)) + 1 if self.by_ledger else self.num_steps
        improved = solved[depth - 1] > self.best_solved
        if improved:
            self.evaluations_since_best = 0
        if solved[depth - 1] >= self.best_solved:
            self.best_solved, self.best_depth = solved[depth - 1], depth
            self.best_checksum = self.save(path)
        self.view.validated(solved[:depth], self.best_solved, improved)

    # ---------------------------------------------------------------- checkpoints

    def save(self, path: Path) -> str:
        """Writes everything that a resumed run needs to go on to the bit.

        Returns:
            The file's checksum.

        Raises:
            NonFiniteLossError: if anything in it is infinite or not a number, where that means
                something; nothing is written then.
            UserError: if the file cannot be written.
        """
        content = snapshot(self)
        where = not_finite(content)
        if where:
            raise NonFiniteLossError(self._diverged(where, "infinite or not a number"))
        return checkpoint.save(path, content)

    def warm_start(self, folder: RunFolder) -> str:
        """Begins with the weights of another run; see `take_weights`."""
        self.began_with, taken = take_weights(self.reasoner, folder, self.device)
        self.average = averaged(self.reasoner, self.settings.ema_decay)
        return taken

    def resume(self) -> bool:
        """Takes up the last checkpoint; see `pir.trainer_state.resume`."""
        return resume(self)
