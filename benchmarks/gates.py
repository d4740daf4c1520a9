"""A gate written as a formula against the built-in gate of the same formula.

Value, slope and gradient as the loss takes them, fp32; both sides in turn in one process, several hundred times. Once
for a micro-batch of 16 x 512 tokens at one tau, and once for what an update of the embedded default takes: 8
micro-batches of 16 x 64 tokens with tau by the sign of A. A gate given by its slope looks its value up in tables; one
given by its value computes it. Milliseconds are medians: what other tenants of the machine add, they add to both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.rows import row
from gatepo.formulas.gate import custom_gate
from gatepo.objective import gates
from gatepo.objective.gates import Formulated, Gate
from gatepo.objective.surrogate import gated
from gatepo.objective.tau import TauPair

SLOPES = {  # as gates.py has them
    "sigmoid": "4*sigmoid(tau*(x-1))*sigmoid(-tau*(x-1))",
    "erf": "exp(-(tau*(x-1))**2/2)",
    "arctan": "1/(1 + (tau*(x-1))**2)",
    "softsign": "(1 + (tau*(x-1))**2)**-1.5",
}
N, T, ROUNDS = 16, 512, 400
MICRO_BATCHES, COMPLETION = 8, 64  # an update of the embedded default


def rows() -> list[dict[str, Any]]:
    """Time each of the paper's gates, on one thread: waiting for a busy second core is no part of a gate."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = [row for name in SLOPES for row in _rows(name)]
    torch.set_num_threads(threads)
    return found + _over_all(found)


def _over_all(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the least and the largest ratio, and the medians of an update."""
    by_ratio = sorted(found, key=lambda r: r["ratio"])
    updates = [r for r in found if r["key"].endswith("update")]
    ours, other = (median(r[side] for r in updates) for side in ("ours", "other"))
    ends = [by_ratio[0] | {"key": "least"}, by_ratio[-1] | {"key": "most"}]
    return [*ends, row("update", "gate=custom against the built-in gate, an update, median of all", ours, other, "ms")]


def _rows(name: str) -> list[dict[str, Any]]:
    built_in = gates.get(name)
    by_slope = custom_gate(slope=SLOPES[name])
    assert isinstance(built_in, Formulated)
    by_value = custom_gate(value=built_in.formula(True).value)
    noise = torch.Generator().manual_seed(0)
    log_ratio_NT = 0.1 * torch.randn(N, T, generator=noise)
    long = [(log_ratio_NT, torch.ones(N, 1))]
    update = [
        (0.1 * torch.randn(N, COMPLETION, generator=noise), torch.randn(N, 1, generator=noise))
        for _ in range(MICRO_BATCHES)
    ]
    return [
        _row(f"{name}_{given}_{key}", f"custom by its {given} against gate={name}, {what}", custom, built_in, batches)
        for given, custom in (("slope", by_slope), ("value", by_value))
        for key, what, batches in (("long", "16 x 512 tokens", long), ("update", "an update", update))
    ]


def _row(
    key: str, words: str, custom: Gate, built_in: Gate, batches: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    seconds: dict[Gate, list[float]] = {custom: [], built_in: []}
    for _ in range(ROUNDS):
        for gate, found in seconds.items():
            started = time.perf_counter()
            for log_ratio_NT, advantage_N1 in batches:
                pass_through(gate, log_ratio_NT, advantage_N1)
            found.append(time.perf_counter() - started)
    ours, other = (1e3 * median(found[ROUNDS // 10 :]) for found in seconds.values())
    return row(key, words, ours, other, "ms")


def pass_through(gate: Gate, log_ratio_NT: Tensor, advantage_N1: Tensor) -> Tensor:
    """Ask a gate what the loss asks of it, and pass back through it; the gradient by the log-ratio."""
    leaf_NT = log_ratio_NT.clone().requires_grad_()
    gated(gate, TauPair(pos=10.0, neg=12.0), leaf_NT, advantage_N1).value_NT.sum().backward()
    assert leaf_NT.grad is not None
    return leaf_NT.grad
