"""What is evaluated: a run, one of its checkpoints, or any model; and the settings that go with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gatepo import checkpoint
from gatepo.data.settings import Data
from gatepo.engine.adapter import NoAdapter
from gatepo.engine.base import EngineOption
from gatepo.errors import UserError
from gatepo.evaluate.of_run import folder_of, graded_by, settings_of
from gatepo.manifest import FILE, digest
from gatepo.model import content
from gatepo.rewards.base import RewardOption
from gatepo.rewards.extra import as_option
from gatepo.rollout.base import RolloutOption
from gatepo.run_folder import CHECKPOINTS
from gatepo.schema import EvaluationConfig, Model
from gatepo.settings import name_of
from gatepo.types import Sampling

PROMPT_LENGTH, COMPLETION_LENGTH = 1536, 512  # Table 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A policy to sample from, and how it is sampled and graded."""

    name: str
    model: Model
    data: Data
    limit: int | None  # problems taken from the start of each set
    reward: RewardOption
    rollout: RolloutOption
    sampling: Sampling
    max_prompt_length: int  # tokens
    seed: int
    threads: int | None
    engine: EngineOption | None  # what trained the run that it is from
    checkpoint: Path | None  # whose weights go over those at ``model.path``
    out: Path  # where its evaluation goes by default

    def identity(self) -> dict[str, str]:
        """Say what decides a sample of a problem and its grade. Evaluations that agree on it can share a folder."""
        return {
            "model": self.name,
            "weights": content(self.model.path)
            + ("" if self.checkpoint is None else f" {digest(self.checkpoint / FILE)}"),
            "model.dtype": self.model.dtype,
            "rollout": name_of(self.rollout),
            "samples": str(self.sampling.num_generations),
            "seed": str(self.seed),
            "data.system": str(self.data.system),
            "sampling.temperature": str(self.sampling.temperature),
            "sampling.max_prompt_length": str(self.max_prompt_length),
            "sampling.max_completion_length": str(self.sampling.max_completion_length),
            **self.reward.identity(),
        }


def subject(asked: EvaluationConfig) -> Subject:
    """Find it.

    Raises:
      UserError: ``run`` is no run, or one that has neither finished nor left a checkpoint.
    """
    if asked.run is not None:
        return _of_run(asked, Path(asked.run))
    lengths = asked.sampling.max_prompt_length, asked.sampling.max_completion_length
    return Subject(
        name=asked.model.path,
        model=asked.model,
        data=asked.data,
        limit=asked.limit,
        reward=as_option(asked.reward),
        rollout=asked.rollout,
        sampling=Sampling(
            temperature=asked.sampling.temperature,
            max_completion_length=lengths[1] or COMPLETION_LENGTH,
            num_generations=asked.samples,
        ),
        max_prompt_length=lengths[0] or PROMPT_LENGTH,
        seed=asked.seed,
        threads=asked.threads,
        engine=None,
        checkpoint=None,
        out=Path("outputs", "evaluation", asked.model.path.strip("/").replace("/", "--")),
    )


def _of_run(asked: EvaluationConfig, folder: Path) -> Subject:
    """Take a finished run's model, or a checkpoint's, with the prompt, the lengths and the precision of its run."""
    run, of_checkpoint = folder_of(folder), folder.parent.name == CHECKPOINTS
    trained = settings_of(folder, asked.trust, graded_by(asked))
    if of_checkpoint and not folder.is_dir():
        raise UserError(f"run must be a whole checkpoint, got {folder}; look into {folder.parent}")
    if of_checkpoint:
        checkpoint.check(folder)
    if not of_checkpoint and not (run / "model" / "config.json").is_file():
        raise UserError(f"run must be a finished run, got {run}; give one of {run / CHECKPOINTS}/update-...")
    sampling = replace(
        asked.sampling,
        max_prompt_length=asked.sampling.max_prompt_length or trained.sampling.max_prompt_length,
        max_completion_length=asked.sampling.max_completion_length or trained.sampling.max_completion_length,
    )
    found = subject(replace(asked, run=None, model=trained.model, sampling=sampling))
    return replace(
        found,
        name=str(folder),
        model=trained.model if of_checkpoint else replace(trained.model, path=str(run / "model"), adapter=NoAdapter()),
        data=replace(asked.data, system=trained.data.system),
        engine=trained.engine,
        checkpoint=folder if of_checkpoint else None,
        out=run / (f"evaluation-{folder.name}" if of_checkpoint else "evaluation"),
    )
