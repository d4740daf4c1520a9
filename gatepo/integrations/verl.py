"""gatepo's gates as policy losses of verl: ``actor_rollout_ref.actor.policy_loss.loss_mode=gatepo_erf``.

verl loads this module by itself in each of its processes where gatepo is installed (its entry points ``verl.plugins``);
without installation ``VERL_USE_EXTERNAL_MODULES=gatepo.integrations.verl`` does the same.

What a loss needs comes from the actor's config: ``tau_pos`` and ``tau_neg``; ``clip_ratio_low``, ``clip_ratio_high``
and ``clip_ratio_c`` for gates that have ``eps_low``, ``eps_high`` and ``c``; ``loss_agg_mode`` ("seq-mean-token-mean"
is the paper's, eq. 2). ``gatepo_clip`` is eq. 1, without verl's own dual clip: that is ``gatepo_dual_clip``.

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, register_policy_loss
from verl.utils.torch_functional import masked_mean

from gatepo.integrations.gates_and_taus import as_gate, as_tau
from gatepo.objective import gates
from gatepo.objective.gates import Gate
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import gated
from gatepo.objective.tau import PAPERS


def policy_loss(
    gate: Gate,
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str,
    config: Any,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Compute -A (f(r) - f(1) + 1) per token, weighted against the sampler's mismatch and aggregated by verl.

    Args:
      gate: f and f'; its bounds, if it has any, are replaced by the config's.
      old_log_prob, log_prob: of the sampled tokens by pi_old and pi_theta, [N, T], nats.
      advantages: A per token, [N, T].
      response_mask: 1 on completion tokens, [N, T].
      loss_agg_mode: how verl aggregates.
      config: the actor's (``verl.workers.config.ActorConfig``).
      rollout_is_weights: verl's rollout correction, [N, T].
    Returns: the micro-batch's share of the loss, and figures that verl averages over micro-batches and devices:
      ``actor/eur/token_mean`` is f' averaged over the micro-batch's tokens, since verl does not say which prompt a
      completion answers (eq. 12 would average by prompt); ``actor/pg_clipfrac`` is the share of tokens that the gate
      clips and A != 0, which for ``gatepo_clip`` are those that verl's own loss counts; ``actor/ppo_kl`` is verl's,
      mean(-log r).
    """
    mask_NT = response_mask.bool()
    log_ratio_NT = TokenRatio()(log_prob, old_log_prob, mask_NT)
    found = gated(_bounded(gate, config), as_tau((config.tau_pos, config.tau_neg)), log_ratio_NT, advantages)
    loss_NT = -found.value_NT * advantages
    if rollout_is_weights is not None:
        loss_NT = loss_NT * rollout_is_weights
    loss = agg_loss(loss_mat=loss_NT, loss_mask=mask_NT, loss_agg_mode=loss_agg_mode, **config.global_batch_info)
    figures = {
        "actor/eur/token_mean": found.slope_NT,
        "actor/pg_clipfrac": (found.clipped_NT & (advantages != 0)).float(),
        "actor/ppo_kl": -log_ratio_NT.detach(),
    }
    return loss, {name: masked_mean(figure_NT, mask_NT).item() for name, figure_NT in figures.items()}


def register(name: str, gate: str | Gate) -> None:
    """Make ``loss_mode=gatepo_NAME`` known to verl in this process.

    A gate of your own is registered in a module that verl's workers import (``VERL_USE_EXTERNAL_MODULES=my.module``).

    Raises:
      UserError: no gate has this name, or the gate cannot be used, which is looked at with the paper's tau.
    """
    register_policy_loss(f"gatepo_{name}")(partial(policy_loss, as_gate(gate, PAPERS)))


def _bounded(gate: Gate, config: Any) -> Gate:
    """Make the gate, with bounds, if it has any, from the config; ``clip_ratio`` stands in for None, as in verl."""
    ratios = {"eps_low": config.clip_ratio_low, "eps_high": config.clip_ratio_high}
    bounds = {name: config.clip_ratio if ratio is None else ratio for name, ratio in ratios.items()}
    given = {name: bound for name, bound in (bounds | {"c": config.clip_ratio_c}).items() if hasattr(gate, name)}
    return replace(gate, **given) if given else gate  # type: ignore[type-var]


for _name in gates.names():
    register(_name, _name)
