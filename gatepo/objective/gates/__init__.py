"""Gates: what replaces the hard clip of the importance ratio.

A gate is a function f of the ratio r. Token t of completion i gets the gradient

    A_i r f'(r) grad log pi(o_it)          (eq. 4)

so only the slope f' acts in training; the value f is what the logged loss is made of. Every gate here gives both in
closed form, with d = r - 1:

    gate       value f(r)                              slope f'(r)                 source
    sigmoid    s(tau d) 4 / tau                        4 s(tau d) s(-tau d)        eq. 3, 5
    erf        1 + sqrt(pi/2)/tau erf(tau d/sqrt 2)    exp(-tau^2 d^2 / 2)         eq. 6
    arctan     1 + arctan(tau d) / tau                 1 / (1 + tau^2 d^2)         eq. 7
    softsign   1 + d / sqrt(1 + tau^2 d^2)             (1 + tau^2 d^2)^(-3/2)      eq. 8
    clip       min(r, 1+eps_high), max(r, 1-eps_low)   1 inside, 0 outside         eq. 1
    none       r                                       1                           importance sampling

The peers' gates, whose slope is best read off the coefficient c = r f'(r):

    dual_clip  clip, and A <= 0: min(., c)             0 above c too               Ye et al. 2019
    cispo      c = min(r, 1+eps_high)                  min(1, (1+eps_high) / r)    MiniMax-M1
    ce_gppo    outside the clip c = beta (1 +- eps)    beta (1 +- eps) / r         Su et al. 2025
    aspo       A > 0: c = min(1/r, c_max) within eps   c / r                       Wang et al. 2025
    gamma      c = r^k exp(lambda (1 - r))             c / r                       VESPO

A new gate is a class in one of these files, made an option by ``@option("gate", NAME)``; nothing else names it.
"""

from __future__ import annotations

from typing import Any

from gatepo.objective.gates.base import Bounds, Clipping, Formula, Formulated, Gate
from gatepo.objective.gates.paper import Arctan, Clip, Erf, NoGate, Sigmoid, Softsign
from gatepo.objective.gates.peers import Aspo, CeGppo, Cispo, DualClip, Gamma
from gatepo.settings import options

__all__ = [
    "Arctan",
    "Aspo",
    "Bounds",
    "CeGppo",
    "Cispo",
    "Clip",
    "Clipping",
    "DualClip",
    "Erf",
    "Formula",
    "Formulated",
    "Gamma",
    "Gate",
    "NoGate",
    "Sigmoid",
    "Softsign",
    "get",
    "names",
]
_BUILT_IN = dict(options("gate"))  # before any other room adds one


def names() -> list[str]:
    """List the names that :func:`get` knows, in the order of the table above.

    >>> names()[:5]
    ['sigmoid', 'erf', 'arctan', 'softsign', 'clip']
    """
    return list(_BUILT_IN)


def get(name: str, **settings: Any) -> Gate:
    """Make the gate called ``name``.

    Args:
      name: one of :func:`names`.
      settings: the gate's own, such as ``eps_low`` and ``eps_high`` of ``clip``; each has a default.
    Raises:
      ValueError: ``name`` is not one of :func:`names`, or a setting breaks its rule.
      TypeError: the gate has no such setting.

    >>> get("clip", eps_high=0.28)
    Clip(eps_low=0.2, eps_high=0.28)
    """
    if name not in _BUILT_IN:
        raise ValueError(f"gate must be one of {', '.join(names())}, got {name!r}")
    gate: Gate = _BUILT_IN[name](**settings)
    return gate
