"""From a validated config to what the arithmetic works with."""

from __future__ import annotations

from dataclasses import asdict

import torch

from gatepo.data.sources import Source, open_rows
from gatepo.logprobs import slice_width
from gatepo.objective.kl import INITIAL
from gatepo.plan.shape import ModelShape
from gatepo.plan.work import SAMPLED_LOGIT_BYTES, Layout, Workload
from gatepo.schema import TrainConfig

# Rows of the splits that the paper trains on. openai/grade-school-math: train.jsonl; the card of zwhe99/DeepMath-103K.
HUB_ROWS = {("openai/gsm8k", "main", "train"): 7_473, ("zwhe99/DeepMath-103K", None, "train"): 103_110}


def workload(config: TrainConfig) -> Workload:
    """Say what the config asks a run to do."""
    return Workload(
        prompts=config.batch.prompts,
        num_generations=config.batch.num_generations,
        iterations=config.batch.iterations,
        updates=config.updates,
        devices=config.devices,
        micro=config.batch.micro,
        micro_tokens=config.batch.micro_tokens,
        max_sequences=config.rollout.max_sequences // config.rollout.devices_per_copy,
        prompt_length=config.sampling.max_prompt_length,
        completion_length=config.sampling.max_completion_length,
    )


def layout(config: TrainConfig, shape: ModelShape, work: Workload) -> Layout:
    """Say how the chosen engine and sampler keep the model."""
    dtype = getattr(torch, config.model.dtype)
    kept = config.engine.kept_bytes(dtype)
    size = config.model.adapter.size(shape.linears, shape.layers)
    # As build.algorithm has it: a sampler may decode with the trainer's module.
    module = "trainer" if config.engine.shares_weights(dtype) else "copy"
    width = slice_width(work.micro_batch * work.completion_length, shape.hidden)
    sliced = width < shape.vocabulary
    return Layout(
        dtype=config.model.dtype,
        **asdict(kept),
        trained=None if size is None else size.parameters,
        rows=0 if size is None else size.rows,
        frozen=torch.finfo(dtype).bits // 8 if size is not None and kept.autocast else None,
        reference=torch.finfo(dtype).bits // 8 if config.kl.reference == INITIAL and size is None else 0,
        checkpointing=config.model.activation_checkpointing,
        slice_width=width if sliced else None,
        head_mib=config.batch.head_mib if sliced else 0,
        sampler=module if config.rollout.DECODES_WITH_MODULE else "own",
        sampler_shards=config.rollout.devices_per_copy,
        sampler_logit_bytes=config.rollout.LOGIT_BYTES or SAMPLED_LOGIT_BYTES,
        sampler_sleeps=config.rollout.SLEEPS,
    )


def epochs(config: TrainConfig, prompts: int) -> dict[str, float | None]:
    """Say how often a run that takes ``prompts`` prompts sees each source; None where its rows are not known."""
    total = sum(entry.weight for entry in config.data.sources.values())
    result: dict[str, float | None] = {}
    for name, entry in config.data.sources.items():
        paths = config.data.paths("sources", name)
        rows = None
        if isinstance(entry, Source) and entry.is_remote(paths):
            rows = HUB_ROWS.get((str(entry.hub), entry.subset, entry.split))
        else:
            rows = len(open_rows(name, entry, paths))
        result[name] = None if rows is None else prompts * entry.weight / total / rows
    return result
