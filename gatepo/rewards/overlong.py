"""A penalty on completions that come close to the length limit, to be added to the reward."""

from __future__ import annotations

from dataclasses import dataclass

from gatepo.types import Completion, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlongPenalty:
    """0 up to (1 - share) limit tokens, from there linearly down to -1 at the limit.

    Args:
      limit: L_max, the longest completion allowed, tokens.
      share: L_cache / L_max, in (0, 1].
    Source: DAPO, arXiv:2503.14476, eq. 13; its own run has limit 20,480 and share 0.2.
    """

    limit: int
    share: float = 0.2

    def __call__(self, prompt: Prompt, completion: Completion) -> float:
        """Score one completion, in [-1, 0]."""
        cache = self.share * self.limit
        return -min(max((len(completion.token_ids) - (self.limit - cache)) / cache, 0.0), 1.0)
