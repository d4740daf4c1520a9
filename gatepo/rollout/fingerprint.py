"""Fingerprints of weights: whether two copies hold the same numbers, to the bit, however each lays them out.

A sampler fuses, splits, transposes and packs what it gets. The fingerprint is a sum over elements, so that none of this
changes it: the sums of the bit patterns and of their squares, modulo 2^64. Those of parts add up to that of the whole,
and zeros (padding) add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE = 1 << 22  # elements that are summed at once: their 64-bit copies take 32 MiB


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Sum of the bit patterns b of some numbers, and of b^2, each modulo 2^64."""

    first: int = 0
    second: int = 0

    def __add__(self, other: Fingerprint) -> Fingerprint:
        return Fingerprint((self.first + other.first) % 2**64, (self.second + other.second) % 2**64)

    def __mul__(self, times: int) -> Fingerprint:
        return Fingerprint(self.first * times % 2**64, self.second * times % 2**64)


def fingerprint(tensor: Tensor, dtype: torch.dtype) -> Fingerprint:
    """Take the fingerprint of a tensor as it is in ``dtype``; exact on every device and in every order."""
    flat = tensor.detach().flatten()
    first = second = 0
    for part in flat.split(AT_ONCE):
        bits = part.to(dtype).view(getattr(torch, f"int{8 * dtype.itemsize}")).long()
        first += int(bits.sum())
        second += int((bits * bits).sum())
    return Fingerprint(first % 2**64, second % 2**64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a sampler computes with in the place of one or several of the trainer's parameters."""

    parts: tuple[str, ...]  # the trainer's names; several where the sampler has fused them
    found: Fingerprint  # summed over the devices that share one copy of the model
    devices: int = 1  # that share it, each with a part or with all of it

    def is_made_of(self, own: dict[str, Fingerprint]) -> bool:
        """Say whether it is what the trainer has.

        A parameter is split over the devices, or each has all of it. Of fused ones the first may be split while
        several devices share each part of the others, as with keys and values of fewer heads than devices.
        """
        first, *others = (own[name] for name in self.parts)
        rest = sum(others, Fingerprint())
        copies = range(1, self.devices + 1)
        return any(first * one + rest * other == self.found for one, other in product(copies, copies))
