"""Reward functions of a user's own: as ours, as TRL's and as those of verifiers, in the place of ours or beside it."""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from composed import typed

from gatepo.errors import UserError
from gatepo.metrics import figures_of, rollout_metrics
from gatepo.overrides import prepared
from gatepo.rewards.extra import ExtraReward, as_option, own_function
from gatepo.rewards.reward import AnswerAndFormat, AnswerAndFormatReward
from gatepo.rewards.verifier import Verifier
from gatepo.targets import made_outside, path_of
from gatepo.types import Completion, Group, Prompt, Reward

COLUMNS = {"question": "1+1?", "answer": "so #### 2", "level": 3, "info": '{"unit": "cm"}'}
TURNS = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"})


def group(*texts: str, columns: dict[str, Any] | None = None, chat: bool = False, source: str = "made") -> Group:
    prompt = Prompt(
        **{"index": 0, "source": source, "question": "1+1?", "answer": "2", "token_ids": (1,)},
        columns=COLUMNS if columns is None else columns,
        messages=TURNS,
        chat=chat,
    )
    made = (
        Completion(token_ids=(1, len(text)), text=text, finished=True, policy_version=7, sampler_logp=(0, 0))
        for text in texts
    )
    return Group(prompt=prompt, completions=tuple(made))


def asked(function: Any, *groups: Group) -> list[list[float | None]]:
    return own_function("reward", function, "mine.score")(groups)


def test_a_function_of_trls_gets_what_trl_gives() -> None:
    """trl/trainer/grpo_trainer.py, ``_calculate_rewards``: all columns but prompt, completion and completion_ids."""
    got: dict[str, Any] = {}

    def score(**given: Any) -> list[float]:
        got.update(given)
        return [0.5] * len(given["completions"])

    def all_of(completions: list[str], **given: Any) -> list[float]:
        return score(completions=completions, **given)

    other = group("c", columns={"question": "2?", "kind": "b", "prompt": "x", "completion": "y"})
    assert asked(all_of, group("a", "b"), other) == [[0.5, 0.5], [0.5]]
    assert got.pop("trainer_state").global_step == 7
    assert got == {
        "prompts": ["1+1?"] * 3,
        "completions": ["a", "b", "c"],
        "completion_ids": [[1, 1]] * 3,
        "question": ["1+1?", "1+1?", "2?"],
        "answer": ["so #### 2", "so #### 2", None],
        "level": [3, 3, None],
        "info": ['{"unit": "cm"}', '{"unit": "cm"}', None],
        "kind": [None, None, "b"],
    }


def test_a_conversation_reaches_trls_functions_as_messages() -> None:
    def score(prompts: Any, completions: Any) -> list[float]:
        assert prompts == [list(TURNS)]
        return [float(completion[0]["content"] == "a") for completion in completions]

    assert asked(score, group("a", chat=True)) == [[1.0]]


def test_a_function_that_wants_messages_is_answered_with_how_to_give_them() -> None:
    def score(completions: Any) -> list[float]:
        return [float(completion[0]["content"] == "a") for completion in completions]

    with pytest.raises(UserError, match=r"completion 'a'; data\.chat=true gives prompts and completions as messages\n"):
        asked(score, group("a"))


def test_rewards_of_trls_own_run_as_they_are() -> None:
    from trl.rewards import get_soft_overlong_punishment, think_format_reward

    said = group("<think>a</think>\\boxed{2}", "2", chat=True)
    assert asked(think_format_reward, said) == [[1.0, 0.0]]
    assert asked(get_soft_overlong_punishment(4, 2), said) == [[0.0, 0.0]]


def test_trls_accuracy_runs_as_it_is_where_its_grader_is_installed() -> None:
    pytest.importorskip("math_verify", reason="trl's accuracy_reward needs math-verify: make .venv/bench installs it")
    from trl.rewards import accuracy_reward

    right = group("\\boxed{2}", chat=True, columns={"solution": "\\boxed{2}"})
    assert asked(accuracy_reward, right) == [[1.0]]
    unknown = group("2", chat=True, columns={"solution": "no formula"})
    assert asked(accuracy_reward, unknown) == [[None]]


def test_a_function_of_verifiers_gets_what_its_rubric_gives() -> None:
    """verifiers/legacy/rubrics/rubric.py, ``score_objects``: messages, the answer, and the fields of the row."""

    def score(prompt: Any, completion: Any, answer: str, info: Any, task: str, state: Any, level: int) -> float:
        assert (prompt, completion) == (list(TURNS), [{"role": "assistant", "content": "it is 2"}])
        assert (info, task, level, state["answer"]) == ({"unit": "cm"}, "default", 3, "2")
        return float(answer in completion[-1]["content"])

    def brief(completion: Any, **rest: Any) -> float:
        assert {"prompt", "answer", "info", "task", "state", "level"} <= rest.keys()
        return len(completion[-1]["content"]) / 10

    def best(completions: Any, answers: Any) -> list[float]:
        assert answers == ["2"] * len(completions)
        return [float(one is max(completions, key=lambda one: len(one[0]["content"]))) for one in completions]

    assert asked(score, group("it is 2")) == [[1.0]]
    assert asked(brief, group("it is 2", "3")) == [[0.7, 0.1]]
    assert asked(best, group("a", "bb"), group("ccc")) == [[0.0, 1.0], [1.0]]


def test_our_own_way_of_asking_stays() -> None:
    def length(prompt: Prompt, completion: Completion, *, scale: float = 1.0) -> float:
        return scale * len(completion.text) + prompt.columns["level"]

    assert asked(length, group("ab")) == [[5.0]]
    assert asked(partial(length, scale=2), group("ab")) == [[7.0]]

    def weighed(completions: Any, level: Any, *, scale: float = 1.0) -> list[float]:
        return [scale * one for one in level]

    assert asked(partial(weighed, scale=2), group("a", columns={"level": 3, "scale": 100})) == [[6.0]]


def test_async_functions_are_awaited_together() -> None:
    waiting: list[int] = []

    async def judged(completion: Any, answer: str) -> float:
        waiting.append(1)
        await asyncio.sleep(0.01)
        assert len(waiting) == 3, "one waited for another"
        return 1.0

    async def many(completions: Any, **_: Any) -> list[float | None]:
        return [None, 2.0, numpy.float32(3)]

    assert asked(judged, group("a", "b", "c")) == [[1.0] * 3]
    assert asked(many, group("a", "b", "c")) == [[None, 2.0, 3.0]]

    async def in_a_notebook() -> None:  # which has a loop already
        assert asked(many, group("a", "b", "c")) == [[None, 2.0, 3.0]]

    asyncio.run(in_a_notebook())


def test_numbers_may_be_of_python_numpy_or_torch() -> None:
    assert asked(lambda completions: torch.tensor([1.0, 0.5]), group("a", "b")) == [[1.0, 0.5]]
    assert asked(lambda completions: numpy.array([True, False]), group("a", "b")) == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda completions: [1.0], "reward must give a list of 2 numbers, one for each completion, got 1 of them; "),
        (lambda completions: 1.0, "reward must give a list of 2 numbers, one for each completion, got 1.0; correct"),
        (
            lambda completions: ["1", "2"],
            "reward must give a finite number, got '1' for a row of made: question '1+1?', gold",
        ),
        (
            lambda completions, tests: [],
            "reward must ask for what there is, got 'tests', which no field of the rows of",
        ),
        (lambda completion, answer, parser: 1, "reward must ask for what there is, got 'parser', which no field of"),
        (lambda one: 1, "reward must take (prompt, completion) and the keywords given (none), or be written for"),
    ],
)
def test_what_is_no_reward_is_one_line(function: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        asked(function, group("a", "b"))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def faulty(completions: list[str], **_: Any) -> list[float]:
    return [inner(text) for text in completions]


def inner(text: str) -> float:
    if text == "bad":
        raise KeyError("my own fault")
    return 1.0


async def later(completions: list[str], **_: Any) -> list[float]:
    return faulty(completions)


@pytest.mark.parametrize("function", [faulty, later])
def test_a_function_of_many_that_raises_shows_its_traceback_and_the_one_row(function: Any) -> None:
    groups = [group(*"abc"), group("d", "bad", "e", source="other"), group("f")]
    with pytest.raises(UserError) as caught:
        asked(function, *groups)
    first, *trace = str(caught.value).splitlines()
    assert first.startswith("reward must give a number, and raised KeyError for a row of other: question '1+1?'")
    assert "gold answer '2', completion 'bad'" in first
    files = [line.strip() for line in trace if line.strip().startswith("File ")]
    assert files
    assert all(__file__ in line for line in files)
    assert trace[-1] == "KeyError: 'my own fault'"


@dataclass(frozen=True)
class Faulty:
    """An option class with ``make`` alone."""

    when: str = "asked"

    def make(self) -> Any:
        if self.when == "made":
            raise OSError("no such judge")
        return self

    def __call__(self, groups: list[Group]) -> list[list[Reward]]:
        return [[Reward(total=inner(one.text), parts={}) for one in each.completions] for each in groups]


def test_an_option_class_that_raises_shows_its_own_traceback() -> None:
    option = as_option(Faulty())
    assert (option.identity(), option.answer("2"), option.reads_columns) == (
        {"reward": path_of(Faulty()), "reward.when": "asked"},
        None,
        True,
    )
    made = option.make()
    assert made([group("a")])[0][0].total == 1.0
    made.close()
    for raises, words in (
        (lambda: made([group("a"), group("bad", source="other")]), "raised KeyError for a row of other: question"),
        (as_option(Faulty(when="made")).make, "reward must make its function, and test_own_reward.Faulty.make raised"),
    ):
        with pytest.raises(UserError) as caught:
            raises()
        first, *trace = str(caught.value).splitlines()
        assert words in first
        files = [line for line in trace if line.strip().startswith("File ")]
        assert files
        assert all(__file__ in line for line in files)


def sometimes(completions: list[str], **_: Any) -> list[float | None]:
    return [None if text == "a" else 4.0 for text in completions]


def test_a_part_that_does_not_apply_counts_nothing_for_its_row() -> None:
    extra = ExtraReward.load("own", {"_target_": f"{__name__}.sometimes"})
    verifier = Verifier(deadline=20.0, workers=1)
    reward = AnswerAndFormatReward(answer_weight=1.0, format_weight=1.0, verifier=verifier, extra=[extra])
    groups = [group("a", "<answer>2</answer>"), group("a", "a")]
    scored = reward(groups)
    reward.close()
    assert [one.total for one in scored[0]] == [0.0, 5.25]
    assert "own" not in scored[0][0].parts
    metrics = rollout_metrics([figures_of(*one) for one in zip(groups, scored, strict=True)])
    assert (metrics["rewards/own/mean"], metrics["rewards/answer/mean"]) == (4.0, 0.25)
    with pytest.raises(
        UserError, match="must give a number where it stands alone, got None for a row of made"
    ) as refused:
        as_option(sometimes).make()([group("a")])
    assert "put it beside ours with +reward.extra.NAME._target_=MODULE.FUNCTION" in str(refused.value)


def counted(top: float) -> Any:
    def score(completions: list[str]) -> list[float]:
        return [top for _ in completions]

    return score


ten = counted(10.0)


def test_a_function_that_another_made_is_known_by_its_name() -> None:
    made = made_outside("reward", f"{__name__}.ten", {}, "reward")
    assert path_of(made) == f"{__name__}.ten"
    assert as_option(made).make()([group("a")])[0][0].total == 10.0


def test_a_run_rests_on_further_columns_where_its_reward_reads_them() -> None:
    own = {"_target_": "a.b", "weight": 1.0}
    assert not AnswerAndFormat().reads_columns
    assert AnswerAndFormat(extra={"own": own}).reads_columns
    assert as_option(sometimes).reads_columns


def test_rows_without_a_gold_answer_are_for_a_reward_that_needs_none(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "1+1?"}\n')
    words = (f"data={tmp_path / 'mine.jsonl'}", "data.question=prompt", "data.answer=null")
    must = r"^data\.sources\.mine\.answer must name a field with reward=answer_and_format, got None; name it, or "
    with pytest.raises(UserError, match=must):
        typed(*prepared(words))
    data = typed(*prepared([*words, "reward._target_=builtins.print"])).data
    assert [row.answer for row in data.training_rows()["mine"]] == [""]
