"""Plain PyTorch and the real DeepSpeed, on one process and two: the same losses, the same weights."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import stack
from transformers import AutoModelForCausalLM

from gatepo.engine import deepspeed as deepspeed_module
from gatepo.errors import UserError

ENGINES = ("torch", "zero0", "zero1", "zero2", "zero3", "offload2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What tests/stack/engines.py wrote on one process and on two."""
    pytest.importorskip("deepspeed", reason="deepspeed is not installed; make test installs it")
    path: Path = tmp_path_factory.mktemp("engines")
    for processes in (1, 2):
        stack("engines", path, ranks=processes)
    return path


def result(folder: Path, name: str, processes: int, accumulation: int) -> dict[str, Any]:
    return torch.load(folder / f"{name}-{processes}-{accumulation}.pt", weights_only=True)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", ENGINES)
def test_five_updates_are_the_same(folder: Path, name: str, processes: int, accumulation: int) -> None:
    plain, other = result(folder, "torch", 1, 1), result(folder, name, processes, accumulation)
    assert other["losses"] == pytest.approx(plain["losses"], abs=1e-5)
    assert other["norms"] == pytest.approx(plain["norms"], rel=5e-2)  # of 46 down to 0.3, where rounding shows
    assert other["weights"].keys() == plain["weights"].keys()
    for key, weight in plain["weights"].items():
        torch.testing.assert_close(other["weights"][key], weight, rtol=0, atol=1e-5)


def test_the_five_updates_moved_the_weights(folder: Path, tiny_model) -> None:
    """So that agreement to 1e-5 says something."""
    weights = result(folder, "torch", 1, 1)["weights"]
    moved = max((weights[name] - p).abs().max().item() for name, p in tiny_model.named_parameters())
    assert moved > 1e-3


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_in_bf16_ranks_add_their_gradients_up_in_fp32(folder: Path, zero_stage: int) -> None:
    """Two ranks against one; the passes are the same, so that only the sums can differ. In bf16 they do by 2e-3."""
    one, two = (torch.load(folder / f"bf16-zero{zero_stage}-{processes}.pt") for processes in (1, 2))
    whole = torch.cat([gradient.flatten() for gradient in one.values()])
    apart = torch.cat([(one[name] - two[name]).flatten() for name in one])
    assert whole.norm() > 0.01
    assert apart.norm() < 1e-5 * whole.norm()


@pytest.mark.parametrize("processes", [1, 2])
def test_sharded_weights_are_handed_out_one_at_a_time(folder: Path, processes: int) -> None:
    """What is whole at once, elements, is one weight and not one model."""
    found = result(folder, "zero3", processes, 1)
    assert found["whole"] == max(weight.numel() for weight in found["weights"].values())


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("processes", [1, 2])
def test_sharded_weights_are_saved_resumed_and_exported_whole(folder: Path, processes: int, accumulation: int) -> None:
    found = result(folder, "zero3", processes, accumulation)
    assert found["resumed"] == found["straight"]
    # exported after the five updates of the resumed run: not those weights, but whole and loadable
    model = AutoModelForCausalLM.from_pretrained(folder / f"model-{processes}-{accumulation}")
    for name, parameter in model.named_parameters():
        assert parameter.shape == found["weights"][name].shape
        torch.testing.assert_close(parameter, found["exported"][name], rtol=0, atol=0)


def test_a_missing_deepspeed_is_one_line_that_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"engine=deepspeed needs deepspeed, .*: pip install '\.\[deepspeed\]'"):
        deepspeed_module._import_deepspeed()
