"""Where a response says its answer: between the paper's tags, in ``\\boxed``, or, failing both, at its end.

Everything here runs in time linear in the text, but for reading short pieces of it by the grammar of answers.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from gatepo.rewards.grammar import is_answer
from gatepo.rewards.tags import ANSWER, ANSWER_END, CONTROL, THINK, THINK_END, answer_text
from gatepo.rewards.tokens import EMPHASIS
from gatepo.rewards.units import CHANGING

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:[{(]|(?=[-\d]))")
_PLAIN_BOX = re.compile(r"boxed(?<![\w\\]boxed)\s*[{(]")  # without its backslash
_JOINS = re.compile(r",|;|\band\b|\bor\b|\A(?:[\s$]|\\q?quad|\\\\|\w+\s*=)*\Z")
_JOINT = 30  # characters between two boxes that are one answer, as in \boxed{1} and \boxed{2}
_MOST_BOXES = 64  # that are looked at, from the end
_SHORT = 200  # characters of a response, or of the end of a sentence, that may be nothing but its answer
_TAIL, _SENTENCES = 1000, 3  # characters, sentences at the end in which a conclusion is looked for
_PHRASE = re.compile(
    r"(?:\b(?:answers?|ans|choice|option|respuesta|resposta|risposta|réponse|Antwort|ответ)"
    r"(?:(?:\s+(?:final|corre[ck]ta?))?\s+(?:is|are|ist|es|est|é|è|(?:must|should|would|has to) be)\b"
    r"(?:\s+(?:clearly|definitely|therefore|thus|for sure|simply|indeed))?\s*:?|\s*[:=])"
    r"|(?:答案|答え)(?:是|为|為|は)?\s*[:\uff1a]?|故?选择?|####|(?m:^)A:)\s*",
    re.IGNORECASE,
)
_LETTER = r"(?:(?:the\s+)?(?:answer|option|choice|letter)\s+)?\(?(?P<{}>[A-J])\)?"
_BEHIND_LETTER = r"(?=\s*(?:[.,;:!\n]|\Z|because\b|since\b|as\b|here\b|for\b))(?!,? (?:and|or)\b)"
_CHOSEN = re.compile(
    r"\b(?i:go(?:ing)? with|choose|pick|select|it(?:['\u2019]s| is| must be| has to be| should be))\s+"
    rf"{_LETTER.format('chosen')}{_BEHIND_LETTER}"
    rf"|(?<!not )(?<!or )(?<!and )\b{_LETTER.format('right')}\s+(?:is|must be)\s+(?:the\s+)?(?:correct|right|best)\b"
    rf"|\b(?i:therefore|hence|thus|so),?\s+{_LETTER.format('so')}\s*\.?\s*\Z"
    rf"|\A\s*{_LETTER.format('first')}(?:[.):]\s(?!\s*(?:or|and)\b)|,?\s(?:because|since)\b)|(?:\.\.\.|\u2026|[a-z]{3}:|\n)\s*\(?(?P<last>[A-J])\)?\s*\.?\Z"
)
"""Which letter a response chooses."""
_NEXT_TURN = re.compile(rf"(?:{CONTROL.pattern})\s*(?:user|human|system)\b.*", re.DOTALL)
_MARKUP = re.compile(r"\\(?:text|math)\w*|[*${}]")
_BESIDE = re.compile(r"\.?\s*I hope it is correct|,?\s+(?:and\s+)?not\s+(?=\W?\d)", re.IGNORECASE)
_TAGGED = re.compile(rf"{ANSWER}((?:(?!{ANSWER}).)*?){ANSWER_END}", re.DOTALL)
_ALTERNATIVE = re.compile(
    r"\b(?:alternatively|or (?:maybe|perhaps|possibly|else|even)|maybe|perhaps|possibly|otherwise|if not"
    r"|(?:could|might|may) (?:also )?be|another (?:possible )?(?:answer|value|option|solution|possibility)"
    r"|the other (?:answer|value|option|solution|root|one)|or it(?:'s| is))\b",
    re.IGNORECASE,
)
# Behind these a second answer takes the place of the first, or follows from it.
_TAKEN_BACK = re.compile(
    r"\b(?:wait|hold on|actually|instead|mistake|correct(?:ed|ion|ing)|wrong|recheck|re-check|reflection|sorry|oops"
    r"|let me|let's|no,|so|therefore|thus|hence|then|final(?:ly)?)\b",
    re.IGNORECASE,
)
_SECOND_THOUGHT = re.compile(r"\b(?:wait|hold on|on (?:second thought|reflection)|scratch that|oops)\b", re.IGNORECASE)
_CORRECTED = re.compile(  # what was said before these is no longer the answer
    r"\b(?:wait|hold on|actually|instead|mistake|correct(?:ed|ion|ing)|wrong|recheck|no[,.!]|final(?:ly)?|reflection"
    r"|on second thought|rather|attempt|scratch|oops|sorry|revised?|but|however)(?!\w)",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r".*\b(?:wait|oops|sorry|correction|scratch that|on (?:reflection|second thought)|i mean|make that)\b"
    r"(?:, no\b)?[\s,.:;!\u2014-]*"
    r"(?:(?:it|that|this|the (?:correct |right |final )?answer)(?:['\u2019]s| is| should be| must be)\s+)?(?P<new>.*)",
    re.IGNORECASE | re.DOTALL,
)
_OFFER = re.compile(
    r"\b(?:let me know|feel free|hope (?:this|that) helps|if you (?:have|need|want|would like|'d like)"
    r"|would you like|happy to help|do you want me)\b",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(
    r"\W*(?:(?:so|thus|therefore|hence),?\s+)?(yes|no)[,.;!](?!\s*(?:(?:it is|it's|wait)\W+\d|\$?\w{1,2}\s*=))",
    re.IGNORECASE,
)
_YES_BECAUSE = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s+)?(yes|no)\b(?:,? (?:because|since|as|it)\b|[.!]?\s*\Z)", re.IGNORECASE
)
_FIRST_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|(?<=[\u3002\uff01\uff1f])")
_FINAL = re.compile(r"final answer is[^\\]*I hope", re.IGNORECASE)  # behind a box that was a step
_THEREFORE = re.compile(r"\b(?:therefore|thus|hence|consequently|so,)", re.IGNORECASE)
_DOUBT = re.compile(
    r"\b(?:if there were|would (?:get|have)|\w+s to (?:check|consider|examine|verify|test|try)"
    r"|cannot|can't|could not|unable|unclear|unknown|impossible|insufficient|no idea|unsure|give up|undetermined"
    r"|not (?:sure|enough|possible|able|know|be determined)|no (?:solution|answer|such|way)|don't know"
    r"|let (?:me|us)|let's|tried|fail\w*|wait|perhaps|maybe|suppose|consider|(?<!you )(?<!they )need|need to"
    r"|is not|isn't|does not|doesn't)\b"
    r"|\A\W*(?:first|next|second)\b|\?\s*\Z",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"=|:|≈|\b(?:is|are|was|were|be|it's|that's|equals?|gives?|get|has|have|thus|so|therefore|hence|total|answer|est|es|ist|son)\b"
    r"|[是为共]|所以|因此|هو",
    re.IGNORECASE,
)
_MARK = re.compile(
    r"(?<![<>!=])=(?!=)|≈|:(?!\d)|\b(?:is|are|was|be|equals|gives|exactly|get|est|es|ist)\b|[是为]", re.IGNORECASE
)
_MATH = re.compile(
    r"\$\$(?P<display>[^$]{1,300})\$\$|\$(?P<inline>(?:\\\$|[^$\n]){1,300})\$"
    r"|\\\((?P<round>.{1,300}?)\\\)|\\\[(?P<square>.{1,300}?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,/^{\\*+(√-])(?<![*/+^-] )(?:-(?=[\d.$])|-(?=\\\$))?\\?[$€£¥]?"
    r"(?:\d{1,3}(?:,(?:\\!)?\d{3})+|\d+(?:,\d+)?|(?=\.\d))(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?(?![\d^*(√])",
    re.ASCII,
)
_WORDS, _COMMAND = re.compile(r"[^\W\d_]{4,}"), re.compile(r"\\(?:begin|end|text\w*)\s*\{[^{}]*\}|\\[A-Za-z]+")
_LABEL = re.compile(
    r"(?:step|case|part|question|problem|example|method|figure|equation|line|lemma)\s*\(?\Z", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")


def boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}``, or None where there is none or it is not closed.

    Boxes that follow each other as in ``\\boxed{1} and \\boxed{2}`` are one answer, joined by commas.
    """
    contents: list[str] = []
    end_of_gap = len(text)
    for match in reversed(_boxes(text)):
        end = _closing(text, match)
        if end is None:
            return None if not contents else ", ".join(contents)
        gap = text[end + 1 : end_of_gap]
        if contents and not (
            _joined(gap) or _are_alternatives(text[max(0, match.start() - _SHORT) : match.start()], gap)
        ):
            break
        content = text[match.end() : end].strip()
        if content not in contents:
            contents.insert(0, content)
        end_of_gap = match.start()
    return ", ".join(contents) if any(contents) else None


def _boxes(text: str) -> deque[re.Match[str]]:
    """Find the last boxes of a text."""
    found = deque(_BOX.finditer(text), maxlen=_MOST_BOXES)
    return found or deque(_PLAIN_BOX.finditer(text), maxlen=_MOST_BOXES)


def _are_alternatives(before: str, gap: str) -> bool:
    """Say whether a box and the next one are two answers: one or the other, or both called the answer.

    A response that gives both gets a list of two. A step is none, nor is what the response takes back.
    """
    if len(gap) > _SHORT or _TAKEN_BACK.search(gap) is not None:
        return False
    both = _PHRASE.search(re.split(r"[.!?\n]\s", before)[-1]) is not None and _PHRASE.search(gap) is not None
    return both or _ALTERNATIVE.search(gap) is not None


def final_answer(text: str) -> str | None:
    """Give the answer of a response without tags: its last box, else what it says at its end.

    A short response that is nothing but mathematics is its own answer. Else it is what follows "the answer is",
    "answer:" or "####"; else what its last sentences conclude. None where there is nothing of the kind, or where a box
    or a formula was opened and never closed: the response was cut off.
    """
    if CONTROL.search(text) is not None:
        text = CONTROL.sub(" ", _NEXT_TURN.sub("", text))
    text = EMPHASIS.sub(" ", text).strip() if "**" in text else text.strip()
    boxes = _boxes(text)
    if boxes and _FINAL.search(text, boxes[-1].end()) is None:
        return boxed(text)
    if _is_cut_off(text):
        return None
    phrases = deque(_PHRASE.finditer(text), maxlen=2)
    chosen = deque(_CHOSEN.finditer(_MARKUP.sub("", text[-_TAIL:])), maxlen=1)
    if not phrases and chosen and not (chosen[0]["first"] and _is_bare(text)):
        return next(letter for letter in chosen[0].groups() if letter)
    if not phrases and (word := _YES_BECAUSE.match(text)):
        return word[1]
    if not phrases and not _is_bare(text) and (last := _worked_out(text)) is not None:
        return last
    if not phrases and (
        _is_bare(text)
        or (0 < len(text) <= _SHORT and not re.search(r"[^\W\d_]{2}|[^\W\d_]:|[#$]|\\[(\[]", _COMMAND.sub("", text)))
    ):
        return text
    if phrases and not _SECOND_THOUGHT.search(text, phrases[-1].end()):
        said, gap = _announced(text, phrases[-1]), text[phrases[0].end() : phrases[-1].start()]
        other = re.split(r"[.!]\s|\n", gap)[0].strip("$ ")  # of two answers
        twice = len(gap) <= _SHORT and _TAKEN_BACK.search(gap) is None and "answer" in phrases[0][0].lower()
        if said is not None:
            return f"{other}, {said}" if twice and _is_bare(other) and other != said.strip("$. ") else said
    return _concluded(text) or (_word(text) if len(text) <= _SHORT and "\n\n" not in text else None)


def tagged_or_boxed(text: str) -> str | None:
    """Give the answer between the tags, else in the last box."""
    return _outside_thoughts(text, boxed)


def anywhere(text: str) -> str | None:
    """Give the answer between the tags, else in the last box, else at the end."""
    return _outside_thoughts(text, final_answer)


def _outside_thoughts(text: str, otherwise: Callable[[str], str | None]) -> str | None:
    """Give the one answer between tags, else what is found elsewhere; nothing of two answers, nor of thoughts."""
    said = text.rpartition(THINK_END)[2].partition(THINK)[0]
    answers = {match[1].strip() for match in _TAGGED.finditer(said)} - {""}
    if len(answers) > 1:
        return None
    return answers.pop() if answers else otherwise(said)


EXTRACTIONS: dict[str, Callable[[str], str | None]] = {
    "tags": answer_text,
    "boxed": tagged_or_boxed,
    "auto": anywhere,
}
"""By the name in ``reward.extraction``. Training takes the tags alone (eq. 11)."""


def _announced(text: str, phrase: re.Match[str]) -> str | None:
    """Read what follows a phrase such as "the answer is"."""
    line = _BESIDE.split(text[phrase.end() :].strip().split("\n\n", 1)[0], maxsplit=1)[0].strip()
    letter = re.match(_LETTER.format("one") + _BEHIND_LETTER, _MARKUP.sub("", line))
    if word := _YES_BECAUSE.match(_MARKUP.sub("", line)):
        return word[1]
    if _is_bare(line) or letter:
        return line if letter is None else letter["one"]
    whole = line.split("\n", 1)[0][:_TAIL]
    first, *remarks = _FIRST_SENTENCE.split(whole, maxsplit=1)
    if remarks and _CORRECTED.search(remarks[0]) is None:  # The answer is 7. This took 3 steps.
        return first if _is_bare(first) else _stated(first) or _stated(whole)
    return _stated(whole)


def _closing(text: str, box: re.Match[str]) -> int | None:
    """Find where a box is closed; one without braces, \\boxed 5, ends with its number."""
    opening = box[0][-1]
    if opening not in "{(":
        found = re.compile(r"[-\d.,/]*").match(text, box.end())
        return found.end() if found else None
    depth, signs = 1, {"{": 1, "}": -1} if opening == "{" else {"(": 1, ")": -1}
    for match in re.compile(r"\\.|[{}()]", re.DOTALL).finditer(text, box.end()):
        depth += signs.get(match[0], 0)
        if depth == 0:
            return match.start()
    return None


def _joined(gap: str) -> bool:
    plain = len(gap) <= _JOINT and ". " not in gap and _CORRECTED.search(gap) is None
    return plain and _JOINS.search(gap) is not None


def _is_cut_off(text: str) -> bool:
    """Say whether the text ends inside a formula."""
    return any(text.rfind(opening) > text.rfind(closing) for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")))


def _is_bare(text: str) -> bool:
    """Say whether a text is only an answer."""
    return 0 < len(text) <= _SHORT and is_answer(text) and re.search("no idea|(?:not|n't) know|not sure", text) is None


def _word(text: str) -> str | None:
    """Give the word that a short response is, or comes to: "Yes, it converges", "It is rational"."""
    if not _WORDS.search(_COMMAND.sub("", text)):
        return text or None
    word = re.fullmatch(
        r"(yes|no)[,.;!].*|(?:(?:\w+ ){1,4}(?:is|are) (?:an? )?|an? |the )([^\W\d]+\.?)",
        text,
        re.IGNORECASE | re.DOTALL,
    )
    return None if word is None else word[1] or word[2]


def _concluded(text: str) -> str | None:
    """Find what the last sentences come to; nothing where they doubt, or where the text breaks off in a formula."""
    broken = len(text) > _SHORT and text[-1:].isalnum()
    start = max(0, len(text) - _TAIL)
    if text[:start].count("$") % 2:  # not in the middle of a formula
        start = text.find("$", start) + 1
    tail = _MATH.sub(lambda math: math[0].replace("\n", " "), text[start:])
    formulas = list(_MATH.finditer(tail))
    alone = len(formulas) + len(_NUMBER.findall(_blank(tail, formulas))) == 1
    sentences = [said for said in _SENTENCE_END.split(tail) if said.strip() and _OFFER.search(said) is None]
    for said in reversed(sentences[-_SENTENCES:]):
        if (corrected := _corrected(said)) is not None:
            return corrected
        if said is sentences[-1] and (word := _YES_OR_NO.match(said)):
            return word[1]
        sentence = _THEREFORE.split(said)[-1] if _NUMBER.search(_THEREFORE.split(said)[-1]) else said
        if _DOUBT.search(sentence) is not None:
            return None
        if (_CONCLUDES.search(said) is not None or alone) and (stated := _stated(sentence)) is not None:
            return None if broken and re.search(r"[-+*/^<>]\s*\S+\Z", stated) is not None else stated
    return None


def _worked_out(text: str) -> str | None:
    """Give the last line where it and the one before are nothing but a calculation."""
    before, _, last = text.rpartition("\n")
    line = before.rpartition("\n")[2]
    worked = re.search(r"[-+*/^=]", line) is not None and _is_bare(line) and re.search(r"[^\W\d_]|=", last) is None
    return last if worked and _is_bare(last) and last[-1] != "." else None


def _corrected(sentence: str) -> str | None:
    """Give what a sentence puts in the place of an answer: 3, no, wait, 4."""
    found = _CORRECTION.fullmatch(sentence)
    new = found["new"].strip(" .!") if found else ""
    return new if re.search(r"\d|\\", new) and _is_bare(new) else None


def _stated(sentence: str) -> str | None:
    """Find the answer in one sentence: what follows a sign of equality or an "is", else its last formula or number."""
    if _DOUBT.search(sentence) is not None:
        return None
    formulas = [match for match in _MATH.finditer(sentence) if _is_bare(_content(match))]
    rests = []
    for mark in reversed(deque(_MARK.finditer(_blank(sentence, formulas)), maxlen=_SENTENCES)):
        rest = sentence[mark.end() :].strip(" .\u3002!")
        rest = rest.removesuffix(")") if rest.count("(") < rest.count(")") else rest
        if re.search(r"\d|\$|\\|\A\(?[A-H]\)?\Z", rest) and _is_bare(rest):
            rests.append(rest)
    if rests:  # x = 3, y = 4 behind "is", and not the 4 alone
        return next((rest for rest in rests[:0:-1] if "=" in rest and re.search(r",|\b(?:and|or)\b", rest)), rests[0])
    numbers = deque((m for m in _NUMBER.finditer(_blank(sentence, formulas)) if _is_plain(sentence, m)), 1)
    with_digits = [match for match in formulas if re.search(r"\d", _content(match))]
    candidates = [(m.end(), _content(m)) for m in with_digits[-1:]] + [(m.end(), m[0]) for m in numbers]
    candidates = candidates or [(m.end(), _content(m)) for m in formulas[-1:]]
    return max(candidates)[1].strip() if candidates else None


def _is_plain(sentence: str, number: re.Match[str]) -> bool:
    """Say whether the words beside a number leave it what it is: not step 5, 5 squared, at least 5, 5 or more."""
    before, after = sentence[max(0, number.start() - 20) : number.start()], sentence[number.end() : number.end() + 20]
    words = [word.lower() for word in (*re.findall(r"(\w+)\W*\Z", before), *re.findall(r"\A\W*(\w+)", after))]
    return _LABEL.search(before) is None and CHANGING.isdisjoint(words) and words[-1:] not in (["or"], ["and"])


def _blank(text: str, matches: list[re.Match[str]]) -> str:
    """Put spaces in place of the matches."""
    pieces, position = [], 0
    for match in matches:
        pieces += [text[position : match.start()], " " * (match.end() - match.start())]
        position = match.end()
    return "".join([*pieces, text[position:]])


def _content(match: re.Match[str]) -> str:
    return next(part for part in match.groupdict().values() if part is not None)
