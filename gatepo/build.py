"""The composition root: from a validated config to the objects that the loop works with.

The only file that picks implementations. Each table maps an option's name to what it builds; a new option is a line
here and a YAML file.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gatepo import checkpoint, outside, tiny
from gatepo.data import sources
from gatepo.data.decontamination import HeldOut
from gatepo.data.stream import MixedStream
from gatepo.data.template import PromptTemplate
from gatepo.distributed import World
from gatepo.engine.base import PolicyEngine, ReferencePolicy
from gatepo.engine.deepspeed import DeepSpeedEngine, ZeroSettings
from gatepo.engine.reference import FrozenPolicy
from gatepo.engine.torch import OptimizerSettings, TorchEngine
from gatepo.errors import TrainingStopped, UserError
from gatepo.loop import Algorithm
from gatepo.model import checkpoint_activations, context_length, load_model, load_tokenizer
from gatepo.objective import gates
from gatepo.objective.advantage import Advantage, BatchZScore, GroupCenter, GroupZScore, MaxRl, Rloo
from gatepo.objective.aggregation import (
    Aggregation,
    Constant,
    GeometricMean,
    SequenceMean,
    SequenceSum,
    TokenMean,
)
from gatepo.objective.correction import BoundedCorrection, Correction, NoCorrection
from gatepo.objective.custom import CustomGate, custom_gate
from gatepo.objective.gates import Gate
from gatepo.objective.kl import KlPenalty
from gatepo.objective.ratio import SequenceRatio, TokenRatio
from gatepo.objective.surrogate import Objective
from gatepo.objective.tau import ConstantTau, tau_with_half_width
from gatepo.rewards.extra import ExtraReward
from gatepo.rewards.extraction import EXTRACTIONS
from gatepo.rewards.reward import AnswerAndFormat
from gatepo.rewards.tags import format_reward, strict_format_reward
from gatepo.rewards.verifier import Verifier
from gatepo.rollout.base import RolloutEngine
from gatepo.rollout.sync import LENGTH, Sampler, WeightSync
from gatepo.rollout.transformers import TransformersRollout
from gatepo.rollout.vllm import VllmRollout, VllmSettings
from gatepo.schema import (
    AdaptiveKlConfig,
    AdvantageConfig,
    AggregationConfig,
    BoundedCorrectionConfig,
    ConstantAggregationConfig,
    ConstantTauConfig,
    CorrectionConfig,
    CustomGateConfig,
    DataConfig,
    DeepSpeedEngineConfig,
    DividedAdvantageConfig,
    FixedKlConfig,
    GateConfig,
    MatchedTauConfig,
    ScheduleTauConfig,
    SourceConfig,
    TargetEurTauConfig,
    TauConfig,
    TrainConfig,
    VllmRolloutConfig,
    ZScoreAdvantageConfig,
)
from gatepo.steering import AdaptiveKl, Steering, TargetEur, TauSchedule
from gatepo.types import Prompt, Sampling

log = logging.getLogger(__name__)

BF16_NOISE_LIMIT = 1.0  # nats on single, arbitrary tokens; other weights differ by more
RATIOS = {
    "token": TokenRatio,
    "sequence": partial(SequenceRatio, pool="mean", own_gradient=False),
    "sequence_token": partial(SequenceRatio, pool="mean", own_gradient=True),
    "sequence_product": partial(SequenceRatio, pool="sum", own_gradient=True),
}
REWARDS = {"answer_and_format": AnswerAndFormat}
FORMATS = {"paper": format_reward, "strict": strict_format_reward}


def pick(table: dict[str, Any], key: str, name: str) -> Any:
    """The entry called ``name``, or an error that lists the known ones."""
    if name not in table:
        raise UserError(f"{key} must be one of {', '.join(table)}, got {name}")
    return table[name]


def objective(config: TrainConfig) -> Objective:
    """One choice on each axis."""
    made = gate(config.gate, starting_taus(config.tau))
    start = tau(config.tau, config.gate.name, made)
    if config.aggregation.name == "geometric_mean":
        _require_positive(made, config, start)
    return Objective(
        gate=made,
        tau=start,
        ratio=pick(RATIOS, "ratio", config.ratio.name)(clamp=config.ratio.clamp),
        aggregation=pick(AGGREGATIONS, "aggregation", config.aggregation.name)(config.aggregation),
        correction=pick(CORRECTIONS, "correction", config.correction.name)(config.correction),
        kl=_kl(config),
        anchor=config.anchor,
    )


def gate(config: GateConfig, taus: Sequence[float]) -> Gate:
    """A family of the package, a formula, or a class from outside; what cannot be used at ``taus`` is refused."""
    if config._target_ is not None:
        return outside.gate(config._target_, config.arguments, taus)
    if isinstance(config, CustomGateConfig):
        return _custom_gate(config, taus)
    pick(dict.fromkeys([*gates.names(), "custom"]), "gate", config.name)
    options = {k: v for k, v in asdict(config).items() if k not in ("name", "_target_", "arguments")}
    return gates.get(config.name, **options)


def _require_positive(gate: Gate, config: TrainConfig, start: ConstantTau) -> None:
    """A product of values over tokens needs f(r) - f(1) + 1 > 0 in fp32 at every ratio that there can be."""
    ratio = torch.linspace(-config.ratio.clamp, config.ratio.clamp, 2001).exp()
    for sign, tau, positive in (("A > 0", start.pos, True), ("A <= 0", start.neg, False)):
        tau_1, positive_1 = torch.tensor([tau]), torch.tensor([positive])
        value = gate.value(ratio, tau_1, positive_1) - (gate.value(torch.ones(1), tau_1, positive_1) - 1)
        wrong = ~(value > 0)
        if wrong.any():
            at = int(wrong.nonzero()[-1])
            raise UserError(
                f"gate must have f(r) - f(1) + 1 > 0 with aggregation=geometric_mean, got gate={config.gate.name} with "
                f"{value[at].item():.4g} at r = {ratio[at].item():.4g} where {sign}; type aggregation=sequence_mean"
            )


def _custom_gate(config: CustomGateConfig, taus: Sequence[float]) -> Gate:
    from gatepo.objective.symbolic.expression import ExpressionError  # and with it sympy

    try:
        made = custom_gate(slope=config.slope, value=config.value, taus=taus)
    except ExpressionError as error:
        raise UserError(f"gate.{'value' if config.slope is None else 'slope'} {error}") from error
    return made


def gate_notes(gate: Gate) -> list[str]:
    """What was derived for a formula and what is done numerically; nothing for other gates."""
    return [f"gate=custom: {note}" for note in gate.notes] if isinstance(gate, CustomGate) else []


def gate_by_name(name: str) -> Gate:
    """A family of the package with its own defaults, or, where ``name`` is no single word, a formula of a slope."""
    if name.isidentifier():
        return pick({known: gates.get(known) for known in gates.names()}, "gate", name)
    return _custom_gate(CustomGateConfig(name="custom", slope=name), (1.0, 10.0))


def starting_taus(config: TauConfig) -> tuple[float, ...]:
    """The temperatures at which a gate must be usable from the start."""
    if isinstance(config, ScheduleTauConfig):
        return (config.pos, config.neg, config.end_pos, config.end_neg)
    return (config.pos, config.neg) if isinstance(config, ConstantTauConfig) else (1.0, 10.0)


def tau(config: TauConfig, name: str, gate: Gate) -> ConstantTau:
    """The temperatures at the start of the run, for the gate called ``name``."""
    pick(dict.fromkeys(("constant", "schedule", "target_eur", "matched")), "tau", config.name)
    if isinstance(config, ScheduleTauConfig | TargetEurTauConfig) and gate.half_width(1.0) == gate.half_width(10.0):
        raise UserError(
            f"tau must be a constant with gate={name}, which does not use it, got tau={config.name}; type tau=paper"
        )
    if isinstance(config, ConstantTauConfig):
        return ConstantTau(pos=config.pos, neg=config.neg)
    assert isinstance(config, MatchedTauConfig)
    try:
        pos = tau_with_half_width(gate, config.half_width)
    except ValueError as error:
        raise UserError(
            f"tau.half_width must be a width that gate={name} can have, got {config.half_width} ({error}); "
            "choose another gate or another tau"
        ) from error
    return ConstantTau(pos=pos, neg=pos * config.neg_over_pos)


def steering(config: TrainConfig) -> tuple[Steering, ...]:
    """What moves tau and the KL coefficient over the run."""
    found: list[Steering] = []
    rule, kl, last = config.tau, config.kl, config.batch.iterations
    if isinstance(rule, ScheduleTauConfig):
        start, end = ConstantTau(pos=rule.pos, neg=rule.neg), ConstantTau(pos=rule.end_pos, neg=rule.end_neg)
        found.append(TauSchedule(shape=rule.shape, start=start, end=end))
    if isinstance(rule, TargetEurTauConfig):
        start = ConstantTau(pos=rule.pos, neg=rule.neg)
        found.append(
            TargetEur(target=rule.target, gain=rule.gain, start=start, low=rule.low, high=rule.high, iteration=last)
        )
    if isinstance(kl, AdaptiveKlConfig):
        found.append(AdaptiveKl(start=kl.coefficient, target=kl.target, low=kl.low, high=kl.high, iteration=last))
    return tuple(found)


def _constant_aggregation(config: AggregationConfig) -> Aggregation:
    assert isinstance(config, ConstantAggregationConfig)
    return Constant(length=config.length)


AGGREGATIONS: dict[str, Callable[[AggregationConfig], Aggregation]] = {
    "sequence_mean": lambda config: SequenceMean(),
    "token_mean": lambda config: TokenMean(),
    "constant": _constant_aggregation,
    "sequence_sum": lambda config: SequenceSum(),
    "geometric_mean": lambda config: GeometricMean(),
}


def _group_zscore(config: AdvantageConfig) -> Advantage:
    assert isinstance(config, ZScoreAdvantageConfig)
    return GroupZScore(eps=config.eps, ddof=config.ddof)


def _batch_zscore(config: AdvantageConfig) -> Advantage:
    assert isinstance(config, ZScoreAdvantageConfig)
    return BatchZScore(baseline=config.name == "reinforce_pp_baseline", eps=config.eps, ddof=config.ddof)


def _max_rl(config: AdvantageConfig) -> Advantage:
    """Refuses rewards below 0: where their mean is, A would have the wrong sign."""
    assert isinstance(config, DividedAdvantageConfig)
    advantage = MaxRl(eps=config.eps)

    def checked(reward_PG: torch.Tensor) -> torch.Tensor:
        if (reward_PG < 0).any():
            raise TrainingStopped(
                "advantage=max_rl must have rewards >= 0, since it divides by their mean, got "
                f"{reward_PG.min().item():.4g}; leave out what is negative in reward.extra, or type advantage=rloo"
            )
        return advantage(reward_PG)

    return checked


ADVANTAGES: dict[str, Callable[[AdvantageConfig], Advantage]] = {
    "group_zscore": _group_zscore,
    "group_center": lambda config: GroupCenter(),
    "rloo": lambda config: Rloo(),
    "reinforce_pp": _batch_zscore,
    "reinforce_pp_baseline": _batch_zscore,
    "max_rl": _max_rl,
}


def _kl(config: TrainConfig) -> KlPenalty | None:
    pick(dict.fromkeys(("none", "fixed", "adaptive")), "kl", config.kl.name)
    if not isinstance(config.kl, FixedKlConfig):
        return None
    return KlPenalty(
        reference=config.kl.reference,
        estimator=config.kl.estimator,
        coefficient=config.kl.coefficient,
        clamp=config.ratio.clamp,
    )


def _no_correction(config: CorrectionConfig) -> Correction:
    return NoCorrection()


def _bounded_correction(config: CorrectionConfig) -> Correction:
    assert isinstance(config, BoundedCorrectionConfig)
    return BoundedCorrection(level=config.level, bound=config.name, cap=config.cap)


CORRECTIONS = {"none": _no_correction, "truncate": _bounded_correction, "mask": _bounded_correction}


def algorithm(
    config: TrainConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World
) -> Algorithm:
    """Everything that one training run is made of."""
    check_lengths(config)
    # Before the trainer shards the model: the sampler may be that model itself.
    sampler = rollout(config, model, tokenizer, world)
    trainer = engine(config, model, world)
    sampling = Sampling(
        temperature=config.sampling.temperature,
        max_completion_length=config.sampling.max_completion_length,
        num_generations=config.batch.num_generations,
    )
    return Algorithm(
        updates=config.updates,
        prompts=config.batch.prompts,
        iterations=config.batch.iterations,
        max_rounds=config.batch.max_rounds,
        max_deviation=config.batch.max_deviation,
        learn_unfinished=config.sampling.overlong == "keep",
        sampling=sampling,
        take_prompts=PromptStream(config, tokenizer),
        rollout=sampler,
        sync=_sync(config, trainer, sampler, model, world),
        reward=reward(config),
        advantage=pick(ADVANTAGES, "advantage", config.advantage.name)(config.advantage),
        objective=objective(config),
        steering=steering(config),
        engine=trainer,
        reference=_reference(config, world),
        pad_id=tokenizer.pad_token_id,
        device=device(),
        world=world,
    )


def _torch_engine(config: TrainConfig, **parts: Any) -> PolicyEngine:
    return TorchEngine(**parts)


def _deepspeed_engine(config: TrainConfig, **parts: Any) -> PolicyEngine:
    assert isinstance(config.engine, DeepSpeedEngineConfig)
    zero = ZeroSettings(
        stage=config.engine.zero_stage,
        offload_optimizer=config.engine.offload_optimizer,
        persistence_threshold=config.engine.persistence_threshold,
    )
    return DeepSpeedEngine(**parts, zero=zero)


ENGINES = {"torch": _torch_engine, "deepspeed": _deepspeed_engine}


def engine(config: TrainConfig, model: PreTrainedModel, world: World) -> PolicyEngine:
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
    if config.model.activation_checkpointing:
        checkpoint_activations(model)
    return pick(ENGINES, "engine", config.engine.name)(
        config,
        model=model,
        settings=settings,
        micro=_micro(config, world),
        temperature=config.sampling.temperature,
        dtype=dtype(config),
        world=world,
    )


def _micro(config: TrainConfig, world: World) -> int:
    return config.batch.micro or config.batch.prompts * config.batch.num_generations // world.size


def _reference(config: TrainConfig, world: World) -> ReferencePolicy | None:
    """The untrained model once more, where the KL penalty is on the divergence from it."""
    if not isinstance(config.kl, FixedKlConfig) or config.kl.reference != "initial":
        return None
    return FrozenPolicy(load(config)[0], _micro(config, world), config.sampling.temperature, dtype(config))


def _transformers_rollout(
    config: TrainConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World
) -> RolloutEngine:
    """Samples with the trainer's own module, unless its weights will be sharded or cast."""
    own = model if _shares_weights(config) else load(config)[0]
    return TransformersRollout(own, tokenizer, config.rollout.max_sequences, dtype(config))


def _vllm_rollout(
    config: TrainConfig, model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase, world: World
) -> RolloutEngine:
    assert isinstance(config.rollout, VllmRolloutConfig)
    settings = VllmSettings(
        path=config.model.path,
        dtype=dtype(config),
        context=max(
            config.sampling.max_prompt_length + config.sampling.max_completion_length, LENGTH + 1
        ),  # a probe's tokens and the one that vLLM adds
        max_sequences=config.rollout.max_sequences,
        tensor_parallel_size=config.rollout.tensor_parallel_size,
        memory=config.rollout.memory,
        cache_gib=config.rollout.cache_gib,
        seed=config.seed,
    )
    return VllmRollout(settings, tokenizer, world)


ROLLOUTS = {"transformers": _transformers_rollout, "vllm": _vllm_rollout}


def load_weights(config: TrainConfig, model: PreTrainedModel, path: Path) -> None:
    """Put the weights of a checkpoint's engine into ``model``."""
    pick(WEIGHT_READERS, "engine", config.engine.name)(model, path / checkpoint.ENGINE)


WEIGHT_READERS = {"torch": TorchEngine.read_weights, "deepspeed": DeepSpeedEngine.read_weights}


def rollout(
    config: TrainConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World
) -> RolloutEngine:
    """The sampler."""
    return pick(ROLLOUTS, "rollout", config.rollout.name)(config, model, tokenizer, world)


def sampler(config: TrainConfig, trained: TrainConfig | None, path: Path | None) -> RolloutEngine:
    """A sampler on its own: of the model at ``config.model.path``, or with a checkpoint's weights.

    Args:
      config: as of a run of one process with ``engine=torch``.
      trained: the settings of the run that wrote the checkpoint.
      path: the checkpoint; None for the model as it is.
    """
    check_lengths(config)
    tokenizer = load_tokenizer(config.model.path)
    if config.rollout.name == "vllm" and path is None:
        return _vllm_rollout(config, None, tokenizer, World())
    model = load_model(config.model.path, device(), config.model.attention)
    if path is not None:
        assert trained is not None
        load_weights(trained, model, path)
    made = rollout(config, model, tokenizer, World())
    if path is not None:
        made.load_weights(model.named_parameters(), version=0)
    return made


def problems_at_once(config: TrainConfig) -> int:
    """How many problems an evaluation samples in one call, and may have to sample again after an interruption.

    Where completions take the place of those that have ended, several batches: the slowest are waited for less often.
    """
    batches = pick({"transformers": 1, "vllm": 4}, "rollout", config.rollout.name)
    return max(1, batches * config.rollout.max_sequences // config.batch.num_generations)


def _shares_weights(config: TrainConfig) -> bool:
    """Whether the sampler is the very module that the trainer updates."""
    if isinstance(config.engine, DeepSpeedEngineConfig):
        return config.engine.zero_stage < 3 and dtype(config) == torch.float32
    return config.rollout.name == "transformers"


def _sync(
    config: TrainConfig, trainer: PolicyEngine, sampler: RolloutEngine, model: PreTrainedModel, world: World
) -> Callable[[int], None]:
    """How the sampler gets the trainer's weights: attested, unless it samples with these very tensors."""
    if config.rollout.name == "transformers" and _shares_weights(config):
        return lambda version: sampler.load_weights((), version)
    vocabulary = model.config.get_text_config().vocab_size
    tolerance = config.rollout.tolerance
    noise_limit = tolerance if dtype(config) == torch.float32 else BF16_NOISE_LIMIT
    return WeightSync(trainer, cast(Sampler, sampler), vocabulary, tolerance, noise_limit, device(), world)


def reward(config: TrainConfig) -> AnswerAndFormat:
    """The reward function."""
    chosen = config.reward
    return pick(REWARDS, "reward", chosen.name)(
        answer_weight=chosen.weights.answer,
        format_weight=chosen.weights.format,
        extract=EXTRACTIONS[chosen.extraction],
        score_format=FORMATS[chosen.format],
        verifier=Verifier(deadline=chosen.deadline, workers=chosen.workers, memory_mib=chosen.memory_mib),
        extra=[ExtraReward.load(name, entry) for name, entry in chosen.extra.items()],
    )


def device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def dtype(config: TrainConfig) -> torch.dtype:
    """What the body computes in."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.model.dtype]


def load(config: TrainConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model on its device, and its tokenizer."""
    return load_model(config.model.path, device(), config.model.attention), load_tokenizer(config.model.path)


class PromptStream:
    """Training prompts by position: rows are read and tokenized when they are taken."""

    def __init__(self, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.template = prompt_template(config, tokenizer)
        self.rows = training_rows(config.data)
        self._stream = MixedStream(self.rows, {n: s.weight for n, s in config.data.sources.items()}, config.seed)

    def __call__(self, position: int, count: int) -> list[Prompt]:
        rows = self._stream.take(position, count)
        return [self.template(position + i, name, row) for i, (name, row) in enumerate(rows)]


def training_rows(data: DataConfig) -> dict[str, sources.Rows]:
    """The training sources, without what their evaluation sets hold; says what was left out."""
    chosen = {name: source(data, name, entry, len(data.sources)) for name, entry in data.sources.items()}
    held_out = HeldOut(row.question for rows in evaluation_rows(data).values() for row in rows if data.decontaminate)
    rows = {n: sources.read(one, keep=lambda row: not held_out.holds(row.question)) for n, one in chosen.items()}
    for name, found in rows.items():
        log.info("data source %s: %s", name, found.describe())
    log.info("decontamination: %s", _decontaminated(data))
    return rows


def _decontaminated(data: DataConfig) -> str:
    if not data.decontaminate:
        return "none (data.decontaminate=false)"
    return f"against {', '.join(data.evaluation)}" if data.evaluation else "none, data.evaluation names no set"


def prompt_template(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """The model's chat template with the data's system prompt."""
    return PromptTemplate(tokenizer=tokenizer, system=config.data.system, max_length=config.sampling.max_prompt_length)


def evaluation_prompts(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Prompt]]:
    """Every evaluation set as prompts, in its file's order."""
    template = prompt_template(config, tokenizer)
    return {
        name: [template(i, name, row) for i, row in enumerate(found[: config.evaluate.limit])]
        for name, found in evaluation_rows(config.data).items()
    }


def evaluation_rows(data: DataConfig) -> dict[str, sources.Rows]:
    """The evaluation sets."""
    siblings = len(data.sources) + len(data.evaluation)
    return {name: sources.read(source(data, name, entry, siblings)) for name, entry in data.evaluation.items()}


def source(data: DataConfig, name: str, entry: SourceConfig, siblings: int) -> sources.Source:
    """Where a source is read from: its own path, else data.path, else the hub (or the package itself)."""
    options = {k: v for k, v in asdict(entry).items() if k not in ("weight", "path", "file")}
    if entry.path is not None:
        return sources.Source(name=name, paths=(entry.path,), **options)
    if data.path is None:
        embedded = str(entry.hub).startswith(tiny.PREFIX)
        return sources.Source(name=name, paths=(str(entry.hub),) if embedded else None, **options)
    folder = Path(data.path)
    key = f"data.{'evaluation' if data.evaluation.get(name) is entry else 'sources'}.{name}.path"
    if not folder.is_dir():
        if siblings != 1:
            raise UserError(
                f"data.path must be a folder for {siblings} sources, got {data.path}; "
                f"give each its own with {key}=FILE.jsonl"
            )
        return sources.Source(name=name, paths=(data.path,), **options)
    found = tuple(sorted(glob.glob(str(folder / (entry.file or f"{name}*.jsonl")))))
    if not found:
        raise UserError(f"data.path={data.path} must hold {entry.file} for the source {name}; give {key}=FILE.jsonl")
    return sources.Source(name=name, paths=found, **options)


def check_lengths(config: TrainConfig) -> None:
    """Refuse lengths that the model's context does not hold."""
    context = context_length(config.model.path)
    asked = config.sampling.max_prompt_length + config.sampling.max_completion_length
    if context is not None and asked > context:
        raise UserError(
            f"sampling.max_prompt_length + sampling.max_completion_length must be at most the model's "
            f"context of {context} tokens, got {asked}; lower one of them"
        )
