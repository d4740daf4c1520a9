"""Which training questions are evaluation problems in disguise.

A word is a run of letters and digits, after Unicode's NFKC and without case; punctuation, white space, LaTeX's
backslashes and Asymptote drawings do not count. A question is a held-out problem when both have the same words in the
same order, or when it holds at least half of the problem's runs of eight words. A problem of fewer than sixteen words
is matched as a whole only: half of its few runs could be a turn of phrase.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

RUN = 8  # words
PART, STRIDE = 4, 5  # words; wherever a run lies, PART of its words begin at a multiple of STRIDE within it
SHARE = 0.5  # of a problem's runs
SHORTEST = 16  # words of a problem that is looked for in parts
_WORD = re.compile(r"[^\W_]+")
_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)


class HeldOut:
    """Problems that must not be trained on.

    Args:
      questions: of the evaluation sets.
    """

    def __init__(self, questions: Iterable[str]) -> None:
        self._whole: set[str] = set()
        self._problems: dict[tuple[str, ...], list[int]] = defaultdict(list)  # by run
        self._runs: list[int] = []  # of each problem, how many
        self._parts: set[tuple[str, ...]] = set()  # of PART words in a row
        for question in questions:
            words = words_of(question)
            self._whole.add(" ".join(words))
            if len(words) >= SHORTEST:
                runs = runs_of(words)
                self._parts.update(zip(*(words[start:] for start in range(PART)), strict=False))
                for run in runs:
                    self._problems[run].append(len(self._runs))
                self._runs.append(len(runs))

    def holds(self, question: str) -> bool:
        """Whether a question is one of them."""
        words = words_of(question)
        if " ".join(words) in self._whole:
            return True
        if not any(tuple(words[at : at + PART]) in self._parts for at in range(0, len(words) - PART + 1, STRIDE)):
            return False
        shared = runs_of(words) & self._problems.keys()
        counts = Counter(problem for run in shared for problem in self._problems[run])
        return any(count >= SHARE * self._runs[problem] for problem, count in counts.items())


def words_of(text: str) -> list[str]:
    """Split a text into its words, as the rule has them."""
    if text.isascii() and "[asy]" not in text:
        return text.translate(_ASCII).split()  # the same, four times as fast
    return _WORD.findall(unicodedata.normalize("NFKC", _DRAWING.sub(" ", text)).casefold())


def runs_of(words: list[str]) -> set[tuple[str, ...]]:
    """Give every run of eight words in a row."""
    return set(zip(*(words[start:] for start in range(RUN)), strict=False))
