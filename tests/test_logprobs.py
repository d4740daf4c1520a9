"""Log-probability and entropy of chosen tokens."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gatepo import logprobs
from gatepo.logprobs import dense_token_logprobs, slice_width, sliced_token_logprobs, token_logprobs


def case(
    tokens: int, hidden: int, vocabulary: int, dtype: torch.dtype = torch.float64, bias: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Random hidden state, head, token and bias, the floating ones with gradient."""
    generator = torch.Generator().manual_seed(seed)
    hidden_MH = torch.randn(tokens, hidden, generator=generator, dtype=dtype).requires_grad_()
    weight_VH = torch.randn(vocabulary, hidden, generator=generator, dtype=dtype).requires_grad_()
    bias_V = torch.randn(vocabulary, generator=generator, dtype=dtype).requires_grad_() if bias else None
    return hidden_MH, weight_VH, torch.randint(vocabulary, (tokens,), generator=generator), bias_V


def gradients(logp_M: Tensor, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """Of a sum over the tokens with weights of both signs."""
    factor_M = torch.linspace(-1, 2, len(logp_M), dtype=logp_M.dtype)
    return torch.autograd.grad((logp_M * factor_M).sum(), [x for x in inputs if x is not None])


def assert_same(found: Any, expected: Any, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation returned, of one type or any; and how often each was called."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.elements = 0
        self.calls: dict[str, int] = dict.fromkeys(("mm", "addmm", "addmm_", "mv"), 0)
        self._dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.calls[name] = self.calls.get(name, 0) + 1
        for tensor in returned if isinstance(returned, (tuple, list)) else (returned,):
            if isinstance(tensor, Tensor) and self._dtype in (None, tensor.dtype):
                self.elements = max(self.elements, tensor.numel())
        return returned


def test_uniform_logits_worked_by_hand() -> None:
    # all logits 0 over V = 8: log-probability -ln 8, entropy ln 8
    hidden, weight, token = torch.zeros(3, 4), torch.randn(8, 4), torch.tensor([0, 3, 7])
    for logp, entropy in (
        token_logprobs(hidden, weight, token, 1.0),
        sliced_token_logprobs(hidden, weight, token, 1.0, None, 3),
    ):
        torch.testing.assert_close(logp, torch.full((3,), -math.log(8)))
        torch.testing.assert_close(entropy, torch.full((3,), math.log(8)))


def test_agrees_with_torch_categorical_at_any_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    token, bias = torch.tensor([0, 1, 2, 3, 4]), torch.randn(5, generator=generator, dtype=torch.float64)
    for temperature in (0.3, 1.0, 2.5):
        expected = torch.distributions.Categorical(logits=(hidden @ weight.T + bias) / temperature)
        for logp, entropy in (
            dense_token_logprobs(hidden, weight, token, temperature, bias),
            sliced_token_logprobs(hidden, weight, token, temperature, bias, 2),
        ):
            torch.testing.assert_close(logp, expected.log_prob(token))
            torch.testing.assert_close(entropy, expected.entropy())


def test_gradient_passes_a_numerical_check_and_entropy_has_none() -> None:
    hidden, weight, token, bias = case(3, 4, 6)
    for way in (token_logprobs, lambda *inputs: sliced_token_logprobs(*inputs, 4)):

        def logp(h: Tensor, w: Tensor, b: Tensor, way: Callable = way) -> Tensor:
            return way(h, w, token, 0.7, b)[0]

        assert torch.autograd.gradcheck(logp, (hidden, weight, bias))
        assert not way(hidden, weight, token, 0.7, bias)[1].requires_grad


def test_a_bf16_body_gets_fp32_log_probabilities() -> None:
    hidden, weight = torch.randn(4, 8).bfloat16(), torch.randn(16, 8)
    logp, entropy = token_logprobs(hidden, weight, torch.arange(4), 1.0)
    assert logp.dtype == entropy.dtype == torch.float32
    exact, _ = token_logprobs(hidden.double(), weight.double(), torch.arange(4), 1.0)
    torch.testing.assert_close(logp.double(), exact, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    tokens=st.integers(0, 6),
    hidden=st.integers(1, 5),
    vocabulary=st.integers(1, 23),
    width=st.integers(1, 24),
    temperature=st.sampled_from([1.0, 0.3, 2.5]),
    bias=st.booleans(),
    seed=st.integers(0, 9),
)
def test_slices_equal_the_dense_way_in_values_entropy_and_every_gradient(
    tokens: int, hidden: int, vocabulary: int, width: int, temperature: float, bias: bool, seed: int
) -> None:
    hidden_MH, weight_VH, token_M, bias_V = case(tokens, hidden, vocabulary, bias=bias, seed=seed)
    expected = dense_token_logprobs(hidden_MH, weight_VH, token_M, temperature, bias_V)
    found = sliced_token_logprobs(hidden_MH, weight_VH, token_M, temperature, bias_V, width)
    assert_same(found, expected, 1e-10)
    inputs = hidden_MH, weight_VH, bias_V
    assert_same(gradients(found[0], *inputs), gradients(expected[0], *inputs), 1e-10)


@pytest.mark.parametrize("token", [0, 2, 3, 9])  # slices of 3 over V = 10: first, its last, the next, the short last
def test_a_token_is_found_in_whichever_slice_it_lies(token: int) -> None:
    hidden_MH, weight_VH, _, bias_V = case(2, 4, 10)
    token_M = torch.tensor([token, token])
    expected, _ = dense_token_logprobs(hidden_MH, weight_VH, token_M, 1.0, bias_V)
    found, _ = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 1.0, bias_V, 3)
    assert_same(found, expected, 1e-12)
    assert_same(gradients(found, hidden_MH, weight_VH), gradients(expected, hidden_MH, weight_VH), 1e-12)


def test_a_token_outside_the_vocabulary_is_never_taken_for_another() -> None:
    hidden_MH, weight_VH, _, _ = case(3, 4, 10)
    logp_M, _ = sliced_token_logprobs(hidden_MH, weight_VH, torch.tensor([-1, 10, 4]), 1.0, None, 3)
    assert logp_M.isnan().tolist() == [True, True, False]


@pytest.mark.parametrize(("body", "head"), [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16")])
def test_bf16_inputs_agree_with_the_dense_way_on_the_cast_inputs(body: str, head: str) -> None:
    hidden_MH, weight_VH, token_M, bias_V = case(7, 16, 50, torch.float32)
    low = [x.detach().to(getattr(torch, t)) for x, t in ((hidden_MH, body), (weight_VH, head), (bias_V, head))]
    cast = [x.float().requires_grad_() for x in low]
    for x in low:
        x.requires_grad_()
    expected = dense_token_logprobs(cast[0], cast[1], token_M, 0.7, cast[2])
    found = sliced_token_logprobs(low[0], low[1], token_M, 0.7, low[2], 16)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert_same(found, expected, 1e-5)
    for mine, theirs, x in zip(gradients(found[0], *low), gradients(expected[0], *cast), low, strict=True):
        assert mine.dtype == x.dtype
        # rounded once, at the end: half a unit in the last of bf16's 8 bits
        assert_same(mine.float(), theirs, 2**-8 if x.dtype == torch.bfloat16 else 1e-5)


def test_a_bf16_head_is_cast_slice_by_slice() -> None:
    hidden_MH, weight_VH, token_M, _ = case(3, 8, 4096, torch.bfloat16, bias=False)
    with Largest(torch.float32) as largest:
        logp_M, _ = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 1.0, None, 512)
        gradients(logp_M, hidden_MH, weight_VH)
    assert largest.elements == 512 * 8


@pytest.mark.parametrize("scale", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_of_ten_thousand_stay_finite_and_right(scale: float, dtype: torch.dtype) -> None:
    # hidden is a constant 1, so that the weights are the logits and exact in fp32
    logits_V = torch.tensor([0.0, 0.25, 1.0, 1.0, 0.5, 0.75, 0.99951171875]) * scale
    hidden_MH = torch.ones(7, 1, dtype=dtype, requires_grad=True)
    weight_VH = logits_V[:, None].to(dtype).requires_grad_()
    token_M = torch.arange(7)
    exact = [x.detach().double().requires_grad_() for x in (hidden_MH, weight_VH)]
    expected = gradients(dense_token_logprobs(*exact, token_M, 1.0)[0], *exact)
    for width in (1, 2, 3, 7):
        logp_M, entropy_M = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 1.0, None, width)
        exact_V = logits_V.double().log_softmax(0)
        assert_same(logp_M.double(), exact_V, 1e-6)
        assert_same(entropy_M.double(), (-exact_V.exp() * exact_V).sum().expand(7), 1e-6)
        found = gradients(logp_M, hidden_MH, weight_VH)
        assert_same(found[0].double(), expected[0], 1e-6 * abs(scale))  # a sum of numbers of that size
        assert_same(found[1].double(), expected[1], 1e-6)


@pytest.mark.parametrize("shift", [8192.0, -8192.0])
def test_a_common_shift_of_the_logits_costs_no_digits(shift: float) -> None:
    # it changes no probability; quarters up to 8192 are exact in fp32
    hidden_MH, token_M = torch.ones(6, 1), torch.arange(6)
    weight_VH = torch.tensor([0.0, -0.25, 3.5, -6.0, 1.25, 0.5])[:, None]
    for value, shifted in zip(
        sliced_token_logprobs(hidden_MH, weight_VH, token_M, 1.0, None, 4),
        sliced_token_logprobs(hidden_MH, weight_VH, token_M, 1.0, torch.full((6,), shift), 4),
        strict=True,
    ):
        assert torch.equal(value, shifted)


def test_no_tokens_give_no_values_and_zero_gradients() -> None:
    for width in (3, 10):
        hidden_MH, weight_VH, token_M, bias_V = case(0, 4, 10)
        logp_M, entropy_M = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V, width)
        assert logp_M.shape == entropy_M.shape == (0,)
        logp_M.sum().backward()
        assert hidden_MH.grad.shape == (0, 4)
        assert torch.equal(weight_VH.grad, torch.zeros(10, 4, dtype=torch.float64))
        assert torch.equal(bias_V.grad, torch.zeros(10, dtype=torch.float64))


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_a_frozen_input_gets_no_gradient_and_costs_no_product(frozen: int) -> None:
    hidden_MH, weight_VH, token_M, bias_V = case(5, 4, 11)
    inputs = [hidden_MH, weight_VH, bias_V]
    expected = gradients(dense_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V)[0], *inputs)
    inputs[frozen].requires_grad_(False)
    with Largest() as all_three:
        logp_M, _ = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V, 4)
        before = all_three.calls["mm"], all_three.calls["addmm"], all_three.calls["addmm_"], all_three.calls["mv"]
        logp_M.backward(torch.linspace(-1, 2, 5, dtype=torch.float64))
    after = all_three.calls["mm"], all_three.calls["addmm"], all_three.calls["addmm_"], all_three.calls["mv"]
    for position, (x, gradient) in enumerate(zip(inputs, expected, strict=True)):
        if position == frozen:
            assert x.grad is None
        else:
            assert_same(x.grad, gradient, 1e-12)
    # three slices: each one product for its logits (addmm, for the bias) and one for each gradient that is wanted
    mm, addmm, addmm_, mv = (b - a for a, b in zip(before, after, strict=True))
    assert (addmm, addmm_, mm, mv) == (3, 3 * (frozen != 0), 3 * (frozen != 1), 3 * (frozen != 2))


@pytest.mark.parametrize("sliced", [True, False])
def test_a_tied_head_adds_its_gradient_to_that_of_the_embedding(sliced: bool) -> None:
    _, weight_VH, token_M, _ = case(5, 4, 11)
    tied = torch.nn.Parameter(weight_VH.detach().clone())
    ids_M = torch.tensor([3, 3, 0, 10, 7])
    hidden_MH = torch.tanh(torch.nn.functional.embedding(ids_M, tied))
    ways = {True: lambda h: sliced_token_logprobs(h, tied, token_M, 0.7, None, 4)[0]}
    ways[False] = lambda h: token_logprobs(h, tied, token_M, 0.7)[0]
    (found,) = gradients(ways[sliced](hidden_MH), tied)
    # independent statement: two parameters of equal value, their gradients added
    apart = [weight_VH.detach().clone().requires_grad_() for _ in range(2)]
    logits_MV = torch.tanh(apart[0][ids_M]) @ apart[1].T / 0.7
    expected = sum(gradients(logits_MV.log_softmax(1)[torch.arange(5), token_M], *apart))
    assert_same(found, expected, 1e-12)


def test_zero3_may_empty_the_head_between_forward_and_backward() -> None:
    hidden_MH, weight_VH, token_M, _ = case(5, 4, 11)
    expected = gradients(dense_token_logprobs(hidden_MH, weight_VH, token_M, 0.7)[0], hidden_MH, weight_VH)
    memory = weight_VH.detach().numpy().copy()
    gathered = weakref.ref(memory)
    head = torch.nn.Parameter(torch.from_numpy(memory))
    logp_M, _ = sliced_token_logprobs(hidden_MH, head, token_M, 0.7, None, 4)
    head.data = torch.empty(0, dtype=torch.float64)
    del memory
    gc.collect()
    assert gathered() is None, "something still holds the gathered head"
    head.data = weight_VH.detach().clone()
    assert_same(gradients(logp_M, hidden_MH, head), expected, 1e-12)


def test_autocast_changes_neither_way() -> None:
    hidden_MH, weight_VH, token_M, bias_V = case(5, 16, 40, torch.float32)
    for way in (dense_token_logprobs, lambda *inputs: sliced_token_logprobs(*inputs, 16)):
        expected = way(hidden_MH, weight_VH, token_M, 0.7, bias_V)
        with torch.autocast("cpu", torch.bfloat16):
            found = way(hidden_MH, weight_VH, token_M, 0.7, bias_V)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gradients(found[0], hidden_MH, weight_VH, bias_V)
    for a, b in zip(inside, gradients(expected[0], hidden_MH, weight_VH, bias_V), strict=True):
        assert torch.equal(a, b)


def test_without_gradients_the_values_are_the_same_and_nothing_is_kept() -> None:
    hidden_MH, weight_VH, token_M, bias_V = case(5, 4, 11)
    expected = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V, 4)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            found = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V, 4)
        assert found[0].grad_fn is None
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_deterministic_algorithms_allow_it_and_repeat_it_bit_for_bit() -> None:
    hidden_MH, weight_VH, token_M, bias_V = case(5, 4, 11, torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for _ in range(2):
            logp_M, entropy_M = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V, 4)
            runs.append((logp_M, entropy_M, *gradients(logp_M, hidden_MH, weight_VH, bias_V)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_slice_is_as_wide_as_the_budget_lets_it() -> None:
    # 2^23 / 1,024 tokens; 2^23 / 3,584 hidden = 2,340.6, down to a multiple of 64; 2^23 / 10^6 is below the narrowest
    assert [slice_width(*shape) for shape in ((1024, 896), (0, 3584), (10**6, 896))] == [8192, 2304, 512]


def largest_tensor(way: Callable[..., tuple[Tensor, Tensor]]) -> int:
    """Elements of the largest tensor of a forward and backward pass: 10 M logits, a head of 80,000 weights."""
    hidden_MH, weight_VH, token_M, bias_V = case(512, 4, 20_000, torch.float32)
    with Largest() as largest:
        logp_M, _ = way(hidden_MH, weight_VH, token_M, 0.7, bias_V)
        logp_M.sum().backward()
    return largest.elements


def test_no_tensor_ever_holds_all_logits() -> None:
    assert 80_000 < largest_tensor(partial(token_logprobs, kept_mib=1)) <= logprobs.SLICE_ELEMENTS < 512 * 20_000


def test_the_measure_of_that_sees_all_logits_in_the_dense_way() -> None:
    assert largest_tensor(dense_token_logprobs) == 512 * 20_000


def test_a_small_vocabulary_takes_the_dense_way() -> None:
    hidden_MH, weight_VH, token_M, bias_V = case(64, 16, 102, torch.float32)
    found = token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V)
    for a, b in zip(found, dense_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V), strict=True):
        assert torch.equal(a, b)
    assert type(found[0].grad_fn).__name__ != "_SlicedLogProbsBackward"


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
def test_on_cuda_slices_equal_the_dense_way_and_are_deterministic() -> None:
    hidden_MH, weight_VH, token_M, bias_V = (
        x.detach().cuda().requires_grad_(x.is_floating_point()) for x in case(9, 8, 1000)
    )
    torch.use_deterministic_algorithms(True)
    try:
        expected = dense_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V)
        found = sliced_token_logprobs(hidden_MH, weight_VH, token_M, 0.7, bias_V, 300)
        assert_same(found, expected, 1e-10)
        grads = [torch.autograd.grad(way[0].sum(), (hidden_MH, weight_VH, bias_V)) for way in (found, expected)]
        assert_same(grads[0], grads[1], 1e-10)
    finally:
        torch.use_deterministic_algorithms(False)
