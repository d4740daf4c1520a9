"""Gates from outside the package: ``gate._target_=my.module.MyGate``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gatepo.errors import UserError
from gatepo.objective.gates import Gate

METHODS = ("value", "slope", "half_width")


def gate(target: str, arguments: Mapping[str, Any], taus: Sequence[float]) -> Gate:
    """An instance of the class ``target``, made with ``arguments``.

    Raises:
      UserError: the class cannot be imported, does not take the arguments, has not the methods of a gate, or its slope
        is not the derivative of its value at one of ``taus``.
    """
    found = _class(target)
    try:
        made = found(**arguments)
    except TypeError as error:
        raise UserError(
            f"gate.arguments must be what {target} takes, got {dict(arguments)} ({error}); "
            "write +gate.arguments.NAME=VALUE"
        ) from error
    missing = [name for name in METHODS if not callable(getattr(made, name, None))]
    if missing:
        raise UserError(
            f"gate._target_ must have the methods {', '.join(METHODS)}, got {target} without {', '.join(missing)}; "
            "see Gate in gatepo/objective/gates.py"
        )
    for tau in taus:
        for positive in (True, False):
            _require_derivative(made, target, tau, positive)
    return made


def _class(target: str) -> Any:
    module, _, name = target.rpartition(".")
    if not module:
        raise UserError(f"gate._target_ must be module.Class, got {target}; e.g. my.module.MyGate")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise UserError(
            f"gate._target_ must be a class that can be imported, got {target} ({error}); "
            "put the folder of its module on PYTHONPATH"
        ) from error
    if found is None:
        raise UserError(f"gate._target_ must be a class in its module, got {target}; {module} has no {name}")
    return found


def _require_derivative(gate: Gate, target: str, tau: float, positive: bool) -> None:
    """Autograd of the value, which trains, is the slope, which is logged; 1,999 ratios up to 20, off round numbers."""
    tau_1, sign = torch.tensor([tau], dtype=torch.float64), torch.tensor([positive])
    ratio = (torch.arange(1, 2000, dtype=torch.float64) / 100.03).requires_grad_()
    value = gate.value(ratio, tau_1, sign)
    slope = gate.slope(ratio.detach(), tau_1, sign)
    if value.shape != ratio.shape or slope.shape != ratio.shape:
        raise UserError(
            f"gate._target_ must give value and slope in the ratio's shape {tuple(ratio.shape)}, got "
            f"{tuple(value.shape)} and {tuple(slope.shape)} from {target}; tau and positive broadcast to the ratio"
        )
    (gradient,) = torch.autograd.grad(value.sum(), ratio)
    wrong = ~((gradient - slope).abs() <= 1e-6 * slope.abs().clamp(min=1))
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise UserError(
            f"gate._target_ must have a slope that is the derivative of its value, got {slope[at].item():.6g} and "
            f"{gradient[at].item():.6g} at r = {ratio[at].item():.6g}, tau = {tau:g} from {target}; mend one of them"
        )
