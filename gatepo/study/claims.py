"""The claims of a study, as they were registered: what each compares, by which statistic and test, what is enough.

A cell is a choice of settings, ``{gate: erf, tau: t1}``; a list of values stands for as many cells. ``a`` and ``b`` are
cells: the mean over those of ``a`` is compared with each of ``b``, and a claim holds where it holds against each.
``among`` are cells of which none is special.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from gatepo.errors import UserError
from gatepo.study.outcomes import outcome

Cell = tuple[tuple[str, str], ...]
"""Settings and their values, in the order in which they are typed."""

STATISTICS: dict[str, tuple[str, ...]] = {
    "difference": ("a > b", "a < b"),
    "log_ratio": ("a > b", "a < b"),
    "mean": ("a > 0", "a < 0"),
    "trend": ("rises", "falls"),
    "curve": ("half_width",),
}
"""What is computed of each seed, with what can be predicted of it."""
TESTS = ("t", "mcnemar", "equivalence")
_KEYS = ["id", "says", "outcome", "statistic", "test", "a", "b", "among", "over", "predicts", "delta", "why", "not_run"]
_FROZEN = ["experiment", "seeds", "alpha", "correction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim. One that is not run has no cells."""

    id: str
    says: str
    outcome: str = ""
    statistic: str = "difference"
    test: str = "t"
    a: tuple[Cell, ...] = ()
    b: tuple[Cell, ...] = ()
    among: tuple[Cell, ...] = ()
    over: str = ""  # the setting whose logarithm a trend is over
    predicts: str = ""
    delta: float = 0.0  # smallest effect of interest
    not_run: str = ""  # why

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All that it needs, each once."""
        return tuple(dict.fromkeys((*self.a, *self.b, *self.among)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What was fixed before the first run."""

    experiment: str
    seeds: tuple[int, ...]
    alpha: float
    claims: tuple[Claim, ...]
    sha256: str  # of the file
    digests: Mapping[str, str]  # of each claim, by name, with all that is frozen

    def chosen(self, names: Sequence[str] | None) -> tuple[Claim, ...]:
        """Give the claims of these names; C9 stands for C9.eur and C9.accuracy.

        Raises:
          UserError: there is no claim of a name.
        """
        if names is None:
            return self.claims
        for name in names:
            if not any(_named(claim, name) for claim in self.claims):
                known = ", ".join(claim.id for claim in self.claims)
                raise UserError(f"claims must be of {known}, got {name}; type e.g. claims=[C3,C5]")
        return tuple(claim for claim in self.claims if any(_named(claim, name) for name in names))


def _named(claim: Claim, name: str) -> bool:
    return name in (claim.id, claim.id.partition(".")[0])


def slug(cell: Cell) -> str:
    """Name a cell as a folder.

    >>> slug((("gate", "erf"), ("tau", "matched"), ("tau.half_width", "0.1")))
    'erf_matched_half_width-0.1'
    """
    return "_".join(f"{key.rpartition('.')[2]}-{value}" if "." in key else value for key, value in cell)


def read(path: Path) -> Registration:
    """Read and check a file of claims.

    Raises:
      UserError: what is wrong with it, in one line.
    """
    try:
        content = path.read_bytes()
        held = yaml.safe_load(content)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be a YAML file of claims, got {str(error).splitlines()[0]}") from error
    match held:
        case {"frozen": dict(frozen), "claims": [*given], **rest} if not rest:
            pass
        case _:
            raise UserError(f"{path} must hold frozen and claims, and nothing else, got {_short(held)}")
    _require_keys(f"{path}: frozen", frozen, _FROZEN, needed=_FROZEN)
    if frozen["correction"] != "holm":
        raise UserError(f"{path}: frozen.correction must be holm, got {frozen['correction']}; there is no other")
    alpha = frozen["alpha"]
    if not isinstance(alpha, float) or not 0 < alpha < 0.5:
        raise UserError(f"{path}: frozen.alpha must be in (0, 0.5), got {alpha}; 0.05 is usual")
    claims = tuple(_claim(f"{path}: claim {number}", each) for number, each in enumerate(given, 1))
    names = [claim.id for claim in claims]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: every claim must have an id of its own, got {', '.join(names)}")
    return Registration(
        experiment=str(frozen["experiment"]),
        seeds=_seeds(path, frozen["seeds"]),
        alpha=alpha,
        claims=claims,
        sha256=hashlib.sha256(content).hexdigest(),
        digests={each["id"]: _digest({"frozen": frozen, "claim": each}) for each in given},
    )


def _seeds(path: Path, given: object) -> tuple[int, ...]:
    """Read ``10..19``."""
    match = re.fullmatch(r"(\d+)\.\.(\d+)", str(given))
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"{path}: frozen.seeds must be FIRST..LAST, two or more, got {given}; type e.g. 10..19")
    return tuple(range(int(match[1]), int(match[2]) + 1))


def _claim(where: str, given: object) -> Claim:
    if not isinstance(given, dict):
        raise UserError(f"{where} must hold keys by name, got {_short(given)}")
    where = f"{where} ({given.get('id')})"
    if "not_run" in given:
        _require_keys(where, given, ["id", "says", "not_run"], needed=["id", "says", "not_run"])
        return Claim(id=str(given["id"]), says=str(given["says"]), not_run=str(given["not_run"]))
    _require_keys(where, given, _KEYS, needed=["id", "says", "outcome", "delta", "why"])
    texts = {
        name: str(given[name])
        for name in ("id", "says", "outcome", "statistic", "test", "over", "predicts")
        if name in given
    }
    cells = {name: tuple(_cells(f"{where}: {name}", given[name])) for name in ("a", "b", "among") if name in given}
    try:
        outcome(texts["outcome"])
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    made = Claim(**texts, **cells, delta=_delta(where, given["delta"]))  # type: ignore[arg-type]
    _require_whole(where, made)
    return made


def _require_whole(where: str, claim: Claim) -> None:
    """Refuse a claim that leaves open what is compared."""
    if claim.statistic not in STATISTICS:
        raise UserError(f"{where}: statistic must be one of {', '.join(STATISTICS)}, got {claim.statistic}")
    if claim.test not in TESTS:
        raise UserError(f"{where}: test must be one of {', '.join(TESTS)}, got {claim.test}")
    known, needed = STATISTICS[claim.statistic], {"a", "b"}
    needed = {"mean": {"a"}, "trend": {"among"}, "curve": {"among"}}.get(claim.statistic, needed)
    if claim.test == "equivalence":
        known, needed = (), {"among"}
    if claim.predicts not in (known or [""]):
        raise UserError(f"{where}: predicts must be {' or '.join(known) or 'left out'}, got {claim.predicts}")
    got = {name for name in ("a", "b", "among") if getattr(claim, name)}
    if got != needed:
        raise UserError(f"{where}: cells must be given as {' and '.join(sorted(needed))}, got {', '.join(sorted(got))}")
    if (claim.statistic == "trend") != bool(claim.over):
        raise UserError(f"{where}: over must be given for a trend alone, got {claim.over or 'none'}")
    if (claim.test == "mcnemar" or claim.statistic == "curve") and claim.outcome != "collapsed":
        raise UserError(f"{where}: outcome must be collapsed with this test or statistic, got {claim.outcome}")
    if claim.test == "mcnemar" and (claim.statistic != "difference" or len(claim.a) > 1 or len(claim.b) > 1):
        raise UserError(f"{where}: test=mcnemar must compare one cell with one other, got {len(claim.cells)} cells")


def _delta(where: str, given: object) -> float:
    """Read a number, or ``log 2``."""
    match = re.fullmatch(r"(log )?(\d+(?:\.\d+)?)", str(given))
    value = 0.0 if match is None else float(match[2])
    if match is not None and match[1] and value > 0:
        value = math.log(value)
    if value <= 0:
        raise UserError(f"{where}: delta must be a number > 0 or its log, got {given}; type e.g. 0.03 or log 2")
    return value


def _cells(where: str, given: object) -> Iterator[Cell]:
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, dict) or not one:
            raise UserError(f"{where} must be settings by name, got {_short(one)}; type e.g. {{gate: erf, tau: t1}}")
        values = [[str(value) for value in (held if isinstance(held, list) else [held])] for held in one.values()]
        for chosen in product(*values):
            yield tuple(zip(map(str, one), chosen, strict=True))


def _require_keys(where: str, given: Mapping[str, Any], known: Sequence[str], needed: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise UserError(f"{where} must have no key but {', '.join(known)}, got {key}; take it out")
    for key in needed:
        if key not in given:
            raise UserError(f"{where} must have {key}, got none; write it down before the first run")


def _digest(held: object) -> str:
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def _short(held: object) -> str:
    text = str(held)
    return text if len(text) <= 60 else f"{text[:60]}..."
