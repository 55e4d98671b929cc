"""What holds of every reasoner: composition, batches, dtypes, gradients, what is told and read."""

from functools import partial
from pathlib import Path

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from tensordict import TensorDict

from pir.errors import UserError
from pir.models.dual import Dual, SoftEmbedding
from pir.models.feedforward import FeedForward
from pir.models.hrm import HRM
from pir.models.looped import Looped
from pir.models.recurrent_depth import RecurrentDepth
from pir.models.trm import TRM
from pir.reasoner import MASKED_LOGIT
from pir.rollout import begin, improve
from pir.runs.folder import RunFolder
from pir.runs.load import load_trained
from pir.settings import plugins
from tests.conftest import TINY
from tests.small_reasoners import GPT2, QWEN3, SMALL, language_model, logits, run, start

REASONERS = {
    "trm": lambda: TRM,
    "trm without z": lambda: partial(TRM, latents=0),
    "trm of two z": lambda: partial(
        TRM, latents=2, latent_steps=3, separate_networks=True, cycles=2
    ),
    "trm, averaged": lambda: partial(TRM, running_average=True, cycles=2),
    "hrm": lambda: HRM,
    "looped": lambda: Looped,
    "deep thinking": lambda: partial(Looped, recall=True),
    "recurrent depth": lambda: RecurrentDepth,
    "dual": lambda: Dual,
    "dual by cache": lambda: partial(Dual, channel="cache"),
    "dual, frozen": lambda: partial(Dual, train_base=False),
    "soft embedding": lambda: SoftEmbedding,
    "feedforward": lambda: FeedForward,
    "gpt2": lambda: language_model(GPT2),
    "qwen3 by cache": lambda: language_model(QWEN3, channel="cache"),
}


@pytest.fixture(scope="module")
def puzzle():
    return Countdown()


@pytest.fixture(params=REASONERS)
def build(request, puzzle):
    """Builds a small reasoner with given options, always with the same parameters."""
    kind = REASONERS[request.param]()

    def make(**options):
        torch.manual_seed(0)
        return kind(puzzle, **(SMALL | options))

    return make


def test_a_reasoner_says_whether_gradient_reaches_through_a_step(build, question):
    model = build()
    before = (
        run(model, question, 2)
        .detach()
        .apply(lambda x: x.requires_grad_() if x.is_floating_point() else x)
    )
    after = logits(model, run(model, question, 1, before, first=3))
    leaves = [x for x in before.values(True, True) if x.requires_grad]
    reached = torch.autograd.grad(after.sum(), leaves, allow_unused=True)
    found = [g is not None and bool(g.count_nonzero()) for g in reached]
    assert any(found) == model.carries_gradient


def test_k_steps_then_k_more_are_2k_steps(build, question):
    model = build()
    halfway = run(model, question, 2)
    assert torch.equal(
        logits(model, run(model, question, 4)),
        logits(model, run(model, question, 2, halfway, first=3)),
    )


def test_a_puzzle_does_not_see_its_neighbours(build, question):
    model = build()
    state = start(model, question)
    together = logits(model, run(model, question, 2, state))
    alone = [run(model, q[None], 2, state[i : i + 1]) for i, q in enumerate(question)]
    assert torch.allclose(together, torch.cat([logits(model, end) for end in alone]), atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_bfloat16_is_close_to_float32(build, question, puzzle):
    exact, rounded = build(hidden_size=64), build(hidden_size=64, dtype="bfloat16")
    assert all(p.dtype == torch.float32 for p in rounded.parameters())
    one, other = (logits(m, run(m, question, 2))[:, puzzle.slot_mask] for m in (exact, rounded))
    assert (one - other).abs().mean() < 0.03
    assert (one - other).abs().max() < 0.3


@pytest.mark.parametrize(
    "build",
    [pytest.param(n, marks=[pytest.mark.slow] if n != "trm" else []) for n in REASONERS],
    indirect=True,
)
def test_compiled_is_eager(build, question):
    """The whole step is traced and differentiated; the back end that needs no compiler."""
    model = build()
    k = torch.ones(len(question), dtype=torch.int64)
    state = start(model, question)

    def loss(improve):
        return logits(model, improve(question, state, k)).softmax(-1).square().sum()

    parameters = [p for p in model.parameters() if p.requires_grad]
    torch._dynamo.reset()
    compiled = torch.compile(model.improve, backend="aot_eager")
    values, slopes = [], []
    for step in (model.improve, compiled):
        value = loss(step)
        values.append(value)
        slopes.append(torch.autograd.grad(value, parameters, materialize_grads=True))
    assert torch.allclose(*values, rtol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*slopes, strict=True))


def test_gradient_reaches_all_that_is_trained_and_nothing_else(build, question, puzzle):
    model = build(halt_head=True, continue_head=True, value_head=True)
    lanes = begin(model, puzzle, puzzle.sample(5, "train", seed=0))
    for _ in range(2):
        lanes, step = improve(model, puzzle, lanes)
        heads = (step.after.halt_logit, step.after.continue_logit, step.after.value)
        (step.after.logits.logsumexp(-1).sum() + sum(head.sum() for head in heads)).backward()
    for name, p in model.named_parameters():
        assert p.requires_grad == (p.grad is not None and bool(p.grad.any())), name


def test_logits_keep_to_the_slot_mask(build, question, puzzle):
    model = build()
    found = logits(model, run(model, question, 1))
    assert found.shape == (5, *puzzle.slot_mask.shape)
    assert found.dtype == torch.float32
    assert (found[:, ~puzzle.slot_mask] == MASKED_LOGIT).all()
    assert (found[:, puzzle.slot_mask] > MASKED_LOGIT / 2).all()


def test_conditions_change_the_policy(build, question, puzzle):
    model = build(step_embedding=True, optimality_token=True, partial_answer=True)
    torch.manual_seed(3)
    torch.nn.init.normal_(model.conditioning.optimality.weight)
    state = run(model, question, 1)

    def after(k, **told):
        nothing = torch.zeros(5, *puzzle.slot_mask.shape)
        told = {"optimality": torch.zeros(5, dtype=torch.int64), "partial_answer": nothing} | told
        torch.manual_seed(4)
        condition = TensorDict(told, batch_size=[5])
        improved = model.improve(question, state, torch.full((5,), k), condition)
        return logits(model, improved)

    plain = after(2)
    shown = torch.nn.functional.one_hot(question.long() * 0 + 3, len(puzzle.vocabulary)).float()
    good = torch.ones(5, dtype=torch.int64)
    others = [after(2, optimality=good), after(2, partial_answer=shown)]
    if isinstance(model, FeedForward):  # it has one step, and no other to tell it from
        assert torch.equal(plain, after(3))
    else:
        others.append(after(3))
    for other in others:
        assert (plain - other).abs().max() > 1e-4
    assert torch.equal(plain, after(2))


def test_the_question_is_read_at_every_step_except_by_a_loop(build, question):
    """A looped transformer without recall has only its own output after the first step."""
    model = build()
    state = run(model, question, 1)
    same = logits(model, run(model, question, 1, state, first=2))
    other = logits(model, run(model, question.flip(0), 1, state, first=2))
    loops = isinstance(model, Looped) and model.adapter is None
    assert torch.equal(same, other) == loops


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (HRM, {"low_cycles": 0}, r"model\.low_cycles=0: must be at least 1"),
        (Looped, {"layers": 0}, r"model\.layers=0"),
        (RecurrentDepth, {"core_layers": 0}, r"model\.core_layers=0"),
        (Dual, {"latents": 0}, r"model\.latents=0"),
        (Dual, {"channel": "wire"}, r"model\.channel=wire: allowed are embeddings, cache"),
        (Dual, {"mixer": "mlp"}, r"model\.mixer=mlp: allowed are attention"),
        (TRM, {"latents": 0, "separate_networks": True}, "without z"),
        (FeedForward, {"hidden_size": 0}, r"model\.hidden_size=0"),
    ],
)
def test_settings_out_of_range_are_refused(puzzle, kind, options, message):
    with pytest.raises(UserError, match=message):
        kind(puzzle, **(SMALL | options))


def test_the_reasoner_of_the_documentation_trains(pir_here, tmp_path, monkeypatch):
    text = (Path(__file__).parent.parent / "docs" / "reasoners.md").read_text()
    (tmp_path / "averaging.py").write_text(text.split("```python\n")[1].split("```")[0])
    (tmp_path / "model").mkdir()
    settings = text.split("`model/averaging.yaml`")[1]
    (tmp_path / "model/averaging.yaml").write_text(settings.split("```yaml\n")[1].split("```")[0])
    words = [word for word in TINY if "latent_steps" not in word]
    run = tmp_path / "run"
    pir_here("train", "model=averaging", f"--config-dir={tmp_path}", *words, f"run={run}")
    monkeypatch.setattr(plugins, "folders", [tmp_path])
    monkeypatch.syspath_prepend(tmp_path)
    parts = load_trained(RunFolder(run), "cpu")[0].reasoner
    assert type(parts).__name__ == "Averaging"
    assert parts.passes_per_step == 1
