"""The training algorithm. It knows protocols only; what they are made of is decided in :mod:`gatepo.build`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter

import torch
from torch import Tensor

from gatepo.controllers import Controller, LookingController
from gatepo.engine.base import PolicyEngine, ReferencePolicy
from gatepo.errors import Interrupted, TrainingStopped
from gatepo.metrics import GroupFigures, figures_of, mismatch_metrics, readable_samples, rollout_metrics
from gatepo.objective.advantage import Advantage
from gatepo.objective.aggregation import Totals
from gatepo.objective.correction import NoCorrection
from gatepo.objective.drift import Drift
from gatepo.objective.ledger import eur_ledger
from gatepo.objective.surrogate import Objective
from gatepo.objective.telemetry import effective_update_ratio, join, token_metrics
from gatepo.rewards.base import RewardFunction
from gatepo.rollout.base import RolloutEngine
from gatepo.state import RolloutBatch, RunState
from gatepo.stopwatch import Stopwatch
from gatepo.types import Group, Prompt, Reward, Sampling, TokenBatch, make_batch
from gatepo.world import World

Scored = tuple[Group, list[Reward]]
NEGLIGIBLE = 1e-6  # 1 - EUR by rounding that is not measured again, as in fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The parts and the numbers that the loop turns into training."""

    updates: int  # of the whole run
    prompts: int  # per rollout batch and update, over all devices
    iterations: int  # mu, passes over one rollout batch
    max_rounds: int = 1  # of sampling, until the rewards of every group differ
    compared: Callable[[Reward], float] = attrgetter("total")  # what of them must differ
    max_deviation: float | None = None  # mean |r - 1| that ends a rollout batch early
    learn_unfinished: bool = True  # whether completions that hit the length limit enter the loss
    sampling: Sampling
    take_prompts: Callable[[int, int], list[Prompt]]  # (position, count)
    rollout: RolloutEngine
    sync: Callable[[int], None]  # brings the trainer's weights of this version to the sampler
    reward: RewardFunction
    advantage: Advantage
    objective: Objective
    controllers: tuple[Controller, ...] = ()  # what moves tau and the KL coefficient
    engine: PolicyEngine
    reference: ReferencePolicy | None = None  # what a KL penalty holds on to, where that is the untrained model
    pad_id: int
    device: torch.device
    world: World


Hook = Callable[[RunState, dict[str, float]], None]


def train(algorithm: Algorithm, state: RunState, hooks: list[Hook]) -> None:
    """Sample, score, improve, until all updates are done; each hook sees the state and the metrics of every update.

    Raises:
      Interrupted: a process of the run was asked to stop. ``state`` and the engine are as the last update left them, or
        the rollout batch behind it: what was begun has changed nothing, and is done again to the bit.
    """
    watch = Stopwatch()
    metrics = state.unwritten
    if metrics is not None:
        for hook in hooks:
            hook(state, metrics)
    while state.update < algorithm.updates:
        if state.rollout_batch is None or is_done(algorithm, state.rollout_batch, watch):
            state.rollout_batch = _whole(algorithm, state, watch)
        algorithm.world.stop_if_asked()
        metrics = improve(algorithm, state, state.rollout_batch, watch) | watch.lap()
        for hook in hooks:
            hook(state, metrics)
        watch.skip()


def is_done(algorithm: Algorithm, rollout_batch: RolloutBatch, watch: Stopwatch) -> bool:
    """Whether a rollout batch has had its iterations, or the policy has gone too far from pi_old for another one."""
    if rollout_batch.iteration in (0, algorithm.iterations) or algorithm.max_deviation is None:
        return rollout_batch.iteration == algorithm.iterations
    assert rollout_batch.anchor_NT is not None
    with watch.part("train"):
        logp_NT = algorithm.engine.logprobs(rollout_batch.tokens)
    mask_NT = rollout_batch.tokens.completion_NT[:, 1:]
    ratio_NT = algorithm.objective.ratio(logp_NT, rollout_batch.anchor_NT, mask_NT).exp()
    total, tokens = algorithm.world.sum(((ratio_NT - 1).abs() * mask_NT).sum().item(), mask_NT.sum().item())
    return total / tokens > algorithm.max_deviation


def _whole(algorithm: Algorithm, state: RunState, watch: Stopwatch) -> RolloutBatch:
    """Collect a rollout batch, or give its prompts back where the run is asked to stop before it is whole."""
    position = state.position
    try:
        return collect(algorithm, state, watch)
    except Interrupted:
        state.position = position
        raise


def collect(algorithm: Algorithm, state: RunState, watch: Stopwatch) -> RolloutBatch:
    """Draw G completions of each prompt from the current policy (pi_old), score them, and take advantages.

    Each device answers its own share of the prompts; the metrics are those of all.
    """
    world = algorithm.world
    with watch.part("sync"):
        algorithm.rollout.wake()
        algorithm.sync(state.update)
    own, figures, sampling_metrics = sample_groups(algorithm, state, watch)
    reward_PG = torch.tensor([[reward.total for reward in group.rewards] for group in figures])
    advantage_PG = algorithm.advantage(reward_PG)[world.share(range(len(figures)))]
    groups = [group for group, _ in own]
    batch = make_batch(groups, advantage_PG, algorithm.pad_id, algorithm.device, algorithm.learn_unfinished)
    completions, tokens, read = world.sum(len(batch), int(batch.completion_NT.sum()), int(batch.attention_NT.sum()))
    if tokens == 0:
        raise TrainingStopped(
            f"update {state.update + 1}: every completion hit sampling.max_completion_length, and "
            "sampling.overlong=filter leaves none to learn from. Raise the limit, or type sampling.overlong=keep"
        )
    if algorithm.reference is not None:
        with watch.part("train"), world.together():
            batch = replace(batch, reference_logp_NT=algorithm.reference.logprobs(batch))
    state.rollouts += 1
    state.num_tokens += int(read)
    return RolloutBatch(
        tokens=batch,
        totals=Totals(completions=int(completions), tokens=int(tokens)),
        anchor_NT=batch.sampler_logp_NT[:, 1:] if algorithm.objective.anchor == "rollout" else None,
        metrics=rollout_metrics(figures) | sampling_metrics,
        samples=readable_samples(*own[0]),
    )


def sample_groups(
    algorithm: Algorithm, state: RunState, watch: Stopwatch
) -> tuple[list[Scored], list[GroupFigures], dict[str, float]]:
    """Sample the groups of a rollout batch and score them.

    Returns: this device's own groups with their rewards; the figures of all devices' groups; metrics of the rounds.
    """
    if algorithm.max_rounds == 1:  # every device keeps what it has sampled, and only figures travel
        own = _one_round(algorithm, state, watch)
        figures = [*chain(*algorithm.world.gather([figures_of(*scored) for scored in own]))]
        found: tuple[list[Scored], list[GroupFigures], dict[str, float]] = (own, figures, {})
    else:
        scored, metrics = _rounds_until_rewards_differ(algorithm, state, watch)
        found = (algorithm.world.share(scored), [figures_of(*one) for one in scored], metrics)
    with watch.part("rollout"):
        algorithm.rollout.sleep()
    return found


def _one_round(algorithm: Algorithm, state: RunState, watch: Stopwatch) -> list[Scored]:
    """Answer and score this device's share of the next prompts."""
    with algorithm.world.together():
        with watch.part("rollout"):
            prompts = algorithm.take_prompts(state.position, algorithm.prompts)
            groups = algorithm.rollout.generate(algorithm.world.share(prompts), algorithm.sampling, state.seed)
        state.position += len(prompts)
        with watch.part("reward"):
            scored = list(zip(groups, algorithm.reward(groups), strict=True))
    return scored


def _rounds_until_rewards_differ(
    algorithm: Algorithm, state: RunState, watch: Stopwatch
) -> tuple[list[Scored], dict[str, float]]:
    """Collect the groups of a rollout batch, of all devices, on every device (DAPO's dynamic sampling).

    Groups whose rewards (or answers, ``batch.filter``) are all equal wait aside while others are drawn, and fill the
    batch only where the last round leaves it short. That is counted.
    """
    differing: list[Scored] = []
    equal: list[Scored] = []
    rounds = 0
    while len(differing) < algorithm.prompts and rounds < algorithm.max_rounds:
        rounds += 1
        for group, rewards in chain(*algorithm.world.gather(_one_round(algorithm, state, watch))):
            differ = len({algorithm.compared(reward) for reward in rewards}) > 1
            (differing if differ else equal).append((group, rewards))
    short = max(0, algorithm.prompts - len(differing))
    metrics = {"sampling/rounds": float(rounds), "sampling/filled_frac": short / algorithm.prompts}
    return (differing + equal)[: algorithm.prompts], metrics


def improve(algorithm: Algorithm, state: RunState, rollout_batch: RolloutBatch, watch: Stopwatch) -> dict[str, float]:
    """Make one update on the rollout batch in training (eq. 2), and say what it did."""
    world, batch = algorithm.world, rollout_batch.tokens
    first = rollout_batch.iteration == 0
    with watch.part("train"):
        objective = steered(algorithm, state, rollout_batch)
        rounds = first and (state.rounding is None or state.rounding > NEGLIGIBLE)
        again_NT = logprobs_in_other_batches(algorithm.engine, batch) if rounds else None
        step = algorithm.engine.update(batch, rollout_batch.anchor_NT, rollout_batch.totals, objective)
    if first:  # nothing was updated since sampling: these are log pi_old
        rollout_batch.anchor_NT = step.logp_NT if rollout_batch.anchor_NT is None else rollout_batch.anchor_NT
        difference_M = (step.logp_NT - batch.sampler_logp_NT[:, 1:])[batch.completion_NT[:, 1:]]
        rollout_batch.metrics |= mismatch_metrics(torch.cat(world.gather(difference_M.cpu())))
    rollout_batch.iteration += 1
    state.update += 1
    with watch.part("telemetry"):
        records, groups = zip(*world.gather((step.record.cpu(), batch.group_N.cpu())), strict=True)
        record = join(records)
        metrics = {
            "loss": step.loss,
            "grad_norm": step.grad_norm,
            "learning_rate": step.learning_rate,
            "num_tokens": state.num_tokens,
            **rollout_batch.metrics,
            **token_metrics(record, torch.cat(groups), rollout_batch.iteration, objective.ratio.clamp),
            "tau/pos": objective.tau.pos,
            "tau/neg": objective.tau.neg,
        }
        if again_NT is not None:
            floors = noise_floors(objective, batch, step.logp_NT, again_NT, world)
            state.rounding = 1 - floors["eur/noise_floor/trainer"]
            metrics |= floors
        if first:
            rollout_batch.taken_before = 1 - metrics["eur"]
        metrics |= eur_ledger(
            taken=1 - metrics["eur"],
            before=rollout_batch.taken_before,
            rounding=state.rounding or 0.0,
            by_sampler=objective.anchor == "rollout",
        )
        if objective.penalises_kl:
            metrics["kl"] = record.kl_NT[record.mask_NT].mean().item()
            metrics["kl/coefficient"] = objective.kl.coefficient
    for controller in algorithm.controllers:
        state.controls |= controller.learn(metrics, state.controls, algorithm.iterations)
    return metrics


def steered(algorithm: Algorithm, state: RunState, rollout_batch: RolloutBatch) -> Objective:
    """Give the objective of the next update, as the controllers want it."""
    progress = state.update / max(algorithm.updates - 1, 1)
    objective = algorithm.objective
    for controller in algorithm.controllers:
        objective = controller.steer(objective, progress, state.controls)
        if rollout_batch.iteration and isinstance(controller, LookingController):
            objective = controller.look(objective, drift(algorithm, rollout_batch))
    return objective


def drift(algorithm: Algorithm, rollout_batch: RolloutBatch) -> list[Drift]:
    """Compute how far the policy is from pi_old on the completions of every device; on the CPU."""
    batch = rollout_batch.tokens
    mask_NT = batch.completion_NT[:, 1:]
    assert rollout_batch.anchor_NT is not None, "it is known from the first iteration on"
    log_ratio_NT = algorithm.objective.ratio(algorithm.engine.logprobs(batch), rollout_batch.anchor_NT, mask_NT)
    own = (log_ratio_NT.cpu(), batch.advantage_N.cpu(), mask_NT.cpu(), batch.group_N.cpu())
    names = ("log_ratio_NT", "advantage_N", "mask_NT", "group_N")
    return [Drift(**dict(zip(names, parts, strict=True))) for parts in algorithm.world.gather(own)]


def logprobs_in_other_batches(engine: PolicyEngine, batch: TokenBatch) -> Tensor:
    """Give log pi of the completion tokens, [N, T - 1], each completion in other company than in an update."""
    again_NT = torch.zeros_like(batch.sampler_logp_NT[:, 1:])
    for first in (0, 1):
        rows_N = torch.arange(first, len(batch), 2, device=batch.ids_NT.device)
        part_NT = engine.logprobs(batch.rows(rows_N))
        again_NT[rows_N, : part_NT.shape[1]] = part_NT
    return again_NT


def noise_floors(
    objective: Objective, batch: TokenBatch, logp_NT: Tensor, again_NT: Tensor, world: World
) -> dict[str, float]:
    """Give the EUR (eq. 12) of weights that did not change: an EUR that is not below it says nothing about drift.

    ``eur/noise_floor`` is that of the anchor that the ratio divides by: ``.../trainer`` of the trainer against itself
    in other batches (in fp32 it is 1), or ``.../sampler`` of the trainer against the sampler, which is logged where the
    sampler's log-probabilities enter the update.
    """
    sampler_NT, by_sampler = batch.sampler_logp_NT[:, 1:], objective.anchor == "rollout"
    floors = {"trainer": _floor(objective, batch, again_NT, logp_NT, world)}
    if by_sampler or not isinstance(objective.correction, NoCorrection):
        floors["sampler"] = _floor(objective, batch, logp_NT, sampler_NT, world)
    own = floors["sampler" if by_sampler else "trainer"]
    return {"eur/noise_floor": own} | {f"eur/noise_floor/{anchor}": eur for anchor, eur in floors.items()}


def _floor(objective: Objective, batch: TokenBatch, logp_NT: Tensor, anchor_NT: Tensor, world: World) -> float:
    """Give EUR over all devices; each has all completions of its prompts."""
    mask_NT = batch.completion_NT[:, 1:]
    with torch.no_grad():
        gated, _ = objective.gated(logp_NT, anchor_NT, batch.advantage_N, mask_NT)
    prompts = len(torch.unique(batch.group_N[mask_NT.any(dim=1)]))
    own = effective_update_ratio(gated.slope_NT, mask_NT, batch.group_N).item() * prompts if prompts else 0.0
    total, count = world.sum(own, prompts)
    return total / count
