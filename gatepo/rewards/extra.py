"""Rewards of a user's own, beside ours or in their place, by the dotted path of a function or class.

    +reward.extra.short._target_=my_module.shortness +reward.extra.short.weight=0.1 +reward.extra.short.longest=400

where ``my_module.shortness(prompt, completion, *, longest)`` gives a number. A class is made once, with the keyword
arguments, and called with the prompt and the completion. ``reward._target_=my_module.shortness reward.longest=400``
puts it in the place of the answer and the format altogether.
"""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gatepo.errors import UserError
from gatepo.rewards.base import RewardFunction, RewardOption
from gatepo.targets import find, path_of
from gatepo.types import Completion, Group, Prompt, Reward

SHOWN = 200  # characters of each text of a row for which a reward raised


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraReward:
    """One more part of the reward."""

    name: str
    weight: float
    score: Callable[[Prompt, Completion], float]

    @classmethod
    def load(cls, name: str, entry: Mapping[str, Any]) -> ExtraReward:
        """Import and make the part that ``reward.extra.NAME`` describes.

        Raises:
          UserError: its path leads nowhere, or it does not take these arguments.
        """
        options = {key: value for key, value in entry.items() if key not in ("_target_", "weight")}
        target: Callable[..., Any] = find(f"reward.extra.{name}._target_", entry["_target_"])
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
        """Score one completion, before the weight.

        Raises:
          UserError: the score is not a finite number.
        """
        return _asked(f"reward.extra.{self.name}", self.score, prompt, completion)


def as_option(chosen: Any) -> RewardOption:
    """Take what ``reward`` holds: an option, or a function of a user's own in its place."""
    option: RewardOption = chosen if hasattr(chosen, "make") else ScoreOfEach(chosen)
    return option


@dataclass(frozen=True, slots=True)
class ScoreOfEach:
    """A function of a user's own as an option."""

    score: Callable[[Prompt, Completion], float]

    def make(self) -> RewardFunction:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return EachCompletion(self.score)

    def identity(self) -> dict[str, str]:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return {"reward": path_of(self.score)}

    def answer(self, text: str) -> None:
        """See :class:`~gatepo.rewards.base.RewardOption`; such a function reads no answer."""


class EachCompletion:
    """A reward function of a user's own in the place of ours: ``score(prompt, completion)`` gives a number.

    Args:
      score: gets the :class:`gatepo.types.Prompt`, whose ``columns`` are the row's further fields, and the
        :class:`gatepo.types.Completion`.
    """

    def __init__(self, score: Callable[[Prompt, Completion], float]) -> None:
        self._score = score

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        """See :class:`RewardFunction`."""
        return [[self._reward(group.prompt, one) for one in group.completions] for group in groups]

    def close(self) -> None:
        """See :class:`RewardFunction`; there is nothing to release."""

    def _reward(self, prompt: Prompt, completion: Completion) -> Reward:
        value = _asked("reward", self._score, prompt, completion)
        return Reward(total=value, parts={"score": value})


def _asked(key: str, score: Callable[[Prompt, Completion], float], prompt: Prompt, completion: Completion) -> float:
    """Ask a reward of a user's own.

    Raises:
      UserError: it raises, which its own traceback shows, or does not give a finite number.
    """
    try:
        value = score(prompt, completion)
    except Exception as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this function
        trace = "".join(traceback.format_exception(error)).strip()
        raise UserError(
            f"{key} must give a number, and raised {type(error).__name__} for a row of {prompt.source}: question "
            f"{prompt.question[:SHOWN]!r}, gold answer {prompt.answer[:SHOWN]!r}, completion "
            f"{completion.text[:SHOWN]!r}\n{trace}"
        ) from None
    return finite(key, value)


def finite(key: str, value: object) -> float:
    """Take what a reward of a user's own gave.

    Raises:
      UserError: it is not a finite number.
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key} must give a finite number, got {value!r}; correct its function")
    return float(value)
