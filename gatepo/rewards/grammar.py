"""One grammar for plain and LaTeX answers: lists, relations and quantities of :mod:`gatepo.rewards.expressions`.

Further heads of a tree: ``rel`` (operators, sides), ``l`` list (opening bracket, closing bracket, items), ``&``
conditions that all hold, ``u`` quantity (value, unit, and what it is if the unit's letters are names).
"""

from __future__ import annotations

import re
from functools import lru_cache

from gatepo.rewards.expressions import all_of
from gatepo.rewards.quantities import ENDS, RELATIONS, Quantities, added
from gatepo.rewards.reader import DEEPEST, Unreadable
from gatepo.rewards.tokens import SHORT, Token, kind_of, tokens, unreadable
from gatepo.rewards.trees import Tree, depth, number, parts, unknowns
from gatepo.rewards.units import CHANGING, NUMBERS

MOST_ITEMS = 64  # of a list
_NEGATED = {"∈": "∉", "=": "≠", "<": "≥", ">": "≤", "≤": ">", "≥": "<"}
_FLIPPED = str.maketrans(">≥", "<≤")
_PLAIN = re.compile(r"\s*(?P<dollar>\$?)(?P<number>\d{1,30}(?:\.\d{1,30})?)(?P=dollar)\.?\s*", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d:\d\d\s*(?:\\text\w*\{)?\s*[ap]\.?m", re.ASCII | re.IGNORECASE)  # or a time
_REALS, _NOTHING = ("v", "bbR"), ("v", "emptyset")
_NAMED_SETS = {
    **dict.fromkeys(("allrealnumbers", "allreals", "realnumbers", "therealnumbers", "thesetofallrealnumbers"), _REALS),
    **dict.fromkeys(("nosolution", "nosolutions", "emptyset", "theemptyset", "norealsolutions"), _NOTHING),
    **dict.fromkeys(("norealsolution", "nosolutionsexist", "nosolutionexists", "therearenosolutions"), _NOTHING),
    **dict.fromkeys(("thereisnosolution", "therearenorealsolutions", "therearenosolutions"), _NOTHING),
    **dict.fromkeys(("allintegers", "theintegers", "integers", "thesetofintegers"), ("v", "bbZ")),
    **dict.fromkeys(("dne", "doesnotexist", "thelimitdoesnotexist"), ("w", "does not exist")),
    **dict.fromkeys(("infinity", "positiveinfinity", "plusinfinity"), ("v", "infty")),
    **dict.fromkeys(("negativeinfinity", "minusinfinity"), ("-", ("v", "infty"))),
}
_SETTING = re.compile(r"\\(?:text|math)[a-z]*|\\[,;:! ]|[\s${}~]")  # what only sets the page
_IN_BASE = re.compile(
    r"\(?(?P<digits>[0-9]+|[0-9A-F]+|[0-9a-f]+)\)?(?:_\(?(?:base)?|,?\(?(?:in)?base)(?P<base>[a-z]+|\d+)\)?\.?",
    re.ASCII,
)
_LABEL = re.compile(
    r"\s*(?:\\text\w*\s*\{\s*(?=[Oo]ption|[Cc]hoice))?(?i:(?:the\s+)?(?:option|choice|answer)\s*:?\s*)?(?:\\text\w*\s*\{\s*)?"
    r"(?:\(\s*(?P<round>[A-J])\s*\)|(?P<bare>[A-J])(?:[.)]|(?<=ption .|hoice .)(?=\W*\Z)))\s*\}?"
    r"(?:(?:\s|\\ |~|\\q?quad|\$|:)+(?P<rest>(?!(?:or|and|nor)\b|[,;=&])\S.*?)|\.?)\s*",
    re.DOTALL,
)


@lru_cache(maxsize=4096)  # the G completions of a prompt share their gold answer
def read(text: str) -> Tree:
    """Read an answer into a tree; what the grammar does not know is its own text, equal to nothing else."""
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        return number(plain["number"])
    if (whole := _whole(text)) is not None:
        return whole
    found = _stripped(tokens(text))
    for attempt in (found, _without_prose(found)):
        tree = _parsed(attempt) if _DATE.search(text) is None else None
        if tree is not None and not (attempt is found and _has_prose(tree)):
            return _expanded(_with_names(tree))
    text = "".join(token.text for token in found)
    return _valued(found) or ("w", text if _DATE.search(text) is None else text.replace(".", "").lower())


def _valued(found: list[Token]) -> Tree | None:
    """Read what stands behind the last sign of equality where the side before it is no expression of this grammar."""
    signs = [n for n, token in enumerate(found) if token.text == "="]
    other = any(token.text in (*RELATIONS[1:], "\u21d2") for token in found)
    value = _parsed(found[signs[-1] + 1 :]) if signs and not other else None
    return None if value is None or value[0] == "w" else ("rel", "=", ("w", "unread"), value)


def _whole(text: str) -> Tree | None:
    """Read what is an answer as a whole: 1011 in base 2, (B) 12, no solution."""
    number = _IN_BASE.fullmatch(_SETTING.sub("", text)) if "_" in text or "base" in text else None
    if number is not None and (tree := _in_base(number["digits"], number["base"])) is not None:
        return tree
    label = _LABEL.fullmatch(text)
    if label is None:
        first = text.lstrip("$ ")[:1]
        return (
            _NAMED_SETS.get(_SETTING.sub("", text).casefold().rstrip(".!"))
            if first.isalpha() or first == "\\"
            else None
        )
    letter = ("v", label["round"] or label["bare"])
    if label["rest"] and not CHANGING.isdisjoint(label["rest"].lower().split()):  # (B) is wrong
        return None
    return ("choice", letter, read(label["rest"])) if label["rest"] else letter


def _in_base(digits: str, base: str) -> Tree | None:
    value = NUMBERS.get(base, base)
    if not str(value).isdigit() or not 2 <= int(value) <= 36 or digits.isdigit() < (len(digits) < 2):
        return None
    if any(int(digit, 36) >= int(value) for digit in digits):
        return None
    return ("f", "base", ("w", digits.upper().lstrip("0")), ("w", str(int(value))))


def is_answer(text: str) -> bool:
    """Say whether the whole text is mathematics, or a few words: nothing is left out to read it."""
    if unreadable(text) is not None:
        return False
    if (whole := _whole(text)) is not None:
        label = _LABEL.fullmatch(text)
        return whole[0] != "choice" or (label is not None and is_answer(label["rest"]))
    tree = _parsed(_stripped(tokens(text)))
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
    return kind in ("noun", "join", "unit") or (kind == "letters" and found[at].text.lower() in SHORT)


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


def _with_names(tree: Tree, outer: bool = True) -> Tree:
    """Read letters within an expression as names, not units: the L and C of sqrt(2LC)."""
    if tree[0] == "u" and not outer and tree[3] is not None:
        return _with_names(tree[3], outer)
    outer = outer and tree[0] in ("l", "rel", "&", "\\cup", ":", "cases", "all", "-", "u")
    return tuple(_with_names(part, outer) if isinstance(part, tuple) and part else part for part in tree)


def _is_double(tree: Tree) -> bool:
    return tree[0] in ("±", "∓") or any(map(_is_double, parts(tree)))


def _signed(tree: Tree, sign: int) -> Tree:
    inner = tuple(_signed(part, sign) if isinstance(part, tuple) and part else part for part in tree[1:])
    if tree[0] not in ("±", "∓"):
        return (tree[0], *inner)
    last = inner[-1] if (sign > 0) == (tree[0] == "±") else ("-", inner[-1])
    return last if len(inner) == 1 else ("+", inner[0], last)


def _repeating(items: list[Tree]) -> list[list[Tree]]:
    """Group items that give values to the same names again: p = 5, q = 2, p = 7, q = 2 are two pairs."""
    names = [item[2] if item[:2] == ("rel", "=") and len(item) == 4 else None for item in items]
    size = len(set(names))
    periodic = None not in names and 1 < size < len(names) and names == names[:size] * (len(names) // size)
    return [items[n : n + size] for n in range(0, len(items), size)] if periodic else [items]


def _joined(joins: set[str], items: list[Tree]) -> Tree:
    """Make one tree of items: conditions that all hold, or of which one does, or a list."""
    if joins & {"\\vee", "\\wedge"} and not any(item[0] == "rel" for item in items):
        return ("f", *joins, *sorted(items, key=repr)) if len(joins) == 1 else ("w", "unread")
    if items[0][:2] == ("rel", "≠") and all(item[0] != "rel" for item in items[1:]):  # x ≠ 2, 3
        items = [items[0], *((*items[0][:3], item) for item in items[1:])]
    if any(item[0] != "rel" or str(item[1]).strip("<>≤≥≠") for item in items):
        return ("l", "", "", *items)
    if all(item[1] == "≠" for item in items) or joins in ({"and"}, {"\\wedge"}):
        return ("&", *items)
    return ("\\cup", *items) if joins in ({"or"}, {"\\vee"}) else ("l", "", "", *items)


class Parser(Quantities):
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
            if not join or self.peek() in ENDS:
                break
            joins.add(join)
        groups = [group for group in groups if group]
        if sum(map(len, groups)) > MOST_ITEMS:
            raise Unreadable
        groups = groups if len(groups) > 1 else _repeating(groups[0])
        pairs = [("l", "(", ")", *group) if len(group) > 1 else group[0] for group in groups]
        items = pairs if len(groups) > 1 else added(groups[0])
        if len(items) == 1:
            return items[0]
        family = all_of(("l", "", "", *items[:-1]) if len(items) > 2 else items[0], items[-1])
        return family or _joined(joins, items)

    def _separator(self) -> str:
        if self.peek() in ("\\vee", "\\wedge"):
            return self.take("\\vee", "\\wedge")
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
            operators += _NEGATED.get(operator, "?") if negated else operator
            sides.append(self.side())
            if operator == "≡" and sides[-1][:2] == ("f", "mod"):
                sides[-1] = ("l", "(", ")", sides[-1], sides[-1][3])
            elif operator == "≡" and (self.peek() == "\\pmod" or (self.peek(1) == "\\mod" and self.peek() == "(")):
                sides[-1] = self.residue(sides[-1])
        if not operators and (self.peek() == "\\pmod" or (self.peek(1) == "\\mod" and self.peek() == "(")):
            sides[0] = self.residue(sides[0])
        self.depth -= 1
        if operators and set(operators) <= {">", "≥"}:
            sides, operators = sides[::-1], operators[::-1].translate(_FLIPPED)
        if operators == "\u21a6":  # f: x -> x^2
            return ("rel", "=", ("call", "f", sides[0][-1] if sides[0][0] == ":" else sides[0]), sides[1])
        return ("rel", operators, *sides) if operators else sides[0]

    def residue(self, value: Tree) -> Tree:
        """Read the modulus behind a value: 2 (mod 5)."""
        self.at += 1
        self.take("\\mod")
        modulus = self.parse()
        self.take(")")
        return ("l", "(", ")", ("f", "mod", value, modulus), modulus)

    def side(self) -> Tree:
        """Read one side with the unit or the nouns behind it."""
        start = self.at
        if (tree := self.compound()) is not None:
            return tree
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
