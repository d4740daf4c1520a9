"""Training with DeepSpeed, ZeRO stages 0 to 3. The only file that imports deepspeed.

Axes: N completions, T tokens.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from gatepo.engine import adapted, passes
from gatepo.engine.base import EngineOption, EngineParts, KeptBytes, PolicyEngine
from gatepo.engine.builds import free_abandoned
from gatepo.engine.optimizer import follow
from gatepo.engine.torch import stop_unless_finite
from gatepo.engine.weights import as_data, put, whole
from gatepo.errors import TrainingStopped, UserError
from gatepo.model import body_and_head, load_model, place
from gatepo.objective.aggregation import Totals
from gatepo.objective.surrogate import Objective
from gatepo.settings import Rule, at_least, one_of, option, require, setting
from gatepo.types import StepMetrics, TokenBatch
from gatepo.world import open_group

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


@option("engine", "deepspeed")
class DeepSpeed(EngineOption):
    """DeepSpeed, on one or several devices; in bf16 with fp32 master weights."""

    EXITS_HARD: ClassVar[bool] = True  # it tears process groups down at exit, in an order that nobody controls
    KNOWS_ADAPTERS: ClassVar[bool] = True

    zero_stage: int = setting(
        "Devices share out nothing (0), optimizer states (1), also gradients (2), also weights (3).",
        default=2,  # weights stay whole, so that a sync needs no gathering
        rule=one_of(0, 1, 2, 3),
    )
    offload_optimizer: bool = setting("Optimizer states are kept in host memory; needs zero_stage >= 1.", default=False)
    persistence_threshold: int = setting(
        "At zero_stage 3, smaller weights stay whole: less to gather.", default=100_000, rule=at_least(0)
    )

    def refuse_conflicts(self) -> None:
        """See :func:`gatepo.settings.section`."""
        sharded = Rule("needs engine.zero_stage >= 1", lambda value: not value or self.zero_stage >= 1)
        require("engine.offload_optimizer", sharded, self.offload_optimizer, "type engine.zero_stage=1")

    @property
    def label(self) -> str:
        """See :class:`~gatepo.engine.base.EngineOption`."""
        return f"deepspeed ZeRO-{self.zero_stage}"

    def load(self, path: str, device: torch.device, attention: str | None) -> PreTrainedModel:
        """See :class:`~gatepo.engine.base.EngineOption`: on the host, so that stage 3 takes only shards."""
        return load_model(path, torch.device("cpu"), attention, "stored")

    def make(self, parts: EngineParts) -> PolicyEngine:
        """See :class:`~gatepo.engine.base.EngineOption`.

        Raises:
          UserError: deepspeed is not installed.
        """
        return DeepSpeedEngine(parts, self)

    def read_weights(self, model: PreTrainedModel, path: Path) -> None:
        """See :class:`~gatepo.engine.base.EngineOption`; the weights may be from any stage and number of ranks."""
        _import_deepspeed()
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        with whole(path), as_data(path, *_in_checkpoints()):
            if list((path / "state").glob("*_optim_states.pt")):
                state = get_fp32_state_dict_from_zero_checkpoint(str(path), tag="state")
            else:  # stage 0: nothing is sharded
                file = path / "state" / "mp_rank_00_model_states.pt"
                held = torch.load(file, map_location="cpu", weights_only=True)  # it may be of a GPU
                if held["param_shapes"] is not None:
                    raise UserError(f"{path} must hold a part of each rank, got none; choose another checkpoint")
                state = held["module"]
            weights = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        if adapted.layers(model):  # the alias of a tied head is written too
            weights = {name: weight for name, weight in weights.items() if name in adapted.learned(model)}
        put(model, weights, path)

    def shares_weights(self, dtype: torch.dtype) -> bool:
        """See :class:`~gatepo.engine.base.EngineOption`."""
        return self.zero_stage < 3 and dtype == torch.float32

    def kept_bytes(self, dtype: torch.dtype) -> KeptBytes:
        """See :class:`~gatepo.engine.base.EngineOption`.

        In bf16 an fp32 master copy lies beside the weights; in fp32 too, at stages 1 and 2 or with an offloaded
        optimizer. The step frees gradients at stage 2, and at stage 1 in fp32. Offloading moves them at stage 3, and at
        stage 2 where they add up in the weights' own precision; in bf16 they add up in fp32 on the device, beside which
        DeepSpeed's estimator counts none. The host then holds a second copy that the step reads, and at stages 1 and 2
        one of the weights that it wrote.
        Source: 0.19.8, deepspeed/runtime/zero/stage_1_and_2.py (_build_compact_grad_partition_buffer,
        async_accumulate_grad_in_cpu_via_gpu, initialize_optimizer_states) and stage3.py (grad_partitions_flat_buffer);
        counted in a real run by tests/stack/memory.py.
        """
        halves, stage, offload = dtype == torch.bfloat16, self.zero_stage, self.offload_optimizer
        weights = 2 if halves else 4
        on_host = offload and (stage == 3 or not halves)
        return KeptBytes(
            weights=weights,
            master=4 if halves or stage in (1, 2) or offload else 0,
            accumulated=4 if halves and stage else None,
            zero_stage=stage,
            offload_optimizer=offload,
            flattened=stage in (1, 2),
            gradients_kept=stage in (0, 3) or (stage == 1 and halves and not offload),
            gradients_on_host=on_host,
            host_copies=(4 + 4 * on_host + (0 if stage == 3 else weights)) * offload,
        )


class DeepSpeedEngine:
    """Any optimizer under ZeRO; log-probabilities stay in fp32 whatever the weights compute in."""

    def __init__(self, parts: EngineParts, settings: DeepSpeed) -> None:
        deepspeed = _import_deepspeed()
        self._deepspeed = deepspeed
        self._model = parts.model
        self._micro, self._micro_tokens = parts.micro, parts.micro_tokens
        self._world = parts.world
        self._sharded = settings.zero_stage == 3
        self._updates_done = 0
        from gatepo.engine.policy import Policy  # a torch module; a look at the options needs none

        # float32: no autocast, the weights are in the body's precision
        policy = Policy(parts.model, parts.temperature, torch.float32, parts.head_mib)
        self._shares_prompts = policy.shares_prompts
        open_group()
        if parts.world.local_rank == 0:
            free_abandoned()
        parts.world.barrier()
        deepspeed.init_distributed(dist_init_required=False, auto_mpi_discovery=False)
        stored = {name: parameter.data for name, parameter in parts.model.named_parameters()}
        config = _config(settings, parts)
        self._place(parts.dtype, config)
        self._engine, self._optimizer, _, self._schedule = deepspeed.initialize(
            model=policy,
            model_parameters=[p for p in policy.parameters() if p.requires_grad],
            optimizer=lambda parameters: parts.optimizer.make(parameters, fused=False),
            lr_scheduler=lambda optimizer: parts.optimizer.make_schedule(optimizer, parts.updates),
            config=config,
        )
        self._grad_norm: float | None = None
        if _clips_itself(settings, parts.dtype):
            # Here alone DeepSpeed keeps the norm to itself, and steps whatever it is.
            self._optimizer.register_step_pre_hook(lambda *_: self._clip(parts.optimizer.max_grad_norm))
        if self._sharded:
            # The head's weight is used outside the head's own forward pass, which is what would gather it.
            _, head = body_and_head(parts.model)
            for parameter in head.parameters():
                deepspeed.zero.register_external_parameter(policy, parameter)
        if parts.dtype == torch.bfloat16:
            self._make_masters_exact(stored)

    def logprobs(self, batch: TokenBatch, temperature: float | None = None) -> Tensor:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        parts = self._micro_batches(batch, batch.advantage_N != 0)
        return passes.logprobs(self._engine, batch, parts, temperature, self._world.stop_if_asked)

    def update(self, batch: TokenBatch, anchor_NT: Tensor | None, totals: Totals, objective: Objective) -> StepMetrics:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        parts = self._micro_batches(batch, objective.learns_from(batch.advantage_N))
        stop = self._world.stop_if_asked  # here each micro-batch is a collective
        with adapted.dropout(self._model, self._updates_done, self._world.rank):
            passed = passes.accumulate(self._engine, batch, parts, anchor_NT, totals, objective, self._backward, stop)
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

    def _micro_batches(self, batch: TokenBatch, learns_N: Tensor) -> list[passes.MicroBatch]:
        parts = passes.micro_batches(batch, learns_N, self._micro, self._shares_prompts, self._micro_tokens)
        return passes.in_step(parts, batch, self._world)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`~gatepo.engine.base.PolicyEngine`: a sharded parameter is gathered, given, and freed again."""
        for name, weight in adapted.whole_weights(self._model, self._gathered):
            yield name, weight.detach()

    def adapter_weights(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        yield from adapted.adapter_weights(self._model, self._gathered)

    def export(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`. Every rank gathers, the first writes."""
        if self._world.first:
            self._model.save_pretrained(path, state_dict=adapted.whole_state(self._model, self.weights()))
        else:
            for _ in self.weights():
                pass
        self._world.barrier()

    def save(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`. ``path`` becomes a folder with a part from each rank."""
        client = {"updates": self._updates_done}
        self._engine.save_checkpoint(str(path), tag="state", client_state=client, exclude_frozen_parameters=True)

    def load(self, path: Path) -> None:
        """See :class:`~gatepo.engine.base.PolicyEngine`."""
        with as_data(path, *_in_checkpoints()):
            whole = not adapted.layers(self._model)
            found, client = self._engine.load_checkpoint(str(path), tag="state", load_module_strict=whole)
        if found is None:
            raise UserError(f"{path} holds no checkpoint that DeepSpeed can read with these settings")
        self._updates_done = client["updates"]
        follow(self._schedule)

    def _gathered(self, parts: list[torch.nn.Parameter]) -> AbstractContextManager[object]:
        gathered: AbstractContextManager[object] = self._deepspeed.zero.GatheredParameters(parts, enabled=self._sharded)
        return gathered

    def _place(self, dtype: torch.dtype, config: dict[str, Any]) -> None:
        """Bring the weights to the device and to ``dtype``; at stage 3 each is sharded before the next one comes."""
        device = torch.device(self._deepspeed.accelerator.get_accelerator().current_device_name())
        if not self._sharded:
            place(self._model, device, dtype)
            return
        first, *others = self._model.parameters()
        holder = torch.nn.ParameterList([_moved(first, device, dtype)])
        self._deepspeed.zero.Init(module=holder, config_dict_or_path=config, dtype=dtype)
        for parameter in others:
            first.convert_to_zero_parameters(param_list=[_moved(parameter, device, dtype)])
        self._model.config.dtype = dtype
        self._model.to(device)  # the buffers

    def _make_masters_exact(self, stored: dict[str, Tensor]) -> None:
        """Give the fp32 master weights, which DeepSpeed makes of bf16 ones, the bits that files in fp32 have beyond."""
        for name, parameter in self._model.named_parameters():
            weight = stored.pop(name)
            if weight.dtype == torch.bfloat16 or not parameter.requires_grad:
                continue
            if self._sharded:
                shard, _ = self._optimizer._get_fp32_opt_state_partition(parameter, release_swap_buffers=False)
                own = weight.flatten()[shard.numel() * self._world.rank :][: shard.numel()]
                shard.data[: len(own)].copy_(own)
            else:
                self._deepspeed.utils.safe_set_full_fp32_param(parameter, weight)

    def _backward(self, share: Tensor) -> None:
        # DeepSpeed averages over ranks; the shares are parts of one sum.
        self._engine.backward(share * self._world.size, scale_wrt_gas=False)

    def _clip(self, max_grad_norm: float) -> None:
        self._grad_norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), max_grad_norm).item()
        stop_unless_finite(self._updates_done + 1, 0.0, self._grad_norm)

    def _stop_if_skipped(self, grad_norm: float) -> None:
        """Stop where DeepSpeed leaves a step out, as it does where a gradient overflows, while its schedule goes on."""
        stop_unless_finite(self._updates_done + 1, 0.0, grad_norm)
        if not self._engine.was_step_applied():
            raise TrainingStopped(
                f"update {self._updates_done + 1}: DeepSpeed skipped the step ({self._engine.skipped_steps} in all) "
                f"because a gradient overflowed, gradient norm {grad_norm}. Lower optimizer.lr or raise tau"
            )


def _moved(parameter: torch.nn.Parameter, device: torch.device, dtype: torch.dtype) -> torch.nn.Parameter:
    parameter.data = parameter.data.to(device).to(dtype)
    return parameter


def _clips_itself(settings: DeepSpeed, dtype: torch.dtype) -> bool:
    """Say whether the gradient is clipped here, and not by DeepSpeed."""
    return settings.zero_stage == 0 and dtype == torch.float32


def _config(settings: DeepSpeed, parts: EngineParts) -> dict[str, Any]:
    """Make DeepSpeed's own configuration of what this engine leaves to it."""
    largest = parts.optimizer.max_grad_norm
    ours = _clips_itself(settings, parts.dtype)
    # Its default, which it would allocate for the smallest model too.
    bucket = min(sum(p.numel() for p in parts.model.parameters() if p.requires_grad), 500_000_000)
    offload = {"offload_optimizer": {"device": "cpu"}} if settings.offload_optimizer else {}
    return {
        "train_micro_batch_size_per_gpu": parts.micro,
        "managed_gradient_accumulation": False,  # how many micro-batches an update has is decided per update
        "gradient_clipping": 0.0 if ours or largest == float("inf") else largest,
        "bf16": {"enabled": parts.dtype == torch.bfloat16},
        # In bf16 the sums over micro-batches and ranks would lose their last bits; for the former DeepSpeed knows no
        # other way without ZeRO.
        "data_types": {"grad_accum_dtype": "fp32" if settings.zero_stage else None},
        "communication_data_type": "fp32",
        "zero_optimization": {
            "stage": settings.zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "stage3_param_persistence_threshold": settings.persistence_threshold,
            **offload,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its own CPU optimizer would have to be compiled here
        "steps_per_print": None,
    }


def _in_checkpoints() -> tuple[type, ...]:
    """List the classes that DeepSpeed's checkpoints hold beside tensors and plain values; none does more than hold."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return LossScaler, ZeroStageEnum, fragment_address


def _import_deepspeed() -> Any:
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if torch.cuda.is_available() and not all(name.strip().isdecimal() for name in named.split(",") if name):
        raise UserError(  # DeepSpeed reads them as numbers (accelerator/cuda_accelerator.py)
            f"CUDA_VISIBLE_DEVICES must be numbers with engine=deepspeed, got {named}; take them from nvidia-smi -L"
        )
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
            "engine=deepspeed needs deepspeed, which is not installed: pip install '.[deepspeed]' in a clone of gatepo"
        ) from error
    return deepspeed
