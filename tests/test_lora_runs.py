"""Whole runs with LoRA on the embedded model: it learns, goes on to the bit, and leaves what peft loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import gatepo
from safetensors.torch import load_file
from test_run import metrics, untimed

from gatepo import checkpoint, config
from gatepo.model import load_model

peft = pytest.importorskip("peft", reason="peft is not installed; make test installs it")

LORA = ("model.adapter=lora", "threads=1", "optimizer.lr=5e-3", "evaluate.limit=4")
SHORT = (
    *("model.adapter.rank=4", "model.adapter.dropout=0.1", "batch.prompts=4", "sampling.max_completion_length=16"),
    *("optimizer.schedule=constant", "checkpoint.every=3", "checkpoint.keep=null"),
)


def train(folder: Path, *words: str) -> Path:
    done = gatepo("train", *LORA, *words, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four updates at rank 16."""
    return train(tmp_path_factory.mktemp("learned") / "run", "updates=24", "batch.prompts=8", "checkpoint.every=24")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("straight") / "run", *SHORT, "updates=6")


def test_the_embedded_model_learns(learned: Path) -> None:
    reward = [line["reward"] for line in metrics(learned)]
    assert sum(reward[-6:]) / 6 > sum(reward[:2]) / 2 + 0.3


def test_a_run_goes_on_to_the_bit(straight: Path, tmp_path: Path) -> None:
    """From update 3, in the middle of a rollout batch, dropout and all."""
    run = train(tmp_path / "run", *SHORT, "updates=4")
    for later in checkpoint.found(run)[1:]:
        shutil.rmtree(later)
    done = gatepo("train", f"resume={run}", "updates=6")
    assert done.returncode == 0, done.stderr
    assert "updates is 6 now: from update 4 on" in done.stderr + done.stdout
    assert untimed(metrics(run)) == untimed(metrics(straight))
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (run / name).read_bytes() == (straight / name).read_bytes()


def test_another_rank_cannot_go_on(straight: Path) -> None:
    done = gatepo("train", f"resume={straight}", "updates=8", "model.adapter=lora", "model.adapter.rank=8")
    assert done.returncode == 2
    assert "model.adapter.rank must stay as it was" in done.stderr


def test_a_checkpoint_holds_the_adapter_and_its_optimizer_states_alone(straight: Path) -> None:
    state = torch.load(checkpoint.found(straight)[-1] / "engine", weights_only=True)
    assert all(".lora_A." in name or ".lora_B." in name for name in state["model"])
    held = sum(moments["exp_avg"].numel() for moments in state["optimizer"]["state"].values())
    assert held == sum(weight.numel() for weight in state["model"].values())


def test_peft_loads_the_adapter_and_it_gives_the_logits_of_the_exported_model(learned: Path) -> None:
    own = peft.PeftModel.from_pretrained(load_model("tiny", torch.device("cpu"), None), str(learned / "adapter"))
    whole = load_model(str(learned / "model"), torch.device("cpu"), None)
    ids = torch.randint(300, (4, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, base = own(input_ids=ids).logits, load_model("tiny", torch.device("cpu"), None)(input_ids=ids).logits
        torch.testing.assert_close(found, whole(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert (found - base).abs().max() > 0.1
    assert not list((learned / "model").glob("adapter*"))  # transformers would load it once more
    merged = own.merge_and_unload().state_dict()
    for name, weight in load_file(learned / "model" / "model.safetensors").items():
        torch.testing.assert_close(weight, merged[name], rtol=0, atol=1e-5)


def test_a_checkpoint_gives_the_policy_that_the_run_exported(learned: Path) -> None:
    """The last checkpoint is of the last update."""
    from gatepo.engine.adapted import whole_weights

    settings = config.load(learned / "config.yaml")
    model = load_model("tiny", torch.device("cpu"), None)
    settings.model.adapter.read_checkpoint(model, settings.engine, checkpoint.found(learned)[-1] / "engine")
    exported = load_file(learned / "model" / "model.safetensors")
    for name, weight in whole_weights(model):
        torch.testing.assert_close(weight, exported[name], rtol=0, atol=1e-6)


def test_a_checkpoint_and_a_finished_run_are_evaluated_alike(learned: Path, tmp_path: Path) -> None:
    found = []
    for name, run in (("run", learned), ("checkpoint", checkpoint.found(learned)[-1])):
        done = gatepo("evaluate", f"run={run}", "limit=6", f"out={tmp_path / name}", "threads=1")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in (tmp_path / name / "generations.jsonl").read_text().splitlines()]
        found.append({(row["set"], row["index"]): [s["text"] for s in row["samples"]] for row in rows})
    assert found[0] == found[1]


def test_the_card_says_what_learned(learned: Path) -> None:
    for folder in ("model", "adapter"):
        card = (learned / folder / "README.md").read_text()
        assert "What learned is an adapter, LoRA of rank 16, alpha 32, on all-linear, beside the frozen weights" in card


def test_a_checkpoint_of_another_rank_is_one_line(straight: Path) -> None:
    from gatepo.engine.adapter import Lora
    from gatepo.engine.torch import Torch
    from gatepo.errors import UserError

    model = load_model("tiny", torch.device("cpu"), None)
    path = checkpoint.found(straight)[-1] / "engine"
    with pytest.raises(UserError, match="got a checkpoint with another shape of "):
        Lora(rank=8).read_checkpoint(model, Torch(), path)
    with pytest.raises(UserError, match="got a checkpoint without "):
        Torch().read_weights(load_model("tiny", torch.device("cpu"), None), path)
