"""What this repository has never run on a GPU, tried on one: ``python -m benchmarks.gpu_check`` (make gpu-check).

A line for each check, passed, failed or skipped with the reason, and all of it in one JSON (``--out``). Each check is a
process of its own: vLLM and DeepSpeed keep global state, and what kills one leaves the others. All together end within
``--seconds``. Exit codes: 0, 1 where a check failed, 2 where there is no GPU.

``--device cpu`` runs the same code small on a CPU, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.gpu_checks import CHECKS, Failed, Skipped, last_line
from benchmarks.rows import measured

SECONDS = 460  # of all checks; make's own takes the rest of eight minutes
LONGEST = 240  # of one check, so that one that hangs leaves time for others
NO_GPU = 2


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of one check."""

    name: str
    verdict: str  # passed, failed or skipped
    words: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.name:<14}{self.verdict:<9}{self.words} ({self.seconds:.0f} s)"


def here(name: str, device: torch.device) -> list[Line]:
    """Make one check in this process."""
    check, names = CHECKS[name]
    found: list[Line] = []
    started, verdict, words = time.monotonic(), "", ""
    try:
        for line, seen in check(device):
            found.append(Line(line, "passed", seen, time.monotonic() - started))
            started = time.monotonic()
    except Skipped as reason:
        verdict, words = "skipped", str(reason)
    except Exception as error:  # whatever it is, the other checks go on, and it is said
        words = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        verdict, words = "failed", " ".join(words.split())[:300]
    missing = names[len(found) :] if verdict else ()
    return found + [Line(line, verdict, words, time.monotonic() - started) for line in missing]


def apart(name: str, device: str, seconds: float) -> list[Line]:
    """Make one check in a process of its own, which may take so many seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", device, "--one", name]
    names, started = CHECKS[name][1], time.monotonic()
    if seconds <= 0:
        return [Line(line, "failed", "no time was left") for line in names]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=seconds)
            return [Line(**line) for line in json.loads(said.splitlines()[-1])]
        except subprocess.TimeoutExpired:
            words = f"no answer within {seconds:.0f} s"
        except (IndexError, ValueError):
            words = f"its process ended with {process.returncode}: {last_line(errors)}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started holds the GPU
    return [Line(line, "failed", words, time.monotonic() - started) for line in names]


def all_of(names: list[str], device: str, seconds: float) -> list[Line]:
    """Make these checks in turn, and print a line for each as it comes."""
    ends, found = time.monotonic() + seconds, []
    for name in names:
        for line in apart(name, device, min(ends - time.monotonic(), LONGEST)):
            print(line, flush=True)
            found.append(line)
    return found


def main() -> None:
    """Run ``python -m benchmarks.gpu_check``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=tuple(CHECKS), default=list(CHECKS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that all checks may take together")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    parser.add_argument("--one", choices=tuple(CHECKS), help=argparse.SUPPRESS)  # in this process, for apart()
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: no GPU that torch can use is here; --device cpu runs what makes sense without", flush=True)
        raise SystemExit(NO_GPU)
    if options.one:
        lines = here(options.one, torch.device(options.device))
        print(json.dumps([asdict(line) for line in lines]), flush=True)
        os._exit(0)  # vLLM and DeepSpeed may abort as they are torn down
    started = time.monotonic()
    lines = all_of(options.only, options.device, options.seconds)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    failed = [line.name for line in lines if line.verdict == "failed"]
    report = {
        "passed": not failed,
        "seconds": time.monotonic() - started,
        **measured("python -m benchmarks.gpu_check", name),
        "checks": [asdict(line) for line in lines],
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{len(lines) - len(failed)} of {len(lines)} without a fault; all of it is in {options.out}", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
