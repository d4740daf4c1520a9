"""LoRA in the real vLLM, attested, and in the real DeepSpeed, at every stage on two processes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import stack
from safetensors.torch import load_file

from gatepo.engine.adapted import whole_weights
from gatepo.model import load_model

ENGINES = ("zero0", "zero1", "zero2", "zero3", "offload2")
IN_BF16 = ("zero0", "zero2", "zero3")
BOTH = [*((name, 4) for name in ENGINES), *((name, 2) for name in IN_BF16)]
DOWN = "model.layers.1.mlp.down_proj.weight"
SYNCS = 3


def run(folder: Path, part: str, ranks: int | None = None) -> None:
    pytest.importorskip("peft", reason="peft is not installed; make test installs it")
    stack("adapters", folder, part, ranks=ranks)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What attestation said of vLLM's weights."""
    pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    folder = tmp_path_factory.mktemp("vllm")
    run(folder, "vllm")
    found: dict[str, Any] = json.loads((folder / "vllm.json").read_text())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests/stack/adapters.py wrote on two processes."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed; make test installs it")
    path: Path = tmp_path_factory.mktemp("engines")
    run(path, "engines", ranks=2)
    return path


def result(folder: Path, name: str, size: int) -> dict[str, Any]:
    return torch.load(folder / f"{name}-{size}.pt", weights_only=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_weights_in_vllm_are_attested(said: dict[str, Any], dtype: str) -> None:
    assert said[dtype]["right"] == [None] * SYNCS
    assert said[dtype]["difference"] < (1e-4 if dtype == "float32" else 0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("fault", "named"), [("all", " and "), ("query", "q_proj"), ("down", DOWN)])
def test_the_first_stale_sync_of_merged_weights_stops_the_run(
    said: dict[str, Any], dtype: str, fault: str, named: str
) -> None:
    words = said[dtype][fault]
    assert words.startswith(f"weight sync {SYNCS}, sampler and trainer do not agree: every parameter was sent as it is")
    assert named in words


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_trainer_that_sends_the_wrong_merged_weight_is_named(said: dict[str, Any], dtype: str) -> None:
    assert f"the parameter {DOWN} was not sent" in said[dtype]["left_out"]
    assert f"the parameter {DOWN} was sent with other values than it has" in said[dtype]["old_value"]


@pytest.mark.parametrize("name", ENGINES)
def test_five_updates_of_an_adapter_are_the_same(folder: Path, name: str) -> None:
    plain, other = result(folder, "torch", 4), result(folder, name, 4)
    assert other["losses"] == pytest.approx(plain["losses"], abs=1e-5)
    assert other["adapter"].keys() == plain["adapter"].keys()
    for part in ("weights", "adapter"):
        for key, weight in plain[part].items():
            torch.testing.assert_close(other[part][key], weight, rtol=0, atol=2e-5)
    assert max(weight.abs().max() for key, weight in plain["adapter"].items() if "lora_B" in key) > 1e-3


@pytest.mark.parametrize(("name", "size"), [("torch", 4), *BOTH])
def test_an_adapter_goes_on_to_the_bit(folder: Path, name: str, size: int) -> None:
    found = result(folder, name, size)
    assert found["resumed"] == found["straight"] != found["losses"]
    assert found["frozen"]


@pytest.mark.parametrize(("name", "size"), [("torch", 4), *BOTH])
def test_the_exported_model_is_merged(folder: Path, name: str, size: int) -> None:
    found = result(folder, name, size)
    written = load_file(folder / f"model-{name}-{size}" / "model.safetensors")
    assert written.keys() == found["exported"].keys()
    for key, weight in written.items():
        assert torch.equal(weight, found["exported"][key].to(weight.dtype))
        assert weight.dtype == {4: torch.float32, 2: torch.bfloat16}[size]


@pytest.mark.parametrize(("name", "size"), [("torch", 4), *BOTH])
def test_a_checkpoint_holds_the_adapter_alone_and_is_read_without_the_trainer(
    folder: Path, name: str, size: int
) -> None:
    from tests.stack.adapters import LORA, OPTIONS

    path = folder / f"checkpoint-{name}-{size}"
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    whole = load_model("tiny", torch.device("cpu"), None)
    assert sum(file.stat().st_size for file in files) < 4 * whole.num_parameters()
    found = result(folder, name, size)
    LORA.read_checkpoint(whole, OPTIONS[name], path)
    exact = 1e-6 if size == 4 else 2e-2  # masters in fp32 against weights in bf16
    for key, weight in whole_weights(whole):
        torch.testing.assert_close(weight.float(), found["weights"][key].float(), rtol=exact, atol=exact)
