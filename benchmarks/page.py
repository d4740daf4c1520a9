"""``python -m benchmarks.page``: write bench.json into docs/benchmarks.md, as a table of every row and a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.rows import BENCH

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- all rows -->\n", "<!-- end -->\n"
SIDES = {"ours": "gatepo", "trl": "TRL 1.16", "floor": "bare floor"}
PARTS = {
    "rollout": ("generation", "#3b6ea5"),
    "train": ("two updates", "#d98c3f"),
    "other": ("all else", "#9a9a9a"),
}


def table(bench: dict[str, Any]) -> str:
    """Give every part with where, when and with what it was measured, and its rows."""
    lines = []
    for part, rows in sorted(bench.items()):
        measured = rows["measured"]
        lines += [f"### {part}", "", f"{measured['date']}, {measured['machine']}; {measured['versions']}; "]
        lines[-1] += f"`{measured['origin']}`"
        lines += ["", "| | ours | other | ours / other | unit |", "| --- | ---: | ---: | ---: | --- |"]
        for key, row in rows.items():
            if key != "measured":
                found = [row.get(name) for name in ("ours", "other", "ratio")]
                figures = " | ".join("" if value is None else f"{value:,g}" for value in found)
                lines.append(f"| {row['what']} | {figures} | {row['unit']} |")
        lines.append("")
    return "\n".join(lines)


def written(page: str, bench: dict[str, Any]) -> str:
    """Give the page with the rows of ``bench`` in their place."""
    head, _, rest = page.partition(BEGIN)
    return head + BEGIN + table(bench) + END + rest.partition(END)[2]


def seconds_by_part(batch: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Give seconds of a rollout batch by side and part."""
    others = {side: {part: batch[f"{part}_{side}"]["other"] for part in PARTS} for side in ("trl", "floor")}
    return {"ours": {part: batch[f"{part}_trl"]["ours"] for part in PARTS}} | others


def draw(batch: dict[str, Any], path: Path) -> None:
    """Draw the seconds of a rollout batch by part, a bar for each side, as SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    spent = seconds_by_part(batch)
    with plt.rc_context({"svg.hashsalt": "gatepo", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(7, 2.4), layout="constrained")
        left = dict.fromkeys(spent, 0.0)
        for part, (words, colour) in PARTS.items():
            axes.barh(
                [SIDES[side] for side in spent],
                [spent[side][part] for side in spent],
                left=list(left.values()),
                color=colour,
                label=words,
            )
            left = {side: left[side] + spent[side][part] for side in spent}
        axes.invert_yaxis()
        axes.set_xlabel("seconds of a rollout batch with two updates, two CPU threads (less is better)")
        axes.axvline(batch["products"]["other"], color="black", linestyle=":", label="its matrix products alone")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.3), ncols=4, frameon=False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    """Entry point."""
    bench = json.loads(BENCH.read_text(encoding="utf-8"))
    page = ROOT / "docs" / "benchmarks.md"
    page.write_text(written(page.read_text(encoding="utf-8"), bench), encoding="utf-8")
    draw(bench["batch"], ROOT / "docs" / "benchmarks.svg")


if __name__ == "__main__":
    main()
