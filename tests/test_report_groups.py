"""Which runs are one setting, what a setting is called, and what of it is counted."""

import json
from pathlib import Path

import pytest
import yaml
from made_runs import COMMIT, make, make_all

from gatepo import run
from gatepo.errors import UserError
from gatepo.report import captions, gates, paper, tables
from gatepo.report.captions import runs_line
from gatepo.report.groups import differing, grouped, shared
from gatepo.report.page import figures
from gatepo.report.panels import Figure, Material, ranges
from gatepo.report.runs import Run, find_runs, folders, read_run, without_copies
from gatepo.report.style import DARK, LIGHT, mixed, styles
from gatepo.run_folder import COMPLETIONS


def test_seeds_are_one_setting_and_labels_say_only_what_differs(tmp_path: Path) -> None:
    for seed in (0, 1):
        make(tmp_path / f"a{seed}", gate="erf", seed=seed)
        make(tmp_path / f"b{seed}", gate="clip", seed=seed)
    runs = find_runs(tmp_path)
    assert [group.label for group in grouped(runs)] == ["erf", "clip"]  # in the order of the library
    assert [group.runs for group in grouped(runs)] == [(0, 1), (2, 3)]
    # gate.eps_low follows from the gate; the seed and what a run keeps are no settings that differ
    assert differing(runs) == ["gate.name"]
    assert "optimizer.lr" in shared(runs) and "seed" not in shared(runs)


def test_tau_is_a_pair_and_no_part_of_a_gate_that_takes_none(tmp_path: Path) -> None:
    make(tmp_path / "0", "erf", (1.0, 1.05))
    make(tmp_path / "1", "erf", (10.0, 12.0))
    make(tmp_path / "2", "clip", (1.0, 1.05))
    make(tmp_path / "3", "clip", (10.0, 12.0))
    runs = find_runs(tmp_path)
    assert [group.label for group in grouped(runs)] == ["erf, tau 1/1.05", "erf, tau 10/12", "clip"]
    assert gates.tau(runs[2]) is None and gates.tau(runs[0]) == 1.0
    assert gates.half_width(runs[1]) == pytest.approx(0.11774, abs=1e-5)  # sqrt(2 ln 2) / 10
    assert gates.half_width(runs[2]) == 0.2


def test_a_fixed_pair_is_named_by_its_numbers_and_another_tau_by_its_name(tmp_path: Path) -> None:
    make(tmp_path / "0", tau=(1.0, 1.05))
    make(tmp_path / "1", tau=(10.0, 12.0))
    for target in (0.8, 0.9):
        path = make(tmp_path / str(target)) / "config.yaml"
        tau = {"name": "target_eur", "pos": 10.0, "neg": 12.0, "target": target}
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"tau": tau}))
    labels = {group.label for group in grouped(find_runs(tmp_path))}
    held = "tau=target_eur, tau 10/12, tau.target="
    assert labels == {"tau 1/1.05", "tau 10/12", f"{held}0.8", f"{held}0.9"}


def test_another_setting_is_named_as_it_is_typed(tmp_path: Path) -> None:
    make(tmp_path / "0", optimizer__lr=7e-4)
    make(tmp_path / "1", optimizer__lr=1e-3)
    assert [group.label for group in grouped(find_runs(tmp_path))] == ["optimizer.lr=0.0007", "optimizer.lr=0.001"]


def test_a_gate_from_outside_is_named_and_not_imported(tmp_path: Path) -> None:
    folder = make(tmp_path / "0", gate="erf")
    text = (folder / "config.yaml").read_text().replace("name: erf", "_target_: nowhere.Gate")
    (folder / "config.yaml").write_text(text)
    material = Material(find_runs(tmp_path))
    assert material.groups[0].label == "nowhere.Gate, tau 10/12"
    assert gates.half_width(material.runs[0]) is None
    names = [figure.name for figure in figures(material)]
    assert "figure1_gates" not in names and "widths" not in names and "eur_tau" in names


def test_a_gate_that_is_in_no_figure_of_gates_is_named_there(tmp_path: Path) -> None:
    make(tmp_path / "0", gate="erf")
    make(tmp_path / "1", gate="custom")
    found = by_name(Material(find_runs(tmp_path)))
    for name in ("figure1_gates", "widths"):
        assert found[name].says.endswith(
            "Not here: custom, since a report runs no formula and no code of a run; python -m gatepo.gates draws them."
        )
    make(tmp_path / "two" / "2", gate="sigmoid")
    assert "Not here" not in by_name(Material(find_runs(tmp_path / "two")))["figure1_gates"].says


def test_a_run_that_ends_draws_itself_as_finished(tmp_path: Path, monkeypatch) -> None:
    """Its summary is written after its figures."""
    made = make(tmp_path / "0", until=11)
    (made / COMPLETIONS).touch()
    assert not read_run(made).finished
    drawn: list[Run] = []
    monkeypatch.setattr("gatepo.report.figures.draw", lambda runs, _: drawn.extend(runs) or [])
    run._finish(made, 1.0, "accuracy", {"hard": {"before": 0.1, "after": 0.5}})
    assert runs_line(Material(drawn), (0,)) == "1 run" and read_run(made).finished


@pytest.fixture(scope="module")
def all_runs(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Five gates at two temperatures with two seeds."""
    root = tmp_path_factory.mktemp("runs")
    make_all(root, ("clip", "sigmoid", "erf", "arctan", "softsign"), ((1.0, 1.05), (10.0, 12.0)), 2, 40)
    return Material(find_runs(root))


def by_name(material: Material) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(material)}


def test_the_papers_figures_compare_what_the_papers_do(all_runs: Material) -> None:
    found = by_name(all_runs)
    assert list(found)[:5] == [
        *("figure1_gates", "figure2_reward", "figure3_reward", "figure4_entropy_eur", "figure5_entropy_eur"),
    ]
    assert "erf gate" in found["figure2_reward"].title and "tau 10/12" in found["figure3_reward"].title
    assert all_runs.labels(found["figure2_reward"]) == ["tau 1/1.05", "tau 10/12"]
    assert all_runs.labels(found["figure3_reward"]) == ["sigmoid", "erf", "arctan", "softsign", "clip"]
    assert all_runs.labels(found["figure1_gates"]) == ["sigmoid", "erf", "arctan", "softsign", "clip"]
    assert [panel.curves for panel in found["figure4_entropy_eur"].panels] == ["entropy", "eur", "eur/last"]
    assert paper.missing(all_runs) == ""


def test_what_these_runs_cannot_show_is_said(tmp_path: Path) -> None:
    make(tmp_path / "0")
    material = Material(find_runs(tmp_path))
    assert "Figures 2 and 5" in paper.missing(material) and "Figures 3 and 4" in paper.missing(material)
    assert {"reward", "entropy_eur", "eur_iterations", "eur_tau", "widths"} <= by_name(material).keys()


def test_every_figure_names_runs_seeds_settings_and_commit(all_runs: Material) -> None:
    groups = by_name(all_runs)["figure2_reward"].groups
    assert runs_line(all_runs, groups) == "4 runs"
    assert captions.seeds_line(all_runs, groups) == "seeds 0-1"
    words = "gate=erf, model=tiny, data=expressions+words, reward=answer_and_format, batch.prompts=8"
    assert captions.settings_line(all_runs, groups).startswith(words)
    assert captions.commits_line(all_runs, groups) == f"commit {COMMIT[:7]}"


def test_the_version_stands_where_no_commit_is_known(tmp_path: Path) -> None:
    make(tmp_path / "0")
    other = make(tmp_path / "1", seed=1)
    (other / "run.json").write_text('{"starts": [{"code": {"commit": null, "version": "0.1.0"}}]}')
    assert captions.commits_line(Material(find_runs(tmp_path)), (0,)) == f"commit {COMMIT[:7]}, gatepo 0.1.0"


def test_collapse_is_the_last_fifth_below_the_first_batch(tmp_path: Path) -> None:
    """By hand: answers 0.5, 0.5, then 0.4 or 0.6."""
    for name, end in (("down", 0.4), ("up", 0.6)):
        folder = make(tmp_path / name, updates=10)
        rows = [
            f'{{"update": {u}, "reward": 1, "rewards/answer/mean": {0.5 if u < 3 else end}}}\n' for u in range(1, 11)
        ]
        (folder / "metrics.jsonl").write_text("".join(rows))
        assert read_run(folder).collapsed is (name == "down")


def test_unfinished_runs_count_as_far_as_they_are(tmp_path: Path) -> None:
    make(tmp_path / "0", seed=0)
    make(tmp_path / "1", seed=1, until=11)
    material = Material(find_runs(tmp_path))
    assert runs_line(material, (0,)) == "2 runs, 1 of them unfinished"
    assert runs_line(Material(material.runs[1:]), (0,)) == "1 run, unfinished"
    (row,) = tables.groups(material).rows
    assert row[:3] == ("erf, tau 10/12", "0-1", "1 of 2")
    assert tables.runs(material).rows[1][3] == "11 of 40, unfinished"
    curve = material.curves.of_group((0, 1), "reward")
    assert curve.x[-1] == 39.5 and curve.low[-1] == curve.high[-1] and curve.low[0] < curve.high[0]


def test_several_folders_are_read_once_each(tmp_path: Path) -> None:
    make(tmp_path / "one" / "0")
    make(tmp_path / "two" / "0", seed=1)
    runs = find_runs(tmp_path / "one", tmp_path, tmp_path / "two")
    assert folders(runs) == ["one/0", "two/0"]


def test_only_what_is_shown_is_kept(tmp_path: Path) -> None:
    (run,) = find_runs(make(tmp_path / "0"), keep=("update", "reward", "eur"))
    assert run.metrics[1].keys() == {"update", "reward", "eur", "eur/iteration_2"}


def test_damaged_starts_are_said(tmp_path: Path) -> None:
    folder = make(tmp_path / "0")
    (folder / "run.json").write_text("[]")
    with pytest.raises(UserError, match="must be the starts of a run"):
        read_run(folder)


def test_tables_are_csv_and_markdown(all_runs: Material) -> None:
    table = tables.groups(all_runs)
    assert table.as_csv().splitlines()[0].startswith("setting,seeds,finished,collapsed,answers,reward")
    assert len(table.as_csv().splitlines()) == 1 + len(all_runs.groups)
    assert table.as_markdown().splitlines()[1].startswith("| --- | ---: |")
    assert "\N{RIGHTWARDS ARROW}" in table.as_html() and " -> " in table.as_csv()


def test_more_than_eight_settings_have_a_colour_for_each_gate(all_runs: Material) -> None:
    found = styles(all_runs.groups, all_runs.everyone)
    assert len({style.colour for style in found.values()}) == 5
    assert len({(style.colour, style.pale, style.dash) for style in found.values()}) == len(all_runs.groups)
    assert [style.colour for style in styles(all_runs.groups, (2, 3)).values()] == [0, 1]
    assert len(LIGHT) == len(DARK) == 8 and mixed("#000000", 1.0) == "#ffffff"


def test_whole_numbers_are_written_in_ranges() -> None:
    assert ranges([7, 1, 3, 2]) == "1-3, 7"
    assert ranges([]) == ""


def test_one_class_with_two_bodies_is_two_settings(tmp_path: Path) -> None:
    """Its file's SHA-256 is in run.json; by its name alone runs of another body would be counted as more seeds."""
    for name, digest in (("0", "a" * 64), ("1", "a" * 64), ("2", "b" * 64)):
        folder = make(tmp_path / name, gate___target_="my_gates.Wide", seed=int(name))
        (folder / "run.json").write_text(json.dumps({"starts": [{"outside": {"my_gates.Wide": digest}}]}))
    found = grouped(find_runs(tmp_path))
    assert [(group.label, group.runs) for group in found] == [
        ("code of my_gates.Wide=aaaaaaa", (0, 1)),
        ("code of my_gates.Wide=bbbbbbb", (2,)),
    ]


def test_a_run_in_two_folders_counts_once(tmp_path: Path) -> None:
    """The one that went further counts; a run of other settings that began in the same second is no copy."""
    made = {"short": (3, 0), "long": (4, 0), "other": (4, 1)}
    for name, (updates, seed) in made.items():
        folder = make(tmp_path / name, seed=seed)
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_text("".join(lines[:updates]))
        (folder / "run.json").write_text(json.dumps({"starts": [{"start": "now", "end": name}]}))
    runs, lines = without_copies(find_runs(tmp_path))
    assert sorted(run.folder.name for run in runs) == ["long", "other"]
    assert lines == [f"{tmp_path / 'short'} holds the same run as {tmp_path / 'long'}, and is left out"]


@pytest.mark.parametrize(("prompts", "updates", "fell"), [(4, 20, True), (3, 20, False), (4, 9, False)])
def test_few_answers_are_no_collapse(tmp_path: Path, prompts: int, updates: int, fell: bool) -> None:
    folder = make(tmp_path / "run", batch__prompts=prompts, batch__num_generations=8, batch__iterations=2)
    rows = [{"update": u, "reward": 1.0, "rewards/answer/mean": 0.5 - u / 100} for u in range(1, updates + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(folder).collapsed is fell


def test_the_words_below_a_figure_name_data_reward_and_its_marks(tmp_path: Path) -> None:
    for seed in (0, 1):
        make(tmp_path / str(seed), gate="clip", seed=seed)
    material = Material(find_runs(tmp_path))
    shown = {figure.name: figure for figure in figures(material)}
    words = captions.settings_line(material, (0,))
    assert "data=expressions+words" in words and "reward=answer_and_format" in words and "tau" not in words
    assert captions.marks_line(material, shown["reward"]) == "line: mean over seeds, band: lowest to highest seed"
    assert captions.marks_line(material, shown["widths"]) == "small marks: runs, large: their mean"


def test_eur_begins_with_its_first_rollout_batch_and_not_with_the_one_of_its_first_iteration(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "run", iterations=2))
    eur = [row["eur"] for row in run.metrics[:2]]
    assert eur[0] == 1.0 > eur[1]
    assert run.first_and_last("eur")["first"] == pytest.approx(sum(eur) / 2)
    assert run.first_and_last("reward")["first"] == run.metrics[0]["reward"]


def test_a_formula_of_a_file_has_the_name_of_the_file(tmp_path: Path) -> None:
    """Which the config does not have, but what was typed; a formula that was typed itself is the custom gate."""
    for name, words in (("0", ["gate=wide"]), ("1", ["gate=narrow", "seed=1"]), ("2", ["gate=custom"]), ("3", [])):
        folder = make(tmp_path / name, gate="custom", gate__slope=f"1/(1+x*{name})")
        (folder / "run.json").write_text(json.dumps({"starts": [{"words": words}, {"words": ["updates=9"]}]}))
    make(tmp_path / "4", gate="erf")
    assert {group.label for group in grouped(find_runs(tmp_path))} == {
        *("erf", "wide, gate.slope=1/(1+x*0)", "narrow, gate.slope=1/(1+x*1)"),
        *("custom, gate.slope=1/(1+x*2)", "custom, gate.slope=1/(1+x*3)"),
    }
    two = [group.label for group in grouped([read_run(tmp_path / name) for name in ("0", "1", "4")])]
    assert sorted(two) == ["erf", "narrow", "wide"]
    assert gates.name_of(read_run(tmp_path / "0")) == "wide"


def test_a_reward_of_ones_own_is_named_and_what_ours_has_besides_is_not(tmp_path: Path) -> None:
    ours = {"name": "answer_and_format", "extraction": "tags", "weights": {"answer": 1.0, "format": 1.0}}
    make(tmp_path / "0", "erf", reward=ours)
    own = make(tmp_path / "1", "erf", reward={"_target_": "my_rewards.shortness", "top": 40})
    (own / "run.json").write_text(json.dumps({"starts": [{"outside": {"my_rewards.shortness": "a" * 64}}]}))
    labels = {group.label for group in grouped(find_runs(tmp_path))}
    assert labels == {"reward=answer_and_format", "reward=my_rewards.shortness"}
    (tmp_path / "2").mkdir()
    make(tmp_path / "2" / "run", "erf", reward=ours | {"weights": {"answer": 1.0, "format": 0.5}})
    labels = {group.label for group in grouped(find_runs(tmp_path))}
    assert "reward=answer_and_format, reward.weights.format=0.5" in labels
