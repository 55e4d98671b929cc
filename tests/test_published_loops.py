"""Every paper's loop by hand: which network reads what, and where gradient goes."""

import sys
from types import SimpleNamespace

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.sudoku.rules import Sudoku

from pir.errors import UserError
from pir.models.cached_network import Transformer
from pir.models.causal_lm import _CachedLM
from pir.models.dual import Dual, SoftEmbedding
from pir.models.feedforward import FeedForward
from pir.models.hrm import HRM
from pir.models.looped import Looped
from pir.models.network import rms_norm
from pir.models.recurrent_depth import RecurrentDepth
from pir.models.trm import TRM
from pir.reasoner import MASKED_LOGIT
from pir.rollout import begin
from tests.objective_steps import take_steps
from tests.small_reasoners import GPT2, QWEN3, SMALL, language_model, logits, run, start


@pytest.fixture(scope="module")
def puzzle():
    return Countdown()


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
    lanes = begin(model, puzzle, puzzles)
    s = lanes.now.state["s"]
    *_, last = take_steps(model, puzzle, lanes, 12, backprop_steps=8)
    assert 0.5 < s.std() < 0.7

    def core(s):
        return model.core(model.adapter(torch.cat([s, model.prelude(model.embed(question))], -1)))

    with torch.no_grad():
        for _ in range(4):
            s = core(s)
    for _ in range(8):
        s = core(s)
    slow = model.logit_head(model.coda(s)).masked_fill(~puzzle.slot_mask, MASKED_LOGIT)
    assert torch.allclose(last.after.logits, slow, atol=1e-5)
    ours, expected = (
        gradients(model, found.softmax(-1).square().sum()) for found in (last.after.logits, slow)
    )
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("recall", [False, True])
def test_loops_by_hand_and_through_all_of_them(puzzle, recall):
    torch.manual_seed(0)
    model = Looped(puzzle, recall=recall, **SMALL)
    puzzles = puzzle.sample(3, "train", seed=0)
    lanes = begin(model, puzzle, puzzles)
    *_, last = take_steps(model, puzzle, lanes, 3, backprop_steps=3)
    x = model.embed(puzzles["question"])
    h = torch.zeros_like(x) if recall else x
    for _ in range(3):
        h = model.f(model.adapter(torch.cat([h, x], -1)) if recall else h)
    ours, slow = (
        gradients(model, found.softmax(-1).square().sum())
        for found in (last.after.logits, logits(model, {"h": h}))
    )
    assert torch.allclose(last.after.logits, logits(model, {"h": h}), atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, slow, strict=True))


def test_starts_of_recurrent_depth_differ(puzzle, question):
    model = RecurrentDepth(puzzle, **SMALL)
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
        monkeypatch.setattr("pir.models.network.LONGEST_PLAIN", {})
    torch.manual_seed(0)
    puzzle = make()
    question = puzzle.sample(5, "train", seed=0)["question"]
    model = Dual(puzzle, channel="cache", **SMALL)
    x = model.embed(question)
    cache = model.base.encode(x)
    latents = model.soft_tokens.expand(5, -1, -1)
    updated, latent_cache = model.coprocessor.update_latents(latents, cache)
    found = model.base.decode(x, cache, updated, latent_cache)
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
        updated, slow(model.coprocessor.network, latents, cache, False), atol=1e-5
    )
    expected = slow(model.base.network, torch.cat([x, updated], 1), latent_cache, True)
    assert torch.allclose(found, expected[:, : x.shape[1]], atol=1e-5)


@pytest.mark.parametrize("config", [GPT2, QWEN3])
def test_language_models_read_one_sequence(config, puzzle, question):
    """Question, latents: what the cache holds is what reading all at once would attend to."""
    torch.manual_seed(0)
    network = language_model(config)(puzzle, **SMALL).base
    x, latents = torch.randn(5, 7, 16), torch.randn(5, 4, 16)
    cache = network.encode(x)
    updated, latent_cache = network.update_latents(latents, cache)

    def at_once(*parts):
        inputs = network.enter(torch.cat(parts, 1))
        return network.leave(
            network.language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        )

    assert torch.allclose(updated, at_once(x, latents)[:, -4:], atol=1e-5)
    beside = network.decode(x, cache, updated, None)
    assert torch.allclose(beside, at_once(x, updated, x)[:, -7:], atol=1e-5)
    after = network.decode(x, cache, updated, latent_cache)
    assert torch.allclose(after, at_once(x, latents, updated, x)[:, -7:], atol=1e-5)


def test_feedforward_answers_at_once(puzzle, question):
    model = FeedForward(puzzle, improvement_steps=4, **SMALL)
    assert model.improvement_steps == 1
    assert torch.equal(run(model, question, 1)["y"], run(model, question, 3)["y"])


def test_a_pretrained_base_is_frozen_without_what_the_puzzle_needs(puzzle, tmp_path):
    transformers = pytest.importorskip("transformers")
    from pir.models.causal_lm import CausalLM

    fresh = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**GPT2))
    fresh.save_pretrained(tmp_path)
    model = Dual(puzzle, backbone=CausalLM(name=str(tmp_path)), train_base=False, **SMALL)
    assert not model.needs_init
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {name.rpartition("language_model")[0] for name in frozen} == {"base."}
    assert Dual(puzzle, backbone=CausalLM(config=GPT2), train_base=False, **SMALL).needs_init
    short = CausalLM(config=GPT2 | {"n_positions": 2 * (puzzle.length + 4) - 1})
    with pytest.raises(UserError, match=r"reads at most 19 tokens; .* are 20"):
        Dual(puzzle, backbone=short, **SMALL)


def test_language_models_say_what_they_need(monkeypatch):
    from pir.models.causal_lm import CausalLM

    for options in ({}, {"name": "gpt2", "config": GPT2}):
        with pytest.raises(UserError, match="give either name or config"):
            CausalLM(**options)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"model.backbone needs an extra: .*\[lm\]"):
        CausalLM(config=GPT2)


def test_a_language_model_has_no_dropout_while_it_trains():
    """Whatever mode the reasoner around it is put into."""
    body = torch.nn.Dropout()
    body.config, body.set_input_embeddings = SimpleNamespace(hidden_size=8), lambda _: None
    network = _CachedLM(body, 16).eval().train()
    assert network.enter.training
    assert not network.language_model.training
