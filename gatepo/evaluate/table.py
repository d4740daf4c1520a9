"""What an evaluation prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatepo.evaluate.results import Comparison, Result
from gatepo.evaluate.statistics import Estimate
from gatepo.text_table import Rows, of_figures


def sets(results: Mapping[str, Result]) -> str:
    """Give a row for each set, and for each benchmark that pools several."""
    several = any(result.samples > 1 for result in results.values())
    rows: Rows = [("", "problems", "accuracy", "95% interval", *(_SEVERAL if several else ()), *_ALL)]
    for name, result in results.items():
        K = result.samples
        more = (percent(result.pass_at[K]), percent(result.majority)) if several else ()
        rows.append(
            (
                name,
                f"{result.problems:,} x {K}" if several else f"{result.problems:,}",
                percent(result.accuracy.value),
                interval(result.accuracy),
                *more,
                f"{percent(result.format.value)} {interval(result.format)}",
                f"{result.mean_length:.0f}",
                percent(result.finished),
            )
        )
    return of_figures(rows)


_SEVERAL = ("pass@K", "majority")
_ALL = ("full format", "mean tokens", "finished")


def benchmarks(columns: Sequence[str], rows: Mapping[str, Mapping[str, Estimate | float]]) -> str:
    """Write models by benchmark: published numbers as they are (per cent), our own with their interval."""
    lines: Rows = [("accuracy, %", *columns)]
    for name, accuracies in rows.items():
        lines.append((name, *(_cell(accuracies.get(column)) for column in columns)))
    return of_figures(lines)


def comparisons(against: str, found: Mapping[str, Comparison]) -> str:
    """Give a row for each set that both evaluations hold."""
    rows: Rows = [(f"against {against}", "problems", "better", "worse", "difference", "95% interval", "p")]
    for name, one in found.items():
        d = one.difference
        span = f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        p = "< 0.0001" if one.p_value < 1e-4 else f"{one.p_value:.4f}"
        count = f"{one.problems:,} x {one.samples}" if one.samples > 1 else f"{one.problems:,}"
        rows.append((name, count, str(one.better), str(one.worse), f"{100 * d.value:+.1f}", span, p))
    return of_figures(rows)


def percent(fraction: float) -> str:
    """Write a fraction as 73.4%."""
    return f"{100 * fraction:.1f}%"


def interval(estimate: Estimate) -> str:
    """Write an interval as [70.9, 75.7]."""
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _cell(accuracy: Estimate | float | None) -> str:
    if accuracy is None:
        return ""
    if isinstance(accuracy, Estimate):
        return f"{100 * accuracy.value:.1f} {interval(accuracy)}"
    return f"{accuracy:.1f}"
