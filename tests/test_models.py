"""The TRM: where gradient reaches, what batches and dtypes may change, how steps compose."""

import itertools

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.graph.rules import Graph
from pir.envs.maze.rules import Maze

from pir.errors import UserError
from pir.models.network import Attention, Convolution, TokenMixing, rms_norm
from pir.models.trm import TRM
from pir.reasoner import MASKED_LOGIT

SMALL = {"hidden_size": 16, "heads": 2, "dtype": "float32"}


def make(**options) -> tuple[TRM, torch.Tensor, Countdown]:
    torch.manual_seed(0)
    puzzle = Countdown()
    question = puzzle.sample(5, "train", seed=0)["question"]
    return TRM(puzzle, **(SMALL | options)), question, puzzle


def run(model, question, num_steps, state=None):
    state = model.start(question) if state is None else state
    for _ in range(num_steps):
        state = model.improve(question, state, torch.ones(len(question), dtype=torch.int64))
    return state


@pytest.mark.parametrize("mixer", ["attention", "mlp"])
def test_logits_keep_to_the_slot_mask(mixer):
    model, question, puzzle = make(mixer=mixer)
    logits = model.read_out(run(model, question, 2)).logits
    assert logits.shape == (5, *puzzle.slot_mask.shape)
    assert logits.dtype == torch.float32
    assert (logits[:, ~puzzle.slot_mask] == MASKED_LOGIT).all()
    assert (logits[:, puzzle.slot_mask] > MASKED_LOGIT / 2).all()


@pytest.mark.parametrize("mixer", ["attention", "mlp"])
def test_k_steps_then_k_more_are_2k_steps(mixer):
    model, question, _ = make(mixer=mixer, cycles=2)
    halfway = run(model, question, 2)
    assert (run(model, question, 4)["y"] == run(model, question, 2, halfway)["y"]).all()


@pytest.mark.parametrize("mixer", ["attention", "mlp"])
def test_a_puzzle_does_not_see_its_neighbours(mixer):
    model, question, _ = make(mixer=mixer)
    alone = torch.cat([run(model, q[None], 2)["y"] for q in question])
    assert torch.allclose(run(model, question, 2)["y"], alone, atol=1e-5)


def test_bfloat16_is_close_to_float32():
    model, question, _ = make(hidden_size=64)
    other, _, _ = make(hidden_size=64, dtype="bfloat16")
    other.load_state_dict(model.state_dict())
    assert all(p.dtype == torch.float32 for p in other.parameters())
    exact, rounded = (m.read_out(run(m, question, 2)).logits for m in (model, other))
    allowed = exact > MASKED_LOGIT
    assert (exact - rounded)[allowed].abs().max() < 0.15
    assert (exact - rounded)[allowed].abs().mean() < 0.02


def test_auto_dtype_is_what_the_device_is_fast_at():
    model, _, _ = make(dtype="auto")
    native = torch.cpu._is_avx512_bf16_supported()
    assert model.dtype == (torch.bfloat16 if native else torch.float32)


def test_only_the_last_cycle_has_gradient():
    """With T cycles the gradient equals that of one cycle started from the state T - 1 later."""
    model, question, _ = make(cycles=3)
    k = torch.ones(len(question), dtype=torch.int64)

    def gradient(state):
        model.zero_grad()
        model.read_out(model.improve(question, state, k)).logits.logsumexp(-1).sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    whole = gradient(model.start(question))
    model.cycles = 2
    with torch.no_grad():
        later = model.improve(question, model.start(question), k)
    model.cycles = 1
    for a, b in zip(whole, gradient(later), strict=True):
        assert torch.equal(a, b)


def test_gradient_reaches_every_parameter():
    model, question, _ = make(halt_head=True)
    policy = model.read_out(run(model, question, 1))
    (policy.logits.logsumexp(-1).sum() + policy.halt_logit.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_question_is_injected_at_every_step():
    model, question, _ = make()
    state = run(model, question, 1)
    other = model.improve(question.flip(0), state, torch.ones(5, dtype=torch.int64))
    assert not torch.allclose(other["y"], run(model, question, 1, state)["y"])


def test_passes_per_step():
    assert make(cycles=3, latent_steps=6)[0].passes_per_step == 21
    assert make(cycles=1, latent_steps=2)[0].passes_per_step == 3


@pytest.mark.parametrize("length", [5, 50])
def test_both_ways_of_attention_agree_with_the_formula(length):
    torch.manual_seed(0)
    layer = Attention(16, 2)
    x = torch.randn(3, length, 16)
    q, k, v = layer.qkv(x).double().view(3, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
    weights = torch.einsum("bhid,bhjd->bhij", q, k).div(8**0.5).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    mixed = torch.einsum("bhij,bhjd->bihd", weights, v).reshape(3, length, 16)
    assert torch.allclose(layer(x, None), layer.out(mixed.float()), atol=1e-6)


def test_rms_norm_by_hand():
    x = torch.randn(4, 8, dtype=torch.float64)
    assert torch.allclose(rms_norm(x), x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 15}, "multiple of model.heads"),
        ({"mixer": "conv"}, "model.mixer=conv: this puzzle has no board"),
        ({"mixer": "pool"}, "model.mixer=pool: allowed are auto, attention, mlp, conv"),
        ({"dtype": "float16"}, "model.dtype=float16"),
        (
            {"partial_answer": True, "draw_temperature": 0.0},
            "model.draw_temperature=0.0: must be above 0",
        ),
        ({"layers": 0}, "model.layers=0"),
        ({"improvement_steps": 0}, "model.improvement_steps=0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def slow_convolution(x, weight, board):
    """Every cell's neighbourhood written out, walls of zeros around the board."""
    height, width = board
    out = torch.zeros_like(x)
    kernel = weight.view(len(weight), 3, 3, -1)
    for row, column in itertools.product(range(height), range(width)):
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            y, z = row + dy, column + dx
            if 0 <= y < height and 0 <= z < width:
                out[:, row * width + column] += x[:, y * width + z] @ kernel[:, dy + 1, dx + 1].T
    return out


def test_convolution_sees_the_neighbours_on_the_board():
    torch.manual_seed(0)
    layer = Convolution(8, (3, 5))
    x = torch.randn(2, 15, 8)
    assert torch.allclose(layer(x), slow_convolution(x, layer.weight, (3, 5)), atol=1e-5)


@pytest.mark.parametrize("length", [5, 50])
def test_bias_is_added_to_the_scores(length):
    """A bias that bars all but one position makes every token attend to that one."""
    torch.manual_seed(0)
    layer = Attention(16, 2)
    x = torch.randn(3, length, 16)
    bias = torch.full((2, length, length), -1e4)
    bias[:, :, 2] = 0
    value = layer.qkv(x)[..., 32:][:, 2:3].expand(-1, length, -1)
    assert torch.allclose(layer(x, bias), layer.out(value), atol=1e-5)


def test_mixer_follows_the_puzzle():
    maze = Maze(7, 9)
    assert isinstance(TRM(maze, **SMALL).f.blocks[0].mixer, Convolution)
    assert isinstance(TRM(Countdown(), **SMALL).f.blocks[0].mixer, Attention)
    related = TRM(maze, mixer="attention", **SMALL)
    assert related.f.relation_bias.shape == (2, 2, int(maze.relations.max()) + 1)


def test_relations_of_a_maze_are_offsets():
    maze = Maze(7, 9)
    relations = maze.relations.view(7, 9, 7, 9)
    assert relations[2, 2, 3, 2] == relations[4, 7, 5, 7] != relations[2, 2, 1, 2]
    assert relations[0, 0, 0, 4] == relations[0, 0, 0, 8]  # far away only the direction counts


def test_owners_tell_successors_of_different_nodes_apart():
    """Exchanging the rows of two nodes changes the embedding beyond their positions."""
    torch.manual_seed(0)
    graph = Graph()
    model = TRM(graph, **SMALL)
    question = graph.sample(1, "train", seed=0)["question"]
    with torch.no_grad():
        plain = model.token(question.long()) + model.position.weight
        owned = model.embed(question) - plain
    assert (owned[0, graph.table_end :] == 0).all()
    rows = owned[0, : graph.table_end].view(graph.nodes, graph.branching, -1)
    assert torch.allclose(rows[:, 0], rows[:, 1], atol=1e-6)
    assert not torch.allclose(rows[0], rows[1], atol=1e-2)


@pytest.mark.parametrize("length", [6, 81])
def test_columns_of_zeros_change_nothing(length):
    """A GPU pads token mixing to rows of 16 bytes: 81 tokens to 88."""
    torch.manual_seed(0)
    mixing, given = TokenMixing(length, 32), torch.randn(3, length, 5)
    found = []
    for spare in (0, -length % 8):
        x = given.clone().requires_grad_()
        mixed = mixing.padded(x, spare)
        slopes = torch.autograd.grad(mixed.square().sum(), [x, *mixing.parameters()])
        found.append((mixed, *slopes))
    torch.testing.assert_close(*found)
