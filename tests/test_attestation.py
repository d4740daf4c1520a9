"""Attested weight syncs: at the paper's learning rate no stale weight passes, in any precision; no right one stops."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import stack

from gatepo.model import load_model
from gatepo.rollout.fingerprint import AT_ONCE, Fingerprint, Held, fingerprint
from gatepo.rollout.transformers import TransformersRollout

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NO_OVERTAKING = "every parameter was sent as it is, and the sampler did not take over"
DOWN = "model.layers.1.mlp.down_proj.weight"
SYNCS = 5


@pytest.fixture(scope="module", params=["untied", "tied"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def vllm_said(kind: str, tmp_path_factory) -> dict[str, Any]:
    pytest.importorskip("vllm", reason="vllm is not installed; make test installs it")
    folder: Path = tmp_path_factory.mktemp(kind)
    stack("attestation", folder, kind, str(SYNCS))
    said: dict[str, Any] = json.loads((folder / f"{kind}.json").read_text())
    return said


@pytest.fixture(scope="module")
def transformers_said(kind: str, tmp_path_factory, tiny_tokenizer) -> dict[str, Any]:
    """The same of transformers, which decodes with fp32 weights of its own."""
    from tests.stack.attestation import head_of, make_model, trainer, verdicts

    folder = tmp_path_factory.mktemp(kind)
    said = {}
    for name, dtype in DTYPES.items():
        model = make_model(folder, kind)
        sampler = TransformersRollout(
            load_model(str(folder / "model"), torch.device("cpu"), None), tiny_tokenizer, 256, dtype
        )
        said[name] = verdicts(trainer(model, dtype), sampler, dtype, head_of(kind), SYNCS)
    return said


@pytest.fixture(params=["transformers", "vllm"])
def said(request, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(f"{request.param}_said")
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_right_syncs_pass(said, dtype: str) -> None:
    assert said[dtype]["right"] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", ["all", "query", "down", "head"])
def test_the_first_stale_sync_stops_the_run(said, kind: str, dtype: str, fault: str) -> None:
    """All weights or one: the one of a fused layer, of a plain one, of the head."""
    head = "model.embed_tokens.weight" if kind == "tied" else "lm_head.weight"
    named = {"all": "model.embed_tokens.weight and", "query": "q_proj", "down": DOWN, "head": head}
    words = said[dtype][fault]
    assert words.startswith(f"weight sync {SYNCS}, sampler and trainer do not agree: {NO_OVERTAKING} ")
    assert named[fault] in words
    assert words.endswith("Nothing was sampled from it")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_trainer_that_sends_the_wrong_weights_is_named(said, dtype: str) -> None:
    assert f"the parameter {DOWN} was not sent" in said[dtype]["left_out"]
    assert f"the parameter {DOWN} was sent with other values than it has" in said[dtype]["old_value"]


def test_vllm_keeps_the_packed_copy_of_a_tied_head_which_is_why_it_is_rebuilt(vllm_said, kind: str) -> None:
    """On an untied model there is nothing to rebuild, and in bf16 on some processors nothing is packed."""
    if kind == "tied":
        assert f"{NO_OVERTAKING} model.embed_tokens.weight." in vllm_said["float32"]["packed_head"]
    else:
        assert vllm_said["float32"]["packed_head"] is None


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_a_fingerprint_does_not_depend_on_the_layout_and_changes_with_every_bit(dtype: torch.dtype) -> None:
    weight = torch.randn(48, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = fingerprint(weight, dtype)
    assert fingerprint(weight.t(), dtype) == whole
    assert fingerprint(weight[:20], dtype) + fingerprint(weight[20:], dtype) == whole
    assert fingerprint(torch.cat([weight, torch.zeros(16, 32, dtype=dtype)]), dtype) == whole  # padding
    for row, column in ((0, 0), (17, 5), (47, 31)):
        other = weight.clone()
        other[row, column] = torch.nextafter(other[row, column], torch.tensor(torch.inf, dtype=dtype))
        assert fingerprint(other, dtype) != whole


def test_a_fingerprint_worked_by_hand() -> None:
    one, two = 0x3F800000, 0x40000000  # the bits of 1.0 and 2.0
    assert fingerprint(torch.tensor([1.0, 2.0]), torch.float32) == Fingerprint(one + two, one**2 + two**2)
    many = fingerprint(torch.ones(AT_ONCE + 3), torch.float32)  # more than are summed at once
    assert many == Fingerprint(one * (AT_ONCE + 3) % 2**64, one**2 * (AT_ONCE + 3) % 2**64)


def test_weights_that_devices_share_are_known_split_whole_and_fused() -> None:
    query, key, value, other = (Fingerprint(n, n * n) for n in (11, 13, 17, 19))
    own = {"q": query, "k": key, "v": value}
    fused = ("q", "k", "v")
    assert Held(parts=fused, found=query + key + value).is_made_of(own)
    assert not Held(parts=fused, found=query + key + other).is_made_of(own)
    assert Held(parts=("q",), found=query, devices=2).is_made_of(own)  # each has a half
    assert Held(parts=("q",), found=query + query, devices=2).is_made_of(own)  # each has all
    assert not Held(parts=("q",), found=query + query).is_made_of(own)
    heads = query + (key + value) * 2  # keys and values of one head, on two devices
    assert Held(parts=fused, found=heads, devices=2).is_made_of(own)
    assert not Held(parts=fused, found=query + key * 2 + value, devices=2).is_made_of(own)
