"""What a run reads: the mix of training prompts, and the evaluation sets."""

from __future__ import annotations

import glob
import logging
from pathlib import Path

from gatepo.data.decontamination import HeldOut
from gatepo.data.sources import ANSWER, QUESTION, Rows, SourceOption, open_rows
from gatepo.errors import UserError
from gatepo.settings import option, setting

log = logging.getLogger(__name__)


@option("data", "own", named=False)
class Data:
    """Sources by name, and where they are read from."""

    path: str | None = setting("A file (JSONL, .csv, .parquet) or folder; null: hub or embedded files.", default=None)
    question: str = setting("This field holds the question, with data=FILE, jsonl, csv or parquet.", default=QUESTION)
    answer: str | None = setting("This field holds the gold answer there; null: there is none.", default=ANSWER)
    answer_marker: str | None = setting("The gold answer follows the last of this text there.", default=None)
    solution: str | None = setting("The last \\boxed of this field stands in for a missing answer there.", default=None)
    chat: bool = setting("Rewards as TRL's get text questions as messages too, as in a conversation.", default=False)
    system: str | None = setting(
        "The system prompt; data.system_file=FILE reads it, ${prompt:NAME} is conf/prompt/NAME.txt.", default=None
    )
    decontaminate: bool = setting("Training rows that evaluation sets hold are left out.", default=True)
    sources: dict[str, SourceOption] = setting("Training prompts, by name.", default_factory=dict, each="source")
    evaluation: dict[str, SourceOption] = setting("Evaluation sets, by name.", default_factory=dict, each="source")

    def training_rows(self) -> dict[str, Rows]:
        """Open the training sources, without what the evaluation sets hold, and log what was left out."""
        paths = {
            name: self.paths("sources", name) for name in self.sources
        }  # a missing file is said before anything is opened
        held = self.evaluation_rows() if self.decontaminate else {}
        held_out = HeldOut(row.question for rows in held.values() for row in rows)
        rows = {
            name: open_rows(name, source, paths[name], keep=lambda row: not held_out.holds(row.question))
            for name, source in self.sources.items()
        }
        for name, found in rows.items():
            log.info("data source %s: %s", name, found.describe())
        for found in (*rows.values(), *held.values()):
            if doubt := found.doubt():
                log.warning("%s", doubt)
        log.info("decontamination: %s", self._decontaminated(sum(found.dropped for found in rows.values())))
        return rows

    def evaluation_rows(self) -> dict[str, Rows]:
        """Open the evaluation sets."""
        return {
            name: open_rows(name, source, self.paths("evaluation", name)) for name, source in self.evaluation.items()
        }

    def paths(self, part: str, name: str) -> tuple[str, ...] | None:
        """Find the files that ``path`` holds for a source; None without such a path.

        Args:
          part: ``sources`` or ``evaluation``.
          name: of the source in that part.
        Raises:
          UserError: ``path`` is one file for several sources, or a folder without a file of this one.
        """
        entry = getattr(self, part)[name]
        pattern = getattr(entry, "file", None)
        if self.path is None or getattr(entry, "path", None) is not None:
            return None
        key = f"data.{part}.{name}.path"
        if not Path(self.path).is_dir():
            siblings = len(self.sources) + (len(self.evaluation) if part == "evaluation" else 0)
            if siblings != 1:
                raise UserError(
                    f"data.path must be a folder for {siblings} sources, got {self.path}; "
                    f"give each its own with {key}=FILE.jsonl"
                )
            return (self.path,)
        pattern = pattern or f"{name}*.jsonl"
        found = tuple(sorted(glob.glob(str(Path(self.path) / pattern))))
        if not found:
            raise UserError(f"data.path={self.path} must hold {pattern} for the source {name}; give {key}=FILE.jsonl")
        return found

    def _decontaminated(self, dropped: int) -> str:
        if not self.decontaminate:
            return "none (data.decontaminate=false)"
        if not self.evaluation:
            return "none, data.evaluation names no set"
        return f"{dropped} training rows left out that {', '.join(self.evaluation)} hold"
