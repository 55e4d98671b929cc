"""The official code of TRM as a peer of `pir bench train`, on the same shapes.

Its code is not installed: run this in its folder (github.com/SamsungSAILMontreal/
TinyRecursiveModels, measured at e7b6871), in an environment that has its needs too:

    pip install pydantic einops
    cp examples/official_trm.py ../TinyRecursiveModels
    cd ../TinyRecursiveModels
    pir bench train 'against=[official_trm:make,official_trm:cells_alone]'

It is compiled as it compiles itself, in bfloat16, and its average is updated in every step. It
differs from its own training in two ways: one batch stays on the device, and `AdamW` takes the
place of AdamATan2, an extension that needs a compiler.
"""

from collections.abc import Callable

import torch
from models.ema import EMAHelper
from models.losses import ACTLossHead
from models.recursive_reasoning.trm import TinyRecursiveReasoningModel_ACTV1 as Official

from pir.bench.contenders import Shapes

NUMBER_TOKENS = 16
"""Tokens that it puts before the cells, for the number of the puzzle (its `puzzle_emb_len`)."""


def make(shapes: Shapes) -> Callable[[], None]:
    """Returns its training step with the tokens of a puzzle's number, as published."""
    return _step_of(shapes, NUMBER_TOKENS)


def cells_alone(shapes: Shapes) -> Callable[[], None]:
    """Returns its training step with as many tokens as pir has."""
    return _step_of(shapes, 0)


def _step_of(shapes: Shapes, number_tokens: int) -> Callable[[], None]:
    mlp = shapes.mixer == "mlp"
    settings = {
        "batch_size": shapes.batch_size,
        "seq_len": shapes.tokens,
        "vocab_size": shapes.vocabulary,
        "num_puzzle_identifiers": 1,
        "puzzle_emb_ndim": shapes.hidden_size if number_tokens else 0,
        "puzzle_emb_len": number_tokens,
        "H_cycles": shapes.cycles,
        "L_cycles": shapes.latent_steps,
        "H_layers": 0,
        "L_layers": shapes.layers,
        "hidden_size": shapes.hidden_size,
        "expansion": shapes.expansion,
        "num_heads": shapes.heads,
        "pos_encodings": "none" if mlp else "rope",
        "mlp_t": mlp,
        "halt_max_steps": 16,
        "halt_exploration_prob": 0.1,
        "forward_dtype": "bfloat16",
    }
    with torch.device(shapes.device):
        plain = ACTLossHead(Official(settings), "stablemax_cross_entropy").train()
        model = torch.compile(plain)
        batch = {
            "inputs": shapes.question.to(torch.int32),
            "labels": shapes.solution.to(torch.int32),
            "puzzle_identifiers": torch.zeros(shapes.batch_size, dtype=torch.int32),
        }
        carry = plain.initial_carry(batch)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=1.0)
    average = EMAHelper(mu=0.999)
    average.register(plain)

    def step() -> None:
        nonlocal carry
        carry, loss, *_ = model(carry=carry, batch=batch, return_keys=[])
        (loss / shapes.batch_size).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(plain)

    return step
