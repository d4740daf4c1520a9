"""Tokens that are taken from left to right, in a bounded number of steps."""

from __future__ import annotations

from gatepo.rewards.tokens import Token, kind_of

DEEPEST = 80  # expressions within each other
MOST_STEPS = 2000  # of reading an answer: what may be read in two ways must not double the work with every bracket


class Unreadable(Exception):
    """The tokens are no answer of this grammar."""


class Reader:
    """Takes tokens, and looks ahead."""

    def __init__(self, tokens: list[Token], steps: list[int] | None = None) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0
        self.steps = [0] if steps is None else steps  # shared with those who read a part
        self.bars, self.argument, self.differential = 0, 0, 0  # open |, arguments without brackets, integrands
        self.condition = False  # before the colon of a set's condition

    def _token(self, ahead: int = 0) -> Token | None:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def peek(self, ahead: int = 0) -> str:
        """Give the text of a token to come, "" behind the last."""
        return self.tokens[self.at + ahead].text if self.at + ahead < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        """Say what a token to come is; see kind_of."""
        return kind_of(self.tokens, self.at + ahead) if self.at + ahead < len(self.tokens) else ""

    def take(self, *texts: str) -> str:
        """Take the next token if it is one of these; "" if it is not."""
        text = self.peek()
        self.at += bool(text) and text in texts
        return text if text in texts else ""

    def _need(self, text: str) -> None:
        if not self.take(text):
            raise Unreadable

    def cut(self, size: int) -> None:
        """Cut the next token in two."""
        token = self.tokens[self.at]
        rest = token._replace(text=token.text[size:], spaced=False)
        self.tokens[self.at : self.at + 1] = [token._replace(text=token.text[:size]), rest]

    def _deeper(self) -> None:
        self.depth += 1
        self.steps[0] += 1
        if self.depth > DEEPEST or self.steps[0] > MOST_STEPS:
            raise Unreadable

    def group_text(self) -> str:
        """Take a group or a token, and give its text without spaces or braces."""
        depth, pieces = 0, []
        while True:
            token = self._token()
            if token is None:
                raise Unreadable
            self.at += 1
            depth += (token.text in ("{", "(")) - (token.text in ("}", ")"))
            pieces.append("" if token.text in "{}()" else token.text.removeprefix("\\"))
            if depth <= 0:
                return "".join(pieces)
