"""Attention whose keys and values are repeated for each query head that shares them, in fp32 on a GPU.

There torch's scaled_dot_product_attention with ``enable_gqa``, which transformers asks for, has the flash and the math
kernel alone (its documentation), and flash takes no fp32: the math kernel keeps all scores, T^2 of each head and layer.
With as many keys as queries the memory-efficient kernel is taken, which keeps none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from gatepo.engine.shared_prompts import looks_back

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "gatepo_repeated_heads"


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend to all tokens before, as transformers calls it: [N, heads, T, D] in, [N, T, heads, D] out."""
    in_halves = query.dtype in (torch.float16, torch.bfloat16)
    if not in_halves:
        key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    found = nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=in_halves
    )
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)


def pays(model: PreTrainedModel) -> bool:
    """Say whether a model's rows without a mask should attend by this."""
    usual = model.config._attn_implementation == "sdpa" and looks_back(model.config.get_text_config())
    return usual and torch.cuda.is_available()
