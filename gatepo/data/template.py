"""From a question to the tokens that the policy continues."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatepo.data.chat import SYSTEM, USER, Messages
from gatepo.data.sources import Row
from gatepo.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class PromptTemplate:
    """The model's own chat template around the question, or a row's messages; without one, plain text.

    A row with a system message of its own keeps it in the place of ``system``.

    A prompt that is too long loses its beginning, so that the end of the question and the start of the answer stay.
    The first one is warned about; ``prompts/truncated_ratio`` counts them.
    """

    tokenizer: PreTrainedTokenizerBase
    system: str | None
    max_length: int  # tokens
    chat: bool = False  # whether text questions count as a conversation for rewards
    _warned: bool = False

    def __call__(self, index: int, source: str, row: Row) -> Prompt:
        """Make the prompt at position ``index`` of the run."""
        messages = self._messages(row)
        ids = self._encode(messages)
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
            messages=messages,
            chat=self.chat or bool(row.messages),
        )

    def _messages(self, row: Row) -> Messages:
        messages = row.messages or ({"role": USER, "content": row.question},)
        if self.system and all(message["role"] != SYSTEM for message in messages):
            return ({"role": SYSTEM, "content": self.system}, *messages)
        return messages

    def _encode(self, messages: Messages) -> list[int]:
        if self.tokenizer.chat_template is None:
            text = "".join(f"{message['content']}\n\n" for message in messages)
            return list(self.tokenizer(text)["input_ids"])
        asked = [dict(message) for message in messages]
        text = self.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
