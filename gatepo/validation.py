"""The rules that a config must keep, as far as they need no file and no model."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

from gatepo.errors import UserError
from gatepo.schema import (
    BoundedCorrectionConfig,
    ClipGateConfig,
    DeepSpeedEngineConfig,
    TrainConfig,
    VllmRolloutConfig,
)

log = logging.getLogger(__name__)


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
FRACTION = Rule("must be in (0, 1)", lambda value: 0 < value < 1)
DECAY = Rule("must be in [0, 1)", lambda value: 0 <= value < 1)
OPTIONAL_COUNT = Rule("must be >= 1", lambda value: value is None or value >= 1)

# key, rule, what to type instead
RULES: tuple[tuple[str, Rule, str], ...] = (
    ("seed", at_least(0), "0 is the default"),
    ("devices", at_least(1), "1 is the default"),
    ("anchor", one_of("old", "rollout"), "the paper divides by pi_old"),
    ("threads", OPTIONAL_COUNT, "leave it out"),
    ("updates", at_least(1), "200 is the default"),
    ("tau.pos", POSITIVE, "the paper uses 10 (tau=paper)"),
    ("tau.neg", POSITIVE, "the paper uses 12 (tau=paper)"),
    ("ratio.clamp", Rule("must be in (0, 88]", lambda value: 0 < value <= 88), "20 is the default"),
    ("advantage.eps", at_least(0), "1e-4 is the default"),
    ("advantage.ddof", one_of(0, 1), "1 is the default"),
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
    ("rollout.tolerance", POSITIVE, "1e-3 is the default"),
    ("reward.weights.answer", at_least(0), "the paper uses 1"),
    ("reward.weights.format", at_least(0), "the paper uses 1"),
    ("reward.format", one_of("paper", "strict"), "the paper gives partial marks (eq. 10)"),
    ("reward.extraction", one_of("tags", "boxed", "auto"), "the paper reads the tags"),
    ("reward.deadline", POSITIVE, "2 seconds is the default"),
    ("reward.workers", OPTIONAL_COUNT, "leave it out"),
    ("reward.memory_mib", at_least(512), "1024 is the default"),
    ("tracker.mode", one_of("offline", "online", "disabled"), "offline needs no account"),
    ("evaluate.every", at_least(0), "0 evaluates before and after only"),
    ("evaluate.limit", OPTIONAL_COUNT, "leave it out"),
    ("evaluate.temperature", POSITIVE, "the paper uses 0.7"),
)
OPTION_RULES: dict[type, tuple[tuple[str, Rule, str], ...]] = {
    ClipGateConfig: (
        ("gate.eps_low", FRACTION, "the paper uses 0.2"),
        ("gate.eps_high", FRACTION, "the paper uses 0.2"),
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
    DeepSpeedEngineConfig: (("engine.zero_stage", one_of(0, 1, 2, 3), "2 is the default"),),
}


def validate(config: TrainConfig) -> None:
    """Check every rule.

    Raises:
      UserError: the first value that breaks one.
    """
    chosen = (config.gate, config.correction, config.rollout, config.engine)
    for key, rule, remedy in (*RULES, *chain(*(OPTION_RULES.get(type(option), ()) for option in chosen))):
        _require(key, rule, attrgetter(key)(config), remedy)
    _require("data.sources", Rule("must name at least one source", bool), config.data.sources, "choose data=tiny, say")
    for name, source in config.data.sources.items():
        _require(f"data.sources.{name}.weight", POSITIVE, source.weight, "1 is an equal share")
    _validate_extra_rewards(config)
    _validate_devices(config)
    _validate_batch(config)


def _validate_extra_rewards(config: TrainConfig) -> None:
    taken = Rule("must have a name of its own", lambda name: name not in ("answer", "format"))
    path = Rule("must be the dotted path of a function or class", lambda value: isinstance(value, str) and "." in value)
    finite = Rule("must be a finite number", lambda value: isinstance(value, int | float) and math.isfinite(value))
    for name, entry in config.reward.extra.items():
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
    if batch.iterations == 1:
        log.warning(
            "batch.iterations=1 with one update per rollout batch: every ratio is 1, so all gates and temperatures "
            "give the same training; the paper uses batch.iterations=2"
        )


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


def _require(key: str, rule: Rule, value: object, remedy: str) -> None:
    if not rule.holds(value):
        raise UserError(f"{key} {rule.words}, got {value}; {remedy}")
