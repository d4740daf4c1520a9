"""KL penalties: their gradients and their expectations."""

import pytest
import torch
from torch import Tensor

from gatepo.objective.kl import KlPenalty


def test_which_kl_estimators_have_the_gradient_of_kl() -> None:
    """Exact expectations over 5 tokens, which do not move with the policy that learns."""
    logits, other = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits.requires_grad_()
    mask = torch.ones(1, 5, dtype=torch.bool)

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    p, q = logits.log_softmax(0), other.log_softmax(0)
    wanted = {"initial": gradient((p.exp() * (p - q)).sum()), "sampling": gradient((q.exp() * (q - p)).sum())}
    right = set()
    for reference, drawn_from in (("initial", p), ("sampling", q)):
        for estimator in ("k1", "k2", "k3"):
            penalty = KlPenalty(reference=reference, estimator=estimator, coefficient=1.0)
            found = gradient((drawn_from.detach().exp() * penalty(p[None], q[None], mask, 20.0)[0]).sum())
            if torch.allclose(found, wanted[reference]):
                right.add((reference, estimator))
            assert (found.abs().max() < 1e-12) == ((reference, estimator) == ("initial", "k1"))
    assert right == {("initial", "k2"), ("sampling", "k1"), ("sampling", "k3")}


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_estimators_agree_with_the_divergence(estimator: str) -> None:
    """KL(p || q) of two categorical distributions, by the exact expectation over p; k2 is only close to it."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.35, 0.25])
    exact = (p * (p / q).log()).sum()
    mask = torch.ones(1, 3, dtype=torch.bool)
    initial = KlPenalty(reference="initial", estimator=estimator, coefficient=1.0)
    sampling = KlPenalty(reference="sampling", estimator=estimator, coefficient=1.0)
    tolerance = {"k1": 1e-6, "k2": 2e-3, "k3": 1e-6}[estimator]
    # initial: the expectation is over the policy p, q is the reference; sampling: over pi_old = p, q is the policy
    assert (p * initial(p.log()[None], q.log()[None], mask, 20.0)).sum().item() == pytest.approx(
        exact.item(), abs=tolerance
    )
    assert (p * sampling(q.log()[None], p.log()[None], mask, 20.0)).sum().item() == pytest.approx(
        exact.item(), abs=tolerance
    )
