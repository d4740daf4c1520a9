"""Penalties on the divergence from another policy.

With x = log q - log p of the sampled token, p the policy that the expectation is over:

    k1 = -x            unbiased, can be negative
    k2 = x^2 / 2       biased, small variance
    k3 = e^x - 1 - x   unbiased, >= 0

Source: Schulman, *Approximating KL Divergence*, 2020.

That is about their values. In a loss the samples stay as they are, and the mean of the gradient is that of KL for k2
where p is the policy that learns ("initial"), and for k1 and k3 where it is not ("sampling"); 0 for k1 and "initial".

Axes: N completions, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

ESTIMATORS = ("k1", "k2", "k3")
REFERENCES = ("initial", "sampling")


@dataclass(frozen=True, slots=True, kw_only=True)
class KlPenalty:
    """coefficient x estimate of KL, per token, to be added to the loss.

    Args:
      reference: "initial": KL(pi_theta || pi_ref) with the untrained model, as in GRPO (arXiv:2402.03300, eq. 4).
        "sampling": KL(pi_old || pi_theta), as in TRPO and PPO's penalty (arXiv:1707.06347, eq. 8); its expectation is
        over the very policy that sampled.
      estimator: k1, k2 or k3.
      coefficient: beta, >= 0.
      clamp: bound of |x|, nats, so that k3 stays finite.
    """

    reference: str
    estimator: str
    coefficient: float
    clamp: float = 20.0

    def __call__(self, logp_NT: Tensor, other_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """The estimate per token, nats, 0 outside the mask; ``other_NT`` is the reference's log-probability."""
        x_NT = (other_NT - logp_NT) if self.reference == "initial" else (logp_NT - other_NT)
        x_NT = x_NT.masked_fill(~mask_NT, 0.0).clamp(-self.clamp, self.clamp)
        if self.estimator == "k1":
            return -x_NT
        if self.estimator == "k2":
            return x_NT**2 / 2
        return x_NT.expm1() - x_NT
