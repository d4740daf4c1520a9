"""What is evaluated: a run, one of its checkpoints, or any model; and the settings that go with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gatepo import checkpoint, config
from gatepo.errors import UserError
from gatepo.schema import BatchConfig, EngineConfig, EvaluateConfig, EvaluationConfig, SamplingConfig, TrainConfig

PROMPT_LENGTH, COMPLETION_LENGTH = 1536, 512  # Table 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A policy to sample from."""

    name: str
    settings: TrainConfig  # those parts that sampling and grading read
    trained: TrainConfig | None  # of the run that it is from
    checkpoint: Path | None  # whose weights go over those at ``settings.model.path``
    out: Path  # where its evaluation goes, unless told otherwise

    def identity(self) -> dict[str, str]:
        """What decides a sample of a problem and its grade. Two evaluations that agree on it can share a folder."""
        s = self.settings
        return {
            "model": self.name,
            "model.dtype": s.model.dtype,
            "rollout": s.rollout.name,
            "samples": str(s.batch.num_generations),
            "seed": str(s.seed),
            "data.system": str(s.data.system),
            "sampling.temperature": str(s.sampling.temperature),
            "sampling.max_prompt_length": str(s.sampling.max_prompt_length),
            "sampling.max_completion_length": str(s.sampling.max_completion_length),
            "reward.extraction": s.reward.extraction,
            "reward.format": s.reward.format,
        }


def subject(asked: EvaluationConfig) -> Subject:
    """Find it.

    Raises:
      UserError: ``run`` is no run, or one that has neither finished nor left a checkpoint.
    """
    if asked.run is None:
        settings = _settings(asked, TrainConfig(model=asked.model), PROMPT_LENGTH, COMPLETION_LENGTH)
        path = Path("outputs", "evaluation", asked.model.path.strip("/").replace("/", "--"))
        return Subject(name=asked.model.path, settings=settings, trained=None, checkpoint=None, out=path)
    folder = Path(asked.run)
    if folder.parent.name == checkpoint.FOLDER:
        run, chosen = folder.parent.parent, folder
        out = run / f"evaluation-{folder.name}"
    else:
        run, chosen, out = folder, None, folder / "evaluation"
    if not (run / "config.yaml").is_file():
        raise UserError(f"run must be the folder of a run, got {run}, which has no config.yaml; give outputs/...")
    if chosen is not None:
        if not (chosen / checkpoint.MANIFEST).is_file():
            raise UserError(f"run must be a whole checkpoint, got {chosen}; look into {chosen.parent}")
    elif not (run / "model" / "config.json").is_file():
        raise UserError(f"run must be a finished run, got {run}; give one of {run / checkpoint.FOLDER}/update-...")
    trained = config.read(run / "config.yaml")
    lengths = trained.sampling.max_prompt_length, trained.sampling.max_completion_length
    settings = _settings(asked, trained, *lengths)
    settings = replace(settings, data=replace(asked.data, system=trained.data.system))
    if chosen is None:
        settings = replace(settings, model=replace(trained.model, path=str(run / "model")))
    return Subject(name=str(folder), settings=settings, trained=trained, checkpoint=chosen, out=out)


def _settings(asked: EvaluationConfig, base: TrainConfig, prompt: int, completion: int) -> TrainConfig:
    """The settings of a training run that would sample and grade so."""
    return TrainConfig(
        seed=asked.seed,
        threads=asked.threads,
        engine=EngineConfig(name="torch"),  # nothing is trained: one process, whole weights
        model=base.model,
        data=asked.data,
        reward=asked.reward,
        rollout=asked.rollout,
        evaluate=EvaluateConfig(limit=asked.limit),
        batch=BatchConfig(num_generations=asked.samples),
        sampling=SamplingConfig(
            temperature=asked.sampling.temperature,
            max_prompt_length=asked.sampling.max_prompt_length or prompt,
            max_completion_length=asked.sampling.max_completion_length or completion,
        ),
    )
