"""A run evaluates itself on several completions of each problem."""

from types import SimpleNamespace
from typing import Any

import pytest
from composed import typed

from gatepo.errors import UserError
from gatepo.evaluate.loop import Evaluator
from gatepo.types import Sampling
from gatepo.world import World


@pytest.mark.parametrize(("samples", "expected"), [(1, 1 / 3), (4, 5 / 12)])
def test_the_accuracy_is_the_share_of_all_completions(samples: int, expected: float) -> None:
    scores = {"one": [1, 1, 1, 0], "two": [0, 0, 1, 1], "three": [0, 0, 0, 0]}  # 1 of 3 first ones, 5 of all 12
    rollout: Any = SimpleNamespace(
        generate=lambda prompts, sampling, seed: [(p, sampling.num_generations) for p in prompts]
    )

    def reward(groups: list[tuple[str, int]]) -> list[list[Any]]:
        return [[SimpleNamespace(score=score) for score in scores[name][:count]] for name, count in groups]

    evaluate = Evaluator(
        sets={"all": list(scores)},  # type: ignore[dict-item]
        sampling=Sampling(temperature=0.7, max_completion_length=8, num_generations=samples),
        reward=reward,  # type: ignore[arg-type]
        rollout=rollout,
        seed=0,
        world=World(),
        at_once=2,
    )
    assert evaluate() == {"all": pytest.approx(expected)}


def test_the_number_of_completions_is_a_setting_with_its_rule() -> None:
    assert typed().evaluate.samples == 1
    assert typed("+experiment=study/base").evaluate.samples == 4
    with pytest.raises(UserError, match=r"^evaluate\.samples must be >= 1, got 0; 1 is the default$"):
        typed("evaluate.samples=0")
