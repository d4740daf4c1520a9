"""What is damaged or foreign is said in one line, with what to do; a traceback is shown where it is a user's own."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command import gatepo
from disks import small_disk
from test_foreign import sign
from test_run import SMALL

from gatepo import checkpoint
from gatepo.data.sources import Source, open_rows
from gatepo.errors import UserError
from gatepo.report.figures import draw
from gatepo.report.runs import find_runs

TINY = ("updates=1", *SMALL[1:3], "evaluate.limit=1", "checkpoint.every=1", "checkpoint.keep=null")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "run"
    done = gatepo("train", *TINY, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def said(module: str, *words: str, **more: str) -> str:
    """The line of a command that is refused."""
    done = gatepo(module, *words, **more)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("gatepo: ") and "go on with" not in line]
    assert lines == done.stderr.splitlines()[-1:]
    return lines[0]


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


REPORTED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "torn line": (
        "metrics.jsonl",
        lambda file: file.write_text(file.read_text()[:50] + "\n" + file.read_text()),
        "metrics.jsonl:1 must be a JSON object, got a damaged line; take it out",
    ),
    "no object": ("metrics.jsonl", lambda file: file.write_text("[1]\n"), "must be a JSON object, got list"),
    "no reward": ("metrics.jsonl", lambda file: file.write_text('{"update": 1}\n'), "must have reward, got no line"),
    "no update": ("metrics.jsonl", lambda file: file.write_text('{"reward": 1}\n'), "a number as its update"),
    "a text": ("metrics.jsonl", lambda file: file.write_text('{"update": 1, "reward": "1"}\n'), "as its reward"),
    "empty summary": ("summary.json", lambda file: file.write_text(""), "must be the summary of a finished run"),
    "list summary": ("summary.json", lambda file: file.write_text("[]"), "must be the summary of a finished run"),
    "odd accuracy": (
        "summary.json",
        lambda file: file.write_text('{"evaluation": {"easy": 3}}'),
        "must be the summary of a finished run",
    ),
    "cut config": ("config.yaml", halved, "config.yaml must"),
    "torn config": ("config.yaml", lambda file: file.write_text("a: [1"), "must be the YAML of a run's settings"),
    "short config": ("config.yaml", lambda file: file.write_text("seed: 1\n"), "must hold all settings of a run"),
    "config of bytes": ("config.yaml", lambda file: file.write_bytes(b"\xff\xfe"), "must be the YAML of"),
}


@pytest.mark.parametrize(("name", "damage", "words"), REPORTED.values(), ids=REPORTED)
def test_a_report_says_what_is_damaged(copy: Path, name: str, damage: Callable[[Path], object], words: str) -> None:
    damage(copy / name)
    if name == "config.yaml" and words == "config.yaml must":
        (copy / name).write_text("gate:\n  na")
    line = said("report", str(copy))
    assert words in line and f"{copy / name}" in line


def test_a_label_is_no_formula(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy, tmp_path / "other")
    for folder, path in ((copy, r"$\frac{x$"), (tmp_path / "other", r"$5 and $6")):
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("path: tiny\n", f"path: '{path}'\n"))
    for path in draw(find_runs(tmp_path), tmp_path):
        assert path.read_bytes()[:4] == b"\x89PNG"


FIELDS = {
    "half of a pair in the question": (r'{"question": "a \ud800", "answer": "1"}', "question must be Unicode text"),
    "half of a pair in the answer": (r'{"question": "a", "answer": "1 \udfff"}', "answer must be Unicode text"),
    "too many digits": ('{"question": "a", "answer": ' + "9" * 100_000 + "}", "must be JSON that can be read"),
    "digits beside it": ('{"question": "a", "answer": 1, "x": ' + "9" * 100_000 + "}", "must be JSON that can be read"),
    "too deep": ('{"question": "a", "answer": ' + "[" * 100_000 + "}", "must be JSON that can be read"),
}


@pytest.mark.parametrize(("line", "words"), FIELDS.values(), ids=FIELDS)
def test_a_row_that_no_file_could_hold_is_named(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a", "answer": "1"}\n' + line + "\n")
    with pytest.raises(UserError) as refused:
        _ = list(open_rows("mine", Source(path=str(file))))  # what is beside the answer is read when it is asked for
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith((f"{file}:2: ", f"{file}, byte "))
    out = tmp_path / "run"
    said("train", *TINY, "~data.sources.expressions", f"data.sources.words.path={file}", f"hydra.run.dir={out}")


@pytest.mark.parametrize("number", ["9" * 100_000, "[" * 100_000])
def test_answers_that_cannot_be_read_are_named(tmp_path: Path, number: str) -> None:
    (tmp_path / "answers.jsonl").write_text('{"gold": ' + number + ', "prediction": "1"}\n')
    assert "answers.jsonl:1 must be JSON" in said("verify", str(tmp_path / "answers.jsonl"))


CHECKPOINT = {
    "an empty state": ("state-0.pt", lambda file: file.write_bytes(b"")),
    "half of a state": ("state-0.pt", halved),
    "another state": ("state-0.pt", lambda file: torch.save({"update": 1}, file)),
    "zeros": ("state-0.pt", lambda file: file.write_bytes(bytes(file.stat().st_size))),
    "empty weights": ("engine", lambda file: file.write_bytes(b"")),
    "half of the weights": ("engine", halved),
    "no weights": ("engine", lambda file: torch.save({"model": 3}, file)),
    "a text": ("engine", lambda file: file.write_text("weights")),
    "a folder": ("engine", lambda file: (file.unlink(), file.mkdir(), (file / "state").touch())),
}


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("name", "damage"), CHECKPOINT.values(), ids=CHECKPOINT)
def test_a_damaged_checkpoint_is_said_in_one_line(
    copy: Path, name: str, damage: Callable[[Path], object], signed: bool
) -> None:
    """Also where the manifest fits it, as one of an earlier version does that has sizes alone."""
    path = checkpoint.found(copy)[0]
    damage(path / name)
    if signed:
        sign(path)
    assert str(path / name) in said("probe", f"run={copy}", "gates=[clip,erf]")
    if not signed or name == "engine":
        assert str(path / name) in said("evaluate", f"run={path}", "limit=1", f"out={copy / 'out'}")


def test_a_state_of_other_content_is_refused(copy: Path) -> None:
    """A state without its rollout batch, or with one without tensors."""
    path = checkpoint.found(copy)[0]
    state = checkpoint.read_state(path, 0)
    assert state.rollout_batch is not None
    for change in (lambda: setattr(state.rollout_batch, "tokens", 3), lambda: setattr(state, "rollout_batch", None)):
        change()
        torch.save(state, path / "state-0.pt")
        sign(path)
        assert str(copy) in said("probe", f"run={copy}", "gates=[clip,erf]")


@pytest.mark.parametrize(
    "name", ["config.yaml", "model/config.json", "model/model.safetensors", "model/tokenizer.json"]
)
def test_a_damaged_run_is_said_in_one_line(copy: Path, name: str) -> None:
    halved(copy / name)
    line = said("evaluate", f"run={copy}", "limit=1")
    assert str(copy) in line or "must be given" in line


def test_a_damaged_evaluation_is_said_in_one_line(copy: Path) -> None:
    asked = ("evaluate", f"run={copy}", "limit=1")
    assert gatepo(*asked).returncode == 0
    file = copy / "evaluation" / "generations.jsonl"
    first, *others = file.read_text().splitlines(keepends=True)
    for line, words in ((first[:50] + "\n", "must be a JSON object"), ('{"set": "easy"}\n', "must be a problem with")):
        file.write_text(line + "".join(others))
        assert f"{file}:1 {words}" in said(*asked)


REWARDS = """
def raises(prompt, completion):
    return deeper(completion.text)

def deeper(text):
    raise KeyError("my own fault")
"""


@pytest.mark.parametrize(
    "words",
    [("reward._target_=mine.raises",), ("+reward.extra.own._target_=mine.raises", "+reward.extra.own.weight=1")],
    ids=["whole", "part"],
)
def test_a_reward_that_raises_shows_its_own_traceback_and_the_row(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "mine.py").write_text(REWARDS)
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"
    done = gatepo("train", *TINY, *words, f"hydra.run.dir={tmp_path / 'run'}", PYTHONPATH=path)
    assert done.returncode == 2, done.stderr
    (at,) = [n for n, line in enumerate(done.stderr.splitlines()) if "gatepo: reward" in line]
    line, *trace = done.stderr.splitlines()[at:]
    assert "raised KeyError for a row of " in line
    assert all(part in line for part in ("question '", "gold answer '", "completion '"))
    assert trace[0] == "Traceback (most recent call last):"
    files = [line.strip() for line in trace if line.strip().startswith('File "')]
    assert [line.rpartition(" in ")[2] for line in files] == ["raises", "deeper"]
    assert all(str(tmp_path / "mine.py") in line for line in files)
    assert "KeyError: 'my own fault'" in trace


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that can be filled."""
    with small_disk(tmp_path / "disk", 64) as folder:
        yield folder


@pytest.mark.parametrize("free", [0, 24, 40, 11 * 1024, 13_820])
def test_wherever_a_disk_is_full_it_is_said_in_one_line(disk: Path, free: int) -> None:
    """With so many KiB left, which ends it in another place each time: config, rows, checkpoint, model, figures."""
    (disk / "filler").write_bytes(bytes(64 * 1024 * 1024 - free * 1024))
    line = said("train", *TINY, f"hydra.run.dir={disk / 'run'}")
    assert "its disk is full" in line or "No space left on device" in line
    assert (f"{disk}" in line) != ("what the run leaves in its folder" in line)


def test_json_lines_keep_whole_lines_alone(tmp_path: Path) -> None:
    from gatepo.json_lines import rows

    (tmp_path / "a.jsonl").write_text(json.dumps({"a": 1}) + "\n" + '{"a": ')
    assert rows(tmp_path / "a.jsonl") == [{"a": 1}]
