"""Rewards of a user's own, by the dotted path of a function or class.

    +reward.extra.short._target_=my_module.shortness +reward.extra.short.weight=0.1 +reward.extra.short.longest=400

where ``my_module.shortness(prompt, completion, *, longest)`` gives a number. A class is made once, with the keyword
arguments, and called with the prompt and the completion.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from gatepo.errors import UserError
from gatepo.types import Completion, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraReward:
    """One more part of the reward."""

    name: str
    weight: float
    score: Callable[[Prompt, Completion], float]

    @classmethod
    def load(cls, name: str, entry: Mapping[str, Any]) -> ExtraReward:
        """The part that ``reward.extra.NAME`` describes.

        Raises:
          UserError: its path leads nowhere, or it does not take these arguments.
        """
        options = {key: value for key, value in entry.items() if key not in ("_target_", "weight")}
        target: Callable[..., Any] = _find(name, entry["_target_"])
        try:
            score: Any = target(**options) if inspect.isclass(target) else partial(target, **options)
            inspect.signature(score).bind(None, None)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"reward.extra.{name} must take (prompt, completion) and the keywords given "
                f"({', '.join(options) or 'none'}), got {error}; change {entry['_target_']} or its keywords"
            ) from error
        return cls(name=name, weight=float(entry["weight"]), score=score)

    def __call__(self, prompt: Prompt, completion: Completion) -> float:
        """The part, before its weight.

        Raises:
          UserError: it is not a finite number.
        """
        value = self.score(prompt, completion)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"reward.extra.{self.name} must give a finite number, got {value!r}; mend its function")
        return float(value)


def _find(name: str, path: str) -> Any:
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"reward.extra.{name}._target_ must be importable, got {path} ({error}); "
            "check its name, and that its folder is in PYTHONPATH"
        ) from error
    if not callable(found):
        raise UserError(f"reward.extra.{name}._target_ must be a function or class, got {path}; name another")
    return found
