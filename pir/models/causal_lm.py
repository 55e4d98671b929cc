"""A Hugging Face causal language model as Base and Coprocessor (GPT-2, Qwen-3 and their like).

The question's embeddings pass through the model once, and its keys and values are the cache; the
latents follow, and then the question once more, off which the policy is read. So the answer attends
to question and latents, as in Liu et al. (arXiv:2412.17747). Needs the extra `[lm]`.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from pir.errors import MissingExtraError, UserError
from pir.models.cached_network import Backbone, Cache, CachedNetwork
from pir.models.network import Linear


class CausalLM(Backbone):
    """Builds networks out of a causal language model.

    Args:
        name: of pretrained weights, a folder or a name of the Hugging Face hub; safetensors only.
        config: instead of a name, the settings of a freshly initialised model, `model_type` among
            them, such as {model_type: gpt2, n_layer: 2, n_embd: 64, n_head: 4}.

    Raises:
        UserError: if the extra is not installed, or not exactly one of the two is given.
    """

    def __init__(self, name: str | None = None, config: Mapping[str, Any] | None = None) -> None:
        """Checks that the extra is there."""
        if (name is None) == (config is None):
            raise UserError("model.backbone: give either name or config")
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("model.backbone", "lm") from error
        self.name, self.config = name, config
        self.pretrained = name is not None

    def build(self, width: int, tokens: int) -> CachedNetwork:
        """Loads or initialises the model, with adapters to width D and back."""
        from transformers import AutoConfig, AutoModel

        if self.name is not None:
            body = AutoModel.from_pretrained(
                self.name, use_safetensors=True, trust_remote_code=False
            )
        else:
            assert self.config is not None
            body = AutoModel.from_config(
                AutoConfig.for_model(**self.config), trust_remote_code=False
            )
        most = getattr(body.config, "max_position_embeddings", tokens)
        if tokens > most:
            raise UserError(
                f"model.backbone: this language model reads at most {most} tokens; twice the "
                f"question and the latents are {tokens}"
            )
        return _CachedLM(body, width)


class _CachedLM(CachedNetwork):
    """See `CachedNetwork`; the puzzle's embeddings take the place of the model's own."""

    language_model: nn.Module

    def __init__(self, body: Any, width: int) -> None:
        super().__init__()
        body.set_input_embeddings(nn.Identity())
        # no dropout: a step that is taken again must be the same
        self.language_model = body.float().eval()
        inner = body.config.hidden_size
        self.enter, self.leave = Linear(width, inner), Linear(inner, width)

    def train(self, mode: bool = True) -> Self:
        """Changes the mode of everything but the language model."""
        super().train(mode)
        self.language_model.eval()
        return self

    def body(self) -> nn.Module:
        """See `CachedNetwork.body`."""
        return self.language_model

    def encode(self, x: Tensor) -> Cache:
        """See `CachedNetwork.encode`."""
        return self._run(self.enter(x.float()), [])[1]

    def update_latents(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """See `CachedNetwork.update_latents`."""
        hidden, everything = self._run(self.enter(latents.float()), cache)
        count = latents.shape[1]
        latent_cache = [(keys[:, :, -count:], values[:, :, -count:]) for keys, values in everything]
        return self.leave(hidden).to(latents.dtype), latent_cache

    def decode(
        self, x: Tensor, cache: Cache, latents: Tensor, latent_cache: Cache | None
    ) -> Tensor:
        """See `CachedNetwork.decode`."""
        if latent_cache is not None:
            pairs = zip(cache, latent_cache, strict=True)
            cache = [(torch.cat([a[0], b[0]], 2), torch.cat([a[1], b[1]], 2)) for a, b in pairs]
        hidden, _ = self._run(self.enter(torch.cat([latents, x], 1).float()), cache)
        result: Tensor = self.leave(hidden[:, -x.shape[1] :])
        return result.to(x.dtype)

    def _run(self, inputs: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Runs the language model after a cache; returns its output and the longer cache."""
        from transformers import DynamicCache

        past = DynamicCache()
        for layer, (keys, values) in enumerate(cache):
            past.update(keys, values, layer)
        done = self.language_model(inputs_embeds=inputs, cache=past, use_cache=True)
        return done.last_hidden_state, [(layer.keys, layer.values) for layer in past.layers]
