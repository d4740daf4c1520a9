"""What a trainer must do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch

from gatepo.engine.optimizer import OptimizerOption
from gatepo.model import load_model
from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective
from gatepo.settings import name_of
from gatepo.types import StepMetrics, TokenBatch
from gatepo.world import World

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class ReferencePolicy(Protocol):
    """A policy that does not learn."""

    def logprobs(self, batch: TokenBatch) -> Tensor:
        """See :meth:`PolicyEngine.logprobs`."""
        ...


class PolicyEngine(Protocol):
    """Owns the policy's weights and their optimizer.

    Log-probabilities of a batch [N, T] are [N, T - 1]: position t belongs to token t + 1. They are 0 outside the
    completions.
    """

    def logprobs(self, batch: TokenBatch, temperature: float | None = None) -> Tensor:
        """Give log pi of the completion tokens under the current weights, nats; no gradient.

        At the sampling temperature, unless another is given.
        """
        ...

    def update(self, batch: TokenBatch, anchor_NT: Tensor | None, totals: Totals, objective: Objective) -> StepMetrics:
        """Accumulate the gradient over micro-batches and take one optimizer step.

        Args:
          batch: every completion of the update that this device holds.
          anchor_NT: log pi_old; None means that the current weights are the old ones, and the forward pass of this
            update gives them for free (then every ratio is exactly 1).
          totals: denominators of the whole update, over all devices.
          objective: the method.
        Raises:
          TrainingStopped: the loss or the gradient is not finite; the weights are unchanged then.
        """
        ...

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Give (name, tensor) one at a time, whole even where they are sharded, an adapter's share added."""
        ...

    def adapter_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Give those of an adapter, one at a time and whole; nothing where the model has none."""
        ...

    def export(self, path: Path) -> None:
        """Write the model in transformers' format."""
        ...

    def save(self, path: Path) -> None:
        """Write weights, optimizer and schedule, as :meth:`load` reads them; every rank calls it."""
        ...

    def load(self, path: Path) -> None:
        """Go on exactly from what :meth:`save` wrote."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """What a trainer is made from, beside its own settings."""

    model: PreTrainedModel  # the policy
    optimizer: OptimizerOption
    updates: int  # of the run
    micro: int  # completions that run at once
    micro_tokens: int | None = None  # tokens that run at once; None: as many as those completions have
    head_mib: int  # of softmax terms that the head keeps from forward to backward
    temperature: float  # of the sampler; the policy is the distribution that was sampled from
    dtype: torch.dtype  # that the body computes in
    world: World


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBytes:
    """How a trainer keeps the model, bytes per parameter, for :mod:`gatepo.plan`."""

    weights: int  # that forward and backward passes read
    master: int = 0  # fp32 copy that the optimizer steps on, where weights are bf16
    accumulated: int | None = None  # gradients, where they add up in another precision than the weights'
    autocast: bool = False  # fp32 weights, cast to bf16 for each pass
    zero_stage: int = 0  # what is sharded over devices, as DeepSpeed counts it
    offload_optimizer: bool = False
    flattened: bool = False  # whether all weights exist twice on the device for a moment, as the trainer is made
    gradients_kept: bool = True  # between updates
    gradients_on_host: bool = False
    host_copies: int = 0  # on the host, beside optimizer states that are offloaded: what the step reads and writes


class EngineOption(Protocol):
    """What is chosen by ``engine=NAME``; it says all that others need to know of the trainer."""

    EXITS_HARD: ClassVar[bool] = False
    """Whether a process that used it must end without Python's own tearing down."""
    KNOWS_ADAPTERS: ClassVar[bool] = False
    """Whether it trains a model with an adapter: saves that alone, and gives the whole weights to samplers."""

    @property
    def label(self) -> str:
        """Give the name that a plan shows."""
        return name_of(self)

    def load(self, path: str, device: torch.device, attention: str | None) -> PreTrainedModel:
        """Load the policy for :meth:`make`: with fp32 weights on the device, where the trainer wants nothing else."""
        return load_model(path, device, attention)

    def make(self, parts: EngineParts) -> PolicyEngine:
        """Make the trainer."""
        ...

    def read_weights(self, model: PreTrainedModel, path: Path) -> None:
        """Put the weights that the trainer's ``save`` wrote at ``path`` into ``model``."""
        ...

    def shares_weights(self, dtype: torch.dtype) -> bool:
        """Say whether a sampler may decode with the trainer's own module: its weights are whole, and in fp32."""
        ...

    def kept_bytes(self, dtype: torch.dtype) -> KeptBytes:
        """Say how the model is kept."""
        ...
