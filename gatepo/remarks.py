"""What is allowed, and seldom meant: said when a run begins. What is refused stands in :mod:`gatepo.rules`."""

from __future__ import annotations

from collections.abc import Sequence

from gatepo import of_model
from gatepo.objective.kl import INITIAL
from gatepo.schema import TrainConfig


def remarks(config: TrainConfig, words: Sequence[str] = ()) -> list[str]:
    """Say what is allowed, and seldom meant; ``words`` are those that were typed."""
    found = list(filter(None, [of_model.remark(config), _half_a_pair(config, words)]))
    if config.batch.iterations == 1:
        found.append(
            "batch.iterations=1 with one update per rollout batch: every ratio is 1, so all gates and temperatures "
            "give the same training; the paper uses batch.iterations=2"
        )
    if config.kl.reference == INITIAL and getattr(config.kl, "estimator", None) == "k1":
        found.append(
            "kl.estimator=k1 with kl.reference=initial: its gradient is that of log pi alone, whose mean is 0, so that "
            "the penalty holds nothing back; kl.estimator=k2 has the gradient of KL"
        )
    return found


def _half_a_pair(config: TrainConfig, words: Sequence[str]) -> str | None:
    """Say what the other temperature is where one alone was typed, and another one than the default."""
    from gatepo.objective.tau import PAPERS, ConstantTau  # torch, which --help and bad input need not wait for

    typed = [word.partition("=")[0] for word in words]
    alone = [key for key in ("tau.pos", "tau.neg") if key in typed]
    if len(alone) != 1 or "tau" in typed or not isinstance(config.tau, ConstantTau):
        return None
    pair, places = (config.tau.pos, config.tau.neg), (0, 1) if alone == ["tau.pos"] else (1, 0)
    (value, kept), (best, others) = ([of[place] for place in places] for of in (pair, PAPERS))
    if value == best:
        return None
    return (
        f"{alone[0]}={value:g} alone: {'tau.neg' if places[1] else 'tau.pos'} stays {kept:g}; in the ratio of the "
        f"paper's best pair it would be {value * others / best:.4g}, and tau=t1, t5, paper or t13 take both"
    )
