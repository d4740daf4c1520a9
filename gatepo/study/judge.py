"""From what the runs say to a verdict on each claim, at levels that Holm's rule gives to all claims together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from gatepo.report.runs import Run
from gatepo.report.verdict import Verdict, Word
from gatepo.study.claims import Claim, Registration
from gatepo.study.evidence import Coordinates, Evidence, Runs, evidence
from gatepo.study.intervals import holm

HOLDS, DOES_NOT_HOLD, UNDECIDED, NOT_RUN = get_args(Word)


def verdicts(
    registration: Registration,
    chosen: Sequence[Claim],
    runs: Runs,
    seeds: Sequence[int],
    folder: Path,
    coordinates: Coordinates,
    registered: Mapping[str, str],
) -> list[Verdict]:
    """Judge the chosen claims.

    Args:
      registration: all claims; the level of each is as if all were judged, those without runs being undecided.
      chosen: of these.
      runs: the finished runs, by cell and seed.
      seeds: that were asked for.
      folder: of the study.
      coordinates: of a run, for a claim about a curve.
      registered: digests of the claims as they were when the first run began, by name; none where settings were typed
        that no claim has.
    """
    judged = [claim for claim in registration.claims if not claim.not_run]
    known = {claim.id: evidence(claim, runs, seeds, coordinates) for claim in judged if claim in chosen}
    decided = [_decided(known.get(claim.id)) for claim in judged]
    levels = {claim.id: level for claim, level in zip(judged, holm(decided, registration.alpha), strict=True)}
    found = []
    for claim in chosen:
        own = tuple(_shown(runs[cell, seed], folder) for cell in claim.cells for seed in seeds if (cell, seed) in runs)
        said, alpha = known.get(claim.id), levels.get(claim.id, registration.alpha)
        same = registered.get(claim.id) == registration.digests[claim.id]
        whole = said is not None and said.seeds == registration.seeds
        found.append(_verdict(claim, said, alpha, own, same and (whole or bool(claim.not_run)), registration))
    return found


def _decided(said: Evidence | None):  # type: ignore[no-untyped-def]
    return (lambda alpha: False) if said is None else said.decided


def _verdict(
    claim: Claim, said: Evidence | None, alpha: float, runs: tuple[str, ...], registered: bool, all_of: Registration
) -> Verdict:
    if said is None:
        remark = claim.not_run or ("too few runs, or too few that came so far" if runs else "no run of it has finished")
        word: Word = UNDECIDED if runs else NOT_RUN
        return _of(claim, word, claim.outcome, runs, registered, remark=remark)
    interval = said.interval(alpha)
    word = {True: HOLDS, False: DOES_NOT_HOLD, None: UNDECIDED}[said.decide(interval)]
    missing = len(all_of.seeds) - len(said.seeds)
    parts = [f"interval of {100 * (1 - alpha):.4g}%", *([f"of {interval.of}"] if interval.of else []), said.remark]
    parts += [f"{len(said.seeds)} of {len(all_of.seeds)} registered seeds"] if missing else []
    return _of(
        claim,
        word,
        said.statistic,
        runs,
        registered,
        estimate=interval.estimate,
        low=_finite(interval.low),
        high=_finite(interval.high),
        seeds=said.seeds,
        seeds_needed=said.needed(alpha) if word == UNDECIDED else None,
        remark="; ".join(parts),
    )


def _of(claim: Claim, word: Word, statistic: str, runs: tuple[str, ...], registered: bool, **known: object) -> Verdict:
    given = {"estimate": None, "low": None, "high": None, "seeds": (), "seeds_needed": None, **known}
    return Verdict(
        claim=claim.id,
        says=claim.says,
        word=word,
        statistic=statistic,
        smallest=claim.delta,
        runs=runs,
        registered=registered,
        **given,  # type: ignore[arg-type]
    )


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _shown(run: Run, folder: Path) -> str:
    return run.folder.relative_to(folder).as_posix()


def line(verdict: Verdict) -> str:
    """Say a verdict in one line."""
    words = f"{verdict.claim:<12} {verdict.word:<15} {verdict.says}"
    if verdict.estimate is None:
        return f"{words}: {verdict.remark}"
    bounds = ", ".join("unbounded" if bound is None else f"{bound:.3g}" for bound in (verdict.low, verdict.high))
    parts = [
        f"{verdict.statistic}: {verdict.estimate:.3g} [{bounds}]",
        f"smallest of interest {verdict.smallest:.3g}",
        f"seeds {', '.join(map(str, verdict.seeds))}",
    ]
    if verdict.word == UNDECIDED:
        parts.append(f"needs {verdict.seeds_needed or 'an unknown number of'} seeds")
    parts += [] if verdict.registered else ["exploratory"]
    return f"{words}: {'; '.join(parts)}; {verdict.remark}"
