"""What ``help=WORD`` prints of a group, an option, a part or a setting: meaning, default, range, from the classes."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import yaml

from gatepo import from_trl
from gatepo.errors import UserError, nearest
from gatepo.launch.settings import MultirunSettings
from gatepo.presets import names, yaml_dir
from gatepo.reference import ADDED, meaning
from gatepo.schema import COMMANDS, TrainConfig
from gatepo.settings import about, groups, is_named, key_of, options

KEY = "help="
WIDTH, LEFT = 118, 32  # characters of a line; of a key with its default, before its meaning begins


def page(command: str, word: str) -> str:
    """Write what ``python -m gatepo.COMMAND help=WORD`` prints.

    Args:
      command: the name of its configuration.
      word: a group, GROUP=OPTION or an option's name alone, a part such as batch, or a key.
    Raises:
      UserError: there is nothing of that name.
    """
    kind = COMMANDS.get(command, TrainConfig)
    lines = [*_of(kind, command, word)]
    if not lines:
        raise _unknown(kind, word)
    return "\n".join(lines)


def _of(kind: type, command: str, word: str) -> Iterator[str]:
    group, _, name = word.partition("=")
    within = group.replace(".", "/")  # an option within another is typed with a dot
    known = {key_of(f): f for f in fields(kind)}
    field = known.get(group)
    chosen = about(field).group if field is not None else None
    if group in (*_groups(kind), *([chosen] if chosen else [])):
        yield from _group(kind, command, group, name)
    elif "/" in within and within in groups():
        yield from _group(kind, command, within, name)
    elif field is not None and is_dataclass(field.default_factory):
        yield f"{group}: {about(field).words}"
        yield from _settings(field.default_factory, f"{group}.")
    elif "." in word or field is not None:
        yield from _keys(kind, word)
    elif kind is TrainConfig and word in {f.name for f in fields(MultirunSettings)}:
        yield from (line for f in fields(MultirunSettings) if f.name == word for line in _setting(f, ""))
    else:
        if word.removesuffix("s") in _groups(kind):  # the word itself is none of them
            yield from _group(kind, command, word.removesuffix("s"), "")
            yield ""
        for other in [found for found in _groups(kind) if word in names(found)]:
            yield from _group(kind, command, other, word)


def _groups(kind: type) -> list[str]:
    """Give the groups of a command; the training command's are all, and those that are added with a plus."""
    own = [about(f).group for f in fields(kind) if about(f).group]
    return list(dict.fromkeys([*own, *(ADDED if kind is TrainConfig else ()), *(g for g in groups() if g in own)]))


def _group(kind: type, command: str, group: str, name: str) -> Iterator[str]:
    """Describe a group with all its options and presets, or one of these."""
    words = {key_of(f): about(f).words for f in fields(kind)} | ADDED
    typed = group.replace("/", ".")
    plus, usual = ("+", None) if group in ADDED else ("", _usual(command).get(group))
    default = "" if usual is None else f" Where nothing is typed it is {group}={usual}."
    yield f"{typed}: {words.get(group) or _words_within(kind, group)}{default}"
    for one in [one for one in names(group) if name in ("", one)]:
        option = options(group).get(one)
        said = inspect.getdoc(option).split("\n\n")[0] if option else _head(group, one)  # type: ignore[union-attr]
        yield ""
        yield from _wrapped(f"{plus}{typed}={one}", said)
        if option is not None:
            yield from _settings(option, f"{typed}.")
    files = [one for one in names(group) if one not in options(group)]
    if name in files:
        yield from _text(group, name)


def _words_within(kind: Any, group: str) -> str:
    """Give what a group within another says of itself."""
    for f in fields(kind):
        if about(f).group == group:
            return about(f).words
        parts = [f.default_factory] if is_dataclass(f.default_factory) else options(about(f).group or "").values()
        for part in parts:
            if found := _words_within(part, group):
                return found
    return ""


def _settings(kind: type, prefix: str) -> Iterator[str]:
    """Describe the settings of a class, and those of its parts."""
    for f in fields(kind):
        if is_dataclass(f.default_factory):
            yield from _settings(f.default_factory, f"{prefix}{key_of(f)}.")
        else:
            yield from _setting(f, prefix)


def _setting(f: Field[Any], prefix: str) -> Iterator[str]:
    yield from _wrapped(f"  {prefix}{key_of(f)}={_default(f)}", meaning(f))


def _keys(kind: type, word: str) -> Iterator[str]:
    """Describe one setting, of each option that has it."""
    for f in fields(kind):
        key, group = key_of(f), about(f).group
        if key == word and group is None:
            yield from _setting(f, "")
        parts = {"": f.default_factory} if is_dataclass(f.default_factory) else options(group or "")
        for name, part in parts.items() if word.startswith(f"{key}.") else ():
            own = list(_inside(part, f"{key}.", word))
            if own and name and is_named(group or ""):
                yield f"with {key}={name}"
            yield from own


def _inside(kind: Any, prefix: str, word: str) -> Iterator[str]:
    """Describe the setting of that key among those of a class, and of its parts; a part by all that it has."""
    for f in fields(kind):
        key = f"{prefix}{key_of(f)}"
        if is_dataclass(f.default_factory) and f"{word}.".startswith(f"{key}."):
            yield from (
                _settings(f.default_factory, f"{key}.") if key == word else _inside(f.default_factory, f"{key}.", word)
            )
        elif key == word:
            yield from _setting(f, prefix)


def _default(f: Field[Any]) -> str:
    follows = (about(f).follows or "").partition(":")
    if not follows[1] and follows[0]:
        return f"({follows[0]})"
    if f.default is MISSING and f.default_factory is MISSING:
        return "(must be given)"
    value = f.default if f.default_factory is MISSING else f.default_factory()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _usual(command: str) -> dict[str, str]:
    """Read what is chosen of each group where nothing is typed."""
    file = yaml_dir("conf") / f"{command}.yaml"
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))["defaults"]
    return {key: name for entry in entries if isinstance(entry, dict) for key, name in entry.items() if "/" not in key}


def _text(group: str, name: str) -> Iterator[str]:
    """Show the file of a preset, without its head."""
    yield from (f"    {line}" for line in _file(group, name) if not line.startswith("#"))


def _head(group: str, name: str) -> str:
    """Read what a preset's file says of itself."""
    lines = _file(group, name)
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ") for line in lines[:end] if "@package" not in line)


def _file(group: str, name: str) -> list[str]:
    folder = {"experiment": "experiments", "sweep": "sweeps"}.get(group)
    root = yaml_dir(folder) if folder else yaml_dir("conf") / group
    return (root / f"{name}.yaml").read_text(encoding="utf-8").splitlines()


def _wrapped(key: str, words: str) -> Iterator[str]:
    """Put a meaning beside its key, or below it where the key is long."""
    lines = textwrap.wrap(" ".join(words.split()), WIDTH - LEFT) or [""]
    if len(key) >= LEFT:
        yield key
        yield from (f"{'':<{LEFT}}{line}" for line in lines)
        return
    yield f"{key:<{LEFT}}{lines[0]}".rstrip()
    yield from (f"{'':<{LEFT}}{line}" for line in lines[1:])


def _unknown(kind: type, word: str) -> UserError:
    from gatepo.overrides import keys

    if word in from_trl.NAMES:
        return UserError(f"help must name what gatepo has, got {KEY}{word}, a name of TRL's; see docs/from-trl.md")
    known = [*_groups(kind), *keys(kind), *(name for group in _groups(kind) for name in names(group))]
    near = nearest(word, known)
    meant = f"did you mean {KEY}{near}?" if near else f"type e.g. {KEY}{_groups(kind)[0]}"
    return UserError(f"help must name a group, an option or a setting, got {KEY}{word}; {meant} --help lists all")
