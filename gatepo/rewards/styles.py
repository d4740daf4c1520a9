"""How a reward function of a user's own is asked: as ours, as TRL's, or as those of verifiers; by what it takes.

- ``f(prompt, completion, *, setting)``: one completion, as :class:`~gatepo.types.Prompt` and
  :class:`~gatepo.types.Completion`.
- ``f(completions, **columns)``: all completions of a rollout batch, as TRL's trainer asks
  (``GRPOTrainer._calculate_rewards`` in trl/trainer/grpo_trainer.py, 1.16): ``prompts``, ``completions``,
  ``completion_ids``, a list for each column of the rows, and ``trainer_state``.
- ``f(completion, answer, **rest)``: one completion as messages, as the rubrics of verifiers ask
  (``Rubric.score_objects`` in verifiers/legacy/rubrics/rubric.py): ``prompt``, ``completion``, ``answer``, ``info``,
  ``task``, ``state``, and the row's columns.
- ``f(completions, answers, **rest)``: the completions of one prompt, as their group functions.

The last three get those arguments alone that they name, or all where they take ``**rest``. Each may be ``async``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gatepo.errors import UserError
from gatepo.types import Completion, Prompt

Pair = tuple[Prompt, Completion]
_MANY = {"prompts", "completions", "completion_ids"}
_OF_A_GROUP = {"answers", "infos", "tasks", "states"}
_TAKEN = ("prompt", "completion", "completion_ids")  # columns that TRL does not hand on
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerState:
    """What is known here of TRL's ``trainer_state``."""

    global_step: int  # updates that the sampling policy had seen


@dataclass(frozen=True, slots=True)
class Style:
    """One way of asking."""

    name: str  # for the log
    share: Callable[[Sequence[Pair]], Iterable[Sequence[Pair]]]  # what is asked together
    arguments: Callable[[Sequence[Pair]], dict[str, Any]] | None  # None: prompt and completion, by position
    many: bool  # whether the function gives a list


def style_of(function: Callable[..., Any]) -> Style:
    """Say how a function is asked.

    Raises:
      TypeError, ValueError: it takes nothing of what there is, or what it takes cannot be known.
    """
    signature = inspect.signature(function)
    takes = signature.parameters
    if _MANY & takes.keys():
        return GROUP if _OF_A_GROUP & takes.keys() else TRL
    if "completion" in takes and not _takes_a_pair(list(takes.values())):
        return SINGLE
    signature.bind(None, None)
    return OURS


def _takes_a_pair(takes: list[inspect.Parameter]) -> bool:
    """Say whether it is ``f(prompt, completion)``, with settings behind it but nothing else that must be given."""
    first = [one.name for one in takes[:2] if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    rest = takes[2:]
    others = any(one.kind is one.VAR_KEYWORD or (one.default is one.empty) for one in rest)
    return first == ["prompt", "completion"] and not others


def bound(key: str, function: Callable[..., Any], style: Style, pairs: Sequence[Pair]) -> Callable[[], Any]:
    """Give the call of a function about some completions.

    Raises:
      UserError: it asks for a column that the rows do not have.
    """
    if style.arguments is None:
        return partial(function, *pairs[0])
    return partial(function, **_asked_for(key, function, style.arguments(pairs), pairs[0][0]))


def _asked_for(key: str, function: Callable[..., Any], given: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
    """Choose the arguments that a function takes; its own settings come before columns of the same name."""
    settings = function.keywords if isinstance(function, partial) else {}
    takes = inspect.signature(function).parameters
    every = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    for name, one in takes.items():
        if one.kind in _BY_NAME and one.default is one.empty and name not in given:
            raise UserError(
                f"{key} must ask for what there is, got {name!r}, which no field of the rows of {prompt.source} "
                f"({', '.join(prompt.columns)}) and none of {', '.join(n for n in given if n not in prompt.columns)} "
                "is; give the rows that field, or the function another name or a default for it"
            )
    return {name: value for name, value in given.items() if (every or name in takes) and name not in settings}


def _as_trl(pairs: Sequence[Pair]) -> dict[str, Any]:
    names = dict.fromkeys(name for prompt, _ in pairs for name in prompt.columns if name not in _TAKEN)
    return {name: [prompt.columns.get(name) for prompt, _ in pairs] for name in names} | {
        "prompts": [messages_of(prompt) if prompt.chat else prompt.question for prompt, _ in pairs],
        "completions": [message_of(one) if prompt.chat else one.text for prompt, one in pairs],
        "completion_ids": [list(one.token_ids) for _, one in pairs],
        "trainer_state": TrainerState(global_step=pairs[0][1].policy_version),
    }


def _as_single(pairs: Sequence[Pair]) -> dict[str, Any]:
    ((prompt, completion),) = pairs
    given: dict[str, Any] = {
        "prompt": messages_of(prompt),
        "completion": message_of(completion),
        "answer": prompt.answer,
        "info": _info(prompt.columns),
        "task": prompt.columns.get("task", "default"),
    }
    return dict(prompt.columns) | given | {"state": dict(given)}


def _as_group(pairs: Sequence[Pair]) -> dict[str, Any]:
    each = [_as_single([pair]) for pair in pairs]
    parts = ("prompt", "completion", "answer", "info", "task", "state")
    return {f"{name}s": [one[name] for one in each] for name in parts}


def messages_of(prompt: Prompt) -> list[dict[str, Any]]:
    """Give what the model was asked as messages."""
    return [dict(message) for message in prompt.messages] or [{"role": "user", "content": prompt.question}]


def message_of(completion: Completion) -> list[dict[str, str]]:
    """Give a completion as TRL and verifiers have it in a conversation."""
    return [{"role": "assistant", "content": completion.text}]


def _info(columns: Mapping[str, Any]) -> Any:
    """Give the row's ``info``, which may be JSON in a text."""
    info = columns.get("info") or {}
    return json.loads(info) if isinstance(info, str) else info


def _each(pairs: Sequence[Pair]) -> list[Sequence[Pair]]:
    return [[pair] for pair in pairs]


def _by_prompt(pairs: Sequence[Pair]) -> list[Sequence[Pair]]:
    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(id(pair[0]), []).append(pair)
    return [*groups.values()]


OURS = Style("f(prompt, completion)", _each, None, False)
SINGLE = Style("f(completion, answer, ...), as of verifiers", _each, _as_single, False)
GROUP = Style("f(completions, answers, ...), as of verifiers", _by_prompt, _as_group, True)
TRL = Style("f(completions, **columns), as of TRL", lambda pairs: [pairs], _as_trl, True)
