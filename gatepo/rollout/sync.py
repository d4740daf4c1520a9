"""Bringing the trainer's weights to the sampler, and proof that they arrived.

A sampler that keeps some old weights goes on sampling without a word, and the run learns from the wrong policy. So
after every sync both sides give the log-probabilities of the same probe tokens, and the run stops where they differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from gatepo.engine.base import PolicyEngine
from gatepo.errors import TrainingStopped
from gatepo.rollout.base import RolloutEngine
from gatepo.types import TokenBatch
from gatepo.world import World

SEQUENCES, LENGTH = 4, 32  # of the probe
NOISE = 4.0  # times the difference that equal weights gave: the largest that may be noise
Fingerprint = tuple[Tensor, Tensor]  # sum and norm


class Sampler(RolloutEngine, Protocol):
    """A sampler with weights of its own."""

    def logprobs(self, sequences: list[list[int]]) -> list[list[float]]:
        """Give log-probability of each token but the first, given those before it, at temperature 1, nats."""
        ...


class WeightSync:
    """Sends the weights and attests them.

    Args:
      engine: the trainer, its weights still those that the sampler was loaded with: their difference is the noise of
        two implementations, measured here.
      sampler: takes the weights over.
      vocabulary: token ids lie below it.
      tolerance: largest difference of log-probabilities, nats, that is accepted without regard to the noise.
      noise_limit: largest noise, nats, that two right implementations may have at the precision they compute in.
      device: of the trainer.
      world: the run's processes; all sync together.
    Raises:
      TrainingStopped: sampler and trainer already disagree beyond any noise.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        sampler: Sampler,
        vocabulary: int,
        tolerance: float,
        noise_limit: float,
        device: torch.device,
        world: World,
    ) -> None:
        self._engine = engine
        self._sampler = sampler
        self._world = world
        self._probe = probe(vocabulary, device)
        self.noise = self._difference()
        self.tolerance = max(tolerance, NOISE * self.noise)
        if not self.noise <= noise_limit:
            raise TrainingStopped(
                f"sampler and trainer give the same tokens log-probabilities that differ by up to {self.noise:.3g} "
                f"nats before any update, more than {noise_limit:.3g}; they do not compute the same model: check "
                "model.path and model.dtype"
            )

    def __call__(self, version: int) -> None:
        """Send the weights of this version.

        Raises:
          TrainingStopped: the sampler's log-probabilities are not those of the trainer; names what is stale.
        """
        sent: dict[str, Fingerprint] = {}
        self._sampler.load_weights(_recorded(self._engine.weights(), sent), version)
        difference = self._difference()
        if not difference <= self.tolerance:
            raise TrainingStopped(
                f"weight sync {version}: sampler and trainer differ by {difference:.3g} nats on probe tokens, more "
                f"than {self.tolerance:.3g} (noise {self.noise:.3g}); {self._blame(sent)}. Nothing was sampled from it"
            )

    def _difference(self) -> float:
        """Find the largest difference of the probe's log-probabilities over all ranks, nats."""
        ours_NT = self._engine.logprobs(self._probe, temperature=1.0).cpu()
        theirs_NT = torch.tensor(self._sampler.logprobs(self._probe.ids_NT.tolist()))
        return self._world.maximum((ours_NT - theirs_NT).abs().nan_to_num(nan=torch.inf).max().item())[0]

    def _blame(self, sent: dict[str, Fingerprint]) -> str:
        """Say what went wrong, as far as the numbers that were sent show."""
        worst, name = 0.0, ""
        for own, tensor in self._engine.weights():
            if own not in sent:
                return f"the parameter {own} was not sent"
            change = _distance(_fingerprint(tensor), sent[own])
            if change > worst:
                worst, name = change, own
        if name:
            return f"the parameter {name} was sent with other values than it has, the worst of all"
        return (
            "every parameter was sent as it is, so the sampler did not take one over: the head is the first to suspect "
            "where it is tied to the embedding"
        )


def probe(vocabulary: int, device: torch.device) -> TokenBatch:
    """Give a few sequences of arbitrary tokens, always the same; all but their first tokens count as completion."""
    ids_NT = torch.randint(vocabulary, (SEQUENCES, LENGTH), generator=torch.Generator().manual_seed(0)).to(device)
    all_NT = torch.ones_like(ids_NT, dtype=torch.bool)
    return TokenBatch(
        ids_NT=ids_NT,
        completion_NT=all_NT & (torch.arange(LENGTH, device=device) > 0),
        attention_NT=all_NT,
        advantage_N=torch.ones(SEQUENCES, device=device),
        group_N=torch.arange(SEQUENCES, device=device),
        sampler_logp_NT=torch.zeros(ids_NT.shape, device=device),
    )


def _recorded(weights: Iterable[tuple[str, Tensor]], sent: dict[str, Fingerprint]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights:
        sent[name] = _fingerprint(tensor)
        yield name, tensor


def _fingerprint(tensor: Tensor) -> Fingerprint:
    detached = tensor.detach()
    return detached.sum(dtype=torch.float64), torch.linalg.vector_norm(detached, dtype=torch.float64)


def _distance(one: Fingerprint, other: Fingerprint) -> float:
    """Measure how far two fingerprints are apart, in relation to the norm."""
    difference = (one[0] - other[0]).abs() + (one[1] - other[1]).abs()
    return (difference / one[1].clamp(min=1e-30)).item()
