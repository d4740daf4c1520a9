"""The figures' files: no word is cut off at an edge, none covers another, axes have numbers that a person reads."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from made_runs import make
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from gatepo.report import captions
from gatepo.report import figures as files
from gatepo.report.page import figures, write_page
from gatepo.report.panels import Material
from gatepo.report.runs import find_runs

LONG = ("softsign", "sigmoid", "erf", "clip")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Figure]]:
    """Every figure over sixteen settings with long names, still open."""
    root = tmp_path_factory.mktemp("drawn")
    for gate in LONG:
        for lr in (3.5e-4, 7e-4):
            for prompts in (8, 16):
                name = f"{gate}-{lr}-{prompts}"
                more = {
                    "batch__prompts": prompts,
                    "batch__num_generations": prompts,
                    "batch__micro_tokens": 4096 * prompts,
                }
                make(root / name, gate, optimizer__lr=lr, optimizer__weight_decay=lr / 7, **more)
    for tau in (1.0, 20.0):
        make(root / str(tau), "erf", (tau, 1.1 * tau))
    material, found = Material(find_runs(root)), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.plt, "close", lambda figure: None)
        for figure in figures(material):
            picture = plt.imread(files.paint(figure, material, root)[0])
            found[figure.name] = plt.gcf()
            plt.gcf().set_dpi(picture.shape[1] / plt.gcf().get_size_inches()[0])  # as in the file
    yield found
    plt.close("all")


def boxes(figure: Figure) -> list[Bbox]:
    """Where title, caption, legend and each panel with its words stand, in pixels."""
    found = [text.get_window_extent() for text in figure.texts]
    found += [legend.get_window_extent() for legend in figure.legends]
    return found + [axes.get_tightbbox() for axes in figure.axes if axes.axison]


def test_no_word_is_cut_off(drawn: dict[str, Figure]) -> None:
    assert {"outcomes", "eur_tau", "figure3_reward"} <= set(drawn)
    for name, figure in drawn.items():
        for box in boxes(figure):
            inside = min(box.x0, box.y0) >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
            assert inside, (name, box, figure.bbox)


def test_no_word_of_legend_title_and_caption_covers_another(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        for one, other in combinations(boxes(figure), 2):
            assert Bbox.intersection(one, other) is None, (name, one, other)


def test_a_logarithmic_axis_has_plain_numbers(drawn: dict[str, Figure]) -> None:
    (labels, *_) = ([tick.get_text() for tick in axes.get_xticklabels()] for axes in drawn["eur_tau"].axes)
    assert {"1", "2", "5", "10", "20"} <= set(labels)


def test_runs_of_different_rewards_are_said_to_have_different_scales(tmp_path: Path) -> None:
    make(tmp_path / "0", "erf")
    make(tmp_path / "1", "clip")
    alike = Material(find_runs(tmp_path))
    assert captions.scales_line(alike, alike.everyone) == ""
    make(tmp_path / "2", "arctan", reward={"_target_": "mine.shortness"})
    write_page(find_runs(tmp_path), tmp_path / "page")
    words = "rewards of different kinds: their heights do not compare"
    assert words in (tmp_path / "page" / "report.html").read_text()
    drawn = Material(find_runs(tmp_path))
    by_name = {figure.name: captions.marks_line(drawn, figure) for figure in figures(drawn)}
    assert words in by_name["reward"] and words not in by_name["eur_iterations"]


def test_a_curve_that_stands_still_is_drawn_as_a_line() -> None:
    """EUR of the first iteration is 1 but for rounding, which is not to fill its axes."""
    _, ax = plt.subplots()
    ax.plot([1, 2], [1.0, 1.0 - 1e-7])
    assert ax.get_ylim()[1] - ax.get_ylim()[0] < 1e-5
    files._room(ax)
    assert ax.get_ylim() == pytest.approx((0.999, 1.001), abs=1e-4)
    plt.close()


@pytest.mark.parametrize(
    ("x", "ticks"),
    [([1.0, 5.0, 10.0], [1, 2, 5, 10]), ([9.0, 11.0], [9, 11]), ([0.3], [0.3]), ([5.0, 13.0], [5, 10])],
)
def test_an_axis_of_temperatures_has_ticks_however_near_they_lie(x: list[float], ticks: list[float]) -> None:
    shown = [tick for tick in files._ticks(x).tick_values(min(x), max(x)) if min(x) <= tick <= max(x)]
    assert shown == pytest.approx(ticks)


def test_one_run_of_each_setting_is_named_as_what_it_is(tmp_path: Path) -> None:
    make(tmp_path / "0", "erf")
    make(tmp_path / "1", "clip")
    alone = Material(find_runs(tmp_path))
    words = "one run of each setting: differences may be chance"
    assert captions.chance_line(alone, alone.everyone) == words
    write_page(find_runs(tmp_path), tmp_path / "page")
    assert words in (tmp_path / "page" / "report.html").read_text()
    make(tmp_path / "2", "erf", seed=1)
    several = Material(find_runs(tmp_path))
    assert captions.chance_line(several, several.everyone) == ""
    assert captions.chance_line(alone, (0,)) == ""
