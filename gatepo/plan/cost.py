"""Memory, FLOPs and the least time of a run, by arithmetic alone. No torch.

Prompts and completions all have the lengths of :class:`Work`; a plan gives it the longest. Times divide work by a
device's peaks: nothing is that fast. Not counted: communication between devices, rewards, the sync of weights, and what
allocators and libraries keep for themselves.

Symbols: H hidden, Q width of the queries, K width of the keys, I intermediate, L layers, V vocabulary; T tokens of a
sequence; M completion tokens of a micro-batch.

Sources:
  [K] Kaplan et al. 2020, arXiv:2001.08361, table 1: a token costs 2 FLOPs per parameter it is multiplied with, and
      2 L T Q in causal attention (half of a T x T square); the backward pass costs twice the forward: 6 N in all.
  [Z] Rajbhandari et al. 2020, ZeRO, arXiv:1910.02054, section 5: which states each stage shards.
  [A] Korthikanti et al. 2022, arXiv:2205.05198, section 4: activations as a count of the tensors a layer keeps for
      its backward pass, and with full recomputation the layer's input alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from gatepo.plan.hardware import Hardware
from gatepo.plan.shape import ModelShape
from gatepo.plan.work import MOMENTS, Layout, Workload

GIB = 2**30
# DeepSpeed's defaults, in elements: reduce_bucket_size, stage3_max_live_parameters
BUCKET, GATHERED = 500_000_000, 1_000_000_000
# Bytes per logit alive at once in logprobs.dense_token_logprobs: logits, log-softmax, its exponential, their product.
LOGIT_BYTES = 16
CACHE_ROOM = 5 / 4  # rollout/cache.py: a cache that has just grown is four fifths full


# Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes of one rank while its trainer is made, while it samples and while it learns.

    Reference and sampler are made after the trainer, and the sampler sleeps while the trainer learns: the end of the
    start needs no more than sampling does.
    """

    name: str
    starting: float = 0
    sampling: float
    learning: float


def memory(shape: ModelShape, work: Workload, layout: Layout) -> list[Part]:
    """Give bytes of one device by part; the run needs the largest of the three sums."""
    N, stage = shape.parameters, layout.zero_stage
    weights = weight_bytes(shape, layout) / (work.devices if stage >= 3 else 1)
    gradients = 0.0 if layout.gradients_on_host else gradient_bytes(shape, work, layout)
    optimizer = 0.0 if layout.offload_optimizer else optimizer_bytes(shape, work, layout)
    bucket = bucket_bytes(shape, layout) if stage >= 3 else 0
    whole = layout.weights * shape.head if stage >= 3 else 0
    doubled, zeros, master = starting_bytes(shape, work, layout)
    cast = 2 * layout.autocast * (shape.body_matrices if layout.frozen is None else layout.learning(N))
    logits = work.decoded_at_once * shape.vocabulary * layout.sampler_logit_bytes
    copy = 4 * N if layout.sampler == "copy" else 0
    return [
        Part(name="weights", starting=weights + doubled, sampling=weights, learning=weights),
        Part(name="reference model", sampling=N * layout.reference, learning=N * layout.reference),
        Part(name="gradients", starting=zeros, sampling=gradients * layout.gradients_kept, learning=gradients),
        Part(name="optimizer states", starting=master, sampling=optimizer, learning=optimizer),
        Part(
            name="ZeRO: buckets, gathered weights",
            starting=bucket + whole,
            sampling=bucket,
            learning=zero_bytes(shape, layout),
        ),
        Part(name="bf16 copies by autocast", sampling=0, learning=cast),
        Part(name="activations", sampling=0, learning=activation_bytes(shape, work, layout)),
        Part(name="logits and head", sampling=0, learning=head_bytes(shape, work, layout)),
        Part(name="sampler: weights", sampling=copy + sampler_bytes(shape, layout), learning=copy),
        Part(name="sampler: KV cache", sampling=cached_bytes(shape, work, layout), learning=0),
        Part(name="sampler: logits", sampling=logits, learning=0),
    ]


def weight_bytes(shape: ModelShape, layout: Layout) -> int:
    """Give all weights: the model's, those beneath an adapter in a precision of their own, and the adapter's."""
    beneath = 0 if layout.frozen is None else (layout.weights - layout.frozen) * shape.body_matrices
    return (shape.parameters + (layout.trained or 0)) * layout.weights - beneath


def starting_bytes(shape: ModelShape, work: Workload, layout: Layout) -> tuple[float, float, float]:
    """Give what is on the device beside the weights, at the larger of two moments while a trainer is made.

    ZeRO-1 and 2 copy the weights into one flat piece, then free the first copy; then come the fp32 copy that the
    optimizer steps on and gradients of zero in fp32. Source: deepspeed/runtime/zero/stage_1_and_2.py, 0.19.8. What is
    frozen beneath an adapter is cast after it was loaded.

    Returns: the second copy of the weights, gradients, and the fp32 copy, of one moment.
    """
    on_device = not layout.offload_optimizer
    master = on_device * master_bytes(shape, work, layout)
    learning, sharded = layout.learning(shape.parameters), layout.flattened or layout.zero_stage >= 3
    zeros = on_device * sharded * learning * 4 / work.devices
    doubled = learning * layout.weights * layout.flattened
    if layout.frozen is not None:
        doubled = (layout.weights - layout.frozen) * shape.body_matrices
    return (doubled, 0, 0) if doubled > zeros + master else (0, zeros, master)


def host_memory(shape: ModelShape, work: Workload, layout: Layout) -> list[Part]:
    """Give bytes that one rank takes of its host, by part, beside its device; a host holds those of all its ranks.

    Loading takes none: the files of a model are mapped, one copy for all ranks, which the host may drop at any time.
    """
    copies = layout.learning(shape.parameters) * layout.host_copies / (work.devices if layout.zero_stage >= 1 else 1)
    states = optimizer_bytes(shape, work, layout) if layout.offload_optimizer else 0
    master = master_bytes(shape, work, layout) if layout.offload_optimizer else 0
    asleep = sampler_bytes(shape, layout) if layout.sampler_sleeps else 0
    return [
        Part(name="optimizer states", starting=master, sampling=states, learning=states),
        Part(name="gradients, copies of weights", starting=copies, sampling=copies, learning=copies),
        Part(name="sampler: weights, asleep", sampling=0, learning=asleep),
    ]


def gradient_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Give the gradients that one rank adds up: sharded from stage 2 on [Z]."""
    return layout.learning(shape.parameters) * layout.gradients / (work.devices if layout.zero_stage >= 2 else 1)


def optimizer_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Give optimizer states of one rank, wherever they lie: sharded from stage 1 on [Z]."""
    return layout.learning(shape.parameters) * layout.optimizer / (work.devices if layout.zero_stage >= 1 else 1)


def master_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Give the fp32 copy of the weights of one rank, wherever it lies; the moments come with the first step."""
    return layout.learning(shape.parameters) * layout.master / (work.devices if layout.zero_stage >= 1 else 1)


def zero_bytes(shape: ModelShape, layout: Layout) -> int:
    """Give gradients on their way to the rank that keeps them, and sharded weights that are whole for a while."""
    gathered = min(GATHERED, shape.parameters) if layout.zero_stage >= 3 else 0
    return bucket_bytes(shape, layout) + layout.weights * gathered


def bucket_bytes(shape: ModelShape, layout: Layout) -> int:
    """Give gradients on their way, in fp32, as they are summed over ranks; stage 3 keeps the bucket."""
    return 4 * min(BUCKET, layout.learning(shape.parameters)) if layout.zero_stage >= 1 else 0


def activation_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Count what a micro-batch keeps for its backward pass; checkpointed: each layer's input, and one layer."""
    boundary = layer_input_bytes(shape, layout)
    final_norm = 8 * shape.hidden if layout.weights == 4 else 6 * shape.hidden
    layer = layer_bytes(shape, layout)
    kept = layer + shape.layers * boundary if layout.checkpointing else shape.layers * layer
    return work.micro_batch * work.tokens * (kept + final_norm)


def layer_bytes(shape: ModelShape, layout: Layout) -> int:
    """Give bytes per token that one layer keeps; a count of tensors, as [A] makes one for GPT.

        float32      24 H + 8 Q + 8 K + 16 I      two norms (input and result), their products with the norm's weight,
        bfloat16     16 H + 4 Q + 4 K +  8 I      queries, keys, values, attention's result; gate, its SiLU, up and
        autocast     26 H + 4 Q + 4 K +  8 I      their product. Norms keep their input in fp32; autocast casts anew
                                                  for each of q, k, v, gate and up.

    and 4 bytes per head (the attention's log-sum-exp; scores are never kept) and per norm. Beneath an adapter norms
    keep no result, each A what it gives. Source: autograd's hooks, on Qwen2 and Qwen3 (tests/test_plan_memory.py).
    """
    H, Q, K, I = shape.hidden, shape.query, shape.key, shape.intermediate  # noqa: E741
    norms, rest = {"float32": (24, 4), "bfloat16": (16, 2)}[layout.dtype]
    if layout.autocast:
        norms = 26
    if layout.trained is not None:
        norms -= 8 if layout.weights == 4 else 4
    kept = norms * H + rest * (2 * Q + 2 * K + 4 * I) + 4 * shape.heads + 8 + rest * layout.rows
    if shape.head_norms:
        kept += (8 if layout.dtype == "float32" else 6) * (Q + K) + 4 * (shape.heads + shape.kv_heads)
    return kept


def layer_input_bytes(shape: ModelShape, layout: Layout) -> int:
    """Give bytes per token between two layers: in the precision of the weights."""
    return shape.hidden * layout.weights


def head_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Say what log-probabilities take beside the weights: the larger of their forward and their backward pass.

    All logits at once: LOGIT_BYTES of each, then two fp32 copies beside the head's gradient; a bf16 head is cast whole.
    In slices: logits and exponentials, then logits beside the gradient, which has the head's precision; two slices of a
    bf16 head, or of its gradient, are cast. What is kept from forward to backward lies in the gradient's memory, which
    is then there from the start, and beside it. Hidden states have three fp32 copies.
    Source: the peak that torch's profiler sees (tests/test_plan_memory.py).
    """
    M, H, V = work.micro_batch * work.completion_length, shape.hidden, shape.vocabulary
    halves, gradient = layout.weights == 2, layout.weights * V * H * (layout.trained is None)
    if layout.slice_width is None:
        whole = 4 * V * H * (layout.trained is None)
        return max(LOGIT_BYTES * M * V, 8 * M * V + whole) + 12 * M * H + halves * 4 * V * H
    logits, cast = 4 * M * layout.slice_width, halves * 4 * layout.slice_width * H
    kept = kept_tokens(shape, layout, M)
    if not layout.head_mib:
        return max(2 * logits, logits + gradient) + 2 * cast + 12 * M * H
    beside = 4 * V * max(0, kept - gradient // (4 * V))
    exponentials = 4 * (M - kept) * layout.slice_width
    return gradient + beside + logits + exponentials + 2 * cast + 12 * M * H


def kept_tokens(shape: ModelShape, layout: Layout, tokens: int) -> int:
    """Give how many of a micro-batch's tokens need no second product with the head in the backward pass."""
    if layout.slice_width is None:
        return tokens
    beside = (layout.head_mib << 20) // (4 * shape.vocabulary)
    within = shape.hidden * layout.weights // 4 if layout.trained is None else 0
    return min(tokens, bool(layout.head_mib) * within + beside)


def sampler_bytes(shape: ModelShape, layout: Layout) -> float:
    """Give weights for decoding alone: vLLM's, asleep while a GPU learns, or what autocast makes of fp32 ones."""
    if layout.sampler == "own":
        return shape.parameters * layout.decoder / layout.sampler_shards
    body = shape.body_matrices if layout.frozen is None else 0
    return 2 * (body + shape.head) if layout.dtype == "bfloat16" else 0


def cached_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Give keys and values of all completions that are decoded at once; vLLM keeps a group's prompt once."""
    N, P, C = work.decoded_at_once, work.prompt_length, work.completion_length
    if layout.sampler == "own":
        return (N // work.num_generations * P + N * C) * cache_bytes(shape, layout)
    return N * (P + C) * cache_bytes(shape, layout) * CACHE_ROOM


def cache_bytes(shape: ModelShape, layout: Layout) -> int:
    """Give keys and values of one token."""
    return shape.layers * shape.key * layout.cached


# FLOPs


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Of one rollout batch (prefill, decode) and of each update on it (the rest), for some number of prompts."""

    prefill: float
    decode: float
    body: float  # forward and backward
    head: float  # forward and backward in fp32; in slices the backward pass computes logits that were not kept again
    recompute: float  # the body's forward again, with checkpointing


def flops(shape: ModelShape, work: Workload, layout: Layout, prompts: int, shares: bool = False) -> Flops:
    """Give FLOPs for ``prompts`` groups: ``work.prompts`` for all devices, ``work.device_prompts`` for the busiest one.

    With ``shares`` the body learns from a prompt once for the completions of its group that run at once. Prefill reads
    a prompt once for its whole group and ends in one row of logits; decoding then makes a pass for each token but the
    first, which reads everything before it.
    """
    P, C, N = work.prompt_length, work.completion_length, prompts * work.num_generations
    prefill = body_flops(shape, 1, P) + 2 * shape.head
    decode = body_flops(shape, P + 1, P + C - 1) + (C - 1) * 2 * shape.head
    read = sum(read for _, read in work.cut(prompts, shares))
    forward, share = read * body_flops(shape, 1, P) + N * body_flops(shape, P + 1, P + C - 1), work.learning
    adapter = 2 * (layout.trained or 0) * (read * P + N * (C - 1))
    matrices, whole = 2 * shape.body_matrices * (read * P + N * (C - 1)), layout.trained is None
    # a frozen matrix has no gradient of its own
    backward = 2 * (forward + adapter) - (0 if whole else matrices)
    forward += adapter
    again = 1 - kept_tokens(shape, layout, work.micro_batch * C) / (work.micro_batch * C)
    return Flops(
        prefill=prompts * prefill,
        decode=N * decode,
        body=forward + share * backward,
        head=N * (1 + (1 + whole + again) * share) * C * 2 * shape.head,
        recompute=share * forward if layout.checkpointing else 0,
    )


def head_in_parts(shape: ModelShape, hardware: Hardware, work: Workload, layout: Layout) -> float:
    """Give the seconds of an update's head in bf16 parts, as :mod:`gatepo.products` has it; a GPU chooses at its start.

    A product of two fp32 matrices is six of bf16 ones; three where one is in bf16, one where both are: hidden states
    and weights of a bf16 model, at sampling temperature 1.
    """
    halves, tokens = layout.weights == 2, work.device_completions * work.completion_length
    at_once = work.micro_batch * work.completion_length
    again = 1 - kept_tokens(shape, layout, at_once) / at_once
    logits, hidden, weight = (1, 3, 6) if halves else (6, 6, 6)
    passes = logits + work.learning * (again * logits + hidden + weight * (layout.trained is None))
    return passes * tokens * 2 * shape.head / hardware.bfloat16


def body_flops(shape: ModelShape, first: int, last: int) -> int:
    """Give forward pass of the tokens at positions ``first`` to ``last`` (from 1) of a sequence, without the head [K].

    A token at position t attends to t keys: 2 Q FLOPs for each score and 2 Q for each value. Summed over 1 to T that is
    2 L Q T (T + 1), [K]'s 2 L T Q per token.
    """
    tokens = last - first + 1
    attended = tokens * (first + last) // 2
    return tokens * 2 * shape.body_matrices + shape.layers * 4 * shape.query * attended


# Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Least seconds of one rollout batch (prefill, decode) and of each update on it (the rest)."""

    prefill: float
    decode: float
    body: float
    head: float
    recompute: float
    optimizer: float

    @property
    def rollout(self) -> float:
        """Seconds of one rollout batch."""
        return self.prefill + self.decode

    @property
    def learning(self) -> float:
        """Seconds of one update."""
        return self.body + self.head + self.recompute + self.optimizer


def seconds(
    shape: ModelShape, hardware: Hardware, work: Workload, layout: Layout, shares: bool | None = None
) -> Seconds:
    """Divide the work of the busiest device by its peaks, by part; the slower of computing and reading counts.

    ``shares`` says whether each prompt is learned from once for its group; None: as a trainer does on this hardware.
    """
    shares = hardware.cpu and shape.looks_back if shares is None else shares
    done = flops(shape, work, layout, work.device_prompts, shares)
    peak = hardware.peak(layout.dtype)
    rounds = ceil(work.device_completions / work.decoded_at_once)
    prefill = rounds * decoder_bytes(shape, layout) / hardware.bandwidth
    decode = decode_bytes(shape, work, layout) / hardware.bandwidth
    return Seconds(
        prefill=max(done.prefill / peak, prefill),
        decode=max(done.decode / peak, decode),
        body=done.body / peak,
        head=done.head / hardware.float32,
        recompute=done.recompute / peak,
        optimizer=step_bytes(shape, work, layout) / hardware.bandwidth,
    )


def least_seconds(
    shape: ModelShape,
    hardware: Hardware,
    work: Workload,
    layout: Layout,
    samples: bool | None = None,
    shares: bool | None = None,
) -> float:
    """Give the seconds that one update takes at the least; measured over least says how far a run is from the peak.

    For a measured update, give ``work`` its mean lengths and the share that learned. Attention grows faster than
    lengths do, so their mean can only make the least less.

    Args:
      samples: whether the update begins with a rollout, as the first of mu does; None: the mean over all mu.
      shares: as :func:`seconds` has it.
    """
    parts = seconds(shape, hardware, work, layout, shares)
    share = 1 / work.iterations if samples is None else float(samples)
    return share * parts.rollout + parts.learning


def decoder_bytes(shape: ModelShape, layout: Layout) -> float:
    """Give weights that a decoding step reads: all but the embedding, of which it reads a row for each completion."""
    return (shape.body_matrices + shape.head) * layout.decoder / layout.sampler_shards


def decode_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Give bytes that decoding reads: in each step all weights once, and each completion's own keys and values."""
    P, steps = work.prompt_length, work.completion_length - 1
    rounds = ceil(work.device_completions / work.decoded_at_once)
    attended = steps * (2 * P + 1 + steps) // 2  # sum of P + 1 to P + steps
    keys = work.device_completions * attended * cache_bytes(shape, layout)
    return rounds * steps * decoder_bytes(shape, layout) + keys


def step_bytes(shape: ModelShape, work: Workload, layout: Layout) -> float:
    """Give bytes of one optimizer step: gradients are read, weights and moments read and written, bf16 weights written.

    Offloaded, the step runs on the host, and is not counted.
    """
    if layout.offload_optimizer:
        return 0
    each = layout.gradients + 2 * (4 + MOMENTS) + (layout.weights if layout.master else 0)
    return layout.learning(shape.parameters) * each / (work.devices if layout.zero_stage >= 1 else 1)
