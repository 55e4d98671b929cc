"""Small reasoners, and a few of their steps."""

from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from pir.models.dual import Dual
from pir.reasoner import MASKED_LOGIT, Policy, Reasoner

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


class Plain(Reasoner):
    """A reasoner of a user's, with no module of pir's and with dropout in its step."""

    improvement_steps, passes_per_step = 2, 1

    def __init__(self, puzzle, width=16, dropout=0.0):
        super().__init__()
        vocabulary = len(puzzle.vocabulary)
        self.embed, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)
        self.mix, self.drop = nn.Conv1d(width, width, 3, padding=1), nn.Dropout(dropout)
        self.register_buffer("allowed", puzzle.slot_mask.clone())

    def start(self, question):
        state = torch.zeros(*question.shape, self.embed.embedding_dim)
        return TensorDict({"h": state}, batch_size=question.shape[:1])

    def improve(self, question, state, k, condition=None):
        mixed = self.mix((self.embed(question.long()) + state["h"]).mT).mT.tanh()
        return TensorDict({"h": self.drop(mixed)}, batch_size=state.batch_size)

    def read_out(self, state):
        return Policy(torch.where(self.allowed, self.head(state["h"]), MASKED_LOGIT))
