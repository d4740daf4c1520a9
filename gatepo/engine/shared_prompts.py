"""Each prompt goes through the model once for all its completions, forward and backward, and nothing is padded.

The tokens of a micro-batch are one sequence, first each prompt once, then the completions. The model's own modules work
on it as they are, whatever hooks, adapters or shards they have; only attention knows what lies where: it is an
attention function of transformers, in force while the policy computes.

Exact: a completion's tokens see the keys and values that their prompt would have had beside them, and the prompt gets
the gradients of all its completions.

Axes: N completions of P prompts, S prompt tokens, T completion tokens but the last, M tokens of the sequence, H hidden,
K key-value heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from gatepo.model import attending_by

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

NAME = "gatepo_shared_prompts"
SHORT = 512  # keys up to which all scores at once cost less than the kernel that never holds them


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Equally wide rows of tokens, and where they lie in the sequence."""

    inside_RW: Tensor  # bool: False on padding, which is on the right
    full: bool  # nothing is padded
    kept: Tensor  # of the rows' W tokens, one row after the other: those in the sequence
    place: Tensor  # of each of them in its part of the sequence; on padding some other token's

    @staticmethod
    def of(inside_RW: Tensor) -> Block:
        """Lay the rows out, one after the other."""
        flat = inside_RW.flatten()
        place = (flat.cumsum(0) - 1).clamp(min=0)
        return Block(inside_RW=inside_RW, full=bool(flat.all()), kept=flat.nonzero().squeeze(1), place=place)

    @property
    def tokens(self) -> int:
        """Give how many tokens of the sequence are the block's."""
        return len(self.kept)

    def places(self) -> Tensor:
        """Give the place of each token in the block's part of the sequence, [R, W]; on padding any."""
        return self.place.view(self.inside_RW.shape)

    def rows(self, part: Tensor) -> Tensor:
        """Give the block's part of the sequence, [tokens, ...], as padded rows, [R, W, ...]."""
        return (part if self.full else part.index_select(0, self.place)).unflatten(0, self.inside_RW.shape)

    def spread(self, part: Tensor) -> Tensor:
        """Give the block's part of the sequence as padded rows, with 0 on padding."""
        if not self.full:
            part = part.new_zeros(self.inside_RW.numel(), *part.shape[1:]).index_copy_(0, self.kept, part)
        return part.unflatten(0, self.inside_RW.shape)

    def packed(self, rows_RW: Tensor) -> Tensor:
        """Give padded rows as the block's part of the sequence."""
        flat = rows_RW.flatten(0, 1)
        return flat if self.full else flat.index_select(0, self.kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything of a micro-batch lies in its one sequence."""

    ids_M: Tensor
    position_M: Tensor
    prompts: Block
    completions: Block
    prompt_N: Tensor  # which prompt a completion answers
    before_completion: Tensor  # of each completion token: the token of the sequence before it
    prompts_see: Tensor  # bool, [1, 1, S, S]: which keys a prompt's token sees
    completions_see: Tensor  # bool, [N or 1, 1, T, S + T]: a completion's prompt, and what it has before

    @property
    def keys(self) -> int:
        """Give how many keys a completion's token sees at most, S + T."""
        return self.completions_see.shape[3]


def layout_of(ids_NT: Tensor, completion_NT: Tensor) -> Layout:
    """Find prompts that follow each other and are the same, and lay all tokens out.

    Args:
      ids_NT: prompt, completion, and padding on the right.
      completion_NT: bool, True on completion tokens; each row has one at least.
    """
    prompt_N, completion_N = completion_NT.long().argmax(dim=1), completion_NT.sum(dim=1)
    S, T = int(prompt_N.max()), int(completion_N.max()) - 1
    inside_NS = torch.arange(S, device=ids_NT.device) < prompt_N[:, None]
    prompt_NS = ids_NT[:, :S].where(inside_NS, -1)
    first_N = torch.ones_like(prompt_N, dtype=torch.bool)
    first_N[1:] = (prompt_NS[1:] != prompt_NS[:-1]).any(dim=1)
    which_N = first_N.cumsum(0) - 1
    step_T = torch.arange(T, device=ids_NT.device)
    column_NT = (prompt_N[:, None] + step_T).clamp(max=ids_NT.shape[1] - 1)
    prompts = Block.of(inside_NS[first_N])
    completions = Block.of(step_T < completion_N[:, None] - 1)
    position_PS = torch.arange(S, device=ids_NT.device).expand_as(prompts.inside_RW)
    causal = torch.ones(max(S, T), max(S, T), dtype=torch.bool, device=ids_NT.device).tril()[None, None]
    own_NS = prompts.inside_RW[:1] if prompts.full else prompts.inside_RW[which_N]
    last_P = prompts.inside_RW.sum(dim=1).cumsum(0) - 1
    before_NT = torch.cat([last_P[which_N, None], prompts.tokens + completions.places()], dim=1)
    return Layout(
        ids_M=torch.cat([prompts.packed(prompt_NS[first_N]), completions.packed(ids_NT.gather(1, column_NT))]),
        position_M=torch.cat([prompts.packed(position_PS), completions.packed(column_NT)]),
        prompts=prompts,
        completions=completions,
        prompt_N=which_N,
        prompts_see=causal[..., :S, :S],
        completions_see=torch.cat(
            [own_NS[:, None, None].expand(-1, 1, T, S), causal[..., :T, :T].expand(len(own_NS), 1, T, T)], dim=3
        ),
        before_completion=before_NT[torch.arange(T + 1, device=ids_NT.device) < completion_N[:, None]],
    )


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    layout: Layout,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within a laid out sequence, as transformers calls it: [1, heads, M, D] in, [1, M, heads, D] out."""
    query_M, key_M, value_M = (part[0].transpose(0, 1) for part in (query, key, value))
    prompts, completions = layout.prompts, layout.completions
    tokens = (prompts.tokens, completions.tokens)
    (q_P, q_C), (k_P, k_C), (v_P, v_C) = (part.split(tokens) for part in (query_M, key_M, value_M))
    q_P, k_P, v_P = (prompts.rows(part).transpose(1, 2) for part in (q_P, k_P, v_P))
    found = [prompts.packed(_attended(q_P, k_P, v_P, scaling, layout.prompts_see).transpose(1, 2))]
    if completions.tokens:
        q_C, k_C, v_C = (completions.rows(part).transpose(1, 2) for part in (q_C, k_C, v_C))
        k_C, v_C = (torch.cat([of_prompt[layout.prompt_N], own], dim=2) for of_prompt, own in ((k_P, k_C), (v_P, v_C)))
        found.append(completions.packed(_attended(q_C, k_C, v_C, scaling, layout.completions_see).transpose(1, 2)))
    return torch.cat(found)[None], None


def _attended(query: Tensor, key: Tensor, value: Tensor, scaling: float, sees: Tensor) -> Tensor:
    """Attend with queries [R, heads, T, D] to keys and values [R, K, S, D], those that ``sees`` says."""
    if not _all_scores_at_once(query, key.shape[2]):
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=sees, scale=scaling, enable_gqa=True
        )
    R, heads, T, D = query.shape
    K, S = key.shape[1:3]
    scores = (query * scaling).reshape(R, K, heads // K * T, D) @ key.transpose(2, 3)
    unseen = torch.zeros(sees.shape, dtype=scores.dtype).masked_fill_(~sees, float("-inf"))
    scores = scores.view(R, heads, T, S).add_(unseen)
    weights = scores.softmax(dim=-1)
    return (weights.view(R, K, heads // K * T, S) @ value).view(R, heads, T, D)


def _all_scores_at_once(query: Tensor, keys: int) -> bool:
    """Say whether that is faster, and as exact: in bf16 the kernel alone keeps its scores in fp32."""
    device = query.device.type
    exact = query.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(device)
    return device == "cpu" and exact and keys <= SHORT


AttentionInterface.register(NAME, attend)


def can_share(model: PreTrainedModel) -> bool:
    """Say whether the model attends by transformers' interface, to everything before a token, in every layer."""
    return bool(model._can_set_attn_implementation()) and looks_back(model.config.get_text_config()) and _same(model)


def looks_back(config: PreTrainedConfig) -> bool:
    """Say whether each layer attends to everything before a token."""
    windowed = getattr(config, "sliding_window", None) is not None
    kinds = set(getattr(config, "layer_types", None) or ["sliding" if windowed else "full_attention"])
    return kinds == {"full_attention"}


def _same(model: PreTrainedModel) -> bool:
    """Compare hidden states with those of the rows one by one: what this file does not know of, it does not share."""
    ids_NT = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 4], [3, 7, 2, 1]], device=model.device)
    ids_NT = ids_NT.clamp(max=model.config.get_text_config().vocab_size - 1)
    completion_NT = torch.arange(4, device=model.device) >= torch.tensor([[2], [2], [1]], device=model.device)
    layout = layout_of(ids_NT, completion_NT)
    body = model.get_decoder()
    with torch.no_grad():
        whole = body(input_ids=ids_NT[:, :-1], use_cache=False).last_hidden_state[completion_NT[:, 1:]]
        shared = hidden_states(model, layout)
    return bool(torch.allclose(whole, shared, rtol=0.03, atol=0.03 * whole.abs().max().item()))


def hidden_states(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Compute the last hidden state before each completion token, [completion tokens, H], row by row."""
    with attending_by(model, NAME):
        found = model.get_decoder()(
            input_ids=layout.ids_M[None], position_ids=layout.position_M[None], use_cache=False, layout=layout
        )
    return found.last_hidden_state[0].index_select(0, layout.before_completion)
