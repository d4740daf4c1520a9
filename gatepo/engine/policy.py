"""The model as a policy: token ids in, log-probability and entropy of the completion tokens out.

Axes: N completions, T tokens, M completion tokens of a micro-batch, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gatepo.logprobs import token_logprobs
from gatepo.model import autocast, body_and_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Policy(nn.Module):
    """pi at the sampling temperature. Prompt tokens never reach the head.

    Args:
      model: a causal language model.
      temperature: of the sampler; the policy is the distribution that was sampled from.
      dtype: what the body computes in; head and log-probabilities stay in fp32 at least.
    """

    def __init__(self, model: PreTrainedModel, temperature: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self._temperature = temperature
        self._dtype = dtype

    def forward(self, ids_NT: Tensor, completion_NT: Tensor, temperature: float | None = None) -> tuple[Tensor, Tensor]:
        """Give log-probability (with gradient) and entropy, [N, T - 1] each: position t belongs to token t + 1.

        ``temperature`` is another than the sampler's, where given. No attention mask: padding is on the right, where
        causal attention never looks.
        """
        body, head = body_and_head(self.model)
        mask_NT = completion_NT[:, 1:]
        with autocast(ids_NT.device, self._dtype):
            hidden_NTH = body(input_ids=ids_NT[:, :-1], use_cache=False).last_hidden_state
        position_M = mask_NT.flatten().nonzero().squeeze(1)
        logp_M, entropy_M = token_logprobs(
            hidden_NTH.flatten(0, 1).index_select(0, position_M),
            head.weight,
            ids_NT[:, 1:].flatten()[position_M],
            self._temperature if temperature is None else temperature,
            head.bias,
        )
        empty = logp_M.new_zeros(mask_NT.numel())
        logp_NT = empty.index_put((position_M,), logp_M).view(mask_NT.shape)
        return logp_NT, empty.index_put((position_M,), entropy_M).view(mask_NT.shape)
