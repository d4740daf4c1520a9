"""Every option and setting with its meaning, from the classes themselves: ``--help``, and conf/README.md.

python -m gatepo.reference > conf/README.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from gatepo.launch.settings import MultirunSettings
from gatepo.presets import names, register, yaml_dir
from gatepo.schema import COMMANDS, TrainConfig
from gatepo.settings import ANYTHING, about, groups, key_of, name_of, options

ADDED = {
    "method": "A published method, as a choice on several axes.",
    "experiment": "A run of experiments/.",
    "sweep": "A grid of sweeps/, with -m.",
    "source": "One more source: +source@data.sources.NAME=...",
}
"""Groups that are added with a plus."""


def help_page(command: str, words: list[str]) -> str:
    """Write what ``python -m gatepo.COMMAND WORDS --help`` prints: groups, then every setting as it is composed."""
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        composed = compose(command, words, return_hydra_config=True)
    kind = COMMANDS.get(command, TrainConfig)
    lines = [str(composed.hydra.help.header), "", "Groups, GROUP=NAME; those with a plus are added:"]
    chosen = [(key, about(f).words) for key, f in _choices(kind, "")]
    added = [(f"+{name}", words) for name, words in ADDED.items() if kind is TrainConfig]
    for group, meaning in (*chosen, *added):
        known = names(group.removeprefix("+").replace(".", "/"))
        lines += [f"  {group:<12} {meaning}", f"  {'':<12} {', '.join(known)}"]
    lines += ["", "Settings, KEY=VALUE, as they are here:"]
    lines += [_line(key, value, field) for key, value, field in _settings(kind, composed, "")]
    more = "help=GROUP shows every option of a group with its settings; --cfg job prints the config."
    return "\n".join([*lines, "", more])


def markdown() -> str:
    """Write conf/README.md: each group with its presets, and its options with their settings."""
    lines = [
        "# What can be chosen",
        "",
        "Made by `python -m gatepo.reference > conf/README.md` from the options themselves.",
        "",
    ]
    chosen = {key.replace(".", "/"): about(f) for key, f in _choices(TrainConfig, "")}
    chosen |= {key_of(f): about(f) for f in fields(TrainConfig)}
    for group in dict.fromkeys([*(name for name in chosen if chosen[name].group), *groups()]):
        own = chosen.get(group)
        lines += [f"## {group.replace('/', '.')}", "", *([own.words, ""] if own is not None else [])]
        files = [name for name in names(group) if name not in options(group)]
        if files:
            lines += [f"Presets, each a file of `conf/{group}/`: {', '.join(files)}.", ""]
        lines += ["| option | setting | default | meaning |", "| --- | --- | --- | --- |"]
        for name, kind in options(group).items():
            lines.append(f"| `{name}` | | | {_cell(_first_sentence(kind))} |")
            lines += [_row(f) for f in fields(kind)]
        lines.append("")
    lines += ["## Settings without a group", "", "| setting | default | meaning |", "| --- | --- | --- |"]
    for key, f in (*_plain_fields(TrainConfig, ""), *_plain_fields(MultirunSettings, "")):
        lines.append(f"| `{key}` | {_default(f)} | {_cell(meaning(f))} |")
    return "\n".join(lines) + "\n"


def _settings(kind: type, composed: DictConfig, prefix: str) -> Iterator[tuple[str, Any, Field[Any] | None]]:
    """Yield (key, value, field) of all that a composed config holds, options and parts after their own line."""
    for f in fields(kind):
        key, group = key_of(f), about(f).group
        if OmegaConf.is_missing(composed, key):
            yield f"{prefix}{key}", "(must be given)", f
            continue
        value = composed[key]
        part = f.default_factory if is_dataclass(f.default_factory) else None
        if group is not None:
            name = value.get("name", value.get("_target_", "own"))
            yield f"{prefix}{key}", name, None
            part = options(group).get(name)
        elif about(f).each is not None:
            yield f"{prefix}{key}", list(value), f
        elif part is None:
            yield f"{prefix}{key}", value, f
        if part is not None:
            yield from _settings(part, value, f"{prefix}{key}.")


def _choices(kind: type, prefix: str) -> Iterator[tuple[str, Field[Any]]]:
    """Yield the fields that hold an option, those within options behind them."""
    for f in fields(kind):
        if group := about(f).group:
            yield f"{prefix}{key_of(f)}", f
            if "own" in options(group):
                yield from _choices(options(group)["own"], f"{prefix}{key_of(f)}.")


def _plain_fields(kind: type, prefix: str) -> Iterator[tuple[str, Field[Any]]]:
    for f in fields(kind):
        if is_dataclass(f.default_factory):
            yield from _plain_fields(f.default_factory, f"{prefix}{key_of(f)}.")
        elif about(f).group is None:
            yield f"{prefix}{key_of(f)}", f


def _line(key: str, value: Any, f: Field[Any] | None) -> str:
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"  {f'{key}={shown}':<44} {'' if f is None else meaning(f)}".rstrip()


def meaning(f: Field[Any]) -> str:
    """Say what a setting means, and what it must be."""
    known = about(f)
    return known.words if known.rule is ANYTHING else f"{known.words} It {known.rule.words}."


def _row(f: Field[Any]) -> str:
    return f"| | `{key_of(f)}` | {_default(f)} | {_cell(meaning(f))} |"


def _default(f: Field[Any]) -> str:
    follows = (about(f).follows or "").partition(":")  # a key, or what is computed, which the meaning says
    if not follows[1] and (follows[0] or (f.default is MISSING and f.default_factory is MISSING)):
        return f"`{follows[0]}`" if follows[0] else "must be given"
    value = f.default if f.default_factory is MISSING else f.default_factory()
    value = name_of(value) if about(f).group else value
    return "" if value in (None, [], {}) else str(value).lower() if isinstance(value, bool) else _cell(str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _first_sentence(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def main() -> None:
    """Print conf/README.md."""
    register()
    print(markdown(), end="")


if __name__ == "__main__":
    main()
