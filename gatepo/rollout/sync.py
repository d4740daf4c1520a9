"""Bringing the trainer's weights to the sampler, and proof that they arrived.

A sampler that keeps some old weights goes on sampling without a word, and the run learns from the wrong policy. After
every sync two things are compared, and the run stops where they differ:

- the weights, to the bit: fingerprints of what the sampler computes with against those of what the trainer has. At the
  paper's learning rate in bf16 an update moves log-probabilities by less than rounding does; it moves bits.
- log-probabilities of the same probe tokens: whether both compute the same function of these weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gatepo.engine.base import PolicyEngine
from gatepo.errors import TrainingStopped
from gatepo.rollout.base import RolloutEngine
from gatepo.rollout.fingerprint import Fingerprint, Held, fingerprint
from gatepo.types import TokenBatch
from gatepo.world import World

SEQUENCES, LENGTH = 8, 64  # of the probe
SPREAD_SHARE = {torch.float32: 0.0, torch.bfloat16: 0.1}
"""Difference that rounding may make on the probe, in relation to the spread of its log-probabilities, by the precision
that both compute in. Another model differs by the spread itself."""
log = logging.getLogger(__name__)


class Sampler(RolloutEngine, Protocol):
    """A sampler with weights of its own."""

    @property
    def weights_dtype(self) -> torch.dtype:
        """What it keeps its weights in."""
        ...

    def logprobs(self, sequences: list[list[int]]) -> list[list[float]]:
        """Give log-probability of each token but the first, given those before it, at temperature 1, nats."""
        ...

    def held(self) -> list[Held]:
        """Give fingerprints of all weights that it computes with, as they are there and not as they came."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """How far sampler and trainer are apart on the probe, nats."""

    rms: float  # root mean square over tokens, the largest of all ranks
    spread: float  # standard deviation of the trainer's log-probabilities over tokens


class WeightSync:
    """Sends the weights and attests them.

    Args:
      engine: the trainer, its weights still those that the sampler was loaded with.
      sampler: takes the weights over.
      vocabulary: token ids lie below it.
      tolerance: root mean square of the differences of log-probabilities on the probe, nats, that is always accepted.
      dtype: what both compute in; see :data:`SPREAD_SHARE`.
      device: of the trainer.
      world: the run's processes; all sync together.
    Raises:
      TrainingStopped: sampler and trainer already disagree.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        sampler: Sampler,
        vocabulary: int,
        tolerance: float,
        dtype: torch.dtype,
        device: torch.device,
        world: World,
    ) -> None:
        self._engine = engine
        self._sampler = sampler
        self._world = world
        self._tolerance = tolerance
        self._share = SPREAD_SHARE[dtype]
        self._probe = probe(vocabulary, device)
        self._names = {name for name, _ in engine.weights()}
        held = sampler.held()
        if world.first:
            self._remark(held)
        self._stop_where("before any update", self._misfit())  # the weights may yet differ by the rounding of a file

    def __call__(self, version: int) -> None:
        """Send the weights of this version.

        Raises:
          TrainingStopped: the sampler does not have what the trainer has; names what is stale.
        """
        sent: dict[str, Fingerprint] = {}
        self._sampler.load_weights(self._recorded(sent), version)
        self._stop_where(f"weight sync {version}", self._refusal(sent))

    def difference(self) -> Difference:
        """Compare the log-probabilities of the probe on all ranks."""
        ours_NT = self._engine.logprobs(self._probe, temperature=1.0).cpu()
        theirs_NT = torch.tensor(self._sampler.logprobs(self._probe.ids_NT.tolist()))
        rms = (ours_NT - theirs_NT).square().mean().sqrt().nan_to_num(nan=torch.inf)
        return Difference(*self._world.maximum(rms.item(), ours_NT.std().item()))

    def _refusal(self, sent: dict[str, Fingerprint]) -> str | None:
        """Say what is wrong with the weights that this rank's sampler holds, or with what it computes from them."""
        own = self._own()  # anew: what was sent may not be what the trainer has
        known = [held for held in self._sampler.held() if self._names.issuperset(held.parts)]
        stale = [held for held in known if not held.is_made_of(own)]
        found = self._world.gather(self._blame(stale, own, sent) if stale else None)
        wrong = next((words for words in found if words is not None), None)
        return wrong or self._misfit()

    def _misfit(self) -> str | None:
        """Say whether the log-probabilities differ by more than rounding can make of equal weights."""
        difference = self.difference()
        allowed = max(self._tolerance, self._share * difference.spread)
        if difference.rms <= allowed:
            return None
        return (
            f"they give the same tokens log-probabilities that differ by {difference.rms:.3g} nats (root mean square), "
            f"more than {allowed:.3g}; they do not compute the same model: check model.path and model.dtype"
        )

    def _blame(self, stale: list[Held], own: dict[str, Fingerprint], sent: dict[str, Fingerprint]) -> str:
        """Say what went wrong with weights that the sampler holds, as far as what was sent shows."""
        names = [name for held in stale for name in held.parts]
        which = " + ".join(stale[0].parts) + (f" and {len(stale) - 1} more" if len(stale) > 1 else "")
        for name in names:
            if name not in sent:
                return f"the parameter {name} was not sent"
            if sent[name] != own[name]:
                return f"the parameter {name} was sent with other values than it has"
        return f"every parameter was sent as it is, and the sampler did not take over {which}"

    def _stop_where(self, when: str, refusal: str | None) -> None:
        if refusal is not None:
            raise TrainingStopped(f"{when}, sampler and trainer do not agree: {refusal}. Nothing was sampled from it")

    def _own(self) -> dict[str, Fingerprint]:
        """Take the fingerprints of the trainer's weights, as the sampler would keep them."""
        dtype = self._sampler.weights_dtype
        return {name: fingerprint(tensor, dtype) for name, tensor in self._engine.weights()}

    def _recorded(self, sent: dict[str, Fingerprint]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._engine.weights():
            sent[name] = fingerprint(tensor, self._sampler.weights_dtype)
            yield name, tensor

    def _remark(self, held: list[Held]) -> None:
        """Name what fingerprints cannot attest, because one side calls it by a name that the other has not."""
        missing = sorted(self._names.symmetric_difference(name for one in held for name in one.parts))
        if missing:
            log.warning(
                "weight sync: sampler and trainer have different names for %s (%d parameters), which only the "
                "log-probabilities of probe tokens attest; an update too small for them may go stale unseen",
                missing[0],
                len(missing),
            )


def in_place(sampler: RolloutEngine) -> Callable[[int], None]:
    """Give the sync of a sampler that decodes with the trainer's own tensors: nothing to send, nothing to attest."""
    return lambda version: sampler.load_weights((), version)


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
