"""Expressions of plain and LaTeX mathematics: tokens become a tree of tuples, ``(head, *parts)``.

Heads: ``n`` number (value, decimals), ``v`` name, ``w`` words, ``+ * / ^ -`` (one part: the opposite), ``%``, ``°``,
``± ∓``, ``f`` function (its name, arguments), ``call`` of a name (arguments), ``m`` matrix (rows), ``:`` ratio, and the
set operations by their LaTeX names. :mod:`gatepo.rewards.grammar` has the others. Nothing is evaluated here.
"""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction
from typing import Any

from gatepo.rewards.tokens import Token, kind_of
from gatepo.rewards.units import CURRENCIES, NUMBERS, SCALES

Tree = tuple[Any, ...]
DEEPEST = 80  # expressions within each other
MOST_STEPS = 2000  # of reading an answer: what may be read in two ways must not double the work with every bracket
BINDING = (("f", "sum"), ("f", "prod"), ("f", "int"), ("f", "lim"), ("f", "diff"))
ONE = ("n", Fraction(1), None)
SAME_NAME = {"infinity": "infty", "oo": "infty", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
_BINARY = {
    "\\cup": 1,
    "\\cap": 1,
    "\\setminus": 1,
    ":": 2,
    "+": 3,
    "-": 3,
    "±": 3,
    "∓": 3,
    "*": 4,
    "/": 4,
    "\\mod": 4,
    "\\choose": 2,
}
TIMES, SIDE_BY_SIDE, FACTOR = 4, 5, 6
_CLOSE = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
ENCLOSED = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil")}
_MARKS = {"°": "°", "'": "'", "*": "*", "\\star": "*"}
BIG = ("\\sum", "\\prod", "\\int", "\\lim")
_ATOMS = ("\\frac", "\\binom", "\\overline", "\\begin", "\\accent", *ENCLOSED)


class Unreadable(Exception):
    """The tokens are no answer of this grammar."""


def unknowns(tree: Tree) -> bool:
    """Say whether a tree has names of unknowns; those that a sum or an integral binds are none."""
    if tree[0] == "v":
        return tree[1] not in ("pi", "infty", "e", "i")
    return tree[:2] not in BINDING and (tree[0] == "call" or any(map(unknowns, parts(tree))))


def parts(tree: Tree) -> list[Tree]:
    """List the trees within a tree."""
    return [part for part in tree[1:] if isinstance(part, tuple) and part]


def depth(tree: Tree) -> int:
    """Count how many trees stand within each other; without recursion, for it may be many."""
    found, level = 0, [tree]
    while level:
        found, level = found + 1, [part for one in level for part in parts(one)]
    return found


def number(text: str) -> Tree:
    """Give the tree of a number's digits."""
    mantissa, _, exponent = text.lower().partition("e")
    places = len(mantissa.partition(".")[2]) - int(exponent or 0) if "." in mantissa or exponent else None
    return ("n", Fraction(mantissa.rstrip(".")) * Fraction(10) ** int(exponent or 0), places)


class Expressions:
    """Reads tokens from left to right; every method takes what it names and stops behind it."""

    def __init__(self, tokens: list[Token], steps: list[int] | None = None) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0
        self.steps = [0] if steps is None else steps  # shared with those who read a part
        self.bars, self.argument, self.differential = 0, 0, 0  # open |, arguments without brackets, integrands
        self.condition = False  # before the colon of a set's condition

    @abstractmethod
    def listed(self) -> Tree:
        """Read what brackets hold."""

    @abstractmethod
    def function(self, name: str) -> Tree:
        """Read a function with its arguments."""

    @abstractmethod
    def command(self) -> Tree:
        """Read what a LaTeX command stands before."""

    # --- tokens ---

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

    # --- operators ---

    def parse(self, least: int = 0) -> Tree:
        """Read an expression whose operators bind at least so tightly."""
        self._deeper()
        left = self._prefix(least)
        while True:
            sign = ":" if self.peek() == "to" else self.peek()
            strength = _BINARY.get(sign, 0)
            if strength and strength >= least and not (self.condition and sign == ":"):
                self.at += 1
                plain = sign == "/" and left[0] == "n" and self.kind() == "number"  # 1/2 x is x/2, but a/2x is a/(2x)
                left = _joined(sign, left, self.parse(FACTOR if plain else strength + 1))
            elif not strength and least <= SIDE_BY_SIDE and self.starts_factor(left):
                left = _joined("*", left, self.parse(FACTOR))
            else:
                break
        self.depth -= 1
        return left

    def _prefix(self, least: int) -> Tree:
        signs = []
        while sign := self.take("-", "+", "±", "∓"):
            signs.append(sign)
        tree = self.parse(max(least, TIMES)) if signs else self._postfix(self.atom())
        for sign in reversed(signs):
            tree = tree if sign == "+" else (sign, tree)
        return tree

    def starts_factor(self, left: Tree) -> bool:
        """Say whether the next token multiplies what stands before it."""
        token, kind = self._token(), self.kind()
        if token is None or left[0] in ("w", "u") or (self.differential and self.at_differential()):
            return False
        if kind == "number":
            before = self.tokens[self.at - 1].text
            return before in (")", "}", "]", "!") or (left[0] != "n" and token.spaced and not self.argument)
        if kind in ("letters", "name"):
            return token.text != "to"
        if kind == "function" or token.text in ("(", *BIG):
            return not self.argument
        return token.text in ("{", "[", *_ATOMS) or (token.text == "|" and self.bars == 0)

    def at_differential(self) -> bool:
        """Say whether dx comes, and cut x dx out of xdx."""
        token, text = self._token(), self.peek()
        if token is None or token.kind not in ("word", "text") or len(text) > 4:
            return False
        if len(text) > 2 and text[-2] == "d" and self.kind() == "letters":
            self.cut(len(text) - 2)
            return False
        return text[0] == "d" and (len(text) == 2 or (text == "d" and self.kind(1) in ("letters", "name")))

    def _postfix(self, tree: Tree) -> Tree:
        while True:
            if self.peek() in ("^", "°", "'") and (mark := self.raised()):
                if mark == "°":
                    scale = self.take("C", "F")
                    tree = ("u", tree, ((f"°{scale}", 1),), None) if scale else ("°", tree)
                elif mark in "+-":
                    tree = ("f", "side", tree, ("w", mark))
                else:
                    tree = ("v", tree[1] + mark) if tree[0] == "v" else ("f", "prime", tree)
            elif self.take("^"):
                tree = ("^", tree, self.exponent())
            elif self.take("!"):
                tree = ("f", "factorial", tree)
            elif self.take("%"):
                tree = ("%", tree)
            elif sign := self.take(*CURRENCIES):
                tree = ("u", tree, ((CURRENCIES[sign], 1),), None)
            else:
                return tree

    def raised(self) -> str:
        """Take a mark that is no power: ', °, ^\\circ, ^{\\prime}, ^*."""
        if self.peek() != "^":
            return self.take("°", "'")
        braced = self.peek(1) == "{" and self.peek(3) == "}"
        mark = _MARKS.get(self.peek(2 if braced else 1), "")
        if self.peek(2) == "}" and not braced and self.peek(1) in ("+", "-"):  # of a limit: x \to 0^+
            mark = self.peek(1)
        self.at += (4 if braced else 2) if mark else 0
        return mark

    def exponent(self, chained: bool = True) -> Tree:
        """Read a power: a group, or one atom with its sign."""
        self._deeper()
        sign = self.take("-", "+")
        tree = self.atom()
        if chained and self.peek() == "^" and not self.raised():
            self.at += 1
            tree = ("^", tree, self.exponent())
        self.depth -= 1
        return ("-", tree) if sign == "-" else tree

    # --- atoms ---

    def atom(self) -> Tree:
        """Read what operators stand between."""
        self._deeper()
        kind, text = self.kind(), self.peek()
        if kind == "number":
            tree = self.number()
        elif text in CURRENCIES:
            self.at += 1
            tree = ("u", self._prefix(FACTOR), ((CURRENCIES[text], 1),), None)
        elif text in _CLOSE:
            tree = self.bracket()
        elif text == "|":
            self.at, self.bars = self.at + 1, self.bars + 1
            inside = self.parse()
            self._need("|")
            self.bars -= 1
            tree = ("f", "det" if inside[0] == "m" else "abs", inside)
        elif kind == "function" and text != "\\binom":
            tree = self.function(text.removeprefix("\\"))
        elif kind == "name" or (kind == "letters" and not self.is_lone_word()):
            tree = self.letter()
        elif kind in ("letters", "noun", "unit"):
            tree = self.words()
        else:
            tree = self.command()
        self.depth -= 1
        return tree

    def number(self) -> Tree:
        """Read a number, in words of a scale, recurring, in a base, or mixed."""
        text = self.tokens[self.at].text
        self.at += 1
        tree = number(text)
        if self.peek().lower() in SCALES:
            self.at += 1
            return ("n", tree[1] * SCALES[self.tokens[self.at - 1].text.lower()], None)
        if self.peek() in ("\\overline", "\\accent") and "." in text:
            self.at += 1
            period, places = self.group_text(), len(text.partition(".")[2])
            if not period.isdigit():
                raise Unreadable
            return ("n", tree[1] + Fraction(int(period), (10 ** len(period) - 1) * 10**places), None)
        if self.take("_"):
            base = self.group_text()
            return ("f", "base", tree, ("w", str(NUMBERS.get(base, base))))
        return self.mixed(tree) if text.isdigit() else tree

    def mixed(self, whole: Tree) -> Tree:
        """Read the proper fraction of a mixed number, 2\\frac{1}{2} or 2 1/2."""
        start, top, bottom = self.at, whole, ONE
        if self.take("\\frac"):
            top, bottom = self.argument_of(), self.argument_of()
        elif self.kind() == "number" and self.tokens[start].spaced and self.peek(1) == "/" and self.kind(2) == "number":
            top, bottom = number(self.peek()), number(self.peek(2))
            self.at += 3
        if self.at > start and top[::2] == bottom[::2] == ("n", None) and 0 < top[1] < bottom[1]:
            return ("n", whole[1] + top[1] / bottom[1], None)
        self.at = start
        return whole

    def bracket(self) -> Tree:
        """Read a bracketed item, list, set, pair or interval."""
        opening = self.peek()
        self.at += 1
        saved, (self.bars, self.argument) = (self.bars, self.argument), (0, 0)
        if opening == "\\{" and self.take("\\}"):
            tree: Tree = ("v", "emptyset")
        elif opening == "\\{" and (condition := self.set_builder()):
            tree = condition
        else:
            inside = self.listed()
            items = inside[3:] if inside[:3] == ("l", "", "") else (inside,)
            closing = self.take(")", "]") if opening in "([" else self.take(_CLOSE[opening])
            if not closing:
                raise Unreadable
            alone = len(items) == 1 and closing == _CLOSE[opening] and opening != "\\{"
            tree = inside if opening == "{" or alone else ("l", opening[-1], closing[-1], *items)
        self.bars, self.argument = saved
        return tree

    def set_builder(self) -> Tree | None:
        """Read the condition of \\{x | x > 2\\}."""
        start = self.at
        self.bars, self.condition = 1, True
        try:
            self.listed()
        except Unreadable:
            self.at = start
        self.bars, self.condition = 0, False
        tree = self.listed() if self.at > start and self.take("|", ":") else None
        if tree is None or not self.take("\\}"):
            self.at, tree = start, None
        return tree

    def is_lone_word(self) -> bool:
        """Say whether letters with nothing beside them are a word, such as yes."""
        alone = self.peek(1) in ("", ",", ";") or self.kind(1) in ("join", "noun")
        alone = alone and (self.at == 0 or self.peek(-1) in (",", ";") or self.kind(-1) == "join")
        text = self.peek().lower()
        return alone and (text == "no" or (len(text) > 2 and any(c in "aeiou" for c in text)))

    def words(self) -> Tree:
        """Read words that stand for themselves, or name a value."""
        start = self.at
        while self.at < len(self.tokens) and self.tokens[self.at].kind in ("word", "text") and self.kind() != "join":
            self.at += 1
        name = " ".join(token.text for token in self.tokens[start : self.at])
        if self.peek() == "(" and not self.tokens[self.at].spaced:
            return self._called(name, True)
        return ("n", Fraction(NUMBERS[name.lower()]), None) if name.lower() in NUMBERS else ("w", name)

    def letter(self) -> Tree:
        """Read a name with its subscript, and its arguments where it is a function's."""
        if self.kind() == "letters" and len(self.peek()) > 1:  # a product: take its first letter
            self.cut(1)
        text = self.peek().removeprefix("\\")
        self.at += 1
        name, index = SAME_NAME.get(text, text), self._token()
        if len(name) == 1 and index is not None and index.text.isdigit() and not index.spaced:
            self.at += 1
            name = f"{name}_{index.text}"  # x1
        if self.take("_"):
            name = f"{name}_{self.group_text()}"
        return self._called(name)

    def _called(self, name: str, function: bool = False) -> Tree:
        while self.take("'"):
            name += "'"
        if name[0] in "fghFGH" and [self.peek(n) for n in range(6)] == ["^", "{", "-", "1", "}", "("]:
            self.at, name = self.at + 5, name + "^-1"
        if self.peek() != "(" or not (function or name[0] in "fghFGHPC"):
            return ("v", name)
        self.at, saved, self.bars = self.at + 1, self.bars, 1
        arguments = [self.listed()]
        if self.take("|"):
            arguments.append(self.listed())
        self._need(")")
        self.bars = saved
        if name == "C" and len(arguments[0]) == 5:
            return ("f", "binom", *arguments[0][3:])
        return ("call", name, *arguments)

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

    def argument_of(self) -> Tree:
        """Read an argument of a LaTeX command: a group, or one digit or letter."""
        if self.kind() == "number" and len(self.peek()) > 1 and self.peek().isdigit():
            self.cut(1)
            self.at += 1
            return number(self.tokens[self.at - 1].text)
        return self.atom()


def _joined(sign: str, left: Tree, right: Tree) -> Tree:
    if sign == "-":
        return ("+", left, ("-", right))
    if sign in ("\\mod", "\\choose"):
        return ("f", "mod" if sign == "\\mod" else "binom", left, right)
    return (*left, right) if sign in ("+", "*", ":", "\\cup", "\\cap") and left[0] == sign else (sign, left, right)
