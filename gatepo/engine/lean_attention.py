"""Attention within a micro-batch of shared prompts, forward and backward, for :mod:`gatepo.engine.lean`.

Axes: M tokens of the micro-batch, D head size, K key-value heads, G query heads of each, P prompts, N completions, R
rows of either, T queries and S keys of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gatepo.engine.shared_prompts import Block, Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What all layers need to know of a micro-batch: positions as rotations, and which keys are not seen."""

    layout: Layout
    D: int
    query_turn: tuple[Tensor, Tensor]  # cosines and sines, [M, 1, D / 2], times the scale of the scores
    key_turn: tuple[Tensor, Tensor]
    prompts_unseen: Tensor  # added to scores, [1, 1, T, S]: 0, or -inf where a key is not seen
    completions_unseen: Tensor  # [N or 1, 1, T, S]

    @staticmethod
    def of(layout: Layout, cos_MD: Tensor, sin_MD: Tensor, scaling: float) -> Places:
        """Take the rotations as transformers gives them, each half of D alike."""
        D = cos_MD.shape[1]
        cos, sin = cos_MD[:, None, : D // 2], sin_MD[:, None, : D // 2]
        return Places(
            layout=layout,
            D=D,
            query_turn=(cos * scaling, sin * scaling),
            key_turn=(cos, sin),
            prompts_unseen=_unseen(layout.prompts_see),
            completions_unseen=_unseen(layout.completions_see),
        )


def _unseen(sees: Tensor) -> Tensor:
    return torch.zeros(sees.shape).masked_fill_(~sees, float("-inf"))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + D / 2) of the last axis of [M, heads, D], as transformers pairs them."""
    first, second = x.chunk(2, dim=-1)
    found = torch.empty_like(x)
    one, other = found.chunk(2, dim=-1)
    torch.mul(first, cos, out=one).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=other).addcmul_(first, sin)
    return found


def turned_back(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Give the gradient of what :func:`turned` was given."""
    return turned(x, cos, -sin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What attention gives, and what its backward pass needs."""

    mixed: Tensor  # [M, K G D]
    prompts: _Rows
    completions: _Rows | None  # None where no completion has a token that is read

    @staticmethod
    def of(q: Tensor, k: Tensor, v: Tensor, places: Places) -> Attended:
        """Attend with queries [M, K G, D] to keys and values [M, K, D]; completions see their prompt's too."""
        layout = places.layout
        split = (layout.prompts.tokens, layout.completions.tokens)
        (q_P, q_C), (k_P, k_C), (v_P, v_C) = (part.split(split) for part in (q, k, v))
        k_P, v_P = (layout.prompts.rows(part).transpose(1, 2) for part in (k_P, v_P))
        prompts = _Rows.of(layout.prompts.rows(q_P), k_P, v_P, places.prompts_unseen)
        mixed, completions = [layout.prompts.packed(prompts.mixed())], None
        if len(q_C):
            k_C, v_C = (layout.completions.rows(part).transpose(1, 2) for part in (k_C, v_C))
            k_C, v_C = (torch.cat([a[layout.prompt_N], b], dim=2) for a, b in ((k_P, k_C), (v_P, v_C)))
            completions = _Rows.of(layout.completions.rows(q_C), k_C, v_C, places.completions_unseen)
            mixed.append(layout.completions.packed(completions.mixed()))
        return Attended(mixed=torch.cat(mixed).flatten(1), prompts=prompts, completions=completions)

    def backward(self, d_mixed: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        """Give the gradients of queries [M, K G, D], keys and values [M, K, D]."""
        layout = places.layout
        d_P, d_C = d_mixed.unflatten(1, (-1, places.D)).split((layout.prompts.tokens, layout.completions.tokens))
        q_P, k_P, v_P = self.prompts.backward(layout.prompts.spread(d_P))
        found = [[layout.prompts.packed(q_P)], [], []]
        if self.completions is not None:
            q_C, k_C, v_C = self.completions.backward(layout.completions.spread(d_C))
            found[0].append(layout.completions.packed(q_C))
            S = k_P.shape[2]
            for of_prompt, of_row in ((k_P, k_C), (v_P, v_C)):
                of_prompt.index_add_(0, layout.prompt_N, of_row[:, :, :S])
            k_C, v_C = (_packed(layout.completions, part[:, :, S:]) for part in (k_C, v_C))
            found[1], found[2] = [k_C], [v_C]
        found[1], found[2] = [_packed(layout.prompts, k_P), *found[1]], [_packed(layout.prompts, v_P), *found[2]]
        q, k, v = (torch.cat(parts) for parts in found)
        return q, k, v


def _packed(block: Block, by_head: Tensor) -> Tensor:
    """Give [R, K, S, D] as tokens, [tokens, K, D]."""
    return block.packed(by_head.transpose(1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Attention within equally wide rows: q [R K, G T, D], k and v [R K, S, D], weights [R K, G T, S]."""

    rows: int
    heads: int  # K G
    q: Tensor
    k: Tensor
    v: Tensor
    weights: Tensor

    @staticmethod
    def of(q: Tensor, k: Tensor, v: Tensor, unseen: Tensor) -> _Rows:
        """Attend with q [R, T, K G, D] to k and v [R, K, S, D]."""
        rows, K = k.shape[:2]
        q_by_head, k, v = _by_head(q, K), k.flatten(0, 1), v.flatten(0, 1)
        scores = torch.bmm(q_by_head, k.mT)
        scores.view(rows, -1, *unseen.shape[2:]).add_(unseen)
        return _Rows(rows=rows, heads=q.shape[2], q=q_by_head, k=k, v=v, weights=scores.softmax(dim=-1))

    def mixed(self) -> Tensor:
        """Give the weighted values, [R, T, K G, D]."""
        return self._by_token(torch.bmm(self.weights, self.v))

    def backward(self, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the gradients of q [R, T, K G, D], k and v [R, K, S, D] from that of what was mixed."""
        K = len(self.k) // self.rows
        d_by_head = _by_head(d, K)
        v = torch.bmm(self.weights.mT, d_by_head)
        scores = torch.bmm(d_by_head, self.v.mT)
        scores = torch.ops.aten._softmax_backward_data(scores, self.weights, -1, scores.dtype)
        q, k = self._by_token(torch.bmm(scores, self.k)), torch.bmm(scores.mT, self.q)
        return q, k.unflatten(0, (self.rows, K)), v.unflatten(0, (self.rows, K))

    def _by_token(self, x: Tensor) -> Tensor:
        K, D = len(self.k) // self.rows, x.shape[2]
        x = x.view(self.rows, K, self.heads // K, -1, D).permute(0, 3, 1, 2, 4)
        return x.reshape(self.rows, -1, self.heads, D)


def _by_head(x: Tensor, K: int) -> Tensor:
    """Give [R, T, K G, D] as [R K, G T, D]."""
    x = x.unflatten(2, (K, -1)).permute(0, 2, 3, 1, 4)
    return x.reshape(x.shape[0] * K, -1, x.shape[4])
