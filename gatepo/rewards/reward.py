"""r = r_answer + r_format (eq. 9), with a weight on each part, and parts of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatepo.rewards.extra import ExtraReward
from gatepo.rewards.tags import answer_text, format_reward
from gatepo.rewards.verifier import Reason, Verdict, Verifier
from gatepo.types import Completion, Group, Prompt, Reward


class AnswerAndFormat:
    """Scores completions (eq. 9-11).

    Args:
      answer_weight: of r_answer, 1 in the paper.
      format_weight: of r_format, 1 in the paper.
      verifier: compares answers.
      extract: where a completion's answer is read, the paper's tags unless said; None where it has none.
      score_format: r_format of a completion's text, eq. 10 unless said.
      extra: further parts, each with its own weight.
    """

    def __init__(
        self,
        *,
        answer_weight: float,
        format_weight: float,
        verifier: Verifier,
        extract: Callable[[str], str | None] = answer_text,
        score_format: Callable[[str], float] = format_reward,
        extra: Sequence[ExtraReward] = (),
    ) -> None:
        self._weights = {"answer": answer_weight, "format": format_weight} | {e.name: e.weight for e in extra}
        self._extract, self._score_format, self._verifier, self._extra = extract, score_format, verifier, extra

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        """One reward per completion, in the groups' order. All answers are checked at once."""
        pairs = [(group.prompt.answer, self._extract(c.text)) for group in groups for c in group.completions]
        verdicts = iter(self._verifier.verify_many(pairs))
        return [[self._reward(group.prompt, c, next(verdicts)) for c in group.completions] for group in groups]

    def close(self) -> None:
        """Stop the worker processes."""
        self._verifier.close()

    def _reward(self, prompt: Prompt, completion: Completion, verdict: Verdict) -> Reward:
        parts = {"answer": float(verdict.equal), "format": self._score_format(completion.text)}
        parts |= {extra.name: extra(prompt, completion) for extra in self._extra}
        return Reward(
            total=sum(self._weights[name] * value for name, value in parts.items()),
            parts=parts,
            timed_out=verdict.reason is Reason.TIMED_OUT,
            killed=verdict.reason in (Reason.TIMED_OUT, Reason.KILLED),
        )
