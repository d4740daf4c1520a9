"""Sampling and grading what is not finished yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from gatepo import build, checkpoint
from gatepo.data.prompts import evaluation_prompts, prompt_template
from gatepo.engine.adapted import whole_weights
from gatepo.evaluate.generations import FILE, Problem, check_same, finished_problems, problem_of, write
from gatepo.evaluate.loop import sample_and_grade
from gatepo.evaluate.subject import Subject
from gatepo.json_lines import open_to_append
from gatepo.memory import keep_freed_memory
from gatepo.model import check_lengths, load_model, load_tokenizer
from gatepo.rollout.base import RolloutEngine
from gatepo.types import Prompt
from gatepo.world import World


def grade_missing(subject: Subject, out: Path) -> tuple[dict[str, list[Problem]], dict[str, float]]:
    """Sample and grade what is not finished yet.

    Returns: every set's problems in order; and the completions, tokens and seconds that this call took.
    """
    if subject.threads is not None:
        torch.set_num_threads(subject.threads)
    keep_freed_memory()
    template = prompt_template(subject.data, subject.max_prompt_length, load_tokenizer(subject.model.path))
    sets = evaluation_prompts(subject.data, template, subject.limit)
    prompts = [prompt for asked in sets.values() for prompt in asked]
    done = finished_problems(out)
    check_same(done, prompts, out)
    missing = [prompt for prompt in prompts if (prompt.source, prompt.index) not in done]
    effort = {"completions": 0.0, "tokens": 0.0, "seconds": 0.0}
    if missing:
        out.mkdir(parents=True, exist_ok=True)
        with open_to_append(out / FILE) as file, tqdm(total=len(prompts), initial=len(prompts) - len(missing)) as bar:
            bar.unit = "problem"
            for problem, seconds in _graded(subject, missing):
                write(file, problem)
                done[problem.key] = problem
                effort["completions"] += len(problem.samples)
                effort["tokens"] += sum(sample.tokens for sample in problem.samples)
                effort["seconds"] = seconds
                bar.set_description(problem.set, refresh=False)
                bar.update()
    return {name: [done[prompt.source, prompt.index] for prompt in asked] for name, asked in sets.items()}, effort


def _graded(subject: Subject, prompts: list[Prompt]) -> Iterator[tuple[Problem, float]]:
    """Yield problems as they are finished, each with the seconds since sampling began."""
    sampler = _sampler(subject)
    reward = subject.reward.make()
    batches = subject.rollout.BATCHES_AT_ONCE * subject.rollout.max_sequences
    at_once = max(1, batches // subject.sampling.num_generations)  # sampled again after an interruption, at the most
    start = time.perf_counter()
    try:
        for first in range(0, len(prompts), at_once):
            share = prompts[first : first + at_once]
            for group, rewards in sample_and_grade(sampler, reward, share, subject.sampling, subject.seed):
                problem = problem_of(group, rewards, subject.reward.answer)
                yield problem, time.perf_counter() - start
    finally:
        reward.close()
        sampler.close()


def _sampler(subject: Subject) -> RolloutEngine:
    """Make the sampler of the model as it is, or with a checkpoint's weights; it runs in one process."""
    model, option, module = subject.model, subject.rollout, None
    context = subject.max_prompt_length + subject.sampling.max_completion_length
    check_lengths(model.path, context)
    if subject.checkpoint is not None:
        assert subject.engine is not None
        module = load_model(model.path, build.device(), model.attention)
        model.adapter.read_checkpoint(module, subject.engine, subject.checkpoint / checkpoint.ENGINE)
    elif not option.DECODES_WITH_MODULE:
        load_model(model.path, torch.device("cpu"), model.attention, "stored")  # a sampler may not see what is missing
    decoding = module if option.DECODES_WITH_MODULE else None
    made = build.rollout(option, model, decoding, load_tokenizer(model.path), context, subject.seed, World())
    if module is not None:
        made.load_weights(() if module is decoding else whole_weights(module), version=0)
    return made
