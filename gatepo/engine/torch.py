"""Training with plain PyTorch, on one device or on several that each hold the whole model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from gatepo.engine import adapted, passes
from gatepo.engine.base import EngineOption, EngineParts, KeptBytes, PolicyEngine
from gatepo.engine.optimizer import follow
from gatepo.engine.weights import as_data, put, whole
from gatepo.errors import TrainingStopped
from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective
from gatepo.settings import option
from gatepo.types import StepMetrics, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@option("engine", "torch")
class Torch(EngineOption):
    """Plain PyTorch, on one device or on several that each hold the whole model."""

    KNOWS_ADAPTERS: ClassVar[bool] = True

    def make(self, parts: EngineParts) -> PolicyEngine:
        """See :class:`~gatepo.engine.base.EngineOption`."""
        return TorchEngine(parts)

    def read_weights(self, model: PreTrainedModel, path: Path) -> None:
        """See :class:`~gatepo.engine.base.EngineOption`."""
        with whole(path), as_data(path):
            state = dict(torch.load(path, map_location=model.device, weights_only=True)["model"])
        put(model, state, path)

    def shares_weights(self, dtype: torch.dtype) -> bool:
        """See :class:`~gatepo.engine.base.EngineOption`; the weights are fp32 ones in any case."""
        return True

    def kept_bytes(self, dtype: torch.dtype) -> KeptBytes:
        """See :class:`~gatepo.engine.base.EngineOption`: fp32 weights, under autocast where the body is in bf16."""
        return KeptBytes(weights=4, autocast=dtype == torch.bfloat16)


class TorchEngine:
    """Any optimizer on fp32 weights; the body may compute in bf16, head and log-probabilities stay in fp32."""

    def __init__(self, parts: EngineParts) -> None:
        from gatepo.engine.policy import Policy  # a torch module; a look at the options needs none

        self._model = parts.model
        self._policy = Policy(parts.model, parts.temperature, parts.dtype, parts.head_mib)
        self._micro, self._micro_tokens = parts.micro, parts.micro_tokens
        self._world = parts.world
        self._max_grad_norm = parts.optimizer.max_grad_norm
        self._updates_done = 0
        adapted.keep_frozen_cast(parts.model, parts.dtype)
        self._learning = [p for p in parts.model.parameters() if p.requires_grad]
        self._optimizer = parts.optimizer.make(self._learning, fused=True)
        self._schedule = parts.optimizer.make_schedule(self._optimizer, parts.updates)

    def logprobs(self, batch: TokenBatch, temperature: float | None = None) -> Tensor:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        parts = self._micro_batches(batch, batch.advantage_N != 0)
        with self._world.together():
            logp_NT = passes.logprobs(self._policy, batch, parts, temperature)
        return logp_NT

    def update(self, batch: TokenBatch, anchor_NT: Tensor | None, totals: Totals, objective: Objective) -> StepMetrics:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        self._optimizer.zero_grad(set_to_none=True)
        parts = self._micro_batches(batch, objective.learns_from(batch.advantage_N))
        dropout = adapted.dropout(self._model, self._updates_done, self._world.rank)
        with self._world.together(), dropout:
            passed = passes.accumulate(self._policy, batch, parts, anchor_NT, totals, objective, torch.Tensor.backward)
        self._add_up_gradients()
        loss = self._world.sum(passed.loss)[0]
        grad_norm = torch.nn.utils.clip_grad_norm_(self._learning, self._max_grad_norm).item()
        stop_unless_finite(self._updates_done + 1, loss, grad_norm)
        learning_rate = float(self._schedule.get_last_lr()[0])
        self._optimizer.step()
        self._schedule.step()
        self._updates_done += 1
        return StepMetrics(
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=learning_rate,
            record=passed.record,
            logp_NT=passed.logp_NT,
        )

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        yield from adapted.whole_weights(self._model)

    def adapter_weights(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        yield from adapted.adapter_weights(self._model)

    def export(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        if self._world.first:
            with _silent("DeepSpeed"):  # accelerate imports it to look whether the model is one of its own
                whole = adapted.layers(self._model) and adapted.whole_state(self._model, self.weights())
                self._model.save_pretrained(path, state_dict=whole or None)
        self._world.barrier()

    def save(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        parts: dict[str, Any] = {"optimizer": self._optimizer, "schedule": self._schedule}
        state = {"model": adapted.learned(self._model)} | {name: part.state_dict() for name, part in parts.items()}
        state |= {"updates": self._updates_done}
        if self._world.first:
            torch.save(state, path)
        self._world.barrier()

    def load(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        with as_data(path):
            state = torch.load(path, map_location=self._model.device, weights_only=True)
        self._model.load_state_dict(state["model"], strict=not adapted.layers(self._model))
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        follow(self._schedule)
        self._updates_done = state["updates"]

    def _micro_batches(self, batch: TokenBatch, learns_N: Tensor) -> list[passes.MicroBatch]:
        shares = self._policy.shares_prompts
        return passes.micro_batches(batch, learns_N, self._micro, shares, self._micro_tokens)

    def _add_up_gradients(self) -> None:
        for parameter in self._learning:
            if parameter.grad is None:  # no completion learns: zero is what the skipped backward would have given
                parameter.grad = torch.zeros_like(parameter)
            if self._world.size > 1:
                torch.distributed.all_reduce(parameter.grad)


def stop_unless_finite(update: int, loss: float, grad_norm: float) -> None:
    """Raise TrainingStopped, with the update's number, where either is inf or nan."""
    if not torch.isfinite(torch.tensor([loss, grad_norm])).all():
        raise TrainingStopped(
            f"update {update}: loss {loss}, gradient norm {grad_norm}, must be finite; the weights were not changed. "
            "Lower optimizer.lr or optimizer.max_grad_norm, or raise tau"
        )


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Drop what a library logs."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
