"""The reward of eq. 9 to 11 on every level, and on text that tries to break or to game it."""

import re
import time
from collections.abc import Iterator
from fractions import Fraction

import pytest
from conftest import REPO
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gatepo.errors import UserError
from gatepo.rewards.equality import settle
from gatepo.rewards.extra import ExtraReward
from gatepo.rewards.extraction import EXTRACTIONS, final_answer
from gatepo.rewards.grammar import read
from gatepo.rewards.numbers import number_of
from gatepo.rewards.reward import AnswerAndFormat, AnswerAndFormatReward
from gatepo.rewards.tags import TAGS, answer_text, format_reward, strict_format_reward
from gatepo.rewards.verifier import Verifier
from gatepo.types import Completion, Group, Prompt, Reward

FULL = "<think>1+1=2.</think><answer>2</answer>"


def table_of_cases() -> list[tuple[str, str, float, float, str | None]]:
    """The rows of docs/format_reward.md: (case, completion, paper, strict, answer)."""
    rows = []
    for line in (REPO / "docs" / "format_reward.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and cells[2] in ("0", "0.25", "0.5", "1"):
            completion = cells[1].removeprefix("`").removesuffix("`").replace("\\n", "\n")
            rows.append((cells[0], completion, float(cells[2]), float(cells[3]), cells[4].strip("`")))
    return [(*row, None if answer == "-" else answer) for *row, answer in rows]


CASES = table_of_cases()


def test_the_table_of_cases_is_all_read() -> None:
    table = (REPO / "docs" / "format_reward.md").read_text(encoding="utf-8").split("| --- |", 1)[1]
    assert len(CASES) == table.count("\n|") == 43


@pytest.mark.parametrize(("case", "completion", "paper", "strict", "answer"), CASES, ids=[case[0] for case in CASES])
def test_format_reward_is_the_table_of_the_docs(
    case: str, completion: str, paper: float, strict: float, answer: str | None
) -> None:
    assert (format_reward(completion), strict_format_reward(completion)) == (paper, strict)
    assert answer_text(completion) == answer


def test_invisible_characters_fill_no_block() -> None:
    assert format_reward("<think>\u200b\u2060</think><answer>2</answer>") == 0.5
    assert format_reward("<think>a</think><answer>\ufeff</answer>") == 0.5
    for blank in "\u00ad\u0301\u115f\u180e\u2800\u3164\ufe0f\uffa0\U000e0020":  # a hyphen unused, fillers, a tag
        assert format_reward(f"<think>{blank}</think><answer>2</answer>") == 0.5, blank
    assert format_reward("<think>思</think><answer>é</answer>") == 1


def without_tags_of_its_own() -> PreTrainedTokenizerBase:
    """A tokenizer that spells the tags byte by byte."""
    vocabulary = {symbol: n for n, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("kind", ["special", "added", "spelled"])
def test_tags_count_whether_they_are_special_tokens_or_plain_text(tiny_tokenizer, kind: str) -> None:
    tokenizer = without_tags_of_its_own() if kind == "spelled" else tiny_tokenizer
    if kind == "special":
        tokenizer = without_tags_of_its_own()
        tokenizer.add_special_tokens({"additional_special_tokens": list(TAGS)})
    text = "<think> 1 + 1 = 2 </think>\n<answer> 2 </answer>"
    ids = tokenizer(text)["input_ids"]
    assert {"special": 4, "added": 0, "spelled": 0}[kind] == sum(i in tokenizer.all_special_ids for i in ids)
    decoded = tokenizer.decode(ids, skip_special_tokens=False)  # as both samplers decode
    assert (format_reward(decoded), answer_text(decoded)) == (1.0, "2")


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (FULL, "2"),
        ("a<answer> 2 </answer>", "2"),
        ("<think>a<answer>2</answer>", "2"),  # the format is broken, the answer is there
        ("<answer>2</answer><answer>3</answer>", None),  # two answers
        ("<answer>2</answer> <answer>2</answer>", None),
        ("<think><answer>2</answer></think>", None),  # part of the thinking
        ("<answer>2</answer><think>a</think>", None),
        ("<answer><answer>2</answer></answer>", None),  # nested
        ("<answer>2", None),
        ("2</answer>", None),
        ("</answer>2<answer>", None),
        ("<answer></answer>", None),
        ("<answer>  </answer>", None),
        ("2", None),
    ],
)
def test_answer_is_what_stands_between_its_tags(completion: str, answer: str | None) -> None:
    assert answer_text(completion) == answer


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<answer>", "</answer>", "<answer>1</answer>", "<", "<a"])
def test_ten_thousand_repeated_tags_take_linear_time(tag: str) -> None:
    def seconds(times: int) -> float:
        text = "<think>" + tag * times + "</answer>"
        started = time.process_time()
        for _ in range(5):
            format_reward(text), answer_text(text)
        return time.process_time() - started

    assert format_reward("<think>" + tag * 10_000 + "</answer>") == 0.5
    # Quadratic time would make ten times the text a hundred times as slow; noise is far below the factor of 40.
    assert seconds(100_000) < 40 * max(seconds(10_000), 1e-3)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", Fraction(42)),
        (" -42. ", Fraction(-42)),
        ("\u221242", Fraction(-42)),
        ("+7", Fraction(7)),
        ("1,234,567", Fraction(1234567)),
        ("$42$", Fraction(42)),
        ("\\(42\\)", Fraction(42)),
        ("0.125", Fraction(1, 8)),
        (".5", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("-\\frac{3}{4}", Fraction(-3, 4)),
        ("\\dfrac{6}{8}", Fraction(3, 4)),
        ("025", Fraction(25)),
        ("1/0", None),
        ("1,23", None),
        ("1 2", None),
        ("1e5", Fraction(100_000)),
        ("3.54*10^{-7}", Fraction(354, 10**9)),
        ("1 \\times 10^3", Fraction(1000)),
        ("2^{10}", Fraction(1024)),
        ("1\\frac{4}{5}", Fraction(9, 5)),
        ("137 1/2", Fraction(275, 2)),
        ("1 000", Fraction(1000)),
        ("\\frac{-1}{2}", Fraction(-1, 2)),
        ("25\\%", Fraction(25)),
        ("99^{999}", None),
        ("1e999999999", None),
        ("42 or 43", None),
        ("1=2=7", None),
        ("4\\sqrt(2)", None),
        ("1/2006!", None),
        ("9**9", Fraction(387420489)),
        ("NaN", None),
        ("", None),
    ],
)
def test_plain_numbers_are_read_exactly(text: str, number: Fraction | None) -> None:
    found = number_of(read(text))
    assert (None if found is None else found.value) == number


def test_settling_needs_two_plain_numbers() -> None:
    assert settle("0.5", "1/2") is True
    assert settle("1000", "1,000") is True
    assert settle("0.3333", "1/3") is False
    assert settle("1/3", "0.333333") is True  # six places stand for the number that they round
    assert settle("5", "5.0000001") is False  # but not for an integer
    assert settle("0.0000001", "0.0000002") is False
    assert settle("28\\%", "28") is settle("28", "28\\%") is settle("28\\%", "0.28") is True
    assert settle("0.28", "28") is settle("2.8", "28\\%") is False
    assert settle("1000.99", "1000,99") is settle("0,111", "0.111") is True  # a decimal comma
    assert settle("1.5", "1,5") is False  # a list
    assert settle("x", "2") is None
    assert settle("2", "x") is False


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{4}", "4"),
        ("\\boxed{\\frac{1}{2}} and done", "\\frac{1}{2}"),
        ("\\boxed{1} then \\boxed{2}", "2"),  # the last one
        ("\\boxed{1} and \\boxed{2}", "1, 2"),  # one answer of two
        ("\\boxed{1}, \\boxed{1}", "1"),
        ("it is 3, \\boxed{4", None),  # cut off
        ("\\boxed{}", None),
        ("\\fbox{958} values", "958"),
        ("42", "42"),
        ("x^2+1", "x^2+1"),
        ("A: 26", "26"),
        ("#### 1,234", "1,234"),
        ("The answer is $\\frac{3}{4}$. I hope it is correct.", "$\\frac{3}{4}$"),
        ("He sold 3 apples and has 15 left.", "15"),
        ("so $x+y = 1000$ therefore we get $7$ at last", "7"),
        ("Hence \\(x = 5\\) holds for every reader.", "x = 5"),
        ("The total is 100 - 30 = 70 dollars per month.", "70 dollars per month"),
        ("The change was -4.5 overall, he said.", "-4.5"),
        ("Therefore we find 12 and then \\( \\sqrt{", None),  # cut off
        ("I do not know the result, sorry.", None),
        ("42<|im_end|>", "42"),
        ("", None),
    ],
)
def test_without_tags_the_answer_is_the_last_box_or_the_end(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_each_extraction_falls_back_as_far_as_it_says() -> None:
    texts = ("<answer>1</answer> \\boxed{2} so 3 it is then", "\\boxed{2} so 3 it is then", "and so 3 it is then")
    found = {name: [extract(text) for text in texts] for name, extract in EXTRACTIONS.items()}
    assert found == {"tags": ["1", None, None], "boxed": ["1", "2", None], "auto": ["1", "2", "3"]}


@pytest.fixture(scope="module")
def checker() -> Iterator[Verifier]:
    made = Verifier(deadline=10.0, workers=1)
    yield made
    made.close()


TWO_ANSWERS = [
    "<answer>5</answer> <answer>6</answer>",
    "<answer>6</answer>\n<answer>5</answer>",
    "The answer is \\boxed{6}. The answer is \\boxed{5}.",
    "The answer is \\boxed{6}. Alternatively, the answer is \\boxed{5}.",
    "\\boxed{6}. Perhaps it is \\boxed{5}.",
    "The answer is 6. The answer is 5.",
    "The answer is 6. Another possible answer is 5.",
]
ONLY_THOUGHT = [
    "<think>So it is \\boxed{5}.</think>",
    "<think>The answer is 5.</think> <answer></answer>",
    "<think>Clearly \\boxed{5}",
    "Clearly \\boxed{5}.</think> I do not know.",
    "<think><answer>5</answer></think>",
]


@pytest.mark.parametrize("text", [*TWO_ANSWERS, *ONLY_THOUGHT])
def test_two_answers_and_one_that_is_only_thought_earn_nothing_by_any_extraction(text: str, checker: Verifier) -> None:
    for extract in EXTRACTIONS.values():
        assert not checker("5", extract(text)).equal


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("5", "<think>Is it \\boxed{6}?</think> It is \\boxed{5}."),
        ("5", "Is it \\boxed{6}?</think> It is \\boxed{5}."),
        ("5", "<answer>5</answer> and once more <answer>5</answer>"),
        ("5", "The answer is \\boxed{6}. Wait, that was a mistake. The answer is \\boxed{5}."),
        ("5", "There are \\boxed{6} of them. Without one there are \\boxed{5}."),
        ("5", "The answer is $5$. Final answer: 5"),
        ("2, 3", "The roots are \\boxed{2} and \\boxed{3}."),
        ("2, 3", "One root is \\boxed{2}. The other root is \\boxed{3}."),
    ],
)
def test_several_boxes_are_one_answer_or_its_steps(gold: str, text: str, checker: Verifier) -> None:
    assert checker(gold, EXTRACTIONS["auto"](text)).equal


@pytest.mark.parametrize("tag", ["\\[ x", "\\( x ", "$", "\\boxed{", "\\boxed{1}", "<answer>", "{", "1 ", "answer: "])
def test_extraction_takes_linear_time(tag: str) -> None:
    def seconds(times: int) -> float:
        text = "So it is that " + tag * times
        tries = []
        for _ in range(3):
            started = time.process_time()
            EXTRACTIONS["auto"](text)
            tries.append(time.process_time() - started)
        return min(tries)

    assert seconds(20_000) < 40 * max(seconds(2_000), 2e-3)


def completions(*texts: str, answer: str = "2") -> list[Group]:
    prompt = Prompt(index=0, source="test", question="1+1", answer=answer, token_ids=(1,))
    made = (Completion(token_ids=(1, 2), text=t, finished=True, policy_version=0, sampler_logp=(0, 0)) for t in texts)
    return [Group(prompt=prompt, completions=tuple(made))]


def scored(*texts: str, answer: str = "2", deadline: float = 20.0, **parts: object) -> list[Reward]:
    options = {"answer_weight": 1.0, "format_weight": 1.0, "extract": answer_text, "score_format": format_reward}
    verifier = Verifier(deadline=deadline, workers=1)
    try:
        return AnswerAndFormatReward(verifier=verifier, **options | parts)(completions(*texts, answer=answer))[0]
    finally:
        verifier.close()


def test_reward_is_the_weighted_sum_of_its_parts() -> None:
    got = scored(
        FULL, FULL.replace("<answer>2", "<answer>3"), "a<answer>2</answer>", answer_weight=2.0, format_weight=0.5
    )
    assert [reward.total for reward in got] == [2.5, 0.5, 2 + 0.5 * 0.25]
    assert got[0].parts == {"answer": 1.0, "format": 1.0}


def test_strict_format_and_another_extraction_are_choices() -> None:
    got = scored("<think>a<answer>3</answer>", "\\boxed{2}", score_format=strict_format_reward, extract=final_answer)
    assert [reward.parts for reward in got] == [{"answer": 0.0, "format": 0.0}, {"answer": 1.0, "format": 0.0}]
    for made in (AnswerAndFormat(format="paper"), AnswerAndFormat(format="strict", extraction="auto")):
        assert made.answer("<answer>2</answer>") == "2"


def test_a_timed_out_answer_is_reported() -> None:
    body = "\\sum_{n=1}^{10^9} \\frac{1}{n}"
    late, fine = scored(f"<think>a</think><answer>{body}</answer>", FULL, answer="2", deadline=0.2)
    assert (late.total, late.timed_out, late.killed) == (1.0, True, True)
    assert (fine.total, fine.timed_out, fine.killed) == (2.0, False, False)


def brevity(prompt: Prompt, completion: Completion, *, longest: int = 4) -> float:
    return len(completion.token_ids) / longest


class Naming:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, prompt: Prompt, completion: Completion) -> bool:
        return self.word in completion.text


def endless(prompt: Prompt, completion: Completion) -> float:
    return float("inf")


def test_a_reward_of_ones_own_is_weighted_and_named() -> None:
    extra = [
        ExtraReward.load("brief", {"_target_": f"{__name__}.brevity", "weight": -0.5, "longest": 8}),
        ExtraReward.load("names", {"_target_": f"{__name__}.Naming", "weight": 3, "word": "1+1"}),
    ]
    (reward,) = scored(FULL, extra=extra)
    assert reward.parts == {"answer": 1.0, "format": 1.0, "brief": 0.25, "names": 1.0}
    assert reward.total == 1 + 1 - 0.5 * 0.25 + 3 * 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"_target_": "no_such_module.fn"}, "reward.extra.x._target_ must be importable, got no_such_module.fn"),
        ({"_target_": f"{__name__}.gone"}, f"reward.extra.x._target_ must be importable, got {__name__}.gone"),
        ({"_target_": f"{__name__}.CASES"}, "reward.extra.x._target_ must be a class or a function"),
        (
            {"_target_": f"{__name__}.brevity", "shortest": 3},
            "reward.extra.x must take (prompt, completion) and the keyw",
        ),
        (
            {"_target_": f"{__name__}.Naming"},
            "reward.extra.x must take (prompt, completion) and the keywords given (none)",
        ),
    ],
)
def test_a_reward_that_cannot_be_called_is_one_line(entry: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        ExtraReward.load("x", {"weight": 1.0} | entry)
    assert str(error.value).startswith(message)


def test_a_reward_that_is_no_number_is_one_line() -> None:
    extra = [ExtraReward.load("x", {"_target_": f"{__name__}.endless", "weight": 1.0})]
    with pytest.raises(UserError, match="must give a finite number, got inf"):
        scored(FULL, extra=extra)


def test_spelling_settles_what_it_can_and_says_so() -> None:
    assert settle("\\text{Evelyn}", "Evelyn.") is True
    assert settle("(1, 2)", "( 1 , 2 )") is True
    assert settle("(1, 2)", "(2, 1)") is False
    assert settle("\\sqrt{8}", "2\\sqrt{2}") is None


def test_the_overlong_penalty_is_dapos_equation_13() -> None:
    from gatepo.rewards.overlong import OverlongPenalty
    from gatepo.types import Completion, Prompt

    prompt = Prompt(index=0, source="", question="", answer="", token_ids=())
    penalty = OverlongPenalty(limit=100, share=0.2)
    for length, wanted in ((0, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0)):
        completion = Completion(
            token_ids=(0,) * length, text="", finished=True, policy_version=0, sampler_logp=(0.0,) * length
        )
        assert penalty(prompt, completion) == wanted
