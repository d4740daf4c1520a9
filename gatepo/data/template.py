"""From a question to the tokens that the policy continues."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatepo.data.sources import Row
from gatepo.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class PromptTemplate:
    """The model's own chat template around the question; without one, plain text.

    A prompt that is too long loses its beginning, so that the end of the question and the start of the answer stay.
    The first one is warned about; ``prompts/truncated_ratio`` counts them.
    """

    tokenizer: PreTrainedTokenizerBase
    system: str | None
    max_length: int  # tokens
    _warned: bool = False

    def __call__(self, index: int, source: str, row: Row) -> Prompt:
        """Make the prompt at position ``index`` of the run."""
        ids = self._encode(row.question)
        truncated = len(ids) > self.max_length
        if truncated and not self._warned:
            self._warned = True
            log.warning(
                "a prompt of %s has %d tokens, more than sampling.max_prompt_length=%d, and loses its beginning; "
                "prompts/truncated_ratio counts such prompts",
                *(source, len(ids), self.max_length),
            )
        return Prompt(
            index=index,
            source=source,
            question=row.question,
            answer=row.answer,
            token_ids=tuple(ids[-self.max_length :]),
            truncated=truncated,
            columns=row.columns,
        )

    def _encode(self, question: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            text = f"{self.system}\n\n{question}\n\n" if self.system else f"{question}\n\n"
            return list(self.tokenizer(text)["input_ids"])
        messages = [{"role": "user", "content": question}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
