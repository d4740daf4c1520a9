"""Matrix products out of bf16 parts are as exact as those in fp32."""

from __future__ import annotations

import pytest
import torch
from test_logprobs import assert_same, case, gradients
from torch import Tensor

from gatepo import logprobs, products
from gatepo.logprobs import dense_token_logprobs, sliced_token_logprobs
from gatepo.products import parts_of, parts_pay, plain_product, product_of_parts


def matrices(*types: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((48, 896), (896, 64))
    return [torch.randn(shape, generator=generator).to(t) for shape, t in zip(shapes, types, strict=True)]


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_three_parts_are_the_whole_matrix(scale: float) -> None:
    value = torch.randn(100, 100, generator=torch.Generator().manual_seed(0)) * scale
    parts = parts_of(value)
    assert {part.dtype for part in parts} == {torch.bfloat16}
    assert len(parts) == 3
    assert torch.equal(sum(part.double() for part in parts), value.double())


def test_two_parts_are_not() -> None:
    value = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(sum(part.double() for part in parts_of(value)[:2]), value.double())


@pytest.mark.parametrize(
    ("types", "terms"), [(("float32", "float32"), 6), (("bfloat16", "float32"), 3), (("bfloat16", "bfloat16"), 1)]
)
def test_a_product_of_parts_is_as_close_to_fp64_as_that_in_fp32(
    types: tuple[str, str], terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = matrices(*(getattr(torch, t) for t in types))
    widths = []
    multiplied = products._multiplied
    monkeypatch.setattr(products, "_multiplied", lambda a, b: widths.append(a.shape[1]) or multiplied(a, b))
    exact = left.double() @ right.double()
    in_parts, in_fp32 = ((way(left, right) - exact).abs().max() for way in (product_of_parts, plain_product))
    assert in_parts <= 2 * in_fp32
    assert in_parts < 1e-4 < (left.bfloat16() @ right.bfloat16() - exact).abs().max()
    assert widths == [terms * 896]


@pytest.mark.parametrize(("body", "head"), [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "float32")])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("kept_bytes", [0, 1 << 20])
def test_a_head_in_parts_gives_what_the_head_in_fp64_gives(
    body: str, head: str, temperature: float, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "parts_pay", lambda device: True)
    made = case(40, 64, 500, torch.float32)
    inputs = (made[0], body), (made[1], head), (made[3], head)
    low = [x.detach().to(getattr(torch, t)) for x, t in inputs]
    exact = [x.double().requires_grad_() for x in low]
    for x in low:
        x.requires_grad_()
    expected = dense_token_logprobs(*exact[:2], made[2], temperature, exact[2])
    found = sliced_token_logprobs(*low[:2], made[2], temperature, low[2], 128, kept_bytes)
    assert_same(found[0].double(), expected[0], 1e-5)
    assert_same(found[1].double(), expected[1], 1e-5)
    for mine, theirs in zip(gradients(found[0], *low), gradients(expected[0], *exact), strict=True):
        assert_same(mine.double(), theirs, 2**-8 if mine.dtype == torch.bfloat16 else 1e-5)


def test_a_cpu_never_takes_parts() -> None:
    assert not parts_pay(torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("types", [("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")])
def test_on_cuda_a_product_of_parts_is_as_close_to_fp64(types: tuple[str, str]) -> None:
    left, right = (x.cuda() for x in matrices(*(getattr(torch, t) for t in types)))
    exact = left.double() @ right.double()
    in_parts, in_fp32 = ((way(left, right) - exact).abs().max() for way in (product_of_parts, plain_product))
    assert in_parts <= 2 * in_fp32 or not parts_pay(left.device)  # else it is left out there
