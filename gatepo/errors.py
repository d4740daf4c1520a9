"""What is shown to a user as one line, without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """A setting or an input that cannot work: names the key, the value received, the rule, and what to type instead."""


class TrainingStopped(RuntimeError):
    """A run that must not go on: names the update and what was seen."""


class Interrupted(BaseException):
    """Work was left where it could be left, because the process was asked to stop by a signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"asked to stop by signal {number}")
        self.number = number
