"""The figures in the documents, and ``benchmarks/bench.json``, out of which they come."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO

from benchmarks import batch, figures, gates, logprobs, page, stack
from benchmarks.rows import BENCH, as_text, peak_mib, record, row

PARTS: dict[str, dict[str, Any]] = json.loads(BENCH.read_text(encoding="utf-8"))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of every document that may hold figures."""
    for document in figures.documents(REPO):
        copy = tmp_path / document.relative_to(REPO)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(document, copy)
    return tmp_path


def test_the_documents_have_the_figures_of_bench_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("README.md", "batch.trl.ratio"),
        ("docs/verifier.md", "verifier.rate.ours"),
        ("docs/benchmarks.md", "stack.vllm_torch_beside.ratio"),
    ],
)
def test_a_figure_that_is_changed_by_hand_is_named_and_written_back(
    copied: Path, capsys: pytest.CaptureFixture[str], name: str, place: str
) -> None:
    kept = (copied / name).read_text(encoding="utf-8")
    text = next(text for text, found in figures.FIGURE.findall(kept) if found == place)
    (copied / name).write_text(kept.replace(f"{text}<!--{place}-->", f"9{text}<!--{place}-->", 1), encoding="utf-8")
    assert figures.main(["--check"], copied) == 1
    line = kept[: kept.index(f"<!--{place}-->")].count("\n") + 1
    said = f"{Path(name).name}:{line}: {place} is {text} in bench.json, not 9{text}"
    assert said in capsys.readouterr().out.splitlines()
    assert figures.main([], copied) == 0
    assert (copied / name).read_text(encoding="utf-8") == kept


def test_new_figures_go_into_every_document_that_has_them(copied: Path, tmp_path: Path) -> None:
    changed = PARTS | {"verifier": PARTS["verifier"] | {"rate": {"ours": 1234.56, "other": 7}}}
    path = tmp_path / "bench.json"
    path.write_text(as_text(changed), encoding="utf-8")
    figures.main([], copied, path)
    for name in ("docs/benchmarks.md", "docs/verifier.md"):
        assert re.search(r"\b1,235<!--verifier.rate.ours-->", (copied / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("value", "before", "wanted"),
    [
        (1234.5678, "0.00", "1,234.57"),
        (0.0264, "0.8%", "2.6%"),
        (7, "15,392", "7"),
        ("2026-11-27", "2026-11-22", "2026-11-27"),
    ],
)
def test_a_figure_is_written_as_the_one_before_it(value: float | str, before: str, wanted: str) -> None:
    assert figures.written(value, before) == wanted


def test_a_place_that_is_not_there_and_a_word_that_is_no_figure_are_named() -> None:
    with pytest.raises(KeyError, match=r"bench.json has no verifier.speed.ours"):
        figures.rendered("9<!--verifier.speed.ours-->", PARTS)
    with pytest.raises(ValueError, match="'fast' is no number"):
        figures.rendered("fast<!--verifier.rate.ours-->", PARTS)


def test_no_figure_of_the_benchmarks_tables_stands_alone() -> None:
    section = (REPO / "docs" / "benchmarks.md").read_text(encoding="utf-8").split("\n## ")[0]
    tables = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(tables) > 12
    assert not [line for line in tables if re.search(r"\| [\d.,]+%? \|", line)]


def test_the_page_has_every_row() -> None:
    text = (REPO / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page.written(text, PARTS) == text
    rows = [row for part in PARTS.values() for key, row in part.items() if key != "measured"]
    assert sum(line.startswith("| ") for line in page.table(PARTS).splitlines()) == len(rows) + 2 * len(PARTS)


def test_every_part_says_when_where_with_what_and_whence_it_was_measured() -> None:
    for name, part in PARTS.items():
        assert part["measured"].keys() == {"date", "machine", "versions", "origin"}, name
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", part["measured"]["date"])
    assert BENCH.read_text(encoding="utf-8") == as_text(PARTS)


def test_the_rows_that_the_documents_need_are_the_ones_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names, with nothing measured. ``answers`` and ``verifier`` need real rows, ``fuzz`` half an hour."""
    times = ("step_time", *(f"time/{part}" for part in ("sync", "reward", "telemetry", "other")))
    monkeypatch.setattr(stack, "measure", lambda pair, batches: [dict.fromkeys(times, 1.0)] * 2)
    monkeypatch.setattr(stack, "find_spec", lambda name: True)
    monkeypatch.setattr(logprobs, "find_spec", lambda name: True)
    once = {"seconds": [1.0], "peak": 1.0, "hidden": 1.0, "weight": 1.0, "ways": {"logits": "MKL"}}
    monkeypatch.setattr(logprobs, "measure", lambda side: once)
    monkeypatch.setattr(gates, "ROUNDS", 1)
    spent = dict.fromkeys(("rollout", "sync", "reward", "train", "telemetry", "other"), 1.0)
    sides = {side: [once | {"spent": spent}] for side in batch.SIDES}
    found = {"batch": batch.compared(sides), "stack": stack.rows(1), "logprobs": logprobs.rows(1)}
    for name, rows in (found | {"gates": gates.rows()}).items():
        keys = [row["key"] for row in rows]
        assert len(set(keys)) == len(keys)
        assert PARTS[name].keys() - {"measured"} <= set(keys), name


def test_peak_memory_is_that_of_the_process_itself() -> None:
    """``ru_maxrss`` starts at what the starting process has, here far more than a bare interpreter."""
    held = bytes(200 * 2**20)
    code = "from benchmarks.rows import peak_mib; print(peak_mib())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert peak_mib() > len(held) / 2**20
    assert 0 < float(done.stdout) < 100


def test_a_part_is_recorded_in_the_place_of_the_former_and_loses_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    rows = [row("speed", "a speed, against another", 3.0, 2.0, "1/s"), row("wrong", "wrong answers", 1, 0, "")]
    assert record("one", rows, path)
    assert record("two", rows[:1], path)
    assert record("one", [row("speed", "a speed, against another", 1.0, 3.0, "1/s"), rows[1]], path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["one"]["speed"]["ratio"] == 0.33333
    assert found["one"]["wrong"]["ratio"] is None
    assert found["two"]["speed"]["ratio"] == 1.5
    assert found["one"]["measured"]["origin"].startswith("python -m benchmarks one, at ")
    assert not record("one", rows[1:], path)
    assert "one: not recorded, since speed could not be measured here" in capsys.readouterr().out
    assert json.loads(path.read_text(encoding="utf-8")) == found
