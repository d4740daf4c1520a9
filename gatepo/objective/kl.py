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

from typing import TYPE_CHECKING, Protocol

from gatepo.settings import POSITIVE, one_of, option, setting

if TYPE_CHECKING:
    from torch import Tensor

INITIAL, SAMPLING = "initial", "sampling"


class Kl(Protocol):
    """A penalty on the divergence from another policy, or none."""

    @property
    def reference(self) -> str | None:
        """Name the other policy: ``initial``, the untrained model, ``sampling``, the one that sampled, or None."""
        ...

    @property
    def coefficient(self) -> float:
        """Give the weight of the penalty in the loss."""
        ...

    def __call__(self, logp_NT: Tensor, other_NT: Tensor, mask_NT: Tensor, clamp: float) -> Tensor: ...


@option("kl", "none")
class NoKl:
    """No KL penalty: eq. 1 and 2 have none.

    >>> NoKl().coefficient
    0.0
    """

    @property
    def reference(self) -> None:
        """See :class:`Kl`."""
        return None

    @property
    def coefficient(self) -> float:
        """See :class:`Kl`."""
        return 0.0

    def __call__(self, logp_NT: Tensor, other_NT: Tensor, mask_NT: Tensor, clamp: float) -> Tensor:
        return logp_NT.new_zeros(logp_NT.shape)


@option("kl", "fixed")
class KlPenalty:
    """coefficient x estimate of KL, per token, to be added to the loss; the defaults are GRPO's (arXiv:2402.03300).

    With ``reference="initial"`` it is KL(pi_theta || pi_ref), as in GRPO's eq. 4. With ``"sampling"`` it is
    KL(pi_old || pi_theta), as in TRPO and PPO's penalty (arXiv:1707.06347, eq. 8); its expectation is over the very
    policy that sampled.

    >>> logp, other = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -1.0]])
    >>> KlPenalty(estimator="k2")(logp, other, torch.ones(1, 2).bool(), clamp=20.0)  # x^2 / 2
    tensor([[0.0000, 0.5000]])
    """

    reference: str = setting(
        "The other policy: untrained, or the one that sampled.", default=INITIAL, rule=one_of(INITIAL, SAMPLING)
    )
    estimator: str = setting("KL is estimated by k1, k2 or k3.", default="k3", rule=one_of("k1", "k2", "k3"))
    coefficient: float = setting(
        "beta, the penalty's weight in the loss.", default=0.04, rule=POSITIVE, remedy="kl=none has no penalty"
    )

    def __call__(self, logp_NT: Tensor, other_NT: Tensor, mask_NT: Tensor, clamp: float) -> Tensor:
        """Estimate KL per token, nats, 0 outside the mask.

        Args:
          logp_NT: log pi_theta, nats; the gradient flows through it.
          other_NT: the reference's log-probability, nats.
          mask_NT: True on completion tokens.
          clamp: bound of |x|, nats, so that k3 stays finite.
        """
        x_NT = (other_NT - logp_NT) if self.reference == INITIAL else (logp_NT - other_NT)
        x_NT = x_NT.masked_fill(~mask_NT, 0.0).clamp(-clamp, clamp)
        if self.estimator == "k1":
            return -x_NT
        if self.estimator == "k2":
            return x_NT**2 / 2
        return x_NT.expm1() - x_NT
