"""Qwen2-, Qwen3- and Llama-like layers in fp32 with fewer operations than transformers', forward and backward.

Between a layer's products lie rotations, norms, masks and activations. On a CPU these cost as much as the products, for
each is several operations of transformers' and more of autograd's. So each half of a layer is one function here, with a
backward pass of its own, on the parameters of the model as they are: their gradients come as from any module.

Axes: M tokens of a micro-batch (:mod:`gatepo.engine.shared_prompts`), H hidden, D head size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu

from gatepo.engine.lean_attention import Attended, Places, turned, turned_back
from gatepo.engine.shared_prompts import SHORT, Layout
from gatepo.model import LEAN_KINDS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def fits(model: PreTrainedModel, layout: Layout) -> bool:
    """Say whether :func:`hidden_states` is the model's own on these tokens.

    It is asked for every micro-batch: an adapter, a hook or a shard may come at any time.
    """
    config, body = model.config, model.get_decoder()
    known = type(model).__name__ in LEAN_KINDS and config.hidden_act == "silu"
    if not known or model.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if layout.keys > SHORT or model.is_gradient_checkpointing or (model.training and config.attention_dropout):
        return False
    modules = [*body.modules()]
    watched = any(getattr(module, hooks) for module in modules for hooks in HOOKS)
    linears = [m for layer in body.layers for part in (layer.self_attn, layer.mlp) for m in _linears(part)]
    own = all(type(module) is nn.Linear for module in linears)
    return not watched and own and {p.dtype for p in body.parameters()} == {torch.float32}


def _linears(part: Any) -> list[nn.Module]:
    return [getattr(part, name) for name, _ in part.named_children() if name.endswith("_proj")]


def hidden_states(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Do :func:`gatepo.engine.shared_prompts.hidden_states` where the model :func:`fits`."""
    body: Any = model.get_decoder()
    x_MH = body.embed_tokens(layout.ids_M)
    cos_MD, sin_MD = (part[0] for part in body.rotary_emb(x_MH[None], layout.position_M[None]))
    attention = body.layers[0].self_attn
    places = Places.of(layout, cos_MD, sin_MD, attention.scaling)
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        x_MH = _AttentionHalf.apply(
            x_MH,
            layer.input_layernorm.weight,
            *(getattr(getattr(attention, name, None), "weight", None) for name in ("q_norm", "k_norm")),
            *_parameters(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
            layer.input_layernorm.variance_epsilon,
            places,
        )
        x_MH = _MlpHalf.apply(
            x_MH,
            layer.post_attention_layernorm.weight,
            *_parameters(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
            layer.post_attention_layernorm.variance_epsilon,
        )
    return body.norm(x_MH.index_select(0, layout.before_completion))


def _parameters(*linears: nn.Linear) -> tuple[Tensor | None, ...]:
    return tuple(parameter for one in linears for parameter in (one.weight, one.bias))


class _AttentionHalf(torch.autograd.Function):
    """x + attention(norm(x)): of x [M, H], the norms' weights, and weight and bias of each product."""

    @staticmethod
    def forward(
        ctx: Any,
        x_MH: Tensor,
        norm: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        q_w: Tensor,
        q_b: Tensor | None,
        k_w: Tensor,
        k_b: Tensor | None,
        v_w: Tensor,
        v_b: Tensor | None,
        o_w: Tensor,
        o_b: Tensor | None,
        eps: float,
        places: Places,
    ) -> Tensor:
        unit_MH, inverse_M1 = _unit(x_MH, eps)
        y_MH = unit_MH * norm
        q, k, v = (linear(y_MH, w, b).unflatten(1, (-1, places.D)) for w, b in ((q_w, q_b), (k_w, k_b), (v_w, v_b)))
        heads: tuple[Tensor, ...] = ()
        if q_norm is not None and k_norm is not None:
            heads = (*_unit(q, eps), *_unit(k, eps))
            q, k = heads[0] * q_norm, heads[2] * k_norm
        attended = Attended.of(turned(q, *places.query_turn), turned(k, *places.key_turn), v, places)
        ctx.save_for_backward(unit_MH, inverse_M1, norm, q_norm, k_norm, q_w, k_w, v_w, o_w, *heads)
        ctx.attended, ctx.places = attended, places
        ctx.biased = [bias is not None for bias in (q_b, k_b, v_b, o_b)]
        return _added(x_MH, attended.mixed, o_w, o_b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MH: Tensor) -> tuple[Tensor | None, ...]:
        unit_MH, inverse_M1, norm, q_norm, k_norm, q_w, k_w, v_w, o_w, *heads = ctx.saved_tensors
        places: Places = ctx.places
        dq, dk, dv = ctx.attended.backward(grad_MH @ o_w, places)
        dq, dk = turned_back(dq, *places.query_turn), turned_back(dk, *places.key_turn)
        dq_norm = dk_norm = None
        if heads:
            dq, dq_norm = _unit_backward(dq, heads[0], heads[1], q_norm)
            dk, dk_norm = _unit_backward(dk, heads[2], heads[3], k_norm)
        d_parts = [part.flatten(1) for part in (dq, dk, dv)]
        dy_MH = (d_parts[0] @ q_w).addmm_(d_parts[1], k_w).addmm_(d_parts[2], v_w)
        dx_MH, d_norm = _unit_backward(dy_MH, unit_MH, inverse_M1, norm)
        y_MH = unit_MH * norm
        products = _products([(part, y_MH) for part in d_parts] + [(grad_MH, ctx.attended.mixed)], ctx.biased)
        return dx_MH.add_(grad_MH), d_norm, dq_norm, dk_norm, *products, None, None


class _MlpHalf(torch.autograd.Function):
    """x + down(silu(gate(norm(x))) up(norm(x))): of x [M, H], the norm's weight, weight and bias of each product."""

    @staticmethod
    def forward(
        ctx: Any,
        x_MH: Tensor,
        norm: Tensor,
        gate_w: Tensor,
        gate_b: Tensor | None,
        up_w: Tensor,
        up_b: Tensor | None,
        down_w: Tensor,
        down_b: Tensor | None,
        eps: float,
    ) -> Tensor:
        unit_MH, inverse_M1 = _unit(x_MH, eps)
        y_MH = unit_MH * norm
        gate, up = linear(y_MH, gate_w, gate_b), linear(y_MH, up_w, up_b)
        opened = silu(gate)
        ctx.save_for_backward(unit_MH, inverse_M1, norm, gate_w, up_w, down_w, gate, up, opened)
        ctx.biased = [bias is not None for bias in (gate_b, up_b, down_b)]
        return _added(x_MH, opened * up, down_w, down_b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MH: Tensor) -> tuple[Tensor | None, ...]:
        unit_MH, inverse_M1, norm, gate_w, up_w, down_w, gate, up, opened = ctx.saved_tensors
        d_inner = grad_MH @ down_w
        d_up = d_inner * opened
        d_gate = torch.ops.aten.silu_backward(d_inner.mul_(up), gate)
        dx_MH, d_norm = _unit_backward((d_gate @ gate_w).addmm_(d_up, up_w), unit_MH, inverse_M1, norm)
        y_MH = unit_MH * norm
        products = _products([(d_gate, y_MH), (d_up, y_MH), (grad_MH, opened * up)], ctx.biased)
        return dx_MH.add_(grad_MH), d_norm, *products, None


def _unit(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Divide by the root mean square of the last axis; and give what it was multiplied with, [..., 1]."""
    square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
    inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_()
    return x * inverse, inverse


def _unit_backward(dy: Tensor, unit: Tensor, inverse: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give the gradients of x and of the weight, for y = unit(x) * weight; writes over ``dy``."""
    along = dy * unit
    mean = (along @ weight).div_(-weight.shape[0])[..., None]
    d_weight = along.flatten(0, -2).sum(dim=0)
    return dy.mul_(weight).addcmul_(unit, mean).mul_(inverse), d_weight


def _added(x_MH: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found = torch.addmm(x_MH, y, weight.T)
    return found if bias is None else found.add_(bias)


def _products(pairs: list[tuple[Tensor, Tensor]], biased: list[bool]) -> list[Tensor | None]:
    """Give the gradients of each product's weight and bias, from that of what it gave and from what it was given."""
    found: list[Tensor | None] = []
    for (d, given), bias in zip(pairs, biased, strict=True):
        found += [d.T @ given, d.sum(dim=0) if bias else None]
    return found
