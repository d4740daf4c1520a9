"""From the settings of the data to prompts: an endless stream for training, and the evaluation sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gatepo.data.chat import texts_of
from gatepo.data.fingerprint import Fingerprint
from gatepo.data.settings import Data
from gatepo.data.stream import MixedStream
from gatepo.data.template import PromptTemplate
from gatepo.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptStream:
    """Training prompts by position: rows are read and tokenized when they are taken."""

    def __init__(self, data: Data, template: PromptTemplate, seed: int) -> None:
        self.template = template
        self.rows = data.training_rows()
        self._stream = MixedStream(self.rows, {name: source.weight for name, source in data.sources.items()}, seed)

    def __call__(self, position: int, count: int) -> list[Prompt]:
        rows = self._stream.take(position, count)
        return [self.template(position + i, name, row) for i, (name, row) in enumerate(rows)]

    def fingerprints(self, *, columns: bool = False) -> dict[str, str]:
        """Give what follows from the questions and answers of each source, or from all columns."""
        found = {}
        for name, rows in self.rows.items():
            further = f" {rows.columns_fingerprint()}" if columns else ""
            found[f"data.sources.{name}"] = f"{rows.fingerprint}{further}"
        return found


def prompt_template(data: Data, max_length: int, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """Make the model's chat template with the data's system prompt."""
    return PromptTemplate(tokenizer=tokenizer, system=data.system, max_length=max_length, chat=data.chat)


def evaluation_prompts(data: Data, template: PromptTemplate, limit: int | None) -> dict[str, list[Prompt]]:
    """Read every evaluation set, up to ``limit`` problems of each, as prompts in its file's order."""
    return {
        name: [template(i, name, row) for i, row in enumerate(found[:limit])]
        for name, found in data.evaluation_rows().items()
    }


def fingerprints(
    stream: PromptStream, sets: Mapping[str, Sequence[Prompt]], *, columns: bool = False
) -> dict[str, str]:
    """Give, by key, what follows from all rows that a run reads: those it learns from, and those of its evaluations.

    Args:
      stream: of the training prompts.
      sets: of the evaluation.
      columns: whether the reward reads more of a row than question and answer, so that the run rests on all of it.
    """
    found = stream.fingerprints(columns=columns)
    for name, prompts in sets.items():
        known = Fingerprint()
        for prompt in prompts:
            known.add(prompt.question, prompt.answer)
            if prompt.chat:
                known.add(*texts_of(prompt.messages))
            if columns:
                known.add_record(prompt.columns)
        found[f"data.evaluation.{name}"] = str(known)
    return found
