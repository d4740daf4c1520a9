"""The plan of a run: shapes against real models, formulas against what torch counts, sums by hand."""

import ast
import gc
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from command import gatepo
from composed import EVALUATIONS, files, typed
from conftest import REPO
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from gatepo import logprobs
from gatepo.engine.passes import micro_batches
from gatepo.engine.shared_prompts import can_share
from gatepo.errors import UserError
from gatepo.model import autocast
from gatepo.plan import cost, resolve
from gatepo.plan.cost import GIB
from gatepo.plan.hardware import HARDWARE, Hardware
from gatepo.plan.report import report
from gatepo.plan.shape import KNOWN, ModelShape, from_config, model_shape
from gatepo.plan.work import Layout, Workload
from gatepo.rollout.cache import growing_cache
from gatepo.types import TokenBatch

SIZES = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 200,
    "vocab_size": 50,
}
FP32 = Layout(dtype="float32", weights=4)
BF16 = Layout(dtype="bfloat16", weights=2, master=4)
AUTOCAST = Layout(dtype="bfloat16", weights=4, autocast=True)
PAPER = Workload(
    prompts=16,
    num_generations=8,
    iterations=2,
    updates=5000,
    devices=8,
    micro=1,
    max_sequences=256,
    prompt_length=1536,
    completion_length=512,
)
# One layer. Matrices: 4 x (2 x 4 + 2 x 2) attention + 3 x 4 x 8 MLP = 144; head 10 x 4 = 40.
# Parameters: 144 + 2 norms of 4 + the last norm of 4 + 2 x 40 = 236.
SMALL = ModelShape(hidden=4, layers=1, heads=2, kv_heads=1, head_dim=2, intermediate=8, vocabulary=10, tied=False)
# 2 prompts of 3 tokens, 2 completions of 2 tokens for each, on one device, two completions at once
WORK = replace(PAPER, prompts=2, num_generations=2, devices=1, micro=2, prompt_length=3, completion_length=2)


# Shapes


def test_the_embedded_model_has_as_many_parameters_as_its_shape_says(tiny_model: torch.nn.Module) -> None:
    assert model_shape("tiny").parameters == sum(p.numel() for p in tiny_model.parameters())


@pytest.mark.parametrize(
    ("size", "parameters", "billions", "without_embedding"),
    [  # counts: of the safetensors on the hub; billions: the model cards, "Number of Parameters" and "(Non-Embedding)"
        ("0.5B", 494_032_768, 0.49, 0.36),
        ("1.5B", 1_543_714_304, 1.54, 1.31),
        ("3B", 3_085_938_688, 3.09, 2.77),
        ("7B", 7_615_616_512, 7.61, 6.53),
    ],
)
def test_qwen25_is_known_without_the_hub(
    size: str, parameters: int, billions: float, without_embedding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoConfig, "from_pretrained", None)
    for name in (f"Qwen/Qwen2.5-{size}", f"Qwen/Qwen2.5-{size}-Instruct"):
        shape = model_shape(name)
        assert shape.parameters == parameters
        assert shape.parameters / 1e9 == pytest.approx(billions, abs=0.0061)
        embeddings = shape.head * (1 if shape.tied else 2)
        assert (shape.parameters - embeddings) / 1e9 == pytest.approx(without_embedding, abs=0.0051)


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SIZES),
        Qwen2Config(**SIZES, tie_word_embeddings=True),
        Qwen3Config(**SIZES),
        Qwen3Config(**SIZES, attention_bias=True),
        LlamaConfig(**SIZES),
        LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
        MistralConfig(**SIZES),
    ],
    ids=lambda c: c.model_type,
)
def test_every_family_counts_as_transformers_builds_it(config) -> None:
    shape = from_config("here", config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    linear = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert shape.body_matrices + shape.head == sum(linear)


def test_a_head_size_that_the_config_leaves_out_is_that_of_equal_shares() -> None:
    config = Qwen2Config(**(SIZES | {"head_dim": None}))
    assert from_config("here", config).head_dim == 96 // 6


def test_other_families_and_missing_models_are_one_line_with_a_remedy(tmp_path: Path) -> None:
    GPT2Config().save_pretrained(tmp_path)
    for path, message in (
        (str(tmp_path), "gatepo.plan knows the families qwen2, qwen3, llama, mistral, got gpt2; plan with"),
        ("no/such-model", "model.path=no/such-model is no folder, and the hub is offline from here (HF_HUB_OFFLINE is"),
    ):
        with pytest.raises(UserError) as caught:
            model_shape(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


# Arithmetic of the batch


def test_the_papers_batch_on_eight_devices() -> None:
    # 16 prompts x 8 = 128 completions; / 8 devices = 16 each, one at a time: 16 steps. 5,000 / 2 = 2,500 rollout
    # batches x 128 = 320,000 completions, x 512 = 163,840,000 tokens.
    assert (PAPER.completions, PAPER.device_prompts, PAPER.device_completions) == (128, 2, 16)
    assert (PAPER.micro_batch, PAPER.accumulation) == (1, 16)
    assert (PAPER.rollout_batches, PAPER.prompts_taken) == (2500, 40_000)
    assert (PAPER.completions_sampled, PAPER.tokens_sampled) == (320_000, 163_840_000)


def test_what_does_not_divide_is_rounded_up_to_the_busiest_device() -> None:
    # 5 prompts on 2 devices: 3 and 2; 3 x 8 = 24 completions, 16 at once: 2 steps; 7 updates in pairs: 4 batches
    work = replace(PAPER, prompts=5, devices=2, micro=16, updates=7)
    assert (work.device_prompts, work.device_completions, work.accumulation) == (3, 24, 2)
    assert work.rollout_batches == 4
    assert replace(work, micro=None).micro_batch == 24
    assert replace(work, micro=100).micro_batch == 24
    assert replace(work, max_sequences=20).decoded_at_once == 16  # whole groups
    assert replace(work, max_sequences=100).decoded_at_once == 24


# Memory


def bytes_of(shape: ModelShape, work: Workload, layout: Layout) -> dict[str, tuple[float, float]]:
    return {part.name: (part.sampling, part.learning) for part in cost.memory(shape, work, layout)}


def host_of(shape: ModelShape, work: Workload, layout: Layout) -> dict[str, tuple[float, float, float]]:
    return {part.name: (part.starting, part.sampling, part.learning) for part in cost.host_memory(shape, work, layout)}


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
    process = subprocess.run(
        [*(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"), "-m", "tests.stack.memory", folder],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
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
    shape, work, layout = _planned((f"engine.zero_stage={stage}", f"engine.offload_optimizer={offload}"))
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
        kept[layers] = _saved_bytes(model, torch.zeros(N, T, dtype=torch.long), layout.autocast)
    shape = from_config("here", family(**SIZES))
    assert (kept[3] - kept[1]) / 2 == N * T * cost.layer_bytes(shape, layout)
    # The rest: the last norm, and cosine and sine of the positions, which all layers and completions share
    work = replace(WORK, micro=N, prompt_length=T, completion_length=1)
    assert cost.activation_bytes(shape, work, layout) == pytest.approx(kept[3], rel=0.02)


def _saved_bytes(model: torch.nn.Module, ids_NT: torch.Tensor, autocasts: bool) -> int:
    """Bytes that a forward pass of the body saves for the backward pass, each storage once, and no weights."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if ids_NT.numel() in tensor.shape or ids_NT.shape[1] in tensor.shape:  # a cast of a weight has no tokens
            saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocasts),
    ):
        model.get_decoder()(input_ids=ids_NT, use_cache=False)
    return sum(t.untyped_storage().nbytes() for pointer, t in saved.items() if pointer not in own)


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


# FLOPs


def test_the_body_costs_what_torch_counts() -> None:
    T = 24
    config = Qwen2Config(**SIZES, attn_implementation="eager")
    shape = from_config("here", config)
    model = AutoModelForCausalLM.from_config(config)
    with FlopCounterMode(display=False) as counter:
        model.get_decoder()(input_ids=torch.arange(T)[None], use_cache=False)
    square = 3 * 4 * 96 * T * T  # eager attention computes the whole T x T square, in 3 layers
    assert counter.get_total_flops() == T * 2 * shape.body_matrices + square
    causal = cost.body_flops(shape, 1, T) - T * 2 * shape.body_matrices
    assert causal == sum(3 * 4 * 96 * position for position in range(1, T + 1))


def test_flops_of_a_small_run_by_hand() -> None:
    # A token: 2 x 144 = 288; attention at position t: 4 Q t = 16 t; the head: 2 x 40 = 80.
    # Prefill, 3 tokens: 3 x 288 + 16 x (1 + 2 + 3) + 80 = 1,040; for 2 prompts 2,080.
    # Decode, 1 pass at position 4: 288 + 64 + 80 = 432; for 4 completions 1,728.
    # Learning reads 3 + 2 - 1 = 4 tokens: 4 x 288 + 16 x 10 = 1,312; three times, 4 completions: 15,744.
    # Head: 2 tokens x 80 x 3 x 4 completions = 1,920; in slices 4 passes: 2,560. Recompute: 4 x 1,312 = 5,248.
    done = cost.flops(SMALL, WORK, FP32, prompts=2)
    assert (done.prefill, done.decode, done.body, done.head, done.recompute) == (2080, 1728, 15_744, 1920, 0)
    assert cost.flops(SMALL, WORK, replace(FP32, checkpointing=True), prompts=2).recompute == 5248
    assert cost.flops(SMALL, WORK, replace(FP32, slice_width=5), prompts=2).head == 2560
    # Kept: the 2 x 2 tokens of a micro-batch have room in the gradient of 4 hidden units, so that 3 passes are left;
    # in bf16 2 have, and 1 MiB beside it holds one more of 2^18 words: a quarter of the fourth pass is left.
    assert cost.flops(SMALL, WORK, replace(FP32, slice_width=5, head_mib=1), prompts=2).head == 1920
    words, bf16 = replace(SMALL, vocabulary=2**18), replace(BF16, slice_width=5, head_mib=1)
    assert cost.flops(words, WORK, bf16, prompts=2).head == 4 * 2 * 2 * 2**20 * 3.25
    assert cost.flops(SMALL, WORK, FP32, prompts=1).decode == 864
    # Each prompt once per group: 2 x (3 x 288 + 16 x 6) + 4 x (288 + 64) = 3,328 in the place of 4 x 1,312 = 5,248; in
    # micro-batches of one completion a prompt is read for each again.
    shared = cost.flops(SMALL, WORK, FP32, prompts=2, shares=True)
    assert (shared.body, shared.head) == (3 * 3328, 1920)
    assert cost.flops(SMALL, replace(WORK, micro=1), FP32, prompts=2, shares=True).body == 15_744
    # Half of the completions learn: 4 forward passes and 2 backward ones, of twice the work: 8 x 1,312, 8 x 2 x 80
    half = cost.flops(SMALL, replace(WORK, learning=0.5), replace(FP32, checkpointing=True), prompts=2)
    assert (half.body, half.head, half.recompute) == (10_496, 1280, 2624)


@pytest.mark.parametrize(
    ("micro", "micro_tokens", "rows", "shared"),
    [  # of 3 groups of 2 completions, prompts of 3 tokens, completions of 2
        (None, None, [6], [(6, 3)]),
        (2, None, [2, 2, 2], [(2, 1), (2, 1), (2, 1)]),
        (3, None, [3, 3], [(3, 2), (3, 2)]),  # the second group's prompt is read twice
        (None, 12, [2, 2, 2], [(3, 2), (3, 2)]),  # 2 x 5 tokens; 3 + 2 + 2 + 3 + 2
        (None, 1, [1] * 6, [(1, 1)] * 6),
        (1, 100, [1] * 6, [(1, 1)] * 6),
    ],
)
def test_a_plan_cuts_micro_batches_as_a_trainer_does(
    micro: int | None, micro_tokens: int | None, rows: list[int], shared: list[tuple[int, int]]
) -> None:
    work = replace(WORK, prompts=3, micro=micro, micro_tokens=micro_tokens)
    assert work.cut(3, shares=False) == [(n, n) for n in rows]
    assert work.cut(3, shares=True) == shared
    assert (work.micro_batch, work.accumulation) == (max(rows), len(rows))
    # The trainer's own cut of such a batch.
    ids_NT = torch.arange(30).view(6, 5)
    batch = TokenBatch(
        ids_NT=ids_NT,
        completion_NT=(torch.arange(5) >= 3).expand(6, 5),
        attention_NT=torch.ones(6, 5, dtype=torch.bool),
        advantage_N=torch.ones(6),
        group_N=torch.arange(6) // 2,
        sampler_logp_NT=torch.zeros(6, 5),
    )
    for shares, expected in ((False, rows), (True, [n for n, _ in shared])):
        parts = micro_batches(batch, torch.ones(6, dtype=torch.bool), micro or 6, shares, micro_tokens)
        assert [len(part.rows_N) for part in parts] == expected


def test_the_head_in_parts_by_hand() -> None:
    # 8 tokens, a head of 80 FLOPs: 6 bf16 products for each of 3 passes; of a bf16 model 1, 3 and 6.
    hardware = Hardware(name="slow", memory=1, bfloat16=1000, float32=100, bandwidth=1e9)
    assert cost.head_in_parts(SMALL, hardware, WORK, replace(FP32, slice_width=5, head_mib=1)) == 8 * 80 * 18 / 1000
    assert cost.head_in_parts(SMALL, hardware, WORK, replace(BF16, slice_width=5, head_mib=1)) == 8 * 80 * 10 / 1000
    assert cost.head_in_parts(SMALL, hardware, WORK, replace(BF16, slice_width=5)) == 8 * 80 * 11 / 1000
    page = report(typed("model.path=Qwen/Qwen2.5-0.5B", "model.dtype=bfloat16")).splitlines()
    once, parts = (next(x.split()[-4:] for x in page if x.startswith(w)) for w in ("the same", "and the head in"))
    assert once[3] == parts[3]  # a CPU never takes them
    assert all(float(b) < float(a) for a, b in zip(once[:3], parts[:3], strict=True))


def test_tokens_that_go_through_the_model() -> None:
    # Rows: 4 x (3 + 1); each prompt once: 2 x 3 + 4 x 1.
    assert (WORK.tokens_read(2, shares=False), WORK.tokens_read(2, shares=True)) == (16, 10)


def test_only_a_cpu_reads_each_prompt_once_and_only_a_model_that_looks_all_the_way_back() -> None:
    assert [h.name for h in HARDWARE if h.cpu] == ["CPU-2-cores"]
    cpu, gpu = HARDWARE[-1], HARDWARE[0]
    once, each = (cost.flops(SMALL, WORK, FP32, 2, shares).body for shares in (True, False))
    assert cost.seconds(SMALL, cpu, WORK, FP32).body == once / cpu.float32
    assert cost.seconds(SMALL, gpu, WORK, FP32).body == each / gpu.float32
    assert cost.seconds(SMALL, gpu, WORK, FP32, shares=True).body == once / gpu.float32
    assert cost.seconds(replace(SMALL, looks_back=False), cpu, WORK, FP32).body == each / cpu.float32


@pytest.mark.parametrize(
    ("config", "looks_back"),
    [
        (Qwen2Config(**SIZES), True),
        (Qwen3Config(**SIZES), True),
        (LlamaConfig(**SIZES), True),
        (MistralConfig(**SIZES, sliding_window=None), True),
        (MistralConfig(**SIZES, sliding_window=8), False),
        (Qwen2Config(**SIZES, use_sliding_window=True, max_window_layers=1, sliding_window=8), False),
    ],
)
def test_the_plan_shares_prompts_where_the_trainer_does(config: Any, looks_back: bool) -> None:
    assert from_config("here", config).looks_back == looks_back == can_share(AutoModelForCausalLM.from_config(config))


def test_the_page_says_what_a_prompt_once_per_group_saves() -> None:
    page = report(typed()).splitlines()
    # 128 x (128 + 63) tokens; 16 x 128 + 128 x 63: 16 completions at once are two whole groups
    assert "tokens through the model         24,448                 24,448" in page
    assert "each prompt once, as on a CPU    10,112                 10,112" in page
    figures = {line.split("  ")[0]: line.split()[-4:] for line in page}
    least, paper = figures["mean update, at the least"], figures["the same, each prompt once"]
    assert least[3] == paper[3]  # a CPU does so
    assert all(float(b) < float(a) for a, b in zip(least[:3], paper[:3], strict=True))
    # of 270 GFLOP those of 2 x 3 x (128 x 191 - 10,112) tokens are saved, and of their attention
    assert "total, each prompt once                                132         66.1   48.9%" in page


# Seconds


def test_least_seconds_of_a_small_run_by_hand() -> None:
    hardware = Hardware(name="slow", memory=1, bfloat16=1000, float32=100, bandwidth=1e9)
    found = cost.seconds(SMALL, hardware, WORK, AUTOCAST)
    # FLOPs as above over 1,000 a second, the head's over 100; one step: 236 x (4 + 2 x 12) bytes
    assert (found.prefill, found.decode, found.body, found.head) == (2.08, 1.728, 15.744, 19.2)
    assert found.optimizer == 236 * 28 / 1e9
    rollout, learning = 2.08 + 1.728, 15.744 + 19.2 + 236 * 28 / 1e9
    assert cost.least_seconds(SMALL, hardware, WORK, AUTOCAST, samples=True) == pytest.approx(rollout + learning)
    assert cost.least_seconds(SMALL, hardware, WORK, AUTOCAST, samples=False) == pytest.approx(learning)
    assert cost.least_seconds(SMALL, hardware, WORK, AUTOCAST) == pytest.approx(rollout / 2 + learning)


def test_decoding_waits_for_weights_and_keys() -> None:
    hardware = Hardware(name="narrow", memory=1, bfloat16=1e12, float32=1e12, bandwidth=100)
    # Weights: (144 + 40) x 4 = 736 bytes a pass; one decoding pass over 4 completions, 4 keys and values each, 16 bytes
    work = WORK
    assert cost.seconds(SMALL, hardware, work, FP32).prefill == 7.36
    assert cost.seconds(SMALL, hardware, work, FP32).decode == (736 + 4 * 4 * 16) / 100
    # Half of them at once: the weights are read twice
    assert cost.seconds(SMALL, hardware, replace(work, max_sequences=2), FP32).decode == (2 * 736 + 4 * 4 * 16) / 100
    # One token more: another pass, over 5 keys
    longer = replace(work, completion_length=3)
    assert cost.seconds(SMALL, hardware, longer, FP32).decode == (2 * 736 + 4 * (4 + 5) * 16) / 100


def test_devices_share_the_work() -> None:
    shape, a100 = KNOWN["Qwen/Qwen2.5-7B"], HARDWARE[0]
    one, eight = (cost.seconds(shape, a100, replace(PAPER, devices=n), replace(BF16, zero_stage=2)) for n in (1, 8))
    assert eight.learning == pytest.approx(one.learning / 8)
    assert eight.decode > one.decode / 8  # each reads all weights


# From the config to the page


def test_engines_keep_the_model_as_they_say() -> None:
    def layout(*overrides: str) -> Layout:
        settings = typed(*overrides)
        return resolve.layout(settings, model_shape("tiny"), resolve.workload(settings))

    assert layout() == FP32
    assert layout("model.dtype=bfloat16") == AUTOCAST
    sharded = layout("model.dtype=bfloat16", "engine=deepspeed", "engine.zero_stage=1", "rollout=vllm")
    vllm = {"sampler": "own", "sampler_logit_bytes": 16, "sampler_sleeps": True}
    assert sharded == replace(BF16, zero_stage=1, accumulated=4, flattened=True, **vllm)
    stage2 = replace(FP32, zero_stage=2, master=4, flattened=True, gradients_kept=False)
    assert layout("engine=deepspeed", "engine.zero_stage=2") == stage2
    assert layout("engine=deepspeed", "engine.zero_stage=3").master == 0
    assert layout("engine=deepspeed", "engine.zero_stage=3").sampler == "copy"
    assert layout("engine=deepspeed", "model.dtype=bfloat16").sampler == "copy"
    assert layout("kl=fixed").reference == 4
    assert layout("kl=fixed", "model.dtype=bfloat16").reference == 2
    assert layout("kl=fixed", "kl.reference=sampling").reference == 0
    more = ("engine.offload_optimizer=true", "model.activation_checkpointing=true", "devices=2")
    assert layout("engine=deepspeed", *more).offload_optimizer
    assert layout("engine=deepspeed", *more).checkpointing
    team = ("devices=2", "rollout=vllm", "rollout.tensor_parallel_size=2", "rollout.max_sequences=64")
    assert layout(*team).sampler_shards == 2
    assert resolve.workload(typed(*team)).max_sequences == 32


def test_large_vocabularies_are_sliced_as_the_trainer_slices_them() -> None:
    settings = typed("+experiment=paper/erf")
    shape, work = model_shape(settings.model.path), resolve.workload(settings)
    tokens = work.micro_batch * 512
    assert resolve.layout(settings, shape, work).slice_width == logprobs.slice_width(tokens, 3584) < 152_064


def test_epochs_are_prompts_over_rows(tmp_path: Path) -> None:
    # 40,000 prompts, half and half: 20,000 / 7,473 and 20,000 / 103,110
    found = resolve.epochs(typed("+experiment=paper/erf"), 40_000)
    assert found == {"gsm8k": pytest.approx(2.67630, abs=1e-5), "deepmath": pytest.approx(0.19397, abs=1e-5)}
    (tmp_path / "mine.jsonl").write_text('{"question": "1+1?", "answer": "#### 2"}\n' * 3)
    overrides = ["data=gsm8k_deepmath", f"data.sources.gsm8k.path={tmp_path}/mine.jsonl", "data.sources.gsm8k.weight=3"]
    settings = typed(*overrides, "data.sources.deepmath.hub=some/other")
    assert resolve.epochs(settings, 100) == {"gsm8k": 100 * 3 / 4 / 3, "deepmath": None}


@pytest.mark.parametrize("experiment", [name for name in files("experiments") if name not in EVALUATIONS])
def test_every_experiment_has_a_plan_that_loads_no_weights(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("weights were loaded")

    before = set(sys.modules)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", refuse)
    page = report(typed(f"+experiment={experiment}"))
    assert "mean update, at the least" in page
    assert not {"vllm", "deepspeed"} & (set(sys.modules) - before)


def test_the_page_of_the_papers_run_on_eight_devices() -> None:
    overrides = ("devices=8", "engine=deepspeed", "engine.zero_stage=2", "rollout=vllm", "rollout.memory=0.35")
    page = report(typed("+experiment=paper/erf", *overrides))
    lines = {line.split("  ")[0]: line.split("  ", 1)[-1].split() for line in page.splitlines()}
    assert "7,615,616,512 parameters" in page
    assert lines["completions (groups of 8)"] == ["128", "16"]
    assert lines["gradient accumulation"] == ["16", "micro-batches", "of", "1"]
    assert lines["tokens sampled, at most"] == ["163,840,000"]
    assert lines["weights"] == ["28.4", "14.2", "14.2"]  # 7,615,616,512 x 2 bytes / 2^30; two copies as ZeRO flattens
    assert "sampler: weights, asleep                              14.2" in page
    assert "all 8 ranks                          0         0       113" in page
    parts = cost.memory(*_planned(overrides))
    sums = [sum(getattr(part, phase) for part in parts) / GIB for phase in ("starting", "sampling", "learning")]
    totals = [line.split()[1:] for line in page.splitlines() if line.startswith("total")]
    assert totals[0] == [f"{x:.1f}" for x in sums]
    assert lines["of A100-80G (79 GiB)"] == [f"{x / 79.15:.0%}" for x in sums]
    # (43.18 - 3.55 gradients - 14.82 of vLLM) GiB and 0.35 of the device
    assert "It takes all of the 0.35 that it is given; GiB while sampling are then 52.5 on A100-80G" in page
    # (14.185 weights + 0.602 cache + 0.036 logits) GiB: 0.187 of 79.15, 0.107 of 139
    assert "vLLM needs 14.8 GiB: rollout.memory of at least 0.19 on A100-80G, 0.19 on H100-SXM, 0.11 on H200" in page


@pytest.mark.parametrize(
    ("document", "before"),
    [("docs/running.md", "+experiment=paper/erf`:"), ("README.md", "before anything is loaded:")],
)
def test_the_excerpts_are_what_the_command_prints(document: str, before: str) -> None:
    text = (REPO / document).read_text()
    excerpt = text[text.index(before) :].split("\n\n")[1]
    page = report(typed("+experiment=paper/erf")).splitlines()
    for line in excerpt.splitlines():
        assert line.removeprefix("    ") in page


def _planned(overrides: tuple[str, ...]) -> tuple[ModelShape, Workload, Layout]:
    settings = typed("+experiment=paper/erf", *overrides)
    shape, work = model_shape(settings.model.path), resolve.workload(settings)
    return shape, work, resolve.layout(settings, shape, work)


def test_the_command_takes_overrides_and_leaves_no_folder(tmp_path: Path) -> None:
    done = gatepo("plan", "updates=6", "batch.num_generations=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "completions (groups of 4)" in done.stdout
    assert "rollout batches (mu = 2)" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["tau.pos=-1"], "tau.pos must be in [1e-6, 1e6], what fp32 can hold the slope at, got -1.0"),
        (["gate=tanh"], "gate must be one of arctan, aspo, ce_gppo, cispo, clip, "),
        (["model.path=no/such-model"], "model.path=no/such-model is no folder, and the hub is offline from here"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], part: str) -> None:
    done = gatepo("plan", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert part in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_arithmetic_knows_shapes_and_hardware_only() -> None:
    below = {"gatepo.plan.shape", "gatepo.plan.hardware", "gatepo.plan.work"}
    for name, allowed in (("cost", below), ("work", set()), ("hardware", set())):
        imported = set()
        for node in ast.walk(ast.parse((REPO / "gatepo" / "plan" / f"{name}.py").read_text())):
            imported |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            imported |= {a.name for a in node.names} if isinstance(node, ast.Import) else set()
        assert {module for module in imported if module.split(".")[0] not in sys.stdlib_module_names} == allowed
