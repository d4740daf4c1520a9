"""What a reward must do."""

from __future__ import annotations

from typing import Protocol

from gatepo.types import Group, Reward


class RewardFunction(Protocol):
    """A reward function scores every completion of every group."""

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        """Give one reward per completion, in the groups' order."""
        ...

    def close(self) -> None:
        """Release what it holds; the function is not used again."""
        ...


class RewardOption(Protocol):
    """What is chosen by ``reward=NAME``. One from outside may leave out all but ``make``."""

    @property
    def reads_columns(self) -> bool:
        """Say whether it reads more of a row than question and answer, so that a run rests on all of it."""
        ...

    @property
    def measures(self) -> str:
        """Say what the mean of ``Reward.score`` is: accuracy (:mod:`gatepo.measures`), or the mean of which reward."""
        ...

    def make(self) -> RewardFunction:
        """Make the reward function, with the processes that it needs."""
        ...

    def identity(self) -> dict[str, str]:
        """Say which of its settings decide a grade; evaluations that agree on them can share a folder."""
        ...

    def answer(self, text: str) -> str | None:
        """Read the answer in a completion's text, as an evaluation shows it; None where there is none."""
        ...
