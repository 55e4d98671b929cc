"""A reasoner as actor and critic of TorchRL's algorithms, over `PuzzleEnv`.

    env = with_latents(PuzzleEnv(puzzle, num_envs=256, horizon=3), reasoner)
    actor, critic = actor_and_critic(reasoner, puzzle)

The actor takes one improvement step: it reads the question, the answer written so far and the
reasoner's latents, draws a revised answer, and keeps the new latents in the data, as recurrent
policies of TorchRL do. `examples/torchrl_ppo.py` trains one.
"""

import torch
from pir.envs.views.torchrl_view import PuzzleEnv
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModuleBase,
)
from torch import Tensor
from torch.distributions import Categorical
from torchrl.data import Composite, Unbounded
from torchrl.envs import TensorDictPrimer, TransformedEnv

from pir.errors import UserError
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.system.device import device_of

LATENTS = "latents"
"""The key under which a tensordict holds the latents before a step, by name."""


class AnswerDistribution(Categorical):
    """Answers whose written cells are drawn each by itself; the other cells do not count.

    Args:
        logits: float32 of shape (..., L, V).
        written: bool of shape (..., L).
    """

    def __init__(self, logits: Tensor, written: Tensor) -> None:
        """Takes the policy."""
        super().__init__(logits=logits, validate_args=False)
        self.is_written = written

    @property
    def deterministic_sample(self) -> Tensor:
        """The most likely answer."""
        return self.mode

    def log_prob(self, answer: Tensor) -> Tensor:
        """Returns log p(answer), shape (...), of answers (..., L)."""
        return (super().log_prob(answer) * self.is_written).sum(-1)  # type: ignore[no-any-return,no-untyped-call]

    def entropy(self) -> Tensor:
        """Returns the entropy in nats per answer, shape (...)."""
        return (super().entropy() * self.is_written).sum(-1)  # type: ignore[no-any-return,no-untyped-call]


class _Step(TensorDictModuleBase):  # type: ignore[misc]
    """The improvement step that actor and critic share: the answer held is read, none is drawn."""

    def __init__(self, reasoner: Reasoner, puzzle: Puzzle) -> None:
        super().__init__()
        self.reasoner, self.puzzle = reasoner, puzzle
        self.latents = [(LATENTS, name) for name in sorted(_example(reasoner, puzzle).keys())]
        self.in_keys = ["question", "answer", "score", "step", *self.latents]

    def taken(self, rows: TensorDictBase) -> TensorDict:
        """Returns the latents after a step of rows (B,); before the first they are a start's."""
        question, k = rows["question"], rows["step"][:, 0] + 1
        state = self.reasoner.start(question)
        for name, start in state.items():
            begins = (rows["step"] == 0).view(-1, *(1 for _ in start.shape[1:]))
            state[name] = torch.where(begins, start, rows[LATENTS, name].to(start.dtype))
        context = self.reasoner.context(question)
        if "written_answer" in context.keys():  # noqa: SIM118, a TensorDict has no `in`
            context["written_answer"] = rows["answer"]
        return self.reasoner.improve(question, state, k, context)


class Revision(_Step):
    """Takes one improvement step: logits, the positions that are written, and the new latents."""

    def __init__(self, reasoner: Reasoner, puzzle: Puzzle) -> None:
        """Names what is read and written."""
        super().__init__(reasoner, puzzle)
        self.out_keys = ["logits", "written", *(("next", *key) for key in self.latents)]

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Writes them into data of any batch size."""
        rows = data.reshape(-1)
        state = self.taken(rows)
        found = {"logits": self.reasoner.read_out(state).logits}
        found["written"] = self.puzzle.written(rows["question"])
        for key, value in found.items():
            data[key] = value.view(*data.shape, *value.shape[1:])
        for _, name in self.latents:
            value = state[name].detach().float()
            data["next", LATENTS, name] = value.view(*data.shape, *value.shape[1:])
        return data


class Value(_Step):
    """Estimates the score that is still gained, `state_value`; see `PPO` on what it reads."""

    def __init__(self, reasoner: Reasoner, puzzle: Puzzle) -> None:
        """Names what is written."""
        super().__init__(reasoner, puzzle)
        self.out_keys = ["state_value"]

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Writes it into data of any batch size."""
        rows = data.reshape(-1)
        value = self.reasoner.read_out(self.taken(rows)).value
        assert value is not None
        data["state_value"] = (value[:, None] - rows["score"]).view(*data.shape, 1)
        return data


def actor_and_critic(
    reasoner: Reasoner, puzzle: Puzzle
) -> tuple[ProbabilisticTensorDictSequential, Value]:
    """Returns a reasoner as actor and critic, which share its parameters.

    Raises:
        UserError: if it does not read the answer written so far, reads more that changes with it,
            draws its start, or has no value head.
    """
    if "written_answer" not in reasoner.inputs:
        raise UserError("the reasoner does not read the answer written so far: written_answer=True")
    if others := reasoner.inputs & {"own_answer", "partial_answer"}:
        raise UserError(f"the reasoner reads {', '.join(sorted(others))}, which the data lack")
    starts = [_example(reasoner, puzzle) for _ in range(2)]
    if not all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0].keys()):  # noqa: SIM118
        raise UserError("the reasoner draws its start anew each time, which ratios do not allow")
    if reasoner.read_out(_example(reasoner, puzzle)).value is None:
        raise UserError("the reasoner has no value head: value_head=True")
    draw = ProbabilisticTensorDictModule(
        in_keys=["logits", "written"],
        out_keys=["action"],
        distribution_class=AnswerDistribution,
        return_log_prob=True,
    )
    actor = ProbabilisticTensorDictSequential(Revision(reasoner, puzzle), draw)
    return actor, Value(reasoner, puzzle)


def with_latents(env: PuzzleEnv, reasoner: Reasoner) -> TransformedEnv:
    """Returns an environment whose data hold the reasoner's latents, zeros at first."""
    rows = env.batch_size[0]
    specs = {
        name: Unbounded((rows, *part.shape[1:]), device=env.device, dtype=torch.float32)
        for name, part in _example(reasoner, env.puzzle).items()
    }
    primer = TensorDictPrimer({LATENTS: Composite(specs, shape=(rows,))}, expand_specs=False)
    return TransformedEnv(env, primer)


def _example(reasoner: Reasoner, puzzle: Puzzle) -> TensorDict:
    """Returns the start of one puzzle."""
    device = device_of(reasoner)
    return reasoner.start(puzzle.sample(1, "train", seed=0)["question"].to(device))
