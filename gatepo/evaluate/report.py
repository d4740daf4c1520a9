"""The figures of an evaluation, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gatepo.errors import UserError
from gatepo.evaluate import table
from gatepo.evaluate.folder import Evaluation
from gatepo.evaluate.generations import Problem
from gatepo.evaluate.results import Comparison, Result, compare, is_graded, result
from gatepo.evaluate.statistics import Estimate
from gatepo.measures import ACCURACY
from gatepo.rewards.extra import as_option
from gatepo.schema import EvaluationConfig


def page(asked: EvaluationConfig, ours: Evaluation, others: Mapping[str, Evaluation]) -> str:
    """Write the tables: each set, the benchmarks beside other models if there are some, the comparison if asked."""
    measures = _measures(asked, ours)
    parts = [f"{ours.name}, temperature {asked.sampling.temperature:g}", table.sets(results(asked, ours), measures)]
    if asked.published or asked.beside:
        columns = list(asked.columns) or list(asked.data.evaluation)
        rows: dict[str, Mapping[str, Estimate | float]] = {
            f"{name} (published)": a for name, a in asked.published.items()
        }
        rows |= {path: accuracies(asked, others[path]) for path in asked.beside}
        rows[ours.name] = accuracies(asked, ours)
        parts.append(table.benchmarks(columns, rows, measures))
    if asked.against is not None:
        found = comparisons(asked, ours, others[asked.against])
        parts.append(table.comparisons(others[asked.against].name, found))
    return "\n\n".join(parts)


def results(asked: EvaluationConfig, evaluation: Evaluation) -> dict[str, Result]:
    """Compute the figures by set, then by benchmark that pools several."""
    return {name: result(problems) for name, problems in _groups(asked, evaluation).items()}


def accuracies(asked: EvaluationConfig, evaluation: Evaluation) -> dict[str, Estimate]:
    """Compute the accuracy, or the mean score, by benchmark, of those whose sets it holds in full."""
    sets = asked.columns or {name: [name] for name in asked.data.evaluation}
    held = {column: names for column, names in sets.items() if all(name in evaluation.sets for name in names)}
    return {column: result(_pooled(evaluation, names)).score for column, names in held.items()}


def comparisons(asked: EvaluationConfig, ours: Evaluation, theirs: Evaluation) -> dict[str, Comparison]:
    """Compare by set and by benchmark, on the problems that both hold.

    Raises:
      UserError: they share none.
    """
    found = {}
    matching = {problem.key: problem for problems in theirs.sets.values() for problem in problems}
    for name, problems in _groups(asked, ours).items():
        pairs = [(p, matching[p.key]) for p in problems if p.key in matching]
        pairs = [(one, other) for one, other in pairs if (one.question, one.gold) == (other.question, other.gold)]
        if pairs:
            found[name] = compare(*zip(*pairs, strict=True))
    if not found:
        raise UserError(
            f"against must hold some of the same problems, got {', '.join(theirs.sets)} and not "
            f"{', '.join(ours.sets)}; evaluate both on the same data"
        )
    return found


def as_json(asked: EvaluationConfig, ours: Evaluation, others: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Give everything that was printed."""
    document: dict[str, Any] = {"measures": _measures(asked, ours)}
    document |= {"sets": {name: one.as_json() for name, one in results(asked, ours).items()}}
    if asked.against is not None:
        found = comparisons(asked, ours, others[asked.against])
        document["against"] = {"folder": asked.against, "sets": {name: one.as_json() for name, one in found.items()}}
    if asked.beside:
        document["beside"] = {
            path: {column: asdict(one) for column, one in accuracies(asked, others[path]).items()}
            for path in asked.beside
        }
    if asked.published:
        document["published"] = asked.published
    return document


def _measures(asked: EvaluationConfig, evaluation: Evaluation) -> str:
    """Name what was measured: accuracy where answers were graded, whatever the reward says of itself."""
    if all(is_graded(problems) for problems in evaluation.sets.values()):
        return ACCURACY
    said = as_option(asked.reward).measures
    return "mean score" if said == ACCURACY else said


def _groups(asked: EvaluationConfig, evaluation: Evaluation) -> dict[str, list[Problem]]:
    pools = {column: names for column, names in asked.columns.items() if len(names) > 1}
    return evaluation.sets | {column: _pooled(evaluation, names) for column, names in pools.items()}


def _pooled(evaluation: Evaluation, names: list[str]) -> list[Problem]:
    return [problem for name in names for problem in evaluation.sets[name]]
