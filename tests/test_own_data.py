"""Rows of a user's own: JSONL, CSV, Parquet, fields by name, messages, a system prompt from a file, mixes."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from command import gatepo
from composed import evaluation_settings, typed
from omegaconf.errors import OmegaConfBaseException

from gatepo import cli, config
from gatepo.data.fingerprint import Fingerprint
from gatepo.data.prompts import fingerprints
from gatepo.data.sources import Row, Source, open_rows
from gatepo.data.template import PromptTemplate
from gatepo.data.words import spelled_out
from gatepo.errors import UserError
from gatepo.overrides import prepared

MADE = [
    {"problem": "What, then,\nis 1+1?", "solution": 'so "two"\n#### 2', "level": "a, b"},
    {"problem": "é 🙂?", "solution": "#### 3", "level": ""},
    {"problem": "none", "solution": None, "level": "c"},
    {"problem": "last", "solution": "#### 007", "level": "d"},
]
CSV = (
    '\ufeffproblem,solution,level\r\n"What, then,\nis 1+1?","so ""two""\n#### 2","a, b"\r\né 🙂?,#### 3,\r\n\r\n'
    "none,,c\r\nlast,#### 007,d"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same rows in the three kinds of files."""
    import pyarrow
    from pyarrow import parquet

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in MADE), encoding="utf-8")
    (tmp_path / "mine.csv").write_text(CSV, encoding="utf-8", newline="")
    parquet.write_table(pyarrow.Table.from_pylist(MADE), tmp_path / "mine.parquet")
    return tmp_path


def composed(*words: str) -> config.TrainConfig:
    return typed(*prepared(words))


@pytest.mark.filterwarnings("ignore")  # of the data set library's own
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_of_any_kind_of_file_are_the_same(folder: Path, kind: str) -> None:
    words = ("data.question=problem", "data.answer=solution", "data.answer_marker='####'")
    named = composed(f"data={kind}", f"data.path=mine.{kind}", *words).data
    short = composed(f"data=mine.{kind}", *words).data
    for data, name in ((named, kind), (short, "mine")):
        rows = data.training_rows()[name]
        expected = [("What, then,\nis 1+1?", "2"), ("é 🙂?", "3"), ("last", "007")]
        assert [(row.question, row.answer) for row in rows] == expected
        assert (rows.unanswered, rows[0].columns["level"], rows[-1].columns["level"]) == (1, "a, b", "d")
        assert data.system is None  # of the embedded model, which was made without
    other = composed(f"data=mine.{kind}", *words, "model.path=Qwen/Qwen2.5-0.5B-Instruct").data
    assert "Reason inside <think>" in str(other.system)


def test_without_a_marker_the_whole_field_is_the_answer(folder: Path) -> None:
    data = composed("data=mine.jsonl", "data.question=problem", "data.answer=solution").data
    assert data.training_rows()["mine"][1].answer == "#### 3"


def test_worked_solutions_in_the_place_of_answers_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields = ("data.question=problem", "data.answer=solution")
    (folder / "other.jsonl").write_text(json.dumps({"problem": "1+2?", "solution": "3"}) + "\n")
    composed("data=[other.jsonl,test:mine.csv]", *fields).data.training_rows()
    assert "data source mine: the gold answer" in caplog.text and "source other: the gold" not in caplog.text
    caplog.clear()
    composed("data=mine.jsonl", *fields).data.training_rows()
    assert "the gold answer holds #### in 3 of 3 rows" in caplog.text and "data.answer_marker='####'" in caplog.text
    caplog.clear()
    composed("data=mine.jsonl", *fields, "data.answer_marker='####'").data.training_rows()
    assert "####" not in caplog.text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_wrong_field_is_named_with_those_that_the_file_has(folder: Path, kind: str) -> None:
    for words, wanted in (((), "question"), (("data.question=problem",), "answer")):
        data = composed(f"data=mine.{kind}", *words).data
        with pytest.raises(UserError) as caught:
            data.training_rows()
        assert f"must have the field '{wanted}', got problem, solution, level; type data.{wanted}=" in str(caught.value)
        assert ("data.answer=null is for a reward that reads no answer" in str(caught.value)) == (wanted == "answer")
        assert f"mine.{kind}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "question,answer\n1,2\n1,2,3\n",
            r"made\.csv:3: must have 2 cells, as the first line has \(question, answer\)",
        ),
        ('question,answer\n1,2\n"1"x,2\n', r"made\.csv:3: must be a row of CSV, got "),
        ("question,answer\n,2\n", r"made\.csv:2: question must be a text, got null"),
        ("question,answer\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_a_bad_csv_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "made.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        open_rows("made", Source(path=str(tmp_path / "made.csv")))


@pytest.mark.filterwarnings("ignore")
def test_missing_and_broken_tables_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for kind in ("csv", "parquet"):
        with pytest.raises(UserError, match=rf"cannot read .*gone\.{kind} \(No such file"):
            open_rows("made", Source(path=str(tmp_path / f"gone.{kind}")))
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(UserError, match=r"bad\.parquet must be Parquet, got ") as caught:
        open_rows("made", Source(path=str(tmp_path / "bad.parquet")))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"must have files of one kind, got a\.csv, b\.jsonl"):
        open_rows("made", Source(), ("a.csv", "b.jsonl"))


def test_a_mix_is_one_word_and_its_sources_have_weights(folder: Path) -> None:
    words = ("data=[mine.jsonl,gsm8k,hub:ORG/my-set,test:mine.csv]", "data.sources.mine.weight=2", "data.question=q")
    data = composed(*words).data
    assert {name: one.weight for name, one in data.sources.items()} == {"gsm8k": 1, "mine": 2, "my_set": 1}
    assert {name: one.question for name, one in data.sources.items()} == {
        "gsm8k": "question",
        "mine": "q",
        "my_set": "q",
    }
    assert (data.sources["my_set"].hub, data.evaluation["mine"].path) == ("ORG/my-set", "mine.csv")
    assert evaluation_settings(*prepared(["data=test:mine.csv"])).data.evaluation["mine"].path == "mine.csv"
    assert config.from_plain(type(composed()), config.plain(composed(*words))).data == data


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data=[a/x.csv,b/x.jsonl]", "data must have entries with names of their own, got a/x.csv and b/x.jsonl, both"),
        ("data=a.csv,b.csv", "data must be a list in brackets to mix, got a.csv,b.csv; type 'data=[a.csv,b.csv]'"),
    ],
)
def test_what_is_no_mix_is_one_line(word: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        spelled_out([word])
    assert str(caught.value).startswith(message)


def test_words_without_files_stay_as_they_are() -> None:
    words = ["gate=erf", "data=gsm8k", "data=[gsm8k,aime24]", "data=gsm8k,deepmath", "data.path=mine.jsonl"]
    assert spelled_out(words) == words


def test_texts_need_no_quotes_but_the_shells(folder: Path) -> None:
    words = (
        "data=mine.jsonl",
        "data.answer_marker=####",
        "data.sources.mine.answer_marker={=",
        "data.system=A, (b)=#.",
    )
    data = composed(*words).data
    assert (data.answer_marker, data.sources["mine"].answer_marker, data.system) == ("####", "{=", "A, (b)=#.")
    assert composed("data=mine.jsonl", "data.system=null").data.system is None


def test_a_system_prompt_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "my prompt.txt"
    file.write_text("Say {x} and ${y}.\n\nThen 'stop'.\n")
    made = composed("data=mine.jsonl", f"data.system_file={file}")
    assert made.data.system == "Say {x} and ${y}.\n\nThen 'stop'."
    with pytest.raises(OmegaConfBaseException) as caught:
        composed("data.system_file=gone.txt")
    line = str(cli.one_line(caught.value))
    assert line.startswith("data.system_file must be a text file, got gone.txt (")
    assert line.endswith("; give its path")


def chat(*turns: str) -> list[dict[str, str]]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns]


def rows_of(path: Path, *made: dict[str, Any], **settings: Any) -> list[Row]:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return list(open_rows("made", Source(path=str(path), **settings)))


def test_messages_are_a_prompt_and_the_assistants_last_is_the_answer(tmp_path: Path) -> None:
    turns = chat("s Be brief.", "u 1+1?", "a 2", "u 1+2?", "a it is \\boxed{3}")
    (row,) = rows_of(tmp_path / "a.jsonl", {"messages": turns}, question="messages", answer="messages")
    assert (row.question, row.answer) == ("1+1?\n\n2\n\n1+2?", "it is \\boxed{3}")
    assert row.messages == tuple(turns[:-1])
    settings = {"question": "messages", "solution": "messages"}
    (boxed,) = rows_of(tmp_path / "b.jsonl", {"messages": turns}, **settings)
    assert boxed.answer == "3"
    (beside,) = rows_of(tmp_path / "c.jsonl", {"prompt": turns[:2], "answer": 2}, question="prompt")
    assert (beside.answer, beside.messages) == ("2", tuple(turns[:2]))
    (open_end,) = rows_of(tmp_path / "d.jsonl", {"messages": turns, "answer": 3}, question="messages")
    assert open_end.messages == tuple(turns[:-1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"role": "assistant", "content": "2"}], "must have a user's message before the answer"),
        ([{"role": "user", "content": ["a"]}], "must be a text, or messages with role and content"),
        ([{"role": "user"}], "got a message with role: str; correct the row"),
    ],
)
def test_malformed_messages_are_named(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(UserError, match=r"a\.jsonl:1: messages ") as caught:
        rows_of(tmp_path / "a.jsonl", {"messages": value, "answer": "1"}, question="messages")
    assert message in str(caught.value)


def test_messages_go_through_the_chat_template_and_keep_their_system(tiny_tokenizer: Any, tmp_path: Path) -> None:
    make = PromptTemplate(tokenizer=tiny_tokenizer, system="Ours.", max_length=128)
    own = make(0, "s", Row(question="1?", answer="1", messages=tuple(chat("s Own.", "u 1?"))))
    ours = make(0, "s", Row(question="1?", answer="1", messages=tuple(chat("u 0?", "a 0", "u 1?"))))
    assert tiny_tokenizer.decode(own.token_ids).startswith("<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user\n1?")
    assert tiny_tokenizer.decode(ours.token_ids) == (
        "<|im_start|>system\nOurs.<|im_end|>\n<|im_start|>user\n0?<|im_end|>\n<|im_start|>assistant\n0<|im_end|>\n"
        "<|im_start|>user\n1?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert [message["role"] for message in ours.messages] == ["system", "user", "assistant", "user"]
    assert own.chat
    assert not make(0, "s", Row(question="1?", answer="1")).chat


def test_a_rows_further_fields_have_a_fingerprint_of_their_own(tmp_path: Path) -> None:
    def rows(name: str, *made: dict[str, Any]) -> Any:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in made))
        return open_rows("made", Source(path=str(tmp_path / name)))

    first = rows("a", {"question": "q", "answer": "1", "level": 3, "tests": [1, {"b": 2, "a": 1}]})
    same = rows("b", {"tests": [1, {"a": 1, "b": 2}], "answer": "1", "level": 3, "question": "q"})
    other = rows("c", {"question": "q", "answer": "1", "level": "3", "tests": [1, {"b": 2, "a": 1}]})
    assert first.fingerprint == same.fingerprint == other.fingerprint
    assert first.columns_fingerprint() == same.columns_fingerprint() != other.columns_fingerprint()


def test_messages_count_in_the_fingerprint_by_role(tmp_path: Path) -> None:
    def fingerprint(name: str, *turns: str) -> str:
        row = {"messages": chat(*turns), "answer": "1"}
        (tmp_path / name).write_text(json.dumps(row) + "\n")
        return open_rows("made", Source(path=str(tmp_path / name), question="messages")).fingerprint

    prints = [fingerprint("a", "u 1?"), fingerprint("b", "s Be brief.", "u 1?"), fingerprint("c", "s Long.", "u 1?")]
    assert len(set(prints)) == 3
    known = Fingerprint()
    known.add("1?", "1")
    assert str(known) not in prints


def test_an_evaluation_sets_messages_count_too(tiny_tokenizer: Any) -> None:
    make = PromptTemplate(tokenizer=tiny_tokenizer, system=None, max_length=128)

    class Nothing:
        def fingerprints(self, *, columns: bool) -> dict[str, str]:
            return {}

    def prints(*turns: str) -> dict[str, str]:
        prompt = make(0, "s", Row(question="1?", answer="1", messages=tuple(chat(*turns))))
        return fingerprints(Nothing(), {"s": [prompt]})  # type: ignore[arg-type]

    assert prints("s Be brief.", "u 1?") == prints("s Be brief.", "u 1?") != prints("s Long.", "u 1?")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data=missing.jsonl", "cannot read missing.jsonl"),
        ("data=train.jsonl data.question=problem", "must have the field 'problem', got question, answer"),
        ("'data=[train.jsonl,test:missing.csv]'", "cannot read missing.csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_before_the_run_names_its_folder(
    words: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    refused = gatepo("train", *shlex.split(words), cwd=tmp_path)
    assert refused.returncode == 2 and said in refused.stderr
    assert refused.stderr.count("\n") == 1 and "folder" not in refused.stdout + refused.stderr.replace("data.path", "")
    assert not list((tmp_path / "outputs").rglob("*.yaml"))


def test_a_field_may_have_letters_of_any_language(tmp_path: Path) -> None:
    """Hydra's grammar knows ASCII alone, and said so in words of its own."""
    (tmp_path / "größe.jsonl").write_text(json.dumps({"Frage": "1 + 1 = ?", "Lösung": "2"}) + "\n")
    words = ("data=größe.jsonl", "data.question=Frage", "data.answer=Lösung", "limit=1", "out=späte Läufe")
    done = gatepo("evaluate", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "späte Läufe" / "evaluation.json").exists()
    assert prepared(["data.answer='Lösung'", "data=[ä,b]"])[0] == "data.answer='Lösung'"


def test_an_evaluation_takes_a_file_as_a_set(tmp_path: Path) -> None:
    (tmp_path / "held.jsonl").write_text('{"question": "1 + 1 = ?", "answer": "2"}\n')
    done = gatepo("evaluate", "data=held.jsonl", "out=found", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(json.loads((tmp_path / "found" / "evaluation.json").read_text())["sets"]) == ["held"]
