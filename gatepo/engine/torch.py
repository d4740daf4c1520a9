"""Training on one device with plain PyTorch.

Axes: N completions, T tokens, M completion tokens of a micro-batch, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.optimization import get_scheduler

from gatepo.errors import TrainingStopped
from gatepo.logprobs import token_logprobs
from gatepo.model import autocast, body_and_head
from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective, TokenRecord, policy_loss
from gatepo.objective.telemetry import join
from gatepo.types import Batch, StepMetrics

# transformers' own "constant" knows no warm-up
SCHEDULES = {"linear": "linear", "constant": "constant_with_warmup", "cosine": "cosine"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """AdamW and its schedule over the run (the paper's Table 2 names all but the last two)."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    schedule: str  # one of SCHEDULES
    warmup: int  # updates
    updates: int  # length of the schedule
    weight_decay: float
    max_grad_norm: float


class TorchEngine:
    """AdamW on fp32 weights; the body may compute in bf16, head and log-probabilities stay in fp32.

    Args:
      model: the policy.
      settings: optimizer and schedule.
      micro: completions that run at once.
      temperature: of the sampler; the policy is the distribution that was sampled from.
      dtype: what the body computes in.
    """

    def __init__(
        self, model: PreTrainedModel, settings: OptimizerSettings, micro: int, temperature: float, dtype: torch.dtype
    ) -> None:
        self._model = model
        self._body, self._head = body_and_head(model)
        self._micro = micro
        self._temperature = temperature
        self._dtype = dtype
        self._max_grad_norm = settings.max_grad_norm
        self._updates_done = 0
        self._optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._schedule = get_scheduler(
            SCHEDULES[settings.schedule],
            self._optimizer,
            num_warmup_steps=settings.warmup,
            num_training_steps=settings.updates,
        )

    def logprobs(self, batch: Batch) -> Tensor:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        logp_NT = self._empty(batch)
        with torch.no_grad():
            for rows_N, _ in self._micro_batches(batch, batch.advantage_N != 0):
                part_NT, _ = self._forward(batch.rows(rows_N))
                logp_NT[rows_N, : part_NT.shape[1]] = part_NT
        return logp_NT

    def update(self, batch: Batch, anchor_NT: Tensor | None, totals: Totals, objective: Objective) -> StepMetrics:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        self._optimizer.zero_grad(set_to_none=True)
        loss, order, records = 0.0, [], []
        logp_NT = self._empty(batch)
        for rows_N, learns in self._micro_batches(batch, objective.learns_from(batch.advantage_N)):
            with torch.set_grad_enabled(learns):
                share, record, part_NT = self._share(batch.rows(rows_N), anchor_NT, rows_N, totals, objective)
            if learns:
                share.backward()
            loss += share.item()
            order.append(rows_N)
            records.append(record)
            logp_NT[rows_N, : part_NT.shape[1]] = part_NT.detach()
        for parameter in self._model.parameters():
            if parameter.grad is None:  # no completion learns: zero is what the skipped backward would have given
                parameter.grad = torch.zeros_like(parameter)
        grad_norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._max_grad_norm).item()
        self._stop_unless_finite(loss, grad_norm)
        learning_rate = self._schedule.get_last_lr()[0]
        self._optimizer.step()
        self._schedule.step()
        self._updates_done += 1
        return StepMetrics(
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=learning_rate,
            record=join(records, torch.cat(order)),
            logp_NT=logp_NT,
        )

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        yield from self._model.named_parameters()

    def export(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        self._model.save_pretrained(path)

    def save(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        parts = {"model": self._model, "optimizer": self._optimizer, "schedule": self._schedule}
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"updates": self._updates_done}, path)

    def load(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        state = torch.load(path, map_location=self._model.device, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._updates_done = state["updates"]

    def _micro_batches(self, batch: Batch, learns_N: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """(row numbers, whether they learn): completions of like length together, so that little is padding.

        Completions that add nothing to the gradient stand apart: they need no backward pass.
        """
        length_N = batch.attention_NT.sum(dim=1)
        for learns in (True, False):
            rows_N = (learns_N == learns).nonzero().squeeze(1)
            rows_N = rows_N[length_N[rows_N].argsort(descending=True, stable=True)]
            yield from ((part_N, learns) for part_N in rows_N.split(self._micro) if len(part_N))

    def _empty(self, batch: Batch) -> Tensor:
        """[N, T - 1] zeros for log-probabilities, in the precision of the head."""
        return torch.zeros(batch.completion_NT[:, 1:].shape, dtype=self._head.weight.dtype, device=batch.ids_NT.device)

    def _share(
        self, part: Batch, anchor_NT: Tensor | None, rows_N: Tensor, totals: Totals, objective: Objective
    ) -> tuple[Tensor, TokenRecord, Tensor]:
        """Forward pass of one micro-batch: its share of the loss, its record, its log-probabilities."""
        logp_NT, entropy_NT = self._forward(part)
        loss, record = policy_loss(
            objective,
            logp_NT=logp_NT,
            anchor_NT=logp_NT.detach() if anchor_NT is None else anchor_NT[rows_N, : logp_NT.shape[1]],
            entropy_NT=entropy_NT,
            advantage_N=part.advantage_N,
            mask_NT=part.completion_NT[:, 1:],
            totals=totals,
        )
        return loss, record, logp_NT

    def _forward(self, part: Batch) -> tuple[Tensor, Tensor]:
        """Log-probability (with gradient) and entropy of the completion tokens, [N, T - 1] each.

        No attention mask: padding is on the right, where causal attention never looks.
        """
        mask_NT = part.completion_NT[:, 1:]
        with autocast(part.ids_NT.device, self._dtype):
            hidden_NTH = self._body(input_ids=part.ids_NT[:, :-1], use_cache=False).last_hidden_state
        position_M = mask_NT.flatten().nonzero().squeeze(1)
        logp_M, entropy_M = token_logprobs(
            hidden_NTH.flatten(0, 1).index_select(0, position_M),
            self._head.weight,
            part.ids_NT[:, 1:].flatten()[position_M],
            self._temperature,
            self._head.bias,
        )
        empty = logp_M.new_zeros(mask_NT.numel())
        logp_NT = empty.index_put((position_M,), logp_M).view(mask_NT.shape)
        return logp_NT, empty.index_put((position_M,), entropy_M).view(mask_NT.shape)

    def _stop_unless_finite(self, loss: float, grad_norm: float) -> None:
        if not torch.isfinite(torch.tensor([loss, grad_norm])).all():
            raise TrainingStopped(
                f"update {self._updates_done + 1}: loss {loss}, gradient norm {grad_norm}, must be finite; the weights "
                "were not changed. Lower optimizer.lr or optimizer.max_grad_norm, or raise tau"
            )
