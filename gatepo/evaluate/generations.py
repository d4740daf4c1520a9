"""``generations.jsonl``: a line for every problem with all its completions.

It is both what a person reads and the state from which an interrupted evaluation goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from gatepo.errors import UserError
from gatepo.json_lines import append, rows
from gatepo.types import Group, Prompt, Reward

FILE = "generations.jsonl"
Key = tuple[str, int]  # set, and the problem's place in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One completion, graded."""

    text: str
    answer: str | None  # as it was read in the text
    right: bool  # eq. 11; false where no part of the reward is an answer
    format: float  # eq. 10
    tokens: int
    finished: bool  # ended by itself, not by the length limit
    timed_out: bool  # its answer took too long to check, and is wrong
    score: float | None = None  # the reward, where no part of it is an answer

    @property
    def value(self) -> float:
        """What is counted: 1 for a right answer, or the score."""
        return float(self.right) if self.score is None else self.score


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem and its K completions."""

    set: str
    index: int
    question: str
    gold: str
    samples: tuple[Sample, ...]

    @property
    def key(self) -> Key:
        """How it is found again."""
        return self.set, self.index


def problem_of(group: Group, rewards: Sequence[Reward], extract: Callable[[str], str | None]) -> Problem:
    """Make the record of a graded group."""
    samples = (
        Sample(
            text=completion.text,
            answer=extract(completion.text),
            right=reward.graded and reward.score == 1,
            format=reward.parts.get("format", 0.0),
            tokens=len(completion.token_ids),
            finished=completion.finished,
            timed_out=reward.timed_out,
            score=None if reward.graded else reward.score,
        )
        for completion, reward in zip(group.completions, rewards, strict=True)
    )
    prompt = group.prompt
    return Problem(
        set=prompt.source,
        index=prompt.index,
        question=prompt.question,
        gold=prompt.answer,
        samples=tuple(samples),
    )


def finished_problems(folder: Path) -> dict[Key, Problem]:
    """Read the finished problems of an evaluation, in the order in which they were written.

    Raises:
      UserError: a line is damaged.
    """
    found: dict[Key, Problem] = {}
    for number, record in enumerate(rows(folder / FILE), 1):
        try:
            samples = tuple(Sample(**sample) for sample in record.pop("samples"))
            problem = Problem(samples=samples, **record)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / FILE}:{number} must be a problem with its samples, got other fields; take the line out"
            ) from error
        found[problem.key] = problem
    return found


def write(file: IO[str], problem: Problem) -> None:
    """Append a problem."""
    append(file, json.dumps(asdict(problem), ensure_ascii=True))


def check_same(done: dict[Key, Problem], prompts: Sequence[Prompt], folder: Path) -> None:
    """Refuse to go on beside problems that have since changed.

    Raises:
      UserError: a finished problem is another one now.
    """
    for prompt in prompts:
        before = done.get((prompt.source, prompt.index))
        if before is not None and (before.question, before.gold) != (prompt.question, prompt.answer):
            raise UserError(
                f"out={folder} must hold the same problems, got another {prompt.source} {prompt.index} in {FILE}; "
                "choose another folder with out=FOLDER"
            )
