"""The memory of a plan, against what autograd keeps and what DeepSpeed holds, and by hand."""

import gc
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from command import stack
from composed import typed
from planned_runs import AUTOCAST, BF16, FP32, PAPER, SIZES, SMALL, WORK, bytes_of, host_of, planned, saved_bytes
from transformers import (
    AutoModelForCausalLM,
    Qwen2Config,
    Qwen3Config,
)

from gatepo import logprobs
from gatepo.model import autocast
from gatepo.plan import cost, resolve
from gatepo.plan.shape import KNOWN, from_config, model_shape
from gatepo.plan.work import Layout
from gatepo.rollout.cache import growing_cache


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_model_states_are_those_of_the_zero_paper(stage: int, gigabytes: float) -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5B parameters, 64 devices, mixed-precision Adam
    shape = replace(SMALL, hidden=1, layers=0, vocabulary=7_500_000_000 - 1, tied=True)
    assert shape.parameters == 7_500_000_000
    parts = bytes_of(shape, replace(WORK, prompts=64, devices=64), replace(BF16, zero_stage=stage))
    for phase in (0, 1):
        states = sum(parts[name][phase] for name in ("weights", "gradients", "optimizer states"))
        assert states / 1e9 == pytest.approx(gigabytes, abs=0.06)


def test_offloaded_optimizer_states_leave_the_device() -> None:
    layout = replace(BF16, zero_stage=2, offload_optimizer=True)
    work = replace(WORK, devices=2)
    assert bytes_of(SMALL, work, layout)["optimizer states"] == (0, 0)
    assert host_of(SMALL, work, layout)["optimizer states"] == (236 * 4 / 2, 236 * 12 / 2, 236 * 12 / 2)
    assert cost.step_bytes(SMALL, work, layout) == 0


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/stack/memory.py counted on the first of two ranks."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed; make test installs it")
    folder = tmp_path_factory.mktemp("memory")
    stack("memory", folder, ranks=2)
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


HELD = {
    "bf16-zero2": ("model.dtype=bfloat16", "engine.zero_stage=2"),
    "bf16-zero3": ("model.dtype=bfloat16", "engine.zero_stage=3"),
    "bf16-offload2": ("model.dtype=bfloat16", "engine.zero_stage=2", "engine.offload_optimizer=true"),
    "bf16-offload3": ("model.dtype=bfloat16", "engine.zero_stage=3", "engine.offload_optimizer=true"),
    "fp32-zero2": ("engine.zero_stage=2",),
    "fp32-offload2": ("engine.zero_stage=2", "engine.offload_optimizer=true"),
    "fp32-offload3": ("engine.zero_stage=3", "engine.offload_optimizer=true"),
}


@pytest.mark.parametrize("name", HELD)
def test_deepspeed_holds_gradients_and_states_where_the_plan_says(held: dict[str, Any], name: str) -> None:
    settings = typed("engine=deepspeed", "devices=2", *HELD[name])
    shape, work = model_shape("tiny"), resolve.workload(settings)
    layout, found = resolve.layout(settings, shape, work), held[f"{name}-0"]
    device, host = bytes_of(shape, work, layout), host_of(shape, work, layout)
    close = partial(pytest.approx, rel=0.04, abs=1)  # a rank holds the whole of a weight that lies on its border
    for phase, key in enumerate(("sampling", "learning")):
        counted = found[key]
        assert counted.get("gradients, device", 0) == close(device["gradients"][phase])
        copies = ("gradients, host", "gradients to step on, host", "low-precision copy, host")
        assert sum(counted.get(role, 0) for role in copies) == close(host["gradients, copies of weights"][phase + 1])
        if layout.zero_stage == 3:
            assert counted["buckets, device"] == close(cost.bucket_bytes(shape, layout))
    states = sum(size for role, size in found["sampling"].items() if role.startswith(("masters", "moments")))
    assert states == close(device["optimizer states"][0] + host["optimizer states"][1])


@pytest.mark.parametrize("name", HELD)
def test_fp32_masters_are_those_of_the_file(held: dict[str, Any], name: str) -> None:
    assert held[f"{name}-0"]["off"] == 0


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("stage", [2, 3])
def test_model_states_at_7b_beside_deepspeeds_own_estimate(held: dict[str, Any], stage: int, offload: bool) -> None:
    shape, work, layout = planned((f"engine.zero_stage={stage}", f"engine.offload_optimizer={offload}"))
    parts = bytes_of(shape, work, layout)
    states = sum(parts[name][1] for name in ("weights", "gradients", "optimizer states"))
    estimate = held["estimates"][f"{stage}-{offload}"]
    if stage == 3:  # it counts the head, whole and in 4 bytes; here it is among the gathered weights
        estimate -= 4 * shape.head
    if stage == 2 and offload:  # it counts no gradients; a real run adds them up on the device, in fp32
        estimate += 4 * shape.parameters / 8
    if stage == 2 and not offload:  # it counts gradients in 2 bytes besides; those are in the bucket
        estimate -= 2 * shape.parameters / 8
    assert states == pytest.approx(estimate, rel=1e-6)


def test_a_reference_is_on_the_device_but_not_while_the_trainer_is_made() -> None:
    parts = {part.name: part for part in cost.memory(SMALL, WORK, replace(BF16, reference=2))}
    found = parts["reference model"]
    assert (found.starting, found.sampling, found.learning) == (0, 236 * 2, 236 * 2)


def test_a_sampler_that_sleeps_waits_in_the_hosts_memory() -> None:
    layout = replace(BF16, sampler="own", sampler_sleeps=True)
    assert host_of(SMALL, WORK, layout)["sampler: weights, asleep"] == (0, 0, 236 * 2)


def test_a_trainer_starts_with_the_larger_of_two_copies_and_its_first_states() -> None:
    # ZeRO-2 in bf16: two copies of the weights, 2 x 472; or one, with a master copy and gradients in fp32, shared out
    def starting(devices: int, layout: Layout) -> list[float]:
        parts = {part.name: part.starting for part in cost.memory(SMALL, replace(WORK, devices=devices), layout)}
        return [parts[name] for name in ("weights", "gradients", "optimizer states")]

    zero2 = replace(BF16, zero_stage=2, accumulated=4, flattened=True)
    assert starting(8, zero2) == [944, 0, 0]
    assert starting(1, zero2) == [472, 944, 944]
    assert starting(8, replace(zero2, zero_stage=3, flattened=False)) == [59, 118, 118]
    assert starting(1, FP32) == [944, 0, 0]


def test_fp32_weights_need_no_master_copy_and_autocast_keeps_bf16_copies() -> None:
    for layout, cast in ((FP32, 0), (AUTOCAST, 2 * 144)):
        parts = bytes_of(SMALL, WORK, layout)
        assert parts["weights"] == parts["gradients"] == (236 * 4, 236 * 4)
        assert parts["optimizer states"] == (236 * 8, 236 * 8)
        assert parts["bf16 copies by autocast"] == (0, cast)


def test_zero_holds_buckets_and_stage_3_gathers_weights() -> None:
    shape = KNOWN["Qwen/Qwen2.5-7B"]
    found = [cost.zero_bytes(shape, replace(BF16, zero_stage=stage)) for stage in range(4)]
    assert found == [0, 2e9, 2e9, 4e9]  # DeepSpeed's defaults: 5e8 elements of 4 bytes, and 1e9 more of 2


def test_each_sampler_pays_for_its_own_weights() -> None:
    # Trainer's module in fp32: nothing; under autocast 2 x (144 + 40); a copy: 4 x 236 at all times, and the casts;
    # vLLM in bf16: 2 x 236, over the devices that share it.
    def weights(layout: Layout) -> tuple[float, float]:
        return bytes_of(SMALL, WORK, layout)["sampler: weights"]

    assert weights(FP32) == (0, 0)
    assert weights(AUTOCAST) == (368, 0)
    assert weights(replace(BF16, sampler="copy")) == (944 + 368, 944)
    assert weights(replace(BF16, sampler="own")) == (472, 0)
    assert weights(replace(BF16, sampler="own", sampler_shards=2)) == (236, 0)


def test_caches_hold_every_completion_and_vllms_one_prompt_per_group() -> None:
    # 4 completions of 3 + 2 tokens; a token: 1 layer x 2 wide x (4 + 4 bytes) = 16; a quarter more room
    assert cost.cached_bytes(SMALL, WORK, FP32) == 4 * 5 * 16 * 5 / 4
    # vLLM in bf16, 8 bytes a token: 2 prompts of 3 and 4 completions of 2
    assert cost.cached_bytes(SMALL, WORK, replace(BF16, sampler="own")) == (2 * 3 + 4 * 2) * 8


@pytest.mark.parametrize(("layout", "dtype"), [(FP32, torch.float32), (AUTOCAST, torch.bfloat16)])
def test_a_cached_token_is_as_large_as_in_transformers(tiny_model, layout: Layout, dtype: torch.dtype) -> None:
    cache = growing_cache(tiny_model.config)
    with torch.inference_mode(), autocast(tiny_model.device, dtype):
        tiny_model(input_ids=torch.arange(20)[None], past_key_values=cache, use_cache=True)
    kept = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert kept == 20 * cost.cache_bytes(model_shape("tiny"), layout)


@pytest.mark.parametrize("family", [Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("layout", [FP32, BF16, AUTOCAST], ids=("float32", "bfloat16", "autocast"))
def test_activations_are_what_autograd_keeps(family: type, layout: Layout) -> None:
    N, T = 2, 40
    kept = {}
    for layers in (1, 3):
        config = family(**(SIZES | {"num_hidden_layers": layers}))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if layout.weights == 4 else torch.bfloat16)
        kept[layers] = saved_bytes(model, torch.zeros(N, T, dtype=torch.long), layout.autocast)
    shape = from_config("here", family(**SIZES))
    assert (kept[3] - kept[1]) / 2 == N * T * cost.layer_bytes(shape, layout)
    # The rest: the last norm, and cosine and sine of the positions, which all layers and completions share
    work = replace(WORK, micro=N, prompt_length=T, completion_length=1)
    assert cost.activation_bytes(shape, work, layout) == pytest.approx(kept[3], rel=0.02)


def test_checkpointing_keeps_the_input_of_each_layer_and_one_layer() -> None:
    shape, work = KNOWN["Qwen/Qwen2.5-7B"], PAPER
    # A token of one layer in bf16: 16 x 3,584 + 4 x 3,584 + 4 x 512 + 8 x 18,944 + 4 x 28 + 8 = 225,400; 2,047 tokens,
    # 28 layers, the last norm 6 x 3,584. Checkpointed: 28 x 2 x 3,584 and one layer.
    assert cost.activation_bytes(shape, work, BF16) == 2047 * (28 * 225_400 + 21_504)
    checkpointed = cost.activation_bytes(shape, work, replace(BF16, checkpointing=True))
    assert checkpointed == 2047 * (225_400 + 28 * 7_168 + 21_504)


@pytest.mark.parametrize("layout", [FP32, BF16], ids=("float32", "bfloat16"))
@pytest.mark.parametrize("head_mib", [0, 1, 20])
@pytest.mark.parametrize(("tokens", "vocabulary", "hidden"), [(64, 65_536, 64), (512, 32_768, 128), (64, 131_072, 128)])
def test_log_probabilities_take_the_memory_that_the_profiler_sees(
    layout: Layout, head_mib: int, tokens: int, vocabulary: int, hidden: int
) -> None:
    shape = replace(SMALL, hidden=hidden, vocabulary=vocabulary)
    work = replace(WORK, num_generations=1, micro=1, completion_length=tokens)
    width = logprobs.slice_width(tokens, hidden)
    sliced = width < vocabulary
    layout = replace(layout, slice_width=width if sliced else None, head_mib=head_mib if sliced else 0)
    dtype = torch.float32 if layout.weights == 4 else torch.bfloat16
    hidden_MH = torch.randn(tokens, hidden, dtype=dtype, requires_grad=True)
    weight_VH = torch.randn(vocabulary, hidden, dtype=dtype, requires_grad=True)
    token_M = torch.zeros(tokens, dtype=torch.long)
    gc.collect()  # what other tests left would count as freed here
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        logp_M, _ = logprobs.token_logprobs(hidden_MH, weight_VH, token_M, 1.0, kept_mib=head_mib)
        logp_M.sum().backward()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    assert 0.95 <= peak / cost.head_bytes(shape, work, layout) <= 1.01
