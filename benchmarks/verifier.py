"""``python -m benchmarks.verifier``: answers per second and latency beside math-verify 0.9.0 alone.

Two loads. *GSM8K-like*: every gold answer of GSM8K's test set (or, without the real rows, as many numbers drawn like
them) against right and wrong answers in the spellings that models use, in the paper's tags. *Model outputs*: 988 real
responses, whole. Ours includes finding the answer; worker processes are started beforehand, as a run has them; each
answer is asked for alone, so that a latency is one answer's. math-verify parses and compares in this process, with its
own time-outs. Both sides take the same answers in turn, block by block, so that a machine that grows slower slows both.
"""

from __future__ import annotations

import argparse
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
BLOCK = 50  # answers of one side before the other has its turn
LEAST_PER_SECOND, MOST_SECONDS = 2000.0, 0.05  # the marks that this project set itself: mean rate, p95


def rows() -> list[dict[str, Any]]:
    """Time of GSM8K-like answers and p95 on real outputs, against math-verify and against the marks."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    verifier = Verifier(deadline=2.0, workers=1)
    try:
        verifier("\\sqrt{8}", "2\\sqrt{2}")
        found = _gsm8k_rows(gsm8k_like(_data()), verifier)
        outputs = model_outputs(_data())
        return found + (_output_rows(outputs, verifier) if outputs else [])
    finally:
        verifier.close()


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
    ours, alone = seconds(load, (_asked(verifier, "tags"), math_verify_alone))
    rates = [len(times) / sum(times) for times in (ours, alone)]
    print(f"GSM8K-like: {rates[0]:,.0f} answers a second and core, math-verify alone {rates[1]:,.0f}", flush=True)
    mean = sum(ours) / len(ours)
    return [
        row("GSM8K-like answer, against math-verify 0.9.0 alone", 1e3 * mean, 1e3 * sum(alone) / len(alone), "ms"),
        row(f"GSM8K-like answer, against {LEAST_PER_SECOND:,.0f} a second", 1e3 * mean, 1e3 / LEAST_PER_SECOND, "ms"),
    ]


def _output_rows(load: Load, verifier: Verifier) -> list[dict[str, Any]]:
    ours, alone = seconds(load, (_asked(verifier, "auto"), math_verify_alone))
    tails = [[1e3 * percentile(times, share) for share in (0.5, 0.95, 0.99, 1)] for times in (ours, alone)]
    for name, tail in zip(("ours", "math-verify alone"), tails, strict=True):
        print(f"model outputs, {name}: p50 {tail[0]:.2f}, p95 {tail[1]:.1f}, p99 {tail[2]:.0f}, max {tail[3]:.0f} ms")
    return [
        row("real model output, p95, against math-verify 0.9.0 alone", tails[0][1], tails[1][1], "ms"),
        row(f"real model output, p95, against {1e3 * MOST_SECONDS:.0f} ms", tails[0][1], 1e3 * MOST_SECONDS, "ms"),
    ]


def _asked(verifier: Verifier, extraction: str) -> Side:
    extract = EXTRACTIONS[extraction]
    return lambda gold, response: verifier(gold, extract(response))


def _data() -> Path | None:
    folder = Path(os.environ.get("GATEPO_DATA", Path(__file__).parents[2] / "shared" / "data"))
    return folder if folder.is_dir() else None


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.verifier", description=__doc__).parse_args()
    found = rows()
    print(f"\n{'':<70}{'ours':>10}{'other':>10}{'ours/other':>12}")
    for r in found:
        print(f"{r['name']:<70}{r['ours']:>10.3f}{r['other']:>10.3f}{r['ratio']:>12.3f}  {r['unit']}")


if __name__ == "__main__":
    main()
