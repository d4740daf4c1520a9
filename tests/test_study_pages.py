"""What the documents say of the study is what its committed runs say, and nothing of it is typed by hand."""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import REPO

STUDY = REPO / "experiments" / "study"


@pytest.fixture(scope="module")
def publish() -> ModuleType:
    """The script beside the study, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDY))
        return importlib.import_module("publish")


@pytest.fixture(scope="module")
def study(publish: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the runs in the repository say."""
    folder = tmp_path_factory.mktemp("unpacked") / "study"
    publish.unpack(publish.RUNS, folder)
    return publish.judged(folder)


def test_the_documents_have_what_the_runs_say(publish: ModuleType, study: Any) -> None:
    assert len(study.runs) == 250
    for page, name, table in publish.TABLES:
        text = (REPO / page).read_text(encoding="utf-8")
        assert text == publish.written(text, name, table(study)), (page, name)


def test_a_word_or_digit_that_was_altered_is_seen(publish: ModuleType, study: Any) -> None:
    for page, name, table in publish.TABLES:
        text, right = (REPO / page).read_text(encoding="utf-8"), table(study)
        for old, new in (("holds", "does not hold"), ("0.", "1.")):
            altered = text.replace(right, right.replace(old, new, 1))
            assert (altered != text) == (old in right)
            assert publish.written(altered, name, right) == text, (page, name)


def test_every_verdict_is_of_all_registered_seeds(study: Any) -> None:
    judged = [one for one in study.verdicts if one.estimate is not None]
    assert len(judged) == 11
    for one in judged:
        assert one.registered and one.seeds == tuple(range(10, 20)) and len(one.runs) % 10 == 0, one


def test_the_page_shows_each_figure_and_no_other(publish: ModuleType) -> None:
    shown = re.findall(r"!\[[^]]+\]\((study-[^)]+)\)", (REPO / "docs" / "study.md").read_text(encoding="utf-8"))
    there = {path.name for path in (REPO / "docs").glob("study-*.png")}
    assert set(shown) == there == {f"study-{name}.png" for name in publish.FIGURES}
    assert sum((REPO / "docs" / name).stat().st_size for name in there) + Path(publish.RUNS).stat().st_size < 3e6
