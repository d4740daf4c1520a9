"""Functions and LaTeX commands of the grammar: sin, roots, fractions, sums, integrals, matrices."""

from __future__ import annotations

import re
from fractions import Fraction

from gatepo.rewards.expressions import BIG, ENCLOSED, FACTOR, SAME_NAME, SIDE_BY_SIDE, TIMES, Expressions
from gatepo.rewards.reader import Unreadable
from gatepo.rewards.tokens import ANGLES, Token
from gatepo.rewards.trees import ONE, Tree

_DIFFERENTIALS = (("v", "d"), ("v", "partial"))
_CONDITION = ("if", "for", "when", "where")


class Commands(Expressions):
    """Reads what stands behind the name of a function or a command."""

    def function(self, name: str) -> Tree:
        """See :class:`Expressions`."""
        self.at += 1
        name = SAME_NAME.get(name, name)
        if name in ("sqrt", "cbrt"):
            return self._root(Fraction(3 if name == "cbrt" else 2))
        power = base = None
        if name == "log" and self.peek() in ("2", "10") and self.peek(1) == "(":
            base = self.number()
        for _ in range(2):
            if self.take("_"):
                base = self.atom()
            elif self.peek() == "^" and not self.raised():
                self.at += 1
                power = self.exponent()
        arguments = self.arguments()
        if name == "log" and base is not None:
            arguments = (*arguments, base)
        if power == ("-", ONE) and name in ANGLES:
            return ("f", ANGLES[f"arc{name}"], *arguments)
        if name == "cis":
            return ("+", ("f", "cos", *arguments), ("*", ("v", "i"), ("f", "sin", *arguments)))
        return ("f", name, *arguments) if power is None else ("^", ("f", name, *arguments), power)

    def arguments(self) -> tuple[Tree, ...]:
        """Read the arguments of a function, in brackets or the factors behind it."""
        if self.peek() in ("(", "{", "[", "\\{"):
            inside = self.bracket()
            return inside[3:] if inside[0] == "l" else (inside,)
        self.argument += 1
        inside = self.parse(SIDE_BY_SIDE)
        self.argument -= 1
        return (inside,)

    def _root(self, degree: Fraction) -> Tree:
        index: Tree = ("n", degree, None)
        if self.take("["):
            index = self.parse()
            self._need("]")
        command = self.tokens[self.at - 1]
        unspaced = command.text == "\\sqrt" and self.kind() == "number" and not self.tokens[self.at].spaced
        inside = self.argument_of() if unspaced else self.atom()  # \sqrt23 is \sqrt{2}3
        if inside[0] == "l":
            raise Unreadable
        return ("f", "root", inside, index)

    def command(self) -> Tree:
        """See :class:`Expressions`."""
        text = self.peek()
        self.at += 1
        if text in ("\\frac", "\\binom"):
            top, bottom = self.argument_of(), self.argument_of()
            if top in _DIFFERENTIALS and bottom[:2] == ("*", top):
                return ("f", "diff", self.parse(TIMES), bottom[2])
            return ("/", top, bottom) if text == "\\frac" else ("f", "binom", top, bottom)
        if text in BIG:
            return self._integral() if text == "\\int" else self.big(text[1:])
        if text in ENCLOSED:
            inside = self.parse()
            self._need(ENCLOSED[text][0])
            return ("f", ENCLOSED[text][1], inside)
        if text == "\\begin":
            return self.environment()
        if text == "\\neg":
            return ("f", "not", self.parse(FACTOR))
        if text == "\\overline":
            return ("f", "bar", self.argument_of())
        if text == "\\accent":
            return self.argument_of()
        if text in ("\\angle", "\\triangle"):
            return ("f", text[1:], self.parse(SIDE_BY_SIDE))
        raise Unreadable

    def big(self, name: str) -> Tree:
        """Read a sum, a product or a limit with its bounds."""
        bounds: dict[str, Tree] = {}
        while mark := self.take("_", "^"):
            bounds[mark] = self.exponent(chained=False)
        low = bounds.get("_", ONE)
        if name == "lim" and low[:2] == ("rel", "→"):
            return ("f", "lim", self.parse(TIMES), *low[2:])
        if low[:2] != ("rel", "=") or low[2][0] != "v" or len(bounds) < 2:
            raise Unreadable
        return ("f", name, self.parse(TIMES), *low[2:], bounds["^"])

    def _integral(self) -> Tree:
        bounds: dict[str, Tree] = {}
        while mark := self.take("_", "^"):
            bounds[mark] = self.exponent(chained=False)
        self.move_differential()
        self.differential += 1
        body = ONE if self.at_differential() else self.parse(3)
        self.differential -= 1
        text = self.peek()
        if text[:1] != "d" or len(bounds) == 1:
            raise Unreadable
        self.at += 1
        variable = ("v", text[1:]) if text[1:] else self.letter()
        return ("f", "int", body, variable, *(bounds[mark] for mark in "_^" if bounds))

    def move_differential(self) -> None:
        """Put dx behind the fraction in whose numerator it stands: dx/x is 1/x dx."""
        if self.peek() != "\\frac" or self.peek(1) != "{":
            return
        ends = [n for n, token in enumerate(self.tokens) if n > self.at and token.text == "}"]
        texts = [token.text for token in self.tokens]
        if len(ends) > 1 and re.fullmatch("d[a-z]", texts[ends[0] - 1]):
            differential = self.tokens.pop(ends[0] - 1)
            depth, end = 1, ends[0] + 1
            while depth and end < len(self.tokens):
                depth += {"{": 1, "}": -1}.get(self.tokens[end].text, 0)
                end += 1
            self.tokens.insert(end, differential)
            if self.peek(2) == "}":
                self.tokens.insert(self.at + 2, Token("number", "1"))

    def environment(self) -> Tree:
        """Read a matrix, or the lines of a system of equations."""
        name = self.group_text().rstrip("*")
        if name == "array":
            self.group_text()
        rows: list[list[Tree]] = [[]]
        while not self.take("\\end"):
            while name == "cases" and rows[-1] and self.peek().lower() in _CONDITION:
                self.at += 1
            rows[-1].append(self.listed())
            if self.take("\\\\"):
                rows.append([])
            elif not self.take("&") and self.peek() != "\\end":
                raise Unreadable
        rows = [row for row in rows if row]
        if self.group_text().rstrip("*") != name or len({len(row) for row in rows}) != 1:
            raise Unreadable
        if name in ("cases", "aligned", "align") and len(rows[0]) == 1:
            return ("l", "", "", *(row[0] for row in rows))
        if name == "cases" and len(rows[0]) == 2:
            others = [[value, ("w", "otherwise") if condition[0] == "w" else condition] for value, condition in rows]
            return ("cases", *(("l", "", "", *row) for row in others))
        if not name.endswith(("matrix", "array")):
            raise Unreadable
        matrix = ("m", *(("l", "", "", *row) for row in rows))
        return ("f", "det", matrix) if name.startswith("v") else matrix
