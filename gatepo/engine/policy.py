"""The model as a policy: token ids in, log-probability and entropy of the completion tokens out.

Axes: N completions, T tokens, M completion tokens of a micro-batch, H hidden.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gatepo.engine import lean, repeated_heads, shared_prompts
from gatepo.engine.shared_prompts import can_share, layout_of
from gatepo.logprobs import token_logprobs
from gatepo.memory import KEPT_MIB
from gatepo.model import attending_by, autocast, body_and_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Policy(nn.Module):
    """pi at the sampling temperature. Prompt tokens never reach the head, and the body once for rows that share them.

    Args:
      model: a causal language model.
      temperature: of the sampler; the policy is the distribution that was sampled from.
      dtype: what the body computes in; head and log-probabilities stay in fp32 at least.
      head_mib: see :func:`~gatepo.logprobs.token_logprobs`.
    """

    def __init__(
        self, model: PreTrainedModel, temperature: float, dtype: torch.dtype, head_mib: int = KEPT_MIB
    ) -> None:
        super().__init__()
        self.model = model
        self._temperature = temperature
        self._dtype = dtype
        self._head_mib = head_mib
        # On a GPU it has not been measured against the attention kernels that a user may choose for rows.
        self.shares_prompts = not torch.cuda.is_available() and can_share(model)
        self._repeats = repeated_heads.pays(model)

    def forward(self, ids_NT: Tensor, completion_NT: Tensor, temperature: float | None = None) -> tuple[Tensor, Tensor]:
        """Give log-probability (with gradient) and entropy, [N, T - 1] each: position t belongs to token t + 1.

        ``temperature`` is another than the sampler's, where given.
        """
        head = body_and_head(self.model)[1]
        mask_NT = completion_NT[:, 1:]
        position_M = mask_NT.flatten().nonzero().squeeze(1)
        logp_M, entropy_M = token_logprobs(
            self._hidden_states(ids_NT, completion_NT),
            head.weight,
            ids_NT[:, 1:].flatten()[position_M],
            self._temperature if temperature is None else temperature,
            head.bias,
            self._head_mib,
        )
        empty = logp_M.new_zeros(mask_NT.numel())
        logp_NT = empty.index_put((position_M,), logp_M).view(mask_NT.shape)
        return logp_NT, empty.index_put((position_M,), entropy_M).view(mask_NT.shape)

    def _hidden_states(self, ids_NT: Tensor, completion_NT: Tensor) -> Tensor:
        """Give the last hidden state before each completion token, [M, H], row by row.

        No attention mask: padding is on the right, where causal attention never looks.
        """
        with autocast(ids_NT.device, self._dtype):
            if self.shares_prompts:
                layout = layout_of(ids_NT, completion_NT)
                way = lean if lean.fits(self.model, layout) else shared_prompts
                return way.hidden_states(self.model, layout)
            body = body_and_head(self.model)[0]
            with attending_by(self.model, repeated_heads.NAME) if self._repeats else nullcontext():
                hidden_NTH: Tensor = body(input_ids=ids_NT[:, :-1], use_cache=False).last_hidden_state
            return hidden_NTH[completion_NT[:, 1:]]
