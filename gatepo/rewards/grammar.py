"""One grammar for plain and LaTeX answers: lists, relations and quantities of :mod:`gatepo.rewards.expressions`.

Further heads of a tree: ``rel`` (operators, sides), ``l`` list (opening bracket, closing bracket, items), ``&``
conditions that all hold, ``u`` quantity (value, unit, and what it is if the unit's letters are names).
"""

from __future__ import annotations

import re
from functools import lru_cache

from gatepo.rewards.commands import Commands
from gatepo.rewards.expressions import DEEPEST, Tree, Unreadable, depth, number, parts, unknowns
from gatepo.rewards.tokens import Token, kind_of, tokens, unreadable, words
from gatepo.rewards.units import BEHIND, CHANGING, COMPOUND, POWERS, Unit, unit_of

MOST_ITEMS = 64  # of a list
RELATIONS = ("=", "<", ">", "≤", "≥", "≠", "≈", "∈", "≡", "→")
_FLIPPED = str.maketrans(">≥", "<≤")
_ENDS = frozenset((",", ";", ")", "]", "}", "\\}", "", *RELATIONS))
_SHORT = words("an is it so we be to of in at as by he my es la le el il un una der die das ist est the")
_PLAIN = re.compile(r"\s*(?P<dollar>\$?)(?P<number>\d{1,30}(?:\.\d{1,30})?)(?P=dollar)\.?\s*", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d:\d\d\s*(?:\\text\w*\{)?\s*[ap]\.?m", re.ASCII | re.IGNORECASE)  # or a time
_REALS, _NOTHING = ("v", "bbR"), ("v", "emptyset")
_NAMED_SETS = {
    **dict.fromkeys(("all real numbers", "all reals", "real numbers", "the real numbers"), _REALS),
    **dict.fromkeys(("no solution", "no solutions", "empty set", "the empty set", "no real solutions"), _NOTHING),
}


@lru_cache(maxsize=4096)  # the G completions of a prompt share their gold answer
def read(text: str) -> Tree:
    """Read an answer into a tree; what the grammar does not know is its own text, equal to nothing else."""
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        return number(plain["number"])
    found = _stripped(tokens(text))
    for attempt in (found, _without_prose(found)):
        tree = _parsed(attempt) if _DATE.search(text) is None else None
        if tree is not None and not (attempt is found and _has_prose(tree)):
            return _expanded(_NAMED_SETS.get(tree[1].casefold(), tree) if tree[0] == "w" else tree)
    return _valued(found) or ("w", "".join(token.text for token in found))


def _valued(found: list[Token]) -> Tree | None:
    """Read what stands behind the last sign of equality where the side before it is no expression of this grammar."""
    signs = [n for n, token in enumerate(found) if token.text == "="]
    other = any(token.text in (*RELATIONS[1:], "\u21d2") for token in found)
    value = _parsed(found[signs[-1] + 1 :]) if signs and not other else None
    return None if value is None or value[0] == "w" else ("rel", "=", ("w", "unread"), value)


def is_answer(text: str) -> bool:
    """Say whether the whole text is mathematics, or a few words: nothing is left out to read it."""
    tree = _parsed(_stripped(tokens(text))) if unreadable(text) is None else None
    return tree is not None and not _has_prose(tree) and not _is_wordy(tree)


def _is_wordy(tree: Tree) -> bool:
    return tree[1].count(" ") > 1 if tree[0] == "w" else any(map(_is_wordy, parts(tree)))


def _parsed(found: list[Token]) -> Tree | None:
    parser = Parser(list(found))
    try:
        tree = parser.listed()
    except Unreadable:
        return None
    return tree if parser.at == len(parser.tokens) else None


def _stripped(found: list[Token]) -> list[Token]:
    """Leave out full stops and commas at the end."""
    while found and (found[-1].text in (".", ",", ";", "\\", "\\\\", "*") or _is_exclaimed(found)):
        found = found[:-1]
    return found


def _is_exclaimed(found: list[Token]) -> bool:
    return len(found) > 1 and found[-1].text == "!" and found[-2].kind in ("word", "text") and len(found[-2].text) > 1


def _without_prose(found: list[Token]) -> list[Token]:
    """Leave out the words around an answer, but not if one of them may change what it says."""
    start, end = 0, len(found)
    while start < end and (_is_prose(found, start) or found[start].text in (",", ":", ".", "!")):
        start += 1
    while end > start and (_is_prose(found, end - 1) or found[end - 1].text in (",", ":", ".", "!")):
        end -= 1
    left_out = {token.text.lower() for token in (*found[:start], *found[end:])}
    return found if left_out & CHANGING else found[start:end]


def _is_prose(found: list[Token], at: int) -> bool:
    if found[at].kind not in ("word", "text"):
        return False
    kind = kind_of(found, at)
    return kind in ("noun", "join", "unit") or (kind == "letters" and found[at].text.lower() in _SHORT)


def _has_prose(tree: Tree) -> bool:
    """Say whether there are words beside mathematics."""
    if tree[0] == "rel" and any(part[0] == "w" and " " in part[1] for part in tree[2:]):
        return True
    if tree[0] == ":":  # a label, and what it labels
        return len({part[0] in ("w", "v") for part in parts(tree)}) > 1
    return tree[0] == "l" and len({part[0] == "w" for part in parts(tree)}) > 1


def _expanded(tree: Tree) -> Tree:
    """Give both values of what has a plus-or-minus sign."""
    many = tree[0] == "l" and tree[1] in ("", "{")
    items = tree[3:] if many else (tree,)
    if not any(map(_is_double, items)):
        return tree
    both = [_signed(item, sign) for item in items for sign in ((1, -1) if _is_double(item) else (1,))]
    return (*(tree[:3] if many else ("l", "", "")), *both)


def _is_double(tree: Tree) -> bool:
    return tree[0] in ("±", "∓") or any(map(_is_double, parts(tree)))


def _signed(tree: Tree, sign: int) -> Tree:
    inner = tuple(_signed(part, sign) if isinstance(part, tuple) and part else part for part in tree[1:])
    if tree[0] not in ("±", "∓"):
        return (tree[0], *inner)
    last = inner[-1] if (sign > 0) == (tree[0] == "±") else ("-", inner[-1])
    return last if len(inner) == 1 else ("+", inner[0], last)


class Parser(Commands):
    """Reads whole answers."""

    def listed(self) -> Tree:
        """Read items set apart by commas, semicolons, "and" or "or"; one item is itself."""
        groups: list[list[Tree]] = [[]]
        joins = set()
        while True:
            groups[-1].append(self.item())
            join = ""
            while separator := self._separator():
                join = separator
                if separator == ";":
                    groups.append([])
            if not join or self.peek() in _ENDS:
                break
            joins.add(join)
        groups = [group for group in groups if group]
        if sum(map(len, groups)) > MOST_ITEMS:
            raise Unreadable
        pairs = [("l", "(", ")", *group) if len(group) > 1 else group[0] for group in groups]
        items = pairs if len(groups) > 1 else groups[0]
        if len(items) == 1:
            return items[0]
        bounds = joins == {"and"} and all(item[0] == "rel" and str(item[1]) in "<>≤≥≠" for item in items)
        return ("&", *items) if bounds else ("l", "", "", *items)

    def _separator(self) -> str:
        if self.kind() == "join":
            self.at += 1
            return "and" if self.peek(-1) in ("and", "und", "et") else "or"
        return self.take(",", ";")

    def item(self) -> Tree:
        """Read one item: a value, or a chain of relations."""
        self._deeper()
        if self.at == 0:
            self.take("=", "≈")
        sides, operators = [self.side()], ""
        while self.peek() in (*RELATIONS, "\\not", "∉"):
            negated = bool(self.take("\\not"))
            operator = self.take(*RELATIONS, "∉")
            operators += {"∈": "∉", "=": "≠"}.get(operator, "?") if negated else operator
            sides.append(self.side())
            if operator == "≡" and sides[-1][:2] == ("f", "mod"):
                sides[-1] = ("l", "(", ")", sides[-1], sides[-1][3])
            elif operator == "≡" and (self.take("\\pmod") or (self.peek(1) == "\\mod" and self.take("("))):
                self.take("\\mod")
                modulus = self.parse()
                self.take(")")
                sides[-1] = ("l", "(", ")", ("f", "mod", sides[-1], modulus), modulus)
        self.depth -= 1
        if operators and set(operators) <= {">", "≥"}:
            sides, operators = sides[::-1], operators[::-1].translate(_FLIPPED)
        return ("rel", operators, *sides) if operators else sides[0]

    def side(self) -> Tree:
        """Read one side with the unit or the nouns behind it."""
        start = self.at
        tree = self.parse()
        if depth(tree) > DEEPEST:
            raise Unreadable
        tree = self.measured(start, tree) or tree
        if self.kind() in ("unit", "noun") and tree[0] != "w":
            if self.kind() == "noun" and unknowns(tree):
                raise Unreadable
            _, value, unit, other = tree if tree[0] == "u" else ("u", tree, (), None)
            tree = ("u", value, tuple(sorted((dict(unit) | dict(self.quantity())).items())), other)
        return tree

    def measured(self, start: int, tree: Tree) -> Tree | None:
        """Read the letters behind the last number as a unit where they may be one: 5 m, 9.8 m/s^2."""
        end = max((n for n in range(start, self.at) if self._is_last_of_value(n)), default=self.at) + 1
        if not (end < self.at or (end == self.at and self.kind() == "unit")):
            return None
        inner, tail = Parser(self.tokens[start:end], self.steps), Parser(self.tokens, self.steps)
        tail.at = end
        try:
            value, unit = inner.parse(), tail.quantity()
        except Unreadable:
            return None
        whole = inner.at == len(inner.tokens) and tail.at >= self.at
        if not whole or not unit or not (tail.peek() in _ENDS or tail.kind() in ("join", "noun")):
            return None
        letters = [t.text for t in self.tokens[end : tail.at] if t.kind in ("word", "text")]
        sure = tail.at > self.at or any(len(text) > 1 for text in letters)
        self.at = tail.at
        return ("u", value, unit, None if sure else tree)

    def _is_last_of_value(self, at: int) -> bool:
        """Say whether the token at a place is a number or a bracket, and the name of a unit follows it."""
        following = self.tokens[at + 1] if at + 1 < len(self.tokens) else None
        named = following is not None and following.kind in ("word", "text") and unit_of(following.text) is not None
        return named and (self.tokens[at].kind == "number" or self.tokens[at].text in ("}", ")"))

    def quantity(self) -> Unit:
        """Read units and nouns: km/h, square inches, eggs in the box."""
        unit: dict[str, int] = {}
        sign = 1
        while self.kind() in ("unit", "noun", "letters") or (unit and self.peek() in ("*", "/", "(")):
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
        if word in COMPOUND:
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
