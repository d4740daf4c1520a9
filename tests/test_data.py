"""Sources, their mixture and the prompt template, on made and on real rows."""

import itertools
import json
import random
from pathlib import Path

import pytest

from gatepo.data.decontamination import HeldOut, runs_of, words_of
from gatepo.data.files import HEAD
from gatepo.data.settings import Data
from gatepo.data.sources import Row, Rows, Source, open_rows
from gatepo.data.stream import MixedStream
from gatepo.data.template import PromptTemplate
from gatepo.errors import UserError
from gatepo.rewards.verifier import Verifier


def read(path: Path | None, **settings) -> Rows:
    return open_rows("made", Source(path=None if path is None else str(path), **settings))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_rows_are_read_and_null_answers_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        json.dumps({"question": "1+1?\u2028", "answer": 2}, ensure_ascii=False),
        "",
        json.dumps({"question": "none", "answer": None}),
        json.dumps({"question": "q", "answer": "x #### 1 #### 7 "}),
    )
    assert read(path)[0] == Row(question="1+1?\u2028", answer="2")
    rows = read(path)
    assert [row.answer for row in rows] == ["2", "x #### 1 #### 7"]
    assert (rows.unanswered, rows.describe()) == (1, "2 of 3 rows, 1 without a gold answer left out")
    with pytest.raises(UserError, match=r"a\.jsonl:1: 'answer' must hold '####'"):
        read(path, answer_marker="####")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "has no rows"),
        (('{"question": "q", "answer": "1"}', '{"question": '), r"bad\.jsonl:2: must be one JSON object a line"),
        (("[1, 2]",), r"bad\.jsonl:1: must have the field 'question', got list"),
        (('{"question": null, "answer": "1"}',), r"bad\.jsonl:1: question must be a text, got null"),
        (('{"question": "q"}',), r"bad\.jsonl:1: must have the field 'answer', got question"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / "bad.jsonl", *lines))


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    said = r"cannot read .*gone\.jsonl \(No such file or directory\); check its path"
    with pytest.raises(UserError, match=said):
        read(tmp_path / "gone.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xe9"}')
    with pytest.raises(UserError, match="must be UTF-8"):
        read(tmp_path / "latin.jsonl")


@pytest.mark.filterwarnings("ignore")  # of the data set library's own
def test_a_data_set_is_loaded_by_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the hub's layout goes through the same call as a name on the hub."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    write(
        folder / "train.jsonl", '{"question": "1+1?", "answer": "so #### 2"}', '{"question": "2", "answer": "#### 3"}'
    )
    rows = read(None, hub=str(folder), answer_marker="####")
    assert list(rows) == [Row(question="1+1?", answer="2"), Row(question="2", answer="3")]
    with pytest.raises(UserError, match=r"cannot load no/such-set from the hub: .*; or give data\.path=FILE\.jsonl"):
        read(None, hub="no/such-set")


def test_an_answer_may_stand_in_the_solutions_last_box(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        json.dumps({"question": "q", "solution": r"first \boxed{1}. So \boxed{\frac{1}{2}}."}),
        json.dumps({"question": "q", "answer": "7", "solution": r"\boxed{8}"}),
        json.dumps({"question": "q", "solution": "no box"}),
    )
    rows = read(path, solution="solution")
    assert [row.answer for row in rows] == [r"\frac{1}{2}", "7"]
    assert rows.unanswered == 1


def test_rows_of_several_files_are_found_again(tmp_path: Path) -> None:
    """By number, in any order, whatever the length of their lines in bytes."""
    made = [{"question": "é🙂" * (n % 7), "answer": n} for n in range(200)]
    for name, part in (("a", made[:90]), ("b", made[90:])):
        write(tmp_path / f"{name}.jsonl", *(json.dumps(row, ensure_ascii=False) for row in part))
    rows = open_rows("made", Source(), (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")))
    for number in (199, 0, 90, 89, 123, -1):
        assert rows[number] == Row(question=made[number]["question"], answer=str(made[number]["answer"]))
    assert [row.answer for row in rows[88:92]] == ["88", "89", "90", "91"]
    assert len(rows) == 200


def test_rows_do_not_stay_in_memory(tmp_path: Path) -> None:
    """20,000 rows of a kilobyte are opened in less than a megabyte: 160 kB of places, and one row at a time."""
    import tracemalloc

    row = json.dumps({"question": "q" * 500, "answer": "1", "solution": "s" * 500})
    path = write(tmp_path / "long.jsonl", *[row] * 20_000)
    tracemalloc.start()
    rows = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) == 20_000
    assert peak < 1 << 20


LONG = '\\"question\\": \\"no\\" ' * 1000  # in a solution, as JSON has it; longer than the head of a line


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ('{"question": "q\\"\\u00e9", "answer": "1", "solution": "LONG"}', Row(question='q"é', answer="1")),
        ('{"solution": "LONG", "question": "q", "answer": "1"}', Row(question="q", answer="1")),
        ('{"question": "q", "solution": "LONG", "answer": "1"}', Row(question="q", answer="1")),
        (
            '{"nested": {"question": "no", "answer": 0}, "question": "q", "answer": 1.50, "s": "LONG"}',
            Row(question="q", answer="1.5"),
        ),
        ('{"question": "q", "answer": null, "solution": "LONG"}', None),
        (f'{{"question": "{"é" * (HEAD // 2 - 16)}", "answer": 123456789, "s": "LONG"}}', "é"),
        (f'{{"question": "{"e" * (HEAD - 34)}", "answer": 123456789, "s": "LONG"}}', "e"),
        (f'{{"question": "{"e" * (HEAD - 38)}", "answer": 123456789, "s": "LONG"}}', "e"),
    ],
)
def test_a_long_line_says_what_parsing_all_of_it_says(tmp_path: Path, line: str, row: Row | str | None) -> None:
    path = write(tmp_path / "a.jsonl", line.replace("LONG", LONG), '{"question": "other", "answer": "2"}')
    found = list(read(path))
    if isinstance(row, str):
        row = Row(question=json.loads(line)["question"], answer="123456789")
    assert found == [*([row] if row else []), Row(question="other", answer="2")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "q", "answer": "1", "solution": "LONG', r"a\.jsonl:1: must be one JSON object a line"),
        ('{"question": "q", "solution": "LONG"}', r"a\.jsonl:1: must have the field 'answer', got question, solution"),
        ('{"question": "q" "answer": "1", "solution": "LONG"}', r"a\.jsonl:1: must be one JSON object a line"),
        (',"question": "q", "answer": "1", "solution": "LONG"}', r"a\.jsonl:1: must be one JSON object a line"),
    ],
)
def test_a_long_line_that_is_cut_off_or_malformed_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / "a.jsonl", line.replace("LONG", LONG)))


PROBLEM = "Every morning Aya goes for a 9-kilometer-long walk and stops at a coffee shop afterwards. How long is that?"


@pytest.mark.parametrize(
    ("question", "held"),
    [
        ("EVERY morning, Aya goes for a $9$-kilometer-long walk and\n stops at a coffee shop!  How long is that", True),
        ("Story: every morning Aya goes for a 9-kilometer-long walk and stops at a coffee shop. Say why.", True),
        ("Every evening Aya goes for a 3-kilometer-long swim and stops at a coffee shop afterwards. How far?", False),
        ("How, many", True),  # too short to be looked for in parts, but all of it is there
        ("What is the sum of the first ten odd primes?", False),  # two of the four runs of a problem of eleven words
        ("How many are there, and how many were there before the others came and took some of them away?", False),
        ("", False),
    ],
)
def test_a_problem_is_known_by_its_words(question: str, held: bool) -> None:
    short = "What is the sum of the first ten odd numbers here?"
    assert HeldOut([PROBLEM, "How many?", short]).holds(question) is held


def test_the_short_cuts_of_decontamination_change_no_verdict() -> None:
    """Questions made of pieces of problems, against the rule written out: half of a problem's runs of eight words."""
    rng = random.Random(0)
    words = [f"w{n}" for n in range(60)]
    problems = [rng.choices(words, k=rng.randrange(16, 40)) for _ in range(20)]
    held_out = HeldOut(" ".join(problem) for problem in problems)
    verdicts = []
    for _ in range(2000):
        problem, start = rng.choice(problems), rng.randrange(8)
        piece = problem[start : start + rng.randrange(8, 40)]
        question = [*rng.choices(words, k=rng.randrange(12)), *piece, *rng.choices(words, k=rng.randrange(12))]
        shared = [len(runs_of(question) & runs_of(p)) >= len(runs_of(p)) / 2 for p in problems]
        assert held_out.holds(" ".join(question)) is any(shared)
        verdicts.append(any(shared))
    assert 500 < sum(verdicts) < 1500
    problem = problems[0][:16]  # nine runs; five of them, wherever they lie in a question, are half
    for before, between in itertools.product(range(12), repeat=2):
        pieces = [[*problem[start : start + 8], *["other"] * between] for start in range(0, 9, 2)]
        question = [*["other"] * before, *itertools.chain.from_iterable(pieces)]
        assert HeldOut([" ".join(problem)]).holds(" ".join(question)), (before, between)
    every = "".join(map(chr, range(128)))
    assert words_of(every) == words_of(every + " é")[:-1] == ["0123456789", *2 * ["abcdefghijklmnopqrstuvwxyz"]]


def test_drawings_do_not_make_two_problems_one() -> None:
    drawing = "[asy] import graph; size(10cm); real labelscalefactor = 0.5; draw((0,0)--(1,0)--(1,1)--cycle); [/asy]"
    long = " ".join(f"word{n}" for n in range(20))
    assert HeldOut([f"{long} {drawing}"]).holds(f"{long} and no drawing")
    assert not HeldOut([f"{long} {drawing * 2}"]).holds(f"Something else altogether is asked here. {drawing * 2}")


def test_the_training_mix_is_cleared_of_what_is_evaluated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    questions = (PROBLEM, "Another.", "A third.", "A fourth.")
    train = write(tmp_path / "train.jsonl", *(json.dumps({"question": q, "answer": "1"}) for q in questions))
    held = write(tmp_path / "test.jsonl", json.dumps({"question": PROBLEM.upper(), "answer": "1"}))
    sets = {"train": Source(path=str(train))}, {"test": Source(path=str(held))}
    caplog.set_level("INFO")
    rows = Data(sources=sets[0], evaluation=sets[1]).training_rows()["train"]
    assert [row.question for row in rows] == ["Another.", "A third.", "A fourth."]
    assert "data source train: 3 of 4 rows, 1 (25.00%) left out because an evaluation set holds them" in caplog.text
    assert "decontamination: 1 training rows left out that test hold" in caplog.text
    assert len(Data(sources=sets[0], evaluation=sets[1], decontaminate=False).training_rows()["train"]) == 4
    assert "decontamination: none (data.decontaminate=false)" in caplog.text


def test_real_benchmarks_are_read_and_found_in_other_wording(real_data: Path) -> None:
    named = {name: f"{name}.jsonl" for name in ("aime24", "aime24_matharena", "aime25")}
    aime = {name: read(real_data / "aime" / file, question="problem") for name, file in named.items()}
    math500 = read(real_data / "math500" / "test.jsonl", question="problem")
    math_train = read(real_data / "math_train" / "train.jsonl", question="problem", solution="solution")
    assert ([len(rows) for rows in aime.values()], len(math500)) == ([30, 30, 30], 500)
    assert (len(math_train), math_train.unanswered) == (7472, 2)
    held_out = HeldOut(row.question for row in aime["aime24"])
    assert sum(held_out.holds(row.question) for row in aime["aime24_matharena"]) >= 20  # the same problems, paraphrased
    assert not any(held_out.holds(row.question) for row in (*aime["aime25"], *math500))


def test_leading_zeros_of_aime_golds_count_for_nothing(real_data: Path) -> None:
    golds = [row.answer for row in read(real_data / "aime" / "aime24.jsonl", question="problem")]
    assert sum(gold.startswith("0") for gold in golds) >= 2
    verifier = Verifier(deadline=2.0)
    verdicts = verifier.verify_many([(gold, str(int(gold))) for gold in golds])
    assert all(verdict.equal for verdict in verdicts)
    assert not verifier("025", "26").equal
    verifier.close()


def mixed(seed: int = 0) -> MixedStream:
    rows = {n: [Row(question=f"{n}{i}", answer="") for i in range(k)] for n, k in (("a", 5), ("b", 7))}
    return MixedStream(rows, {"a": 1.0, "b": 3.0}, seed)


def test_every_stretch_of_the_mix_has_its_proportions() -> None:
    names = [name for name, _ in mixed().take(0, 400)]
    for start in range(0, 400, 4):
        assert names[start : start + 4].count("a") == 1


def test_every_epoch_of_a_source_holds_each_row_once_in_a_new_order() -> None:
    rows = [row.question for name, row in mixed().take(0, 100) if name == "b"]
    assert sorted(rows[:7]) == sorted(rows[7:14]) == [f"b{i}" for i in range(7)]
    assert rows[:7] != rows[7:14]


def test_a_position_holds_the_same_row_however_it_is_reached() -> None:
    straight = mixed().take(0, 50)
    stream = mixed()
    assert stream.take(30, 10) == straight[30:40]
    assert stream.take(3, 4) == straight[3:7]
    assert stream.take(7, 4) == straight[7:11]
    assert mixed(seed=1).take(0, 50) != straight


def template(tokenizer, **options) -> PromptTemplate:
    return PromptTemplate(**({"tokenizer": tokenizer, "system": None, "max_length": 128} | options))


def test_the_models_chat_template_is_used(tiny_tokenizer) -> None:
    prompt = template(tiny_tokenizer, system="Be brief.")(3, "words", Row(question="1+1?", answer="2"))
    assert tiny_tokenizer.decode(prompt.token_ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (prompt.index, prompt.source, prompt.answer) == (3, "words", "2")


def test_a_model_without_a_chat_template_gets_plain_text(tiny_tokenizer) -> None:
    import copy

    plain = copy.deepcopy(tiny_tokenizer)
    plain.chat_template = None
    prompt = template(plain, system="Be brief.")(0, "words", Row(question="1+1?", answer="2"))
    assert plain.decode(prompt.token_ids) == "Be brief.\n\n1+1?\n\n"


def test_long_prompts_lose_their_beginning_and_the_first_is_warned_about(tiny_tokenizer, caplog) -> None:
    cut = template(tiny_tokenizer, max_length=10)
    whole = template(tiny_tokenizer, max_length=1000)
    row = Row(question="one two three " * 20, answer="")
    short, long = cut(0, "s", row), whole(0, "s", row)
    assert short.token_ids == long.token_ids[-10:]
    assert (short.truncated, long.truncated) == (True, False)
    cut(1, "s", row)
    assert caplog.text.count("more than sampling.max_prompt_length=10") == 1


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語 🙂", "\x00\ufeff\u202e", "<think>a</think>", " \n\t "])
def test_the_embedded_tokenizer_encodes_any_text(tiny_tokenizer, text: str) -> None:
    assert tiny_tokenizer.decode(tiny_tokenizer(text)["input_ids"]) == text


def test_the_embedded_tokenizer_keeps_the_tags_when_special_tokens_are_dropped(tiny_tokenizer) -> None:
    ids = tiny_tokenizer("<think>1</think><answer>2</answer><|im_end|>")["input_ids"]
    assert tiny_tokenizer.decode(ids, skip_special_tokens=True) == "<think>1</think><answer>2</answer>"
    assert len(ids) == 7


def test_real_rows_become_prompts(real_data: Path, tiny_tokenizer) -> None:
    gsm8k = read(real_data / "gsm8k" / "train.jsonl", answer_marker="####")
    deepmath = read(real_data / "deepmath" / "sample.jsonl", answer="final_answer")
    assert (len(gsm8k), len(deepmath)) == (7473, 64)
    assert gsm8k[0].answer == "72"
    make = template(tiny_tokenizer, max_length=64)
    made = [make(0, "s", row) for row in gsm8k[:50] + list(deepmath)]
    assert max(len(p.token_ids) for p in made) == 64
    assert sum(p.truncated for p in made) > 100
