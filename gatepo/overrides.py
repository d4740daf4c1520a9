"""The words of a command line: what Hydra needs before it reads them, and what it says of wrong ones, as one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatepo import slips
from gatepo.config import MIRRORED, TARGET, register_outside, type_words
from gatepo.data.words import EVALUATION, SOURCES, spelled_out
from gatepo.errors import UserError
from gatepo.launch.settings import MultirunSettings
from gatepo.presets import names
from gatepo.schema import TrainConfig
from gatepo.settings import about, is_named, is_needed, key_of, options, remedy_of
from gatepo.targets import find, settings_of
from gatepo.tracking import words as trackers

FORMULA_KEYS = ("gate.slope", "gate.value")
_TEXT = re.compile(r"data\.(system|((sources|evaluation)\.\w+\.)?answer_marker)")
_TARGET = re.compile(r"\+?(?P<key>[\w.]+)\._target_=(?P<paths>.*)")
_SOURCE = re.compile(r"data\.(sources|evaluation)\.\w+")
_UNKNOWN = re.compile(r"Could not override '(?P<key>[^']*)'|Key '(?P<name>[^']*)' is not in struct")
_TYPE = re.compile(r"Error merging override \+*(?P<key>[\w.]+)=(?P<value>.*)")
_OPTION = re.compile(r"Could not find '(?P<group>[^']+)/(?P<name>[^/']+)'")
_LISTED = re.compile(r"Could not load '(?P<group>[^']+)/(?P<name>[^/']+)'")  # among several, as in data=[gsm8k,NAME]


def prepared(words: Iterable[str], command: str = "train") -> list[str]:
    """Make the words ready for Hydra: formulas quoted, files of data as sources, classes from outside as options.

    Args:
      words: of the command line.
      command: the name of its configuration; ``evaluate`` takes files of data as evaluation sets.
    Raises:
      UserError: a class from outside cannot be imported, files of data have no names of their own, or a slip.
    """
    words = list(words)
    slips.check(words, command)
    part = EVALUATION if command == "evaluate" else SOURCES
    chosen = trackers.spelled_out(spelled_out(words, part), lambda path: register_outside("tracker", path, "tracker"))
    return [_nested(_outside(_beyond_ascii(quoted(word)))) for word in chosen]


def flags_first(words: Sequence[str]) -> list[str]:
    """Put flags, with their values, before the settings, as Hydra's parser wants them."""
    flags: list[str] = []
    settings: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        of_flag = before in slips.WITH_A_VALUE
        (flags if word.startswith("-") or of_flag else settings).append(word)
    return [*flags, *settings]


def quoted(word: str) -> str:
    """Put a formula, a marker or a system prompt in the quotes that Hydra needs; the shell has taken the user's own."""
    key, equals, formula = word.partition("=")
    free = key in FORMULA_KEYS or (_TEXT.fullmatch(key) is not None and "${" not in formula)
    if not free or not equals or formula[:1] in ("", "'", '"') or formula == "null":
        return word
    return f"{key}='{formula.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"


def _beyond_ascii(word: str) -> str:
    """Put a value with letters that Hydra's grammar does not know, such as a field's or a folder's name, in quotes."""
    key, equals, value = word.partition("=")
    if value.isascii() or not equals or value[:1] in "'\"[{" or "," in value or "${" in value:
        return word
    return f"{key}='{value.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"


def _outside(word: str) -> str:
    """Write ``GROUP._target_=PATH`` as ``GROUP=PATH``, of a class that is an option from now on."""
    match = _TARGET.fullmatch(word)
    if match is None:
        return word
    key, paths = match["key"], match["paths"]
    group = "source" if _SOURCE.fullmatch(key) else key.replace(".", "/")
    if not (group == "source" or (options(group) and is_named(group))):
        return word
    for path in paths.split(","):
        register_outside(group, path, key)
    return f"+source@{key}={paths}" if group == "source" else f"{key}={paths}"


def _nested(word: str) -> str:
    """Write ``model.adapter=NAME``, an option within another, as Hydra has it: ``model/adapter=NAME``."""
    key, equals, name = word.partition("=")
    group = key.replace(".", "/")
    return f"{group}{equals}{name}" if "/" in group and options(group) and equals else word


def one_line(error: BaseException, kind: type | None, words: list[str]) -> str:
    """Say in one line what is wrong with a command line that Hydra refused.

    Args:
      error: Hydra's or OmegaConf's.
      kind: the class of the command's settings; None where it is not known.
      words: of the command line.
    """
    text = " ".join(str(error).split())
    given = dict(word.lstrip("+~").split("=", 1) for word in words if "=" in word)
    if several := slips.ambiguous(text):
        return several
    if kind is not None:
        if match := _UNKNOWN.search(text):
            return _unknown(match["key"] or match["name"], given, kind)
        if match := _TYPE.search(text):
            return _wrong_type(match["key"], match["value"].split(" ")[0], error.__cause__)
        if match := _OPTION.search(text) or _LISTED.search(text):
            return _no_option(match["group"], match["name"])
        if "Config group override must be a string" in text:
            return _number_for_an_option(given, kind)
    cause = error.__cause__ or error
    texts = [" ".join(str(e).split()) for e in ((error, cause) if cause is not error else (error,))]
    return "; ".join(dict.fromkeys(text for text in texts if text)) + "; see --help for groups and keys"


def is_hydras(error: BaseException) -> bool:
    """Say whether Hydra or OmegaConf raised the error, and not code that they called."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return isinstance(error, ValueError | TypeError) and module.startswith("hydra.")


def keys(kind: type) -> dict[str, Any]:
    """List the dotted keys of a command with their fields: its own, those of its parts, and of all options."""
    found: dict[str, Any] = {}
    for f in fields(kind):
        key = key_of(f)
        found[key] = f
        parts = [f.default_factory] if is_dataclass(f.default_factory) else [*options(about(f).group or "").values()]
        for part in parts:
            found |= {f"{key}.{inner}": field for inner, field in keys(part).items()}
    return found


def may_change(kind: type, prefix: str = "") -> list[str]:
    """List the keys with which a run may go on whatever they were."""
    named: list[str] = []
    for f in fields(kind):
        key = f"{prefix}{key_of(f)}"
        if about(f).may_change:
            named.append(key)
        elif is_dataclass(f.default_factory) and isinstance(f.default_factory, type):
            named += may_change(f.default_factory, f"{key}.")
    return named


def _unknown(key: str, given: dict[str, str], kind: type) -> str:
    """Explain a key that is no setting of what was chosen."""
    if known_elsewhere := slips.unknown(key, given.get(key, "")):
        return known_elsewhere
    goes_on = given.get("resume", "null")
    if goes_on not in ("null", "auto") and kind is TrainConfig:
        return (
            f"{key} must stay as it was when {goes_on} was trained, got {key}={given.get(key, '')}; a run goes on with "
            f"other {', '.join(may_change(kind))} alone"
        )
    if added := _added(key, given.get(key, ""), kind):
        return added
    known = keys(kind) | {f.name: f for f in fields(MultirunSettings)}
    group, _, inner = key.partition(".")
    if options("/".join(key.split(".")[:2])):  # an option within another
        group, inner = ".".join(key.split(".")[:2]), key.split(".", 2)[-1]
    outside = _settings_outside(group, given)
    if inner and outside is not None:
        near = get_close_matches(inner, outside, n=1, cutoff=0.5)
        has = f"; it has {', '.join(f'{group}.{name}' for name in outside)}" if outside else "; it has none"
        meant = f"; did you mean {group}.{near[0]}?" if near else has
        return f"{key} must be a setting of what is chosen, got {key}={given.get(key, '')}{meant}"
    owners = [name for name, option in options(group.replace(".", "/")).items() if inner and inner in keys(option)]
    got = f"{key} must be a setting of what is chosen, got {key}={given.get(key, '')}"
    if owners:
        return f"{got}; {group}={', '.join(owners)} {'have' if len(owners) > 1 else 'has'} it"
    of_group = {name.removeprefix(f"{group}."): name for name in known if name.startswith(f"{group}.")}
    within = [of_group[name] for name in get_close_matches(inner, of_group, n=1, cutoff=0.5)]
    elsewhere = [] if of_group else get_close_matches(key, known, n=1)
    longer = [name for name in known if name.endswith(f".{key}")]
    shorter = [] if of_group else [name for name in known if key.endswith(f".{name}")]
    near = longer or shorter or within or elsewhere
    known_here = [*of_group.values()] or [name for name in known if "." not in name]
    if not near:
        return f"{got}; it has {', '.join(known_here)}; --help lists all"
    return f"{got}; did you mean {near[0]}? help={near[0]} shows it, --help lists all"


def _settings_outside(group: str, given: dict[str, str]) -> list[str] | None:
    """List the settings of the class or function from outside that was typed for a group; None where none was."""
    path, within = given.get(f"{group}.{TARGET}", given.get(group, "")), group.replace(".", "/")
    if not (options(within) and is_named(within) and re.fullmatch(r"\w+(\.\w+)+", path)):
        return None
    try:
        return [*settings_of(group, find(f"{group}.{TARGET}", path))]
    except UserError:  # it cannot be imported, or is no class of settings, which is said where it is chosen
        return None


def _added(key: str, value: str, kind: type) -> str | None:
    """Explain an entry of a setting that holds entries by name, which Hydra wants with a plus; None of another key."""
    free = [name for name, field in keys(kind).items() if str(field.type).startswith("dict[") and not about(field).each]
    named = [name for name in free if key.startswith(f"{name}.")]
    if not named:
        return None
    return f"{key} must be added with a plus, got {key}={value}; type +{key}={value}"


def _wrong_type(key: str, value: str, cause: BaseException | None) -> str:
    """Explain a value of another type than the setting's, which is that of the option chosen."""
    kind = getattr(OmegaConf.get_type(getattr(cause, "parent_node", None)), MIRRORED, None)
    field = next((f for f in fields(kind) if key_of(f) == key.rpartition(".")[2]), None) if kind else None
    if field is None:
        return f"{key} must have a value of its type, got {value}; see --help for its default"
    if is_dataclass(field.default_factory):
        parts = ", ".join(f"{key}.{key_of(f)}" for f in fields(field.default_factory))
        return f"{key} must be set part by part, got {value}; it has {parts}"
    return f"{key} must be {type_words(field.type)}, got {value}; {remedy_of(field)}"


def _no_option(group: str, name: str) -> str:
    """Explain a name that no option and no file of the group has; presets may lie in folders below it."""
    group, _, folder = (group, "", "") if options(group) else group.partition("/")
    name = f"{folder}/{name}" if folder else name
    known = sorted(names(group))
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    group = group.replace("/", ".")
    plus = "+" if group in slips.ADDED else ""
    is_method = group != "method" and name in names("method")  # sapo is near aspo, and neither is a gate
    guess = f"did you mean {plus}{group}={near[0]}?" if near and not is_method else None
    meant = guess or slips.option(group, name) or "choose one of these"
    return f"{group} must be one of {', '.join(known)}, got {group}={name}; {meant}"


def _number_for_an_option(given: dict[str, str], kind: type) -> str:
    """Explain ``tau=5``, a number in the place of an option's name."""
    groups = [key_of(f) for f in fields(kind) if about(f).group]
    key = next((key for key in groups if key in given and not given[key].isidentifier()), groups[0])
    value = given.get(key, "")
    floats = ([f for f in fields(option) if f.type == "float" and is_needed(f)] for option in options(key).values())
    first, *others = [f"{key}.{key_of(f)}" for f in next(filter(None, floats), [])] or [""]
    beside = "".join(f" {other}={value}" for other in others)
    meant = f"type {first}={value}{beside}, or a name" if first and value != "null" else "type a name"
    if key in slips.NUMBERS and value != "null":
        meant = f"type {slips.NUMBERS[key].format(value)}"
    return f"{key} must be the name of an option, got {key}={value}; {meant} (--help lists them)"
