"""r = r_answer + r_format (eq. 9), with a weight on each part."""

from __future__ import annotations

from gatepo.rewards.numbers import settle
from gatepo.rewards.tags import answer_text, format_reward
from gatepo.rewards.verifier import MathVerifier, Verdict
from gatepo.types import Group, Reward


class AnswerAndFormat:
    """Scores completions (eq. 9-11).

    Args:
      answer_weight: of r_answer, 1 in the paper.
      format_weight: of r_format, 1 in the paper.
      deadline: seconds for one answer that math-verify must judge.
    """

    def __init__(self, *, answer_weight: float, format_weight: float, deadline: float) -> None:
        self._weights = {"answer": answer_weight, "format": format_weight}
        self._verifier = MathVerifier(deadline)

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        """One reward per completion, in the groups' order."""
        return [[self.score(c.text, group.prompt.answer) for c in group.completions] for group in groups]

    def score(self, completion: str, gold: str) -> Reward:
        """The reward of one completion against its gold answer."""
        right, timed_out = self._is_right(completion, gold)
        parts = {"answer": float(right), "format": format_reward(completion)}
        total = sum(self._weights[name] * value for name, value in parts.items())
        return Reward(total=total, parts=parts, timed_out=timed_out)

    def close(self) -> None:
        """Stop the worker process."""
        self._verifier.close()

    def _is_right(self, completion: str, gold: str) -> tuple[bool, bool]:
        """(r_answer of eq. 11, whether the checker ran out of time)."""
        prediction = answer_text(completion)
        if prediction is None:
            return False, False
        settled = settle(gold, prediction)
        if settled is not None:
            return settled, False
        verdict = self._verifier(gold, prediction)
        return verdict is Verdict.EQUAL, verdict is Verdict.TIMED_OUT
