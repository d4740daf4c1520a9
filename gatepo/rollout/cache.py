"""Decoding with any causal language model of transformers, and a key-value cache with room to grow.

transformers' own concatenates, and so copies everything that was ever read, for each layer and each new token.

Axes: P prompts, N completions, K key-value heads, T tokens, D head size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from gatepo.model import logits


class CachedDecoder:
    """Reads each prompt once, then one token of each completion at a time.

    Args:
      model: any causal language model.
      filler: a token id for the padding on the left, which is masked.
    """

    def __init__(self, model: PreTrainedModel, filler: int) -> None:
        self._model = model
        self._filler = filler
        self._cache = growing_cache(model.config)
        self._attention_NT: Tensor | None = None  # None where all prompts are equally long: nothing is padded then

    def start(self, prompts: list[tuple[int, ...]], num_generations: int, limit: int) -> Tensor:
        """See :meth:`gatepo.rollout.lean.LeanDecoder.start`; the cache grows as it is needed."""
        device, width = self._model.device, max(len(p) for p in prompts)
        attention_PT: Tensor | None = None
        if any(len(p) != width for p in prompts):
            attention_PT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        ids_PT = torch.tensor([(self._filler,) * (width - len(p)) + p for p in prompts], device=device)
        logits_P1V = logits(
            self._model,
            last=True,
            input_ids=ids_PT,
            attention_mask=attention_PT,
            position_ids=None if attention_PT is None else (attention_PT.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache.batch_repeat_interleave(num_generations)
        if attention_PT is not None:
            self._attention_NT = attention_PT.repeat_interleave(num_generations, dim=0)
        return logits_P1V[:, -1].repeat_interleave(num_generations, dim=0)

    def step(self, token_N: Tensor) -> Tensor:
        """Read one more token of each completion, and give the logits [N, V] of the next."""
        attention_NT = self._attention_NT
        if attention_NT is not None:
            attention_NT = torch.cat([attention_NT, attention_NT.new_ones(len(attention_NT), 1)], dim=1)
        self._attention_NT = attention_NT
        return logits(
            self._model,
            input_ids=token_N[:, None],
            attention_mask=attention_NT,
            position_ids=None if attention_NT is None else attention_NT.sum(dim=1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
        )[:, -1]

    def keep(self, kept: Tensor) -> None:
        """Go on with these completions only."""
        self._cache.batch_select_indices(kept)
        if self._attention_NT is not None:
            self._attention_NT = self._attention_NT[kept]


class GrowingLayer(DynamicLayer):
    """Full attention: ``keys`` and ``values`` are the filled part of larger tensors, into which tokens are written."""

    keys: Any  # [N, K, T, D], and so are values
    values: Any
    _room_NKTD: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append [N, K, new tokens, D] and return all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled = self.get_seq_length()
        end = filled + key_states.shape[-2]
        if self._room_NKTD is None or self._room_NKTD[0].shape[-2] < end:
            self._room_NKTD = (_with_room(self.keys, key_states, end), _with_room(self.values, value_states, end))
        for room_NKTD, new_NKTD in zip(self._room_NKTD, (key_states, value_states), strict=True):
            room_NKTD[..., filled:end, :] = new_NKTD
        self.keys, self.values = (room_NKTD[..., :end, :] for room_NKTD in self._room_NKTD)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence ``repeats`` times."""
        super().batch_repeat_interleave(repeats)
        self._room_NKTD = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these sequences."""
        super().batch_select_indices(indices)
        self._room_NKTD = None


def growing_cache(config: PreTrainedConfig) -> DynamicCache:
    """Give an empty cache for this model; layers of other kinds (sliding window, ...) stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _with_room(old_NKTD: Tensor, new_NKTD: Tensor, length: int) -> Tensor:
    """Copy the old content to a tensor that ``length`` tokens fill to four fifths at the most."""
    N, K, _, D = new_NKTD.shape
    room_NKTD = new_NKTD.new_empty(N, K, length + max(16, length // 4), D)
    if old_NKTD.numel():
        room_NKTD[..., : old_NKTD.shape[-2], :] = old_NKTD
    return room_NKTD
