"""The rules between several settings, as far as they need no file and no model. Those of one stand on its field.

An option declares what a rule asks of it, so that those from outside are held to the rules too.
"""

from __future__ import annotations

from typing import Any

from gatepo.schema import EvaluationConfig, ProbeConfig, TrainConfig
from gatepo.settings import Rule, name_of, require


def check(config: Any) -> None:
    """Hold the settings of a command to the rules between them.

    Raises:
      UserError: the first rule that is broken.
    """
    if isinstance(config, TrainConfig | EvaluationConfig):
        _require_gold_answers(config)
    if isinstance(config, TrainConfig):
        require("data.sources", Rule("must name at least one source", bool), config.data.sources, "type e.g. data=tiny")
        _require_shares(config)
        _require_axes_that_go_together(config)
    if isinstance(config, ProbeConfig):
        still = Rule("must be one that stands still, constant or matched", lambda tau: not hasattr(tau, "steer"))
        _require_option("tau", still, config.tau, "type tau=paper")
    if isinstance(config, EvaluationConfig):
        _require_evaluation(config)


def _require_gold_answers(config: TrainConfig | EvaluationConfig) -> None:
    words = f"must name a field with reward={name_of(config.reward)}"
    named = Rule(words, lambda value: value is not None or not getattr(config.reward, "COMPARES_ANSWERS", False))
    for part in ("sources", "evaluation"):
        for name, source in getattr(config.data, part).items():
            remedy = "name it, or type reward._target_=my.module.score"
            require(f"data.{part}.{name}.answer", named, getattr(source, "answer", ""), remedy)


def _require_shares(config: TrainConfig) -> None:
    """Require that what is shared out over devices comes out even."""
    batch, devices = config.batch, config.devices
    multiple = Rule(f"must be a multiple of devices = {devices}", lambda value: value % devices == 0)
    nearest = max(1, batch.prompts // devices) * devices
    require("batch.prompts", multiple, batch.prompts, f"type batch.prompts={nearest}")
    shares = Rule(f"must divide devices = {devices}", lambda value: devices % value == 0)
    require("rollout.tensor_parallel_size", shares, config.rollout.devices_per_copy, "type 1")
    enough = Rule("must be >= batch.num_generations", lambda value: value >= batch.num_generations)
    require("rollout.max_sequences", enough, config.rollout.max_sequences, f"type {batch.num_generations} or more")


def _require_axes_that_go_together(config: TrainConfig) -> None:
    adapter, engine = config.model.adapter, config.engine
    knows = Rule("must be none with an engine that knows none", lambda a: a.label is None or engine.KNOWS_ADAPTERS)
    _require_option("model.adapter", knows, adapter, "type engine=torch")
    if config.anchor == "rollout":
        none = Rule(
            "must be none with anchor=rollout, which divides by the sampler already",
            lambda correction: getattr(correction, "CORRECTS_NOTHING", False),
        )
        _require_option("correction", none, config.correction, "type correction=none")
    if getattr(config.aggregation, "NEEDS_RATIO_OF_TOKEN", False):
        # Its product over tokens would take the |o|-th power of a ratio that is the same for all of them.
        token = Rule("must be token with aggregation=geometric_mean", lambda ratio: getattr(ratio, "OF_TOKEN", False))
        _require_option("ratio", token, config.ratio, "type ratio=token, or aggregation=sequence_mean")
        if hasattr(config.correction, "level"):
            whole = Rule("must be sequence with aggregation=geometric_mean", lambda value: value == "sequence")
            require("correction.level", whole, config.correction.level, "type correction.level=sequence")
    for key, part in (("tau", config.tau), ("kl", config.kl)):
        chosen, remedy = f"{key}={name_of(part)}", f"choose another {key}"
        if getattr(part, "LOOKS_BEYOND_FIRST", False):
            again = Rule(f"must be >= 2 with {chosen}, which looks beyond the first", lambda value: value >= 2)
            require("batch.iterations", again, config.batch.iterations, remedy)
        if getattr(part, "LOOKS_AT_LAST_ITERATION", False):
            words = f"must be null with {chosen}, which looks at the last of batch.iterations"
            none = Rule(words, lambda value: value is None)
            require("batch.max_deviation", none, config.batch.max_deviation, remedy)


def _require_evaluation(config: EvaluationConfig) -> None:
    named = Rule("must name at least one evaluation set", bool)
    require("data", named, list(config.data.evaluation), "type e.g. 'data=[gsm8k_test,math500]'")
    alone = Rule("must be 1 in an evaluation, which is one process", lambda value: value == 1)
    require("rollout.tensor_parallel_size", alone, config.rollout.devices_per_copy, "leave it out")
    of_run = Rule("must be none in an evaluation: that of a run is known", lambda a: a.label is None)
    _require_option("model.adapter", of_run, config.model.adapter, "leave it out")
    for column, sets in config.columns.items():
        words = f"must pool sets of data ({', '.join(config.data.evaluation)})"
        known = Rule(words, set(config.data.evaluation).issuperset)
        require(f"columns.{column}", known, sets, "name only sets that data names")


def _require_option(key: str, rule: Rule, option: object, remedy: str) -> None:
    """As :func:`gatepo.settings.require`, of an option, which a message calls by its name."""
    if not rule.holds(option):
        require(key, Rule(rule.words, lambda name: False), name_of(option), remedy)
