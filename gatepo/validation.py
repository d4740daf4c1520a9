"""The rules that a config must keep, as far as they need no file and no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

from gatepo.errors import UserError
from gatepo.schema import (
    SCHEMAS,
    AdaptiveKlConfig,
    AspoGateConfig,
    BoundedCorrectionConfig,
    CeGppoGateConfig,
    CispoGateConfig,
    ClipGateConfig,
    ConstantAggregationConfig,
    ConstantTauConfig,
    CustomGateConfig,
    DeepSpeedEngineConfig,
    DividedAdvantageConfig,
    DualClipGateConfig,
    EvaluationConfig,
    FixedKlConfig,
    GammaGateConfig,
    GateConfig,
    GatesConfig,
    MatchedTauConfig,
    ProbeConfig,
    RewardConfig,
    ScheduleTauConfig,
    TargetEurTauConfig,
    TrainConfig,
    VllmRolloutConfig,
    ZScoreAdvantageConfig,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def at_least(bound: float) -> Rule:
    """A finite number that is not below ``bound``."""
    return Rule(f"must be >= {bound}", lambda value: value >= bound and math.isfinite(value))


def one_of(*options: object) -> Rule:
    """One of a few values."""
    return Rule(f"must be one of {', '.join(map(str, options))}", lambda value: value in options)


POSITIVE = Rule("must be a finite number > 0", lambda value: value > 0 and math.isfinite(value))
USABLE = Rule("must be in [1e-6, 1e6], what fp32 can hold the slope at", lambda value: 1e-6 <= value <= 1e6)
FRACTION = Rule("must be in (0, 1)", lambda value: 0 < value < 1)
DECAY = Rule("must be in [0, 1)", lambda value: 0 <= value < 1)
ABOVE_ONE = Rule("must be a finite number > 1", lambda value: value > 1 and math.isfinite(value))
OPTIONAL_COUNT = Rule("must be >= 1", lambda value: value is None or value >= 1)

# key, rule, what to type instead
RULES: tuple[tuple[str, Rule, str], ...] = (
    ("seed", Rule("must be in [0, 2^63)", lambda value: 0 <= value < 2**63), "0 is the default"),
    ("devices", at_least(1), "1 is the default"),
    ("anchor", one_of("old", "rollout"), "the paper divides by pi_old"),
    ("threads", OPTIONAL_COUNT, "leave it out"),
    ("updates", at_least(1), "200 is the default"),
    ("ratio.clamp", Rule("must be in (0, 88]", lambda value: 0 < value <= 88), "20 is the default"),
    ("optimizer.name", one_of("adamw"), "it is the only one"),
    ("optimizer.lr", POSITIVE, "the paper uses 1e-6 (optimizer=paper)"),
    ("optimizer.schedule", one_of("linear", "constant", "cosine"), "the paper uses linear"),
    ("optimizer.warmup", at_least(0), "the paper uses 0"),
    ("optimizer.beta1", DECAY, "the paper uses 0.9"),
    ("optimizer.beta2", DECAY, "the paper uses 0.999"),
    ("optimizer.eps", POSITIVE, "the paper uses 1e-8"),
    ("optimizer.weight_decay", at_least(0), "0 is the default"),
    ("optimizer.max_grad_norm", Rule("must be > 0", lambda value: value > 0), "1 is the default, inf clips nothing"),
    ("model.dtype", one_of("float32", "bfloat16"), "float32 is safe"),
    ("batch.prompts", at_least(1), "the paper's 8 devices x 16 steps / 8 completions make 16"),
    (
        "batch.num_generations",
        Rule("must be >= 2, a group of one has no advantage", lambda value: value >= 2),
        "the paper uses 8",
    ),
    ("batch.iterations", at_least(1), "the paper uses 2"),
    ("sampling.temperature", POSITIVE, "1.0 is the default; greedy samples form no group"),
    ("sampling.max_prompt_length", at_least(1), "the paper uses 1536"),
    ("sampling.max_completion_length", at_least(1), "the paper uses 512"),
    ("sampling.overlong", one_of("keep", "filter"), "keep is the default"),
    ("batch.max_rounds", at_least(1), "1 takes what comes"),
    (
        "batch.max_deviation",
        Rule("must be null or > 0", lambda value: value is None or value > 0),
        "ESPO's paper uses 0.25",
    ),
    ("rollout.tolerance", POSITIVE, "1e-3 is the default"),
    ("reward.weights.answer", at_least(0), "the paper uses 1"),
    ("reward.weights.format", at_least(0), "the paper uses 1"),
    ("reward.format", one_of("paper", "strict"), "the paper gives partial marks (eq. 10)"),
    ("reward.extraction", one_of("tags", "boxed", "auto"), "the paper reads the tags"),
    ("reward.deadline", POSITIVE, "2 seconds is the default"),
    ("reward.workers", OPTIONAL_COUNT, "leave it out"),
    ("reward.memory_mib", at_least(512), "1024 is the default"),
    ("tracker.mode", one_of("offline", "online", "disabled"), "offline needs no account"),
    ("checkpoint.every", at_least(0), "0 writes none"),
    ("checkpoint.keep", OPTIONAL_COUNT, "null keeps all"),
    ("evaluate.every", at_least(0), "0 evaluates before and after only"),
    ("evaluate.limit", OPTIONAL_COUNT, "leave it out"),
    ("evaluate.temperature", POSITIVE, "the paper uses 0.7"),
)
EVALUATION_RULES: tuple[tuple[str, Rule, str], ...] = (
    *(
        rule
        for rule in RULES
        if rule[0] in ("seed", "threads") or rule[0].split(".")[0] in ("model", "reward", "rollout")
    ),
    ("samples", at_least(1), "1 is the default"),
    ("limit", OPTIONAL_COUNT, "leave it out"),
    ("sampling.temperature", POSITIVE, "the paper uses 0.7"),
    ("sampling.max_prompt_length", OPTIONAL_COUNT, "leave it out"),
    ("sampling.max_completion_length", OPTIONAL_COUNT, "leave it out"),
)
# of an option and of those that extend it
OPTION_RULES: dict[type, tuple[tuple[str, Rule, str], ...]] = {
    ClipGateConfig: (
        ("gate.eps_low", FRACTION, "the paper uses 0.2"),
        ("gate.eps_high", FRACTION, "the paper uses 0.2"),
    ),
    DividedAdvantageConfig: (("advantage.eps", at_least(0), "1e-4 is the default"),),
    ZScoreAdvantageConfig: (("advantage.ddof", one_of(0, 1), "1 is the default"),),
    DualClipGateConfig: (("gate.c", ABOVE_ONE, "3 is the default"),),
    AspoGateConfig: (("gate.c", ABOVE_ONE, "3 is the default"),),
    CispoGateConfig: (("gate.eps_high", POSITIVE, "4 is the default"),),
    CeGppoGateConfig: (
        ("gate.beta_low", at_least(0), "0.75 is the default"),
        ("gate.beta_high", at_least(0), "1 is the default"),
    ),
    GammaGateConfig: (
        ("gate.k_pos", POSITIVE, "2 is the default"),
        ("gate.lambda_pos", POSITIVE, "3 is the default"),
        ("gate.k_neg", POSITIVE, "3 is the default"),
        ("gate.lambda_neg", POSITIVE, "2 is the default"),
    ),
    ConstantTauConfig: (
        ("tau.pos", POSITIVE, "the paper uses 10 (tau=paper)"),
        ("tau.neg", POSITIVE, "the paper uses 12 (tau=paper)"),
        ("tau.pos", USABLE, "the paper uses 10 (tau=paper)"),
        ("tau.neg", USABLE, "the paper uses 12 (tau=paper)"),
    ),
    ScheduleTauConfig: (
        ("tau.shape", one_of("constant", "linear", "cosine"), "linear is the default"),
        ("tau.end_pos", USABLE, "13 is the default"),
        ("tau.end_neg", USABLE, "15 is the default"),
    ),
    MatchedTauConfig: (
        ("tau.half_width", POSITIVE, "0.1 is the default"),
        ("tau.neg_over_pos", POSITIVE, "1.2 is the paper's"),
    ),
    TargetEurTauConfig: (
        ("tau.target", FRACTION, "0.9 is the default"),
        ("tau.gain", FRACTION, "0.5 is the default"),
        ("tau.low", USABLE, "0.1 is the default"),
        ("tau.high", USABLE, "1000 is the default"),
    ),
    ConstantAggregationConfig: (("aggregation.length", at_least(1), "sampling.max_completion_length is the default"),),
    FixedKlConfig: (
        ("kl.reference", one_of("initial", "sampling"), "initial is GRPO's"),
        ("kl.estimator", one_of("k1", "k2", "k3"), "k3 is GRPO's"),
        ("kl.coefficient", POSITIVE, "kl=none has no penalty"),
    ),
    AdaptiveKlConfig: (
        ("kl.target", POSITIVE, "0.01 is PPO's"),
        ("kl.low", POSITIVE, "1e-3 is the default"),
        ("kl.high", POSITIVE, "1e3 is the default"),
    ),
    BoundedCorrectionConfig: (
        ("correction.level", one_of("token", "sequence"), "token is the default"),
        ("correction.cap", POSITIVE, "3 is the default"),
    ),
    VllmRolloutConfig: (
        ("rollout.tensor_parallel_size", at_least(1), "1 is the default"),
        ("rollout.memory", FRACTION, "0.35 is the default"),
        ("rollout.cache_gib", at_least(1), "1 is the default"),
    ),
    DeepSpeedEngineConfig: (
        ("engine.zero_stage", one_of(0, 1, 2, 3), "2 is the default"),
        ("engine.persistence_threshold", at_least(0), "100000 is the default"),
    ),
}


def validate(config: TrainConfig) -> None:
    """Check every rule.

    Raises:
      UserError: the first value that breaks one.
    """
    for group, options in SCHEMAS.items():
        _require_chosen_as_a_group(group, getattr(config, group), options)
    chosen = [getattr(config, group) for group in SCHEMAS]
    for key, rule, remedy in (*RULES, *_option_rules(*chosen)):
        _require(key, rule, attrgetter(key)(config), remedy)
    _require("data.sources", Rule("must name at least one source", bool), config.data.sources, "choose data=tiny, say")
    for name, source in config.data.sources.items():
        _require(f"data.sources.{name}.weight", POSITIVE, source.weight, "1 is an equal share")
    _validate_gate(config.gate)
    _validate_extra_rewards(config.reward)
    _validate_devices(config)
    _validate_batch(config)
    _validate_axes(config)


def _require_chosen_as_a_group(group: str, option: Any, options: dict[str, type]) -> None:
    """``kl.name=fixed`` alone would leave the settings of ``kl=fixed`` out."""
    wanted = options.get(option.name)
    if (wanted is None and type(option) in options.values()) or wanted not in (None, type(option)):
        raise UserError(f"{group}.name must not be changed alone, got {option.name}; type {group}={option.name}")


def validate_probe(config: ProbeConfig) -> None:
    """Check every rule that needs no file.

    Raises:
      UserError: the first value that breaks one.
    """
    for key, rule, remedy in _option_rules(config.tau):
        _require(key, rule, attrgetter(key)(config), remedy)
    still = Rule("must be one that stands still, constant or matched", lambda value: value in ("constant", "matched"))
    _require("tau", still, config.tau.name, "type tau=paper")
    several = Rule("must name two different gates or more", lambda value: len(set(value)) == len(value) >= 2)
    _require("gates", several, config.gates, "type 'gates=[clip,erf]', say")


def validate_evaluation(config: EvaluationConfig) -> None:
    """Check every rule that needs no file.

    Raises:
      UserError: the first value that breaks one.
    """
    for key, rule, remedy in (*EVALUATION_RULES, *_option_rules(config.rollout)):
        _require(key, rule, attrgetter(key)(config), remedy)
    evaluation = Rule("must name at least one evaluation set", bool)
    _require("data", evaluation, list(config.data.evaluation), "type 'data=[gsm8k_test,math500]', say")
    _validate_extra_rewards(config.reward)
    if isinstance(config.rollout, VllmRolloutConfig):
        alone = Rule("must be 1 in an evaluation, which is one process", lambda value: value == 1)
        _require("rollout.tensor_parallel_size", alone, config.rollout.tensor_parallel_size, "leave it out")
    for column, sets in config.columns.items():
        known = Rule(
            f"must pool sets of data ({', '.join(config.data.evaluation)})", set(config.data.evaluation).issuperset
        )
        _require(f"columns.{column}", known, sets, "name only sets that data names")


def _option_rules(*chosen: object) -> Iterator[tuple[str, Rule, str]]:
    for option in chosen:
        yield from chain(*(OPTION_RULES.get(kind, ()) for kind in type(option).mro()))


def _validate_axes(config: TrainConfig) -> None:
    """Choices on one axis that exclude choices on another."""
    if config.aggregation.name == "geometric_mean":
        # Its product over tokens would take the |o|-th power of a ratio that is the same for all of them.
        token = Rule("must be token with aggregation=geometric_mean", lambda value: value == "token")
        _require("ratio", token, config.ratio.name, "type ratio=token, or aggregation=sequence_mean")
        if isinstance(config.correction, BoundedCorrectionConfig):
            whole = Rule("must be sequence with aggregation=geometric_mean", lambda value: value == "sequence")
            _require("correction.level", whole, config.correction.level, "type correction.level=sequence")
    if isinstance(config.tau, TargetEurTauConfig):
        _validate_controller(config, "tau", config.tau, "pos", config.tau.pos)
    if isinstance(config.kl, AdaptiveKlConfig):
        _validate_controller(config, "kl", config.kl, "coefficient", config.kl.coefficient)


def _validate_controller(
    config: TrainConfig, key: str, part: TargetEurTauConfig | AdaptiveKlConfig, name: str, start: float
) -> None:
    """What moves ``key.name`` after the last iteration of every rollout batch, between two bounds."""
    above = Rule(f"must be > {key}.low = {part.low}", part.low.__lt__)
    _require(f"{key}.high", above, part.high, "raise it")
    within = Rule(
        f"must be in [{key}.low, {key}.high] = [{part.low}, {part.high}]",
        lambda value: part.low <= value <= part.high,
    )
    _require(f"{key}.{name}", within, start, "start there")
    again = Rule(f"must be >= 2 with {key}={part.name}, which looks beyond the first", lambda value: value >= 2)
    _require("batch.iterations", again, config.batch.iterations, f"choose another {key}")
    whole = Rule(f"must be null with {key}={part.name}, which looks at the last of batch.iterations", _is_none)
    _require("batch.max_deviation", whole, config.batch.max_deviation, f"choose another {key}")


def _is_none(value: object) -> bool:
    return value is None


def validate_gates(config: GatesConfig) -> None:
    """The rules of ``python -m gatepo.gates``.

    Raises:
      UserError: the first value that breaks one.
    """
    for key, rule, remedy in (("at", POSITIVE, "the paper uses tau = 10"), *_option_rules(config.gate)):
        _require(key, rule, attrgetter(key)(config), remedy)
    _validate_gate(config.gate)


def _validate_gate(gate: GateConfig) -> None:
    if isinstance(gate, CustomGateConfig) and (gate.slope is None) == (gate.value is None):
        given = "neither" if gate.slope is None else f"both, {gate.slope} and {gate.value}"
        raise UserError(
            f"gate=custom must have exactly one of gate.slope and gate.value, got {given}; "
            "e.g. gate.slope='1/(1+tau**2*(x-1)**2)'"
        )
    if gate.arguments and gate._target_ is None:
        raise UserError(
            f"gate.arguments must go with gate._target_, got {gate.arguments} alone; add gate._target_=my.module.MyGate"
        )


def _validate_extra_rewards(reward: RewardConfig) -> None:
    taken = Rule("must have a name of its own", lambda name: name not in ("answer", "format"))
    path = Rule("must be the dotted path of a function or class", lambda value: isinstance(value, str) and "." in value)
    finite = Rule("must be a finite number", lambda value: isinstance(value, int | float) and math.isfinite(value))
    for name, entry in reward.extra.items():
        _require(f"reward.extra.{name}", taken, name, "those two have reward.weights")
        _require(f"reward.extra.{name}._target_", path, entry.get("_target_"), "my_module.my_reward, say")
        _require(f"reward.extra.{name}.weight", finite, entry.get("weight"), "1 is as much as the answer")


def _validate_batch(config: TrainConfig) -> None:
    batch = config.batch
    completions = batch.prompts * batch.num_generations // config.devices
    share = "" if config.devices == 1 else f" / devices = {batch.prompts * batch.num_generations} / {config.devices}"
    divides = Rule(
        f"must divide batch.prompts * batch.num_generations{share} = {completions}",
        lambda value: value is None or (value >= 1 and completions % value == 0),
    )
    _require("batch.micro", divides, batch.micro, f"type batch.micro={math.gcd(completions, max(batch.micro or 1, 1))}")
    enough = Rule("must be >= batch.num_generations", lambda value: value >= batch.num_generations)
    _require("rollout.max_sequences", enough, config.rollout.max_sequences, f"type {batch.num_generations} or more")


def _validate_devices(config: TrainConfig) -> None:
    prompts, engine, rollout = config.batch.prompts, config.engine, config.rollout
    divides = Rule(f"must be a multiple of devices = {config.devices}", lambda value: value % config.devices == 0)
    _require(
        "batch.prompts", divides, prompts, f"type batch.prompts={max(1, prompts // config.devices) * config.devices}"
    )
    if isinstance(rollout, VllmRolloutConfig):
        shares = Rule(f"must divide devices = {config.devices}", lambda value: config.devices % value == 0)
        _require("rollout.tensor_parallel_size", shares, rollout.tensor_parallel_size, "type 1")
    if isinstance(engine, DeepSpeedEngineConfig):
        sharded = Rule("needs engine.zero_stage >= 1", lambda value: not value or engine.zero_stage >= 1)
        _require("engine.offload_optimizer", sharded, engine.offload_optimizer, "type engine.zero_stage=1")
    if config.anchor == "rollout":
        alone = Rule(
            "must be none with anchor=rollout, which divides by the sampler already", lambda value: value == "none"
        )
        _require("correction", alone, config.correction.name, "type correction=none")


def remarks(config: TrainConfig) -> list[str]:
    """What is allowed, and seldom meant."""
    found = []
    if config.batch.iterations == 1:
        found.append(
            "batch.iterations=1 with one update per rollout batch: every ratio is 1, so all gates and temperatures "
            "give the same training; the paper uses batch.iterations=2"
        )
    if isinstance(config.kl, FixedKlConfig) and (config.kl.reference, config.kl.estimator) == ("initial", "k1"):
        found.append(
            "kl.estimator=k1 with kl.reference=initial: its gradient is that of log pi alone, whose mean is 0, so that "
            "the penalty holds nothing back; kl.estimator=k2 has the gradient of KL"
        )
    return found


def _require(key: str, rule: Rule, value: object, remedy: str) -> None:
    if not rule.holds(value):
        raise UserError(f"{key} {rule.words}, got {value}; {remedy}")
