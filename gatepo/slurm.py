"""SLURM's description of a process in the words of torchrun."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping


def _hosts(nodes: str) -> list[str]:
    """``node[1-3]`` written out, by SLURM's own tool."""
    shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return shown.stdout.split()


def torchrun_environment(environment: Mapping[str, str], hosts: Callable[[str], list[str]] = _hosts) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT of a task that ``srun`` or submitit started.

    Empty where torchrun has described the process already, and where it is the only task. The port follows from the
    job's number, so that two jobs on one host do not meet.
    """
    if "RANK" in environment or int(environment.get("SLURM_NTASKS", "1")) == 1 or "SLURM_PROCID" not in environment:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST", environment["SLURM_JOB_NODELIST"])
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": environment.get("MASTER_ADDR", hosts(nodes)[0]),
        "MASTER_PORT": environment.get("MASTER_PORT", str(20000 + int(environment["SLURM_JOB_ID"]) % 20000)),
    }
