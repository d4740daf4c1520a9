"""A key-value cache with room to grow.

transformers' own concatenates, and so copies everything that was ever read, for each layer and each new token.

Axes: N completions, K key-value heads, T tokens, D head size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


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
