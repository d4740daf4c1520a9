"""How far a running training is from its hardware's peak."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from gatepo.plan.cost import least_seconds
from gatepo.plan.hardware import HARDWARE, Hardware
from gatepo.plan.shape import ModelShape
from gatepo.plan.work import Layout, Workload
from gatepo.state import RunState

# What CUDA's device names contain.
BY_DEVICE_NAME = {"RTX 4090": "RTX-4090", "A100": "A100-80G", "H100": "H100-SXM", "H200": "H200"}


def this_hardware() -> Hardware | None:
    """Give the peaks of the device that this process trains on; None for a GPU that the table does not know."""
    known = {hardware.name: hardware for hardware in HARDWARE}
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        return next((known[entry] for part, entry in BY_DEVICE_NAME.items() if part in name), None)
    cpu = known["CPU-2-cores"]
    cores = len(os.sched_getaffinity(0)) / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return replace(cpu, float32=cpu.float32 * cores / 2, bfloat16=cpu.bfloat16 * cores / 2)


class LeastTime:
    """A hook that adds ``time/least`` (seconds that the update takes at the least) and ``time/measured_over_least``.

    With the update's own mean lengths and share of completions that learn; attention grows faster than lengths do, so
    their mean can only make the least less.
    """

    def __init__(self, shape: ModelShape, hardware: Hardware, work: Workload, layout: Layout) -> None:
        self._shape = shape
        self._hardware = hardware
        self._work = work
        self._layout = layout

    def __call__(self, state: RunState, metrics: dict[str, float]) -> None:
        """Extend the metrics of one update."""
        assert state.rollout_batch is not None
        work = replace(
            self._work,
            prompt_length=max(1, int(metrics["prompts/mean_length"])),
            completion_length=max(1, int(metrics["completions/mean_length"])),
            learning=1 - metrics["frac_reward_zero_std"],
        )
        least = least_seconds(
            self._shape, self._hardware, work, self._layout, samples=state.rollout_batch.iteration == 1
        )
        metrics["time/least"] = least
        metrics["time/measured_over_least"] = metrics["step_time"] / least
