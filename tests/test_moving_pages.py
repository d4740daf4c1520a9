"""docs/from-trl.md and from-verl.md: TRL's settings have these defaults; ours compose, or run."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest
from command import gatepo
from pages import commands, importable, settings, table, theirs, value, write_files
from test_own_pages import TINY

CODE = re.compile(r"`([^`]+)`")


def ours(name: str) -> list[str]:
    """Each text in code in our column, and each in the remarks that is settings of ours."""
    words = [code for row in table(name) for code in CODE.findall(row[1])]
    return words + [code for row in table(name) for code in CODE.findall(row[2]) if re.match(r"[+\w.]+=\S", code)]


def together(found: list[str]) -> list[list[str]]:
    """The settings in lists of those that can stand beside each other: composing takes a third of a second."""
    packed: list[tuple[set[str], list[str]]] = []
    for text in found:
        words = shlex.split(text)
        heads = {"correction" if word.startswith("anchor") else re.split(r"[.=]", word)[0] for word in words}
        heads |= (
            {"gate", "tau", "ratio", "advantage", "aggregation", "batch", "reward", "kl"}
            if "+method" in heads
            else set()
        )
        place = next((p for p in packed if not p[0] & heads), None)
        if place is None:
            packed.append(place := (set(), []))
        place[0].update(heads)
        place[1].extend(words)
    return [words for _, words in packed]


@pytest.mark.parametrize("name", ["from-trl", "from-verl"])
def test_every_setting_of_ours_composes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(name, tmp_path)
    importable(tmp_path, monkeypatch)
    found = [words for words in ours(name) if not words.startswith(("vllm_mode=", "resume=", "hydra.run.dir="))]
    assert len(found) > 40
    for words in together(found):
        settings(shlex.join(words))
    for line in commands(name):
        if "data=train" not in line:
            settings(line)


def test_trls_settings_have_these_defaults() -> None:
    pytest.importorskip("trl", reason="trl is not installed (make .venv/test)")
    from trl import GRPOConfig

    fields = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    found = theirs("from-trl")
    assert len(found) > 40
    assert [name for name, _ in found if name not in fields] == []
    wrong = {name: (text, fields[name]) for name, text in found if text and value(text) != fields[name]}
    assert wrong == {}


def test_trls_example_trains_here(tmp_path: Path) -> None:
    assert write_files("from-trl", tmp_path) == ["my_rewards.py", "train.jsonl"]
    run(commands("from-trl")[0], tmp_path)


def test_verls_rows_and_reward_train_here(tmp_path: Path) -> None:
    from datasets import Dataset

    assert write_files("from-verl", tmp_path) == ["my_rewards.py", "my_verl_reward.py"]
    asked = [{"role": "user", "content": "What is 3 + 4?"}]
    row = {"data_source": "mine", "prompt": asked, "ability": "math", "reward_model": {"ground_truth": "7"}}
    Dataset.from_list([row | {"extra_info": {"index": i}} for i in range(4)]).to_parquet(tmp_path / "train.parquet")
    run(commands("from-verl")[0], tmp_path)


def run(words: str, folder: Path) -> None:
    """The line of the page, on the embedded model and without a GPU's parts."""
    left_out = ("model.path=", "tracker", "rollout=", "engine=")
    kept = [word for word in shlex.split(words) if not word.startswith(left_out)]
    done = gatepo("train", *kept, *TINY, f"hydra.run.dir={folder / 'run'}", cwd=folder)
    assert done.returncode == 0, done.stderr
    (line,) = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert "reward" in json.loads(line)
