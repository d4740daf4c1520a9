"""The untrained model, which a KL penalty may hold on to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gatepo.engine import passes
from gatepo.engine.adapted import without_adapter
from gatepo.engine.base import PolicyEngine
from gatepo.engine.policy import Policy
from gatepo.types import TokenBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FrozenPolicy:
    """A second copy of the model, whole on every device, that never changes.

    Args:
      model: the untrained policy.
      micro: completions that run at once.
      temperature: of the sampler.
      dtype: what the body computes in; the weights should be in it already.
      micro_tokens: tokens that run at once.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        micro: int,
        temperature: float,
        dtype: torch.dtype,
        micro_tokens: int | None = None,
    ) -> None:
        self._policy = Policy(model.requires_grad_(False), temperature, dtype)
        self._micro, self._micro_tokens = micro, micro_tokens

    def logprobs(self, batch: TokenBatch) -> Tensor:
        """See :class:`~gatepo.engine.base.ReferencePolicy`."""
        none_N = torch.zeros_like(batch.advantage_N, dtype=torch.bool)
        shares = self._policy.shares_prompts
        parts = passes.micro_batches(batch, none_N, self._micro, shares, self._micro_tokens)
        return passes.logprobs(self._policy, batch, parts, None)


class BeneathAdapter:
    """The policy's own model without its adapter, which is the untrained one: no second copy."""

    def __init__(self, engine: PolicyEngine, model: PreTrainedModel) -> None:
        self._engine = engine
        self._model = model

    def logprobs(self, batch: TokenBatch) -> Tensor:
        """See :class:`~gatepo.engine.base.ReferencePolicy`."""
        with without_adapter(self._model):
            return self._engine.logprobs(batch)
