"""What DeepSpeed holds, and where: ``torchrun --nproc-per-node N -m tests.stack.memory FOLDER``.

Writes ``FOLDER/NAME-RANK.json`` for each stage, with bytes of one rank by role as the optimizer steps ("learning"), at
the end of a backward pass ("passing", stages 1 and 2) and after the step ("sampling"), and how far the fp32 master
weights are from the file's ("off"). On a CPU device and host are the same
memory: where a tensor would be is what DeepSpeed asked for when it made it, the accelerator's name or plain "cpu".
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from gatepo.engine.deepspeed import DeepSpeed, DeepSpeedEngine, _import_deepspeed
from gatepo.engine.optimizer import AdamW
from gatepo.model import load_model
from gatepo.objective.aggregation import Totals
from gatepo.plan.shape import KNOWN
from gatepo.world import World, join
from tests.stack.engines import COMPLETIONS, OBJECTIVE, batch, parts, share

CASES = {
    "bf16-zero2": (2, False, torch.bfloat16),
    "bf16-zero3": (3, False, torch.bfloat16),
    "bf16-offload2": (2, True, torch.bfloat16),
    "bf16-offload3": (3, True, torch.bfloat16),
    "fp32-zero2": (2, False, torch.float32),
    "fp32-offload2": (2, True, torch.float32),
    "fp32-offload3": (3, True, torch.float32),
}


class Accelerator(str):
    """The accelerator's name, which can be recognised among other strings of the same letters."""


def tag_what_is_made() -> dict[int, str]:
    """From now on, keep for each storage that torch makes on request where it was asked for."""
    from deepspeed.accelerator import get_accelerator

    get_accelerator().current_device_name = lambda: Accelerator("cpu")
    places: dict[int, str] = {}

    def tagged(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(*sizes: Any, **options: Any) -> torch.Tensor:
            tensor = make(*sizes, **options)
            asked = options.get("device")
            if asked is not None:
                places[tensor.untyped_storage().data_ptr()] = "device" if isinstance(asked, Accelerator) else "host"
            return tensor

        return made

    for name in ("zeros", "empty", "full"):
        setattr(torch, name, tagged(getattr(torch, name)))
    return places


def roles(engine: DeepSpeedEngine) -> dict[str, list[torch.Tensor]]:
    """The tensors that the optimizer holds, by what they are for."""
    zero: Any = engine._optimizer
    stage3 = hasattr(zero, "fp32_partitioned_groups_flat")
    masters = zero.fp32_partitioned_groups_flat if stage3 else zero.single_partition_of_fp32_groups
    buckets = [b.buffer for b in zero.ipg_buckets.values()]
    parameters = list(engine._model.parameters())
    attributes = [getattr(p, name, None) for p in parameters for name in ("grad", "grad_accum")]
    groups = list(chain(*(group for group in zero.averaged_gradients.values() if group is not None)))
    return {
        "weights": [p.ds_tensor for p in parameters] if stage3 else zero.bit16_groups_flat,
        "masters": masters,
        "moments": [t for s in zero.optimizer.state.values() for t in s.values() if torch.is_tensor(t) and t.dim()],
        "gradients": [
            *(t for t in attributes if t is not None),
            *([] if stage3 else groups),
            *([zero.grad_partitions_flat_buffer] if stage3 else []),
            *getattr(zero, "accumulated_grads_in_cpu", {}).values(),
        ],
        "gradients to step on": [m.grad for m in masters if m.grad is not None],
        "buckets": list(chain(*([b] if torch.is_tensor(b) else b for b in buckets if b is not None))),
        "low-precision copy": getattr(zero, "param_buffer_of_bit16_for_cpu_offload_groups", []),
    }


def sizes(found: dict[str, list[torch.Tensor]], places: dict[int, str]) -> dict[str, int]:
    """Bytes by role and place, each storage once."""
    seen: set[int] = set()
    result: dict[str, int] = {}
    for role, tensors in found.items():
        for storage in (tensor.untyped_storage() for tensor in tensors):
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                key = f"{role}, {places.get(storage.data_ptr(), 'unknown')}"
                result[key] = result.get(key, 0) + storage.nbytes()
    return result


def distance(engine: DeepSpeedEngine, exact: Iterable[tuple[str, torch.Tensor]]) -> float:
    """The largest difference of a master weight from the file's."""
    from deepspeed.utils import safe_get_full_fp32_param

    masters = {name: safe_get_full_fp32_param(p) for name, p in engine._model.named_parameters()}
    return max((masters[name] - weight).abs().max().item() for name, weight in exact)


def measure(name: str, path: str, world: World, places: dict[int, str]) -> dict[str, Any]:
    """One update of one engine."""
    stage, offload, dtype = CASES[name]
    option = DeepSpeed(zero_stage=stage, offload_optimizer=offload, persistence_threshold=0)
    file = load_model(path, torch.device("cpu"), None)
    given = replace(
        parts(option.load(path, torch.device("cpu"), None), COMPLETIONS // world.size // 4, world),
        dtype=dtype,
        optimizer=AdamW(lr=1e-6, max_grad_norm=1.0),
    )
    engine: Any = option.make(given)
    found: dict[str, Any] = {
        "parameters": sum(p.numel() for p in file.parameters()),
        "off": distance(engine, file.named_parameters()),
    }
    step = engine._optimizer.step

    def watched(*arguments: Any, **options: Any) -> Any:
        found["learning"] = sizes(roles(engine), places)
        return step(*arguments, **options)

    engine._optimizer.step = watched
    if stage < 3:
        clear = engine._optimizer._clear_param_grad_only

        def at_the_end_of_a_pass() -> None:
            found["passing"] = sizes(roles(engine), places)
            clear()

        engine._optimizer._clear_param_grad_only = at_the_end_of_a_pass
    whole = batch()
    totals = Totals(completions=len(whole), tokens=int(whole.completion_NT.sum()))
    engine.update(share(whole, world), None, totals, OBJECTIVE)
    found["sampling"] = sizes(roles(engine), places)
    return found


def estimates() -> dict[str, int]:
    """DeepSpeed's own, of the model states of Qwen2.5-7B on each of 8 devices, bytes."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    shape, found = KNOWN["Qwen/Qwen2.5-7B"], {}
    for offload in (False, True):
        options: dict[str, Any] = {"num_gpus_per_node": 8, "cpu_offload": offload}
        found[f"2-{offload}"] = estimate_zero2_model_states_mem_needs(shape.parameters, **options)[1]
        options["cpu_offload_params"] = False
        found[f"3-{offload}"] = estimate_zero3_model_states_mem_needs(shape.parameters, shape.head, **options)[1]
    return found


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(CASES)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    world = join()
    path = str(folder / "fp32")
    if world.first:
        torch.manual_seed(0)
        model = load_model("tiny", torch.device("cpu"), None)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-3 * torch.randn_like(parameter))  # beyond what bf16 holds
        model.save_pretrained(path)
    world.barrier()
    _import_deepspeed()
    (folder / "estimates.json").write_text(json.dumps(estimates()))
    places = tag_what_is_made()
    for name in names:
        (folder / f"{name}-{world.rank}.json").write_text(json.dumps(measure(name, path, world, places), indent=1))
    world.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
