"""Options from outside the package: ``GROUP._target_=my.module.MyOption``, its settings beside it. No torch.

The class is a dataclass, whose fields are its settings, or one that needs none; a function's keyword arguments are its
settings too. What it must be able to do is stated by the protocol or base class of its group.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from gatepo.errors import UserError
from gatepo.settings import check

OWN = ("gatepo.rewards.overlong.OverlongPenalty",)
"""What the presets of conf/ name by ``_target_``; a foreign config may name it too. Other code here may do harm."""
PATH = "path"  # under which a function was found
REQUIRED: Any = dataclasses.MISSING
STATED: dict[str, tuple[str, tuple[str, ...]]] = {
    "gate": ("gatepo.objective.gates.Gate", ("value", "slope", "half_width")),
    "tau": ("gatepo.objective.tau.TauRule", ("temperatures", "at_start")),
    "ratio": ("gatepo.objective.ratio.Ratio", ("clamp", "__call__")),
    "aggregation": ("gatepo.objective.aggregation.Aggregation", ("mean", "__call__")),
    "advantage": ("gatepo.objective.advantage.Advantage", ("__call__",)),
    "correction": ("gatepo.objective.correction.Correction", ("__call__",)),
    "kl": ("gatepo.objective.kl.Kl", ("reference", "coefficient", "__call__")),
    "model/adapter": ("gatepo.engine.adapter.AdapterOption", ("attach", "size", "write", "read_checkpoint")),
    "optimizer": ("gatepo.engine.optimizer.OptimizerOption", ("max_grad_norm", "make", "make_schedule")),
    "rollout": ("gatepo.rollout.base.RolloutOption", ("make", "max_sequences")),
    "engine": ("gatepo.engine.base.EngineOption", ("make", "read_weights", "shares_weights", "kept_bytes")),
    "reward": ("gatepo.rewards.base.RewardOption, or write a function of (prompt, completion)", ("__call__ or make",)),
    "source": ("gatepo.data.sources.SourceOption", ("rows", "records", "weight")),
    "tracker": ("gatepo.tracking.base.TrackerOption", ("start",)),
}
"""What an option of each group must have, and where that is stated."""


def code_in(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Give the code that a config names and no preset does, with its dotted keys."""
    if isinstance(values, dict):
        for name, value in values.items():
            if name == "_target_" and value is not None and value not in OWN:
                yield f"{key}{name}", value
            yield from code_in(value, f"{key}{name}.")
    elif isinstance(values, list):
        for value in values:
            yield from code_in(value, key)


def digests(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Give the SHA-256 of the file behind each class or function from outside, by its path; None where it has no file.

    What it does is in no setting, and a run rests on it all the same.
    """
    return {path: _digest(path) for _, path in code_in(dict(values))}


@cache
def _digest(path: str) -> str | None:
    """Read the file once, when a run begins: who edits it while the run trains does not change what trains."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(find("_target_", path)))
    except TypeError:  # a function that another has made
        file = getattr(importlib.import_module(path.rpartition(".")[0]), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None


def find(key: str, path: str) -> Any:
    """Import what ``path`` (module.name) names.

    Raises:
      UserError: it is no such path, or leads to nothing that can be called.
    """
    module, _, name = str(path).rpartition(".")
    if not module:
        raise UserError(f"{key} must be module.Class, got {path}; e.g. my.module.MyClass")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{key} must be importable, got {path} ({error}); check its name, and that its folder is in PYTHONPATH"
        ) from error
    if not callable(found):
        raise UserError(f"{key} must be a class or a function, got {path}; name another")
    return found


def settings_of(key: str, target: Any) -> dict[str, Any]:
    """List the settings of a class or function from outside: name to default, :data:`REQUIRED` without one.

    Raises:
      UserError: a class that takes arguments and is no dataclass.
    """
    if dataclasses.is_dataclass(target):
        return {f.name: _default(f) for f in dataclasses.fields(target) if f.init}
    takes = inspect.signature(target).parameters.values()
    if not inspect.isclass(target):
        return {p.name: REQUIRED if p.default is p.empty else p.default for p in takes if p.kind is p.KEYWORD_ONLY}
    if takes and target.__init__ is not object.__init__:
        raise UserError(
            f"{key}._target_ must be a dataclass, whose fields are its settings, got {target.__qualname__}, which "
            f"takes {', '.join(p.name for p in takes)}; make these fields of a @dataclass "
            "that has no __init__, or name an object of it in the place of the class"
        )
    return {}


def made_outside(group: str, path: str, values: Mapping[str, Any], key: str) -> Any:
    """Make an option from outside the package, or the function with its settings.

    Args:
      group: what the option must be able to do is that of this group.
      path: module.name of the class or function.
      values: its settings.
      key: where it goes, dotted.
    Raises:
      UserError: a setting is missing, unknown or refused, or the option cannot do what its group asks.
    """
    target = find(f"{key}._target_", path)
    known = settings_of(key, target)
    for name in [name for name in values if name not in known]:
        raise UserError(
            f"{key}.{name} must be a setting of {path}, which stands for the whole {key} and has "
            f"{', '.join(known) or 'none'}, got {values[name]}; leave it out"
        )
    for name in [name for name, default in known.items() if default is REQUIRED and name not in values]:
        raise UserError(f"{key}.{name} must be given, got nothing; type {key}.{name}=VALUE")
    if dataclasses.is_dataclass(target):
        check(target, values, key)  # type: ignore[arg-type]
    made = _made(key, target, values) if inspect.isclass(target) else partial(target, **values)
    if isinstance(made, partial):
        vars(made)[PATH] = path  # a function that another has made does not know where it is
    require_stated(group, made)
    return made


def _made(key: str, target: type, values: Mapping[str, Any]) -> Any:
    try:
        return target(**values)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{key} must be what {target.__qualname__} takes, got {dict(values)} ({error}); change a value"
        ) from error


def require_stated(group: str, option: Any) -> None:
    """Refuse an option from outside that cannot do what its group asks.

    Raises:
      UserError: what is missing, and where it is stated.
    """
    where, names = STATED.get(group, ("", ()))
    missing = [name for name in names if not any(hasattr(option, part) for part in name.split(" or "))]
    if missing:
        raise UserError(
            f"{group}._target_ must have {', '.join(names)}, got {path_of(option)} without {', '.join(missing)}; "
            f"see {where}"
        )


def path_of(option: Any) -> str:
    """Give the dotted path under which :func:`find` finds an option's class or function again."""
    if isinstance(option, partial) and PATH in vars(option):
        return str(vars(option)[PATH])
    kind = option.func if isinstance(option, partial) else type(option)
    return f"{kind.__module__}.{kind.__qualname__}"


def given_to(option: Any) -> dict[str, Any]:
    """Give the settings of an option or a function from outside, by name."""
    if isinstance(option, partial):
        return dict(option.keywords)
    known = [f.name for f in dataclasses.fields(option) if f.init] if dataclasses.is_dataclass(option) else []
    return {name: getattr(option, name) for name in known}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
