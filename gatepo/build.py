"""The composition root: from a validated config to the objects that the loop works with.

The only file that picks implementations. Each table maps an option's name to what it builds; a new option is a line
here and a YAML file.
"""

from __future__ import annotations

import glob
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gatepo import tiny
from gatepo.data import sources
from gatepo.data.stream import MixedStream
from gatepo.data.template import PromptTemplate
from gatepo.engine.torch import OptimizerSettings, TorchEngine
from gatepo.errors import UserError
from gatepo.loop import Algorithm
from gatepo.model import context_length, load_model, load_tokenizer
from gatepo.objective import gates
from gatepo.objective.advantage import GroupZScore
from gatepo.objective.aggregation import SequenceMean
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import ConstantTau
from gatepo.rewards.reward import AnswerAndFormat
from gatepo.rollout.transformers import TransformersRollout
from gatepo.schema import DataConfig, SourceConfig, TrainConfig
from gatepo.types import Prompt, Sampling

RATIOS = {"token": TokenRatio}
TAUS = {"constant": ConstantTau}
AGGREGATIONS = {"sequence_mean": SequenceMean}
ADVANTAGES = {"group_zscore": GroupZScore}
REWARDS = {"answer_and_format": AnswerAndFormat}
ROLLOUTS = {"transformers": TransformersRollout}
ENGINES = {"torch": TorchEngine}


def pick(table: dict[str, Any], key: str, name: str) -> Any:
    """The entry called ``name``, or an error that lists the known ones."""
    if name not in table:
        raise UserError(f"{key} must be one of {', '.join(table)}, got {name}")
    return table[name]


def objective(config: TrainConfig) -> Objective:
    """One choice on each axis."""
    options = {k: v for k, v in asdict(config.gate).items() if k != "name"}
    pick(dict.fromkeys(gates.names()), "gate", config.gate.name)
    return Objective(
        gate=gates.get(config.gate.name, **options),
        tau=pick(TAUS, "tau.name", config.tau.name)(pos=config.tau.pos, neg=config.tau.neg),
        ratio=pick(RATIOS, "ratio", config.ratio.name)(clamp=config.ratio.clamp),
        aggregation=pick(AGGREGATIONS, "aggregation", config.aggregation.name)(),
    )


def algorithm(config: TrainConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Algorithm:
    """Everything that one training run is made of."""
    _check_lengths(config)
    sampling = Sampling(
        temperature=config.sampling.temperature,
        max_completion_length=config.sampling.max_completion_length,
        num_generations=config.batch.num_generations,
    )
    return Algorithm(
        updates=config.updates,
        prompts=config.batch.prompts,
        iterations=config.batch.iterations,
        sampling=sampling,
        take_prompts=PromptStream(config, tokenizer),
        rollout=rollout(config, model, tokenizer),
        reward=reward(config),
        advantage=pick(ADVANTAGES, "advantage", config.advantage.name)(
            eps=config.advantage.eps, ddof=config.advantage.ddof
        ),
        objective=objective(config),
        engine=engine(config, model),
        pad_id=tokenizer.pad_token_id,
        device=model.device,
    )


def engine(config: TrainConfig, model: PreTrainedModel) -> TorchEngine:
    """The trainer that owns ``model``."""
    o = config.optimizer
    settings = OptimizerSettings(
        lr=o.lr,
        beta1=o.beta1,
        beta2=o.beta2,
        eps=o.eps,
        schedule=o.schedule,
        warmup=o.warmup,
        updates=config.updates,
        weight_decay=o.weight_decay,
        max_grad_norm=o.max_grad_norm,
    )
    micro = config.batch.micro or config.batch.prompts * config.batch.num_generations
    return pick(ENGINES, "engine", config.engine.name)(
        model, settings, micro, config.sampling.temperature, dtype(config)
    )


def rollout(config: TrainConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> TransformersRollout:
    """The sampler."""
    return pick(ROLLOUTS, "rollout", config.rollout.name)(model, tokenizer, config.rollout.max_sequences, dtype(config))


def reward(config: TrainConfig) -> AnswerAndFormat:
    """The reward function."""
    weights = config.reward.weights
    return pick(REWARDS, "reward", config.reward.name)(
        answer_weight=weights.answer, format_weight=weights.format, deadline=config.reward.deadline
    )


def device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(config: TrainConfig) -> torch.dtype:
    """What the body computes in."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.model.dtype]


def load(config: TrainConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model on its device, and its tokenizer."""
    return load_model(config.model.path, device(), config.model.attention), load_tokenizer(config.model.path)


class PromptStream:
    """Training prompts by position: rows are read once, tokenized when they are taken."""

    def __init__(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.template = prompt_template(config, tokenizer)
        rows = {
            name: sources.read(source(config.data, name, entry, len(config.data.sources)))
            for name, entry in config.data.sources.items()
        }
        self._stream = MixedStream(rows, {n: s.weight for n, s in config.data.sources.items()}, config.seed)

    def __call__(self, position: int, count: int) -> list[Prompt]:
        rows = self._stream.take(position, count)
        return [self.template(position + i, name, row) for i, (name, row) in enumerate(rows)]


def prompt_template(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """The model's chat template with the data's system prompt."""
    return PromptTemplate(tokenizer=tokenizer, system=config.data.system, max_length=config.sampling.max_prompt_length)


def evaluation_prompts(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Prompt]]:
    """Every evaluation set as prompts, in its file's order."""
    template = prompt_template(config, tokenizer)
    rows = {n: sources.read(source(config.data, n, s, 0)) for n, s in config.data.evaluation.items()}
    return {name: [template(i, name, row) for i, row in enumerate(found)] for name, found in rows.items()}


def source(data: DataConfig, name: str, entry: SourceConfig, siblings: int) -> sources.Source:
    """Where a source is read from: its own path, else data.path, else the hub (or the package itself)."""
    options = {k: v for k, v in asdict(entry).items() if k not in ("weight", "path", "file")}
    if entry.path is not None:
        return sources.Source(name=name, paths=(entry.path,), **options)
    if data.path is None:
        embedded = str(entry.hub).startswith(tiny.PREFIX)
        return sources.Source(name=name, paths=(str(entry.hub),) if embedded else None, **options)
    folder = Path(data.path)
    if not folder.is_dir():
        if siblings != 1:
            raise UserError(
                f"data.path must be a folder for {siblings} sources, got {data.path}; "
                f"give each its own with data.sources.{name}.path=FILE.jsonl"
            )
        return sources.Source(name=name, paths=(data.path,), **options)
    found = tuple(sorted(glob.glob(str(folder / (entry.file or f"{name}*.jsonl")))))
    if not found:
        raise UserError(
            f"data.path={data.path} must hold {entry.file} for the source {name}; "
            f"give data.sources.{name}.path=FILE.jsonl"
        )
    return sources.Source(name=name, paths=found, **options)


def _check_lengths(config: TrainConfig) -> None:
    context = context_length(config.model.path)
    asked = config.sampling.max_prompt_length + config.sampling.max_completion_length
    if context is not None and asked > context:
        raise UserError(
            f"sampling.max_prompt_length + sampling.max_completion_length must be at most the model's "
            f"context of {context} tokens, got {asked}; lower one of them"
        )
