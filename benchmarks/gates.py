"""``python -m benchmarks.gates``: a gate written as a formula against the built-in gate of the same formula.

Value, slope and gradient of one micro-batch of 16 x 512 tokens, fp32, as the loss takes them; both sides in turn in one
process, several hundred times. Microseconds are medians: what other tenants of the machine add, they add to both.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.rows import row
from gatepo.formulas.gate import custom_gate
from gatepo.objective import gates
from gatepo.objective.gates import Gate

SLOPES = {  # as gates.py has them
    "sigmoid": "4*sigmoid(tau*(x-1))*sigmoid(-tau*(x-1))",
    "erf": "exp(-(tau*(x-1))**2/2)",
    "arctan": "1/(1 + (tau*(x-1))**2)",
    "softsign": "(1 + (tau*(x-1))**2)**-1.5",
}
N, T, ROUNDS = 16, 512, 400


def rows() -> list[dict[str, Any]]:
    """One row for each of the paper's gates, on one thread: waiting for a busy second core is no part of a gate."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = [_row(name) for name in SLOPES]
    torch.set_num_threads(threads)
    return found


def _row(name: str) -> dict[str, Any]:
    built_in = gates.get(name)
    custom = custom_gate(slope=SLOPES[name])
    ratio_NT = torch.randn(N, T, generator=torch.Generator().manual_seed(0)).mul(0.1).exp()
    seconds: dict[Gate, list[float]] = {custom: [], built_in: []}
    for _ in range(ROUNDS):
        for gate, found in seconds.items():
            started = time.perf_counter()
            pass_through(gate, ratio_NT)
            found.append(time.perf_counter() - started)
    ours, other = (1e6 * median(found[ROUNDS // 10 :]) for found in seconds.values())
    return row(f"gate=custom against gate={name}, value, slope and gradient", ours, other, "us")


def pass_through(gate: Gate, ratio_NT: Tensor) -> Tensor:
    """What policy_loss asks of a gate, and its backward pass."""
    tau_N1, positive_N1 = torch.full((N, 1), 10.0), torch.ones(N, 1, dtype=torch.bool)
    leaf_NT = ratio_NT.clone().requires_grad_()
    gate.value(leaf_NT, tau_N1, positive_N1).sum().backward()
    with torch.no_grad():
        gate.slope(ratio_NT, tau_N1, positive_N1)
    assert leaf_NT.grad is not None
    return leaf_NT.grad


def main() -> None:
    """Only these rows."""
    for r in rows():
        print(f"{r['name']:<70}{r['ours']:>10.1f}{r['other']:>10.1f}{r['ratio']:>8.2f}  {r['unit']}")


if __name__ == "__main__":
    main()
