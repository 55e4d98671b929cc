"""What holds of every reasoner: composition, batches, dtypes, gradients, costs; and of each."""

import importlib
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from pir.envs.countdown import Countdown
from pir.envs.sudoku import Sudoku

from pir.components import Components
from pir.cost import flops_per_step
from pir.errors import UserError
from pir.improvement import Lanes, improvement_steps
from pir.models.dual import Dual, SoftEmbedding
from pir.models.feedforward import FeedForward
from pir.models.hrm import HRM
from pir.models.layers import rms_norm
from pir.models.looped import Looped
from pir.models.network import Network
from pir.models.recurrent_depth import RecurrentDepth
from pir.models.speakers import Transformer
from pir.models.trm import TRM
from pir.reasoner import NEVER, Condition
from tests import conftest
from tests.conftest import compose_config

SMALL = {"hidden_size": 16, "heads": 2, "dtype": "float32"}
GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 60000}
QWEN3 = {
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 32,
    "vocab_size": 10,
}


def language_model(config, **options):
    pytest.importorskip("transformers")
    from pir.models.causal_lm import CausalLM

    return partial(Dual, backbone=CausalLM(config=config), **options)


REASONERS = {
    "trm": lambda: TRM,
    "trm without z": lambda: partial(TRM, latents=0),
    "trm of two z": lambda: partial(
        TRM, latents=2, latent_steps=3, separate_networks=True, cycles=2
    ),
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


SLOW_TO_COMPILE = ("trm of two z", "gpt2", "qwen3 by cache")


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


@pytest.fixture(scope="module")
def question(puzzle):
    return puzzle.sample(5, "train", seed=0)["question"]


def start(model, question):
    torch.manual_seed(1)  # for reasoners that draw their start
    with torch.no_grad():
        return model.start(question)


def run(model, question, num_steps, state=None, first=1):
    state = start(model, question) if state is None else state
    for k in range(first, first + num_steps):
        state = model.improve(question, state, torch.full((len(question),), k))
    return state


def logits(model, state):
    return model.read_out(state).logits


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
    [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW_TO_COMPILE else []) for n in REASONERS],
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
    for improve in (model.improve, compiled):
        value = loss(improve)
        values.append(value)
        slopes.append(torch.autograd.grad(value, parameters, materialize_grads=True))
    assert torch.allclose(*values, rtol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*slopes, strict=True))


def test_gradient_reaches_all_that_is_trained_and_nothing_else(build, question, puzzle):
    model = build(halt_head=True, continue_head=True, value_head=True)
    lanes = Lanes.begin(model, puzzle, puzzle.sample(5, "train", seed=0))
    for step in improvement_steps(model, puzzle, lanes, 2):
        policy = step.improved
        (policy.logits.logsumexp(-1).sum() + sum(head.sum() for head in policy[1:])).backward()
    for name, p in model.named_parameters():
        assert p.requires_grad == (p.grad is not None and bool(p.grad.any())), name


def test_logits_keep_to_the_slot_mask(build, question, puzzle):
    model = build()
    found = logits(model, run(model, question, 1))
    assert found.shape == (5, *puzzle.slot_mask.shape)
    assert found.dtype == torch.float32
    assert (found[:, ~puzzle.slot_mask] == NEVER).all()
    assert (found[:, puzzle.slot_mask] > NEVER / 2).all()


def test_what_is_told_is_heard(build, question, puzzle):
    model = build(step_embedding=True, optimality_token=True, partial_answer=True)
    torch.manual_seed(3)
    torch.nn.init.normal_(model.conditioning.optimality.weight)
    state = run(model, question, 1)

    def after(k, **told):
        nothing = torch.zeros(5, *puzzle.slot_mask.shape)
        told = {"optimality": torch.zeros(5, dtype=torch.int64), "partial_answer": nothing} | told
        torch.manual_seed(4)
        improved = model.improve(question, state, torch.full((5,), k), Condition(**told))
        return logits(model, improved)

    plain = after(2)
    shown = torch.nn.functional.one_hot(question.long() * 0 + 3, len(puzzle.vocabulary)).float()
    good = torch.ones(5, dtype=torch.int64)
    for other in (after(3), after(2, optimality=good), after(2, partial_answer=shown)):
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


# --- costs ----------------------------------------------------------------------------------------

PASSES = {
    "trm": (TRM, {}, 3),
    "trm, deep": (TRM, {"cycles": 3, "latent_steps": 6}, 21),
    "trm without z": (TRM, {"latents": 0}, 3),
    "trm of two z": (TRM, {"latents": 2, "separate_networks": True}, 3),
    "hrm": (HRM, {}, 6),
    "hrm, deep": (HRM, {"high_cycles": 3, "low_cycles": 4}, 15),
    "looped": (Looped, {}, 1),
    "deep thinking": (Looped, {"recall": True}, 1),
    "recurrent depth": (RecurrentDepth, {}, 3),  # one of them the coda, in the read-out
    "dual": (Dual, {}, 3),
    "dual by cache": (Dual, {"channel": "cache"}, 3),
    "soft embedding": (SoftEmbedding, {}, 3),
    "feedforward": (FeedForward, {}, 1),
}


def layer_flops(tokens, attended, width, inner):
    """Of one attention block: four maps, scores and mixture, and three maps of the MLP."""
    return 2 * tokens * (4 * width**2 + 2 * attended * width + 3 * width * inner)


@pytest.mark.parametrize("name", PASSES)
def test_passes_are_evaluations_of_networks(name, puzzle, question, monkeypatch):
    kind, options, passes = PASSES[name]
    model = kind(puzzle, **SMALL, **options)
    calls, forward = [], Network.forward

    def counted(self, x, *rest, **more):
        calls.append(1)
        return forward(self, x, *rest, **more)

    monkeypatch.setattr(Network, "forward", counted)
    model.read_out(run(model, question, 1))
    assert len(calls) == model.passes_per_step == passes


@pytest.mark.parametrize("name", PASSES)
def test_operations_by_hand(name, puzzle, question):
    kind, options, passes = PASSES[name]
    model = kind(puzzle, **SMALL, **options)
    length, width, inner, n = puzzle.length, 16, 48, 4
    layer = layer_flops(length, length, width, inner)
    adapter = 2 * length * 2 * width * width
    thought = layer_flops(n, length + n, width, inner)
    beside = length + n + (n if options.get("channel") == "cache" else 0)
    exchange = layer + thought + layer_flops(length + n, beside, width, inner)
    expected = {
        Looped: 2 * layer + (adapter if options else 0),
        FeedForward: 2 * layer,
        TRM: passes * 2 * layer,
        HRM: passes * layer,
        RecurrentDepth: 4 * layer + adapter,
        Dual: 2 * exchange,
        SoftEmbedding: 2 * exchange,
    }
    read_out = 2 * length * width * len(puzzle.vocabulary)
    assert flops_per_step(model, question[:1]) == expected[kind] + read_out


@pytest.fixture
def full_size(monkeypatch):
    """Composes settings as they are, not shrunk."""
    monkeypatch.setattr(conftest, "TINY", [])
    return lambda *words: Components.build(compose_config(*words, "device=cpu")).reasoner


@pytest.mark.parametrize(
    ("model", "millions", "passes"),
    [("trm_7m", (6.5, 7.3), 336), ("trm_5m", (4.6, 5.4), 336), ("hrm_27m", (26.5, 28.0), 96)],
)
def test_published_sizes(full_size, model, millions, passes):
    reasoner = full_size("env=sudoku9", f"model={model}")
    low, high = millions
    assert low < reasoner.parameter_count() / 1e6 < high
    assert reasoner.improvement_steps * reasoner.passes_per_step == passes


def test_presets_have_as_many_parameters_as_each_other(full_size):
    names = ("trm", "hrm", "looped", "recurrent_depth", "dual", "soft_embedding", "feedforward")
    counts = [full_size("env=countdown", f"model={name}").parameter_count() for name in names]
    assert max(counts) < 1.06 * min(counts)


# --- each its own ---------------------------------------------------------------------------------


def gradients(model, value):
    return torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)


def energy(model, state):
    return logits(model, state).softmax(-1).square().sum()


def test_hrm_has_the_gradient_of_one_update_of_either_latent(puzzle, question):
    torch.manual_seed(0)
    model = HRM(puzzle, high_cycles=2, low_cycles=3, **SMALL)
    first = start(model, question)
    ours = gradients(model, energy(model, run(model, question, 1, first)))
    high, low = first["high"], first["low"]
    with torch.no_grad():
        x = model.embed(question)
        for _ in range(3):
            low = model.f_low(low + high + x)
        high = model.f_high(high + low)
        for _ in range(2):
            low = model.f_low(low + high + x)
    low = model.f_low(low + high + model.embed(question))
    high = model.f_high(high + low)
    slow = gradients(model, energy(model, {"high": high, "low": low}))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(ours, slow, strict=True))


def test_many_z_take_turns(puzzle, question):
    torch.manual_seed(0)
    model = TRM(puzzle, latents=2, latent_steps=3, separate_networks=True, **SMALL)
    state = run(model, question, 1)
    x, first = model.embed(question), start(model, question)
    y, one, two = first["y"], first["z1"], first["z2"]
    one = model.f(x + y + one + two)
    two = model.f(x + y + one + two)
    one = model.f(x + y + one + two)
    y = model.f_y(y + one + two)
    for name, expected in (("y", y), ("z1", one), ("z2", two)):
        assert torch.allclose(state[name], expected, atol=1e-5)
    with pytest.raises(UserError, match=r"model\.latents=4"):
        TRM(puzzle, latents=4, latent_steps=3, **SMALL)


def test_recurrent_depth_by_hand_and_through_the_last_eight_steps(puzzle):
    torch.manual_seed(0)
    model = RecurrentDepth(puzzle, **SMALL)
    puzzles = puzzle.sample(3, "train", seed=0)
    question = puzzles["question"]
    torch.manual_seed(1)
    lanes = Lanes.begin(model, puzzle, puzzles)
    s = lanes.state["s"]
    *_, last = improvement_steps(model, puzzle, lanes, 12, backprop_steps=8)
    assert 0.5 < s.std() < 0.7

    def core(s):
        return model.core(model.adapter(torch.cat([s, model.prelude(model.embed(question))], -1)))

    with torch.no_grad():
        for _ in range(4):
            s = core(s)
    for _ in range(8):
        s = core(s)
    slow = model.logit_head(model.coda(s)).masked_fill(~puzzle.slot_mask, NEVER)
    assert torch.allclose(last.improved.logits, slow, atol=1e-5)
    ours, expected = (
        gradients(model, found.softmax(-1).square().sum()) for found in (last.improved.logits, slow)
    )
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("recall", [False, True])
def test_loops_by_hand_and_through_all_of_them(puzzle, recall):
    torch.manual_seed(0)
    model = Looped(puzzle, recall=recall, **SMALL)
    puzzles = puzzle.sample(3, "train", seed=0)
    lanes = Lanes.begin(model, puzzle, puzzles)
    *_, last = improvement_steps(model, puzzle, lanes, 3, backprop_steps=3)
    x = model.embed(puzzles["question"])
    h = torch.zeros_like(x) if recall else x
    for _ in range(3):
        h = model.f(model.adapter(torch.cat([h, x], -1)) if recall else h)
    ours, slow = (
        gradients(model, found.softmax(-1).square().sum())
        for found in (last.improved.logits, logits(model, {"h": h}))
    )
    assert torch.allclose(last.improved.logits, logits(model, {"h": h}), atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, slow, strict=True))


def test_starts_of_recurrent_depth_differ(puzzle, question):
    model = RecurrentDepth(puzzle, **SMALL)
    assert model.stochastic
    assert not torch.equal(model.start(question)["s"], model.start(question)["s"])


def test_soft_embedding_is_one_network(puzzle):
    one, two = SoftEmbedding(puzzle, **SMALL), Dual(puzzle, **SMALL)
    assert one.base is one.coprocessor
    assert two.base is not two.coprocessor

    def size(model):
        return sum(p.numel() for n, p in model.named_parameters() if "network" in n)

    assert 2 * size(one) == size(two)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("make", [Countdown, Sudoku])
def test_a_cache_is_attended_to_beside_ones_own_tokens(make, plain, monkeypatch):
    """Layer by layer: keys and values of both, queries of the reader; relations on the board."""
    if not plain:
        monkeypatch.setattr("pir.models.layers.LONGEST_PLAIN", {})
    torch.manual_seed(0)
    puzzle = make()
    question = puzzle.sample(5, "train", seed=0)["question"]
    model = Dual(puzzle, channel="cache", **SMALL)
    x = model.embed(question)
    cache = model.base.read(x)
    latents = model.soft_tokens.expand(5, -1, -1)
    thought, thoughts = model.coprocessor.think(latents, cache)
    found = model.base.answer(x, cache, thought, thoughts)
    assert isinstance(model.base, Transformer)

    def slow(network, hidden, memory, on_board):
        for layer, (block, (keys, values)) in enumerate(zip(network.blocks, memory, strict=True)):
            q, k, v = block.mixer.qkv(hidden).view(5, -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
            known = keys.shape[2]
            k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
            scores = q @ k.mT / 8**0.5
            if on_board and network.relation_bias is not None:
                bias = 8 * network.relation_bias[layer][:, network.relations]
                scores[:, :, : puzzle.length, known : known + puzzle.length] += bias
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(5, -1, 16)
            hidden = rms_norm(hidden + block.mixer.out(mixed))
            hidden = rms_norm(hidden + block.feed_forward(hidden))
        return hidden

    assert torch.allclose(
        thought, slow(model.coprocessor.network, latents, cache, False), atol=1e-5
    )
    expected = slow(model.base.network, torch.cat([x, thought], 1), thoughts, True)
    assert torch.allclose(found, expected[:, : x.shape[1]], atol=1e-5)


@pytest.mark.parametrize("config", [GPT2, QWEN3])
def test_language_models_read_one_sequence(config, puzzle, question):
    """Question, latents: what the cache holds is what reading all at once would attend to."""
    torch.manual_seed(0)
    speaker = language_model(config)(puzzle, **SMALL).base
    x, latents = torch.randn(5, 7, 16), torch.randn(5, 4, 16)
    cache = speaker.read(x)
    thought, thoughts = speaker.think(latents, cache)

    def at_once(*parts):
        inputs = speaker.enter(torch.cat(parts, 1))
        return speaker.leave(speaker.body(inputs_embeds=inputs, use_cache=False).last_hidden_state)

    assert torch.allclose(thought, at_once(x, latents)[:, -4:], atol=1e-5)
    beside = speaker.answer(x, cache, thought, None)
    assert torch.allclose(beside, at_once(x, thought, x)[:, -7:], atol=1e-5)
    after = speaker.answer(x, cache, thought, thoughts)
    assert torch.allclose(after, at_once(x, latents, thought, x)[:, -7:], atol=1e-5)


def test_feedforward_answers_at_once(puzzle, question):
    model = FeedForward(puzzle, improvement_steps=4, **SMALL)
    assert model.improvement_steps == 1
    assert torch.equal(run(model, question, 1)["y"], run(model, question, 3)["y"])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (HRM, {"low_cycles": 0}, r"model\.low_cycles=0: must be at least 1"),
        (Looped, {"layers": 0}, r"model\.layers=0"),
        (RecurrentDepth, {"core_layers": 0}, r"model\.core_layers=0"),
        (Dual, {"latents": 0}, r"model\.latents=0"),
        (Dual, {"channel": "wire"}, r"model\.channel=wire: allowed are embeddings, cache"),
        (Dual, {"mixer": "mlp"}, r"model\.mixer=mlp: allowed are attention"),
        (FeedForward, {"hidden_size": 0}, r"model\.hidden_size=0"),
    ],
)
def test_settings_out_of_range_are_refused(puzzle, kind, options, message):
    with pytest.raises(UserError, match=message):
        kind(puzzle, **(SMALL | options))


def test_language_models_say_what_they_need(monkeypatch):
    from pir.models.causal_lm import CausalLM

    for options in ({}, {"name": "gpt2", "config": GPT2}):
        with pytest.raises(UserError, match="give either name or config"):
            CausalLM(**options)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="need the extra lm"):
        CausalLM(config=GPT2)


HEADER = """
from typing import Unpack

import torch

from pir.models.puzzle_model import PuzzleModel, Shared
from pir.puzzle import Puzzle
"""


def test_the_reasoner_of_the_documentation_runs(puzzle, tmp_path, monkeypatch):
    text = (Path(__file__).parent.parent / "docs" / "reasoners.md").read_text()
    (tmp_path / "averaging.py").write_text(HEADER + text.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    model = importlib.import_module("averaging").Averaging(puzzle, **SMALL)
    lanes = Lanes.begin(model, puzzle, puzzle.sample(5, "train", seed=0))
    first, second = improvement_steps(model, puzzle, lanes, 2)
    assert not torch.equal(first.improved.logits, second.improved.logits)
    second.improved.logits.logsumexp(-1).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
