"""``README.md`` of an exported model: what it comes from, how it was trained and prompted, and what it can do.

How a model was prompted decides what it does: one that was trained with tags answers nothing without them.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from gatepo import config
from gatepo.measures import ACCURACY, shown
from gatepo.run_folder import ADAPTER, MODEL
from gatepo.schema import TrainConfig

METHOD = ("gate", "tau", "ratio", "aggregation", "advantage", "anchor", "correction", "kl")
SHOWN = (*METHOD, "optimizer", "batch", "sampling", "updates", "seed")


def text(
    settings: TrainConfig, command: str, evaluation: Mapping[str, Mapping[str, float]], measures: str = ACCURACY
) -> str:
    """Write the card, with the head that the hub reads.

    Args:
      settings: of the run.
      command: what was typed.
      evaluation: what was measured by set, ``before`` and ``after``.
      measures: what that is (:mod:`gatepo.measures`).
    """
    embedded = settings.model.path == "tiny"
    base = "gatepo's embedded model" if embedded else settings.model.path
    head = {"library_name": "transformers", "tags": ["reinforcement-learning", "grpo", "gatepo"]}
    head |= {"license": "apache-2.0"} if embedded else {"base_model": base}
    plain, sampling = config.plain(settings), settings.sampling
    chosen = yaml.safe_dump({name: plain[name] for name in SHOWN}, sort_keys=False)
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {base}, trained by gatepo",
        f"{settings.updates} updates of reinforcement learning with verifiable rewards from {base}. The method, axis "
        f"by axis, with a gate in the place of a clip:\n\n{_block(chosen, 'yaml')}",
        *_adapter(settings, base),
        f"## How it was prompted\n\nBy its own chat template, with {_system(settings.data.system)}It was sampled at "
        f"temperature {sampling.temperature:g}, prompts of up to {sampling.max_prompt_length} tokens and completions "
        f"of up to {sampling.max_completion_length}. With another prompt it may do something else.",
        f"## What it can do\n\n{_scores(evaluation, measures, settings)}",
        f"## Licence\n\n{'Apache-2.0.' if embedded else f'That of {base}.'}",
        f"## Again\n\n{_block(command, 'sh')}",
    ]
    return "\n\n".join(parts) + "\n"


def _adapter(settings: TrainConfig, base: str) -> list[str]:
    label = settings.model.adapter.label
    if label is None:
        return []
    return [
        f"What learned is an adapter, {label}, beside the frozen weights of {base}. `{MODEL}/` has its share added to "
        f"them; `{ADAPTER}/` holds it alone, in peft's format: `peft.PeftModel.from_pretrained(base, '{ADAPTER}')`."
    ]


def _block(lines: str, language: str) -> str:
    fence = "```" + "`" * lines.count("```")
    return f"{fence}{language}\n{lines.rstrip()}\n{fence}"


def _system(prompt: str | None) -> str:
    return "no system prompt. " if prompt is None else f"this system prompt:\n\n{_block(prompt, 'text')}\n\n"


def _scores(evaluation: Mapping[str, Mapping[str, float]], measures: str, settings: TrainConfig) -> str:
    rows = [
        f"| {name} | {shown(score['before'], measures)} | {shown(score['after'], measures)} |"
        for name, score in evaluation.items()
    ]
    table = "\n".join([f"| {measures} on | before | after |", "| --- | ---: | ---: |", *rows])
    samples, temperature = settings.evaluate.samples, settings.evaluate.temperature
    sampled = "One sample" if samples == 1 else f"Mean over {samples} samples"
    limit = settings.evaluate.limit
    problems = "each problem" if limit is None else f"each of the first {limit} problems of a set"
    return f"{table}\n\n{sampled} of {problems}, at temperature {temperature:g}."
