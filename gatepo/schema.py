"""What can be set. No torch.

Each field has one line under it: meaning, unit, range. Defaults that depend on the chosen option live in its YAML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class GateConfig:
    name: str = MISSING
    """Family: one of gatepo.objective.gates.names(), or custom."""
    _target_: str | None = None
    """Python class to use in its place, as module.Class; it has the methods of Gate in gatepo/objective/gates.py."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """What that class's constructor takes, by name: +gate.arguments.NAME=VALUE."""


@dataclass
class ClipGateConfig(GateConfig):
    eps_low: float = MISSING
    """Ratios below 1 - eps_low are clipped where A <= 0; in (0, 1)."""
    eps_high: float = MISSING
    """Ratios above 1 + eps_high are clipped where A > 0; in (0, 1)."""


@dataclass
class DualClipGateConfig(ClipGateConfig):
    c: float = MISSING
    """Where A <= 0, ratios above c are clipped too; > 1."""


@dataclass
class CispoGateConfig(GateConfig):
    eps_high: float = MISSING
    """The coefficient r f'(r) is bounded by 1 + eps_high; > 0."""


@dataclass
class CeGppoGateConfig(ClipGateConfig):
    beta_low: float = MISSING
    """Gradient kept below 1 - eps_low where A <= 0, as a share of that at the bound; >= 0."""
    beta_high: float = MISSING
    """Gradient kept above 1 + eps_high where A > 0, as a share of that at the bound; >= 0."""


@dataclass
class AspoGateConfig(ClipGateConfig):
    c: float = MISSING
    """Largest coefficient r f'(r); > 1."""


@dataclass
class GammaGateConfig(GateConfig):
    k_pos: float = MISSING
    """Exponent of the ratio where A > 0; > 0."""
    lambda_pos: float = MISSING
    """Rate of the exponential where A > 0; > 0."""
    k_neg: float = MISSING
    """Exponent of the ratio where A <= 0; > 0."""
    lambda_neg: float = MISSING
    """Rate of the exponential where A <= 0; > 0."""


@dataclass
class CustomGateConfig(GateConfig):
    slope: str | None = None
    """f'(x) as a formula in x (the ratio) and tau, 1 at x = 1; exactly one of slope and value."""
    value: str | None = None
    """f(x) as such a formula; any constant may be added."""


@dataclass
class TauConfig:
    name: str = MISSING
    """Rule: constant, matched, schedule or target_eur."""


@dataclass
class ConstantTauConfig(TauConfig):
    pos: float = MISSING
    """The gate's temperature where A > 0; > 0."""
    neg: float = MISSING
    """The gate's temperature where A <= 0; > 0."""


@dataclass
class MatchedTauConfig(TauConfig):
    half_width: float = MISSING
    """Distance above r = 1 at which the slope is 1/2, where A > 0; tau follows from the gate; > 0."""
    neg_over_pos: float = MISSING
    """tau.neg / tau.pos; > 0."""


@dataclass
class ScheduleTauConfig(ConstantTauConfig):
    shape: str = MISSING
    """Of the way from (pos, neg) to (end_pos, end_neg) over the run: constant, linear or cosine."""
    end_pos: float = MISSING
    """tau.pos at the end of the run; > 0."""
    end_neg: float = MISSING
    """tau.neg at the end of the run; > 0."""


@dataclass
class TargetEurTauConfig(ConstantTauConfig):
    target: float = MISSING
    """EUR of the last iteration that tau is moved towards, from (pos, neg) on; in (0, 1)."""
    gain: float = MISSING
    """Change of log tau for a 1 - EUR that is off by a factor e; in (0, 1), beyond which it would swing."""
    low: float = MISSING
    """Smallest tau.pos; > 0."""
    high: float = MISSING
    """Largest tau.pos; > low."""


@dataclass
class RatioConfig:
    name: str = MISSING
    """What r is: token, sequence, sequence_token or sequence_product."""
    clamp: float = 20.0
    """Bound of the absolute log-ratio, nats; in (0, 88], beyond which fp32 overflows."""


@dataclass
class AggregationConfig:
    name: str = MISSING
    """How tokens become one number: sequence_mean, token_mean, constant, sequence_sum or geometric_mean."""


@dataclass
class ConstantAggregationConfig(AggregationConfig):
    length: int = MISSING
    """Tokens that every completion's sum is divided by; >= 1."""


@dataclass
class AdvantageConfig:
    name: str = MISSING
    """How rewards become A: group_zscore, group_center, rloo, reinforce_pp, reinforce_pp_baseline or max_rl."""


@dataclass
class DividedAdvantageConfig(AdvantageConfig):
    eps: float = 1e-4
    """Added to the denominator; >= 0."""


@dataclass
class ZScoreAdvantageConfig(DividedAdvantageConfig):
    ddof: int = 1
    """Delta degrees of freedom of the standard deviation; 0 or 1."""


@dataclass
class CorrectionConfig:
    name: str = MISSING
    """What is done about the mismatch of sampler and trainer: none, truncate or mask."""


@dataclass
class BoundedCorrectionConfig(CorrectionConfig):
    level: str = MISSING
    """One weight per token, or one per sequence."""
    cap: float = MISSING
    """Largest weight; > 0."""


@dataclass
class KlConfig:
    name: str = MISSING
    """Whether there is a KL penalty, and how its coefficient is found: none, fixed or adaptive."""


@dataclass
class FixedKlConfig(KlConfig):
    reference: str = MISSING
    """The other policy: initial, the untrained model, or sampling, the one that drew the completions."""
    estimator: str = MISSING
    """k1, k2 or k3."""
    coefficient: float = MISSING
    """beta; at the start, where it is adaptive; > 0."""


@dataclass
class AdaptiveKlConfig(FixedKlConfig):
    target: float = MISSING
    """KL of the last iteration, nats per token, that the coefficient is moved towards; > 0."""
    low: float = MISSING
    """Smallest coefficient; > 0."""
    high: float = MISSING
    """Largest coefficient; > low."""


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
    """What the body computes in, float32 or bfloat16; head and log-probabilities stay float32."""
    attention: str | None = None
    """transformers' attn_implementation; null lets it choose."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: a third more work, far less memory."""


@dataclass
class SourceConfig:
    weight: float = 1.0
    """Share of the mix, in proportion to the others'; > 0."""
    path: str | None = None
    """JSONL file of this source; wins over data.path, which wins over the hub."""
    file: str | None = None
    """File pattern below data.path, where that is a folder."""
    hub: str | None = None
    """Data set on the hub, or tiny:NAME for an embedded one."""
    subset: str | None = None
    """Its configuration name."""
    revision: str | None = None
    """Its commit on the hub; null: the newest."""
    split: str = "train"
    """Its split."""
    question: str = "question"
    """Field that holds the question."""
    answer: str = "answer"
    """Field that holds the gold answer."""
    answer_marker: str | None = None
    """The gold answer is what follows the last occurrence of this text."""
    solution: str | None = None
    """Field whose last \\boxed holds the gold answer, in rows that lack the answer field."""


@dataclass
class DataConfig:
    path: str | None = None
    """JSONL file (one source) or folder with every source's file; null takes the hub or the embedded files."""
    system: str | None = None
    """System prompt; ${prompt:NAME} is the text of conf/prompt/NAME.txt."""
    decontaminate: bool = True
    """Leave out training rows that are problems of the evaluation sets; gatepo/data/decontamination.py has the rule."""
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
    format: str = "paper"
    """r_format: paper (partial marks, eq. 10) or strict (all or nothing)."""
    extraction: str = "tags"
    """Where the answer is read: tags, boxed (tags, else the last \\boxed) or auto (tags, boxed, else the end)."""
    deadline: float = 2.0
    """Seconds that one answer may take to check; > 0."""
    workers: int | None = None
    """Processes that check answers, on each rank; null: one per core of the rank, at most 4."""
    memory_mib: int = 1024
    """Memory that one of them may take, MiB; >= 512."""
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    """More parts, by name: _target_ (dotted path of a function or class), weight, and its own keyword arguments."""


@dataclass
class RolloutConfig:
    name: str = MISSING
    """Sampler: transformers or vllm."""
    max_sequences: int = 256
    """Completions that are decoded at once; >= batch.num_generations."""
    tolerance: float = 1e-3
    """Nats by which sampler and trainer may differ on probe tokens after a sync, beside measured noise; > 0."""


@dataclass
class VllmRolloutConfig(RolloutConfig):
    tensor_parallel_size: int = 1
    """Devices that share one copy of the model; divides devices."""
    memory: float = 0.35
    """Fraction of a GPU's memory for weights and cache together; in (0, 1)."""
    cache_gib: int = 1
    """Key-value cache on a CPU, GiB; >= 1."""


@dataclass
class EngineConfig:
    name: str = MISSING
    """Trainer: torch or deepspeed."""


@dataclass
class DeepSpeedEngineConfig(EngineConfig):
    zero_stage: int = MISSING
    """What is sharded over devices: 0 nothing, 1 optimizer states, 2 also gradients, 3 also weights."""
    offload_optimizer: bool = False
    """Keep optimizer states in host memory; needs zero_stage >= 1."""
    persistence_threshold: int = 100_000
    """At zero_stage 3, weights with fewer elements stay whole on every device: less to gather, for some memory."""


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
    max_rounds: int = 1
    """Rounds of sampling until every group's rewards differ (dynamic sampling); 1 takes what comes; >= 1."""
    max_deviation: float | None = None
    """Mean |r - 1| beyond which a rollout batch gets no further iteration (ESPO); null: no bound; > 0."""


@dataclass
class SamplingConfig:
    temperature: float = 1.0
    """Of the sampler; > 0. The paper does not state it for training."""
    max_prompt_length: int = 128
    """Tokens; longer prompts lose their beginning."""
    max_completion_length: int = 64
    """Tokens."""
    overlong: str = "keep"
    """What becomes of completions that hit the limit: keep them, or filter them from the loss."""


@dataclass
class EvaluateConfig:
    every: int = 0
    """Updates between evaluations during training; 0: only before and after."""
    temperature: float = 0.7
    """Of the sampler (section 5.1); > 0."""
    limit: int | None = None
    """Problems taken from the start of each set; null: all."""


@dataclass
class CheckpointConfig:
    every: int = 0
    """Updates between checkpoints, from which a run can go on (resume=FOLDER); 0: none."""
    keep: int | None = 1
    """Newest checkpoints that stay; null: all."""


@dataclass
class TrainConfig:
    resume: str | None = None
    """Folder of an interrupted run: go on from its newest checkpoint, with its own settings."""
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
    anchor: str = "old"
    """What the ratio divides by: old (the trainer's log-probabilities at sampling time) or rollout (the sampler's)."""
    correction: CorrectionConfig = field(default_factory=CorrectionConfig)
    ratio: RatioConfig = field(default_factory=RatioConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    advantage: AdvantageConfig = field(default_factory=AdvantageConfig)
    kl: KlConfig = field(default_factory=KlConfig)
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
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


@dataclass
class ProbeConfig:
    run: str = MISSING
    """Folder of a run with checkpoints."""
    gates: list[str] = field(default_factory=list)
    """Gates to compare, with their options' defaults."""
    tau: TauConfig = field(default_factory=TauConfig)
    out: str | None = None
    """Folder for probe.json and probe.png; null: the run's."""


@dataclass
class EvaluationSamplingConfig:
    temperature: float = 0.7
    """Of the sampler (section 5.1); > 0."""
    max_prompt_length: int | None = None
    """Tokens; longer prompts lose their beginning; null: the run's, without a run the paper's 1536."""
    max_completion_length: int | None = None
    """Tokens; null: the run's, without a run the paper's 512."""


@dataclass
class EvaluationConfig:
    """``python -m gatepo.evaluate``."""

    run: str | None = None
    """Folder of a run or of one of its checkpoints, whose prompt, lengths and precision are taken; null: model."""
    against: str | None = None
    """Folder of a finished evaluation to compare with, problem by problem."""
    beside: list[str] = field(default_factory=list)
    """Folders of finished evaluations to show in the table of benchmarks."""
    out: str | None = None
    """Folder for evaluation.json and generations.jsonl; null: evaluation/ in the run, or outputs/evaluation/MODEL."""
    samples: int = 1
    """K, completions per problem; >= 1."""
    limit: int | None = None
    """Problems taken from the start of each set; null: all."""
    seed: int = 0
    """Decides every sample."""
    threads: int | None = None
    """CPU threads; null: torch's choice."""
    columns: dict[str, list[str]] = field(default_factory=dict)
    """Benchmarks that pool several sets: +columns.AIME=[aime24,aime25]."""
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    """Accuracies in per cent that others published, to show beside: +published.MODEL.BENCHMARK=80.3."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    sampling: EvaluationSamplingConfig = field(default_factory=EvaluationSamplingConfig)


@dataclass
class GatesConfig:
    """``python -m gatepo.gates``."""

    at: float = 10.0
    """The tau at which half-widths are shown and properties checked; > 0."""
    gate: GateConfig = field(default_factory=GateConfig)
    """A gate with its settings, shown in the place of its family's row or below the others."""
    gates: list[str] | None = None
    """Families to show; null: all of them in the table, the paper's five in the figure."""
    plot: bool = False
    """Draw the paper's Figure 1."""
    out: str = "gates.png"
    """The figure's file."""


SCHEMAS: dict[str, dict[str, type]] = {
    "gate": {
        "clip": ClipGateConfig,
        "dual_clip": DualClipGateConfig,
        "cispo": CispoGateConfig,
        "ce_gppo": CeGppoGateConfig,
        "aspo": AspoGateConfig,
        "gamma": GammaGateConfig,
        "custom": CustomGateConfig,
    },
    "tau": {
        "constant": ConstantTauConfig,
        "matched": MatchedTauConfig,
        "schedule": ScheduleTauConfig,
        "target_eur": TargetEurTauConfig,
    },
    "aggregation": {"constant": ConstantAggregationConfig},
    "advantage": {
        "group_zscore": ZScoreAdvantageConfig,
        "reinforce_pp": ZScoreAdvantageConfig,
        "reinforce_pp_baseline": ZScoreAdvantageConfig,
        "max_rl": DividedAdvantageConfig,
    },
    "kl": {"fixed": FixedKlConfig, "adaptive": AdaptiveKlConfig},
    "correction": {"truncate": BoundedCorrectionConfig, "mask": BoundedCorrectionConfig},
    "rollout": {"vllm": VllmRolloutConfig},
    "engine": {"deepspeed": DeepSpeedEngineConfig},
}
"""Options with settings beyond their group's, by group and name."""
