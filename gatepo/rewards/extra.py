"""Rewards of a user's own, beside ours or in their place, by the dotted path of a function or class.

    +reward.extra.short._target_=my_module.shortness +reward.extra.short.weight=0.1 +reward.extra.short.longest=400

where ``my_module.shortness(prompt, completion, *, longest)`` gives a number. A class is made once, with the keyword
arguments, and called as a function is. ``reward._target_=my_module.shortness reward.longest=400`` puts it in the place
of the answer and the format altogether. :mod:`gatepo.rewards.styles` has the other ways in which functions are asked.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gatepo.errors import UserError
from gatepo.rewards.base import RewardFunction, RewardOption
from gatepo.rewards.own import SHOWN, OwnFunction, own_trace, pairs_of, raised, smallest
from gatepo.rewards.styles import OURS, style_of
from gatepo.settings import options
from gatepo.targets import find, given_to, path_of
from gatepo.types import Group, Reward

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraReward:
    """One more part of the reward."""

    name: str
    weight: float
    score: OwnFunction

    @classmethod
    def load(cls, name: str, entry: Mapping[str, Any]) -> ExtraReward:
        """Import and make the part that ``reward.extra.NAME`` describes.

        Raises:
          UserError: its path leads nowhere, or it does not take these arguments.
        """
        key, own = f"reward.extra.{name}", {k: v for k, v in entry.items() if k not in ("_target_", "weight")}
        target: Callable[..., Any] = find(f"{key}._target_", entry["_target_"])
        try:
            made: Any = target(**own) if inspect.isclass(target) else partial(target, **own)
        except (TypeError, ValueError) as error:
            raise _takes_other(key, entry["_target_"], own, error) from error
        return cls(name=name, weight=float(entry.get("weight", 1.0)), score=own_function(key, made, entry["_target_"]))

    def __call__(self, groups: list[Group]) -> list[list[float | None]]:
        """Score all completions, before the weight; None where this part does not apply.

        Raises:
          UserError: a score is not a finite number, or the function raises.
        """
        return self.score(groups)


def own_function(key: str, function: Callable[..., Any], path: str) -> OwnFunction:
    """Find out how a function is asked.

    Raises:
      UserError: it takes nothing of what there is.
    """
    try:
        style = style_of(function)
    except (TypeError, ValueError) as error:
        settings = function.keywords if isinstance(function, partial) else {}
        raise _takes_other(key, path, settings, error) from error
    if style is not OURS:
        log.info("%s=%s is asked as %s", key, path, style.name)
    return OwnFunction(key, function, style)


def _takes_other(key: str, path: str, keywords: Mapping[str, Any], error: Exception) -> UserError:
    given = ", ".join(keywords) or "none"
    return UserError(
        f"{key} must take (prompt, completion) and the keywords given ({given}), or be written for TRL or verifiers, "
        f"got {error}; change {path} or its keywords"
    )


def as_option(chosen: Any) -> RewardOption:
    """Take what ``reward`` holds: an option, or a function of a user's own in its place."""
    if not hasattr(chosen, "make"):
        return ScoreOfEach(chosen)
    option: RewardOption = chosen if type(chosen) in options("reward").values() else OptionFromOutside(chosen)
    return option


def _identity(chosen: Any) -> dict[str, str]:
    """Give the path of what stands in the place of ours, with its settings."""
    return {"reward": path_of(chosen)} | {f"reward.{name}": str(value) for name, value in given_to(chosen).items()}


@dataclass(frozen=True, slots=True)
class ScoreOfEach:
    """A function of a user's own as an option."""

    score: Callable[..., Any]
    reads_columns = True

    @property
    def measures(self) -> str:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return f"mean {self._name}"

    @property
    def _name(self) -> str:
        return path_of(self.score).rpartition(".")[2]

    def make(self) -> RewardFunction:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return EachCompletion(own_function("reward", self.score, path_of(self.score)), self._name)

    def identity(self) -> dict[str, str]:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return _identity(self.score)

    def answer(self, text: str) -> None:
        """See :class:`~gatepo.rewards.base.RewardOption`; such a function reads no answer."""


class EachCompletion:
    """A reward function of a user's own in the place of ours.

    Args:
      score: asks it.
      name: of its part of the reward in the metrics.
    """

    def __init__(self, score: OwnFunction, name: str) -> None:
        self._score, self._name = score, name

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        """See :class:`RewardFunction`."""
        return [
            [self._reward(group, score) for score in scores]
            for group, scores in zip(groups, self._score(groups), strict=True)
        ]

    def close(self) -> None:
        """See :class:`RewardFunction`; there is nothing to release."""

    def _reward(self, group: Group, score: float | None) -> Reward:
        if score is None:
            raise UserError(
                f"reward must give a number where it stands alone, got None for a row of {group.prompt.source}: "
                f"question {group.prompt.question[:SHOWN]!r}; put it beside ours with "
                "+reward.extra.NAME._target_=MODULE.FUNCTION in the place of reward._target_, or give 0"
            )
        return Reward(total=score, parts={self._name: score})


@dataclass(frozen=True, slots=True)
class OptionFromOutside:
    """An option class of a user's own: what it raises is shown with its own traceback."""

    chosen: Any
    reads_columns = True

    @property
    def measures(self) -> str:
        """See :class:`~gatepo.rewards.base.RewardOption`; a mean score where it says nothing."""
        own: str = getattr(self.chosen, "measures", "mean score")
        return own

    def make(self) -> RewardFunction:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        try:
            return GuardedFunction(self.chosen.make())
        except UserError:
            raise
        except Exception as error:
            path = path_of(self.chosen)
            words = f"reward must make its function, and {path}.make raised {type(error).__name__}"
            raise UserError(f"{words}\n{own_trace(error)}") from None

    def identity(self) -> dict[str, str]:
        """See :class:`~gatepo.rewards.base.RewardOption`; the class's path where it says nothing."""
        own: dict[str, str] = getattr(self.chosen, "identity", dict)()
        return _identity(self.chosen) | own

    def answer(self, text: str) -> str | None:
        """See :class:`~gatepo.rewards.base.RewardOption`; None where it says nothing."""
        read: Callable[[str], str | None] = getattr(self.chosen, "answer", lambda text: None)
        return read(text)


class GuardedFunction:
    """A reward function of such an option."""

    def __init__(self, function: RewardFunction) -> None:
        self._function = function

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        """See :class:`RewardFunction`."""
        try:
            return self._function(groups)
        except UserError:
            raise
        except Exception as error:
            raise raised("reward", error, pairs_of(smallest(groups, self._raises))[:1]) from None

    def close(self) -> None:
        """See :class:`RewardFunction`."""
        getattr(self._function, "close", lambda: None)()

    def _raises(self, groups: Any) -> bool:
        try:
            self._function(list(groups))
        except Exception:
            return True
        return False
