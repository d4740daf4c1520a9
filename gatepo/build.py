"""The composition root: from the objects of a command's settings to the parts that the loop works with.

It is wiring alone: each function takes the settings that it reads, and options make what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import torch

from gatepo.controllers import Controller
from gatepo.data.prompts import PromptStream, prompt_template
from gatepo.engine.base import EngineParts, PolicyEngine, ReferencePolicy
from gatepo.engine.reference import BeneathAdapter, FrozenPolicy
from gatepo.loop import Algorithm
from gatepo.model import check_lengths, checkpoint_activations, load_model
from gatepo.objective.gates.usable import require_positive, require_usable
from gatepo.objective.kl import INITIAL
from gatepo.objective.surrogate import Objective
from gatepo.rewards.extra import as_option
from gatepo.rollout.base import RolloutEngine, RolloutOption, RolloutParts
from gatepo.rollout.sync import LENGTH, Sampler, WeightSync, in_place
from gatepo.schema import Model, TrainConfig
from gatepo.types import Sampling
from gatepo.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def objective(config: TrainConfig) -> Objective:
    """Put one choice on each axis together, as it is at the start of the run.

    Raises:
      UserError: the gate cannot be used at these temperatures, or under this aggregation.
    """
    require_usable(config.gate, config.tau.temperatures)
    start = config.tau.at_start(config.gate)
    if getattr(config.aggregation, "NEEDS_VALUES_ABOVE_ZERO", False):
        require_positive(config.gate, start.pos, start.neg, config.ratio.clamp, config.aggregation)
    return Objective(
        gate=config.gate,
        tau=start,
        ratio=config.ratio,
        aggregation=config.aggregation,
        correction=config.correction,
        kl=config.kl,
        anchor=config.anchor,
    )


def algorithm(
    config: TrainConfig,
    objective: Objective,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
) -> Algorithm:
    """Make everything that one training run works with."""
    batch, sampling = config.batch, config.sampling
    context = sampling.max_prompt_length + sampling.max_completion_length
    check_lengths(config.model.path, context)
    body = dtype(config.model)
    micro = batch.micro or batch.prompts * batch.num_generations // world.size
    if config.model.activation_checkpointing:
        checkpoint_activations(model)
    trainer = config.engine.make(
        EngineParts(
            model=config.model.adapter.attach(model, config.seed),
            optimizer=config.optimizer,
            updates=config.updates,
            micro=micro,
            micro_tokens=batch.micro_tokens,
            head_mib=batch.head_mib,
            temperature=sampling.temperature,
            dtype=body,
            world=world,
        )
    )
    reference = _reference(config, micro, BeneathAdapter(trainer, model))
    # Last: what the others take for a while, as they start, is free again when vLLM takes its part of a GPU.
    shared = config.rollout.DECODES_WITH_MODULE and config.engine.shares_weights(body)
    sampler = rollout(config.rollout, config.model, model if shared else None, tokenizer, context, config.seed, world)
    return Algorithm(
        updates=config.updates,
        prompts=batch.prompts,
        iterations=batch.iterations,
        max_rounds=batch.max_rounds,
        compared=attrgetter({"total": "total", "answer": "score"}[batch.filter]),
        max_deviation=batch.max_deviation,
        learn_unfinished=sampling.overlong == "keep",
        sampling=Sampling(
            temperature=sampling.temperature,
            max_completion_length=sampling.max_completion_length,
            num_generations=batch.num_generations,
        ),
        take_prompts=PromptStream(
            config.data, prompt_template(config.data, sampling.max_prompt_length, tokenizer), config.seed
        ),
        rollout=sampler,
        sync=in_place(sampler) if shared else _sync(config, trainer, sampler, model, world),
        reward=as_option(config.reward).make(),
        advantage=config.advantage,
        objective=objective,
        controllers=tuple(part for part in (config.tau, config.kl) if isinstance(part, Controller)),
        engine=trainer,
        reference=reference,
        pad_id=tokenizer.pad_token_id,
        device=device(),
        world=world,
    )


def rollout(
    option: RolloutOption,
    model: Model,
    module: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    seed: int,
    world: World,
) -> RolloutEngine:
    """Make the sampler; without a ``module`` to decode with, one that decodes with a module has a copy of its own."""
    if module is None and option.DECODES_WITH_MODULE:
        module = load_model(model.path, device(), model.attention)
    parts = RolloutParts(
        model_path=model.path,
        module=module,
        tokenizer=tokenizer,
        dtype=dtype(model),
        context=max(context, LENGTH + 1),  # a probe's tokens and the one that a sampler may add
        seed=seed,
        world=world,
    )
    return option.make(parts)


def device() -> torch.device:
    """Give this process's GPU where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def dtype(model: Model) -> torch.dtype:
    """Give what the body computes in."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[model.dtype]


def _reference(config: TrainConfig, micro: int, beneath: ReferencePolicy) -> ReferencePolicy | None:
    """Load the untrained model once more, where the KL penalty is on the divergence from it and no adapter on it."""
    if config.kl.reference != INITIAL:
        return None
    if config.model.adapter.label is not None:
        return beneath
    module = load_model(config.model.path, device(), config.model.attention, dtype(config.model))
    tokens = config.batch.micro_tokens
    return FrozenPolicy(module, micro, config.sampling.temperature, dtype(config.model), tokens)


def _sync(
    config: TrainConfig, trainer: PolicyEngine, sampler: RolloutEngine, model: PreTrainedModel, world: World
) -> Callable[[int], None]:
    """Choose how the sampler gets the trainer's weights, attested."""
    vocabulary = model.config.get_text_config().vocab_size
    tolerance = config.rollout.tolerance
    return WeightSync(trainer, cast(Sampler, sampler), vocabulary, tolerance, dtype(config.model), device(), world)
