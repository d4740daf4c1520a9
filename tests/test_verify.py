"""``python -m gatepo.verify``: a file of answers, graded line by line."""

import json
import re
import sys
from pathlib import Path

import pytest
from command import gatepo

from gatepo.errors import UserError
from gatepo.verify import answers_in
from gatepo.verify import main as verify_answers


def test_a_file_is_graded_line_by_line_with_a_confusion_table(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    rows = [
        {"gold": "42", "prediction": "42.0", "expected": True},
        {"gold": "\\sqrt{8}", "output": "So we get \\boxed{2\\sqrt{2}}.", "correct": True},
        {"gold": 7, "prediction": 8, "expected": True},
        {"gold": "7", "output": "no idea", "correct": False},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    done = gatepo("verify", str(file))
    assert done.returncode == 0, done.stderr
    assert "2 of 4 right; settled 2 by spelling, 1 by algebra, 1 by no answer" in done.stdout
    assert re.search(r"judged right +2 +0\njudged wrong +1 +1\nagree on 3 of 4 \(75.0%\)", done.stdout)
    verdicts = [json.loads(line) for line in (tmp_path / "answers.verdicts.jsonl").read_text().splitlines()]
    assert [(v["line"], v["equal"], v["reason"], v["answer"]) for v in verdicts] == [
        (1, True, "spelling", "42.0"),
        (2, True, "algebra", "2\\sqrt{2}"),
        (3, False, "spelling", "8"),
        (4, False, "no answer", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"gold": "1", "prediction": "1"}\n{"gold": ', "{file}:2 must be JSON, got '{{\"gold\":'"),
        (
            '{"prediction": "1"}\n',
            "{file}:1 must have gold and one of prediction or output, got prediction; correct the line",
        ),
        ('{"gold": "1", "output": "1", "prediction": "1"}', "{file}:1 must have gold and one of prediction or output"),
        ('\n{"gold": "1", "output": null}', "{file}:2 must have a text as its output, got null; correct the line"),
        ('{"gold": "1", "output": "1", "correct": "yes"}', '{file}:1 must have true or false as its mark, got ["yes"]'),
        (
            '{"gold": "1", "output": "1", "correct": true, "expected": false}',
            "{file}:1 must have expected and correct agree, got [false, true]; take one out",
        ),
        ("[1]", "{file}:1 must have gold and one of prediction or output, got list; correct the line"),
        (None, "cannot read {file} ("),
    ],
)
def test_a_malformed_line_is_one_line_with_its_place(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "answers.jsonl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as caught:
        answers_in(file)
    assert str(caught.value).startswith(message.format(file=file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{folder}",), "cannot read {folder} ("),
        (("{file}", "--out={folder}/none/verdicts.jsonl"), "--out must be a new file in a folder that is there, got"),
        (("{file}", "--out={file}"), "--out must be a new file in a folder that is there, got {file}; leave it out"),
        (("{file}", "--deadline=nan"), "--deadline must be a number > 0, got nan; leave it out"),
        (("{file}", "--workers=0"), "--workers must be a number > 0, got 0; leave it out"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_anything_is_graded(
    tmp_path: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"gold": "1", "prediction": "1"}\n')
    names = {"folder": str(tmp_path), "file": str(file)}
    monkeypatch.setattr(sys, "argv", ["verify", *(argument.format(**names) for argument in arguments)])
    with pytest.raises(SystemExit) as ended:
        verify_answers()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("gatepo: " + message.format(**names))
    assert (said.out, said.err.count("\n"), list(tmp_path.iterdir())) == ("", 1, [file])


def test_an_empty_file_is_one_line_and_a_code(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.touch()
    done = gatepo("verify", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"gatepo: {file} must have at least one line, got an empty file; give another\n"
    assert not (tmp_path / "answers.verdicts.jsonl").exists()
