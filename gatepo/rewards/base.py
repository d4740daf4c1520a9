"""What a reward must do."""

from __future__ import annotations

from typing import Protocol

from gatepo.types import Group, Reward


class RewardFunction(Protocol):
    """Scores every completion of every group."""

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        """One reward per completion, in the groups' order."""
        ...

    def close(self) -> None:
        """Release what it holds; the function is not used again."""
        ...
