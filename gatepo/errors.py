"""What is shown to a user as one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A setting or an input that cannot work: names the key, the value received, the rule, and what to type instead."""


class TrainingStopped(RuntimeError):
    """A run that must not go on: names the update and what was seen."""


class Interrupted(BaseException):
    """Work was left where it could be left, because the process was asked to stop by a signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"asked to stop by signal {number}")
        self.number = number


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the known word that was probably meant; None where none is like it.

    >>> nearest("pormpts", ["prompts", "micro"])
    'prompts'
    """
    return next(iter(get_close_matches(word, list(known), n=1)), None)
