"""The plan with an adapter: its parameters and activations against real models, its memory by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from composed import typed
from planned_runs import AUTOCAST, BF16, FP32, SIZES, SMALL, WORK, saved_bytes
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from gatepo.engine import adapted
from gatepo.engine.adapter import Lora
from gatepo.plan import cost, resolve
from gatepo.plan.report import report
from gatepo.plan.shape import KNOWN, from_config
from gatepo.plan.work import Layout

pytest.importorskip("peft", reason="peft is not installed; make test installs it")

ALL = Lora(rank=4)


def beneath(layout: Layout, adapter: Lora, shape: cost.ModelShape) -> Layout:
    size = adapter.size(shape.linears, shape.layers)
    assert size is not None
    return replace(layout, trained=size.parameters, rows=size.rows, frozen=2 if layout.autocast else None)


@pytest.mark.parametrize("adapter", [ALL, Lora(rank=3, target_modules=["q_proj", "down_proj"])])
@pytest.mark.parametrize("family", [Qwen2Config, Qwen3Config, LlamaConfig])
def test_as_many_parameters_learn_as_peft_makes(family: type, adapter: Lora) -> None:
    model = adapter.attach(AutoModelForCausalLM.from_config(family(**SIZES)), 0)
    shape = from_config("here", family(**SIZES))
    size = adapter.size(shape.linears, shape.layers)
    assert size is not None
    assert size.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("layout", [FP32, BF16, AUTOCAST], ids=("float32", "bfloat16", "autocast"))
def test_activations_are_what_autograd_keeps_beneath_an_adapter(layout: Layout) -> None:
    N, T = 2, 40
    kept = {}
    for layers in (1, 3):
        config = Qwen2Config(**(SIZES | {"num_hidden_layers": layers}))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        ALL.attach(model, 0)
        if layout is BF16:
            model.to(torch.bfloat16)
        adapted.keep_frozen_cast(model, torch.bfloat16 if layout.autocast else torch.float32)
        kept[layers] = saved_bytes(model, torch.zeros(N, T, dtype=torch.long), layout.autocast)
    shape = from_config("here", Qwen2Config(**SIZES))
    assert (kept[3] - kept[1]) / 2 == N * T * cost.layer_bytes(shape, beneath(layout, ALL, shape))


def test_memory_by_hand() -> None:
    # Rank 2 on q: 2 x (4 + 4) = 16 parameters learn, of 236 + 16. fp32: weights 4 x 252, gradients 64, moments 128.
    layout = beneath(FP32, Lora(rank=2, target_modules=["q_proj"]), SMALL)
    found = {part.name: part for part in cost.memory(SMALL, WORK, layout)}
    assert found["weights"].learning == found["weights"].starting == 1008
    assert (found["gradients"].learning, found["optimizer states"].learning) == (64, 128)
    # bf16 by torch: 144 matrix elements at 2 bytes, all else at 4; loaded at 4.
    layout = beneath(AUTOCAST, Lora(rank=2, target_modules=["q_proj"]), SMALL)
    found = {part.name: part for part in cost.memory(SMALL, WORK, layout)}
    assert found["weights"].learning == 4 * 252 - 2 * 144
    assert found["weights"].starting == 4 * 252
    assert found["bf16 copies by autocast"].learning == 2 * 16
    # bf16 by DeepSpeed: weights at 2, the adapter's masters at 4, moments at 8.
    layout = beneath(BF16, Lora(rank=2, target_modules=["q_proj"]), SMALL)
    found = {part.name: part for part in cost.memory(SMALL, WORK, layout)}
    assert (found["weights"].learning, found["optimizer states"].learning) == (504, 192)


def test_the_backward_pass_leaves_the_gradients_of_frozen_matrices_out() -> None:
    shape = KNOWN["Qwen/Qwen2.5-7B"]
    whole, layout = replace(BF16, slice_width=4096), beneath(BF16, Lora(rank=16), shape)
    full, low = (cost.flops(shape, WORK, kind, 16) for kind in (whole, replace(layout, slice_width=4096)))
    assert low.prefill == full.prefill
    assert 2 / 3 < low.body / full.body < 0.69
    assert 0.5 < low.head / full.head < 0.8


def test_a_plan_says_how_many_parameters_learn_and_has_no_second_copy() -> None:
    settings = typed("+experiment=math_7b_lora", "kl=grpo")
    # 28 layers of 32 x (3,584 to 3,584 twice, to 512 twice, to 18,944 three times)
    assert "LoRA of rank 32, alpha 64, on all-linear: 80,740,352 parameters learn" in report(settings)
    shape, work = KNOWN["Qwen/Qwen2.5-7B-Instruct"], resolve.workload(settings)
    assert resolve.layout(settings, shape, work).reference == 0
