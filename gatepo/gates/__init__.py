"""The gates, as other trainers import them, and the command that shows them as a table and as the paper's Figure 1.

>>> from gatepo import gates
>>> gates.Clip(eps_low=0.2, eps_high=0.28).half_width(tau=10.0)
0.28
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatepo.objective.gates import *  # noqa: F403
    from gatepo.objective.gates import __all__ as __all__


def __getattr__(name: str) -> Any:
    return getattr(import_module("gatepo.objective.gates"), name)


def __dir__() -> list[str]:
    return sorted(import_module("gatepo.objective.gates").__all__)
