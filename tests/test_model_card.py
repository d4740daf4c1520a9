"""The card of an exported model says where it comes from, how it was prompted, and what it can do."""

from dataclasses import replace
from pathlib import Path

import yaml
from command import gatepo
from conftest import REPO
from hydra import compose, initialize_config_dir

from gatepo import config, model_card
from gatepo.presets import register, yaml_dir
from gatepo.record import starts
from gatepo.schema import TrainConfig

ACCURACIES = {"hard": {"before": 0.375, "after": 0.835}}


def head_of(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---")[1])


def test_a_run_leaves_a_card_with_the_command_that_was_typed_first(tmp_path: Path) -> None:
    small = ("updates=1", "batch.prompts=2", "evaluate.limit=1", "threads=1", "checkpoint.every=1")
    assert gatepo("train", "gate=arctan", "tau.pos=9", *small, f"hydra.run.dir={tmp_path}").returncode == 0
    card = (tmp_path / "model" / "README.md").read_text()
    assert head_of(card)["license"] == "apache-2.0"
    assert "name: arctan" in card and "pos: 9.0" in card and "no system prompt" in card
    assert starts(tmp_path)[0]["command"] in card
    assert gatepo("train", f"resume={tmp_path}", "updates=2").returncode == 0
    again = (tmp_path / "model" / "README.md").read_text()
    assert starts(tmp_path)[0]["command"] in again and "2 updates of reinforcement learning" in again


def test_the_prompt_stands_whole_whatever_is_in_it() -> None:
    register()
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        composed = compose("train", ["data=gsm8k", "model.path=Qwen/Qwen2.5-0.5B-Instruct", "model.dtype=float32"])
    settings = config.from_composed(TrainConfig, composed)
    card = model_card.text(settings, "python -m gatepo.train", ACCURACIES)
    assert (REPO / "conf" / "prompt" / "tags.txt").read_text().strip() in card
    assert head_of(card)["base_model"] == "Qwen/Qwen2.5-0.5B-Instruct" and "license" not in head_of(card)
    assert "That of Qwen/Qwen2.5-0.5B-Instruct." in card
    assert "| hard | 37.5% | 83.5% |" in card
    fenced = replace(settings, data=replace(settings.data, system="Use ```python blocks."))
    assert "````text\nUse ```python blocks.\n````" in model_card.text(fenced, "", ACCURACIES)
