"""The tokens of an answer: plain and LaTeX mathematics cut into the same ones, in time linear in the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from gatepo.rewards.units import POWERS, unit_of

LONGEST = 1000  # characters of an answer; the longest gold answer of MATH, GSM8K, AIME and DeepMath has 159
DEEPEST = 30  # brackets within each other


class Token(NamedTuple):
    """A token; ``kind`` is number, word (letters), text (letters in \\text{}), command or sign."""

    kind: str
    text: str
    spaced: bool = False  # whether space stands before it


def unreadable(text: str) -> str | None:
    """Say why an answer is not read at all, or None.

    No answer is worth the time or the risk of these: too long, nested too deep, invisible characters (they hide what a
    reader would see), digits of another script (nobody asked for them, and libraries disagree on what they are), and
    what only a programming language says.
    """
    return "too long" if len(text) > LONGEST else _forbidden(text)


@lru_cache(maxsize=1024)
def _forbidden(text: str) -> str | None:
    if not text.isascii() and not all(map(_is_visible, text)):
        return "invisible characters or another script's digits"
    if _CODE.search(text) is not None or _CONTROL_CHARACTER.search(text) is not None:
        return "not mathematics"
    return "nested too deep" if _depth(text) > DEEPEST else None


def tokens(text: str) -> list[Token]:
    """Cut an answer into tokens; what only sets the page is left out."""
    if not text.isascii():
        text = _RAISED.sub(lambda run: f"^{{{unicodedata.normalize('NFKC', run[0])}}}", text)
        text = "".join(character if character.isascii() else _ascii(character) for character in text)
    if _UNUSUAL.search(text) is not None:
        text = EMPHASIS.sub(" ", text)
        for sign, pattern, replacement in _SPELLINGS:
            if sign in text:
                text = pattern.sub(replacement, text)
    return _cut(text.strip())


@lru_cache(maxsize=1024)
def _ascii(character: str) -> str:
    """Spell a sign, a Greek letter, a lowered digit or a fraction as plain text does."""
    name, plain = unicodedata.name(character, ""), unicodedata.normalize("NFKC", character)
    if character in _SIGNS:
        return _SIGNS[character]
    if name.startswith("SUBSCRIPT"):
        return f"_{plain}"
    if name.startswith("GREEK") and " LETTER " in name:
        word = name.rpartition(" ")[2].replace("LAMDA", "LAMBDA").lower()
        return f"\\{word.capitalize() if 'CAPITAL' in name else word} "
    return f" {plain}".replace("\u2044", "/") if name.startswith("VULGAR FRACTION") else plain


def kind_of(found: list[Token], at: int) -> str:
    """Say what a token is: number, function, name, letters (of a product), unit, noun, join, command or sign."""
    token, before = found[at], found[at - 1] if at else None
    text = token.text.removeprefix("\\")
    behind_number = before is not None and (before.kind == "number" or before.text in ("}", ")", "°", "%", "/"))
    if token.kind not in ("word", "text", "command"):
        return token.kind
    if text in FUNCTIONS:
        return "unit" if text in ("min", "sec") and behind_number and token.kind != "command" else "function"
    if text in NAMES:
        return "name"
    if token.kind == "command":
        return "command"
    if text in ("not", "isn't"):
        return "noun"
    if text in _JOINS:
        return "join"
    if not text.isascii():
        return "unit" if behind_number and unit_of(text) else "noun"
    if len(text) == 1:
        return "unit" if token.kind == "text" and behind_number and unit_of(text) else "letters"
    if (unit_of(text) or text in POWERS) and (behind_number or len(text) > 3 or token.kind == "text"):
        return "unit"
    if text.isupper() and len(text) < 6:
        return "letters"
    if token.kind == "text" or len(text) > 3:
        return "noun"
    is_word = (len(text) == 3 and _VOWEL.search(text) is not None and text[1:].islower()) or (
        text.lower() in SHORT and not behind_number
    )
    beside = is_word and any(
        found[n].kind == "word" and len(found[n].text) > 1 for n in (at - 1, at + 1) if 0 <= n < len(found)
    )
    return "noun" if is_word and (beside or (token.spaced and behind_number)) else "letters"


def _cut(text: str, word: str = "word") -> list[Token]:
    found: list[Token] = []
    spaced, depth = False, 0
    for match in _TOKEN.finditer(text):
        kind, piece = str(match.lastgroup), match[str(match.lastgroup)]
        if kind == "set":
            inner = _cut(piece, "text")
            found += inner[:1] and [inner[0]._replace(spaced=spaced or inner[0].spaced), *inner[1:]]
        elif kind == "number" and depth > 0 and "," in piece:  # in brackets a comma sets items apart
            found += [token for part in piece.split(",") for token in (Token("sign", ","), Token("number", part))][1:]
        elif kind != "space":
            piece = _SAME.get(piece, piece)
            depth += (piece in _OPENING) - (piece in _CLOSING)
            kind = "command" if piece[0] == "\\" else word if kind == "word" else kind  # mod and choose are commands
            found.append(Token(kind, piece.replace(",", "") if kind == "number" else piece, spaced))
        spaced = match.lastgroup == "space"
    return found


def words(text: str) -> frozenset[str]:
    """Give the words of a text, each once."""
    return frozenset(text.split())


_OTHER_ANGLES = {"tg": "tan", "ctg": "cot", "cotg": "cot", "cosec": "csc"}
ANGLES = {name + end: name + end for name in words("sin cos tan cot sec csc") for end in ("", "h")}
"""The functions of angles, and their spellings."""
ANGLES |= {start + name: f"arc{name}" for name in ANGLES for start in ("arc", "a", "ar")}
ANGLES |= {start + other: start + name for other, name in _OTHER_ANGLES.items() for start in ("", "arc")}
FUNCTIONS = words(
    """ln log lg exp sqrt cbrt abs Abs floor ceil max min gcd lcm det factorial Re Im arg sgn sign binom binomial cis"""
) | set(ANGLES)
NAMES = words(
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi
    omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega infty infinity inf oo emptyset ell hbar nabla partial imath
    bbR bbZ bbN bbQ bbC"""
)
ALSO = words("and und et \u548c \u4e14 \u4e0e \u53ca")
_JOINS = ALSO | words("or oder ou where \u6216 \u6216\u8005")
SHORT = words("an is it so we be to of in at as by he my es la le el il un una der die das ist est the")
_VOWEL = re.compile("[aeiouy]")
_OPENING, _CLOSING = ("(", "[", "\\{"), (")", "]", "\\}")
_CODE = re.compile(
    r"__|\blambda\b(?=[^\\]*:)|\bimport\b|[`#;]\s*\w+\s*\(|[^\W\d]\.[^\W\d]\w*\s*\(|\(\)\s*\."
    r"|\\(?:input|write|def|csname)\b"
)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
EMPHASIS = re.compile(r"(?<![A-Za-z0-9)\]}])\*\*(?=\S)|(?<=\S)\*\*(?=[\s.,;:!?)]|\Z)|(?<=[^\x00-\x7f])\*\*", re.ASCII)
"""The asterisks of bold print, and no powers."""
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")
_SIGNS = {
    **{"\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u00f7": "/", "\u00b7": "*", "\u22c5": "*", "\u2219": "*"},
    **{"\u2264": "<=", "\u2265": ">=", "\u2260": "!=", "\u2019": "'", "\u2032": "'", "\u00a2": " cents"},
    **{"\u221e": r"\infty ", "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2208": r"\in ", "\u2248": r"\approx "},
    **{"\u00b0": r"\degree ", "\u221a": r"\sqrt ", "\u2205": r"\emptyset ", "\u00b1": r"\pm ", "\u211d": r"\bbR "},
    **{"\u2124": r"\bbZ ", "\u2115": r"\bbN ", "\u211a": r"\bbQ ", "\u2102": r"\bbC "},
    **{"\u221b": r"\cbrt ", "\u221c": r"\sqrt[4]", "\u230a": r"\lfloor ", "\u230b": r"\rfloor ", "\u210f": r"\hbar "},
    **{"\u2308": r"\lceil ", "\u2309": r"\rceil ", "\u2227": r"\wedge ", "\u2228": r"\vee ", "\u00ac": r"\neg "},
    **{"\u00b5": r"\mu ", "\u2216": r"\setminus ", "\u2209": r"\notin ", "\u21a6": r"\mapsto ", "\u2234": ""},
    **{"\u220f": r"\prod ", "\u2211": r"\sum ", "\u222b": r"\int ", "\u3001": ",", "\u3002": "."},
}


def _chosen(found: re.Match[str], of: int = 1, how: int = 2, many: int = 3) -> str:
    """Spell {}_5C_2 as a binomial, {}_5P_2 as one times 2!."""
    return f"\\binom{{{found[of]}}}{{{found[many]}}}" + (f"{found[many]}!" if found[how] != "C" else "")


_ABOUT = r"(?:(?:about|approximately|approx\.?|roughly|\\approx)(?![A-Za-z]))"
_WORDS = r"(?:\\text\w*\s?\{)?\s?"
# What stands in every text that a pattern fits, the pattern, and what takes its place.
_SPELLINGS: tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (sign, re.compile(pattern), replacement)
    for sign, pattern, replacement in (
        (
            "\\\\",
            r"(?<!\\)\\\\(?=(?:left|right|d?frac|sqrt|boxed|text|pi|infty|cup|le|ge|pm)\b)",
            r"\\",
        ),  # escaped twice
        ("\\", r"\\!\s*|\\(?:displaystyle|limits|textstyle)(?![A-Za-z])", ""),
        ("^", r"(\\?[A-Za-z]+)\^(\{[^{}]*\}|\w)_(\{[^{}]*\}|\w|\\[A-Za-z]+)", r"\1_\3^\2"),
        ("]", r"(?<!\\)\](\s*[-+\\\w][^][,;]*[,;][^][,;]+)(?<!\\)\[", r"(\1)"),  # ]0, 1[ is (0, 1)
        ("]", r"(?<!\\)\](\s*[-+\\\w][^][,;]*[,;][^][,;]+)(?<!\\)\]", r"(\1]"),
        ("[", r"(?<!\\)\[([^][(),;]+[,;][^][(),;]+)(?<!\\)\[", r"[\1)"),
        ("(", r"(\d*\.\d*)\((\d+)\)", r"\1\\overline{\2}"),  # recurring: 0.1(6)
        ("\\dot", r"\.(\d*)\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?", r".\1\\overline{\2\3\4}"),
        ("10", r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))", "*"),
        ("^", r"(?<=\d)\^\s*\{?\s*\\\w+\s*\{?\s*(st|nd|rd|th)\s*\}*", r"\1"),
        ("\\mu", r"\\mu\s*(?:\\(?:text|mathrm)\s*\{\s*([mgsACVFWNL])\s*\}|(m)\s*\Z)", r" \\text{u\1\2}"),
        ("integer", r"(?:\\text\w*\s*\{)?\s*\bis\s+(?:an?|any)\s+integer\s*\}?", r" \\in \\bbZ "),
        ("\\in", r"\(\s*([a-z]\s*\\in\b[^()]*?)(?:\\right)?\)(?=[\s$.]*\Z)", r", \1"),
        ("o", r"(?<=\d)\s+(?:out of|over)\s+(?=\d)", "/"),
        ("\\root", r"\\root\s*(\d|\{[^{}]*\})\s*\\of", r"\\sqrt[\1]"),
        ("", r"(?<=\d)(?:\{,\}|\\,|\\ |~|\\;|')(?=\d{3}(?!\d))", ","),
        ("{", r"(?<=\d)\s*\{\s*([,.])\s*\}\s*(?=\d)", r"\1"),
        (" ", r"(?<![\w.,^{/])(?<![\w.,^{/] )([1-9]\d{0,2}) (\d{3})(?: (\d{3}))?(?![\d.])(?! \d)", r"\1\2\3"),
        ("$", r"\\\$|\\text\{\s*\\?\$\s*\}", "\u00a7"),  # a dollar sign that is none of TeX's
        ("$", r"\$\$?([^$]*)\$\$?", r" \1 "),
        ("$", r"\$(?=\s*-?\.?\d)|(?<=\d)\s?\$", "\u00a7"),
        ("", r"\$|\\[()\[\]]", " "),
        ("\\circ", r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", r"\\degree "),
        ("\\", r"\\(?:mathbb|mathds|Bbb)\s*\{?([RZNQC])\}?", r"\\bb\1 "),
        ("\\Omega", r"(?<=\d)\s*\\Omega(?![A-Za-z])", " ohm"),
        ("_", r"(?<!\w)(?:\{\s*\})?[_^]\{?(\d+)\}?\s*([CP])_\{?(\d+)\}?", _chosen),
        ("", r"(?<![\w.^_{])(\d+)\s?([CP])\s?(\d+)(?!\w)", _chosen),
        ("^", r"(?<!\w)([CPA])_\{?(\d+)\}?\^\{?(\d+)\}?", lambda found: _chosen(found, 2, 1, 3)),
        ("", r"(?<=[\d}])\s*(?:percent|per cent|pct)\b", "%"),
        ("", r"(?<=\d)\s*([\u767e\u4e07\u4ebf]|\u5343(?![\u514b\u7c73\u74e6]))", r" \1 "),
        ("\u53c8", r"(?<=\d)\s*\u53c8\s*(?=\d+\s*/\s*\d|\\d?frac)", " "),  # a mixed number
        (
            "(",
            rf"(?<=\S)\s?{_WORDS}\(\s?(?:or\s)?{_WORDS}{_ABOUT}[^()]*\)\s*\}}?(?=[\s$.]*\Z)",
            "",
        ),
        (
            "",
            rf",?\s?{_WORDS},?\s?\b(?:or|which is)\s{_ABOUT}\s?\}}?\s?(?=\$?\s?[-\d.])",
            r" \\approx ",
        ),
        ("const", rf"\+\s?{_WORDS}(?:an?\s)?(?:arbitrary\s)?const(?:ant)?\.?\s?\}}?", "+ C "),
        ("+", r"\A\s*\+\s*-|\+\s?/\s?-", r"\\pm "),
    )
)
# Without any of these no spelling is to be changed.
_UNUSUAL = re.compile(
    r"[\\$*{+~^_]|pct|cent|out of|over|about|approx|rough|\u53c8|[\u767e\u4e07\u4ebf\u5343]"
    r"|\d \d{3}|\d\s?[CPxX]|\]\s*[^\s,)]|\[[^])]*\[|\d\.?\(|'\d{3}"
)
_TOKEN = re.compile(
    r"(?P<space>\s+|\\[,;:> ]|~|\\q?quad|\\m?(?:left|right|[bB]igg?[lrm]?|noindent|middle)(?![A-Za-z]))"
    r"|\\(?:text\w*|math(?:rm|bf|it|sf|bb|cal|scr)|mbox|bold\w*|operatorname\*?|hbox)\s*\{(?P<set>(?:[^{}]|\{[^{}]*\})*)\}"
    r"|(?P<number>[1-9]\d{0,2}(?:,\d{3})+(?![\d,])(?:\.\d+)?"
    r"|\d+(?:\.\d+|\.(?=\\))?(?:[eE][+-]?\d{1,4}(?![\w.]))?|\.\d+)"
    r"|(?P<command>\\[A-Za-z]+|\\[{}|%\\#&_])"
    r"|(?P<word>[^\W\d_]+(?:'[a-z]{1,2}(?![a-z]))?)"
    r"|(?P<sign>\*\*|<=|>=|!=|==|:=|=>|->|~=|\.\.+|.)",
    re.DOTALL,
)
_SAME = {
    other: one
    for one, others in {
        **{
            "*": r"\cdot \times \ast",
            "/": r"\div \over",
            "^": "**",
            "=": "== :=",
            "\u2264": r"\le \leq \leqslant <= \ngtr",
        },
        **{
            "\u2265": r"\ge \geq \geqslant >= \nless",
            "<": r"\lt \ngeq",
            ">": r"\gt \nleq",
            "\u2260": r"\ne \neq !=",
            "\u2208": r"\in",
        },
        **{r"\wedge": r"\land", r"\vee": r"\lor", r"\neg": r"\lnot", "\u21a6": r"\mapsto"},
        "\u21d2": r"\Rightarrow \Longrightarrow \Leftrightarrow \implies \iff =>",
        **{
            "\u2209": r"\notin",
            "\u2248": r"\approx \simeq \thickapprox \sim ~=",
            "\u2261": r"\equiv",
            "\u00b1": r"\pm",
        },
        **{"\u2192": r"\to \rightarrow \longrightarrow ->", "\u2213": r"\mp", r"\cup": r"\bigcup"},
        **{r"\setminus": r"\backslash", "\\{": r"\lbrace", "\\}": r"\rbrace", "|": r"\lvert \rvert \vert \mid \|"},
        **{"(": r"\langle \lparen", ")": r"\rangle \rparen", "[": r"\lbrack", "]": r"\rbrack", "%": r"\%"},
        **{"\u00b0": r"\degree \degrees", "\u2026": r"\dots \ldots \cdots ... ..", ":": r"\colon", "'": r"\prime"},
        **{
            r"\frac": r"\dfrac \tfrac \cfrac \sfrac \nicefrac",
            r"\binom": r"\dbinom \tbinom",
            r"\emptyset": r"\varnothing",
        },
        **{
            r"\overline": r"\bar",
            r"\phi": r"\varphi",
            r"\epsilon": r"\varepsilon",
            r"\mod": r"\bmod mod",
            r"\choose": "choose",
            r"\angle": r"\measuredangle",
        },
        r"\accent": r"\vec \hat \widehat \tilde \dot \mathfrak \underline \boxed \fbox \bm \pmb \overrightarrow",
    }.items()
    for other in others.split()
}


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category not in ("Cf", "Cs", "Co", "Cn", "Zl", "Zp") and not (category == "Nd" and not character.isascii())
