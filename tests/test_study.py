"""A study: verdicts from runs whose truth is known, and the command from its first word to its last line."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import REPO, gatepo

from gatepo import numbers
from gatepo.errors import UserError
from gatepo.report.runs import Run
from gatepo.report.verdict import Verdict
from gatepo.study.__main__ import asked
from gatepo.study.claims import Cell, Registration, read, slug
from gatepo.study.judge import line, verdicts

KNOWN = read(REPO / "experiments" / "study" / "claims.yaml")
TAUS = {"t1": 1.0, "t5": 5.0, "paper": 10.0, "t13": 13.0}
Curves = dict[str, list[float]]


def made(cell: Cell, seed: int, **given: Any) -> Run:
    """A run of ten rollout batches with mu = 2: what is not given is that of a run in which all goes well."""
    held = {"answer": 0.6, "accuracy": 0.6, "eur": 0.9, "entropy": 0.5, "reaches": 4} | given
    rows = []
    for batch in range(10):
        answer = 0.4 if batch == 0 else held["answer"]
        swing = 0.01 * math.sin(2.0 * batch + seed)
        one = {
            "rewards/answer/mean": answer,
            "rewards/format/mean": float(batch + 1 >= held["reaches"]),
            "reward": answer,
            "entropy": held["entropy"] + swing,
            "eur": held["eur"],
        }
        rows.append({"update": 2.0 * batch + 1, "eur/iteration_1": 1.0, **one})
        rows.append({"update": 2.0 * batch + 2, "eur/iteration_2": held["eur"] - swing, **one})
    chosen = dict(cell)
    config = {"batch": {"iterations": 2}, "tau": {"pos": TAUS.get(chosen.get("tau", ""), 10.0)}}
    evaluation = {name: {"before": 0.4, "after": held["accuracy"]} for name in ("easy", "hard")}
    folder = Path("study") / slug(cell) / f"seed-{seed}"
    return Run(folder=folder, config=config, metrics=rows, summary={"evaluation": evaluation})


def judged(name: str, of: Callable[[dict[str, str], int], dict[str, Any]], **changes: Any) -> Verdict:
    """The verdict on one claim, of runs that are as ``of(cell, seed)`` says."""
    (claim,) = [claim for claim in KNOWN.claims if claim.id == name]
    seeds = changes.get("seeds", KNOWN.seeds)
    runs = {(cell, seed): made(cell, seed, **of(dict(cell), seed)) for cell in claim.cells for seed in seeds}
    for missing in changes.get("missing", ()):
        runs.pop((claim.cells[0], missing))

    def coordinates(run: Run) -> tuple[float, float]:
        gate, _, _, rate = run.folder.parent.name.rsplit("_", 3)[0], *run.folder.parent.name.rsplit("_", 3)[1:]
        width = 0.7 if "0.7" in run.folder.parent.name else 0.304
        tau = {"sigmoid": 1.763, "softsign": 0.766}[gate.partition("_")[0]] / width
        lr = float(rate.partition("-")[2])
        return math.log(width * lr), math.log(lr / tau)

    registered = changes.get("registered", KNOWN.digests)
    (found,) = verdicts(KNOWN, [claim], runs, seeds, Path("study"), coordinates, registered)
    return found


def jitter(seed: int, cell: dict[str, str]) -> float:
    return 0.004 * math.sin(7.0 * seed + len(str(cell)))


def test_collapse_is_judged_by_mcnemar() -> None:
    falls = judged("C3", lambda cell, seed: {"answer": 0.1 if cell["tau"] == "t1" else 0.6})
    assert (falls.word, falls.estimate, falls.registered) == ("holds", 1.0, True)
    assert falls.low is not None and falls.low > 0
    assert falls.seeds == KNOWN.seeds and falls.seeds_needed is None
    assert falls.runs[0] == "erf_t1/seed-10" and len(falls.runs) == 20
    assert "collapsed: erf_t1 10 of 10" in falls.remark
    never = judged("C3", lambda cell, seed: {})
    assert (never.word, never.estimate) == ("does not hold", 0.0)
    some = judged("C3", lambda cell, seed: {"answer": 0.1 if cell["tau"] == "t1" and seed < 14 else 0.6})
    assert some.word == "cannot be told" and some.seeds_needed is not None and some.seeds_needed > 10
    assert "cannot be told" in line(some) and f"needs {some.seeds_needed} seeds" in line(some)


def test_a_claim_against_several_rivals_holds_where_it_holds_against_each() -> None:
    def best(cell: dict[str, str], seed: int) -> dict[str, Any]:
        return {"accuracy": {"paper": 0.7}.get(cell["tau"], 0.5) + jitter(seed, cell)}

    def second(cell: dict[str, str], seed: int) -> dict[str, Any]:
        return {"accuracy": {"paper": 0.7, "t13": 0.8}.get(cell["tau"], 0.5) + jitter(seed, cell)}

    assert judged("C4", best).word == "holds"
    lost = judged("C4", second)
    assert lost.word == "does not hold" and lost.estimate == pytest.approx(-0.1, abs=0.01)
    assert "minus that of erf_t13; the smallest of 3 differences" in lost.statistic


def test_a_trend_a_level_and_a_correlation() -> None:
    # EUR = 1 - 0.05 log tau falls by 0.05 a factor of e
    falls = judged("C1", lambda c, s: {"eur": 1 - 0.05 * math.log(TAUS[c["tau"]]) + 0.1 * jitter(s, c)})
    assert falls.word == "holds" and falls.estimate == pytest.approx(0.05, abs=0.002)
    assert judged("C1", lambda c, s: {"eur": 0.9 + 0.1 * jitter(s, c)}).word == "does not hold"
    kept = judged("C2", lambda c, s: {"entropy": (0.3 if c["gate"] == "clip" else 0.5) + jitter(s, c)})
    assert kept.word == "holds" and kept.estimate == pytest.approx(0.2, abs=0.01)
    assert judged("C6", lambda c, s: {}).word == "holds"  # the swings of the two are each other's opposites


def test_times_are_judged_by_their_ratio_with_those_that_did_not_come() -> None:
    def sooner(cell: dict[str, str], seed: int) -> dict[str, Any]:
        late = 99 if seed == 10 else 7 + seed % 2  # once not at all
        return {"reaches": late if cell["gate"] == "clip" else 1 + seed % 2}

    found = judged("C5", sooner)
    # The third batch at the earliest: 2 x 2 or 3 x 2 updates against 8 x 2 or 9 x 2, or 20 and more
    assert found.word == "holds" and found.estimate is not None and found.estimate > math.log(2)
    assert "1 of 10 ratios are known by a bound alone" in found.remark
    assert judged("C5", lambda c, s: {"reaches": 4 + s % 2}).word == "does not hold"
    assert judged("C5", lambda c, s: {"reaches": 99}).word == "cannot be told"


def test_equal_is_what_is_within_the_margin_for_every_pair() -> None:
    same = judged("C9.eur", lambda c, s: {"eur": 0.9 + jitter(s, c)})
    assert same.word == "holds" and same.smallest == 0.02
    other = judged("C9.eur", lambda c, s: {"eur": (0.8 if c["gate"] == "erf" else 0.9) + jitter(s, c)})
    assert other.word == "does not hold" and " of " in other.remark and "erf" in other.remark
    rough = judged("C9.eur", lambda c, s: {"eur": 0.9 + 8 * math.sin(3.0 * s + len(c["gate"])) * 0.01})
    assert rough.word == "cannot be told" and rough.seeds_needed is not None


def test_of_equal_pairs_the_one_is_named_whose_interval_is_shown() -> None:
    """It is the widest, by which it is decided, and not that whose means are furthest apart."""

    def made(cell: dict[str, str], seed: int) -> dict[str, Any]:
        return {"eur": {"erf": 0.903, "softsign": 0.9 + 0.01 * (-1) ** seed}.get(cell["gate"], 0.9)}

    found = judged("C9.eur", made)
    assert found.estimate == pytest.approx(0.003) and found.high is not None and found.high > 0.01
    assert "of erf_matched_half_width-0.1 minus softsign_matched_half_width-0.1;" in found.remark
    noisy = judged("C9.eur", lambda c, s: made(c, s) | ({"eur": 0.9005} if c["gate"] == "erf" else {}))
    assert noisy.estimate == pytest.approx(0.0005) and "erf_matched_half_width-0.1 minus softsign" in noisy.remark


def test_collapse_follows_the_curve_that_it_was_made_by() -> None:
    def by_width(cell: dict[str, str], seed: int) -> dict[str, Any]:
        drift = float(cell["tau.half_width"]) * float(cell["optimizer.lr"])
        return {"answer": 0.1 if drift > 3.6e-4 + 1e-5 * (seed % 3) else 0.6}

    def by_tau(cell: dict[str, str], seed: int) -> dict[str, Any]:
        width = {"sigmoid": 1.763, "softsign": 0.766}[cell["gate"]]
        drift = float(cell["optimizer.lr"]) * float(cell["tau.half_width"]) / width
        return {"answer": 0.1 if drift > 2.5e-4 + 1e-5 * (seed % 3) else 0.6}

    assert judged("C10", by_width).word == "holds"
    assert judged("C10", by_tau).word == "does not hold"


def test_seeds_that_miss_a_run_are_left_out_and_said() -> None:
    found = judged("C3", lambda cell, seed: {"answer": 0.1 if cell["tau"] == "t1" else 0.6}, missing=(10, 11))
    assert found.seeds == KNOWN.seeds[2:] and not found.registered
    assert "8 of 10 registered seeds" in found.remark
    nothing = judged("C3", lambda cell, seed: {}, missing=KNOWN.seeds)
    assert nothing.word == "cannot be told" and nothing.estimate is None
    (eighth,) = [claim for claim in KNOWN.claims if claim.not_run]
    (found,) = verdicts(KNOWN, [eighth], {}, KNOWN.seeds, Path("study"), lambda run: (0, 0), KNOWN.digests)
    assert (found.word, found.remark, found.registered) == ("not run", "needs the 7B", True)


def test_a_claim_that_was_not_there_at_the_start_is_exploratory() -> None:
    def falls(cell: dict[str, str], seed: int) -> dict[str, Any]:
        return {"answer": 0.1 if cell["tau"] == "t1" else 0.6}

    assert not judged("C3", falls, registered={}).registered
    assert not judged("C3", falls, registered={"C3": "another"}).registered
    assert "; exploratory; " in line(judged("C3", falls, registered={}))


def test_words_of_the_command_are_read_and_wrong_ones_refused() -> None:
    def of(*words: str, known: Registration = KNOWN) -> Any:
        return asked(words, known)

    assert [claim.id for claim in of("claims=[C3,C5]", "seeds=2").claims] == ["C3", "C5"]
    assert of("seeds=2").seeds == (10, 11) and of().seeds == KNOWN.seeds
    assert of("updates=8", "jobs=1", "dir=here").words == ("updates=8",)
    for words, part in (
        ("claims=[C12]", "claims must be of C1, "),
        ("claims={", "claims must be a list"),
        ("seeds=1", "seeds must be a number from 2 to the 10 registered ones, got 1"),
        ("jobs=none", "jobs must be >= 1, got none"),
        ("all", "a word must be KEY=VALUE, got all"),
    ):
        with pytest.raises(UserError, match=part):
            of(words)


def test_the_digest_of_numbers_knows_code_from_words(tmp_path: Path) -> None:
    for room in numbers.ROOMS:
        path = tmp_path / room
        path.parent.mkdir(parents=True, exist_ok=True)
        if room.endswith(".py"):
            path.write_text('"""Words."""\n\n\ndef f(x):\n    return x + 1\n')
        else:
            path.mkdir()
    first = numbers.digest(tmp_path)
    assert numbers.digest(tmp_path) == first != numbers.DIGEST == numbers.digest()
    (tmp_path / "loop.py").write_text('"""Other words."""\n\n\ndef f(x):\n\n    return x + 1  # one more\n')
    assert numbers.digest(tmp_path) == first
    (tmp_path / "loop.py").write_text("def f(x):\n    return x + 2\n")
    assert numbers.digest(tmp_path) != first
    (tmp_path / "loop.py").write_text('"""Words."""\n\n\ndef f(x):\n    return x + 1\n')
    (tmp_path / "tiny" / "model.bin").write_bytes(b"other weights")
    assert numbers.digest(tmp_path) != first


def test_a_small_study_from_its_first_word_to_its_last_line(tmp_path: Path) -> None:
    words = ["claims=[C3]", "seeds=2", "updates=4", "batch.prompts=2", "evaluate.limit=1", f"dir={tmp_path / 's'}"]
    blocked = tmp_path / "s" / "erf_paper" / "seed-11"
    blocked.mkdir(parents=True)
    (blocked / "metrics.jsonl").touch()  # so that this run fails, and no other
    first = gatepo("study", *words)
    assert first.returncode == 2, first.stderr
    assert "1 of 4 jobs failed" in first.stderr and "3 of 4 jobs have finished" in first.stderr
    assert "C3           cannot be told" in first.stdout and "1 of 10 registered seeds" in first.stdout
    (blocked / "metrics.jsonl").unlink()

    second = gatepo("study", *words)
    assert second.returncode == 0, second.stderr
    assert "2 of 10 registered seeds" in second.stdout and "exploratory" in second.stdout
    assert f"SHA-256 {KNOWN.sha256}" in second.stdout
    assert Path(second.stdout.splitlines()[-1]).is_file()
    (held,) = json.loads((tmp_path / "s" / "verdicts.json").read_text())["verdicts"]
    assert held["claim"] == "C3" and held["seeds"] == [10, 11] and len(held["runs"]) == 4
    for folder in (tmp_path / "s").glob("erf_*/seed-*"):
        starts = json.loads((folder / "run.json").read_text())["starts"]
        assert len(starts) == 1 and starts[0]["code"]["numbers"] == numbers.DIGEST  # the second command made one run
        assert yaml.safe_load((folder / "config.yaml").read_text())["threads"] == 1

    archive = [sys.executable, REPO / "experiments" / "study" / "archive.py"]
    subprocess.run([*archive, "pack", tmp_path / "s", tmp_path / "runs.tar.xz"], check=True)
    subprocess.run([*archive, "unpack", tmp_path / "runs.tar.xz", tmp_path / "again"], check=True)
    again = gatepo("study", *words[:-1], f"dir={tmp_path / 'again'}")  # and nothing is run
    assert again.stdout.replace(str(tmp_path / "again"), str(tmp_path / "s")) == second.stdout

    other = gatepo("study", *words, "tau.pos=3")
    assert other.returncode == 2
    assert "tau.pos must be what" in other.stderr and "type dir=FOLDER for another study" in other.stderr
    records = sorted((tmp_path / "s").glob("erf_*/seed-*/run.json"))
    for number, record in enumerate(records):  # as if older code had made it: first one run, then all
        record.write_text(record.read_text().replace(numbers.DIGEST, "0123456789abcdef"))
        older = gatepo("study", *words)
        assert older.returncode == (2 if number + 1 < len(records) else 0), older.stderr
        mixed = "the code must be what" in older.stderr and "0123456789abcdef" in older.stderr
        assert mixed == (number + 1 < len(records))
    (records[0].parent / "summary.json").unlink()  # something is left to run, and the code here is not that
    assert "the code must be what" in gatepo("study", *words).stderr


def test_another_launcher_of_hydras_runs_the_same_cells(tmp_path: Path) -> None:
    """Ours as Hydra starts it, in the place of a cluster's: what it is given is the words of each job."""
    small = ("claims=[C3]", "seeds=2", "updates=2", "batch.prompts=2", "evaluate.limit=1", f"dir={tmp_path}")
    (tmp_path / "erf_t1" / "seed-11").mkdir(parents=True)
    done = gatepo("study", *small, "hydra/launcher=processes", "hydra.launcher.jobs=2")
    assert done.returncode == 0, done.stderr
    assert "2 of 10 registered seeds" in done.stdout
    folders = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/summary.json")}
    assert folders == {f"erf_{tau}/seed-{seed}" for tau in ("t1", "paper") for seed in (10, 11)}
    assert len(json.loads((tmp_path / "cells.json").read_text())) == 4
    here = gatepo("study", *small)  # finds them all finished
    assert here.returncode == 0 and "4 of 4 jobs have finished" in here.stdout
