"""Whether a run can fit the machine on which it is started: the plan's memory against what is there.

A run is refused only where prompts and completions of an eighth of their longest would not fit either: most never come
near the longest. What may not fit is said. Of GPUs, a process that only starts others counts them, and no more: asking
for their memory would take a part of it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gatepo import of_model
from gatepo.errors import UserError
from gatepo.plan import resolve
from gatepo.plan.cost import GIB, Part, host_memory, memory
from gatepo.plan.shape import ModelShape, UnknownFamily, model_shape
from gatepo.plan.work import Layout, Workload
from gatepo.rollout.base import RolloutOption
from gatepo.schema import TrainConfig

MARGIN = 1.05  # what the arithmetic may be off by (tests/test_plan_memory.py)
SHORT = 8  # a run's prompts and completions have at least this part of their longest
PHASES = ("starting", "sampling", "learning")
SMALLER = "choose a smaller model.path, a larger machine, or more of them with engine=deepspeed engine.zero_stage=3"
SHORTER = "lower batch.micro, rollout.max_sequences or sampling.max_completion_length"
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of cgroups v2 and v1


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this host has. Memory is in GiB."""

    memory: float  # with swap, as far as this process may have it
    gpus: int = 0
    gpu_memory: float | None = None  # of the smallest; None where it was not asked for


def this_machine(*, look_at_gpus: bool) -> Machine:
    """Look at the host of this process."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    sizes = [torch.cuda.get_device_properties(gpu).total_memory / GIB for gpu in range(count if look_at_gpus else 0)]
    return Machine(memory=_host(), gpus=count, gpu_memory=min(sizes, default=None))


def require_fit(config: TrainConfig, machine: Machine, ranks: int) -> list[str]:
    """Refuse what cannot run here, and return what should be said of the rest; arguments are those of :func:`look`.

    Raises:
      UserError: devices or memory are not there, and ``force`` does not ask to try all the same.
    """
    refused, said = look(config, machine, ranks)
    if refused and not config.force:
        raise UserError(f"{refused[0]}, or try all the same with force=true; python -m gatepo.plan adds it up")
    return refused + said


def look(config: TrainConfig, machine: Machine, ranks: int) -> tuple[list[str], list[str]]:
    """Give why a run cannot fit here, and what should be said of it beside.

    Args:
      config: of the run.
      machine: this host.
      ranks: processes of the run on it.
    """
    refused, said = [], []
    if machine.gpus and ranks > machine.gpus:
        refused.append(
            f"devices must be at most {machine.gpus}, the GPUs here, got {ranks}; type devices={machine.gpus}"
        )
    try:
        shape = model_shape(config.model.path)
    except UnknownFamily as error:
        return refused, [f"whether the run fits this machine is not known: {error}"]
    work = resolve.workload(config)
    layout = resolve.layout(config, shape, work)
    short = _shortened(work)
    smallest = replace(short, micro=1, max_sequences=work.num_generations)
    needs = [_needs(shape, w, layout, machine, ranks) for w in (work, short, smallest)]
    which = "one process" if ranks == 1 else f"{ranks} processes"
    of = f"{which}, {config.model.dtype}, engine {config.engine.label}"
    for (what, room, most), (*_, least), (*_, still) in zip(*needs, strict=True):
        must = f"model.path={config.model.path} must fit {what}, {room:.3g} GiB, got"
        if least > MARGIN * room:
            remedy = SMALLER if still > MARGIN * room else SHORTER
            refused.append(f"{must} {least:.3g} GiB or more ({of}, an eighth of all lengths); {remedy}")
        elif most > MARGIN * room:
            said.append(f"{must} up to {most:.3g} GiB ({of}) where prompts and completions are long; {SHORTER}")
    if not refused and machine.gpu_memory is not None:
        refused += filter(None, [_share(shape, work, layout, config.rollout, machine.gpu_memory)])
    return refused, [*said, *filter(None, [of_model.too_fast(config, shape.parameters)])]


def ranks_here(devices: int, environment: Mapping[str, str]) -> int:
    """Say how many processes of a run are on this host, as whoever started them says it; at least one."""
    if "LOCAL_WORLD_SIZE" in environment:
        return int(environment["LOCAL_WORLD_SIZE"])
    if "RANK" in environment or "SLURM_STEP_ID" in environment:
        of_step = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))  # 8(x2): the first host's
        return int(of_step[0]) if of_step else 1
    return devices


def _needs(
    shape: ModelShape, work: Workload, layout: Layout, machine: Machine, ranks: int
) -> list[tuple[str, float, float]]:
    """Give each kind of memory, how much of it there is, and how much of it is needed, GiB."""
    on_device, beside = memory(shape, work, layout), host_memory(shape, work, layout)
    if not machine.gpus:
        return [("the memory of this machine", machine.memory, ranks * _largest([*on_device, *beside]))]
    found = [("the memory of this machine", machine.memory, ranks * _largest(beside))]
    if machine.gpu_memory is not None:
        found.append(("the memory of a GPU here", machine.gpu_memory, _largest(on_device)))
    return found


def _share(shape: ModelShape, work: Workload, layout: Layout, rollout: RolloutOption, gpu: float) -> str | None:
    """Refuse a sampler that takes more of a GPU, in GiB, than the trainer leaves there once it has its moments."""
    parts = [part for part in memory(shape, work, layout) if not part.name.startswith("sampler")]
    rest = sum(part.sampling for part in parts) / GIB / MARGIN
    share = rollout.share_of_gpu
    if rest + share * gpu <= gpu:
        return None
    return (
        f"rollout.memory must be at most {math.floor(100 * (1 - rest / gpu)) / 100:g}, since the trainer has "
        f"{rest:.3g} of a GPU's {gpu:.3g} GiB while vLLM samples, got {share:g}; lower it"
    )


def _largest(parts: list[Part]) -> float:
    return max(sum(getattr(part, phase) for part in parts) for phase in PHASES) / GIB


def _shortened(work: Workload) -> Workload:
    return replace(
        work,
        prompt_length=max(1, work.prompt_length // SHORT),
        completion_length=max(1, work.completion_length // SHORT),
    )


def _host() -> float:
    """Give the memory of the host and its swap, or what a container may have of it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        whole += 1024 * int(next(line for line in lines if line.startswith("SwapTotal")).split()[1])
    for limit in LIMITS:
        with suppress(OSError, ValueError):  # absent, or "max"
            whole = min(whole, int(Path(limit).read_text(encoding="utf-8")))
    return whole / GIB
