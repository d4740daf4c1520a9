"""The page of a report: what it says without a browser, and how it behaves in a real one."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, executable
from command import gatepo
from conftest import REPO
from made_runs import make, make_all

from gatepo.report.page import PAGE, write_page
from gatepo.report.runs import find_runs
from gatepo.report.verdict import Verdict

GATES, TAUS, SEEDS, UPDATES = ("clip", "sigmoid", "erf"), ((1.0, 1.05), (10.0, 12.0)), 2, 40
WORDS = ("holds", "does not hold", "cannot be told", "not run")


def verdict(word: str, claim: str = "C1", **more: object) -> Verdict:
    given = {"estimate": 0.04, "low": 0.03, "high": 0.05, "smallest": 0.01, "seeds": (10, 11, 12), "seeds_needed": None}
    given |= {"says": "EUR falls <as> tau rises", "statistic": "slope", "runs": (), "registered": True} | more
    return Verdict(claim=claim, word=word, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen runs, one of them unfinished, with a name that no page may take for HTML."""
    root = tmp_path_factory.mktemp("runs")
    make_all(root, GATES, TAUS, SEEDS, UPDATES)
    make(root / "<b>going</b>", "erf", (10.0, 12.0), 7, UPDATES, until=15)
    return root


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    verdicts = [verdict(word, f"C{number}") for number, word in enumerate(WORDS, 1)]
    verdicts += [verdict("holds", "X1", registered=False), verdict("not run", "C9", estimate=None, low=None, high=None)]
    return write_page(find_runs(runs), tmp_path_factory.mktemp("out"), verdicts, title="Gates & more")


def test_verdicts_come_first_one_line_each_with_statistic_interval_and_seeds(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.name == PAGE and "<title>Gates &amp; more</title>" in text
    assert (
        text.index("id='verdicts'") < text.index("id='paper'") < text.index("id='collapse'") < text.index("id='tables'")
    )
    lines = re.findall(r"<li><span class='claim'>(\w+)</span>(.*?)</li>", text)
    assert [claim for claim, _ in lines] == ["C1", "C2", "C3", "C4", "C9", "X1"]  # what was not registered stands last
    for (_, line), word in zip(lines, WORDS, strict=False):
        assert "EUR falls &lt;as&gt; tau rises" in line and f">{word}</span>" in line
        assert "slope: <b>0.04</b> [0.03, 0.05], smallest effect 0.01; seeds 10-12" in line
    assert "Exploratory" in text[text.index("C9") : text.index("X1</span>")]


def test_a_page_without_verdicts_has_no_room_for_them(tmp_path: Path) -> None:
    make(tmp_path / "run")
    text = write_page(find_runs(tmp_path), tmp_path).read_text(encoding="utf-8")
    assert "id='verdicts'" not in text and "Figures 2 and 5 compare" in text


def test_the_page_says_what_it_did_to_the_curves_and_what_the_paper_leaves_open(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "the mean of 2 updates" in text and "running mean over 5 points" in text
    assert "without their axes" in text.replace("&#x27;", "'") and "1 of them unfinished" in text
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert len(captions) >= 10
    for caption in captions:
        assert re.search(r"Runs \d.*seeds 0.*batch.prompts=8.*commit 0123456", caption), caption


def test_no_name_of_a_run_becomes_html(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<b>going" not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])  # type: ignore[index]
    assert "<b>going</b>" in [run["name"] for run in data["runs"]]


def test_curves_are_on_the_page_once_and_few_points_long(page: Path) -> None:
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))[1])  # type: ignore[index]
    assert {"reward", "entropy", "eur", "eur/last", "eur/iteration_2"} <= data["curves"].keys()
    assert all(len(x) <= 151 for x in data["x"])
    groups = data["curves"]["reward"]["groups"]
    assert len(groups) == len(data["groups"]) == 5 and all(len(curve) == 4 for curve in groups.values())


def test_the_command_writes_page_figures_tables_and_numbers_and_ends_with_the_pages_path(
    runs: Path, tmp_path: Path
) -> None:
    other = make(tmp_path / "other", "arctan")
    done = gatepo("report", str(runs), str(other), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:4] == ["setting", "seeds", "finished", "collapsed"]
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / PAGE)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = {name.removesuffix(".png") for name in names if name.endswith(".png")}
    assert {"figure1_gates", "figure2_reward", "figure5_entropy_eur", "outcomes", "eur_tau", "widths"} <= drawn
    assert names == {
        *(f"{name}{kind}" for name in drawn for kind in (".png", ".svg")),
        *("groups.csv", "groups.md", "runs.csv", "runs.md", "report.json", PAGE),
    }
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(numbers["runs"]) == 12 and sum(group["finished"] for group in numbers["groups"]) == 11
    assert {figure["name"] for figure in numbers["figures"]} == drawn


def test_a_report_of_a_folder_lies_in_it_and_is_no_run_of_it(tmp_path: Path) -> None:
    make(tmp_path / "0")
    done = gatepo("report", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "report" / PAGE)
    assert len(find_runs(tmp_path)) == 1


def test_a_folder_without_runs_is_refused_in_one_line(tmp_path: Path) -> None:
    done = gatepo("report", str(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith("gatepo: ") and "holds no run" in done.stderr


def test_the_wheel_has_the_files_of_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPO, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert {f"gatepo/report/web/page.{kind}" for kind in ("html", "css", "js")} <= set(
        zipfile.ZipFile(wheel).namelist()
    )


def test_plotly_is_imported_by_no_room_but_the_report() -> None:
    code = "import sys, gatepo, gatepo.run; print(*('plotly' in sys.modules, 'matplotlib' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.fixture(scope="module", params=["wide", "phone, dark"])
def browser(request: pytest.FixtureRequest, page: Path) -> Iterator[Browser]:
    if executable() is None:
        pytest.skip("no Chromium or Chrome here (set GATEPO_BROWSER)")
    phone = request.param != "wide"
    with Browser(width=390 if phone else 1440, height=844, dark=phone, touch=phone) as found:
        found.open(page)
        found.run("gatepo.drawAll()")
        yield found


def test_all_figures_are_drawn_without_a_word_on_the_console_or_a_request(browser: Browser, page: Path) -> None:
    assert browser.said == []
    assert browser.asked == [page.resolve().as_uri()]
    empty = "[...document.querySelectorAll('.plot')].filter(p => !p.querySelector('.scatterlayer .trace')).length"
    assert browser.run("document.querySelectorAll('.plot').length") >= 20
    assert browser.run(empty) == 0


WATCHED = """
window.turns = [];
new MutationObserver((records) => turns.push(records.length))
  .observe(document, { subtree: true, attributes: true, attributeFilter: ["data-drawn"] });
"""
TURNS = """
(async () => {
  document.querySelector(".plot").scrollIntoView();
  const near = () => gatepo.plots.filter((plot) => plot.near);
  const drawn = ({ node }) => node.dataset.drawn;
  while (near().length < 2 || !near().every(drawn)) await new Promise((done) => setTimeout(done, 50));
  return turns;
})()
"""


def test_plots_in_view_are_drawn_one_after_another_so_that_the_first_is_seen_early(page: Path) -> None:
    if executable() is None:
        pytest.skip("no Chromium or Chrome here (set GATEPO_BROWSER)")
    with Browser() as fresh:
        fresh.call("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
        fresh.open(page)
        turns = fresh.run(TURNS)
        assert len(turns) > 1 and set(turns) == {1}
        assert fresh.said == []


def test_the_page_does_not_scroll_sideways_and_its_tables_do(browser: Browser) -> None:
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("[...document.querySelectorAll('table')].every(t => t.closest('.scroll'))")


def test_no_legend_covers_a_curve(browser: Browser) -> None:
    """Legends stand above their panels, and plotly draws none of its own."""
    covers = (
        "[...document.querySelectorAll('figure')].filter(f => f.querySelector('.legend').getBoundingClientRect().bottom"
        " > f.querySelector('.plot').getBoundingClientRect().top).length"
    )
    assert browser.run(covers) == 0
    assert browser.run("document.querySelectorAll('.infolayer .legend').length") == 0


def traces(browser: Browser, kind: str = "") -> int:
    """Traces of Figure 2."""
    where = f".filter(t => t.kind === '{kind}')" if kind else ""
    return int(browser.run(f"document.querySelector('#figure2_reward .plot').data{where}.length"))


def test_a_name_in_a_legend_hides_its_curves_in_all_figures_and_shows_them_again(browser: Browser) -> None:
    button = "document.querySelector('#figure2_reward .legend button')"
    before = traces(browser, "mean")
    browser.run(f"{button}.click(), 0")
    browser.run("gatepo.drawAll()")
    assert traces(browser, "mean") == before - 1
    group = browser.run(f"{button}.dataset.group")
    states = f"[...document.querySelectorAll('.legend button[data-group=\"{group}\"]')].map(b => b.ariaPressed)"
    assert set(browser.run(states)) == {"false"} and len(browser.run(states)) > 3
    browser.run("document.getElementById('all').click(), 0")
    browser.run("gatepo.drawAll()")
    assert traces(browser, "mean") == before


def test_single_runs_and_bands_are_switched(browser: Browser) -> None:
    assert traces(browser, "single") == 0 and traces(browser, "band") == 2
    for name in ("singles", "bands"):
        browser.run(f"document.getElementById('{name}').click(), 0")
    browser.run("gatepo.drawAll()")
    assert traces(browser, "single") == 5 and traces(browser, "band") == 0  # 2 + 3 runs of the erf gate
    for name in ("singles", "bands"):
        browser.run(f"document.getElementById('{name}').click(), 0")
    browser.run("gatepo.drawAll()")
    assert browser.said == []
