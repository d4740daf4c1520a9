"""Log-probability and entropy of chosen tokens."""

import math

import torch

from gatepo.logprobs import token_logprobs


def test_uniform_logits_worked_by_hand() -> None:
    # all logits 0 over V = 8: log-probability -ln 8, entropy ln 8
    logp, entropy = token_logprobs(torch.zeros(3, 4), torch.randn(8, 4), torch.tensor([0, 3, 7]), 1.0)
    torch.testing.assert_close(logp, torch.full((3,), -math.log(8)))
    torch.testing.assert_close(entropy, torch.full((3,), math.log(8)))


def test_agrees_with_torch_categorical_at_any_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    token, bias = torch.tensor([0, 1, 2, 3, 4]), torch.randn(5, generator=generator, dtype=torch.float64)
    for temperature in (0.3, 1.0, 2.5):
        expected = torch.distributions.Categorical(logits=(hidden @ weight.T + bias) / temperature)
        logp, entropy = token_logprobs(hidden, weight, token, temperature, bias)
        torch.testing.assert_close(logp, expected.log_prob(token))
        torch.testing.assert_close(entropy, expected.entropy())


def test_gradient_passes_a_numerical_check_and_entropy_has_none() -> None:
    hidden = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    token = torch.tensor([5, 0, 2])
    assert torch.autograd.gradcheck(lambda h, w: token_logprobs(h, w, token, 0.7)[0], (hidden, weight))
    assert not token_logprobs(hidden, weight, token, 0.7)[1].requires_grad


def test_a_bf16_body_gets_fp32_log_probabilities() -> None:
    hidden, weight = torch.randn(4, 8).bfloat16(), torch.randn(16, 8)
    logp, entropy = token_logprobs(hidden, weight, torch.arange(4), 1.0)
    assert logp.dtype == entropy.dtype == torch.float32
    exact, _ = token_logprobs(hidden.double(), weight.double(), torch.arange(4), 1.0)
    torch.testing.assert_close(logp.double(), exact, rtol=0, atol=1e-5)
