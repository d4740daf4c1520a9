"""TRL's ``GRPOTrainer`` with a gate in place of its clip.

    trainer = GateTrainer(gate="erf", tau=(10, 12), model=..., reward_funcs=..., args=GRPOConfig(...), ...)

TRL's own loss multiplies ratio and advantage of each token. It runs as it is, with its clip opened and, as soon as the
policy's log-probabilities are known, the advantages replaced by A f(r) / r per token, through which the gradient flows:
their product with r is A f(r). All that TRL does around the gate stays: aggregation by ``loss_type``, iterations,
masks, the correction of vLLM's log-probabilities, KL, entropy bonus, accumulation. What could not act is refused.

Axes: N completions, T tokens, M tokens of a whole update in one row.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from gatepo.errors import UserError
from gatepo.integrations.gates_and_taus import as_gate, as_tau
from gatepo.objective.gates import Gate
from gatepo.objective.ratio import TokenRatio
from gatepo.objective.surrogate import gated
from gatepo.objective.tau import PAPERS, Tau
from gatepo.objective.telemetry import effective_update_ratio

log = logging.getLogger(__name__)

AGGREGATIONS = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")  # loss types that take ratio times advantage as it is
_TAU, _CLIP = "tau=(POS, NEG)", "gate=gatepo.objective.gates.get('clip', eps_low=..., eps_high=...)"
_VESPO = "loss_type='vespo' to TRL's own GRPOTrainer, since a gate has no such weights"
INSTEAD = {  # of what other losses of TRL's have: what to give for it
    **dict.fromkeys(("epsilon", "epsilon_high"), _CLIP),
    "delta": "gate=gatepo.objective.gates.get('dual_clip', c=..., eps_low=..., eps_high=...)",
    **dict.fromkeys(("sapo_temperature_pos", "sapo_temperature_neg"), _TAU),
    **dict.fromkeys(("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), _VESPO),
}


class GateTrainer(GRPOTrainer):
    """``GRPOTrainer`` that damps updates by a gate and logs EUR.

    Args:
      gate: a name of :func:`gatepo.objective.gates.names`, or any object with ``value`` and ``slope``.
      tau: the pair (tau.pos, tau.neg), or an object with ``pos`` and ``neg`` that is read at every step.

    All else is ``GRPOTrainer``'s. ``loss_type`` picks the aggregation ("grpo" is the paper's, eq. 2), and
    ``importance_sampling_level`` what the ratio is. The logged loss is -A (f(r) - f(1) + 1), aggregated.

    Logged beside TRL's figures: ``eur`` (eq. 12) over all tokens of an update, on every device; ``eur/positive`` and
    ``eur/negative``, over the tokens with A > 0 and A < 0; with several iterations ``eur/iteration_K``. Where an update
    takes only part of a group (``steps_per_generation`` > ``gradient_accumulation_steps``), EUR is over that part.
    TRL's ``clip_ratio/...`` is not logged, since its clip is open. 1 - EUR of ``gate="clip"`` is near it, not equal: it
    averages by prompt and counts tokens with A = 0, where TRL averages over tokens and leaves those out.

    Raises:
      UserError: an unknown gate, one that cannot be used, a bad tau, or a setting of TRL's that a gate leaves without
        effect.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        *others: Any,
        gate: str | Gate,
        tau: Tau | Sequence[float] = PAPERS,
        **rest: Any,
    ) -> None:
        self.tau = as_tau(tau)
        self.gate = as_gate(gate, (self.tau.pos, self.tau.neg))
        if args is not None:  # before the model is loaded
            check(args)
        super().__init__(model, reward_funcs, args, *others, **rest)
        self.epsilon_low = self.epsilon_high = math.inf  # TRL's clip, opened
        self._held: dict[str, Any] | None = None  # inputs of the loss that is being computed
        self._advantage_NT: Tensor | None = None
        self._groups = 0  # seen so far
        self._tokens: dict[str, list[Tensor]] = defaultdict(list)  # of the update under way, by mode

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Compute TRL's loss of gated advantages; the batch itself stays as it is, for the next iteration."""
        self._held = dict(inputs)
        # Taken out until they are gated: were TRL to read them earlier, it would fail, not train without a gate.
        self._advantage_NT = self._held.pop("advantages")
        try:
            loss: Tensor = super().compute_loss(model, self._held, return_outputs, num_items_in_batch)
        finally:
            self._held = None
        self._log_update()
        return loss

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **options: Any) -> Any:
        """Call TRL's; inside of a loss this is where the log-probabilities of the policy become known."""
        found = super()._get_per_token_logps_and_entropies(*arguments, **options)
        if self._held is not None:
            self._gate_advantages(self._held, found[0])
        return found

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """Call TRL's and keep which prompt each completion answers: groups lie together here, over all devices."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        rows, world = len(output["advantages"]), self.accelerator.num_processes
        size = self.num_generations if self.model.training else self.num_generations_eval
        place_N = torch.arange(rows, device=output["advantages"].device) + rows * self.accelerator.process_index
        output["group"] = self._groups + place_N // size
        self._groups += rows * world // size
        return output

    def _gate_advantages(self, held: dict[str, Any], logp_NT: Tensor) -> None:
        """Replace A by A f(r) / r, hand TRL the masked and clamped log-ratio, and keep the tokens' slopes."""
        old_NT = held.get("old_per_token_logps")
        old_NT = logp_NT.detach() if old_NT is None else old_NT
        mask_NT = (held["completion_mask"] * held.get("tool_mask", 1)).bool()
        log_ratio_NT = TokenRatio()(logp_NT, old_NT, mask_NT)
        held["old_per_token_logps"] = logp_NT - log_ratio_NT
        if self.importance_sampling_level == "sequence":
            log_ratio_NT = log_ratio_NT.sum(dim=1, keepdim=True) / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
        assert self._advantage_NT is not None
        advantage_NT = self._advantage_NT if self._advantage_NT.dim() == 2 else self._advantage_NT[:, None]
        found = gated(self.gate, self.tau, log_ratio_NT, advantage_NT)
        held["advantages"] = advantage_NT * found.value_NT * (-log_ratio_NT).exp()
        self._keep_tokens(found.slope_NT, advantage_NT, mask_NT, held["group"])

    def _keep_tokens(self, slope_NT: Tensor, advantage_NT: Tensor, mask_NT: Tensor, group_N: Tensor) -> None:
        """Keep this micro-batch's tokens [M, 5]: slope, sign of A, group, iteration, and a 1 that no padding has."""
        iteration = self._step // self.args.steps_per_generation % self.num_iterations + 1
        columns = (slope_NT, advantage_NT.sign(), group_N[:, None], torch.full_like(group_N, iteration)[:, None])
        kept = [column.expand_as(mask_NT)[mask_NT].double() for column in (*columns, torch.ones_like(mask_NT))]
        self._tokens[self._mode].append(torch.stack(kept, dim=1))

    def _log_update(self) -> None:
        """Put EUR into TRL's metrics once an update's last micro-batch is through, and take its idle clip out."""
        metrics = self._metrics[self._mode]
        for key in [key for key in metrics if key.startswith("clip_ratio/")]:
            del metrics[key]
        if self.model.training and not self.accelerator.sync_gradients:
            return
        local = torch.cat(self._tokens.pop(self._mode))
        slope_M, sign_M, group_M, iteration_M, token_M = self.accelerator.gather(
            self.accelerator.pad_across_processes(local, dim=0)
        ).unbind(dim=1)
        parts = {"eur": token_M > 0, "eur/positive": sign_M > 0, "eur/negative": sign_M < 0}
        if self.num_iterations > 1 and self.model.training:
            parts |= {f"eur/iteration_{k:.0f}": iteration_M == k for k in iteration_M[token_M > 0].unique()}
        for name, part_M in parts.items():
            if part_M.any():
                eur = effective_update_ratio(slope_M[:, None], part_M[:, None], group_M)
                metrics[name].append(eur.item())

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"


def check(args: GRPOConfig) -> None:
    """Refuse what a gate would leave without effect, and say so where all gates are the same.

    Raises:
      UserError: a setting of TRL's other losses.
    """
    if args.loss_type not in AGGREGATIONS:
        raise UserError(
            f"loss_type must be one of {', '.join(AGGREGATIONS)}, got {args.loss_type!r}; "
            "here it picks the aggregation only, and gate=... what damps the update"
        )
    usual = {field.name: field.default for field in fields(GRPOConfig)}
    for name in INSTEAD:
        if getattr(args, name) != usual[name]:
            raise UserError(
                f"{name} must be left out beside a gate, where it does nothing, got {getattr(args, name)}; "
                f"give {INSTEAD[name]}"
            )
    if args.num_iterations == 1 and args.steps_per_generation <= args.gradient_accumulation_steps:
        log.warning("num_iterations=1 with one update per generation: every ratio is 1, so all gates act the same")
