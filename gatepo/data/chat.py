"""Chat-style rows: a field that holds a list of messages, each with a role and a content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatepo.errors import UserError

ASSISTANT, SYSTEM, USER = "assistant", "system", "user"
Messages = tuple[Mapping[str, Any], ...]


def is_chat(value: object) -> bool:
    """Say whether a field holds messages and not a text."""
    maps = isinstance(value, list | tuple) and all(isinstance(message, Mapping) for message in value)
    return maps and any("role" in message for message in value)  # type: ignore[attr-defined]


def asked(where: str, field: str, value: Sequence[Mapping[str, Any]]) -> Messages:
    """Give the messages that a model is asked to go on from: without the assistant's last ones.

    Raises:
      UserError: a message is malformed, or none is left.
    """
    messages = [_checked(where, field, message) for message in value]
    while messages and messages[-1]["role"] == ASSISTANT:
        messages.pop()
    if not any(message["role"] != SYSTEM for message in messages):
        raise UserError(f"{where}: {field} must have a user's message before the answer; correct the row")
    return tuple(messages)


def answered(where: str, field: str, value: Sequence[Mapping[str, Any]]) -> str | None:
    """Give the content of the last message where that is the assistant's, or None."""
    last = _checked(where, field, value[-1])
    return str(last["content"]) if last["role"] == ASSISTANT else None


def as_text(messages: Messages) -> str:
    """Join the contents of all messages but the system's: what decontamination compares and a person reads."""
    return "\n\n".join(message["content"] for message in messages if message["role"] != SYSTEM)


def texts_of(messages: Messages) -> list[str]:
    """Give all texts of messages, roles too, from which a fingerprint follows."""
    return [text for message in messages for text in (message["role"], message["content"])]


def _checked(where: str, field: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
        raise UserError(
            f"{where}: {field} must be a text, or messages with role and content, both texts, got a message with "
            f"{', '.join(f'{name}: {type(part).__name__}' for name, part in message.items())}; correct the row"
        )
    return message
