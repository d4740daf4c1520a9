"""Products of fp32 matrices out of products of bf16 ones, which a GPU's tensor cores do an order of magnitude faster.

An fp32 number has 24 bits and a bf16 one 8, so that three of the latter add up to the former. A product of two bf16
numbers is exact in fp32, in which they are added up. Of the nine products of parts, those six count that are not below
fp32's own rounding; where one factor is in bf16 already, as a bf16 model's weights and hidden states are, it is its
only part, and three are left; where both are, one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

Product = Callable[[Tensor, Tensor], Tensor]
PARTS = 3
SHAPE = (1024, 896, 8192)  # of the product that is measured: a slice of Qwen2.5-0.5B's head
# Times as fast. On paper 5 on an A100 and 0.7 on an RTX 4090: all ranks, and a run that goes on, must find the same,
# whatever else the GPU does meanwhile.
MARGIN = 1.5

log = logging.getLogger(__name__)


def parts_of(value: Tensor) -> list[Tensor]:
    """Cut a matrix into bf16 ones whose sum it is; one in bf16 is its own only part.

    Exact from 2^-110 up in size: below that the last part is under bf16's smallest numbers.
    """
    if value.dtype == torch.bfloat16:
        return [value]
    found = [value.bfloat16()]
    for _ in range(PARTS - 1):
        value = value - found[-1].float()
        found.append(value.bfloat16())
    return found


def product_of_parts(left: Tensor, right: Tensor) -> Tensor:
    """Give left @ right in fp32, of matrices in fp32 or bf16, by bf16 products that are added up in fp32."""
    lefts, rights = parts_of(left), parts_of(right)
    pairs = [(i, j) for i in range(len(lefts)) for j in range(len(rights)) if i + j < PARTS]
    pairs.sort(key=sum, reverse=True)  # the smallest first
    return _multiplied(torch.cat([lefts[i] for i, _ in pairs], dim=1), torch.cat([rights[j] for _, j in pairs]))


def plain_product(left: Tensor, right: Tensor) -> Tensor:
    """Give left @ right, computed in fp32 at least."""
    dtype = torch.promote_types(torch.promote_types(left.dtype, right.dtype), torch.float32)
    return left.to(dtype) @ right.to(dtype)


def parts_pay(device: torch.device) -> bool:
    """Say whether parts are faster than fp32 on a device, and as exact. Never on a CPU."""
    cores = device.type == "cuda" and torch.version.hip is None  # only CUDA's product of bf16 matrices gives fp32
    return cores and torch.cuda.is_bf16_supported(including_emulation=False) and _measured(device)


def _multiplied(left: Tensor, right: Tensor) -> Tensor:
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()  # exact products, fp32 sums: what tensor cores do


@cache
def _measured(device: torch.device) -> bool:
    """Measure one product by each way, in seconds and against fp64."""
    generator = torch.Generator(device).manual_seed(0)
    M, H, S = SHAPE
    left = torch.randn(M, H, device=device, generator=generator)
    right = torch.randn(H, S, device=device, generator=generator)
    exact = left.double() @ right.double()
    seconds, errors = [], []
    for product in (product_of_parts, plain_product):
        errors.append((product(left, right) - exact).abs().max().item())
        seconds.append(min(_seconds(product, left, right) for _ in range(3)))
    pays = MARGIN * seconds[0] < seconds[1] and errors[0] <= 2 * errors[1]
    chosen = "three bf16 parts" if pays else "fp32"
    log.info(
        "the head multiplies in %s: %.2g s and an error of %.2g in parts, %.2g s and %.2g in fp32",
        chosen,
        seconds[0],
        errors[0],
        seconds[1],
        errors[1],
    )
    return pays


def _seconds(product: Product, left: Tensor, right: Tensor) -> float:
    started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    started.record()
    product(left, right)
    ended.record()
    ended.synchronize()
    return started.elapsed_time(ended) / 1e3
