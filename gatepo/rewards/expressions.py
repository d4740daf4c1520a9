"""Expressions of plain and LaTeX mathematics: tokens become a tree; nothing is evaluated here."""

from __future__ import annotations

import re
from abc import abstractmethod
from fractions import Fraction

from gatepo.rewards.reader import Reader, Unreadable
from gatepo.rewards.tokens import ANGLES
from gatepo.rewards.trees import LEAST_PLACES, ONE, Tree, names_in, number
from gatepo.rewards.units import CURRENCIES, NUMBERS, SCALES, UNITS, spelled

SAME_NAME = {
    **ANGLES,
    **dict.fromkeys(("infinity", "oo", "inf"), "infty"),
    **{"lg": "log", "Abs": "abs", "sign": "sgn", "binomial": "binom"},
}
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
_REPEATED = re.compile(r"(?P<start>\d*\.\d*?)(?:(?P<two>\d+?)(?P=two){2,}|(?P<three>\d{3,}?)(?P=three))", re.ASCII)
_MONEY = ("USD", "EUR", "Rs", "Rs.")
_SIGNED = {"+": "+", ">0": "+", "-": "-", "<0": "-", "*": "*", "≥0": "0"}
_MARKS = {"°": "°", "'": "'", "*": "*", "\\star": "*"}
BIG = ("\\sum", "\\prod", "\\int", "\\lim")
_ATOMS = ("\\frac", "\\binom", "\\overline", "\\begin", "\\accent", *ENCLOSED)


class Expressions(Reader):
    """Reads tokens from left to right; every method takes what it names and stops behind it."""

    @abstractmethod
    def listed(self) -> Tree:
        """Read what brackets hold."""

    @abstractmethod
    def function(self, name: str) -> Tree:
        """Read a function with its arguments."""

    @abstractmethod
    def command(self) -> Tree:
        """Read what a LaTeX command stands before."""

    # --- operators ---

    def parse(self, least: int = 0) -> Tree:
        """Read an expression whose operators bind at least so tightly."""
        self._deeper()
        left = self._prefix(least)
        while True:
            sign = self._operator(left)
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

    def _operator(self, left: Tree) -> str:
        """Give the sign to come; a word may stand for one."""
        text = self.peek()
        joins_sets = text == "union" or (text == "U" and left[0] in ("l", "\\cup"))
        return "\\cup" if joins_sets else ":" if text == "to" else text

    def _prefix(self, least: int) -> Tree:
        signs = []
        while sign := self.take("-", "+", "±", "∓", *(("minus", "negative") if self.kind(1) else ())):
            signs.append("-" if sign in ("minus", "negative") else sign)
        tree = self.parse(max(least, TIMES)) if signs else self._postfix(self.atom())
        for sign in reversed(signs):
            if sign == "-" and tree[:2] == ("f", "mod"):  # -1 mod 2 is (-1) mod 2
                tree = (*tree[:2], (sign, tree[2]), *tree[3:])
            elif sign != "+":  # -$5 is a quantity as $5 is
                tree = ("u", (sign, tree[1]), *tree[2:3], None) if tree[0] == "u" else (sign, tree)
        return tree

    def starts_factor(self, left: Tree) -> bool:
        """Say whether the next token multiplies what stands before it."""
        token, kind = self._token(), self.kind()
        if token is None or left[0] in ("w", "u") or (self.differential and self.at_differential()):
            return False
        if kind == "number":
            before = self.tokens[self.at - 1].text
            return (
                before in (")", "}", "]", "!")
                or left[:2] == ("f", "root")
                or (left[0] != "n" and token.spaced and not self.argument)
            )
        if kind in ("letters", "name"):
            return token.text != "to"
        if kind == "function" or token.text in ("(", *BIG):
            return not self.argument and self.peek(1) != "\\mod"
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
            elif tree[0] in ("m", "l") and self._is_transposed():
                rows = [row[3:] for row in tree[1:]] if tree[0] == "m" else [tree[3:]]
                tree = ("m", *(("l", "", "", *column) for column in zip(*rows, strict=True)))
            elif self.take("^"):
                tree = ("^", tree, self.exponent())
            elif self.take("!"):
                tree = ("f", "factorial2" if self.take("!") else "factorial", tree)
            elif self.take("%"):
                tree = ("%", tree)
            elif sign := self.take(*CURRENCIES):
                tree = ("u", tree, ((CURRENCIES[sign], 1),), None)
            else:
                return tree

    def _is_transposed(self) -> bool:
        start = self.at
        found = bool(self.take("^")) and self.group_text() in ("T", "top", "t")
        self.at = self.at if found else start
        return found

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
        if self.kind() == "number":  # x^1\frac{1}{2} has no mixed number in it
            self.at += 1
            tree = number(self.peek(-1))
        else:
            tree = self.atom()
        if tree[:3] == ("l", "{", "}") and len(tree) == 4:
            tree = tree[3]
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
        elif text in CURRENCIES or (text in _MONEY and self.kind(1) == "number"):
            self.at += 1
            tree = ("u", self._prefix(FACTOR), ((CURRENCIES.get(text) or UNITS[text], 1),), None)
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
            return _recurring(text, self.group_text())
        if "." in text and self.take("\u2026"):
            found = _REPEATED.fullmatch(text)
            if found is None and len(text.partition(".")[2]) < LEAST_PLACES:
                raise Unreadable
            return tree if found is None else _recurring(found["start"], found["two"] or found["three"])
        if self.take("_"):
            base = self.group_text()
            return ("f", "base", ("w", text.lstrip("0")), ("w", str(NUMBERS.get(base, base))))
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
            tree = inside if alone else ("l", opening[-1], closing[-1], *items)
        self.bars, self.argument = saved
        return tree

    def set_builder(self) -> Tree | None:
        """Read the condition of \\{x | x > 2\\}."""
        start = self.at
        self.bars, self.condition = 1, True
        left: Tree = ()
        try:
            left = self.listed()
        except Unreadable:
            self.at = start
        self.bars, self.condition = 0, False
        tree = self.listed() if self.at > start and self.take("|", ":") else None
        if tree is None or not self.take("\\}"):
            self.at = start
            return None
        if tree[:3] == ("l", "", ""):
            tree = ("&", *tree[3:])
        elif tree[0] == "rel" and left[0] == "v" and tree[1] != "∈":
            tree = ("&", tree)
        if left[:2] == ("rel", "∈") and left[2][0] == "v":
            return tree if left[3] == ("v", "bbR") else ("&", left, tree)
        return tree if left[0] == "v" else all_of(left, tree) or ("f", "where", left, tree)

    def is_lone_word(self) -> bool:
        """Say whether letters with nothing beside them are a word, such as yes."""
        alone = self.peek(1) in ("", ",", ";") or self.kind(1) in ("join", "noun")
        alone = alone and (self.at == 0 or self.peek(-1) in (",", ";") or self.kind(-1) == "join")
        text = self.peek().lower()
        if text in NUMBERS and self.peek(1) == "-":  # one-half
            return True
        return alone and (text == "no" or (len(text) > 2 and any(c in "aeiou" for c in text)))

    def words(self) -> Tree:
        """Read words that stand for themselves, or name a value."""
        start = self.at
        value, taken = spelled([token.text.lower() for token in self.tokens[start : start + 12]])
        if taken:
            self.at += taken
            return ("n", value, None)
        while self.at < len(self.tokens) and self.tokens[self.at].kind in ("word", "text") and self.kind() != "join":
            self.at += 1
        name = " ".join(token.text for token in self.tokens[start : self.at])
        if self.peek() == "(" and self.at == start + 1 and not self.tokens[self.at].spaced:
            return self._called(name, True)
        return ("w", name)

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
        if name.startswith("bb") and self.peek() in ("^", "_"):  # positive numbers
            start, self.at = self.at, self.at + 1
            mark = _SIGNED.get(self.group_text(), "")
            self.at, name = self.at if mark else start, name + mark
        return self._called(name)

    def _called(self, name: str, function: bool = False) -> Tree:
        while self.take("'"):
            name += "'"
        if name[0] in "fghFGH" and [self.peek(n) for n in range(6)] == ["^", "{", "-", "1", "}", "("]:
            self.at, name = self.at + 5, name + "^-1"
        if self.peek() != "(" or not (function or name[0] in "fghFGHPC" or name == "Gamma"):
            return ("v", name)
        self.at, saved, self.bars = self.at + 1, self.bars, 1
        arguments = [self.listed()]
        if self.take("|"):
            arguments.append(self.listed())
        self._need(")")
        self.bars = saved
        if name == "C" and len(arguments[0]) == 5:
            return ("f", "binom", *arguments[0][3:])
        if name in ("Gamma", "Matrix", "matrix"):
            return ("f", "gamma", *arguments) if name == "Gamma" else arguments[0]
        return ("call", name, *arguments)

    def argument_of(self) -> Tree:
        """Read an argument of a LaTeX command: a group, or one digit or letter."""
        if self.kind() == "number" and len(self.peek()) > 1 and self.peek().isdigit():
            self.cut(1)
            self.at += 1
            return number(self.tokens[self.at - 1].text)
        return self.atom()


def _recurring(text: str, period: str) -> Tree:
    if not period.isdigit():
        raise Unreadable
    places = len(text.partition(".")[2])
    return ("n", number(text)[1] + Fraction(int(period), (10 ** len(period) - 1) * 10**places), None)


def all_of(body: Tree, condition: Tree) -> Tree | None:
    """Read a condition on a whole number: 2k for all k in Z. Its name does not matter."""
    if condition[:2] != ("rel", "∈") or len(condition) != 4 or condition[2][0] != "v":
        return None
    whole = condition[3][0] == "v" and condition[3][1][:3] in ("bbZ", "bbN")
    return ("all", body, condition[2], condition[3]) if whole and condition[2] in names_in(body) else None


def _joined(sign: str, left: Tree, right: Tree) -> Tree:
    if sign == "-" and right[:2] == ("l", "{"):
        sign = "\\setminus"
    if sign in ("\\cup", "\\cap", "\\setminus"):  # {1, 2} without backslashes, {3}
        left, right = (("l", "{", "}", *side[3:]) if side[:3] == ("l", "", "") else side for side in (left, right))
        left, right = (("l", "{", "}", side) if side[0] == "n" else side for side in (left, right))
    if sign == "-":
        return ("+", left, ("-", right))
    if sign in ("\\mod", "\\choose"):
        return ("f", "mod" if sign == "\\mod" else "binom", left, right)
    return (*left, right) if sign in ("+", "*", ":", "\\cup", "\\cap") and left[0] == sign else (sign, left, right)
