"""What the head keeps of its softmax from forward to backward changes no result, and stays within its memory."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_logprobs import Largest, assert_same, case, gradients
from torch import Tensor

from gatepo.logprobs import dense_token_logprobs, sliced_token_logprobs, token_logprobs

ALL = 1 << 20


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    tokens=st.integers(0, 9),
    hidden=st.integers(1, 5),
    vocabulary=st.integers(1, 23),
    width=st.integers(1, 24),
    kept_bytes=st.integers(0, 9 * 23 * 8),
    temperature=st.sampled_from([1.0, 0.3]),
    bias=st.booleans(),
    frozen=st.sampled_from([None, 0, 1]),
    types=st.sampled_from([("float64", "float64"), ("float32", "float32"), ("bfloat16", "bfloat16")]),
)
def test_whatever_is_kept_values_and_gradients_are_those_of_the_dense_way(
    tokens: int,
    hidden: int,
    vocabulary: int,
    width: int,
    kept_bytes: int,
    temperature: float,
    bias: bool,
    frozen: int | None,
    types: tuple[str, str],
) -> None:
    made = case(tokens, hidden, vocabulary, bias=bias)
    hidden_MH, weight_VH = (x.detach().to(getattr(torch, t)) for x, t in zip(made, types, strict=False))
    bias_V = None if made[3] is None else made[3].detach()
    inputs = [x for x in (hidden_MH, weight_VH, bias_V) if x is not None]
    for position, x in enumerate(inputs):
        x.requires_grad_(position != frozen)
    if not any(x.requires_grad for x in inputs):
        return
    exact = [x.detach().double().requires_grad_(x.requires_grad) for x in inputs]
    found = sliced_token_logprobs(*inputs[:2], made[2], temperature, bias_V, width, kept_bytes)
    expected = dense_token_logprobs(*exact[:2], made[2], temperature, *exact[2:])
    coarse = 2e-5 if types[0] != "float64" else 1e-10
    assert_same([x.double() for x in found], list(expected), coarse)
    mine = gradients(found[0], *(x for x in inputs if x.requires_grad))
    theirs = gradients(expected[0], *(x for x in exact if x.requires_grad))
    for one, other in zip(mine, theirs, strict=True):
        assert_same(one.double(), other, 2**-8 if one.dtype == torch.bfloat16 else coarse)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_a_maximum_that_grows_from_slice_to_slice_is_right(scale: float) -> None:
    # what was kept is relative to the maximum of its own time
    weight_VH = (torch.arange(12.0) * scale / 12)[:, None].requires_grad_()
    hidden_MH, token_M = torch.ones(3, 1, requires_grad=True), torch.tensor([0, 5, 11])
    exact = [x.detach().double().requires_grad_() for x in (hidden_MH, weight_VH)]
    expected = gradients(dense_token_logprobs(*exact, token_M, 1.0)[0], *exact)
    logp_M, _ = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 1.0, None, 4, ALL)
    found = gradients(logp_M, hidden_MH, weight_VH)
    assert_same(found[0].double(), expected[0], 1e-6 * abs(scale))
    assert_same(found[1].double(), expected[1], 1e-6)


# Three slices. As many tokens as there are hidden units (4 of 7) lie in the gradient's memory; each further token takes
# 11 x 8 bytes.
@pytest.mark.parametrize(("kept_bytes", "again"), [(0, 7), (1, 3), (2 * 88 + 87, 1), (3 * 88, 0)])
def test_only_tokens_that_were_not_kept_are_multiplied_again(kept_bytes: int, again: int) -> None:
    hidden_MH, weight_VH, token_M, _ = case(7, 4, 11)
    logp_M, _ = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, None, 4, kept_bytes)
    with Rows() as rows:
        logp_M.sum().backward()
    # each slice: the logits again, then d weight from its 4, 4 and 3 rows
    logits = [again] * 3 if again else []
    assert sorted(rows.of["mm"]) == sorted([*logits, 4, 4, 3])


class Rows(Largest):
    """How many rows each product had."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, list[int]] = {"mm": []}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == "mm":
            self.of["mm"].append(len(args[0]))
        return super().__torch_dispatch__(func, types, args, kwargs)


def test_what_is_kept_lies_in_the_memory_of_the_gradient() -> None:
    hidden_MH, weight_VH, token_M, _ = case(4, 4, 11)
    head = torch.nn.Parameter(weight_VH.detach())
    logp_M, _ = sliced_token_logprobs(hidden_MH, head, token_M, 0.7, None, 4, 1)
    memory = logp_M.grad_fn.kept.grad_VH.data_ptr()
    logp_M.sum().backward()
    assert head.grad.data_ptr() == memory  # and nobody made a copy


def test_a_graph_may_be_run_backward_twice() -> None:
    inputs = case(7, 4, 11)
    hidden_MH, weight_VH, token_M, bias_V = inputs
    for kept_bytes in (1, ALL):
        logp_M, _ = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V, 4, kept_bytes)
        first, second = (
            torch.autograd.grad(logp_M.sum(), (hidden_MH, weight_VH, bias_V), retain_graph=True) for _ in range(2)
        )
        assert_same(first, second, 1e-12)


def test_gradients_of_kept_terms_pass_a_numerical_check() -> None:
    hidden, weight, token, bias = case(5, 4, 6)

    def logp(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return sliced_token_logprobs(h, w, token, 0.7, b, 4, ALL)[0]

    assert torch.autograd.gradcheck(logp, (hidden, weight, bias))


def live_bytes(weight_VH: Tensor, tokens: int, **options: Any) -> tuple[Any, int]:
    """Bytes alive after a forward pass, beside its inputs."""
    hidden_MH = torch.randn(tokens, weight_VH.shape[1], requires_grad=True)
    token_M = torch.zeros(tokens, dtype=torch.long)
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        held = token_logprobs(hidden_MH, weight_VH, token_M, 1.0, **options)
    return held, sum(e.nbytes() for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]")


def test_a_budget_of_memory_is_kept_to_and_nothing_is_kept_where_no_gradient_is_asked() -> None:
    weight_VH = torch.randn(40_000, 32, requires_grad=True)
    gradient, room = weight_VH.nbytes, 60_000  # sums and maxima, a few numbers for each token and slice
    for kept_mib in (1, 5):
        held, live = live_bytes(weight_VH, 512, kept_mib=kept_mib)
        assert 0 <= live - gradient - (kept_mib << 20) // 160_000 * 160_000 <= room, held
    assert live_bytes(weight_VH, 512, kept_mib=0)[1] <= room
    with torch.no_grad():
        assert live_bytes(weight_VH, 512, kept_mib=5)[1] <= room
    with torch.no_grad():
        still = torch.randn(512, 32)
    held = token_logprobs(still, weight_VH.detach(), torch.zeros(512, dtype=torch.long), 1.0)
    assert held[0].grad_fn is None
    frozen = weight_VH.detach()
    assert live_bytes(frozen, 512, kept_mib=1)[1] <= room + (1 << 20)


def test_a_slice_is_not_held_twice_where_all_is_kept() -> None:
    """The peak is the gradient, what is kept beside it, and the logits of one slice."""
    hidden_MH, weight_VH, token_M, _ = case(1024, 256, 32_768, torch.float32, bias=False)
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        token_logprobs(hidden_MH, weight_VH, token_M, 1.0, kept_mib=128)[0].sum().backward()
    live = peak = 0
    for event in profiled.profiler.kineto_results.events():
        live += event.nbytes() if event.name() == "[memory]" else 0
        peak = max(peak, live)
    kept, logits = 768 * weight_VH.nbytes // 256, 4 << 23
    assert peak <= 1.05 * (weight_VH.nbytes + kept + logits)
