"""Small reasoners, and a few of their steps."""

from functools import partial

import pytest
import torch

from pir.models.dual import Dual

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
