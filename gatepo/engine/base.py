"""What a trainer must do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from torch import Tensor

from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective
from gatepo.types import Batch, StepMetrics


class ReferencePolicy(Protocol):
    """A policy that does not learn."""

    def logprobs(self, batch: Batch) -> Tensor:
        """See :meth:`PolicyEngine.logprobs`."""
        ...


class PolicyEngine(Protocol):
    """Owns the policy's weights and their optimizer.

    Log-probabilities of a batch [N, T] are [N, T - 1]: position t belongs to token t + 1. They are 0 outside the
    completions.
    """

    def logprobs(self, batch: Batch, temperature: float | None = None) -> Tensor:
        """log pi of the completion tokens under the current weights, nats; no gradient.

        At the sampling temperature, unless another is given.
        """
        ...

    def update(self, batch: Batch, anchor_NT: Tensor | None, totals: Totals, objective: Objective) -> StepMetrics:
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
        """(name, tensor) one at a time, whole even where they are sharded."""
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
