"""SLURM's description of a process in the words of torchrun."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping


def _hosts(nodes: str) -> list[str]:
    """Write out ``node[1-3]`` by SLURM's own tool."""
    shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return shown.stdout.split()


def tasks(environment: Mapping[str, str]) -> int:
    """Say how many processes ``srun`` started, this one among them; 1 outside a step.

    The script that sbatch runs and the shell of salloc know of the allocation's tasks too, but are not one of them.
    """
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        return 1
    return int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1")))


def torchrun_environment(environment: Mapping[str, str], hosts: Callable[[str], list[str]] = _hosts) -> dict[str, str]:
    """Give RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT of a task that ``srun`` or submitit started.

    Empty where torchrun has described the process already, and where it is the only task. The port follows from the
    job's number, so that two jobs on one host do not meet.
    """
    if "RANK" in environment or tasks(environment) == 1:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST", environment["SLURM_JOB_NODELIST"])
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks(environment)),
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": environment.get("MASTER_ADDR", hosts(nodes)[0]),
        "MASTER_PORT": environment.get("MASTER_PORT", str(20000 + int(environment["SLURM_JOB_ID"]) % 20000)),
    }
