"""The books of EUR: what each cause takes from 1.

A ratio differs from 1 because of rounding (the same weights give other log-probabilities in another batch), because
the sampler that it divides by computes otherwise, because the completions were sampled from older weights (staleness),
and because the policy moves while it trains on them (drift). Only the last two say anything about the policy.
"""

from __future__ import annotations


def eur_ledger(*, taken: float, before: float, rounding: float, by_sampler: bool) -> dict[str, float]:
    """Share 1 - EUR out over its causes.

    The causes are charged in the order of time: what rounding alone takes, as measured with unchanged weights, though
    never more than was taken; then what was gone in the first iteration, which no update of this rollout batch has
    touched; drift has the rest. It is negative where a batch drifts back.

    Args:
      taken: 1 - EUR of this update (eq. 12).
      before: 1 - EUR of the first iteration on the same rollout batch.
      rounding: 1 - EUR of unchanged weights, trainer against trainer in other batches. Kernels that do not care for the
        batch, as on a CPU, have none; what rounding changes with the weights then counts as drift.
      by_sampler: whether the ratio divides by the sampler's log-probabilities; else by the trainer's own, which the
        first iteration equals unless it is stale.
    Returns: ``eur/ledger/{rounding,sampler,staleness,drift}``; they add up to ``taken``.

    >>> books = eur_ledger(taken=0.25, before=0.125, rounding=0.0625, by_sampler=True)
    >>> {key.removeprefix("eur/ledger/"): part for key, part in books.items()}
    {'rounding': 0.0625, 'sampler': 0.0625, 'staleness': 0.0, 'drift': 0.125}
    """
    rounded = max(0.0, min(rounding, before if by_sampler else taken - before))
    sampler = before - rounded if by_sampler else 0.0
    staleness = 0.0 if by_sampler else before
    causes = {"rounding": rounded, "sampler": sampler, "staleness": staleness}
    causes["drift"] = taken - sum(causes.values())
    return {f"eur/ledger/{cause}": part for cause, part in causes.items()}
