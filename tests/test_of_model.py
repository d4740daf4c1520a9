"""What belongs to the embedded model comes with it alone; another model has the paper's settings, and its own dtype."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from composed import evaluation_settings, typed

from gatepo import of_model, tiny
from gatepo.overrides import prepared
from gatepo.remarks import remarks
from gatepo.schema import TrainConfig

SMALL_QWEN = "model.path=Qwen/Qwen2.5-0.5B-Instruct"


def chosen(config: TrainConfig) -> dict[str, Any]:
    return {
        "lr": config.optimizer.lr,
        "beta1": config.optimizer.beta1,
        "prompt": config.sampling.max_prompt_length,
        "completion": config.sampling.max_completion_length,
        "micro": config.batch.micro,
        "dtype": config.model.dtype,
    }


TINY = {"lr": 7e-4, "beta1": 0.0, "prompt": 128, "completion": 64, "micro": 32, "dtype": "float32"}
PAPER = {"lr": 1e-6, "beta1": 0.9, "prompt": 1536, "completion": 512, "micro": 1, "dtype": "bfloat16"}


def stored_as(folder: Path, **changes: Any) -> str:
    """A folder with the embedded model's config.json, some of it changed."""
    folder.mkdir()
    own = json.loads(Path(tiny.locate("tiny"), "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**own, **changes}))
    return str(folder)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], TINY),
        (["data=gsm8k", SMALL_QWEN], PAPER),
        (["data=gsm8k", "model=own", SMALL_QWEN], PAPER),
        (["model=qwen2.5-7b-instruct"], PAPER),
        ([SMALL_QWEN, "optimizer.lr=1e-5"], PAPER | {"lr": 1e-5}),
        ([SMALL_QWEN, "optimizer=tiny"], PAPER | {"lr": 7e-4, "beta1": 0.0}),
        ([SMALL_QWEN, "model.dtype=float32", "batch.micro=4"], PAPER | {"dtype": "float32", "micro": 4}),
        ([SMALL_QWEN, "sampling.max_completion_length=256"], PAPER | {"completion": 256}),
        (["optimizer=paper", "model.dtype=bfloat16"], TINY | {"lr": 1e-6, "beta1": 0.9, "dtype": "bfloat16"}),
    ],
)
def test_settings_of_the_embedded_model_come_with_it_and_what_is_typed_wins(
    words: list[str], expected: dict[str, Any]
) -> None:
    assert chosen(typed(*words)) == expected


def test_the_preset_tiny_is_what_the_embedded_model_has_by_default() -> None:
    assert typed("optimizer=tiny") == typed()
    assert typed("optimizer=paper", SMALL_QWEN) == typed(SMALL_QWEN)


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16"}, "bfloat16"),
        ({"dtype": "float32"}, "float32"),
        ({"dtype": None, "torch_dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": None}, "float32"),
        ({"dtype": None, "text_config": {"dtype": "bfloat16"}}, "bfloat16"),
    ],
)
def test_a_model_computes_in_the_precision_in_which_it_is_stored(
    tmp_path: Path, stored: dict[str, Any], dtype: str
) -> None:
    path = stored_as(tmp_path / "model", hidden_size=64, **stored)
    assert typed(f"model.path={path}").model.dtype == dtype
    assert evaluation_settings(f"model.path={path}").model.dtype == dtype


def test_what_a_run_made_of_the_embedded_model_is_trained_like_it(tmp_path: Path) -> None:
    shutil.copytree(tiny.locate("tiny"), tmp_path / "model")
    assert chosen(typed(f"model.path={tmp_path / 'model'}")) == TINY
    assert of_model.remark(typed(f"model.path={tmp_path / 'model'}")) is None


def test_the_embedded_model_with_a_system_prompt_is_remarked_upon(tmp_path: Path) -> None:
    """Where one was typed; data bring none with it, nor with what was made of it."""
    shutil.copytree(tiny.locate("tiny"), tmp_path / "model")
    for model in ((), (f"model.path={tmp_path / 'model'}",)):
        (line,) = remarks(typed("data.system=Solve.", *model))
        assert "data.system=null" in line
        for words in (["data=gsm8k"], prepared(["data=train.jsonl"])):
            assert typed(*words, *model).data.system is None
            assert remarks(typed(*words, *model)) == []
    other = typed(*prepared(["data=train.jsonl"]), "model.path=Qwen/Qwen2.5-0.5B-Instruct")
    assert "<think>" in str(other.data.system)


def test_another_model_is_remarked_upon_with_what_was_chosen() -> None:
    assert remarks(typed()) == []
    (line,) = remarks(typed(SMALL_QWEN, "optimizer.lr=2e-6"))
    for part in ("optimizer.lr=2e-06", "beta1=0.9", "1536 + 512 tokens", "batch.micro=1", "model.dtype=bfloat16"):
        assert part in line


@pytest.mark.parametrize(
    ("rate", "parameters", "said"),
    [
        (7e-4, 494_000_000, True),  # the embedded model's rate, on Qwen2.5-0.5B
        (1e-5, 494_000_000, False),
        (1e-6, 7_600_000_000, False),  # the paper's
        (2e-5, 7_600_000_000, True),
        (7e-4, 900_000, False),  # the embedded model's
        (7e-3, 900_000, False),
        (0.1, 900_000, True),
    ],
)
def test_a_learning_rate_far_above_what_the_size_stands_is_said(rate: float, parameters: int, said: bool) -> None:
    line = of_model.too_fast(typed(f"optimizer.lr={rate}"), parameters)
    assert (line is not None) == said
    if line is not None:
        assert line.startswith(f"optimizer.lr={rate:g} is far above")
