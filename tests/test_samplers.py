"""The real vLLM on this machine's processor, beside transformers and the trainer."""

import json
import sys
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import pytest
from command import stack

from gatepo.errors import UserError
from gatepo.rollout import vllm as vllm_module

TOLERANCE = 1e-3  # nats, of the attestation


@pytest.fixture(scope="module", params=["untied", "tied"])
def found(request, tmp_path_factory) -> dict[str, Any]:
    """What tests/stack/samplers.py saw."""
    pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    folder: Path = tmp_path_factory.mktemp(request.param)
    stack("samplers", folder, request.param)
    seen: dict[str, Any] = json.loads((folder / f"{request.param}.json").read_text())
    assert seen["tied"] == (request.param == "tied")
    return seen


def test_log_probabilities_are_the_trainers_in_fp32(found) -> None:
    assert found["noise"] < 1e-4
    assert found["sampling_difference"] < 1e-4  # of sampled tokens, at the sampling temperature


def test_a_sample_is_a_function_of_its_seed_alone(found) -> None:
    assert found["same_alone"]
    assert found["other_seed_differs"]
    assert found["distinct"] > 1  # members of a group have streams of their own


def test_completions_end_at_the_end_token_or_at_the_limit(found) -> None:
    assert all(found["finished"])
    assert max(found["lengths"]) <= 48
    completion = found["completion"]
    assert len(completion["sampler_logp"]) == len(completion["token_ids"])
    assert "<|im_end|>" not in completion["text"]


def test_rewards_do_not_differ_from_those_of_transformers_beyond_chance(found) -> None:
    ours, theirs = found["rewards_vllm"], found["rewards_transformers"]
    assert len(ours) == len(theirs) == 512
    error = (variance(ours) / 512 + variance(theirs) / 512) ** 0.5
    assert abs(fmean(ours) - fmean(theirs)) < 3.5 * error


def test_new_weights_reach_the_sampler_exactly(found) -> None:
    assert found["difference_before"] > 0.1
    assert found["difference_after"] < 1e-4
    assert found["version"] == 3


def test_the_death_of_vllm_is_a_stop_that_says_what_happened(found) -> None:
    """And the run's checkpoints are there to go on from."""
    assert found["death"].startswith("vLLM died while it sampled version 3 of the policy: ")
    assert "a fault in the last layer" in found["death"]
    assert found["death"].endswith("nothing of this rollout batch was used")


def test_a_missing_vllm_is_one_line_that_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"rollout=vllm needs vllm, which is not installed: pip install '\.\[vllm\]'"):
        vllm_module._import_vllm()


def test_a_vllm_for_another_torch_is_one_line(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "vllm.py").write_text("raise ImportError('undefined symbol: _ZN3c104impl')")
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"this vllm was built for another torch than .*undefined symbol"):
        vllm_module._import_vllm()
