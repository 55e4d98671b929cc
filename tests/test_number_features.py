"""Embeddings of tokens that stand for numbers."""

import torch
from pir.envs.views.registration import build_puzzle

from pir.models.number_features import PERIODS, number_embeddings
from pir.models.trm import TRM

SMALL = {"hidden_size": 16, "heads": 2}


def model(env, **settings):
    torch.manual_seed(3)
    return TRM(build_puzzle(env), **SMALL, **settings)


def test_tokens_stand_for_what_a_question_says():
    puzzle = build_puzzle("countdown")
    question = puzzle.parse("25 3 1 = 22")
    values = puzzle.token_values[question[: puzzle.answer_start].long()]
    assert values.tolist() == [25, 3, 1, 22]
    assert puzzle.token_values[: puzzle.first_digit].isnan().all()


def test_products_of_embeddings_depend_on_differences_alone():
    """cos(a - b) = cos a cos b + sin a sin b, whatever the mixture, on average over mixtures."""
    torch.manual_seed(0)
    values = torch.arange(40).float()
    found = number_embeddings(values, 20_000)
    gram = found @ found.T / 20_000
    differences = values[:, None] - values
    periods = torch.tensor(PERIODS).float()
    expected = torch.cos(2 * torch.pi * differences[..., None] / periods).mean(-1)
    torch.testing.assert_close(gram, expected, atol=0.05, rtol=0.0)


def test_only_tokens_of_numbers_start_otherwise():
    puzzle = build_puzzle("countdown")
    plain = model("countdown", number_features=False).token.weight
    special = model("countdown").token.weight
    others = puzzle.token_values.isnan()
    assert torch.equal(plain[others], special[others])
    assert not torch.isclose(plain[~others], special[~others]).all(1).any()
    torch.testing.assert_close(special[~others].std(), torch.tensor(0.7))


def test_a_puzzle_without_numbers_starts_as_before():
    pairs = zip(
        model("queens").parameters(),
        model("queens", number_features=False).parameters(),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)
