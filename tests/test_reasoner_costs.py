"""What a step costs, against counts and formulas by hand; published sizes."""

import pytest
from pir.envs.countdown.rules import Countdown

from pir.components import Components, build_puzzle
from pir.evaluation.cost import flops_per_step
from pir.models.dual import Dual, SoftEmbedding
from pir.models.feedforward import FeedForward
from pir.models.hrm import HRM
from pir.models.looped import Looped
from pir.models.network import Network
from pir.models.recurrent_depth import RecurrentDepth
from pir.models.trm import TRM
from tests import conftest
from tests.conftest import compose_config
from tests.small_reasoners import SMALL, run

PASSES = {
    "trm": (TRM, {}, 3),
    "trm, deep": (TRM, {"cycles": 3, "latent_steps": 6}, 21),
    "trm without z": (TRM, {"latents": 0}, 3),
    "trm of two z": (TRM, {"latents": 2, "separate_networks": True}, 3),
    "trm, averaged": (TRM, {"running_average": True}, 3),
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


@pytest.fixture(scope="module")
def puzzle():
    return Countdown()


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

    def built(*words):
        config = compose_config(*words, "device=cpu")
        return Components.build(config, build_puzzle(config)).reasoner

    return built


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
