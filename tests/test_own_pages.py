"""The files and commands of docs/your-data.md and docs/your-reward.md, as they stand there."""

import os
import re
import shlex
from pathlib import Path

import pytest
from command import REPO, gatepo
from pages import commands, importable, page, settings, write_files

from gatepo.data.sources import Source
from gatepo.errors import UserError
from gatepo.rewards.extra import as_option
from gatepo.types import Completion, Group, Prompt

TINY = ("updates=1", "batch.prompts=2", "batch.num_generations=4", "batch.micro=8")


@pytest.mark.parametrize("words", commands("your-data"))
def test_every_line_of_the_page_on_data_reads_its_files(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_files("your-data", tmp_path) == ["train.jsonl", "test.csv", "chat.jsonl", "system.txt"]
    monkeypatch.chdir(tmp_path)
    data = settings(words).data
    assert ("<answer>" in str(data.system)) == ("data.system" in str(words))  # the embedded model was made without
    if any(isinstance(one, Source) and one.hub for one in data.sources.values()):
        assert {name: one.weight for name, one in data.sources.items()} == {"gsm8k": 1, "train": 3, "NAME": 1}
        return
    rows = [row for found in data.training_rows().values() for row in found]
    answers = ["5", "7"] if "chat" in words else ["7", "12", "4", "2"]
    assert [row.answer for row in rows] == answers
    assert [len(found) for found in data.evaluation_rows().values()] == [2] * ("test:" in words)


@pytest.mark.parametrize("words", commands("your-reward"))
def test_every_line_of_the_page_on_rewards_scores(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_files("your-reward", tmp_path) == ["my_rewards.py", "train.jsonl"]
    monkeypatch.chdir(tmp_path)
    importable(tmp_path, monkeypatch)
    chosen = settings(words)
    reward = as_option(chosen.reward).make()
    row = {"source": "s", "question": "?", "answer": "7", "token_ids": (1,), "columns": {"level": 1}}
    prompt = Prompt(index=0, chat=chosen.data.chat, **row)
    one = Completion(token_ids=(1,), text="17", finished=True, policy_version=0, sampler_logp=(0,))
    ((scored,),) = reward([Group(prompt=prompt, completions=(one,))])
    reward.close()
    totals = {"names_answer": 1.0, "longest=80": 1 - 2 / 80, "by_level": 0.5, "judged": 1 - 2 / 200 + 0.5, "think_": 0}
    (total,) = [total for name, total in totals.items() if name in words]
    assert scored.total == pytest.approx(total)


def test_what_the_page_prints_when_a_field_is_wrong_is_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files("your-data", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        settings("data=train.jsonl").data.training_rows()
    first, _, _ = str(caught.value).partition(", or ")
    assert f"    gatepo: {first}, or ..." in page("your-data")


def test_a_run_of_the_pages_goes_on_only_with_the_columns_that_its_reward_reads(tmp_path: Path) -> None:
    """With a function of TRL's style beside ours, in the folder where the command is typed."""
    write_files("your-reward", tmp_path)
    rows, run = tmp_path / "train.jsonl", tmp_path / "run"
    (words,) = [words for words in commands("your-reward") if "by_level" in words]
    done = gatepo("train", *shlex.split(words), *TINY, "checkpoint.every=1", f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rewards/level/mean" in (run / "metrics.jsonl").read_text()
    assert "is asked as f(completions, **columns), as of TRL" in (run / "train.log").read_text()
    rows.write_text(rows.read_text().replace('"level": 1', '"level": 7'))
    again = gatepo("train", f"resume={run}", "updates=2", "trust=true", cwd=tmp_path)
    assert again.returncode == 2
    assert "data.sources.train must have the rows with which" in again.stderr


def test_the_readme_leads_to_the_pages() -> None:
    for name in ("your-data", "your-reward"):
        assert f"docs/{name}.md" in (REPO / "README.md").read_text(encoding="utf-8")
        links = re.findall(r"\]\(([\w./-]+)\)", page(name))
        assert links
        assert all(os.path.exists(REPO / "docs" / link) for link in links)
