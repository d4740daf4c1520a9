"""The settings of an option: each stands once, on its field, with type, default, rule, remedy and meaning. No torch.

    @option("gate", "clip")
    class Clip:
        eps_low: float = setting("Ratios below 1 - eps_low are clipped where A <= 0.", default=0.2, rule=FRACTION)

An option is a frozen dataclass. It is what Hydra composes, what the run uses, and what ``--help`` and the reference
print; whoever makes one, from the command line, a file or Python, is held to the rules of its settings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from gatepo.errors import UserError

T = TypeVar("T")
NO_DEFAULT: Any = dataclasses.MISSING
PAPER, LEAVE_OUT = "the paper uses {default}", "leave it out"  # remedies
_IS_DEFAULT = "{default} is the default"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be, in words that follow the key, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def at_least(bound: float) -> Rule:
    """Let only a finite number pass that is not below ``bound``."""
    return Rule(f"must be >= {bound}", lambda value: value >= bound and math.isfinite(value))


def one_of(*values: object) -> Rule:
    """Let only one of a few values pass."""
    return Rule(f"must be one of {', '.join(map(str, values))}", lambda value: value in values)


ANYTHING = Rule("may be anything", lambda value: True)
POSITIVE = Rule("must be a finite number > 0", lambda value: value > 0 and math.isfinite(value))
POSITIVE_OR_NULL = Rule("must be null or > 0", lambda value: value is None or value > 0)
ABOVE_ONE = Rule("must be a finite number > 1", lambda value: value > 1 and math.isfinite(value))
FRACTION = Rule("must be in (0, 1)", lambda value: 0 < value < 1)
DECAY = Rule("must be in [0, 1)", lambda value: 0 <= value < 1)
COUNT_OR_NULL = Rule("must be >= 1", lambda value: value is None or value >= 1)
TEMPERATURE = Rule("must be in [1e-6, 1e6], what fp32 can hold the slope at", lambda value: 1e-6 <= value <= 1e6)
SAMPLER_TEMPERATURE = Rule(
    "must be in [0.01, 100], below which vLLM samples at 0.01 and above which all tokens are alike",
    lambda value: 0.01 <= value <= 100,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of a field beside its type and default."""

    words: str  # meaning and unit, one sentence
    rule: Rule = ANYTHING
    remedy: str = _IS_DEFAULT
    follows: str | None = None  # the key whose value is the default
    group: str | None = None  # the field holds an option of this group
    each: str | None = None  # the field holds options of this group by name
    key: str | None = None  # what is typed for it, where a method has that name
    may_change: bool = False  # whether a run may go on with another value: what was learned does not rest on it


def setting(
    words: str,
    *,
    default: Any = NO_DEFAULT,
    default_factory: Any = NO_DEFAULT,
    rule: Rule = ANYTHING,
    remedy: str | None = None,
    follows: str | None = None,
    each: str | None = None,
    key: str | None = None,
    may_change: bool = False,
) -> Any:
    """Describe one field of an option.

    Args:
      words: what it means, with its unit; one sentence.
      default: its value where none is given; without one it must be given.
      default_factory: makes the default, where that is a list, a dict or a section.
      rule: what a value must be; the range that help and reference print.
      remedy: what to type instead, where the rule is broken; ``{default}`` stands for the default.
      follows: the dotted key whose value is the default on the command line, or NAME: of a resolver (of_model.py);
        Python callers give a value.
      key: what is typed for it, where that is not the field's name.
      each: the group of which the field, a dict, holds options by name.
      may_change: whether an interrupted run may go on with another value.
    """
    usual = LEAVE_OUT if default is None else f"give {words[0].lower()}{words[1:].rstrip('.')}"
    if default not in (None, NO_DEFAULT):
        usual = _IS_DEFAULT
    found = Setting(
        words=words, rule=rule, remedy=remedy or usual, follows=follows, each=each, key=key, may_change=may_change
    )
    return dataclasses.field(default=default, default_factory=default_factory, metadata={"setting": found})


def choice(group: str, words: str, *, default_factory: Any = NO_DEFAULT, may_change: bool = False) -> Any:
    """Describe a field that holds an option of ``group``; the others are as in :func:`setting`."""
    found = Setting(words=words, remedy=f"type {group}=NAME", group=group, may_change=may_change)
    return dataclasses.field(default_factory=default_factory, metadata={"setting": found})


@dataclass_transform(kw_only_default=True, field_specifiers=(setting, choice), frozen_default=True)
def section(prefix: str) -> Callable[[type[T]], type[T]]:
    """Make a class of settings a frozen dataclass whose instances keep their rules.

    Args:
      prefix: what stands before the fields' names in messages and on the command line, without the dot.

    A method ``refuse_conflicts`` of the class, if it has one, raises UserError where single values are right and do not
    go together.
    """

    def made(cls: type[T]) -> type[T]:
        cls.__post_init__ = _guard(prefix)  # type: ignore[attr-defined]
        return dataclass(frozen=True, slots=True, kw_only=True)(cls)

    return made


@dataclass_transform(kw_only_default=True, field_specifiers=(setting, choice), frozen_default=True)
def option(group: str, name: str, *, named: bool = True) -> Callable[[type[T]], type[T]]:
    """Make a class of settings the option ``group=name``.

    Args:
      group: the config group.
      name: what is typed for it.
      named: whether a resolved config says the name; False for the one kind that a group has inside this package.
    """

    def made(cls: type[T]) -> type[T]:
        known = section(group)(cls)
        _OPTIONS.setdefault(group, {})[name] = known
        if not named:
            _NAMELESS.add(group)
        return known

    return made


_OPTIONS: dict[str, dict[str, type]] = {}
_NAMELESS: set[str] = set()


def options(group: str) -> dict[str, type]:
    """Give the option classes of a group by name, as far as their modules have been imported."""
    return _OPTIONS.get(group, {})


def groups() -> list[str]:
    """Give the groups that have options."""
    return list(_OPTIONS)


def is_named(group: str) -> bool:
    """Whether a resolved config says which option of the group it holds."""
    return group not in _NAMELESS


def name_of(chosen: object) -> str:
    """Say what is typed for an option: its name, or the dotted path of a class from outside."""
    kind = type(chosen)
    names = (name for known in _OPTIONS.values() for name, cls in known.items() if cls is kind)
    return next(names, f"{kind.__module__}.{kind.__qualname__}")


def about(field: dataclasses.Field[Any]) -> Setting:
    """Say what is known of a field; a plain field of a class from outside says nothing."""
    found: Setting = field.metadata.get("setting", Setting(words=""))
    return found


def key_of(field: dataclasses.Field[Any]) -> str:
    """Give what is typed for a field."""
    return about(field).key or field.name


def is_needed(field: dataclasses.Field[Any]) -> bool:
    """Whether the field must be given: it has no default, and no other setting's value stands in for one."""
    return field.default is field.default_factory is dataclasses.MISSING and about(field).follows is None


def remedy_of(field: dataclasses.Field[Any]) -> str:
    """Say what to type instead of a wrong value."""
    default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
    return about(field).remedy.replace("{default}", default)


def check(kind: type, values: Mapping[str, Any], prefix: str) -> None:
    """Hold values to the rules of the settings of their names.

    Raises:
      UserError: the first value that breaks its rule.
    """
    for f in dataclasses.fields(kind):
        if f.name in values:
            key = f"{prefix}.{key_of(f)}" if prefix else key_of(f)
            require(key, about(f).rule, values[f.name], remedy_of(f))


def require(key: str, rule: Rule, value: object, remedy: str) -> None:
    """Refuse a value that breaks its rule.

    Raises:
      UserError: key, rule, value and remedy in one line.
    """
    try:
        holds = rule.holds(value)
    except TypeError:  # a text in place of a number
        holds = False
    if not holds:
        raise UserError(f"{key} {rule.words}, got {value}; {remedy}")


def _guard(prefix: str) -> Callable[[Any], None]:
    def __post_init__(self: Any) -> None:
        check(type(self), {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, prefix)
        refuse_conflicts = getattr(self, "refuse_conflicts", None)
        if refuse_conflicts is not None:
            refuse_conflicts()

    return __post_init__
