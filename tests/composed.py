"""Configs as the command line composes them, and the parts that are built from them."""

from command import REPO
from hydra import compose, initialize_config_dir

from gatepo import build, config
from gatepo.loop import Algorithm
from gatepo.model import load_tokenizer
from gatepo.presets import CLAIMS, register, yaml_dir
from gatepo.schema import EvaluationConfig, TrainConfig
from gatepo.world import World

register()

EVALUATIONS = ("paper/table1",)  # experiments of gatepo.evaluate


def files(folder: str) -> list[str]:
    """The YAML files of a folder of the checkout, as they are named on the command line."""
    found = [f for f in (REPO / folder).rglob("*.yaml") if f.name != CLAIMS]
    return sorted(str(f.relative_to(REPO / folder).with_suffix("")) for f in found)


def typed(*overrides: str) -> TrainConfig:
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        return config.from_composed(TrainConfig, compose("train", list(overrides)))


def evaluation_settings(*overrides: str) -> EvaluationConfig:
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        return config.from_composed(EvaluationConfig, compose("evaluate", list(overrides)))


def algorithm(settings: TrainConfig) -> Algorithm:
    """On one device, with a model of its own."""
    model = settings.engine.load(settings.model.path, build.device(), settings.model.attention)
    return build.algorithm(settings, build.objective(settings), model, load_tokenizer(settings.model.path), World())
