"""Answers per second and latency beside math-verify 0.9.0 alone.

Two loads. *GSM8K-like*: every gold answer of GSM8K's test set (or, without the real rows, as many numbers drawn like
them) against right and wrong answers in the spellings that models use, in the paper's tags. *Model outputs*: 988 real
responses, whole. Ours includes finding the answer; worker processes are started beforehand, as a run has them; each
answer is asked for alone, so that a latency is one answer's. math-verify parses and compares in this process, with its
own time-outs. Both sides take the same answers in turn, block by block, so that a machine that grows slower slows both.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import row
from gatepo.rewards.extraction import EXTRACTIONS
from gatepo.rewards.verifier import Verifier

Side = Callable[[str, str], object]
Load = list[tuple[str, str]]  # (gold, response)
SPELLINGS = ("{}", "{}.0", "${}$", "\\boxed{{{}}}", "{} dollars", "x = {}", "\\${}", "{}%", " {}.", "\\frac{{{}}}{{1}}")
EASY, ENDLESS = ("\\sqrt{8}", "2\\sqrt{2}"), ("7", "\\sum_{n=1}^{10^9} \\frac{1}{n}")
BLOCK = 50  # answers of one side before the other has its turn
LEAST_PER_SECOND, MOST_SECONDS = 2000.0, 0.05  # the marks that this project set itself: mean rate, p95


def rows() -> list[dict[str, Any]]:
    """Rate of GSM8K-like answers, times on real outputs and of single answers, against math-verify and the marks."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    verifier = Verifier(deadline=2.0, workers=1)
    try:
        first = _time(verifier, EASY)
        _time(verifier, ENDLESS)  # its worker is killed
        replaced, warm = _time(verifier, EASY), _time(verifier, EASY)
        what = "first answer of a worker{}, against one of a warm worker"
        singles = [
            row("first", what.format(""), first / 1e3, warm / 1e3, "s"),
            row("replaced", what.format(" that replaces another"), replaced, warm, "ms"),
        ]
        outputs = model_outputs(data_folder())
        rates = _gsm8k_rows(gsm8k_like(data_folder()), verifier)
        return [*singles, *rates, *(_output_rows(outputs, verifier) if outputs else [])]
    finally:
        verifier.close()


def _time(verifier: Verifier, pair: tuple[str, str]) -> float:
    started = time.perf_counter()
    verifier(*pair)
    return 1e3 * (time.perf_counter() - started)


def gsm8k_like(data: Path | None, seed: int = 0) -> Load:
    """A response in the paper's tags for every gold answer; three in four are right."""
    rng = random.Random(seed)
    golds = [str(rng.choice((rng.randrange(100), rng.randrange(10_000)))) for _ in range(1319)]
    if data is not None:
        lines = (data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
        golds = [json.loads(line)["answer"].rsplit("####", 1)[1].strip() for line in lines]
    else:
        print("GSM8K is not there (GATEPO_DATA): numbers drawn like its answers")
    answers = [gold if rng.random() < 0.75 else str(rng.randrange(1000)) for gold in golds]
    bodies = [rng.choice(SPELLINGS).format(answer) for answer in answers]
    return [(g, f"<think>so it is {g}</think><answer>{b}</answer>") for g, b in zip(golds, bodies, strict=True)]


def model_outputs(data: Path | None) -> Load:
    """The real responses, or none where the real rows are not there."""
    if data is None:
        print("left out: model outputs; set GATEPO_DATA to the folder of real rows")
        return []
    lines = (data / "answers" / "model_outputs.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["gold"], row["output"]) for row in map(json.loads, lines)]


def seconds(load: Load, sides: Sequence[Side]) -> list[list[float]]:
    """Seconds of every answer, for each side; the sides take turns."""
    found: list[list[float]] = [[] for _ in sides]
    for start in range(0, len(load), BLOCK):
        for side, times in zip(sides, found, strict=True):
            for gold, response in load[start : start + BLOCK]:
                started = time.perf_counter()
                side(gold, response)
                times.append(time.perf_counter() - started)
    return found


def math_verify_alone(gold: str, response: str) -> bool:
    """math-verify as its documentation uses it, time-outs included."""
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(response)))


def percentile(times: list[float], share: float) -> float:
    """The time that this share of the answers stays within."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def _gsm8k_rows(load: Load, verifier: Verifier) -> list[dict[str, Any]]:
    ours, alone = (len(times) / sum(times) for times in seconds(load, (_asked(verifier, "tags"), math_verify_alone)))
    what = "GSM8K-like answers a second and core, against"
    return [
        row("rate", f"{what} math-verify 0.9.0 alone", ours, alone, "1/s"),
        row("rate_mark", f"{what} the mark", ours, LEAST_PER_SECOND, "1/s"),
    ]


def _output_rows(load: Load, verifier: Verifier) -> list[dict[str, Any]]:
    ours, alone = ([1e3 * t for t in times] for times in seconds(load, (_asked(verifier, "auto"), math_verify_alone)))
    what = "real model output, {}, against {}"
    found = [
        row(key, what.format(key, "math-verify 0.9.0 alone"), percentile(ours, share), percentile(alone, share), "ms")
        for key, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("most", 1.0))
    ]
    mark = row("p95_mark", what.format("p95", "the mark"), percentile(ours, 0.95), 1e3 * MOST_SECONDS, "ms")
    return [*found, mark]


def _asked(verifier: Verifier, extraction: str) -> Side:
    extract = EXTRACTIONS[extraction]
    return lambda gold, response: verifier(gold, extract(response))


def data_folder() -> Path | None:
    """Where the real rows are, or None."""
    folder = Path(os.environ.get("GATEPO_DATA", Path(__file__).parents[2] / "shared" / "data"))
    return folder if folder.is_dir() else None
