"""Words of a command line with a slip in their form, or as other programs have them: what to type here instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import takewhile

from gatepo import from_trl
from gatepo.errors import UserError
from gatepo.presets import names
from gatepo.settings import is_named, options

ADDED = ("experiment", "method", "sweep")  # groups that no default has chosen, so that Hydra wants a plus
MULTIRUN = ("-m", "--multirun")
FLAGS = (
    *MULTIRUN,
    "-h",
    "--help",
    "--hydra-help",
    "--version",
    "-r",
    "--run",
    "--resolve",
    "-sc",
    "--shell-completion",
)
WITH_A_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"),
    *("--experimental-rerun", "-i", "--info"),
)
ELSEWHERE = {"gate.tau": "tau.pos=5 tau.neg=5"}  # keys that are nowhere, and what is meant
OWN_GATE = "gate=custom gate.slope='1/(1+(tau*(x-1))**2)', or gate._target_=my_module.MyGate (docs/your-gate.md)"
_PAIR = re.compile(r"(?P<open>[\[(]?)\s*(?P<pos>[\d.eE+-]+)\s*,\s*(?P<neg>[\d.eE+-]+)\s*[\])]?")  # as (10, 12) of tau
NUMBERS = {"kl": "kl=fixed kl.coefficient={}"}  # a number for an option that none of its settings needs


def check(words: Sequence[str], command: str = "train") -> None:
    """Refuse what Hydra would refuse in words that help nobody.

    Args:
      words: of the command line.
      command: the name of its configuration.
    Raises:
      UserError: a setting has dashes, no "=", a space behind a comma or "=", a name of TRL's, or brackets around the
        options of a grid.
    """
    theirs = _of_trl(words)
    if theirs:
        got = " ".join(f"{name}={value}" for name, value in theirs.items())
        ours = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("-"))
        raise UserError(
            f"settings must have the names of gatepo, got {got}; {from_trl.answer(theirs, ours)} (docs/from-trl.md)"
        )
    grid = bool(set(MULTIRUN) & set(words))
    for place, word in enumerate(words):
        before, behind = words[place - 1] if place else "", "".join(words[place + 1 : place + 2])
        key, equals, value = word.partition("=")
        if before in WITH_A_VALUE or word in FLAGS or key in WITH_A_VALUE or word.startswith("~"):
            continue
        if word.startswith("-"):
            bare = word.lstrip("-") if equals else f"{word.lstrip('-')}={_value(behind)}"
            raise UserError(f"a setting must stand without dashes, got {word}; type {bare}")
        if word.endswith(",") and _value(behind) == behind:
            whole = shlex.quote(f"{word}{behind}") if "[" in word and behind.endswith("]") else f"{word}{behind}"
            raise UserError(f"values must have no space between them, got {word}; type {whole}")
        if not equals and behind == "=":
            raise UserError(
                f"= must stand without spaces, got {' '.join(words[place : place + 3])}; type "
                f"{''.join(words[place : place + 3])}"
            )
        if not equals and before.endswith("="):
            raise UserError(f"a value must stand right behind the =, got {before} {word}; type {before}{word}")
        if not equals:
            takes_run = command in ("evaluate", "probe") and "/" in word
            meant = f"run={word}" if takes_run else f"{word}={_value(behind)}"
            raise UserError(f"a setting must be KEY=VALUE, got {word}; type {meant}")
        pair = _PAIR.fullmatch(value)
        if key == "tau" and pair and (not grid or pair["open"]):
            meant = f"tau.pos={pair['pos']} tau.neg={pair['neg']}"
            raise UserError(f"tau must be the name of an option, got {word}; type {meant}")
        group = key.lstrip("+").replace(".", "/")
        if grid and value.startswith("[") and key != "tracker" and options(group) and is_named(group):
            without = value.strip("[]").replace(" ", "")
            raise UserError(f"{key} must be options without brackets in a grid, got {word}; type {key}={without}")


def _value(behind: str) -> str:
    return behind if behind and "=" not in behind and not behind.startswith("-") else "VALUE"


def unknown(key: str, value: str) -> str | None:
    """Say what to type for a key that is no setting; None where nothing is known of it."""
    if key in ADDED:
        return f"{key} must be added with a plus, got {key}={value}; type +{key}={value}"
    if key in ELSEWHERE:
        return f"{key} must be a setting of what is chosen, got {key}={value}; type {ELSEWHERE[key]}"
    return None


def _of_trl(words: Sequence[str]) -> dict[str, str]:
    """Find TRL's names with their values: NAME=VALUE, --NAME=VALUE, --NAME VALUE, or --NAME alone for true."""
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")  # TRL's parser takes either
        if name not in from_trl.NAMES or not (equals or word.startswith("--")):
            continue
        behind = [*takewhile(_is_value, words[place + 1 :])][: None if name in from_trl.SEVERAL else 1]
        found[name] = value if equals else ",".join(behind) or "true"
    return found


def _is_value(word: str) -> bool:
    return "=" not in word and (not word.startswith("-") or re.fullmatch(r"-[\d.]+", word) is not None)


def option(group: str, name: str) -> str | None:
    """Say what to type for a name that is no option; None where nothing is known of it."""
    if name in names("method") and group != "method":
        return f"type +method={name}"
    if group == "data" and "/" in name:
        return f"type data={name}/FILE.jsonl, or data=NAME data.path={name} for one of these"
    if group == "model":
        return f"type model.path={name}"
    if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name) and is_named(group):
        return f"type {group}._target_={name}"
    if group == "gate":
        return f"choose one of these, write your own ({OWN_GATE}), or name the folder of your files by --config-dir"
    if options(group) and is_named(group):
        return f"choose one of these, or name a class of yours: {group}._target_=my_module.MyClass"
    return None


def ambiguous(text: str) -> str | None:
    """Explain Hydra's refusal of several values for one run; None where the text is none."""
    match = re.search(r"Ambiguous value for argument '(?P<word>[^']*)'", text)
    if match is None:
        return None
    key, _, values = match["word"].partition("=")
    return f"{key} must have one value, got {values}; add -m for a run with each (a list stands in brackets)"
