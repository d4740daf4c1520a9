"""The figures' files: no word is cut off at an edge, none covers another, axes have numbers that a person reads."""

from collections.abc import Iterator
from itertools import combinations

import matplotlib.pyplot as plt
import pytest
from made_runs import make
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from gatepo.report import figures as files
from gatepo.report.page import figures
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
