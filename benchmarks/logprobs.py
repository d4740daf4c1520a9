"""Log-probability, entropy and gradient of the head alone, against four others and against its products alone.

1,024 tokens of a 151,936-word vocabulary (Qwen2.5-0.5B's head), fp32, on the CPU. Every side runs in a process of its
own, in turn, several rounds, so that a machine that grows slower slows all of them. Seconds are of a forward and a
backward pass, the least over all rounds: the work is always the same, other tenants of the machine only add to it.
Peak memory is what the first such pass adds to the process, less the weight's gradient, which nobody can do without
(dense peaks before it has one, and is flattered).

The floor is what no exact way can leave out: logits, gradient of the hidden state and gradient of the weight are a
matrix product each. Each is done in whichever of torch's ways is the fastest here, MKL's or oneDNN's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.rows import peak_mib, row

if TYPE_CHECKING:
    from torch import Tensor

TOKENS, HIDDEN, VOCABULARY, TEMPERATURE = 1024, 896, 151_936, 0.9
PASSES = 2  # timed passes of each process

# side -> (its name in the table, the packages that it needs beside ours)
SIDES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ours": ("ours", ()),
    "dense": ("dense", ()),
    "trl": ("TRL 1.16's GRPOTrainer", ("trl",)),
    "helpers": ("TRL 1.16's helpers", ("trl",)),
    "liger": ("Liger's chunked loss (no entropy)", ("liger_kernel", "triton")),
    "floor": ("its three matrix products alone", ()),
}
WIDTH = 8192  # of a slice of the vocabulary in the floor


def rows(rounds: int = 3) -> list[dict[str, Any]]:
    """Ours against every side whose packages are installed; why a side is left out is printed."""
    present = []
    for side, (name, packages) in SIDES.items():
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            print(f"left out: {name}; {' and '.join(missing)} not installed", flush=True)
        else:
            present.append(side)
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in present}
    for number in range(rounds):
        for side in present:
            found[side].append(measure(side))
            last = found[side][-1]
            about = last["ways"] if side == "floor" else f"{last['peak']:.0f} MiB"
            print(f"round {number + 1} {side:<8} {min(last['seconds']):.2f} s {about}", flush=True)
        agree({side: results[0] for side, results in found.items() if side != "floor"})
    seconds = {side: min(s for result in found[side] for s in result["seconds"]) for side in present}
    peak = {side: median(result["peak"] for result in found[side]) for side in present if side != "floor"}
    kinds = (("seconds", "head, forward and backward", seconds, "s"), ("memory", "head, peak memory", peak, "MiB"))
    floor, dense = seconds["floor"], seconds["dense"]
    return [
        *(
            row(f"{side}_{kind}", f"{what}, against {SIDES[side][0]}", of["ours"], of[side], unit)
            for kind, what, of, unit in kinds
            for side in list(of)[1:]
        ),
        row("floor_dense", "head, its three matrix products alone, against dense", floor, dense, "s"),
    ]


def measure(side: str) -> dict[str, Any]:
    """One process of one side."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.logprobs", "--side", side],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if process.returncode != 0:
        raise SystemExit(f"{side} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def agree(results: dict[str, dict[str, Any]]) -> None:
    """A side that computed something else would be no comparison."""
    for side, result in results.items():
        for parameter in ("hidden", "weight"):
            norm, expected = result[parameter], results["ours"][parameter]
            if abs(norm / expected - 1) > 1e-4:
                raise SystemExit(f"{side}: gradient of {parameter} has norm {norm}, ours {expected}; not the same work")


def ours() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from gatepo.logprobs import token_logprobs

    return lambda hidden_MH, weight_VH, token_M: -token_logprobs(hidden_MH, weight_VH, token_M, TEMPERATURE)[0].mean()


def dense() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from gatepo.logprobs import dense_token_logprobs

    return lambda hidden_MH, weight_VH, token_M: (
        -dense_token_logprobs(hidden_MH, weight_VH, token_M, TEMPERATURE)[0].mean()
    )


def trl() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What the patched head of GRPOTrainer calls (add_fused_lm_head with log_probs and entropy)."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE as WIDTH

    def loss(hidden_MH: Tensor, weight_VH: Tensor, token_M: Tensor) -> Tensor:
        wanted = ("log_probs", "entropy")
        return -ChunkedLogProbFunction.apply(
            hidden_MH, weight_VH, None, token_M, TEMPERATURE, WIDTH, None, 1.0, wanted
        )[0].mean()

    return loss


def helpers() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function that TRL's other trainers use on logits; entropy without gradient, as ours."""
    from torch.nn.functional import linear
    from trl.trainer.utils import selective_log_softmax_and_entropy

    def loss(hidden_MH: Tensor, weight_VH: Tensor, token_M: Tensor) -> Tensor:
        logits_1MV = linear(hidden_MH, weight_VH)[None]
        return -selective_log_softmax_and_entropy(logits_1MV, token_M[None], False, TEMPERATURE)[0].mean()

    return loss


def liger() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """GRPO's loss at ratio 1 and advantage 1 has the gradient of the mean log-probability; its value is -1."""
    import torch
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    grpo = LigerFusedLinearGRPOLoss(beta=0.0, compiled=False, use_ref_model=False, temperature=TEMPERATURE)

    def loss(hidden_MH: Tensor, weight_VH: Tensor, token_M: Tensor) -> Tensor:
        mask_1M = torch.ones(1, len(token_M))
        return grpo(hidden_MH[None], weight_VH, token_M[None], mask_1M, torch.ones(1))[0]

    return loss


def floor() -> dict[str, Any]:
    """Seconds of the three products over all slices, each in its fastest way here, and which ways those are."""
    import torch

    def linear(left: Tensor, right_T: Tensor) -> Tensor:  # torch has no public way to oneDNN's product in fp32
        return torch.ops.mkldnn._linear_pointwise(left, right_T, None, "none", [], "")

    torch.manual_seed(0)
    hidden_MH, weight_SH = torch.randn(TOKENS, HIDDEN), torch.randn(WIDTH, HIDDEN)
    logits_MS, grad_MH, grad_SH = torch.randn(TOKENS, WIDTH), torch.zeros(TOKENS, HIDDEN), torch.empty(WIDTH, HIDDEN)
    products: dict[str, dict[str, Callable[[], Any]]] = {
        "logits": {
            "MKL": lambda: torch.mm(hidden_MH, weight_SH.T, out=logits_MS),
            "oneDNN": lambda: linear(hidden_MH, weight_SH),
        },
        "d hidden": {
            "MKL": lambda: grad_MH.addmm_(logits_MS, weight_SH),
            "oneDNN": lambda: grad_MH.add_(linear(logits_MS, weight_SH.T)),
        },
        "d weight": {
            "MKL": lambda: torch.mm(logits_MS.T, hidden_MH, out=grad_SH),
            "oneDNN": lambda: linear(logits_MS.T, hidden_MH.T),
        },
    }
    best = {}
    for name, ways in products.items():
        ways = ways if torch.backends.mkldnn.is_available() else {"MKL": ways["MKL"]}
        best[name] = min(ways, key=lambda way: min(timed(ways[way]) for _ in range(3)))
    slices = VOCABULARY / WIDTH
    seconds = [slices * sum(timed(products[name][way]) for name, way in best.items()) for _ in range(8)]
    return {"seconds": seconds, "ways": best}


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(side: str) -> dict[str, Any]:
    """Peak memory of a first pass in MiB, seconds of the passes after it, norms of the gradients."""
    import torch

    if side == "floor":
        return floor()
    torch.manual_seed(0)
    loss_of = {"ours": ours, "dense": dense, "trl": trl, "helpers": helpers, "liger": liger}[side]()
    small = torch.randn(8, 16, requires_grad=True), torch.randn(64, 16, requires_grad=True)
    loss_of(*small, torch.randint(64, (8,))).backward()  # what libraries allocate once belongs to nobody's peak
    hidden_MH = torch.randn(TOKENS, HIDDEN).requires_grad_()
    weight_VH = torch.nn.Parameter(torch.randn(VOCABULARY, HIDDEN).mul_(0.05))
    token_M = torch.randint(VOCABULARY, (TOKENS,))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()  # resident now; Linux only
    seconds, peak = [], 0.0
    for _ in range(1 + PASSES):
        hidden_MH.grad = weight_VH.grad = None
        started = time.perf_counter()
        loss_of(hidden_MH, weight_VH, token_M).backward()
        seconds.append(time.perf_counter() - started)
        peak = peak or peak_mib() * 2**20 - before - weight_VH.nbytes
    return {
        "seconds": seconds[1:],
        "peak": peak / 2**20,
        "hidden": hidden_MH.grad.norm().item(),
        "weight": weight_VH.grad.norm().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logprobs", description=__doc__)
    parser.add_argument("--side", choices=SIDES, required=True, help="one process of one side (what the rounds start)")
    print(json.dumps(run(parser.parse_args().side)), flush=True)


if __name__ == "__main__":
    main()
