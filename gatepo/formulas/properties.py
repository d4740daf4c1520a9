"""The properties that the paper asks of a gate (section 4) are checked here on any gate.

    (i)   f is continuously differentiable
    (ii)  f' has its global maximum, which is 1, at r = 1
    (iii) f' decreases monotonically away from 1
    (iv)  r f'(r) -> 0 as r -> infinity

A property is *proven* where sympy proves it from the gate's formula, for every tau > 0. Else it is *checked* at one
tau, in float64: on 34,000 ratios (from 1e-9 to 1e12, in steps of 1e-4 up to 3 and of 1e-9 around 1), to these bounds:

    (i)   no jump of f' above 1e-4: every step of f' that is larger is halved until it shrinks or has no width left
    (ii)  f'(1) is 1 to 1e-9 and f' is nowhere above 1 + 1e-9
    (iii) f' rises nowhere by more than 1e-12 from one ratio to the next; it is called strict if, where f' > 1e-9, it
          is not flat over more than a twentieth of the half-width
    (iv)  between r = 1e9 and 1e12, f' falls faster than r^-1.01

A slope depends on the sign of A in gates like the clip, so each sign is examined for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatepo.objective.gates import Gate

JUMP, PEAK, RISE, FLAT, ORDER = 1e-4, 1e-9, 1e-12, 0.05, 1.01
NEGLIGIBLE = 1e-9  # a slope below it is not asked to be strictly monotone

# what breaks -> what it means in training
IN_TRAINING = {
    "i": "a token's gradient jumps when its ratio crosses this point, so that updates of equal tokens differ",
    "ii": "tokens there count more than those on the sampling policy, or the on-policy gradient is not A grad log pi",
    "iii": "tokens farther from the sampling policy count more than nearer ones",
    "iv": "tokens of extreme ratio keep their pull on the gradient, and a few of them can carry an update",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding says whether one property holds, how that is known, and what is seen where it does not."""

    number: str  # i, ii, iii or iv
    holds: bool
    strict: bool = True  # of (ii) and (iii): without a plateau
    proven: bool = False  # by sympy, for every tau; else checked at one tau
    witness: str = ""  # where it does not hold, what is seen

    def __str__(self) -> str:
        how = "proven" if self.proven else "checked"
        return how + ("" if self.holds and self.strict else ", not strict" if self.holds else ": broken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """An examination finds on all four properties of a gate at one tau and sign, and says how its slope decays."""

    findings: tuple[Finding, ...]
    decay: str  # exponential, Gaussian, polynomial of order n, compact, ..., none

    @property
    def broken(self) -> tuple[Finding, ...]:
        """List the properties that do not hold."""
        return tuple(finding for finding in self.findings if not finding.holds)


@dataclass(frozen=True, slots=True)
class _Curve:
    """f' of one gate at one tau and sign."""

    gate: Gate
    tau: Tensor
    positive: Tensor

    def __call__(self, ratio: Tensor) -> Tensor:
        return self.gate.slope(ratio, self.tau, self.positive)


def examine(gate: Gate, tau: float, positive: bool, proof: Mapping[str, Any] | None = None) -> Examination:
    """Examine all four properties and the decay class.

    Args:
      gate: any gate.
      tau: the temperature at which what is not proven is checked.
      positive: whether A > 0.
      proof: what :func:`gatepo.formulas.proofs.properties` says of its formula for this sign, if it has one.
    """
    slope = _Curve(gate, torch.tensor(tau, dtype=torch.float64), torch.tensor(positive))
    known = proof or {}
    width = min(gate.half_width(tau), 1.0)
    findings = (_continuous(slope), _peaks(slope, width), _falls(slope, width), _outruns(slope))
    decay = _decay_words(known["decay"]) if known.get("decay") else _decay(slope)
    return Examination(findings=tuple(_with_proof(f, known) for f in findings), decay=decay)


def broken_properties(gate: Gate, pos: float, neg: float) -> list[str]:
    """Give one line for each property that ``gate`` breaks at these temperatures: what is seen, and what it means."""
    lines: dict[str, list[str]] = {}
    for sign, finding in _broken(gate, pos, neg):
        words = f"property ({finding.number}) of the paper: {finding.witness}; {IN_TRAINING[finding.number]}"
        lines.setdefault(words, []).append(sign)
    return [f"where {' and '.join(signs)} the gate breaks {words}" for words, signs in lines.items()]


def broken_numbers(gate: Gate, pos: float, neg: float) -> list[str]:
    """Give the numbers of the properties that ``gate`` breaks at these temperatures: of i, ii, iii and iv."""
    found = {finding.number for _, finding in _broken(gate, pos, neg)}
    return [number for number in IN_TRAINING if number in found]


def _broken(gate: Gate, pos: float, neg: float) -> Iterator[tuple[str, Finding]]:
    for sign, tau, positive in (("A > 0", pos, True), ("A <= 0", neg, False)):
        for finding in examine(gate, tau, positive).broken:
            yield sign, finding


def _with_proof(finding: Finding, proof: Mapping[str, Any]) -> Finding:
    """Mark the finding as proven where sympy has proven the same."""
    said = proof.get(finding.number)
    if said is None or said != finding.holds:
        return finding
    witness = f"r f'(r) -> {proof['limit']} as r -> oo" if finding.number == "iv" and not said else finding.witness
    strict = True if finding.number == "iii" else finding.strict
    return Finding(number=finding.number, holds=said, strict=strict, proven=True, witness=witness)


def _ratios() -> Tensor:
    """Lay out the grid of the module's docstring, ascending, 1 among them."""
    near = torch.logspace(-9, -0.01, 500, dtype=torch.float64)
    steps = torch.arange(1, 30_001, dtype=torch.float64) / 10_000
    low = torch.logspace(-9, -4, 100, dtype=torch.float64)
    far = torch.logspace(math.log10(3), 12, 2500, dtype=torch.float64)
    return torch.cat([low, 1 - near, 1 + near, steps, far]).unique()


def _continuous(slope: _Curve) -> Finding:
    """Examine property (i) by bisection of every large step of f'."""
    ratio = _ratios()
    found = slope(ratio)
    if not torch.isfinite(found).all():
        where = ratio[~torch.isfinite(found)][0].item()
        return Finding(number="i", holds=False, witness=f"f' is not finite at r = {where:.6g}")
    left, right = ratio[:-1], ratio[1:]
    for _ in range(64):
        large = (slope(right) - slope(left)).abs() > JUMP
        if not large.any():
            return Finding(number="i", holds=True)
        left, right = left[large], right[large]
        middle = (left + right) / 2
        into_left = (slope(middle) - slope(left)).abs() >= (slope(right) - slope(middle)).abs()
        left, right = torch.where(into_left, left, middle), torch.where(into_left, middle, right)
    before, after = slope(left), slope(right)
    at = int((after - before).abs().argmax())
    seen = f"f' jumps from {before[at].item():.4g} to {after[at].item():.4g} at r = {right[at].item():.6g}"
    return Finding(number="i", holds=False, witness=seen)


def _peaks(slope: _Curve, width: float) -> Finding:
    """Examine property (ii)."""
    ratio = _ratios()
    found, at_one = slope(ratio), slope(torch.ones(1, dtype=torch.float64)).item()
    if abs(at_one - 1) > PEAK:
        return Finding(number="ii", holds=False, witness=f"f'(1) = {at_one:.6g}")
    if found.max() > 1 + PEAK:
        at = int(found.argmax())
        return Finding(number="ii", holds=False, witness=f"f' is {found[at].item():.6g} at r = {ratio[at].item():.6g}")
    elsewhere = found[(ratio - 1).abs() > FLAT * width]
    return Finding(number="ii", holds=True, strict=bool(elsewhere.max() < 1))


def _falls(slope: _Curve, width: float) -> Finding:
    """Examine property (iii), and whether it holds strictly."""
    ratio = _ratios()
    found = slope(ratio)
    away = torch.where(ratio[1:] > 1, found.diff(), -found.diff())  # what f' gains in a step away from 1
    if (away > RISE).any():
        at = int(away.argmax())
        near, far = (at, at + 1) if ratio[at + 1] > 1 else (at + 1, at)
        seen = (
            f"f' rises from {found[near].item():.6g} at r = {ratio[near].item():.6g} "
            f"to {found[far].item():.6g} at r = {ratio[far].item():.6g}"
        )
        return Finding(number="iii", holds=False, witness=seen)
    flat = (found.diff() == 0) & (found[1:] > NEGLIGIBLE)
    return Finding(number="iii", holds=True, strict=_longest(flat, ratio.diff()) <= FLAT * width)


def _longest(flag: Tensor, length: Tensor) -> float:
    """Return the length of the longest unbroken run of flags."""
    run = torch.cumsum(~flag, 0)
    sums = torch.zeros(int(run[-1]) + 1, dtype=torch.float64).index_add(0, run, length * flag)
    return sums.max().item()


def _outruns(slope: _Curve) -> Finding:
    """Examine property (iv) by the order of the tail."""
    if _order(slope, 1e9) > ORDER:
        return Finding(number="iv", holds=True)
    coefficient = 1e12 * slope(torch.tensor([1e12], dtype=torch.float64)).item()
    return Finding(number="iv", holds=False, witness=f"r f'(r) is {coefficient:.4g} at r = 1e12")


def _order(slope: _Curve, start: float) -> float:
    """Return n of a tail like r^-n, between ``start`` and 1,000 times it; infinite where f' is 0."""
    near, far = slope(torch.tensor([start, 1000 * start], dtype=torch.float64)).abs().tolist()
    if 0 in (near, far):
        return math.inf if far == 0 else -math.inf
    return -math.log(far / near) / math.log(1000)


def _decay(slope: _Curve) -> str:
    """Classify the tail from numbers."""
    order = _order(slope, 1e9)
    if order < 0.01:
        return "none"
    if order < math.inf:
        steady = abs(order / _order(slope, 1e6) - 1) < 0.01
        return f"polynomial of order {order:.3g}" if steady else "faster than any power"
    beyond = torch.logspace(-9, 12, 40_000, dtype=torch.float64)
    lost = -slope(1 + beyond).log()  # of a tail exp(-r^k) it grows like r^k
    if not ((lost > 230) & (lost < 690)).any():
        return "compact"
    orders = []
    for low, high in ((50, 150), (150, 690)):
        a, b = int((lost < low).nonzero()[-1]), int((lost < high).nonzero()[-1])
        orders.append((lost[b] / lost[a]).log().item() / (beyond[b] / beyond[a]).log().item())
    if abs(orders[0] / orders[1] - 1) > 0.05:
        return "faster than any power"
    nearest = round(orders[1])
    return _decay_words(["exponential", f"{nearest if abs(orders[1] - nearest) < 0.05 else orders[1]:.3g}"])


def _decay_words(decay: Any) -> str:
    """Call the tail what the paper calls it."""
    if isinstance(decay, str):
        return decay
    kind, order = decay
    if kind == "polynomial":
        return f"polynomial of order {order}"
    return {"1": "exponential", "2": "Gaussian"}.get(order, f"exp(-x^{order})")
