"""One training run from a validated config to a folder that holds everything about it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import yaml

from gatepo import build, checkpoint, claim, durable, following, journal, model_card, record, resume, run_folder
from gatepo.data.prompts import PromptStream, evaluation_prompts, fingerprints, prompt_template
from gatepo.errors import Interrupted, UserError
from gatepo.evaluate.during import Evaluations
from gatepo.evaluate.loop import Evaluator
from gatepo.formulas.properties import broken_numbers, broken_properties
from gatepo.loop import Algorithm, Hook, train
from gatepo.measures import shown
from gatepo.memory import keep_freed_memory
from gatepo.model import load_tokenizer
from gatepo.objective import gates
from gatepo.objective.surrogate import Objective
from gatepo.plan import fit, resolve
from gatepo.plan.measured import LeastTime, this_hardware
from gatepo.plan.shape import model_shape
from gatepo.remarks import remarks
from gatepo.report.runs import read_run
from gatepo.rewards.extra import as_option
from gatepo.run_folder import ADAPTER, COMPLETIONS, CONFIG, METRICS, REMARKS, ROWS, SUMMARY, is_finished, marked
from gatepo.schema import TrainConfig
from gatepo.settings import name_of
from gatepo.signals import finishing
from gatepo.state import RunState
from gatepo.tracking.base import Tracker
from gatepo.tracking.files import FileTracker, UpdateLog
from gatepo.tracking.progress import EvaluationProgress, ProgressTracker, on_terminal
from gatepo.tracking.standstill import FirstBatches, warn
from gatepo.tracking.trackers import Trackers
from gatepo.world import World

log = logging.getLogger(__name__)


def run(config: TrainConfig, folder: Path, world: World) -> dict[str, Any]:
    """Train, and leave in ``folder``: config.yaml, run.json, metrics.jsonl, completions.jsonl, model/, summary.json.

    ``summary.json`` is written last: a folder that has one holds a finished run. Returns its content.

    Raises:
      UserError: something in the config cannot work; nothing that looks like a finished run is left.
      TrainingStopped: the loss or the gradient is not finite.
      Interrupted: a process of the run was asked to stop, and a checkpoint is there.
    """
    keep_freed_memory()
    _make_deterministic(config)
    fits = fit.require_fit(config, fit.this_machine(look_at_gpus=True), fit.ranks_here(world.size, os.environ))
    chosen = build.objective(config)  # before the model is loaded: a formula may have to be refused
    if not world.first:
        journal.keep_silent()
    with ExitStack() as claims:
        goes_on = world.broadcast(resume.goes_on(folder, config))
        if world.first:
            claims.enter_context(_claimed(folder, config))
            claims.enter_context(record.kept(folder, config, world))
            claims.enter_context(journal.kept(folder, record.starts(folder)[-1]))
            _remark(config, chosen, fits, run_folder.words(folder))
        world.barrier()
        newest = checkpoint.newest_whole(folder, world) if goes_on else None
        if newest is not None:
            resume.require_same(folder, config, newest)
        world.barrier()  # every rank has read the config before it is written
        if world.first:
            _write_config(folder, config)
            checkpoint.clear(folder, config.checkpoint.keep)
        trackers = claims.enter_context(closing(following.begin(config, folder, world.first)))
        return _run(config, chosen, folder, world, newest, trackers)


def _remark(config: TrainConfig, chosen: Objective, fits: list[str], words: Sequence[str]) -> None:
    """Say what is known of the settings before anything is loaded."""
    for line in (*remarks(config, words), *fits):
        log.warning(line)
    if config.model.adapter.label is not None:
        words = "model.adapter: %s; on a CPU transformers' own layers learn, since the leaner ones know no adapters"
        log.info(words, config.model.adapter.label)
    for note in getattr(chosen.gate, "notes", ()):  # what was derived for a formula, and what is done numerically
        log.info("gate=%s: %s", name_of(chosen.gate), note)
    name, temperatures = name_of(config.gate), (chosen.tau.pos, chosen.tau.neg)
    if name in gates.names():
        numbers = ", ".join(f"({number})" for number in broken_numbers(chosen.gate, *temperatures))
        if numbers:
            log.info("gate=%s is without the paper's properties %s; python -m gatepo.gates says more", name, numbers)
    else:
        for line in broken_properties(chosen.gate, *temperatures):
            log.warning("gate=%s: %s", name, line)


def _run(
    config: TrainConfig, chosen: Objective, folder: Path, world: World, newest: Path | None, trackers: Trackers
) -> dict[str, Any]:
    tokenizer = load_tokenizer(config.model.path)
    model = config.engine.load(config.model.path, build.device(), config.model.attention)
    parameters = sum(parameter.numel() for parameter in model.parameters())  # here they are whole on every engine
    algorithm = build.algorithm(config, chosen, model, tokenizer, world)
    template = prompt_template(config.data, config.sampling.max_prompt_length, tokenizer)
    grading = as_option(config.reward)
    samples, temperature = config.evaluate.samples, config.evaluate.temperature
    sampling = replace(algorithm.sampling, num_generations=samples, temperature=temperature)
    evaluate = Evaluator(
        sets=evaluation_prompts(config.data, template, config.evaluate.limit),
        sampling=sampling,
        reward=algorithm.reward,
        rollout=algorithm.rollout,
        seed=config.seed,
        world=world,
        at_once=max(1, config.rollout.BATCHES_AT_ONCE * config.rollout.max_sequences // samples),
        progress=EvaluationProgress(_say(), on_terminal(), grading.measures) if world.first else None,
    )
    stream = cast(PromptStream, algorithm.take_prompts)
    rows = fingerprints(stream, evaluate.sets, columns=grading.reads_columns)
    if newest is None:
        state = RunState(seed=config.seed, before=evaluate())
        trackers.accuracy(0, state.before)
    else:
        resume.require_same_rows(folder, rows, newest)
        state = _go_on(newest, algorithm)
    evaluations = Evaluations(evaluate, algorithm, config.evaluate.every)
    save = partial(_save, config, folder, algorithm, rows, parameters)
    with finishing():
        try:
            _train(config, folder, algorithm, evaluations, state, save, trackers)
            after, new = evaluations.after(state)
        except Interrupted:
            save(state)
            raise
        if new:
            trackers.accuracy(state.update, after)
        evaluation = {name: {"before": state.before[name], "after": after[name]} for name in after}
        typed = record.starts(folder)[0]["command"] if world.first else ""
        card = model_card.text(config, typed, evaluation, grading.measures) if world.first else ""
        _export(algorithm, tokenizer, card, folder / "model", world, 4 * parameters)
        _export_adapter(config, algorithm, card, folder / ADAPTER, world)
        summary = _finish(folder, state.seconds, grading.measures, evaluation) if world.first else {}
        if world.first:
            journal.note(describe(summary, folder))
            trackers.finish(summary, sorted(folder.glob("*.png")))
            trackers.close()
        world.barrier()
        algorithm.reward.close()
        algorithm.rollout.close()  # last: vLLM takes every process group down with it
        return summary


def describe(summary: dict[str, Any], folder: Path) -> str:
    """Give the end of a run, for a person."""
    lines = [f"{summary['updates']} updates in {summary['seconds']:.0f} s"]
    for name in ("reward", "entropy", "eur"):
        first, last = summary[name]["first"], summary[name]["last"]
        lines.append(f"{name:<8} {first:.3f} at first, {last:.3f} in the last fifth")
    measures = summary["measures"]
    for name, score in summary["evaluation"].items():
        before, after = (shown(score[when], measures) for when in ("before", "after"))
        lines.append(f"{measures} on {name:<12} {before:>6} before, {after:>6} after")
    lines.append(f"figures  {folder / 'reward.png'}, {folder / 'entropy_eur.png'}")
    lines.append(f"model    {folder / 'model'}")
    return "\n".join(lines)


def _train(
    config: TrainConfig,
    folder: Path,
    algorithm: Algorithm,
    evaluations: Evaluations,
    state: RunState,
    save: Callable[[RunState], None],
    chosen: Trackers,
) -> None:
    hooks: list[Hook] = [evaluations, _clock, *_least_time(config)]
    with ExitStack() as files:
        if algorithm.world.first:
            samples = files.enter_context(closing(UpdateLog(folder / COMPLETIONS, state.update)))
            trackers = [files.enter_context(closing(tracker)) for tracker in _trackers(config, folder, state)]
            hooks += [_sample_writer(samples, chosen), *(_forward(tracker) for tracker in (*trackers, chosen))]
        if config.checkpoint.every:  # last: what it holds is written everywhere else already
            hooks.append(_checkpointer(config.checkpoint.every, save))
        train(algorithm, state, hooks)


def _trackers(config: TrainConfig, folder: Path, state: RunState) -> list[Tracker]:
    progress = ProgressTracker(config.updates, config.batch.iterations, state.update, _say(), on_terminal())
    return [FileTracker(folder / METRICS, state.update), progress, FirstBatches()]


def _say() -> Callable[[str], None]:
    """Give what takes lines about progress: train.log, and the output too where no bar is seen."""
    return journal.note if on_terminal() else log.info


def _least_time(config: TrainConfig) -> list[Hook]:
    """Relate measured to least seconds, where hardware and model are such that the least is known."""
    hardware = this_hardware()
    try:
        shape = model_shape(config.model.path)
    except UserError as error:
        log.warning("time/least is not logged: %s", error)
        return []
    if hardware is None:
        log.warning("time/least is not logged: gatepo/plan/hardware.py does not know this GPU")
        return []
    work = resolve.workload(config)
    return [LeastTime(shape, hardware, work, resolve.layout(config, shape, work))]


def _forward(tracker: Tracker) -> Hook:
    return lambda state, metrics: tracker.log(state.update, metrics)


def _sample_writer(file: UpdateLog, chosen: Trackers) -> Hook:
    """Write one group of each rollout batch, to be read by a person."""

    def write(state: RunState, metrics: dict[str, float]) -> None:
        if state.rollout_batch is not None and state.rollout_batch.iteration == 1:
            chosen.samples(state.update, state.rollout_batch.samples)
            for sample in state.rollout_batch.samples:
                file.write({"update": state.update, **sample})

    return write


def _checkpointer(every: int, save: Callable[[RunState], None]) -> Hook:
    """Write a checkpoint at every ``every``-th update."""

    def hook(state: RunState, metrics: dict[str, float]) -> None:
        if state.update % every == 0:
            save(state)

    return hook


def _save(
    config: TrainConfig, folder: Path, algorithm: Algorithm, rows: dict[str, str], parameters: int, state: RunState
) -> None:
    """Write a checkpoint. The lines of its updates are on the disk first: who goes on does not write them again."""
    basis = None
    if algorithm.world.first:
        for name in ROWS:
            durable.flush(folder / name)
        basis = resume.basis(config, rows, folder)
    checkpoint.save(folder, algorithm.engine, state, algorithm.world, config.checkpoint.keep, parameters, basis)


def _clock(state: RunState, metrics: dict[str, float]) -> None:
    state.seconds += metrics["step_time"]


def _go_on(newest: Path, algorithm: Algorithm) -> RunState:
    """Return the state of a whole checkpoint, with the engine put where it was."""
    state = checkpoint.load(newest, algorithm.engine, algorithm.world)
    if state.rollout_batch is not None:
        state.rollout_batch = state.rollout_batch.to(algorithm.device)
    algorithm.rollout.sleep()  # as after every rollout batch
    return state


def _make_deterministic(config: TrainConfig) -> None:
    """Make the same seed give the same metrics to the bit, on the same machine and thread count."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


@contextmanager
def _claimed(folder: Path, config: TrainConfig) -> Iterator[None]:
    """Hold the run's folder against other processes."""
    durable.make_folder(folder)
    with claim.held(folder, "hydra.run.dir" if config.resume in (None, resume.AUTO) else "resume"):
        resume.require_usable(folder, config)
        yield


def _write_config(folder: Path, config: TrainConfig) -> None:
    """Write the resolved config, with what may change in a run that goes on, which is then no longer finished."""
    durable.write_text(folder / CONFIG, marked(yaml.safe_dump(resume.as_written(config), sort_keys=False)))
    if is_finished(folder):
        (folder / SUMMARY).unlink()
        durable.flush(folder)


def _export(algorithm: Algorithm, tokenizer: Any, card: str, path: Path, world: World, needed: int) -> None:
    """Export model, tokenizer and card in transformers' format, under their name only once they are whole."""
    begun = durable.partial_of(path)
    if world.first:
        shutil.rmtree(begun, ignore_errors=True)
    with durable.room_for(path, needed, begun if world.size == 1 else None):
        algorithm.engine.export(begun)
        if world.first:
            tokenizer.save_pretrained(begun)
            (begun / "README.md").write_text(card, encoding="utf-8")
            durable.publish(begun, path)  # in place of that of a run which was cut off behind this and goes on


def _export_adapter(config: TrainConfig, algorithm: Algorithm, card: str, path: Path, world: World) -> None:
    """Write the adapter on its own too, where there is one; the model has its share already."""
    if config.model.adapter.label is None:
        return
    begun = durable.partial_of(path)
    if world.first:
        shutil.rmtree(begun, ignore_errors=True)
    weights = algorithm.engine.adapter_weights()
    config.model.adapter.write(weights, config.model.path, begun if world.first else None)
    if world.first:
        (begun / "README.md").write_text(card, encoding="utf-8")
        durable.publish(begun, path)


def _finish(folder: Path, seconds: float, measures: str, evaluation: dict[str, dict[str, float]]) -> dict[str, Any]:
    done = read_run(folder)
    lines = warn(done.metrics)
    summary = {
        "updates": len(done.metrics),
        "seconds": seconds,
        "reward": done.first_and_last("reward"),
        "entropy": done.first_and_last("entropy"),
        "eur": done.first_and_last(done.eur_key),
        "measures": measures,
        "evaluation": evaluation,
        **({REMARKS: lines} if lines else {}),
    }
    from gatepo.report.figures import draw  # and with it matplotlib, slow to import

    figures = draw([replace(done, summary=summary)], folder)  # finished, by what is written below
    for name in (*ROWS, *(figure.name for figure in figures)):
        durable.flush(folder / name)
    durable.write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary
