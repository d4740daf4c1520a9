"""Tables of text for a terminal."""

from __future__ import annotations

Rows = list[tuple[str, ...]]


def of_texts(rows: Rows) -> str:
    """Set every column to the left."""
    widths = _widths(rows)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def of_figures(rows: Rows) -> str:
    """Set the first column, names, to the left, and the others, figures, to the right."""
    first, *others = _widths(rows)
    return "\n".join(
        "  ".join((name.ljust(first), *(c.rjust(w) for c, w in zip(cells, others, strict=True)))).rstrip()
        for name, *cells in rows
    )


def _widths(rows: Rows) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
