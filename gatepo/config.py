"""What can be set: schemas, their validation, and reading a run's own config back. No torch.

Each field has one line under it: meaning, unit, range. Defaults that depend on the chosen option live in its YAML.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from gatepo.errors import UserError

log = logging.getLogger(__name__)


@dataclass
class GateConfig:
    name: str = MISSING
    """Family: sigmoid, erf, arctan, softsign, clip or none."""


@dataclass
class ClipGateConfig(GateConfig):
    eps_low: float = MISSING
    """Ratios below 1 - eps_low are clipped where A <= 0; in (0, 1)."""
    eps_high: float = MISSING
    """Ratios above 1 + eps_high are clipped where A > 0; in (0, 1)."""


@dataclass
class TauConfig:
    name: str = MISSING
    """Rule: constant."""
    pos: float = MISSING
    """The gate's temperature where A > 0; > 0."""
    neg: float = MISSING
    """The gate's temperature where A <= 0; > 0."""


@dataclass
class RatioConfig:
    name: str = MISSING
    """What r is: token."""
    clamp: float = 20.0
    """Bound of the absolute log-ratio, nats; in (0, 88], beyond which fp32 overflows."""


@dataclass
class AggregationConfig:
    name: str = MISSING
    """How tokens become one number: sequence_mean."""


@dataclass
class AdvantageConfig:
    name: str = MISSING
    """How rewards become A: group_zscore."""
    eps: float = 1e-4
    """Added to the standard deviation; >= 0."""
    ddof: int = 1
    """Delta degrees of freedom of the standard deviation; 0 or 1."""


@dataclass
class OptimizerConfig:
    name: str = "adamw"
    """AdamW is the only one."""
    lr: float = MISSING
    """Peak learning rate; > 0."""
    schedule: str = "linear"
    """linear (to 0), constant or cosine (to 0)."""
    warmup: int = 0
    """Updates over which the learning rate rises from 0; >= 0."""
    beta1: float = 0.9
    """Decay of the first moment; in [0, 1)."""
    beta2: float = 0.999
    """Decay of the second moment; in [0, 1)."""
    eps: float = 1e-8
    """Added to the denominator; > 0."""
    weight_decay: float = 0.0
    """Decoupled weight decay; >= 0. The paper does not state it."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; > 0. The paper does not state it."""


@dataclass
class ModelConfig:
    path: str = MISSING
    """Folder or hub name of a causal language model, or tiny."""
    dtype: str = "float32"
    """What the body computes in, float32 or bfloat16; weights, head and log-probabilities stay float32."""
    attention: str | None = None
    """transformers' attn_implementation; null lets it choose."""


@dataclass
class SourceConfig:
    weight: float = 1.0
    """Share of the mix, in proportion to the others'; > 0."""
    path: str | None = None
    """JSONL file; wins over data.path and the hub."""
    file: str | None = None
    """File pattern below data.path, where that is a folder."""
    hub: str | None = None
    """Data set on the hub."""
    subset: str | None = None
    """Its configuration name."""
    split: str = "train"
    """Its split."""
    question: str = "question"
    """Field that holds the question."""
    answer: str = "answer"
    """Field that holds the gold answer."""
    answer_marker: str | None = None
    """The gold answer is what follows the last occurrence of this text."""


@dataclass
class DataConfig:
    path: str | None = None
    """JSONL file (one source) or folder with every source's file; null takes the hub or the embedded files."""
    system: str | None = None
    """System prompt."""
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """Training prompts, by name."""
    evaluation: dict[str, SourceConfig] = field(default_factory=dict)
    """Evaluation sets, by name."""


@dataclass
class RewardWeights:
    answer: float = 1.0
    """Of r_answer (eq. 11); >= 0."""
    format: float = 1.0
    """Of r_format (eq. 10); >= 0."""


@dataclass
class RewardConfig:
    name: str = MISSING
    """answer_and_format (eq. 9)."""
    weights: RewardWeights = field(default_factory=RewardWeights)
    deadline: float = 2.0
    """Seconds that one answer may take to check; > 0."""


@dataclass
class RolloutConfig:
    name: str = MISSING
    """Sampler: transformers."""
    max_sequences: int = 256
    """Completions that are decoded at once; >= batch.num_generations."""


@dataclass
class EngineConfig:
    name: str = MISSING
    """Trainer: torch."""


@dataclass
class TrackerConfig:
    name: str = MISSING
    """none or wandb; metrics.jsonl is written in any case."""
    project: str = "gatepo"
    """W&B project."""
    mode: str = "offline"
    """W&B mode: offline, online or disabled."""


@dataclass
class BatchConfig:
    prompts: int = 16
    """Prompts per update, over all devices; >= 1."""
    num_generations: int = 8
    """G, completions per prompt; >= 2."""
    iterations: int = 2
    """mu, passes over one rollout batch; >= 1."""
    micro: int | None = None
    """Completions that one device runs at once; divides prompts * num_generations / devices; null: all of them."""


@dataclass
class SamplingConfig:
    temperature: float = 1.0
    """Of the sampler; > 0. The paper does not state it for training."""
    max_prompt_length: int = 128
    """Tokens; longer prompts lose their beginning."""
    max_completion_length: int = 64
    """Tokens."""


@dataclass
class EvaluateConfig:
    every: int = 0
    """Updates between evaluations during training; 0: only before and after."""
    temperature: float = 0.7
    """Of the sampler (section 5.1); > 0."""


@dataclass
class TrainConfig:
    seed: int = 0
    """Decides the order of prompts and every sample."""
    devices: int = 1
    """Processes, one for each device."""
    threads: int | None = None
    """CPU threads of a process; null: torch's choice. The same number gives the same metrics to the bit."""
    updates: int = 200
    """Optimizer steps; a multiple of batch.iterations uses every rollout batch fully."""
    gate: GateConfig = field(default_factory=GateConfig)
    tau: TauConfig = field(default_factory=TauConfig)
    ratio: RatioConfig = field(default_factory=RatioConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


GATE_SCHEMAS: dict[str, type[GateConfig]] = {"clip": ClipGateConfig}


def register() -> None:
    """Offer the schemas to Hydra, under ``schema/``; YAML files name the one that they fill in."""
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig, package="_global_")
    store.store(group="schema/gate", name="plain", node=GateConfig)
    store.store(group="schema/gate", name="clip", node=ClipGateConfig)


def typed(config: DictConfig) -> TrainConfig:
    """The composed config as validated dataclasses; DictConfig stops here.

    Raises:
      UserError: a value breaks its rule.
    """
    result = OmegaConf.to_object(config)
    assert isinstance(result, TrainConfig), f"the root config lost its schema: {type(result)}"
    validate(result)
    return result


def plain(config: TrainConfig) -> dict[str, Any]:
    """The config as nested dicts, as :func:`read` reads it back."""
    return asdict(config)


def read(path: Path) -> TrainConfig:
    """The validated config of a run's ``config.yaml``."""
    raw = OmegaConf.load(path)
    assert isinstance(raw, DictConfig)
    schema = OmegaConf.structured(TrainConfig)
    schema.gate = GATE_SCHEMAS.get(raw.gate.name, GateConfig)
    merged = OmegaConf.merge(schema, raw)
    assert isinstance(merged, DictConfig)
    return typed(merged)


def validate(config: TrainConfig) -> None:
    """Check every rule that needs no file and no model.

    Raises:
      UserError: the first value that breaks a rule.
    """
    _validate_objective(config)
    _validate_batch(config)
    _validate_optimizer(config.optimizer)
    _require(config.model.dtype in ("float32", "bfloat16"), "model.dtype", "must be float32 or bfloat16", config.model.dtype, "float32 is safe")
    for name, weight in (("answer", config.reward.weights.answer), ("format", config.reward.weights.format)):
        _require(weight >= 0 and math.isfinite(weight), f"reward.weights.{name}", "must be >= 0", weight, "the paper uses 1")
    _require_positive("reward.deadline", config.reward.deadline, "2 seconds is the default")
    _require(config.tracker.mode in ("offline", "online", "disabled"), "tracker.mode", "must be offline, online or disabled", config.tracker.mode, "offline needs no account")
    _require(config.evaluate.every >= 0, "evaluate.every", "must be >= 0", config.evaluate.every, "0 evaluates before and after only")
    _require_positive("evaluate.temperature", config.evaluate.temperature, "the paper uses 0.7")
    _require(bool(config.data.sources), "data.sources", "must name at least one source", "none", "choose data=tiny, say")
    for name, source in config.data.sources.items():
        _require_positive(f"data.sources.{name}.weight", source.weight, "1 is an equal share")


def _validate_objective(config: TrainConfig) -> None:
    for sign, value in (("pos", config.tau.pos), ("neg", config.tau.neg)):
        _require_positive(f"tau.{sign}", value, f"the paper uses {dict(pos=10, neg=12)[sign]} (tau=paper)")
    if isinstance(config.gate, ClipGateConfig):
        for name, eps in (("eps_low", config.gate.eps_low), ("eps_high", config.gate.eps_high)):
            _require(0 < eps < 1, f"gate.{name}", "must be in (0, 1)", eps, "the paper uses 0.2")
    _require(0 < config.ratio.clamp <= 88, "ratio.clamp", "must be in (0, 88]", config.ratio.clamp, "20 is the default")
    _require(config.advantage.eps >= 0, "advantage.eps", "must be >= 0", config.advantage.eps, "1e-4 is the default")
    _require(config.advantage.ddof in (0, 1), "advantage.ddof", "must be 0 or 1", config.advantage.ddof, "1 is the default")


def _validate_batch(config: TrainConfig) -> None:
    batch, sampling = config.batch, config.sampling
    _require(config.updates >= 1, "updates", "must be >= 1", config.updates, "200 is the default")
    _require(config.seed >= 0, "seed", "must be >= 0", config.seed, "0 is the default")
    _require(config.devices == 1, "devices", "must be 1 with engine=torch", config.devices, "leave it out")
    _require(config.threads is None or config.threads >= 1, "threads", "must be >= 1", config.threads, "leave it out")
    _require(batch.prompts >= 1, "batch.prompts", "must be >= 1", batch.prompts, "the paper's 8 devices x 16 / 8 make 16")
    _require(batch.num_generations >= 2, "batch.num_generations", "must be >= 2, a group of one has no advantage", batch.num_generations, "the paper uses 8")
    _require(batch.iterations >= 1, "batch.iterations", "must be >= 1", batch.iterations, "the paper uses 2")
    completions = batch.prompts * batch.num_generations
    micro = completions if batch.micro is None else batch.micro
    _require(
        micro >= 1 and completions % micro == 0,
        "batch.micro",
        f"must divide batch.prompts * batch.num_generations = {completions}",
        micro,
        f"type batch.micro={math.gcd(completions, max(micro, 1))}",
    )
    _require_positive("sampling.temperature", sampling.temperature, "1.0 is the default; greedy samples form no group")
    _require(sampling.max_prompt_length >= 1, "sampling.max_prompt_length", "must be >= 1", sampling.max_prompt_length, "the paper uses 1536")
    _require(sampling.max_completion_length >= 1, "sampling.max_completion_length", "must be >= 1", sampling.max_completion_length, "the paper uses 512")
    _require(config.rollout.max_sequences >= batch.num_generations, "rollout.max_sequences", "must be >= batch.num_generations", config.rollout.max_sequences, f"type {batch.num_generations} or more")
    if batch.iterations == 1:
        log.warning(
            "batch.iterations=1 with one update per rollout batch: every ratio is 1, so all gates and temperatures give "
            "the same training; the paper uses batch.iterations=2"
        )


def _validate_optimizer(optimizer: OptimizerConfig) -> None:
    _require_positive("optimizer.lr", optimizer.lr, "the paper uses 1e-6 (optimizer=paper)")
    _require(optimizer.schedule in ("linear", "constant", "cosine"), "optimizer.schedule", "must be linear, constant or cosine", optimizer.schedule, "the paper uses linear")
    _require(optimizer.warmup >= 0, "optimizer.warmup", "must be >= 0", optimizer.warmup, "the paper uses 0")
    for name, beta in (("beta1", optimizer.beta1), ("beta2", optimizer.beta2)):
        _require(0 <= beta < 1, f"optimizer.{name}", "must be in [0, 1)", beta, "the paper uses 0.9 and 0.999")
    _require_positive("optimizer.eps", optimizer.eps, "the paper uses 1e-8")
    _require(optimizer.weight_decay >= 0, "optimizer.weight_decay", "must be >= 0", optimizer.weight_decay, "0 is the default")
    _require_positive("optimizer.max_grad_norm", optimizer.max_grad_norm, "1 is the default; inf switches clipping off", finite=False)


def _require_positive(key: str, value: float, remedy: str, *, finite: bool = True) -> None:
    rule = "must be a finite number > 0" if finite else "must be > 0"
    _require(value > 0 and (math.isfinite(value) or not finite), key, rule, value, remedy)


def _require(holds: bool, key: str, rule: str, value: Any, remedy: str) -> None:
    if not holds:
        raise UserError(f"{key} {rule}, got {value}; {remedy}")
