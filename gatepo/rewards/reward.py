"""r = r_answer + r_format (eq. 9), with a weight on each part, and parts of a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from gatepo.measures import ACCURACY
from gatepo.rewards.extra import ExtraReward
from gatepo.rewards.extraction import EXTRACTIONS
from gatepo.rewards.tags import answer_text, format_reward, strict_format_reward
from gatepo.rewards.verifier import Reason, Verdict, Verifier
from gatepo.settings import COUNT_OR_NULL, PAPER, POSITIVE, Rule, at_least, one_of, option, require, section, setting
from gatepo.types import Completion, Group, Reward

_FORMATS = {"paper": format_reward, "strict": strict_format_reward}


@section("reward.weights")
class RewardWeights:
    """What the two parts of the reward count (eq. 9)."""

    answer: float = setting("r_answer (eq. 11) counts this much.", default=1.0, rule=at_least(0), remedy=PAPER)
    format: float = setting("r_format (eq. 10) counts this much.", default=1.0, rule=at_least(0), remedy=PAPER)


@option("reward", "answer_and_format")
class AnswerAndFormat:
    """The answer is right, and the format kept (eq. 9 to 11)."""

    COMPARES_ANSWERS: ClassVar[bool] = True  # so that each row must have one
    measures: ClassVar[str] = ACCURACY
    weights: RewardWeights = setting("The two parts count so much.", default_factory=RewardWeights)
    format: str = setting(
        "r_format gives partial marks (paper, eq. 10), or is all or nothing (strict).",
        default="paper",
        rule=one_of(*_FORMATS),
        remedy="the paper gives partial marks (eq. 10)",
    )
    extraction: str = setting(
        "The answer is read in the tags, in these or else the last \\boxed (boxed), or there or at the end (auto).",
        default="tags",
        rule=one_of(*EXTRACTIONS),
        remedy="the paper reads the tags",
    )
    deadline: float = setting("One answer may take these seconds of CPU time to check.", default=2.0, rule=POSITIVE)
    workers: int | None = setting(
        "Processes that check answers, per rank; null: one per core, at most 4.", default=None, rule=COUNT_OR_NULL
    )
    memory_mib: int = setting("One of them may take this memory, MiB.", default=1024, rule=at_least(512))
    extra: dict[str, dict[str, Any]] = setting(
        "More parts, by name: _target_, weight, and own keywords.", default_factory=dict
    )

    def refuse_conflicts(self) -> None:
        """See :func:`gatepo.settings.section`."""
        for name, entry in self.extra.items():
            key = f"reward.extra.{name}"
            require(key, _FREE_NAME, name, "those two have reward.weights")
            require(f"{key}._target_", _DOTTED, entry.get("_target_"), "e.g. my_module.my_reward")
            require(f"{key}.weight", _FINITE, entry.get("weight", 1), "1 is as much as the answer")

    @property
    def reads_columns(self) -> bool:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return bool(self.extra)

    def make(self) -> AnswerAndFormatReward:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return AnswerAndFormatReward(
            answer_weight=self.weights.answer,
            format_weight=self.weights.format,
            extract=EXTRACTIONS[self.extraction],
            score_format=_FORMATS[self.format],
            verifier=Verifier(deadline=self.deadline, workers=self.workers, memory_mib=self.memory_mib),
            extra=[ExtraReward.load(name, entry) for name, entry in self.extra.items()],
        )

    def identity(self) -> dict[str, str]:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return {"reward.extraction": self.extraction, "reward.format": self.format}

    def answer(self, text: str) -> str | None:
        """See :class:`~gatepo.rewards.base.RewardOption`."""
        return EXTRACTIONS[self.extraction](text)


_FREE_NAME = Rule("must have a name of its own", lambda name: name not in ("answer", "format"))
_DOTTED = Rule("must be the dotted path of a function or class", lambda value: isinstance(value, str) and "." in value)
_FINITE = Rule("must be a finite number", lambda value: isinstance(value, int | float) and math.isfinite(value))


class AnswerAndFormatReward:
    """A reward function that scores completions (eq. 9 to 11).

    Args:
      answer_weight: of r_answer, 1 in the paper.
      format_weight: of r_format, 1 in the paper.
      verifier: compares answers.
      extract: reads a completion's answer, in the paper's tags by default; None where it has none.
      score_format: gives r_format of a completion's text, by default eq. 10.
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
        """Give one reward per completion, in the groups' order. All answers are checked at once."""
        pairs = [(group.prompt.answer, self._extract(c.text)) for group in groups for c in group.completions]
        verdicts = iter(self._verifier.verify_many(pairs))
        extra = {one.name: iter([score for scores in one(groups) for score in scores]) for one in self._extra}
        return [
            [self._reward(c, next(verdicts), {name: next(extra[name]) for name in extra}) for c in group.completions]
            for group in groups
        ]

    def close(self) -> None:
        """Stop the worker processes."""
        self._verifier.close()

    def _reward(self, completion: Completion, verdict: Verdict, extra: Mapping[str, float | None]) -> Reward:
        parts = {"answer": float(verdict.equal), "format": self._score_format(completion.text)}
        parts |= {name: score for name, score in extra.items() if score is not None}  # which else does not apply
        return Reward(
            total=sum(self._weights[name] * value for name, value in parts.items()),
            parts=parts,
            timed_out=verdict.reason is Reason.TIMED_OUT,
            killed=verdict.reason in (Reason.TIMED_OUT, Reason.KILLED),
        )
