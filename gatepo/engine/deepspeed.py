"""Training with DeepSpeed, ZeRO stages 0 to 3. The only file that imports deepspeed.

Axes: N completions, T tokens.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.optimization import get_scheduler

from gatepo.distributed import World, open_group
from gatepo.engine import passes
from gatepo.engine.policy import Policy
from gatepo.engine.torch import SCHEDULES, OptimizerSettings, stop_unless_finite
from gatepo.errors import TrainingStopped, UserError
from gatepo.model import body_and_head
from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective
from gatepo.types import Batch, StepMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroSettings:
    """What is sharded, and what waits in host memory."""

    stage: int  # 0 nothing, 1 optimizer states, 2 also gradients, 3 also weights
    offload_optimizer: bool
    persistence_threshold: int  # at stage 3, weights with fewer elements stay whole on every rank


class DeepSpeedEngine:
    """AdamW under ZeRO; in bf16 with fp32 master weights.

    Args:
      model: the policy.
      settings: optimizer and schedule.
      micro: completions that run at once.
      temperature: of the sampler; the policy is the distribution that was sampled from.
      dtype: of the weights that compute; log-probabilities stay in fp32.
      world: the run's processes.
      zero: what is sharded.
    Raises:
      UserError: deepspeed is not installed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: OptimizerSettings,
        micro: int,
        temperature: float,
        dtype: torch.dtype,
        world: World,
        zero: ZeroSettings,
    ) -> None:
        deepspeed = _import_deepspeed()
        self._deepspeed = deepspeed
        self._model = model
        self._micro = micro
        self._world = world
        self._sharded = zero.stage == 3
        self._updates_done = 0
        policy = Policy(model, temperature, torch.float32)  # DeepSpeed casts the weights itself
        open_group()
        deepspeed.init_distributed(dist_init_required=False, auto_mpi_discovery=False)
        self._engine, self._optimizer, _, self._schedule = deepspeed.initialize(
            model=policy,
            model_parameters=[p for p in policy.parameters() if p.requires_grad],
            lr_scheduler=lambda optimizer: get_scheduler(
                SCHEDULES[settings.schedule],
                optimizer,
                num_warmup_steps=settings.warmup,
                num_training_steps=settings.updates,
            ),
            config=_config(settings, micro, dtype, zero, sum(p.numel() for p in model.parameters())),
        )
        self._grad_norm: float | None = None
        if _clips_itself(zero, dtype):
            # Here alone DeepSpeed keeps the norm to itself, and steps whatever it is.
            self._optimizer.register_step_pre_hook(lambda *_: self._clip(settings.max_grad_norm))
        if self._sharded:
            # The head's weight is used outside the head's own forward pass, which is what would gather it.
            _, head = body_and_head(model)
            for parameter in head.parameters():
                deepspeed.zero.register_external_parameter(policy, parameter)

    def logprobs(self, batch: Batch, temperature: float | None = None) -> Tensor:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        parts = passes.micro_batches(batch, batch.advantage_N != 0, self._micro)
        return passes.logprobs(self._engine, batch, passes.in_step(parts, batch, self._world), temperature)

    def update(self, batch: Batch, anchor_NT: Tensor | None, totals: Totals, objective: Objective) -> StepMetrics:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        parts = passes.micro_batches(batch, objective.learns_from(batch.advantage_N), self._micro)
        parts = passes.in_step(parts, batch, self._world)
        passed = passes.accumulate(self._engine, batch, parts, anchor_NT, totals, objective, self._backward)
        loss = self._world.sum(passed.loss)[0]
        stop_unless_finite(self._updates_done + 1, loss, 0.0)
        learning_rate = self._schedule.get_last_lr()[0]
        self._engine.step()
        grad_norm = self._engine.get_global_grad_norm() if self._grad_norm is None else self._grad_norm
        self._stop_if_skipped(float(grad_norm))
        self._updates_done += 1
        return StepMetrics(
            loss=loss,
            grad_norm=float(grad_norm),
            learning_rate=learning_rate,
            record=passed.record,
            logp_NT=passed.logp_NT,
        )

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`~gatepo.engine.base.PolicyEngine`: a sharded parameter is gathered, given, and freed again."""
        for name, parameter in self._model.named_parameters():
            if self._sharded:
                with self._deepspeed.zero.GatheredParameters([parameter]):
                    yield name, parameter.detach()
            else:
                yield name, parameter.detach()

    def export(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`. Every rank gathers, the first writes."""
        state = {}
        for name, tensor in self.weights():
            if self._world.first:
                state[name] = tensor.to("cpu", copy=True)
        if self._world.first:
            for own, alias in (self._model.all_tied_weights_keys or {}).items():
                state.setdefault(own, state[alias])
            self._model.save_pretrained(path, state_dict=state)
        self._world.barrier()

    def save(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`. ``path`` becomes a folder with a part from each rank."""
        self._engine.save_checkpoint(str(path), tag="state", client_state={"updates": self._updates_done})

    def load(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        found, client = self._engine.load_checkpoint(str(path), tag="state")
        if found is None:
            raise UserError(f"{path} holds no checkpoint that DeepSpeed can read with these settings")
        self._updates_done = client["updates"]

    @staticmethod
    def read_weights(model: PreTrainedModel, path: Path) -> None:
        """Put the fp32 weights that :meth:`save` wrote, from any stage and number of ranks, into ``model``."""
        _import_deepspeed()
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        if list((path / "state").glob("*_optim_states.pt")):
            state = get_fp32_state_dict_from_zero_checkpoint(str(path), tag="state")
        else:  # stage 0: nothing is sharded
            state = torch.load(path / "state" / "mp_rank_00_model_states.pt", weights_only=False)["module"]
        model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()}, strict=False)
        model.tie_weights()

    def _backward(self, share: Tensor) -> None:
        # DeepSpeed averages over ranks; the shares are parts of one sum.
        self._engine.backward(share * self._world.size, scale_wrt_gas=False)

    def _clip(self, max_grad_norm: float) -> None:
        self._grad_norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), max_grad_norm).item()
        stop_unless_finite(self._updates_done + 1, 0.0, self._grad_norm)

    def _stop_if_skipped(self, grad_norm: float) -> None:
        """DeepSpeed leaves a step out where a gradient overflows, and its schedule goes on: no silent gap here."""
        stop_unless_finite(self._updates_done + 1, 0.0, grad_norm)
        if not self._engine.was_step_applied():
            raise TrainingStopped(
                f"update {self._updates_done + 1}: DeepSpeed skipped the step ({self._engine.skipped_steps} in all) "
                f"because a gradient overflowed, gradient norm {grad_norm}. Lower optimizer.lr or raise tau"
            )


def _clips_itself(zero: ZeroSettings, dtype: torch.dtype) -> bool:
    """Whether the gradient is clipped here, and not by DeepSpeed."""
    return zero.stage == 0 and dtype == torch.float32


def _config(
    settings: OptimizerSettings, micro: int, dtype: torch.dtype, zero: ZeroSettings, parameters: int
) -> dict[str, Any]:
    """DeepSpeed's own configuration of what this engine leaves to it."""
    ours = _clips_itself(zero, dtype)
    bucket = min(parameters, 500_000_000)  # its default, which it would allocate for the smallest model too
    offload = {"offload_optimizer": {"device": "cpu"}} if zero.offload_optimizer else {}
    return {
        "train_micro_batch_size_per_gpu": micro,
        "managed_gradient_accumulation": False,  # how many micro-batches an update has is decided per update
        "gradient_clipping": 0.0 if ours or settings.max_grad_norm == float("inf") else settings.max_grad_norm,
        "bf16": {"enabled": dtype == torch.bfloat16},
        # In bf16 the sum over micro-batches would lose its last bits; without ZeRO DeepSpeed knows no other way.
        "data_types": {"grad_accum_dtype": "fp32" if zero.stage else None},
        "zero_optimization": {
            "stage": zero.stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_param_persistence_threshold": zero.persistence_threshold,
            **offload,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its own CPU optimizer would have to be compiled here
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": settings.lr,
                "betas": [settings.beta1, settings.beta2],
                "eps": settings.eps,
                "weight_decay": settings.weight_decay,
                "torch_adam": True,
            },
        },
        "steps_per_print": None,
    }


def _import_deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # which it wants even of a process on its own
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    try:
        import deepspeed
    except ModuleNotFoundError as error:
        if error.name != "deepspeed":
            raise
        raise UserError(
            "engine=deepspeed needs deepspeed, which is not installed: pip install 'gatepo[deepspeed]'"
        ) from error
    return deepspeed
