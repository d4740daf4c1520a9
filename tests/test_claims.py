"""The registration of a study: what is refused, and what it needs; outcomes worked by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import REPO

from gatepo.errors import UserError
from gatepo.report.runs import Run
from gatepo.study.claims import read, slug
from gatepo.study.outcomes import last_fifth, outcome

CLAIMS = REPO / "experiments" / "study" / "claims.yaml"
GOOD: dict[str, Any] = {
    "id": "C3",
    "says": "tau = 1 is unstable",
    "outcome": "collapsed",
    "a": {"gate": "erf", "tau": "t1"},
    "b": {"gate": "erf", "tau": "paper"},
    "test": "mcnemar",
    "predicts": "a > b",
    "delta": 0.5,
    "why": "a reason",
}
FROZEN = {"experiment": "study/base", "seeds": "10..19", "alpha": 0.05, "correction": "holm"}


def test_the_registered_claims_need_25_cells_and_250_runs() -> None:
    known = read(CLAIMS)
    assert [claim.id for claim in known.claims] == [
        *("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9.eur", "C9.accuracy", "C10", "C11")
    ]
    cells = dict.fromkeys(cell for claim in known.claims for cell in claim.cells)
    assert len(cells) * len(known.seeds) == 250
    assert len({slug(cell) for cell in cells}) == 25
    assert known.seeds == tuple(range(10, 20))
    assert all(claim.delta > 0 for claim in known.claims if not claim.not_run)
    assert next(claim for claim in known.claims if claim.id == "C5").delta == pytest.approx(math.log(2))
    assert next(claim for claim in known.claims if claim.id == "C8").not_run == "needs the 7B"
    assert [claim.id for claim in known.chosen(["C9", "C3"])] == ["C3", "C9.eur", "C9.accuracy"]
    with pytest.raises(UserError, match=r"^claims must be of C1, .*, got C12; type e\.g\. claims=\[C3,C5\]$"):
        known.chosen(["C12"])


def write(folder: Path, *claims: dict[str, Any], **frozen: Any) -> Path:
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump({"frozen": FROZEN | frozen, "claims": list(claims)}))
    return path


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"colour": "red"}, "claim 1 (C3) must have no key but id, says, .*, got colour; take it out"),
        ({"outcome": "collapses"}, "outcome must be one of collapsed, accuracy, .*, got collapses; choose one"),
        ({"statistic": "ratio"}, "statistic must be one of difference, log_ratio, mean, trend, curve, got ratio"),
        ({"test": "sign"}, "test must be one of t, mcnemar, equivalence, got sign"),
        ({"predicts": "b is less"}, "predicts must be a > b or a < b, got b is less"),
        ({"delta": 0}, "delta must be a number > 0 or its log, got 0"),
        ({"delta": "log half"}, "delta must be a number > 0 or its log, got log half"),
        ({"among": {"gate": "erf"}}, "cells must be given as a and b, got a, among, b"),
        ({"over": "tau.pos"}, "over must be given for a trend alone, got tau.pos"),
        ({"outcome": "accuracy"}, "outcome must be collapsed with this test or statistic, got accuracy"),
        ({"b": {"gate": ["erf", "clip"]}}, "test=mcnemar must compare one cell with one other, got 3 cells"),
        ({"a": "erf"}, "a must be settings by name, got erf"),
    ],
)
def test_a_claim_that_says_too_little_or_too_much_is_refused_in_one_line(
    changes: dict[str, Any], part: str, tmp_path: Path
) -> None:
    assert read(write(tmp_path, GOOD)).claims[0].id == "C3"
    with pytest.raises(UserError, match=part.replace("(C3)", r"\(C3\)")) as refused:
        read(write(tmp_path, GOOD | changes))
    assert "\n" not in str(refused.value)


def test_what_is_frozen_is_checked_and_a_claim_has_a_reason(tmp_path: Path) -> None:
    for frozen, part in (
        ({"seeds": "10"}, r"frozen\.seeds must be FIRST\.\.LAST"),
        ({"alpha": 2.0}, r"frozen\.alpha must be in \(0, 0\.5\), got 2\.0"),
        ({"correction": "none"}, r"frozen\.correction must be holm, got none"),
        ({"budget": 3}, r"frozen must have no key but .*, got budget"),
    ):
        with pytest.raises(UserError, match=part):
            read(write(tmp_path, GOOD, **frozen))
    with pytest.raises(UserError, match=r"must have why, got none; write it down before the first run"):
        read(write(tmp_path, {key: value for key, value in GOOD.items() if key != "why"}))
    with pytest.raises(UserError, match=r"every claim must have an id of its own"):
        read(write(tmp_path, GOOD, GOOD))
    (tmp_path / "claims.yaml").write_text("frozen: [")
    with pytest.raises(UserError, match=r"must be a YAML file of claims"):
        read(tmp_path / "claims.yaml")


def test_a_claims_digest_changes_with_all_that_it_rests_on(tmp_path: Path) -> None:
    digest = read(write(tmp_path, GOOD)).digests["C3"]
    assert read(write(tmp_path, GOOD)).digests["C3"] == digest
    assert read(write(tmp_path, GOOD | {"delta": 0.4})).digests["C3"] != digest
    assert read(write(tmp_path, GOOD, seeds="10..20")).digests["C3"] != digest


def run(batches: int, mu: int, row: Callable[[int, int], dict[str, float]], **evaluation: float) -> Run:
    """A run whose lines are ``row(batch, iteration)``, both from 0."""
    metrics = [
        {"update": float(b * mu + k + 1), f"eur/iteration_{k + 1}": 1.0, **row(b, k)}
        for b in range(batches)
        for k in range(mu)
    ]
    summary = {"evaluation": {name: {"before": 0.0, "after": after} for name, after in evaluation.items()}}
    return Run(folder=Path("run"), config={"batch": {"iterations": mu}}, metrics=metrics, summary=summary)


def test_a_run_has_collapsed_where_its_last_fifth_is_below_its_first_batch() -> None:
    def answers(*values: float) -> Run:  # with a perfect format, whose sum with the answer hides what is lost
        return run(len(values), 2, lambda b, k: {"rewards/answer/mean": values[b], "reward": values[b] + (b > 0)})

    collapsed = outcome("collapsed")
    assert collapsed(answers(0.4, 0, 0, 0, 0, 0, 0, 0, 0.3, 0.4)) == 1  # (0.3 + 0.4) / 2 = 0.35
    assert collapsed(answers(0.4, 0, 0, 0, 0, 0, 0, 0, 0.4, 0.4)) == 0
    assert last_fifth([1, 2, 3, 4]) == 4
    assert last_fifth([*range(15)]) == 13


def test_updates_to_a_threshold_are_those_before_the_third_batch_that_keeps_it() -> None:
    def formats(*values: float) -> Run:
        return run(len(values), 4, lambda b, k: {"rewards/format/mean": values[b]})

    updates = outcome("updates_to(format >= 0.9)")
    assert updates(formats(0.1, 0.9, 0.9, 0.9, 1.0)) == 12  # 0.9 first over batches 2 to 4; the fourth came after 12
    assert updates(formats(1.0, 1.0, 1.0)) == 8
    assert updates(formats(0.1, 0.9, 0.1, 0.9)) == math.inf


def test_the_other_outcomes_worked_by_hand() -> None:
    found = run(10, 2, lambda b, k: {"eur": 1 - 0.1 * k, "entropy": b, "reward": b}, easy=0.9, hard=0.5)
    found.metrics[1]["eur/iteration_2"] = 0.5
    assert outcome("accuracy")(found) == pytest.approx(0.7)
    assert outcome("eur")(found) == pytest.approx(0.95)
    assert outcome("eur(iteration 2)")(found) == pytest.approx(0.95)
    assert outcome("entropy")(found) == outcome("reward")(found) == 8.5
    assert math.isnan(outcome("accuracy")(run(2, 2, lambda b, k: {})))
    assert math.isnan(outcome("eur(iteration 4)")(found))


def test_a_correlation_is_that_of_what_a_trend_leaves() -> None:
    def curves(sign: int) -> Run:  # both rise; around their trends they move together, or oppositely
        def row(b: int, k: int) -> dict[str, float]:
            swing = 0.01 * math.sin(2.0 * b)
            return (
                {"entropy": 0.1 * b + swing, "eur/iteration_2": 0.01 * b + sign * swing}
                if k
                else {"entropy": 0.1 * b + swing}
            )

        return run(40, 2, row)

    correlation = outcome("correlation(entropy, eur)")
    assert math.tanh(correlation(curves(1))) == pytest.approx(1, abs=1e-6)
    assert math.tanh(correlation(curves(-1))) == pytest.approx(-1, abs=1e-6)
    assert math.isnan(correlation(run(40, 2, lambda b, k: {"entropy": 0.5})))
