"""torch.compile of the networks: the same results, and chosen by settings alone."""

import copy
from functools import partial

import pytest
import torch
from pir.envs.views.registration import build_puzzle
from torch import nn

from pir.cli.main import main
from pir.errors import UserError
from pir.evaluation.rollouts import evaluate, held_out
from pir.models.dual import Dual, SoftEmbedding
from pir.models.feedforward import FeedForward
from pir.models.hrm import HRM
from pir.models.looped import Looped
from pir.models.recurrent_depth import RecurrentDepth
from pir.models.trm import TRM
from pir.runs.folder import RunFolder
from pir.settings.training import TrainerSettings
from pir.training import compiled
from pir.training.compiled import (
    _copied,
    chosen_mode,
    compile_for_validation,
    compile_networks,
    networks_of,
)
from tests.conftest import TINY
from tests.small_reasoners import SMALL, run

# torch looks at the attribute of all tensors while it traces
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")

BUILT_IN = {
    "trm": TRM,
    "trm_candidates": partial(TRM, mixer="candidates"),
    "trm_mlp": partial(TRM, mixer="mlp"),
    "hrm": HRM,
    "looped": Looped,
    "recurrent_depth": RecurrentDepth,
    "feedforward": FeedForward,
    "dual": Dual,
    "soft_embedding": SoftEmbedding,
}


def gradients(model, question):
    policy = model.read_out(run(model, question, 2))
    model.zero_grad()
    policy.logits.clamp(min=-50).square().mean().backward()
    return policy.logits, [p.grad for p in model.parameters() if p.grad is not None]


def assert_same(model, compile_it):
    question = build_puzzle("sudoku4").sample(3, "train", seed=0)["question"]
    plain = copy.deepcopy(model)
    compile_it(model)
    for here, there in zip(gradients(model, question), gradients(plain, question), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("trm", "trm_candidates", "dual") else [pytest.mark.slow])
        for n in BUILT_IN
    ],
)
def test_every_reasoner_has_networks_that_can_be_traced(name):
    torch.manual_seed(0)
    model = BUILT_IN[name](build_puzzle("sudoku4"), **SMALL)
    assert networks_of(model)

    def trace(reasoner):
        compile_networks(reasoner, "default")
        for network in networks_of(reasoner):
            nn.Module.compile(network, backend="aot_eager", fullgraph=True)

    assert_same(model, trace)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trm", "trm_candidates"])
def test_compiled_networks_compute_the_same(name):
    torch.manual_seed(0)
    model = BUILT_IN[name](build_puzzle("sudoku4"), **SMALL)
    assert_same(model, partial(compile_networks, mode="default"))


def test_a_copy_is_not_compiled():
    model = TRM(build_puzzle("sudoku4"), **SMALL)
    compile_networks(model, "default")
    assert model.f._compiled_call_impl is not None
    assert copy.deepcopy(model).f._compiled_call_impl is None
    assert [name for name, _ in model.named_parameters()] == [
        name for name, _ in copy.deepcopy(model).named_parameters()
    ]


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, "default"),
        ({"max_optimizer_steps": 100}, "none"),
        ({"max_minutes": 1.0}, "none"),
        ({"max_minutes": None, "max_optimizer_steps": None, "max_forward_passes": 1}, "none"),
        (
            {"max_minutes": None, "max_optimizer_steps": None, "max_forward_passes": 10**8},
            "default",
        ),
        ({"compile": "none"}, "none"),
        ({"compile": "default", "max_optimizer_steps": 1}, "default"),
        ({"compile": "reduce-overhead"}, "reduce-overhead"),
    ],
)
def test_auto_compiles_long_runs(monkeypatch, settings, mode):
    monkeypatch.setattr(compiled, "compiler_fault", lambda device: None)
    puzzle = build_puzzle("countdown")
    question = torch.zeros(1, puzzle.length, dtype=torch.uint8)
    assert chosen_mode(TrainerSettings(**settings), TRM(puzzle), question) == mode


def test_the_choice_draws_no_random_numbers(monkeypatch):
    monkeypatch.setattr(compiled, "compiler_fault", lambda device: None)
    puzzle = build_puzzle("countdown")
    question = torch.zeros(1, puzzle.length, dtype=torch.uint8)
    model = RecurrentDepth(puzzle, **SMALL)  # which draws its start
    before = torch.get_rng_state()
    chosen_mode(TrainerSettings(), model, question)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_compiler_auto_takes_none_and_default_is_refused(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    puzzle = build_puzzle("countdown")
    question = torch.zeros(1, puzzle.length, dtype=torch.uint8)
    assert chosen_mode(TrainerSettings(), TRM(puzzle), question) == "none"
    with pytest.raises(UserError, match=r"trainer\.compile=default.*RuntimeError.*compile=none"):
        chosen_mode(TrainerSettings(compile="default"), TRM(puzzle), question)


def test_an_unknown_mode_is_refused(tmp_path, capsys):
    assert main(["train", *TINY, "trainer.compile=fast", f"run={tmp_path / 'a'}"]) == 2
    assert "trainer.compile=fast" in capsys.readouterr().err


def test_the_config_says_what_auto_chose(tmp_path):
    assert main(["train", *TINY, f"run={tmp_path / 'a'}"]) == 0
    assert RunFolder(tmp_path / "a").read_config().trainer.compile == "none"


def test_validation_runs_compiled_code_by_whole_batches_of_lanes(monkeypatch):
    """Where it saves time; what is left over runs as it is, and nothing else is different."""
    puzzle = build_puzzle("sudoku4")
    model, sizes = TRM(puzzle, **SMALL), []

    def compile_it(network, **_):
        plain = network._call_impl

        def compiled_call(x, *others):
            sizes.append(len(x))
            return plain(x, *others)

        network._compiled_call_impl = compiled_call

    monkeypatch.setattr(nn.Module, "compile", compile_it)
    puzzles = held_out(puzzle, "val", 40)
    question = puzzles["question"]
    before = evaluate(model, puzzle, puzzles, 2, 40)
    for mode, lanes in [("none", 16), ("reduce-overhead", 16), ("default", 16), ("default", 41)]:
        assert compile_for_validation(model, mode, question, lanes, 40) == 40
    monkeypatch.setitem(compiled.VALIDATION_WORTH, "cpu", 0)
    assert compile_for_validation(model, "default", question, 41, 40) == 40
    assert model.f._compiled_call_impl is None
    assert compile_for_validation(model, "default", question, 16, 40) == 16
    after = evaluate(model, puzzle, puzzles, 2, 16)
    assert sizes == [16] * (2 * 2 * model.passes_per_step)
    assert torch.equal(before.answers, after.answers)


@pytest.mark.slow
@pytest.mark.parametrize("worth", [0, 1e99])
def test_a_compiled_run_is_resumed_to_the_bit(tmp_path, monkeypatch, worth):
    """With validation by compiled code too, and without."""
    monkeypatch.setitem(compiled.VALIDATION_WORTH, "cpu", worth)
    words = [*TINY, "trainer.compile=default", "model.dtype=float32"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["train", *words, f"run={whole}"]) == 0
    assert main(["train", *words, "trainer.max_optimizer_steps=6", f"run={cut}"]) == 0
    assert main(["train", f"resume={cut}", "trainer.max_optimizer_steps=12"]) == 0
    assert (whole / "metrics.csv").read_bytes() == (cut / "metrics.csv").read_bytes()


def test_caches_that_a_graph_fills_stay():
    place = torch.zeros(2)

    def graph(x, kept):
        place.add_(x)
        kept.append((place, place))
        return place

    call, first, second = _copied(graph), [], []
    call(1.0, kept=first)
    call(2.0, kept=second)
    assert [keys.tolist() for keys, _ in first + second] == [[1.0, 1.0], [3.0, 3.0]]


def test_results_stay_where_a_graph_writes_into_the_same_memory(monkeypatch):
    """As CUDA graphs do; their second call overwrites what the first has given."""

    def graph(network, **_):
        place = []

        def call(x, *others):
            found = network._call_impl(x, *others)
            place[:] = [place[0].copy_(found)] if place else [found]
            return place[0]

        network._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", graph)
    puzzle = build_puzzle("sudoku4")
    question = puzzle.sample(3, "train", seed=0)["question"]
    model = TRM(puzzle, **SMALL)
    plain = copy.deepcopy(model)
    compile_networks(model, "reduce-overhead")
    with torch.no_grad():
        here, there = (run(each, question, 2)["z"] for each in (model, plain))
    assert torch.equal(here, there)
    broken = copy.deepcopy(plain)
    compile_networks(broken, "default")
    with torch.no_grad():
        assert not torch.equal(run(broken, question, 2)["z"], there)
