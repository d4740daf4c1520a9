"""Decoding of small Qwen2-, Qwen3- and Llama-like models, where a step's time goes into calls and not into products.

The same model with fewer operations: query, key and value are one product, as are gate and up; the weights of norms,
and the attention's scale, are multiplied into the product behind them; a rotation is one complex product, since the two
halves that it pairs lie side by side; keys and values are written into tensors that have room for every token.

Axes: P prompts, N completions still running, S prompt tokens, T tokens of cache, K key-value heads, R query heads of
each, D head size, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gatepo.engine.adapted import whole_weight
from gatepo.model import LEAN_KINDS, body_and_head

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

LARGEST = 64_000_000  # parameters, up to which a copy of the weights for each rollout batch costs nothing
Linear = tuple["Tensor", "Tensor | None"]  # weight and bias


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    qkv: Linear
    head_norm: Tensor | None  # of queries and keys, [(R + 1) K, D] (Qwen3)
    out: Linear
    gate_up: Linear
    down: Linear


class LeanDecoder:
    """Reads each prompt once, then one token of each completion at a time; with the weights as they are when made.

    Args:
      model: one that :func:`fits`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        body: Any
        body, head = body_and_head(model)
        config = model.config
        self._heads, self._K = config.num_attention_heads, config.num_key_value_heads
        self._D = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        self._eps = config.rms_norm_eps
        self._embedding = model.get_input_embeddings().weight.detach()
        self._layers = [_layer(layer, self._heads, self._K, self._D) for layer in body.layers]
        self._head = _folded(head, body.norm.weight)
        self._frequency = body.rotary_emb.inv_freq.float()
        self._radius = torch.tensor(body.rotary_emb.attention_scaling, device=self._frequency.device)

    def start(self, prompts: list[tuple[int, ...]], num_generations: int, limit: int) -> Tensor:
        """Read the prompts, and give the logits [N, V] of the first tokens; N = P * num_generations.

        ``limit`` tokens of each completion have room.
        """
        device, G = self._embedding.device, num_generations
        P, S = len(prompts), max(map(len, prompts))
        pad_P = torch.tensor([S - len(prompt) for prompt in prompts], device=device)
        ids_PS = torch.tensor([(0,) * (S - len(prompt)) + prompt for prompt in prompts], device=device)
        column_S = torch.arange(S, device=device)
        padding_PS = column_S < pad_P[:, None]
        unseen_PSS = (column_S[:, None] < column_S) | padding_PS[:, None]
        unseen_PSS &= column_S[:, None] != column_S  # a padding token sees itself, or its softmax were not a number
        bias_PSS = torch.zeros(P, S, S, device=device).masked_fill_(unseen_PSS, -torch.inf)
        rotation = self._rotation((column_S - pad_P[:, None]).clamp(min=0).flatten())
        self._cache = []
        x_MH = self._embedding[ids_PS.flatten()]
        for layer in self._layers:
            q, k, v = self._qkv(layer, x_MH, rotation)
            q_PKD = q.view(P, S, self._K, -1, self._D).permute(0, 2, 3, 1, 4)
            k_PKSD, v_PKSD = (part.view(P, S, self._K, self._D).transpose(1, 2) for part in (k, v))
            self._cache.append((_room(k_PKSD, G, limit), _room(v_PKSD, G, limit)))
            score = q_PKD.flatten(2, 3) @ k_PKSD.mT
            score = score.view(P, self._K, -1, S, S).add_(bias_PSS[:, None, None])
            mixed = score.softmax(dim=-1).view(P, self._K, -1, S) @ v_PKSD
            mixed = mixed.view(P, self._K, -1, S, self._D).permute(0, 3, 1, 2, 4)
            x_MH = self._rest(layer, x_MH, mixed.reshape(P * S, -1))
        self._filled = S
        self._next_N = (S - pad_P).repeat_interleave(G)
        self._bias_NT = None
        if bool(padding_PS.any()):
            bias_PT = torch.zeros(P, S + limit, device=device)
            self._bias_NT = bias_PT.masked_fill_(pad_P[:, None] > torch.arange(S + limit, device=device), -torch.inf)
            self._bias_NT = self._bias_NT.repeat_interleave(G, dim=0)
        return self._logits(x_MH.view(P, S, -1)[:, -1]).repeat_interleave(G, dim=0)

    def step(self, token_N: Tensor) -> Tensor:
        """Read one more token of each completion, and give the logits [N, V] of the next."""
        N, K, D, filled = len(token_N), self._K, self._D, self._filled
        rotation = self._rotation(self._next_N)
        x_NH = self._embedding[token_N]
        for layer, (k_NKTD, v_NKTD) in zip(self._layers, self._cache, strict=True):
            q, k, v = self._qkv(layer, x_NH, rotation)
            k_NKTD[..., filled, :], v_NKTD[..., filled, :] = k, v
            score = torch.bmm(q.reshape(N * K, -1, D), k_NKTD.view(N * K, -1, D)[:, : filled + 1].mT)
            if self._bias_NT is not None:
                score.view(N, -1, filled + 1).add_(self._bias_NT[:, None, : filled + 1])
            mixed = torch.bmm(score.softmax(dim=-1), v_NKTD.view(N * K, -1, D)[:, : filled + 1])
            x_NH = self._rest(layer, x_NH, mixed.view(N, -1))
        self._filled += 1
        self._next_N = self._next_N + 1
        return self._logits(x_NH)

    def keep(self, kept: Tensor) -> None:
        """Go on with these completions only."""
        end = self._filled
        for layer, pair in enumerate(self._cache):
            k, v = (room.new_empty(len(kept), *room.shape[1:]) for room in pair)
            for new, old in zip((k, v), pair, strict=True):
                new[:, :, :end] = old[:, :, :end][kept]
            self._cache[layer] = (k, v)
        self._next_N = self._next_N[kept]
        self._bias_NT = None if self._bias_NT is None else self._bias_NT[kept]

    def _qkv(self, layer: _Layer, x_MH: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries [M, K R, D], keys and values [M, K, D], rotated and scaled."""
        rotated = self._heads + self._K
        found = torch.nn.functional.linear(self._normed(x_MH), *layer.qkv).view(len(x_MH), rotated + self._K, self._D)
        turning = found[:, :rotated]
        if layer.head_norm is not None:
            turning.copy_(self._normed(turning).mul_(layer.head_norm))
        torch.view_as_complex(turning.unflatten(-1, (-1, 2))).mul_(rotation[:, None])
        return turning[:, : self._heads], turning[:, self._heads :], found[:, rotated:]

    def _rest(self, layer: _Layer, x_MH: Tensor, mixed: Tensor) -> Tensor:
        """Go on behind the attention."""
        x_MH = x_MH + torch.nn.functional.linear(mixed, *layer.out)
        gate, up = torch.nn.functional.linear(self._normed(x_MH), *layer.gate_up).chunk(2, dim=-1)
        return x_MH + torch.nn.functional.linear(torch.nn.functional.silu(gate).mul_(up), *layer.down)

    def _normed(self, x: Tensor) -> Tensor:
        """Divide by the root mean square; the norm's weight is in the product behind it."""
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        return x * mean_square.add_(self._eps).rsqrt_()

    def _logits(self, x_NH: Tensor) -> Tensor:
        return torch.nn.functional.linear(self._normed(x_NH), *self._head)

    def _rotation(self, position_M: Tensor) -> Tensor:
        return torch.polar(self._radius, position_M[:, None] * self._frequency)


def fits(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Say whether :class:`LeanDecoder` is the model, computed in ``dtype``: small, of a kind it knows, in fp32."""
    config = model.config
    known = type(model).__name__ in LEAN_KINDS and config.hidden_act == "silu" and dtype == torch.float32
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    small = known and kinds == {"full_attention"} and model.num_parameters() <= LARGEST
    return small and {parameter.dtype for parameter in model.parameters()} == {torch.float32} and _same(model)


def _same(model: PreTrainedModel) -> bool:
    """Compare the logits with the model's own: positions that scale with length are not known here, and others."""
    top = model.config.vocab_size - 1
    ids_NT = torch.tensor([[3, 5, 7, 2], [4, 6, 1, 2]], device=model.device).clamp(max=top)
    with torch.no_grad():
        wanted = model(input_ids=ids_NT).logits[:, 2:]
        decoder = LeanDecoder(model)
        found = decoder.start([tuple(ids[:3]) for ids in ids_NT.tolist()], 1, 1), decoder.step(ids_NT[:, 3])
    return torch.allclose(torch.stack(found, dim=1), wanted, rtol=1e-3, atol=1e-3)


def _layer(layer: Any, heads: int, K: int, D: int) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    rotated = heads + K
    pairs_D = torch.arange(D).view(2, D // 2).T.flatten()  # the two of a rotated pair lie D / 2 apart, and now together
    row = torch.arange((rotated + K) * D).view(rotated + K, D)
    row[:rotated] = row[:rotated, pairs_D]
    scale = torch.ones(rotated, 1)
    scale[:heads] = D**-0.5
    head_norm = None
    factor = torch.cat([scale.expand(-1, D), torch.ones(K, D)]).flatten()
    if hasattr(attention, "q_norm"):
        weights = torch.cat(
            [n.weight[None].expand(h, -1) for n, h in ((attention.q_norm, heads), (attention.k_norm, K))]
        )
        head_norm, factor = weights.detach()[:, pairs_D] * scale.to(weights.device), torch.ones_like(factor)
    weight, bias = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
    row, factor = row.flatten().to(weight.device), factor.to(weight.device)
    weight = weight[row] * factor[:, None] * layer.input_layernorm.weight.detach()
    gate_up, gate_up_bias = _joined(mlp.gate_proj, mlp.up_proj)
    return _Layer(
        qkv=(weight, None if bias is None else bias[row] * factor),
        head_norm=head_norm,
        out=_joined(attention.o_proj),
        gate_up=(gate_up * layer.post_attention_layernorm.weight.detach(), gate_up_bias),
        down=_joined(mlp.down_proj),
    )


def _joined(*parts: torch.nn.Linear) -> Linear:
    """Give linear maps of the same input as one."""
    weight = torch.cat([whole_weight(part) for part in parts]) if len(parts) > 1 else whole_weight(parts[0])
    return weight, None if parts[0].bias is None else torch.cat([part.bias.detach() for part in parts])


def _folded(head: torch.nn.Linear, norm: Tensor) -> Linear:
    return head.weight.detach() * norm.detach(), None if head.bias is None else head.bias.detach()


def _room(read_PKSD: Tensor, G: int, limit: int) -> Tensor:
    """Repeat what was read of a prompt G times, with room for ``limit`` tokens more."""
    P, K, S, D = read_PKSD.shape
    room = read_PKSD.new_empty(P, G, K, S + limit, D)
    room[:, :, :, :S] = read_PKSD[:, None]
    return room.flatten(0, 1)
