"""What W&B, TensorBoard and Trackio have of a run that was followed by all three, finished, and then went on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb_file
import yaml
from command import gatepo

from gatepo import overrides
from gatepo.errors import UserError
from gatepo.tracking import about, workspace
from gatepo.tracking import words as short
from gatepo.tracking.charts import Charts, curves

SMALL = ("batch.prompts=2", "batch.num_generations=4", "batch.micro=8", "evaluate.limit=1", "threads=1")
WORDS = ("tracker=[wandb,tensorboard,trackio]", "tracker.wandb.tags=[mine]", "tracker.wandb.completions=3")
NAME = "gate=arctan tau.pos=10 updates=2 batch.prompts=2 batch.num_generations=4 batch.micro=8"


@pytest.fixture(scope="module")
def data_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trackio")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_base: Path) -> Path:
    """Two updates, and then two more."""
    folder = tmp_path_factory.mktemp("followed") / "run"
    where = {"TRACKIO_DIR": str(data_base)}
    first = ("gate=arctan", "tau.pos=10", *WORDS, "updates=2", *SMALL, "checkpoint.every=2", f"hydra.run.dir={folder}")
    first += ("evaluate.every=2",)  # which meets the end
    for words in (first, (f"resume={folder}", "updates=4")):
        done = gatepo("train", *words, **where)
        assert done.returncode == 0, done.stderr
        assert "Run data is saved" in done.stderr and "Run history" not in done.stderr  # of 60 metrics
    return folder


@pytest.fixture(scope="module")
def logged(run: Path) -> list[wandb_file.Logged]:
    return wandb_file.read(run)


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_wandb_has_a_run_with_name_tags_and_all_settings(run: Path, logged: list[wandb_file.Logged]) -> None:
    for start in logged:  # a run that goes on stays the same one
        assert (start.run.run_id, start.run.display_name, start.run.run_group) == (logged[0].run.run_id, NAME, "")
        assert list(start.run.tags) == ["arctan", "tiny", "words", "expressions", "mine"]
    assert len(logged) == 2
    held = yaml.safe_load((run / "config.yaml").read_text())
    assert logged[1].config["gate"] == held["gate"] and logged[1].config["tau"] == held["tau"]


def test_eur_is_the_last_iterations_on_every_chart(run: Path, logged: list[wandb_file.Logged]) -> None:
    """It alternated with 1.0, the first iteration's."""
    rows = metrics(run)
    assert rows[0]["eur"] == rows[2]["eur"] == 1.0
    seen = {key: logged[0].series(key) | logged[1].series(key) for key in rows[1]}
    for key in ("eur", "eur/positive", "ratio/mean", "gradient_share/below_0.05", "eur/ledger/drift"):
        assert seen[key] == {row["update"]: pytest.approx(row[key]) for row in rows if row["update"] in (2, 4)}
    for key in ("reward", "entropy", "loss", "time/train"):
        assert seen[key] == {row["update"]: pytest.approx(row[key]) for row in rows}
    first = logged[0].series("eur/iteration_1") | logged[1].series("eur/iteration_1")
    assert first == {1: 1.0, 3: 1.0}


def test_an_update_whose_batch_ends_early_is_drawn_where_it_reached_its_last_iteration() -> None:
    assert curves({"eur": 1.0, "eur/iteration_1": 1.0}, 1) == {"eur": 1.0, "eur/iteration_1": 1.0}
    assert "eur" not in curves({"eur": 0.9, "eur/iteration_2": 0.9}, 3)


def test_wandbs_charts_are_drawn_over_updates(logged: list[wandb_file.Logged]) -> None:
    for start in logged:
        assert start.axes == {"update": "", "*": "update"}
        assert all("update" in row and row["_step"] == row["update"] for row in start.history)


def test_wandb_has_accuracy_before_and_after_and_the_summary(run: Path, logged: list[wandb_file.Logged]) -> None:
    summary = json.loads((run / "summary.json").read_text())
    for name, accuracy in summary["evaluation"].items():
        assert logged[0].series(f"evaluation/{name}")[0] == accuracy["before"]
        assert list(logged[1].series(f"evaluation/{name}")) == [4]  # before is not measured again
        assert logged[1].series(f"evaluation/{name}")[4] == accuracy["after"]
        assert logged[1].summary[f"summary/evaluation/{name}/after"] == accuracy["after"]
    for name in ("reward", "entropy", "eur"):
        assert logged[1].summary[f"summary/{name}/last"] == pytest.approx(summary[name]["last"])
    assert [start.ended for start in logged] == [[0], [0]]


def test_wandb_has_figures_and_a_table_of_completions(run: Path, logged: list[wandb_file.Logged]) -> None:
    last = logged[1].history[-1]
    for figure in ("reward", "entropy_eur"):
        assert (logged[1].media / last[f"figures/{figure}.path"]).read_bytes() == (run / f"{figure}.png").read_bytes()
    first = next(row for row in logged[0].history if "completions.path" in row)
    assert first["update"] == 1
    table = json.loads((logged[0].media / first["completions.path"]).read_text())
    samples = [json.loads(line) for line in (run / "completions.jsonl").read_text().splitlines()]
    assert table["columns"][:6] == ["update", "source", "prompt", "completion", "answer", "reward"]
    keys = ("update", "source", "question", "completion", "gold", "reward")
    assert [row[:6] for row in table["data"]] == [[sample[key] for key in keys] for sample in samples[:3]]
    assert table["columns"][6:] == ["rewards/answer", "rewards/format"]


def test_tensorboard_has_the_same_curves_once(run: Path, logged: list[wandb_file.Logged]) -> None:
    """In a process of its own: the library warns of what it imports."""
    code = (
        "import json, sys\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "found = EventAccumulator(sys.argv[1], size_guidance={'images': 0, 'tensors': 0}); found.Reload()\n"
        "tags = found.Tags()\n"
        "scalars = {k: [(e.step, e.value) for e in found.Scalars(k)] for k in tags['scalars']}\n"
        "texts = {k: found.Tensors(k)[0].tensor_proto.string_val[0].decode() for k in tags['tensors']}\n"
        "print(json.dumps([scalars, texts, tags['images']]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(run / "tensorboard")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scalars, texts, images = json.loads(done.stdout)
    rows = metrics(run)
    assert [step for step, _ in scalars["eur"]] == [2, 4]
    for key in ("reward", "entropy"):
        assert scalars[key] == [[row["update"], pytest.approx(row[key], rel=1e-6)] for row in rows]
    assert [step for step, _ in scalars["evaluation/easy"]] == [0, 2, 4]
    assert set(rows[1]) - {"update"} <= set(scalars)
    assert "summary/reward/last" in scalars
    assert set(images) == {"figures/reward", "figures/entropy_eur"}
    sample = json.loads((run / "completions.jsonl").read_text().splitlines()[0])
    assert f"    {sample['completion'].splitlines()[0]}" in texts["completions/text_summary"]
    assert NAME in texts["about/text_summary"]


def test_trackio_has_them_too_without_a_network(run: Path, data_base: Path) -> None:
    code = (
        "import json, trackio\n"
        "from trackio.sqlite_storage import SQLiteStorage as storage\n"
        "(name,) = storage.get_runs('gatepo')\n"
        "print(json.dumps([name, storage.get_logs('gatepo', name), storage.get_run_config('gatepo', name)]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TRACKIO_DIR": str(data_base)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, logs, config = json.loads(done.stdout.splitlines()[-1])
    assert name == f"{NAME} {json.loads((run / 'tracking.json').read_text())['id']}"
    assert {row["step"] for row in logs if "eur" in row} == {2, 4}
    assert {row["step"] for row in logs if "reward" in row} == {1, 2, 3, 4}
    assert {row["step"] for row in logs if "completions" in row} == {1, 3}
    assert any("summary/eur/last" in row and "figures/reward" in row for row in logs)
    assert config["gate"]["name"] == "arctan" and config["tags"][0] == "arctan"


class Screen:
    def __init__(self) -> None:
        self.tables: list[tuple[int, int]] = []
        self.finished: bool | None = None
        self.results: dict[str, float] = {}

    def show(self, update, values): ...

    def show_table(self, update, columns, rows):
        self.tables.append((update, len(rows)))

    def show_results(self, update, results, figures):
        self.results = results

    def close(self, finished):
        self.finished = finished


def test_tables_come_now_and_then_and_a_run_that_is_cut_off_is_not_finished() -> None:
    screen = Screen()
    charts = Charts(screen, 2, completions=2, every=10)
    row = {"source": "a", "question": [{"role": "user"}], "gold": "1", "completion": "x", "reward": 1.0, "rewards": {}}
    for update in range(1, 26, 2):
        charts.samples(update, [row] * 3)
    charts.close()
    assert screen.tables == [(1, 2), (11, 2), (21, 2)]
    assert screen.finished is False


def test_remarks_and_words_of_a_summary_are_no_numbers_of_a_chart() -> None:
    screen = Screen()
    words = {"measures": "mean short", "remarks": ["nothing was learned"]}
    Charts(screen, 2, completions=0, every=1).finish({"updates": 3, "eur": {"last": 0.9}, **words}, [])
    assert screen.results == {"summary/updates": 3, "summary/eur/last": 0.9}


def test_the_name_is_what_decides_what_is_learned(tmp_path: Path) -> None:
    config = {"gate": {"name": "erf"}, "model": {"path": "Qwen/Qwen2.5-7B"}, "data": {"sources": {"gsm8k": {}}}}
    job = tmp_path / "multirun" / "night" / "3"
    job.mkdir(parents=True)
    words = ["+experiment=paper/erf", "seed=1", "tracker=wandb", "threads=1", "checkpoint.every=5", "+source@a=rows"]
    (job.parent / "multirun.yaml").write_text("")
    made = about.keep(job, config, "a remark", words)
    assert (made.name, made.group, made.notes) == ("experiment=paper/erf seed=1", "multirun-night", "a remark")
    assert made.tags == ["paper/erf", "erf", "Qwen2.5-7B", "gsm8k"]
    assert about.keep(job, config, "other") == made  # when it goes on
    alone = tmp_path / "12-00-00-5b1f20"
    alone.mkdir()
    (alone / "wandb-id").write_text("0a1b2c3d")  # of the version before
    assert (about.keep(alone, config, "").name, about.keep(alone, config, "").id) == (alone.name, "0a1b2c3d")
    (alone / "tracking.json").write_text('{"id": 1')
    with pytest.raises(UserError, match="must be what a run is called"):
        about.read(alone)


def test_a_list_of_trackers_is_spelled_out() -> None:
    found = overrides.prepared(["tracker=[wandb, tensorboard]", "tracker.wandb.mode=online", "tau.pos=3"])
    assert found == [
        "tracker=several",
        "+tracker@tracker.each.wandb=wandb",
        "+tracker@tracker.each.tensorboard=tensorboard",
        "tracker.each.wandb.mode=online",
        "tau.pos=3",
    ]
    assert short.spelled_out(["tracker=wandb", "tracker.mode=online"]) == ["tracker=wandb", "tracker.mode=online"]


def without_trackio() -> None:
    sys.modules["trackio"] = None  # type: ignore[assignment]


def test_what_is_wrong_with_trackers_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for words, line in (
        (("tracker=[wandb,tensorbord]",), "got tracker=tensorbord; did you mean tracker=tensorboard?"),
        (("tracker=wandb", "tracker.moed=online"), "got tracker.moed=online; did you mean tracker.mode?"),
        (("tracker=[wandb,trackio]",), "tracker=trackio must have the package trackio, got none here; type: pip"),
        (("tracker=wandb", "tracker.mode=online"), "tracker.mode must be one that works here, got online (No API key"),
    ):
        done = gatepo(
            *("train", *words, *SMALL, "updates=2", f"hydra.run.dir={folder}"),
            first=without_trackio,
            HOME=str(tmp_path),
            WANDB_BASE_URL="http://127.0.0.1:9",
        )
        assert done.returncode == 2, done.stderr
        said = done.stderr.strip().splitlines()
        assert line in said[-1] and "Traceback" not in done.stderr
        assert not folder.exists(), sorted(folder.rglob("*"))


def panels(file: Path) -> dict[str, list[dict]]:
    """The panels of a dashboard, by section."""
    spec = json.loads(file.read_text())["spec"]["section"]
    return {section["name"]: section["panels"] for section in spec["panelBankConfig"]["sections"]}


def drawn(file: Path) -> list[dict]:
    """The settings of its charts."""
    return [p["config"] for found in panels(file).values() for p in found if p["viewType"] == "Run History Line Plot"]


SECTIONS = ["Reward", "Entropy", "EUR by iteration and sign", "Ratio", "Gradient share", "Time"]


def dashboard(tmp_path: Path, *words: str) -> str:
    """What the command prints, where there is no account."""
    done = gatepo("dashboard", *words, cwd=tmp_path, HOME=str(tmp_path), WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_dashboard_of_a_run_draws_what_it_logs(run: Path, logged: list[wandb_file.Logged], tmp_path: Path) -> None:
    """It is written where there is no account, and read back as it was."""
    said = dashboard(tmp_path, str(run))
    file = run / "dashboard.json"
    assert f"not saved to W&B (no account here: wandb login); later: python -m gatepo.dashboard {file}" in said
    real = {key for start in logged for row in start.history for key in row}
    charts = drawn(file)
    assert list(panels(file))[:6] == SECTIONS
    assert all(chart["metrics"] and chart["xAxis"] == "update" for chart in charts)
    assert {key for chart in charts for key in chart["metrics"]} <= real
    by_title = {chart["chartTitle"]: chart["metrics"] for chart in charts}
    assert by_title["EUR by iteration"] == ["eur/iteration_1", "eur/iteration_2"]
    assert by_title["Accuracy"] == ["evaluation/easy", "evaluation/hard", "evaluation/medium"]
    (table, media) = panels(file)["Completions and figures"]
    assert '"completions"' in json.dumps(table) and "completions.path" in real
    assert {f"{key}.path" for key in media["config"]["mediaKeys"]} <= real
    held = json.loads(file.read_text())
    (shown,) = held["spec"]["section"]["runSets"]
    assert shown["filters"]["filters"][0]["value"] == logged[0].run.run_id
    pinned = [column.removeprefix("summary:") for column in shown["runFeed"]["columnOrder"][1:]]
    assert set(pinned) <= set(logged[1].summary)
    dashboard(tmp_path, str(file), "--out", "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == held


def test_the_dashboards_of_a_multirun_and_of_a_project(run: Path, tmp_path: Path) -> None:
    for job in range(2):
        (tmp_path / "night" / str(job)).mkdir(parents=True)
        for name in ("metrics.jsonl", "config.yaml", "summary.json"):
            (tmp_path / "night" / str(job) / name).write_bytes((run / name).read_bytes())
        held = json.loads((run / "tracking.json").read_text()) | {"group": "multirun-night", "id": str(job)}
        (tmp_path / "night" / str(job) / "tracking.json").write_text(json.dumps(held))
    dashboard(tmp_path, "night", "--out", "grid.json")
    (shown,) = json.loads((tmp_path / "grid.json").read_text())["spec"]["section"]["runSets"]
    assert [(one["key"]["name"], one["value"]) for one in shown["filters"]["filters"]] == [("group", "multirun-night")]
    assert "later: python -m gatepo.dashboard dashboard.json" in dashboard(tmp_path, "--project", "mine")
    held = json.loads((tmp_path / "dashboard.json").read_text())
    assert held["project"] == "mine" and held["spec"]["section"]["runSets"][0]["filters"]["filters"] == []
    keys = {key for chart in drawn(tmp_path / "dashboard.json") for key in chart["metrics"]}
    assert keys == set(workspace.USUAL) and keys <= {key for row in metrics(run) for key in row}
    assert list(panels(tmp_path / "dashboard.json"))[:6] == SECTIONS


def test_a_dashboard_of_what_wandb_has_not_followed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"update": 1}\n')
    (tmp_path / "config.yaml").write_text("batch: {iterations: 2}\ntracker: {name: none}\n")
    (tmp_path / "other.json").write_text("{}")
    for word, line in ((".", "must have been followed by W&B"), ("other.json", "must be a dashboard")):
        done = gatepo("dashboard", word, cwd=tmp_path)
        assert done.returncode == 2 and line in done.stderr.strip().splitlines()[-1], done.stderr
