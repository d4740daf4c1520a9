"""From a validated config to what the arithmetic works with."""

from __future__ import annotations

from gatepo import build
from gatepo.data import sources
from gatepo.logprobs import slice_width
from gatepo.plan.cost import Layout, Work
from gatepo.plan.shape import ModelShape
from gatepo.schema import TrainConfig

# Rows of the splits that the paper trains on. openai/grade-school-math: train.jsonl; the card of zwhe99/DeepMath-103K.
HUB_ROWS = {("openai/gsm8k", "main", "train"): 7_473, ("zwhe99/DeepMath-103K", None, "train"): 103_110}


def work(config: TrainConfig) -> Work:
    """What the config asks a run to do."""
    return Work(
        prompts=config.batch.prompts,
        num_generations=config.batch.num_generations,
        iterations=config.batch.iterations,
        updates=config.updates,
        devices=config.devices,
        micro=config.batch.micro,
        max_sequences=config.rollout.max_sequences // _shards(config),
        prompt_length=config.sampling.max_prompt_length,
        completion_length=config.sampling.max_completion_length,
    )


def layout(config: TrainConfig, shape: ModelShape, work: Work) -> Layout:
    """How the chosen engine and sampler keep the model.

    The torch engine keeps fp32 weights and computes under autocast; DeepSpeed in bf16 keeps bf16 weights beside an fp32
    master copy. Its stages 1 and 2 keep such a copy in fp32 too (0.19.8, deepspeed/runtime/zero/stage_1_and_2.py).
    """
    halves = config.model.dtype == "bfloat16"
    keeps_bf16 = halves and build.pick({"torch": False, "deepspeed": True}, "engine, in a plan,", config.engine.name)
    stage = getattr(config.engine, "zero_stage", 0)
    # As build.rollout has it: transformers samples with the trainer's module, unless its weights are cast or sharded.
    own = "copy" if keeps_bf16 or stage == 3 else "trainer"
    width = slice_width(work.micro_batch * work.completion_length, shape.hidden)
    return Layout(
        dtype=config.model.dtype,
        weights=2 if keeps_bf16 else 4,
        master=4 if keeps_bf16 or stage in (1, 2) else 0,
        accumulated=4 if keeps_bf16 and stage else None,  # gatepo/engine/deepspeed.py
        autocast=halves and not keeps_bf16,
        zero_stage=stage,
        offload_optimizer=getattr(config.engine, "offload_optimizer", False),
        checkpointing=getattr(config.model, "activation_checkpointing", False),
        slice_width=width if width < shape.vocabulary else None,
        sampler=build.pick({"transformers": own, "vllm": "vllm"}, "rollout, in a plan,", config.rollout.name),
        sampler_shards=_shards(config),
    )


def _shards(config: TrainConfig) -> int:
    """Devices that share one sampler."""
    return getattr(config.rollout, "tensor_parallel_size", 1)


def epochs(config: TrainConfig, prompts: int) -> dict[str, float | None]:
    """How often a run that takes ``prompts`` prompts sees each source; None where the number of rows is not known."""
    total = sum(entry.weight for entry in config.data.sources.values())
    result: dict[str, float | None] = {}
    for name, entry in config.data.sources.items():
        source = build.source(config.data, name, entry, len(config.data.sources))
        rows = HUB_ROWS.get((str(source.hub), source.subset, source.split))
        if source.paths is not None:
            rows = len(sources.read(source))
        result[name] = None if rows is None else prompts * entry.weight / total / rows
    return result
