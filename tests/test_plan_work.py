"""The work of a plan: sizes of the batch, FLOPs against what torch counts, and seconds by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from composed import typed
from planned_runs import AUTOCAST, BF16, FP32, PAPER, SIZES, SMALL, WORK
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from gatepo.engine.passes import micro_batches
from gatepo.engine.shared_prompts import can_share
from gatepo.plan import cost
from gatepo.plan.hardware import HARDWARE, Hardware
from gatepo.plan.report import report
from gatepo.plan.shape import KNOWN, from_config
from gatepo.types import TokenBatch


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
