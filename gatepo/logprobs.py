"""Log-probability and entropy of chosen tokens.

Axes: M tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_logprobs(
    hidden_MH: Tensor, weight_VH: Tensor, token_M: Tensor, temperature: float, bias_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """log pi(token) and the entropy of pi at each position, pi = softmax(hidden @ weight.T / temperature).

    Only positions of interest are passed in (completion tokens), never a whole padded batch, so the logits are
    [M, V]. The product and the softmax are in fp32 at least: in bf16 their noise alone would move the EUR.

    Args:
      hidden_MH: last hidden state at the position *before* each token.
      weight_VH: the head.
      token_M: the sampled token ids.
      temperature: the sampling temperature; the policy is what was sampled from.
      bias_V: the head's bias, if it has one.
    Returns: (log-probability [M] in nats with gradient, entropy [M] in nats over the full vocabulary without).
    """
    dtype = torch.promote_types(hidden_MH.dtype, torch.float32)
    logits_MV = torch.nn.functional.linear(
        hidden_MH.to(dtype), weight_VH.to(dtype), None if bias_V is None else bias_V.to(dtype)
    )
    if temperature != 1.0:
        logits_MV = logits_MV / temperature
    logp_MV = torch.log_softmax(logits_MV, dim=-1)
    with torch.no_grad():
        entropy_M = -(logp_MV.exp() * logp_MV).sum(dim=-1)
    return logp_MV.gather(1, token_M[:, None]).squeeze(1), entropy_M
