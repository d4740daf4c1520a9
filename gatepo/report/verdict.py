"""What a study says of a claim: the contract between who judges (``gatepo.study``) and who prints (the page)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Word = Literal["holds", "does not hold", "cannot be told", "not run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One claim, judged. Numbers are None where nothing was run that could give them."""

    claim: str  # its name, such as C3
    says: str  # the claim in words
    word: Word
    statistic: str  # what was computed of each seed, in words and with its unit
    estimate: float | None
    low: float | None  # the interval of the estimate, adjusted for the number of claims
    high: float | None
    smallest: float  # effect of interest, fixed before the first run
    seeds: tuple[int, ...]
    seeds_needed: int | None  # that would tell, where it cannot be told
    runs: tuple[str, ...]  # folders, relative to the study's
    registered: bool  # before the first run; otherwise the claim is exploratory
    remark: str = ""
