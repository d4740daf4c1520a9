"""What an evaluation measures is called by its name: accuracy of answers, or the mean of a reward of the user's own."""

import itertools
import json
from pathlib import Path
from statistics import fmean

import pytest
from command import gatepo
from composed import evaluation_settings
from hydra import compose, initialize_config_dir
from made_runs import make

from gatepo.errors import UserError
from gatepo.evaluate.__main__ import DEFAULTS
from gatepo.evaluate.generations import Problem, Sample
from gatepo.evaluate.of_run import with_its_own
from gatepo.evaluate.results import compare, result
from gatepo.evaluate.statistics import Z, mean_score, paired_p_value, sign_flip
from gatepo.presets import yaml_dir
from gatepo.report import tables
from gatepo.report.panels import Material
from gatepo.report.runs import read_run

REWARD = "def shortness(prompt, completion, *, longest=64):\n    return 0.3 - len(completion.token_ids) / longest\n"
OTHER = "def other(prompt, completion):\n    return 1\n"
ROWS = [{"question": f"{n} + {n} = ?", "answer": str(2 * n)} for n in range(3, 9)]
SMALL = ("updates=1", "batch.prompts=4", "batch.iterations=1", "threads=1", "evaluate.samples=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reward and a test set of the user's own, and two runs with them; ours grades one."""
    place = tmp_path_factory.mktemp("own")
    (place / "own_measure.py").write_text(REWARD + OTHER)
    for name, rows in (("train", ROWS[:4]), ("held", ROWS[4:])):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ("data=[train.jsonl,test:held.jsonl]", "model=tiny")
    alone = gatepo("train", *SMALL, *data, "reward._target_=own_measure.shortness", "hydra.run.dir=alone", cwd=place)
    assert alone.returncode == 0, alone.stderr
    assert "mean shortness on held" in alone.stdout and "accuracy" not in alone.stdout + alone.stderr
    ours = gatepo("train", *SMALL, *data, "hydra.run.dir=ours", cwd=place)
    assert ours.returncode == 0, ours.stderr
    assert "accuracy on held" in ours.stdout
    return place


def test_a_run_with_a_reward_of_ones_own_speaks_of_its_mean(place: Path) -> None:
    summary = json.loads((place / "alone" / "summary.json").read_text())
    assert summary["measures"] == "mean shortness"
    before = summary["evaluation"]["held"]["before"]
    assert before < 0.3
    assert f"| held | {before:.3f} |" in (place / "alone" / "model" / "README.md").read_text()
    log = (place / "alone" / "train.log").read_text()
    assert f"mean shortness held {before:.3f}" in log and "accuracy" not in log


def test_its_evaluation_takes_the_runs_own_sets_and_reward(place: Path) -> None:
    """With no word on data and reward; the scores are below 0 and were counted as right answers once."""
    refused = gatepo("evaluate", "run=alone", cwd=place)
    assert refused.returncode == 2 and "trust=true" in refused.stderr
    done = gatepo("evaluate", "run=alone", "trust=true", "samples=2", cwd=place)
    assert done.returncode == 0, done.stderr
    document = json.loads((place / "alone" / "evaluation" / "evaluation.json").read_text())
    lines = [
        json.loads(line) for line in (place / "alone" / "evaluation" / "generations.jsonl").read_text().splitlines()
    ]
    assert [line["question"] for line in lines] == [row["question"] for row in ROWS[4:]]
    score_PK = [[0.3 - sample["tokens"] / 64 for sample in line["samples"]] for line in lines]
    assert [[sample["score"] for sample in line["samples"]] for line in lines] == score_PK
    assert not any(sample["right"] for line in lines for sample in line["samples"])
    figures = document["sets"]["held"]
    assert (document["measures"], list(document["sets"])) == ("mean shortness", ["held"])
    assert figures["score"]["value"] == pytest.approx(fmean(map(fmean, score_PK)))
    assert not {"accuracy", "pass_at", "majority", "format"} & set(figures)
    assert "mean shortness" in done.stdout and "accuracy" not in done.stdout and "pass@" not in done.stdout


def test_what_is_chosen_takes_the_place_of_the_runs(place: Path) -> None:
    """A set alone leaves the reward, a reward alone the sets."""
    other = gatepo("evaluate", "run=alone", "trust=true", "data=tiny", "limit=1", "out=sets", cwd=place)
    assert other.returncode == 0, other.stderr
    found = json.loads((place / "sets" / "evaluation.json").read_text())
    assert (list(found["sets"]), found["measures"]) == (["easy", "medium", "hard"], "mean shortness")
    graded = gatepo("evaluate", "run=alone", "trust=true", "reward.extraction=auto", "out=graded", cwd=place)
    assert graded.returncode == 0, graded.stderr
    found = json.loads((place / "graded" / "evaluation.json").read_text())
    assert (list(found["sets"]), found["measures"]) == (["held"], "accuracy")
    assert "full format" in graded.stdout


def test_what_other_rewards_gave_is_not_compared_and_nothing_is_sampled_for_it(place: Path) -> None:
    """Of another function, of the same with another setting, and of graded answers."""
    words = ("evaluate", "model.path=ours/model", "data=held.jsonl", "trust=true")
    for name, reward in (("one", ("reward._target_=own_measure.shortness",)), ("marks", ())):
        done = gatepo(*words, *reward, f"out={name}", cwd=place)
        assert done.returncode == 0, done.stderr
    assert json.loads((place / "one" / "identity.json").read_text())["reward"] == "own_measure.shortness"
    for name, against, said in (
        (
            "reward.longest=32",
            "one",
            "reward.longest=64 in one and own_measure.shortness reward.longest=32 here",
        ),
        ("reward._target_=own_measure.other", "one", "reward.longest=64 in one and own_measure.other here"),
        ("", "marks", "got graded answers in marks and own_measure.shortness reward.longest=64 here"),
    ):
        kind = () if "_target_" in name else ("reward._target_=own_measure.shortness",)
        more = [word for word in (*kind, name) if word]
        refused = gatepo(*words, *more, f"against={against}", "out=never", cwd=place)
        assert refused.returncode == 2 and said in refused.stderr, refused.stderr
        assert not (place / "never").exists()
    same = gatepo(*words, "reward._target_=own_measure.shortness", "against=one", "out=again", cwd=place)
    assert same.returncode == 0 and "+0.000" in same.stdout


def test_a_run_without_a_test_set_says_so(place: Path) -> None:
    (place / "bare").mkdir()
    config = (place / "ours" / "config.yaml").read_text()
    at = config.index("  evaluation:")
    end = config.index("\nreward:")
    (place / "bare" / "config.yaml").write_text(config[:at] + "  evaluation: {}" + config[end:])
    with pytest.raises(UserError, match=r"data must name evaluation sets, since .*bare has none of its own"):
        with_its_own(evaluation_settings(f"run={place / 'bare'}"), [])


def test_a_report_names_it_beside_accuracies(place: Path) -> None:
    runs = [read_run(place / name) for name in ("alone", "ours")]
    table = tables.runs(Material(runs))
    column = table.head.index("held")
    own, ours = (row[column] for row in table.rows)
    assert own.endswith(", mean shortness") and "%" not in own
    assert ours.endswith("%") and "mean" not in ours
    answers = table.head.index("answers")
    assert table.rows[0][answers] == "" and "->" in table.rows[1][answers]
    assert [Material([run]).counted for run in runs] == ["reward", "answers"]


def test_a_summary_of_before_is_read_by_its_rows(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "run"))
    assert "measures" not in run.summary and run.measures == "accuracy"


def problem(*scores: float, index: int = 0) -> Problem:
    samples = tuple(
        Sample(text="", answer=None, right=False, format=0.0, tokens=1, finished=True, timed_out=False, score=score)
        for score in scores
    )
    return Problem(set="s", index=index, question=str(index), gold="", samples=samples)


def test_scores_have_the_interval_of_their_problems() -> None:
    """By hand: means 0.5, -1 and 2 of three problems, SD 1.5."""
    got = result([problem(0.0, 1.0), problem(-1.0, -1.0), problem(2.0, 2.0)])
    assert got.score.value == pytest.approx(0.5)
    assert got.score.high - got.score.value == pytest.approx(Z * 1.5 / 3**0.5)
    assert result([problem(7.0)]).as_json()["score"] == {"value": 7.0, "low": None, "high": None}
    assert mean_score([1.0, 1.0]).low == 1.0


def test_scores_are_compared_by_the_same_test_as_answers() -> None:
    """Of whole differences both tests know the chance; of others it is counted here over all signs."""
    whole = [1, 1, -1, 1, 0, 1, 1, 1]
    assert sign_flip(whole) == pytest.approx(paired_p_value(whole), abs=0.005)
    parts = [0.31, -0.07, 0.22, 0.4, 0.05, -0.11]
    sums = [
        abs(sum(s * d for s, d in zip(signs, parts, strict=True))) for signs in itertools.product((1, -1), repeat=6)
    ]
    exact = sum(one >= abs(sum(parts)) - 1e-12 for one in sums) / len(sums)
    assert sign_flip(parts) == pytest.approx(exact, abs=0.005)
    assert sign_flip([0.0, 0.0]) == 1.0
    ours = [problem(0.5, 0.1), problem(0.2, 0.2, index=1)]
    found = compare(ours, [problem(0.1, 0.1), problem(0.3, 0.3, index=1)])
    assert (found.better, found.worse, found.graded) == (1, 1, False)
    assert found.difference.value == pytest.approx(0.05)
    assert found.as_json()["difference"]["value"] == found.difference.value


def test_another_system_prompt_than_the_runs_is_refused_with_what_to_type(place: Path) -> None:
    """It was left out in silence once."""
    refused = gatepo("evaluate", "run=ours", "data.system=Be brief.", "out=asked", cwd=place)
    assert refused.returncode == 2
    typed = "model.path=ours/model data.system='Be brief.'"
    assert refused.stderr.rstrip().endswith(f"to ask its model otherwise type {typed}")
    done = gatepo("evaluate", "model.path=ours/model", "data.system=Be brief.", "limit=1", "out=asked", cwd=place)
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "asked" / "identity.json").read_text())["data.system"] == "Be brief."


def test_what_was_not_chosen_is_known_by_the_commands_defaults() -> None:
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        composed = compose("evaluate", [], return_hydra_config=True)
    assert {name: composed.hydra.runtime.choices[name] for name in DEFAULTS} == DEFAULTS


def test_a_file_of_rows_brings_no_system_prompt_into_an_evaluation_of_a_run(place: Path) -> None:
    (place / "rows.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    done = gatepo("evaluate", "run=ours", "data=rows.jsonl", "out=of_rows", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "rows" in done.stdout
