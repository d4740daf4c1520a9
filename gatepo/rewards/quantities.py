"""Values with their units: 5 m/s^2, 2 h 30 min, 18 eggs."""

from __future__ import annotations

import re

from gatepo.rewards.commands import Commands
from gatepo.rewards.reader import Unreadable
from gatepo.rewards.trees import Tree, number
from gatepo.rewards.units import BEHIND, CHANGING, COMPOUND, PER, POWERS, Unit, unit_of

RELATIONS = ("=", "<", ">", "≤", "≥", "≠", "≈", "∈", "≡", "→", "\u21a6")
ENDS = frozenset((",", ";", ")", "]", "}", "\\}", "&", "\\\\", "\\end", "\\vee", "\\wedge", "", *RELATIONS))
_OF_AN_ANGLE = {"°": "degree", "'": "'"}
_SCALE_OF_HEAT = {"C": "°C", "Celsius": "°C", "celsius": "°C", "F": "°F", "Fahrenheit": "°F", "fahrenheit": "°F"}


def added(items: list[Tree]) -> list[Tree]:
    """Add up quantities of one kind: 2 hours and 30 minutes are 2.5 hours."""
    if len(items) < 2 or any(item[0] != "u" or item[1][0] != "n" or len(item[2]) != 1 for item in items):
        return items
    sizes = [PER.get((items[0][2][0][0], item[2][0][0])) for item in items[1:]]
    if None in sizes or any(item[2][0][1] != 1 for item in items):
        return items
    value = items[0][1][1] + sum(item[1][1] / size for item, size in zip(items[1:], sizes, strict=True) if size)
    return [("u", ("n", value, None), items[0][2], None)]


class Quantities(Commands):
    """Reads values with their units."""

    def compound(self) -> Tree | None:
        """Read quantities that are one: 2 h 30 min, 35° 30'."""
        start, items = self.at, list[Tree]()
        while self.kind() == "number" and (unit := _OF_AN_ANGLE.get(self.peek(1)) or unit_of(self.peek(1))):
            items.append(("u", number(self.peek()), ((unit, 1),), None))
            self.at += 2
        found = added(items) if len(items) > 1 and self.peek() in ENDS else items
        self.at = self.at if len(found) < len(items) else start
        return found[0] if len(found) < len(items) else None

    def measured(self, start: int, tree: Tree) -> Tree | None:
        """Read the letters behind the last number as a unit where they may be one: 5 m, 9.8 m/s^2."""
        ends = [n + 1 for n in range(start, self.at) if self._is_last_of_value(n)]
        for end in ends:
            if (end < self.at or self.kind() == "unit") and (found := self._with_unit(start, end, tree)) is not None:
                return found
        return None

    def _with_unit(self, start: int, end: int, tree: Tree) -> Tree | None:
        """Read a value up to a place, and its unit from there."""
        inner, tail = type(self)(self.tokens[start:end], self.steps), type(self)(self.tokens, self.steps)
        tail.at = end
        try:
            value, unit = inner.parse(), tail.quantity()
        except Unreadable:
            return None
        whole = inner.at == len(inner.tokens) and tail.at >= self.at
        if not whole or not unit or not (tail.peek() in ENDS or tail.kind() in ("join", "noun")):
            return None
        letters = [t.text for t in self.tokens[end : tail.at] if t.kind in ("word", "text")]
        sure = tail.at > self.at or any(len(text) > 1 for text in letters)
        self.at = tail.at
        return ("u", value, unit, None if sure else tree)

    def _is_last_of_value(self, at: int) -> bool:
        """Say whether the token at a place is a number or a bracket, and the name of a unit follows it."""
        following = self.tokens[at + 1] if at + 1 < len(self.tokens) else None
        named = following is not None and following.kind in ("word", "text") and unit_of(following.text) is not None
        if following is not None and following.text == "\\frac" and at + 3 < len(self.tokens):
            top = self.tokens[at + 3]
            named = top.kind in ("word", "text") and unit_of(top.text) is not None
        return named and (self.tokens[at].kind == "number" or self.tokens[at].text in ("}", ")"))

    def quantity(self) -> Unit:
        """Read units and nouns: km/h, square inches, eggs in the box."""
        unit: dict[str, int] = {}
        sign = 1
        while (
            self.kind() in ("unit", "noun", "letters")
            or (unit and self.peek() in ("*", "/", "("))
            or self.peek() == "\\frac"
        ):
            if self.take("\\frac"):
                for power in (sign, -sign):
                    self._need("{")
                    for name, times in self.quantity():
                        unit[name] = unit.get(name, 0) + power * times
                    self._need("}")
                continue
            if mark := self.take("*", "/"):
                sign = -1 if mark == "/" else sign
                continue
            if self.take("("):
                unit |= {name: sign * power for name, power in self.quantity()}
                self._need(")")
                continue
            sign = self.measure(unit, sign)
        return tuple(sorted(unit.items()))

    def measure(self, unit: dict[str, int], sign: int) -> int:
        """Add one unit with its power, or pass over a noun; return the sign of the next one's power."""
        word = self.peek().lower()
        power = POWERS.get(word, 0) if unit_of(self.peek(1)) else 0
        self.at += bool(power)
        word, name = self.peek().lower(), unit_of(self.peek())
        self.at += 1
        if name == "degree" and (scale := _SCALE_OF_HEAT.get(self.peek())):
            self.at += 1
            unit[scale] = 1
        elif word in COMPOUND:
            unit |= COMPOUND[word]
        elif name is not None:
            unit[name] = unit.get(name, 0) + sign * (power or self._unit_power())
        elif word == "per":
            return -1
        elif word in CHANGING or (len(word) < 2 and word != "a") or self.peek(-1).isupper():
            raise Unreadable
        return sign if self.peek() == "*" or name is None else 1

    def _unit_power(self) -> int:
        if self.peek().lower() in BEHIND:
            self.at += 1
            return BEHIND[self.peek(-1).lower()]
        if not self.take("^"):
            return 1
        text = self.group_text()
        if re.fullmatch("-?[1-9]", text) is None:
            raise Unreadable
        return int(text)
