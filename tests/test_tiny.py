"""The embedded data and model are what their script makes, and leave room to learn."""

import json
import random
from pathlib import Path

import pytest

from gatepo import tiny
from gatepo.rewards.tags import answer_text, format_reward
from gatepo.rewards.verifier import Verifier
from gatepo.tiny import build, problems

FOLDER = tiny.FOLDER


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / "data" / f"{name}.jsonl").read_text().splitlines()]


def test_the_committed_data_is_what_the_script_writes(tmp_path: Path) -> None:
    build.write_data(tmp_path)
    for file in (FOLDER / "data").iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
    assert len(list(tmp_path.iterdir())) == 5


def test_the_committed_tokenizer_is_what_the_script_trains(tmp_path: Path) -> None:
    held_out = {row["question"] for name in build.EVALUATION_NAMES.values() for row in rows(name)}
    build.build_tokenizer(held_out).save_pretrained(tmp_path)
    committed = json.loads((FOLDER / "model" / "tokenizer.json").read_text())
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    assert made["model"] == committed["model"]
    assert made["added_tokens"] == committed["added_tokens"]


def test_the_tokenizer_is_the_same_however_it_is_loaded(tiny_model) -> None:
    """transformers puts its own class before any Qwen2 model, whatever the files name; vLLM does as transformers."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    one, other = (loader.from_pretrained(FOLDER / "model") for loader in (AutoTokenizer, PreTrainedTokenizerFast))
    assert len(one) == len(other) == tiny_model.config.vocab_size
    for text in ("a>b\nTom's 12,345 <b>", "<|endoftext|><|im_end|>", "x = -5\t(y)", "\u00bd \u4e2d"):
        assert one(text)["input_ids"] == other(text)["input_ids"]


def test_evaluation_questions_are_not_trained_on() -> None:
    training = {row["question"] for name in problems.SOURCES for row in rows(name)}
    evaluation = [row["question"] for name in build.EVALUATION_NAMES.values() for row in rows(name)]
    assert len(training) == 2 * build.TRAINING_ROWS
    assert len(set(evaluation)) == len(evaluation) == 3 * build.EVALUATION_ROWS
    assert not training & set(evaluation)


def test_answers_follow_from_the_questions() -> None:
    """An independent evaluation of the expressions, by Python's own arithmetic on digits and operators only."""
    for row in rows("expressions"):
        text = row["question"].removeprefix("Compute ").removesuffix(".")
        assert set(text) <= set("0123456789+-*() ")
        assert str(eval(text)) == row["answer"], row


@pytest.mark.parametrize("source", problems.SOURCES)
def test_steps_lead_to_the_answer(source: str) -> None:
    rng = random.Random(0)
    for level in problems.LEVELS:
        for _ in range(200):
            problem = problems.SOURCES[source](rng, level)
            assert len(problem.steps) == level
            for step, after in zip(problem.steps, problem.steps[1:], strict=False):
                assert step.result == after.left
            if source == "words":
                assert all(step.result >= 0 for step in problem.steps)


def test_the_pretraining_text_has_slips_and_missing_tags_but_not_only() -> None:
    """What reinforcement learning starts from: about 0.65 of 2, right answers and full formats among it."""
    rng, verify = random.Random(0), Verifier(deadline=2.0)
    scores = []
    for _ in range(3000):
        problem = problems.SOURCES[rng.choice(list(problems.SOURCES))](rng, rng.choice(problems.LEVELS))
        text = problems.solution(rng, problem, problems.START)
        scores.append(verify(str(problem.answer), answer_text(text)).equal + format_reward(text))
    assert 0.5 < sum(scores) / len(scores) < 0.8
    assert set(scores) >= {0.0, 0.25, 1.0, 1.25, 1.5, 2.0}


def test_the_embedded_files_are_small_enough_to_ship() -> None:
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) < 5_000_000


def test_the_model_has_the_shape_that_samplers_need(tiny_model) -> None:
    config = tiny_model.config
    assert config.model_type == "qwen2"
    assert config.hidden_size // config.num_attention_heads == 32  # vLLM's CPU kernels accept it
    assert not config.tie_word_embeddings
    assert 0.5e6 < tiny_model.num_parameters() < 1.5e6
