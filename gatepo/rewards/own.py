"""Asks a reward function of a user's own; what it raises is shown with its own traceback, and with the row."""

from __future__ import annotations

import asyncio
import inspect
import math
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from gatepo.errors import UserError
from gatepo.rewards.styles import TRL, Pair, Style, bound
from gatepo.types import Completion, Group, Prompt

SHOWN = 200  # characters of each text of a row for which a reward raised
_NOT_THEIRS = ("gatepo", "asyncio", "concurrent")  # whose frames do not begin a user's traceback
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A reward function with its key, and how it is asked."""

    key: str
    function: Callable[..., Any]
    style: Style

    def __call__(self, groups: Sequence[Group]) -> list[list[float | None]]:
        """Give a number for each completion of each group; None where the function says that it does not apply.

        Raises:
          UserError: the function raises, or gives something else.
        """
        shares = list(self.style.share(pairs_of(groups)))
        said = zip(shares, self._said(shares), strict=True)
        numbers = iter([number for share, one in said for number in self._read(share, one)])
        return [[next(numbers) for _ in group.completions] for group in groups]

    def _said(self, shares: Sequence[Sequence[Pair]]) -> list[Any]:
        """Ask about each share; what is to be awaited is awaited together."""
        found = [self._asked(share) for share in shares]
        if not any(inspect.isawaitable(one) for one in found):
            return found
        found = awaited(found)
        for share, one in zip(shares, found, strict=True):
            if isinstance(one, Exception):
                raise self._raised(one, share) from None
        return found

    def _asked(self, share: Sequence[Pair]) -> Any:
        asked = bound(self.key, self.function, self.style, share)
        try:
            return asked()
        except Exception as error:
            raise self._raised(error, share) from None

    def _raised(self, error: Exception, share: Sequence[Pair]) -> UserError:
        as_text = self.style is TRL and isinstance(error, TypeError) and not share[0][0].chat
        hint = "; data.chat=true gives prompts and completions as messages" if as_text else ""
        return raised(self.key, error, smallest(share, self._raises), hint)

    def _raises(self, share: Sequence[Pair]) -> bool:
        try:
            said = bound(self.key, self.function, self.style, share)()
            return isinstance(awaited([said])[0], Exception) if inspect.isawaitable(said) else False
        except Exception:
            return True

    def _read(self, share: Sequence[Pair], said: Any) -> list[float | None]:
        if not self.style.many:
            return [None if said is None else self._number(said, share[0])]
        try:
            numbers = list(said)
        except TypeError:
            numbers = []
        if len(numbers) != len(share):
            got = f"{len(numbers)} of them" if numbers else repr(said)
            raise UserError(
                f"{self.key} must give a list of {len(share)} numbers, one for each completion, got {got}; correct its "
                "function"
            )
        return [None if one is None else self._number(one, pair) for one, pair in zip(numbers, share, strict=True)]

    def _number(self, value: Any, pair: Pair) -> float:
        """Take what a function gave for one completion: a number of Python, NumPy or torch."""
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if not math.isfinite(number):
            words = f"{self.key} must give a finite number, got {value!r} for a row of {row_words(*pair)}"
            raise UserError(f"{words}; correct its function")
        return number


def awaited(found: Sequence[Any]) -> list[Any]:
    """Await all at once, in a thread of its own: the caller's may have a loop that runs. Errors are results."""

    async def together() -> list[Any]:
        return await asyncio.gather(*(_one(value) for value in found), return_exceptions=True)

    async def _one(value: Awaitable[Any] | Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(together())).result()


def smallest(share: Sequence[T], raises: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Look for the one for which a function of many raises, by halves; all, where neither half raises by itself."""
    while len(share) > 1:
        half = len(share) // 2
        part = next((part for part in (share[:half], share[half:]) if raises(part)), None)
        if part is None:
            break
        share = part
    return share


def raised(key: str, error: Exception, share: Sequence[Pair], hint: str = "") -> UserError:
    """Say what a reward of a user's own raised, for which row, what may help, and where in the user's code."""
    rows = f"{len(share)} completions, the first" if len(share) > 1 else "a row"
    return UserError(
        f"{key} must give a number, and raised {type(error).__name__} for {rows} of {row_words(*share[0])}{hint}\n"
        f"{own_trace(error)}"
    )


def row_words(prompt: Prompt, completion: Completion) -> str:
    """Name a row with its completion, each text shortly."""
    return (
        f"{prompt.source}: question {prompt.question[:SHOWN]!r}, gold answer {prompt.answer[:SHOWN]!r}, completion "
        f"{completion.text[:SHOWN]!r}"
    )


def own_trace(error: Exception) -> str:
    """Write a traceback that begins in the user's code."""
    first = next(_theirs(error.__traceback__), error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, first)).strip()


def _theirs(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _NOT_THEIRS:
            yield trace
        trace = trace.tb_next


def pairs_of(groups: Sequence[Group]) -> list[tuple[Prompt, Completion]]:
    """Give the completions of groups, each with its prompt."""
    return [(group.prompt, one) for group in groups for one in group.completions]
