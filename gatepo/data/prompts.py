"""From the settings of the data to prompts: an endless stream for training, and the evaluation sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def prompt_template(data: Data, max_length: int, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    """Make the model's chat template with the data's system prompt."""
    return PromptTemplate(tokenizer=tokenizer, system=data.system, max_length=max_length)


def evaluation_prompts(data: Data, template: PromptTemplate, limit: int | None) -> dict[str, list[Prompt]]:
    """Read every evaluation set, up to ``limit`` problems of each, as prompts in its file's order."""
    return {
        name: [template(i, name, row) for i, row in enumerate(found[:limit])]
        for name, found in data.evaluation_rows().items()
    }
