"""Layers in fewer operations give what the model's own modules give, and give way to them where they must."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from test_shared_prompts import GROUPS, SHARED, logps_and_gradients, made, rows_of
from torch import nn
from transformers import PreTrainedModel

from gatepo.engine import lean
from gatepo.engine.shared_prompts import hidden_states, layout_of
from gatepo.model import checkpoint_activations

KINDS = [name for name in SHARED if name != "Gemma"]
SHORT = [name for name in GROUPS if name != "long"]


class Adapted(nn.Linear):
    """A product that adds something of its own, as an adapter does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


def adapted(model: PreTrainedModel) -> None:
    attention = model.get_decoder().layers[1].self_attn
    old, attention.v_proj = attention.v_proj, Adapted(32, 16)
    attention.v_proj.load_state_dict(old.state_dict())


@pytest.mark.parametrize("groups", SHORT)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_the_modules_give_in_double(kind: str, groups: str) -> None:
    model, rows = made(SHARED[kind]), rows_of(GROUPS[groups])
    scatter_parameters(model)
    assert lean.fits(model, layout_of(*rows))
    exact_NT, entropies_NT, wanted = logps_and_gradients(model.double(), rows, shares=False)
    logp_NT, entropy_NT, gradients = logps_and_gradients(model.float(), rows, shares=True)
    assert (logp_NT - exact_NT).abs().max() < 1e-5
    assert (entropy_NT - entropies_NT).abs().max() < 1e-5
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).norm() <= 2e-5 * wanted[name].norm() + 1e-6, name


def scatter_parameters(model: PreTrainedModel) -> None:
    """Norms of other weights than 1, and biases of other values than 0: a factor that is missing shows."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)


def test_frozen_weights_get_no_gradient_and_the_others_theirs() -> None:
    model, rows = made(SHARED["Qwen3"]), rows_of(GROUPS["unequal"])
    wanted = logps_and_gradients(model, rows, shares=True)[2]
    frozen = [name for name, p in model.named_parameters() if "up_proj" in name or "k_norm" in name or "embed" in name]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    gradients = logps_and_gradients(model, rows, shares=True)[2]
    assert gradients.keys() == wanted.keys() - set(frozen)
    assert all(torch.equal(gradients[name], wanted[name]) for name in gradients)


@pytest.mark.parametrize(
    "change",
    [
        adapted,
        checkpoint_activations,
        lambda model: model.get_decoder().layers[0].mlp.register_forward_hook(lambda *_: None),
        lambda model: model.get_decoder().layers[2].self_attn.q_proj.register_full_backward_hook(lambda *_: None),
        lambda model: model.get_decoder().norm.register_forward_pre_hook(lambda *_: None),
        lambda model: model.bfloat16(),
        lambda model: setattr(model.config, "hidden_act", "gelu"),
        lambda model: (setattr(model.config, "attention_dropout", 0.1), model.train()),
    ],
    ids=["an adapter", "checkpointing", "a hook", "a backward hook", "a hook before", "bf16", "gelu", "dropout"],
)
def test_it_gives_way(change: Callable[[PreTrainedModel], object]) -> None:
    model, rows = made(deepcopy(SHARED["Qwen2"])), rows_of(GROUPS["unequal"])
    layout = layout_of(*rows)
    assert lean.fits(model, layout)
    change(model)
    assert not lean.fits(model, layout)


def test_an_adapter_that_comes_later_is_seen() -> None:
    model, rows = made(SHARED["Qwen2"]), rows_of(GROUPS["unequal"])
    before, _, _ = logps_and_gradients(model, rows, shares=True)
    adapted(model)
    after, _, _ = logps_and_gradients(model, rows, shares=True)
    exact, _, _ = logps_and_gradients(model.double(), rows, shares=False)
    assert (after - exact).abs().max() < 1e-5 < (before - exact).abs().max()


def test_it_gives_way_under_autocast_and_where_rows_are_long() -> None:
    model = made(SHARED["Qwen2"])
    with torch.autocast("cpu", torch.bfloat16):
        assert not lean.fits(model, layout_of(*rows_of(GROUPS["unequal"])))
    assert not lean.fits(model, layout_of(*rows_of(GROUPS["long"])))
    assert not lean.fits(made(SHARED["Gemma"]), layout_of(*rows_of(GROUPS["unequal"])))


def test_a_layer_keeps_less_for_its_backward_pass() -> None:
    """Bytes that autograd keeps of a micro-batch."""
    model, rows = made(SHARED["Qwen2"]), rows_of([[(20, 40)] * 8])
    layout = layout_of(*rows)
    kept = {}
    for name, way in (("lean", lean.hidden_states), ("modules", hidden_states)):
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            found = way(model, layout)
        kept[name] = sum(seen.values())
        del found
    assert kept["lean"] < kept["modules"]
