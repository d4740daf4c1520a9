"""The response template: its tags, its format reward (eq. 10), and the answer inside it (eq. 11).

Everything here runs in time linear in the text and compares strings only. A tag counts whether the tokenizer has a
special token for it or spells it with several: completions are decoded with their special tokens.
"""

from __future__ import annotations

import re
import unicodedata

THINK, THINK_END, ANSWER, ANSWER_END = "<think>", "</think>", "<answer>", "</answer>"
TAGS = (THINK, THINK_END, ANSWER, ANSWER_END)
CONTROL = re.compile(
    r"<[|\uff5c][^<>|\uff5c\s]{1,40}[|\uff5c]>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk)>"
)
"""What chat templates mark turns with (Qwen, Llama, DeepSeek, Gemma, Mistral): a completion that writes one plays a
role that is not its own."""


_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and a symbol by their category, and nothing on the page


def format_reward(completion: str) -> float:
    """Say how far a completion follows ``<think> text </think> <answer> text </answer>`` (eq. 10).

    1 when it is that and nothing else: each tag once, in order, white space around the blocks allowed, no block
    empty, no token of the chat template in it. 0.5 when it begins with ``<think>`` and ends with ``</answer>``, 0.25
    when it does one of the two, else 0. ``docs/format_reward.md`` has the cases.
    """
    text = completion.strip()
    begins, ends = text.startswith(THINK), text.endswith(ANSWER_END)
    if begins and ends and _blocks_are_whole(text):
        return 1.0
    return 0.25 * (begins + ends)


def strict_format_reward(completion: str) -> float:
    """Give all or nothing: 1 where :func:`format_reward` is 1, else 0."""
    return float(format_reward(completion) == 1.0)


def answer_text(completion: str) -> str | None:
    """Give the text between ``<answer>`` and ``</answer>``, or None where there is no single answer (eq. 11).

    An answer counts when its two tags stand once each and in order, something stands between them, and the block is
    not part of the thinking. The paper does not say what two answers are worth; here they are worth none, so that
    listing guesses does not pay.
    """
    if completion.count(ANSWER) != 1 or completion.count(ANSWER_END) != 1:
        return None
    start, end = completion.index(ANSWER) + len(ANSWER), completion.index(ANSWER_END)
    body = completion[start:end].strip() if start <= end else ""
    inside_thinking = THINK_END in completion[start:] or THINK in completion[start:]
    return None if not body or inside_thinking else body


def _blocks_are_whole(text: str) -> bool:
    """Say whether a text from <think> to </answer> has its blocks complete, in order, and filled."""
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    thought_end, answer = text.index(THINK_END), text.index(ANSWER)
    if thought_end > answer:
        return False
    thought = text[len(THINK) : thought_end]
    between = text[thought_end + len(THINK_END) : answer]
    body = text[answer + len(ANSWER) : -len(ANSWER_END)]
    return _filled(thought) and not between.strip() and _filled(body) and CONTROL.search(text) is None


def _filled(block: str) -> bool:
    """Say whether a reader sees anything: zero-width characters, marks on nothing and blanks fill no block."""
    return any(unicodedata.category(character)[0] not in "CMZ" and character not in _BLANKS for character in block)
