"""What can be set for each command: one class for each command, one for each part of it that is no group of options.

Options have classes of their own, in the rooms of their groups; :data:`HOMES` names their modules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeVar

from gatepo.memory import KEPT_MIB
from gatepo.settings import (
    COUNT_OR_NULL,
    PAPER,
    POSITIVE,
    POSITIVE_OR_NULL,
    SAMPLER_TEMPERATURE,
    Rule,
    at_least,
    choice,
    one_of,
    option,
    section,
    setting,
)

if TYPE_CHECKING:
    from gatepo.data.settings import Data
    from gatepo.engine.adapter import AdapterOption
    from gatepo.engine.base import EngineOption
    from gatepo.engine.optimizer import OptimizerOption
    from gatepo.objective.advantage import Advantage
    from gatepo.objective.aggregation import Aggregation
    from gatepo.objective.correction import Correction
    from gatepo.objective.gates import Gate
    from gatepo.objective.kl import Kl
    from gatepo.objective.ratio import Ratio
    from gatepo.objective.tau import TauRule
    from gatepo.rewards.base import RewardOption
    from gatepo.rollout.base import RolloutOption
    from gatepo.tracking.base import TrackerOption

HOMES = (
    *("objective.gates", "formulas.gate", "objective.tau", "controllers", "objective.ratio", "objective.aggregation"),
    *("objective.advantage", "objective.correction", "objective.kl", "engine.optimizer", "engine.torch"),
    *("engine.deepspeed", "rollout.transformers", "rollout.vllm", "rewards.reward", "data.sources", "data.settings"),
    *("tracking.base", "tracking.wandb", "tracking.tensorboard", "tracking.trackio", "tracking.several"),
    "engine.adapter",
)
"""Modules of this package whose options can be chosen."""


def load_options() -> None:
    """Import every module of :data:`HOMES`, which makes its options known."""
    for home in HOMES:
        importlib.import_module(f"gatepo.{home}")


@option("model", "own", named=False)
class Model:
    """A causal language model."""

    path: str = setting("The folder or hub name of a causal language model, or tiny.")
    dtype: str = setting(
        "The body computes in this, the head in float32. By default tiny in float32, others as they are stored.",
        default="float32",
        rule=one_of("float32", "bfloat16"),
        follows="own_dtype:",
    )
    attention: str | None = setting("transformers' attn_implementation; null lets it choose.", default=None)
    activation_checkpointing: bool = setting("Activations are computed again: more work, less memory.", default=False)
    adapter: AdapterOption = choice("model/adapter", "What of the model learns.", default_factory=lambda: _no_adapter())


def _no_adapter() -> AdapterOption:
    from gatepo.engine.adapter import NoAdapter  # with torch, for which a wrong word need not wait

    return NoAdapter()


_SEED = Rule("must be in [0, 2^63)", lambda value: 0 <= value < 2**63)
_GROUP = Rule("must be >= 2, a group of one has no advantage", lambda value: value >= 2)


def _evaluation_temperature() -> Any:
    """Describe what an evaluation within a run and one of its own have alike."""
    remedy = f"{PAPER}, and 0.01 is all but greedy"
    return setting("The sampler's temperature (section 5.1).", default=0.7, rule=SAMPLER_TEMPERATURE, remedy=remedy)


def _trust() -> Any:
    """Describe what commands that read a run's folder have alike."""
    return setting("Code that the config.yaml of a run names (_target_) may run.", default=False, may_change=True)


@section("batch")
class BatchSettings:
    """How much is sampled and learned at once."""

    prompts: int = setting("Prompts per update, over all devices.", default=16, rule=at_least(1))
    num_generations: int = setting("G, completions per prompt.", default=8, rule=_GROUP, remedy=PAPER)
    iterations: int = setting("mu, passes over one rollout batch.", default=2, rule=at_least(1), remedy=PAPER)
    micro: int | None = setting(
        "Completions that one device runs at once; null: all.", default=None, rule=COUNT_OR_NULL
    )
    micro_tokens: int | None = setting(
        "Tokens that one device runs at once, beside micro; a longer completion runs alone. null: any number.",
        default=None,
        rule=COUNT_OR_NULL,
    )
    head_mib: int = setting(
        "Softmax kept for the backward pass beside the head's gradient, MiB.", default=KEPT_MIB, rule=at_least(0)
    )
    max_rounds: int = setting("Rounds of sampling until rewards of groups differ.", default=1, rule=at_least(1))
    filter: str = setting("What of the rewards must differ.", default="total", rule=one_of("answer", "total"))
    max_deviation: float | None = setting(
        "No further iteration beyond this mean |r - 1| (ESPO).", default=None, rule=POSITIVE_OR_NULL
    )


@section("sampling")
class SamplingSettings:
    """How completions are drawn for training."""

    temperature: float = setting(
        "The sampler's temperature; the paper states none.", default=1.0, rule=SAMPLER_TEMPERATURE
    )
    max_prompt_length: int = setting("Longer prompts lose their beginning, tokens.", default=128, rule=at_least(1))
    max_completion_length: int = setting("Completions end here, tokens.", default=64, rule=at_least(1))
    overlong: str = setting(
        "Unfinished completions are kept in the loss, or filtered.", default="keep", rule=one_of("keep", "filter")
    )


@section("evaluate")
class EvaluateSettings:
    """How a run evaluates itself."""

    every: int = setting("Updates in between; 0: only before and after.", default=0, rule=at_least(0), may_change=True)
    samples: int = setting("Completions per problem.", default=1, rule=at_least(1))
    temperature: float = _evaluation_temperature()
    limit: int | None = setting("Problems of each set, from its start; null: all.", default=None, rule=COUNT_OR_NULL)


@section("checkpoint")
class CheckpointSettings:
    """From what an interrupted run goes on."""

    every: int = setting(
        "Updates between checkpoints (resume=FOLDER); 0: only when a signal stops the run.",
        default=0,
        rule=at_least(0),
        may_change=True,
    )
    keep: int | None = setting(
        "Newest checkpoints that stay.", default=1, rule=COUNT_OR_NULL, remedy="null keeps all", may_change=True
    )


@section("")
class TrainConfig:
    """``python -m gatepo.train`` and ``python -m gatepo.plan``."""

    resume: str | None = setting(
        "The folder of an interrupted run, which goes on as it was; auto: where hydra.run.dir has one, else it starts.",
        default=None,
    )
    trust: bool = _trust()
    force: bool = setting("What does not fit this machine is tried all the same.", default=False, may_change=True)
    seed: int = setting("The order of prompts and every sample follow from it.", default=0, rule=_SEED)
    devices: int = setting("Processes, one for each device.", default=1, rule=at_least(1))
    threads: int | None = setting(
        "CPU threads of a process; null: torch's choice. A job of -m on a CPU has 1 where nothing is typed.",
        default=None,
        rule=COUNT_OR_NULL,
    )
    updates: int = setting(
        "Optimizer steps, best a multiple of batch.iterations.", default=200, rule=at_least(1), may_change=True
    )
    gate: Gate = choice("gate", "What damps the update when the policy drifts: f of eq. 3.")
    tau: TauRule = choice("tau", "The gate's temperatures, by the sign of A.")
    anchor: str = setting(
        "The ratio divides by the trainer's or the sampler's policy.", default="old", rule=one_of("old", "rollout")
    )
    correction: Correction = choice("correction", "Weights against the mismatch of sampler and trainer.")
    ratio: Ratio = choice("ratio", "What r is.")
    aggregation: Aggregation = choice("aggregation", "How the values of tokens become one number.")
    advantage: Advantage = choice("advantage", "How rewards become A.")
    kl: Kl = choice("kl", "A penalty on the divergence from another policy.")
    optimizer: OptimizerOption = choice("optimizer", "The optimizer and its schedule.")
    model: Model = choice("model", "The model.")
    data: Data = choice("data", "Training prompts and evaluation sets.")
    reward: RewardOption = choice("reward", "What a completion is worth.")
    rollout: RolloutOption = choice("rollout", "The sampler.")
    engine: EngineOption = choice("engine", "The trainer.")
    tracker: TrackerOption = choice("tracker", "What follows the run beside metrics.jsonl.", may_change=True)
    batch: BatchSettings = setting("How much is sampled and learned at once.", default_factory=BatchSettings)
    sampling: SamplingSettings = setting("How completions are drawn.", default_factory=SamplingSettings)
    evaluate: EvaluateSettings = setting("How the run evaluates itself.", default_factory=EvaluateSettings)
    checkpoint: CheckpointSettings = setting("From what the run can go on.", default_factory=CheckpointSettings)


@section("")
class ProbeConfig:
    """``python -m gatepo.probe``."""

    run: str = setting("The folder of a run with checkpoints.")
    trust: bool = _trust()
    gates: list[str] = setting(
        "Gates to compare, with their options' defaults, by name, as module.Class, or as a formula of the slope.",
        default_factory=lambda: ["clip", "sigmoid", "erf", "arctan", "softsign"],
        rule=Rule("must name two different gates or more", lambda value: len(set(value)) == len(value) >= 2),
        remedy="type e.g. 'gates=[clip,erf]'",
    )
    tau: TauRule = choice("tau", "The gates' temperatures, which stand still.")
    out: str | None = setting("The folder for probe.json and probe.png; null: the run's.", default=None)


@section("sampling")
class EvaluationSampling:
    """How completions are drawn for an evaluation."""

    temperature: float = _evaluation_temperature()
    max_prompt_length: int | None = setting("Tokens; null: the run's, else 1536.", default=None, rule=COUNT_OR_NULL)
    max_completion_length: int | None = setting("Tokens; null: the run's, else 512.", default=None, rule=COUNT_OR_NULL)


@section("")
class EvaluationConfig:
    """``python -m gatepo.evaluate``."""

    run: str | None = setting("The folder of a run or of a checkpoint; null: model.", default=None)
    trust: bool = _trust()
    against: str | None = setting("A finished evaluation's folder to compare with, problem by problem.", default=None)
    beside: list[str] = setting("Finished evaluations' folders to show as benchmarks.", default_factory=list)
    out: str | None = setting("The folder of the results; null: in the run, or outputs/evaluation/MODEL.", default=None)
    samples: int = setting("K, completions per problem.", default=1, rule=at_least(1))
    limit: int | None = setting("Problems of each set, from its start; null: all.", default=None, rule=COUNT_OR_NULL)
    seed: int = setting("Every sample follows from it.", default=0, rule=_SEED)
    threads: int | None = setting("CPU threads; null: torch's choice.", default=None, rule=COUNT_OR_NULL)
    columns: dict[str, list[str]] = setting("Pooled sets: +columns.AIME=[aime24,aime25].", default_factory=dict)
    published: dict[str, dict[str, float]] = setting(
        "Accuracies of others, per cent: +published.MODEL.BENCHMARK=80.3.", default_factory=dict
    )
    model: Model = choice("model", "The model, where there is no run.")
    data: Data = choice("data", "The evaluation sets.")
    reward: RewardOption = choice("reward", "How answers are read and checked.")
    rollout: RolloutOption = choice("rollout", "The sampler.")
    sampling: EvaluationSampling = setting("How completions are drawn.", default_factory=EvaluationSampling)


@section("")
class GatesConfig:
    """``python -m gatepo.gates``."""

    at: float = setting("Half-widths and properties are shown at this tau.", default=10.0, rule=POSITIVE, remedy=PAPER)
    gate: Gate = choice("gate", "A gate with its settings, shown in the place of its family's row or below the others.")
    gates: list[str] | None = setting(
        "Families to show; null: all, or the paper's five in the figure and beside a gate of one's own.", default=None
    )
    plot: bool = setting("Draw the paper's Figure 1.", default=False)
    out: str = setting("The figure's file.", default="gates.png")


Config = TypeVar("Config", TrainConfig, ProbeConfig, EvaluationConfig, GatesConfig)
COMMANDS = {"train": TrainConfig, "probe": ProbeConfig, "evaluate": EvaluationConfig, "gates": GatesConfig}
"""The class of each command that Hydra composes; ``plan`` has that of ``train``."""
