"""Accuracy on benchmarks, with its uncertainty: ``python -m gatepo.evaluate run=outputs/...``.

    python -m gatepo.evaluate run=outputs/... 'data=[gsm8k_test,math500,aime24,aime25]' samples=4

Samples and grades every problem that is not finished yet, then prints tables and writes evaluation.json. Started again
after an interruption, with the same words, it goes on.
"""

from __future__ import annotations

from gatepo import signals

if __name__ == "__main__":
    signals.listen()  # before what takes seconds to import

from typing import cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gatepo import cli, config
from gatepo.data.words import TAGS
from gatepo.errors import UserError
from gatepo.evaluate.of_run import OWN, with_its_own
from gatepo.preflight import require_reachable
from gatepo.schema import EvaluationConfig


def task(composed: DictConfig) -> None:
    """Validate, and evaluate."""
    asked = with_its_own(config.from_composed(EvaluationConfig, composed), _chosen())
    _require_own_prompt(asked)
    require_reachable("tiny" if asked.run else asked.model.path, asked.data)
    from gatepo.evaluate.command import evaluate  # torch, which --help and bad input need not wait for

    evaluate(asked)


def _chosen() -> list[str]:
    """List the groups of which the command line says something, itself or by an experiment."""
    hydra = HydraConfig.get()
    typed = {word.lstrip("+~").partition("=")[0].partition(".")[0] for word in hydra.overrides.task}
    return [name for name in OWN if name in typed or hydra.runtime.choices[name] != DEFAULTS[name]]


def _require_own_prompt(asked: EvaluationConfig) -> None:
    """Refuse another system prompt than the run's; TAGS is what a file of data brings where nothing was typed."""
    words = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # else TAGS were the prompt itself
    typed = [word for word in cast(list[str], words) if word.startswith("data.system=")]
    if asked.run is not None and typed and (word := typed[-1]) != TAGS:
        raise UserError(
            f"data.system must be what the run was trained with, got {word}; to ask its model otherwise type "
            f"model.path={asked.run}/model {word}"
        )


DEFAULTS = {"data": "tiny", "reward": "paper"}  # of conf/evaluate.yaml


def main() -> None:
    """Entry point of ``python -m gatepo.evaluate`` and of the script ``gatepo-evaluate``."""
    cli.run("evaluate", task)


if __name__ == "__main__":
    main()
