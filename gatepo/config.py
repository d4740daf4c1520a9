"""Between Hydra and the classes of settings: what Hydra may compose, and what was composed as objects.

DictConfig stops here. A run's ``config.yaml`` is the same nested dicts, written and read back.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import omegaconf
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from gatepo.errors import UserError, nearest
from gatepo.launch.settings import LAUNCHER, MultirunSettings
from gatepo.rules import check as check_rules
from gatepo.run_folder import is_whole
from gatepo.schema import COMMANDS, Config, TrainConfig, load_options
from gatepo.settings import about, check, groups, is_named, key_of, name_of, options, remedy_of
from gatepo.targets import code_in, find, given_to, made_outside, path_of, settings_of

NAME, TARGET = "name", "_target_"  # keys that say which option of a group it is
MIRRORED = "MIRRORED"  # the class of settings that a copy for Hydra was made of
_SIMPLE = {str(kind): kind for kind in (int | None, float | None, str | None, bool | None)}
_SIMPLE |= {kind.__name__: kind for kind in (int, float, str, bool)}


def register() -> None:
    """Offer every option as ``GROUP=NAME``, and the class of each command as ``schema/COMMAND``."""
    load_options()
    store = ConfigStore.instance()
    for command, kind in COMMANDS.items():
        store.store(group="schema", name=command, node=_mirror(kind), package="_global_")
    store.store(group="hydra/launcher", name="processes", node=_mirror(MultirunSettings, **{TARGET: LAUNCHER}))
    for group in groups():
        for name, kind in options(group).items():
            store.store(group=group, name=name, node=_mirror(kind, **({NAME: name} if is_named(group) else {})))


def register_outside(group: str, path: str, key: str) -> None:
    """Offer a class or function from outside the package as ``GROUP=PATH``; ``key`` is where it goes.

    Raises:
      UserError: it cannot be imported, or its settings cannot be known.
    """
    target = find(f"{key}.{TARGET}", path)
    written = {f.name: getattr(f.type, "__name__", str(f.type)) for f in fields(target)} if is_dataclass(target) else {}
    found = [(TARGET, str, path)]
    for name, default in settings_of(key, target).items():
        found.append(_field(name, _SIMPLE.get(written.get(name, ""), Any), default))
    ConfigStore.instance().store(group=group, name=path, node=make_dataclass(path.replace(".", "_"), found))


def from_composed(kind: type[Config], composed: DictConfig) -> Config:
    """Make the objects of a command, held to every rule.

    Raises:
      UserError: a value breaks its rule, or a key is no setting.
    """
    for f in fields(kind):
        group = about(f).group
        if group is not None and is_named(group):
            _require_chosen_as_a_group(group, composed[group])
    made = from_plain(kind, OmegaConf.to_container(composed, resolve=True))
    check_rules(made)
    return made


def from_plain(kind: type[Config], values: Any) -> Config:
    """Make the objects from nested dicts; rules between several settings are not looked at."""
    load_options()
    made: Config = _made(kind, values, "")
    return made


def load(
    path: Path, *, trust: bool = False, typed: TrainConfig | None = None, instead: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Read the config of a run's folder, of this version or the one before, and hold it to every rule.

    It is data, whoever wrote it: interpolations stay the text that they are, and what it names is imported only where
    the user of this command trusts it, or has named it too (``typed``); its own word on that does not count. What
    ``instead`` has stands in the place of the file's: options by their group, as :func:`plain` gives them.

    Raises:
      UserError: it is no whole config, breaks a rule, or names code without trust.
    """
    try:
        text = path.read_text(encoding="utf-8")
        held = yaml.safe_load(text) or {}
        if isinstance(held, dict):  # OmegaConf reads 1e-6 as a number too
            held = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise UserError(f"{path} must be the YAML of a run's settings, got {str(error).splitlines()[0]}") from error
    own = {value for _, value in code_in(plain(typed))} if typed else set()
    if instead and isinstance(held, dict):
        held |= instead
        own |= {value for _, value in code_in(instead)}
    named = [f"{key}={value}" for key, value in code_in(held) if value not in own]
    if named and not trust:
        raise UserError(
            f"trust must be true where a run's config.yaml names code, got {path} with {', '.join(named)}, which "
            "would run; type trust=true if you know who wrote it"
        )
    made = dataclasses.replace(from_plain(TrainConfig, _of_today(held)), trust=trust)
    if not is_whole(text):
        raise UserError(f"{path} must be whole, got a file that ends too early; copy it anew")
    check_rules(made)
    return made


def plain(config: Any) -> dict[str, Any]:
    """Give the objects as nested dicts, as :func:`from_plain` reads them back."""
    return {key_of(f): _plain(about(f).group, about(f).each, getattr(config, f.name)) for f in fields(config)}


def _plain(group: str | None, each: str | None, value: Any) -> Any:
    if each is not None:
        return {name: _plain(each, None, one) for name, one in value.items()}
    if group is None:
        return dataclasses.asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    if type(value) not in options(group).values():
        return {TARGET: path_of(value), **given_to(value)}
    return ({NAME: name_of(value)} if is_named(group) else {}) | plain(value)


def _made(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    """Make an object of ``kind`` from nested dicts; ``prefix`` is its dotted key, with the dot."""
    known = {key_of(f) for f in fields(kind)}
    for name in _by_name(values, prefix.removesuffix(".")):
        if name not in known:
            near = nearest(str(name), known)
            meant = f"did you mean {prefix}{near}?" if near else "see --help"
            raise UserError(
                f"{prefix}{name} must be a setting, got {values[name]} for one that does not exist here; {meant}"
            )
    typed = OmegaConf.structured(_mirror(kind))
    found = {}
    for f in fields(kind):
        key = key_of(f)
        given = values.get(key, omegaconf.MISSING)
        if given != omegaconf.MISSING:
            found[f.name] = _value(f, given, f"{prefix}{key}", typed)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{prefix}{key} must be given, got nothing; {remedy_of(f)}")
    check(kind, found, prefix.removesuffix("."))
    return kind(**found)


def _value(f: dataclasses.Field[Any], value: Any, key: str, typed: DictConfig) -> Any:
    group, each = about(f).group, about(f).each
    if group is not None:
        return _option(group, value, key)
    if each is not None:
        return {name: _option(each, one, f"{key}.{name}") for name, one in _by_name(value, key).items()}
    if is_dataclass(f.default_factory):
        return _made(f.default_factory, value, f"{key}.")
    try:
        if isinstance(value, str) and "${" in value:  # text that came here is text, and OmegaConf would resolve it
            if "str" not in str(f.type).split(" | "):
                raise ValidationError(f"{value} is a text")
            return value
        typed[key_of(f)] = value
    except OmegaConfBaseException as error:
        raise UserError(f"{key} must be {type_words(f.type)}, got {value}; {remedy_of(f)}") from error
    held = typed[key_of(f)]
    return OmegaConf.to_container(held) if OmegaConf.is_config(held) else held


def _option(group: str, values: Mapping[str, Any], key: str) -> Any:
    """Make the option that ``name`` or ``_target_`` says, with the settings beside it."""
    own = {name: value for name, value in _by_name(values, key).items() if name not in (NAME, TARGET)}
    if TARGET in values:
        return made_outside(group, values[TARGET], {n: v for n, v in own.items() if v != omegaconf.MISSING}, key)
    name = values.get(NAME) if is_named(group) else "own"
    if not isinstance(name, str) or name not in options(group):
        raise UserError(f"{key} must be one of {', '.join(options(group))}, got {name}; choose one of these")
    return _made(options(group)[name], own, f"{key}.")


def _by_name(values: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise UserError(f"{key or 'a config'} must hold settings by name, got {values}; --help lists them")
    return values


def type_words(annotation: object) -> str:
    """Say what values a field takes."""
    words = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
    words |= {"list": "a list", "dict": "settings by name"}
    kind, _, null = str(annotation).partition(" | ")
    return words.get(kind.partition("[")[0], kind) + (" or null" if null else "")


def _require_chosen_as_a_group(group: str, node: Any) -> None:
    """``kl.name=fixed`` alone would leave the settings of ``kl=fixed`` out."""
    kind = OmegaConf.get_type(node) if isinstance(node, DictConfig) else dict
    own = getattr(kind, NAME, node.get(NAME)) if isinstance(node, DictConfig) else None
    if own is not None and node.get(NAME) != own:
        raise UserError(f"{group}.name must not be changed alone, got {node[NAME]}; type {group}={node[NAME]}")


def _of_today(values: Any) -> Any:
    """Renew a config of 0.1.0: a gate from outside had its settings below ``arguments``, no tracker had two."""
    match values:
        case {"gate": {"name": name, "_target_": target, **others}}:
            own: Any = others.pop("arguments", None) or {}
            values["gate"] = {NAME: name, **others} if target is None else {TARGET: name} | own
    match values:
        case {"tracker": {"name": "none"}}:
            values["tracker"] = {NAME: "none"}
    return values


@cache
def _mirror(kind: type, **head: str) -> type:
    """Copy a class of settings as OmegaConf wants it: not frozen, no slots, options open, what is missing so named."""
    found: list[Any] = [(name, str, value) for name, value in head.items()]
    for f in fields(kind):
        group, key = about(f).group, key_of(f)
        whole = options(group)["own"] if group and not is_named(group) else f.default_factory
        if group is not None and is_named(group):
            found.append((key, Any, omegaconf.MISSING))
        elif is_dataclass(whole):
            section = _mirror(whole)
            found.append((key, section, field(default_factory=section)))
        else:
            default = f"${{{about(f).follows}}}" if about(f).follows else f.default
            default = default if f.default_factory is MISSING else f.default_factory()
            annotation = dict[str, Any] if about(f).each else _annotation(kind, f.name)
            found.append(_field(key, annotation, default))
    return make_dataclass(kind.__name__, found, namespace={MIRRORED: kind})


def _field(name: str, annotation: Any, default: Any) -> tuple[str, Any, Any]:
    if default is MISSING:
        return (name, annotation, omegaconf.MISSING)
    if isinstance(default, list | dict):
        return (name, annotation, field(default_factory=partial(type(default), default)))
    return (name, annotation, default)


def _annotation(kind: type, name: str) -> Any:
    """Return the type of a field, whose text means what it means in its own module."""
    owner = next(cls for cls in kind.__mro__ if name in inspect.get_annotations(cls))
    written = inspect.get_annotations(owner)[name]
    return eval(written, vars(sys.modules[owner.__module__])) if isinstance(written, str) else written
