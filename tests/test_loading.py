"""Loading a model: what of it a host holds, in which precision it arrives, and when."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from composed import algorithm, typed
from conftest import REPO
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config

from gatepo import build
from gatepo.engine.policy import Policy
from gatepo.engine.reference import FrozenPolicy
from gatepo.engine.torch import Torch
from gatepo.model import load_model, load_tokenizer
from gatepo.types import TokenBatch

CPU = torch.device("cpu")
CONFIG = Qwen2Config(
    hidden_size=1024,
    num_hidden_layers=4,
    num_attention_heads=16,
    num_key_value_heads=4,
    intermediate_size=4096,
    vocab_size=20_000,
    tie_word_embeddings=False,
)

WATCHED = """
import re, sys, threading, time
import torch
from transformers import Qwen2ForCausalLM
from gatepo.engine.reference import FrozenPolicy
from gatepo.model import load_model

def private():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1]) * 1024

def watch():
    global peak
    while True:
        peak = max(peak, private())
        time.sleep(0.001)

peak = before = private()
threading.Thread(target=watch, daemon=True).start()
{work}
print((peak - before) / sum(p.numel() for p in model.parameters()))
"""


@pytest.fixture(scope="module")
def bf16(tmp_path_factory) -> Path:
    """A model of 104 million bf16 parameters."""
    folder: Path = tmp_path_factory.mktemp("bf16")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG, dtype=torch.bfloat16)
    weights = {name: torch.full(p.shape, 0.01, dtype=p.dtype) for name, p in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    CONFIG.save_pretrained(folder)
    return folder


def private_bytes(work: str) -> float:
    """Peak of a process's own memory while it does ``work``, bytes per parameter; mapped files are not its own."""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux says how much of its memory a process shares")
    process = subprocess.run(
        [sys.executable, "-c", WATCHED.format(work=work)],
        env=os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return float(process.stdout.split()[-1])


def test_the_reference_takes_no_memory_of_the_host_where_its_file_is_in_bf16(bf16: Path) -> None:
    loaded = f"model = load_model({str(bf16)!r}, torch.device('cpu'), None, torch.bfloat16)"
    assert private_bytes(f"{loaded}; FrozenPolicy(model, 1, 1.0, torch.bfloat16)") < 0.2


def test_every_precision_arrives_as_transformers_loads_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_model("tiny", CPU, None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "fp32", max_shard_size="1MB")
    model.model.layers[0].to(torch.bfloat16)  # its files hold two precisions
    model.save_pretrained(tmp_path / "mixed")
    for name in ("fp32", "mixed"):
        for dtype in (torch.float32, torch.bfloat16):
            ours = load_model(str(tmp_path / name), CPU, None, dtype)
            theirs = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=dtype)
            assert ours.config.dtype == dtype
            for (key, one), (_, other) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
                assert one.dtype == other.dtype == dtype, key
                assert torch.equal(one, other), key
            assert {buffer.dtype for buffer in ours.buffers()} == {torch.float32}


def test_the_reference_of_equal_weights_is_at_no_distance_in_bf16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    T = 2_000
    config = Qwen2Config(
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=512,
        vocab_size=200,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        initializer_range=0.08,
    )
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(tmp_path)
    load_tokenizer("tiny").save_pretrained(tmp_path)
    path = str(tmp_path)
    policy = Policy(load_model(path, CPU, None), 1.0, torch.bfloat16)
    settings = typed("kl=fixed", "model.dtype=bfloat16", f"model.path={path}")
    reference = build._reference(settings, micro=1, beneath=None)
    assert isinstance(reference, FrozenPolicy)
    ids_NT = torch.randint(200, (2, T))
    all_NT = torch.ones_like(ids_NT, dtype=torch.bool)
    batch = TokenBatch(
        ids_NT=ids_NT,
        completion_NT=all_NT & (torch.arange(T) > 0),
        attention_NT=all_NT,
        advantage_N=torch.ones(2),
        group_N=torch.arange(2),
        sampler_logp_NT=torch.zeros(2, T),
    )
    with torch.no_grad():
        logp_NT, _ = policy(ids_NT, batch.completion_NT)
    difference_NT = reference.logprobs(batch) - logp_NT
    k3 = (difference_NT.exp() - 1 - difference_NT).mean().item()
    assert k3 <= 0.007


def test_the_sampler_starts_last_when_trainer_and_reference_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(owner: object, name: str) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: (order.append(name), original(*a, **k))[1])

    noted(Torch, "make")
    noted(build, "_reference")
    noted(build, "rollout")
    made = algorithm(replace(typed("kl=fixed"), updates=2))
    made.reward.close()
    assert order == ["make", "_reference", "rollout"]
