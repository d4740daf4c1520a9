"""The training algorithm. It knows protocols only; what they are made of is decided in :mod:`gatepo.build`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch

from gatepo.distributed import World
from gatepo.engine.base import PolicyEngine
from gatepo.metrics import mismatch_metrics, readable_samples, rollout_metrics
from gatepo.objective.advantage import Advantage
from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective
from gatepo.objective.telemetry import join, token_metrics
from gatepo.rewards.base import RewardFunction
from gatepo.rollout.base import RolloutEngine
from gatepo.state import Flight, RunState
from gatepo.stopwatch import Stopwatch
from gatepo.types import Prompt, Sampling, make_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The parts and the numbers that the loop turns into training."""

    updates: int  # of the whole run
    prompts: int  # per rollout batch and update, over all devices
    iterations: int  # mu, passes over one rollout batch
    sampling: Sampling
    take_prompts: Callable[[int, int], list[Prompt]]  # (position, count)
    rollout: RolloutEngine
    sync: Callable[[int], None]  # brings the trainer's weights of this version to the sampler
    reward: RewardFunction
    advantage: Advantage
    objective: Objective
    engine: PolicyEngine
    pad_id: int
    device: torch.device
    world: World


Hook = Callable[[RunState, dict[str, float]], None]


def train(algorithm: Algorithm, state: RunState, hooks: list[Hook]) -> None:
    """Sample, score, improve, until all updates are done; each hook sees the state and the metrics of every update."""
    watch = Stopwatch()
    while state.update < algorithm.updates:
        if state.flight is None or state.flight.iteration == algorithm.iterations:
            state.flight = collect(algorithm, state, watch)
        metrics = improve(algorithm, state, state.flight, watch) | watch.lap()
        for hook in hooks:
            hook(state, metrics)


def collect(algorithm: Algorithm, state: RunState, watch: Stopwatch) -> Flight:
    """Draw G completions of each prompt from the current policy (pi_old), score them, and take advantages.

    Each device answers its own share of the prompts; the metrics are those of all.
    """
    world = algorithm.world
    with watch.part("sync"):
        algorithm.rollout.wake()
        algorithm.sync(state.update)
    with watch.part("rollout"):
        prompts = algorithm.take_prompts(state.position, algorithm.prompts)
        groups = algorithm.rollout.generate(world.share(prompts), algorithm.sampling, state.seed)
        algorithm.rollout.sleep()
    with watch.part("reward"):
        rewards = algorithm.reward(groups)
    reward_PG = torch.tensor([[reward.total for reward in row] for row in rewards])
    batch = make_batch(groups, algorithm.advantage(reward_PG), algorithm.pad_id, algorithm.device)
    completions, tokens, read = world.sum(len(batch), int(batch.completion_NT.sum()), int(batch.attention_NT.sum()))
    state.position += len(prompts)
    state.rollouts += 1
    state.num_tokens += int(read)
    all_groups, all_rewards = (list(chain(*parts)) for parts in zip(*world.gather((groups, rewards)), strict=True))
    return Flight(
        batch=batch,
        totals=Totals(completions=int(completions), tokens=int(tokens)),
        anchor_NT=batch.sampler_logp_NT[:, 1:] if algorithm.objective.anchor == "rollout" else None,
        metrics=rollout_metrics(all_groups, all_rewards),
        samples=readable_samples(groups[0], rewards[0]),
    )


def improve(algorithm: Algorithm, state: RunState, flight: Flight, watch: Stopwatch) -> dict[str, float]:
    """One update on the rollout batch in flight (eq. 2), and what it did."""
    world, batch = algorithm.world, flight.batch
    with watch.part("train"):
        step = algorithm.engine.update(batch, flight.anchor_NT, flight.totals, algorithm.objective)
    if flight.iteration == 0:  # nothing was updated since sampling: these are log pi_old
        flight.anchor_NT = step.logp_NT if flight.anchor_NT is None else flight.anchor_NT
        difference_M = (step.logp_NT - batch.sampler_logp_NT[:, 1:])[batch.completion_NT[:, 1:]]
        flight.metrics |= mismatch_metrics(torch.cat(world.gather(difference_M.cpu())))
    flight.iteration += 1
    state.update += 1
    records, groups = zip(*world.gather((step.record.cpu(), batch.group_N.cpu())), strict=True)
    return {
        "loss": step.loss,
        "grad_norm": step.grad_norm,
        "learning_rate": step.learning_rate,
        "num_tokens": state.num_tokens,
        **flight.metrics,
        **token_metrics(join(records), torch.cat(groups), flight.iteration, algorithm.objective.ratio.clamp),
        "tau/pos": algorithm.objective.tau.pos,
        "tau/neg": algorithm.objective.tau.neg,
    }
