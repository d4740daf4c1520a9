"""What an evaluation prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatepo.evaluate.results import Comparison, Result
from gatepo.evaluate.statistics import Estimate
from gatepo.measures import ACCURACY, shown
from gatepo.text_table import Rows, of_figures


def sets(results: Mapping[str, Result], measures: str = ACCURACY) -> str:
    """Give a row for each set, and for each benchmark that pools several.

    Args:
      results: by name.
      measures: what was measured (:mod:`gatepo.measures`); what only answers have is left out of another.
    """
    counts = {result.samples for result in results.values()}
    several, votes = max(counts, default=1) > 1, (f"pass@{counts.pop() if len(counts) == 1 else 'K'}", "majority")
    of_answers = measures == ACCURACY
    rows: Rows = [("", "problems", measures, "95% interval", *(votes if several and of_answers else ()))]
    rows = [(*rows[0], *(_FORMAT if of_answers else ()), *_ALL)]
    for name, result in results.items():
        K, more = result.samples, ()
        if of_answers:
            voted = (percent(result.pass_at[K]), percent(result.majority)) if several else ()
            more = (*voted, f"{percent(result.format.value)} {interval(result.format)}")
        rows.append(
            (
                name,
                f"{result.problems:,} x {K}" if several else f"{result.problems:,}",
                shown(result.score.value, measures),
                interval(result.score, of_answers),
                *more,
                f"{result.mean_length:.0f}",
                percent(result.finished),
            )
        )
    return of_figures(rows)


_FORMAT, _ALL = ("full format",), ("mean tokens", "finished")


def benchmarks(
    columns: Sequence[str], rows: Mapping[str, Mapping[str, Estimate | float]], measures: str = ACCURACY
) -> str:
    """Write models by benchmark: published numbers as they are (per cent), our own with their interval."""
    of_answers = measures == ACCURACY
    lines: Rows = [("accuracy, %" if of_answers else measures, *columns)]
    for name, accuracies in rows.items():
        lines.append((name, *(_cell(accuracies.get(column), of_answers) for column in columns)))
    return of_figures(lines)


def comparisons(against: str, found: Mapping[str, Comparison]) -> str:
    """Give a row for each set that both evaluations hold."""
    rows: Rows = [(f"against {against}", "problems", "better", "worse", "difference", "95% interval", "p")]
    for name, one in found.items():
        scale, digits = (100, 1) if one.graded else (1, 3)
        shares = (scale * value for value in (one.difference.low, one.difference.high, one.difference.value))
        low, high, difference = (f"{share:+.{digits}f}" for share in shares)
        p = "< 0.0001" if one.p_value < 1e-4 else f"{one.p_value:.4f}"
        count = f"{one.problems:,} x {one.samples}" if one.samples > 1 else f"{one.problems:,}"
        rows.append((name, count, str(one.better), str(one.worse), difference, f"[{low}, {high}]", p))
    return of_figures(rows)


def percent(fraction: float) -> str:
    """Write a fraction as 73.4%."""
    return shown(fraction, ACCURACY)


def interval(estimate: Estimate, of_answers: bool = True) -> str:
    """Write an interval as [70.9, 75.7], per cent, or that of a mean score as [0.709, 0.757]."""
    scale, digits = (100, 1) if of_answers else (1, 3)
    return f"[{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]"


def _cell(found: Estimate | float | None, of_answers: bool) -> str:
    if found is None:
        return ""
    if isinstance(found, Estimate):
        value = f"{100 * found.value:.1f}" if of_answers else f"{found.value:.3f}"
        return f"{value} {interval(found, of_answers)}"
    return f"{found:.1f}"
