"""Exit rules: when to stop improving an answer.

A rule turns what is known of a puzzle's steps so far into a signal, and stops at the first step
whose signal reaches the threshold. It sees no label. The same code runs over whole evaluations, to
draw what every threshold would have done, and step by step, where the puzzles that stop leave the
batch (`pir.exits.early_exit`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pir.errors import UserError

THRESHOLDS = 33
"""Thresholds tried per rule, quantiles of its signal."""

Values = Mapping[str, Tensor]
"""Statistics by name, each float32 of shape (B, k): of B puzzles at their steps 1 .. k."""


class ExitRule(ABC):
    """When to stop.

    Args:
        threshold: stops at the first step with signal >= threshold, in the rule's own unit; None
            to have it chosen on validation puzzles.

    Attributes:
        needs: the statistics that the signal is made of (`pir.ledger.statistics`).
        bound: whether it looks ahead, and so is no rule that can be run but a bound on all.
        learns: whether it must be fitted before it says anything.
    """

    needs: tuple[str, ...] = ()
    bound: bool = False
    learns: bool = False

    def __init__(self, threshold: float | None = None) -> None:
        """Keeps the threshold."""
        self.threshold = threshold

    @abstractmethod
    def signal(self, values: Values) -> Tensor:
        """Returns the signal after every step, float32 of shape (B, k), from steps up to it."""

    def candidates(self, signal: Tensor) -> list[float]:
        """Returns the thresholds to choose from: quantiles of signals on validation (N, K).

        Each lies halfway between a signal that was seen and the next smaller one, so that the
        rounding of another device or batch does not decide who stops. Infinite signals stop always
        or never: thresholds are finite, and the first stops at every signal that is.
        """
        finite = signal[signal.isfinite()].numpy()
        if finite.size == 0:
            return [0.0]
        seen = np.unique(finite.astype(np.float64))
        chosen = np.quantile(finite, np.linspace(0, 1, THRESHOLDS), method="lower")
        index = np.searchsorted(seen, chosen)
        smaller = np.append(2 * seen[0] - seen[-1], seen)[index]
        return [float(q) for q in (smaller + seen[index]) / 2]

    def fit(self, values: Values) -> None:  # noqa: B027, most rules have nothing to learn
        """Learns from rollouts of whole length on validation puzzles."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what `fit` learnt, as numbers and lists of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Takes back what `fit` learnt."""

    def unit(self, threshold: float) -> float:
        """Returns a threshold on the signal in the rule's own unit, and back again."""
        return threshold


class Wait(ExitRule):
    """Stops when something has come true, a signal of 1; there is no threshold to choose."""

    def __init__(self, threshold: float | None = None) -> None:
        """Takes 1 for the threshold."""
        super().__init__(1.0 if threshold is None else threshold)


class Below(ExitRule):
    """Stops when a quantity, the one statistic that it needs, falls to the threshold or below."""

    def quantity(self, values: Values) -> Tensor:
        """Returns what must fall, float32 of shape (B, k)."""
        return values[self.needs[0]]

    def signal(self, values: Values) -> Tensor:
        """Returns minus the quantity."""
        return -self.quantity(values)

    def unit(self, threshold: float) -> float:
        """Turns the sign, so that users give the threshold as they read the quantity."""
        return -threshold


class FixedDepth(ExitRule):
    """Stops after as many steps as the threshold says."""

    needs = ("solved",)

    def signal(self, values: Values) -> Tensor:
        """Returns the number of the step."""
        steps = torch.arange(1, values["solved"].shape[1] + 1, device=values["solved"].device)
        return steps.float().expand(values["solved"].shape)

    def candidates(self, signal: Tensor) -> list[float]:
        """Returns every depth."""
        return [float(k) for k in range(1, signal.shape[1] + 1)]


class HaltHead(ExitRule):
    """Stops when the halt head gives the answer at least this probability of being right.

    Source: TRM (arXiv:2510.04871, section 4.6), where the threshold is one half.
    """

    needs = ("halt_probability",)

    def signal(self, values: Values) -> Tensor:
        """Returns the probability."""
        return values["halt_probability"]


class ExitGate(ExitRule):
    """Stops when the probability of having stopped by now reaches the threshold.

    The halt head's probability is taken as the chance lambda_t to stop at step t if it has not
    stopped before, so CDF(t) = 1 - prod_{j <= t} (1 - lambda_j) (Ouro, arXiv:2510.25741, Q-exit).
    """

    needs = ("halt_probability",)

    def signal(self, values: Values) -> Tensor:
        """Returns the cumulative distribution of the exit step."""
        return 1 - (1 - values["halt_probability"]).cumprod(1)


class KLThreshold(Below):
    """Stops when a step moved the policy by few enough nats per cell, KL(c || u).

    Source: recurrent-depth transformers (arXiv:2502.05171), there 5e-4 between read-outs.
    """

    needs = ("kl",)


class StateChange(Below):
    """Stops when a step changed the state by a small enough share of its norm.

    Source: fixed-point residuals, as in deep-equilibrium reasoners (arXiv:2605.21488).
    """

    needs = ("state_change",)


class Entropy(Below):
    """Stops when the policy is sure enough: its mean entropy, in nats per cell."""

    needs = ("entropy",)


class Verifier(Wait):
    """Stops when the verifier accepts the answer: puzzles have a verifier at test time too."""

    needs = ("solved",)

    def signal(self, values: Values) -> Tensor:
        """Returns 1 where the answer is right, 0 elsewhere."""
        return values["solved"]


class Oracle(Wait):
    """The bound: stops at the first right answer, and at once where none will come.

    It looks ahead, so it cannot be run. No rule solves more, and none that solves as much is
    faster.
    """

    needs, bound = ("solved",), True

    def signal(self, values: Values) -> Tensor:
        """Returns 1 where it may stop, 0 elsewhere."""
        solved = values["solved"]
        return torch.maximum(solved, 1 - solved.amax(1, keepdim=True))


def worth_going_on(gain: Tensor) -> Tensor:
    """Returns the target of a gate that goes on where there is a gain I: sigmoid(50 (I - 0.005)).

    Source: the second stage of LoopLM (arXiv:2510.25741, section 3.4), there of a log-probability.
    """
    return (50.0 * (gain - 0.005)).sigmoid()


class PredictedGain(Below):
    """Stops when a small head predicts that no later step will gain.

    The head is trained on the ledger's own gains, the network frozen, as the exit gate of Ouro's
    second stage (arXiv:2510.25741): the target is `worth_going_on` of an improvement I.
    There I is the next step's fall in loss; here it is the most that the score still rises up to
    the trained depth, so that a pause in the middle does not read as the end.

    Args:
        threshold: predicted probability of a further gain, in [0, 1]; see `ExitRule`.
    """

    needs = ("kl", "reverse_kl", "state_change", "entropy", "flips")
    learns = True
    HIDDEN, UPDATES = 16, 400

    def __init__(self, threshold: float | None = None) -> None:
        """Builds the head; it says nothing before it is fitted."""
        super().__init__(threshold)
        inputs = len(self.needs) + 1
        self.head = nn.Sequential(
            nn.Linear(inputs, self.HIDDEN), nn.Tanh(), nn.Linear(self.HIDDEN, 1)
        )
        self.centre, self.scale = torch.zeros(inputs), torch.ones(inputs)

    def quantity(self, values: Values) -> Tensor:
        """Returns the predicted probability that a later step gains."""
        with torch.no_grad():
            return self._logit(self._inputs(values)).sigmoid().to(values["kl"].device)

    def fit(self, values: Values) -> None:
        """Trains the head on rollouts (B, K) with `score` beside the inputs.

        Raises:
            UserError: if the rollouts are one step long, so that nothing could follow a step.
        """
        score = values["score"].cpu()
        if score.shape[1] < 2:
            raise UserError("exit=predicted_gain: there is no step after the first to predict")
        later = score.flip(1).cummax(1).values.flip(1)[:, 1:]
        target = worth_going_on(later - score[:, :-1]).flatten()
        inputs = self._inputs(values)[:, :-1].flatten(0, 1)
        self.centre, self.scale = inputs.mean(0), inputs.std(0, correction=0).clamp(min=1e-3)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.default_generator.manual_seed(0)  # CUDA's streams stay as they are
            for layer in (self.head[0], self.head[2]):
                layer.reset_parameters()  # type: ignore[operator]
            optimizer = torch.optim.AdamW(self.head.parameters(), lr=0.02, weight_decay=0.01)
            for _ in range(self.UPDATES):
                loss = nn.functional.binary_cross_entropy_with_logits(self._logit(inputs), target)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    def _inputs(self, values: Values) -> Tensor:
        """Returns the logarithms of the statistics and of the step, (B, k, inputs), for the CPU."""
        columns = [(values[name].cpu() + 1e-6).log() for name in self.needs]
        shape = columns[0].shape
        step = torch.arange(1, shape[1] + 1, dtype=torch.float32)
        return torch.stack([*columns, step.log().expand(shape)], -1)

    def _logit(self, inputs: Tensor) -> Tensor:
        logit: Tensor = self.head((inputs - self.centre) / self.scale).squeeze(-1)
        return logit

    def state_dict(self) -> dict[str, Any]:
        """Returns the head's weights as lists."""
        tensors = {**self.head.state_dict(), "centre": self.centre, "scale": self.scale}
        return {name: tensor.tolist() for name, tensor in tensors.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the weights back."""
        tensors = {name: torch.tensor(value) for name, value in state.items()}
        self.centre, self.scale = tensors.pop("centre"), tensors.pop("scale")
        self.head.load_state_dict(tensors)


def exit_steps(signal: Tensor, threshold: float) -> Tensor:
    """Returns the step, from 1, at which each puzzle stops: int64 (B,) for signals (B, K).

    The first step whose signal reaches the threshold, the last one if none does.
    """
    reached = signal >= threshold
    reached[:, -1] = True
    return reached.int().argmax(1) + 1
