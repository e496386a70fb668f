"""Texts that stand for a text: N/A, TODO, lorem ipsum, {{name}}, <your answer here>.

In: examples. Out: findings. Must not know: labels, splits.

A field that is nothing but a placeholder teaches nothing: the row is to be set aside. A hole within
a text (``Dear {{name}}``) may be meant, above all where many rows have it.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Final

from fettle.data.check.places import texts, without_code
from fettle.data.check.screen import Screen
from fettle.records.rows import Example, Finding, Severity

_ANYWHERE: Final = frozenset(
    ("todo", "tbd", "tba", "fixme", "undefined", "null", "nan", "placeholder", "lorem ipsum",
     "object object", "ref", "value!", "#ref", "#n/a", "#value", "#div/0", "#name", "#null", "n/a",
     "n.a", "to be determined", "to be added", "to be announced", "to be written",
     "insert text here",
     "insert answer here", "your answer here", "answer here", "insert prompt here", "text here",
     "enter text", "coming soon", "no data", "missing", "<null>", "(null)", "not provided")
)  # fmt: skip
_AS_ANSWER: Final = frozenset(
    ("na", "nil", "blank", "empty", "no response", "no answer", "no reply", "no output",
     "not available", "not applicable", "see above", "same as above", "as above", "ditto",
     "unanswered",
     "answer pending", "pending", "no comment", "none provided", "not answered", "test test", "foo",
     "foobar", "foo bar", "asdf", "qwerty", "unknown error", "no text")
)  # fmt: skip
_MAY_ANSWER: Final = frozenset(
    ("not available", "not applicable", "no comment", "no answer", "no response", "no reply",
     "no output", "no text", "not answered", "unanswered", "pending", "empty", "blank",
     "unknown error")
)  # fmt: skip
"""Those that are what some question is about: a person decides."""
_SLOTS: Final = (
    "name|first name|last name|full name|customer|company|your|insert|enter|add|fill in|date"
    "|address"
    "|phone|email|e-mail|link|url|product|city|recipient|sender|position|title|job title|order"
    "|amount"
    "|number of order|order number|placeholder|company name|product name|user|username|website|text"
)
_FILLER: Final = re.compile(
    r"(?:answer|response|reply|text|insert|your|todo|tbd|placeholder|name|question|prompt|output"
    r"|completion|content|message|empty|blank|fill|here|goes|input|summary|instruction)",
    re.IGNORECASE,
)
_BRACKETED = re.compile(
    r"(?:<{1,2}|\[{1,2}|\{{1,2}|\$\{|\(|%|__)([\w .:'’/-]{1,60})(?:>{1,2}|\]{1,2}|\}{1,2}|\)|%"
    r"|__)\.?"
)
_MARKS = re.compile(r"[\s.?\-_*#~=/\\|…—–]+")
_REPEATED = re.compile(
    r"(?:x{3,}|(?:asdf|qwer|jkl)+[a-z]{0,4}|(?:blah[ ,.]*){2,}|(?:test[ ,.]*){2,})", re.I
)
_OWN_MASKS: Final = frozenset(
    ("EMAIL", "PHONE", "CARD", "IBAN", "SSN", "IP", "MAC", "NATIONAL_ID", "PASSPORT", "BIRTH_DATE",
     "SECRET")
)  # fmt: skip

_HOLES = re.compile(
    r"\{\{ ?[\w.][\w .-]{0,40}\}\}"
    r"|\$\{\w+\}"
    r"|(?<![\w\]])\[(?:" + _SLOTS + r")\b(?! \d)[^\[\]\n\d]{0,40}\](?!\()"
    r"|(?<!\w)<(?:your|insert|enter|add|customer|company|user|first|last|order"
    r"|product)[ _-][\w '’-]{1,40}>"
    r"|(?<!\w)\[\[(?:" + _SLOTS + r")\]\]",
    re.IGNORECASE,
)
_CASED_HOLES = re.compile(
    r"(?<!\w)\{(?:[a-z]+_[a-z_]+|name|date|company|customer|city|email|phone|address|amount|product)\}"
    r"|(?<![\w\]])\[[A-Z]{2,}(?:[ _][A-Z]{2,})+\](?!\()"
    r"|%[A-Z]+_[A-Z_]+%"
)
_LOREM = re.compile(
    r"lorem ipsum|dolor sit amet|consectetur adipi|tempor incididunt|labore et dolore magna",
    re.IGNORECASE,
)
_NOTE = re.compile(
    r"\b(?:TODO|FIXME|TBD|XXX)\b(?::| (?:check|write|rewrite|add|fix|confirm|link|fill|insert"
    r"|update"
    r"|verify|complete|finish)\b)|\[(?:TODO|TBD|FIXME)\b[^\]\n]{0,60}\]|\[citation needed\]"
)
_IN_CODE = re.compile(
    r"\bf[\"']|print\(|\.format\(|printf|console\.log|template|jinja|mustache|=>", re.I
)
_LINE = 500
"""Characters of a line before a hole in which signs of code are looked for."""
_LONGEST_WORDS = max(map(len, _ANYWHERE | _AS_ANSWER))
# How else a field begins that is one: with a sign, or the letters of _REPEATED and _LOREM.
_BEGINNINGS = ("x", "asdf", "qwer", "jkl", "blah", "test", "lorem", "dolor", "consec", "tempor",
               "labore")  # fmt: skip
_LONGEST_WHOLE = 80
"""Characters of a field that may be nothing but a placeholder."""
_MEANT = 0.1
"""Share of rows beyond which a placeholder is taken as meant."""


Seen = tuple[bool, str, str] | None


def rows(examples: Sequence[Example], screen: Screen | None = None) -> list[Seen]:
    """What each row shows by itself, in order: the part that may be done chunk by chunk.

    Args:
        examples: the rows.
        screen: of them, where there is one.
    """
    screen = screen or Screen(examples)
    seen: list[Seen] = [None] * len(examples)
    may_have_hole = set(screen.rows(screen.with_words(_SIGNS)))
    short = screen.rows(screen.shorter_than(_LONGEST_WHOLE + 1))
    for row in may_have_hole.union(short):
        seen[row] = look(examples[row], row in may_have_hole)
    return seen


def find(examples: Sequence[Example], seen: Sequence[Seen] | None = None) -> list[Finding]:
    """One placeholder finding for each row that is one (error) or has one (warning, or note).

    Args:
        examples: all rows.
        seen: ``rows`` of them, where that was done before.
    """
    seen = rows(examples) if seen is None else seen
    found = [(example, hit) for example, hit in zip(examples, seen, strict=True) if hit is not None]
    values = Counter(value for _, (_, _, value) in found)
    num_holes = sum(not is_whole for _, (is_whole, _, _) in found)
    often = max(_MEANT * len(examples), 3)
    findings = []
    for example, (is_whole, evidence, value) in found:
        severity: Severity = "warning"
        remedy = "fill it in, or leave the row out"
        if is_whole and values[value] > often and len(examples) >= 50:
            # N/A may be what is to be answered where a question has no answer.
            evidence += f"; {values[value]:,} rows have it"
            remedy = "leave the rows out, unless it is what the model should say"
        elif is_whole and example.messages and value != "none":
            severity = "warning" if value.strip(" .!") in _MAY_ANSWER else "error"
        elif not is_whole and num_holes > often and len(examples) >= 50:
            severity = "note"
            evidence += f"; {num_holes:,} rows have such holes"
            remedy = "nothing, if the model should write them; else fill them in"
        findings.append(example.finding("placeholder", severity, evidence, remedy))
    return findings


def look(example: Example, may_have_hole: bool = True) -> Seen:
    """(whether a whole field is a placeholder, evidence, the value in lower case).

    Args:
        example: the row.
        may_have_hole: False where no text of the row holds a sign of a hole.
    """
    hole: tuple[bool, str, str] | None = None
    for place, text in texts(example):
        if place.endswith("(tool)") or "system" in place:
            continue
        is_answer = "answer" in place or "assistant" in place
        value = text.strip()
        if len(text) <= _LONGEST_WHOLE and _is_whole(value, is_answer):
            bare = value.casefold().strip(" .")
            if is_answer and bare.strip(string.punctuation) and bare in _asked(example):
                continue  # it was asked about, or is quoted
            return True, f"{place} is only {value!r}", value.casefold()
        if may_have_hole and hole is None and (span := _hole(text)) is not None:
            hole = False, f"a hole in {place}: {span[:60]!r}", span
    return hole


def _asked(example: Example) -> str:
    """What users said, in lower case."""
    return "\n".join(turn.content.casefold() for turn in example.messages if turn.role == "user")


def _is_whole(text: str, is_answer: bool) -> bool:
    if not text:
        return False
    plain = text.casefold().strip(" \t\n\"'“”.!:;*_-")
    bare = plain.strip("[]<>(){}#!").strip()
    if len(bare) > _LONGEST_WORDS and text[0].isalnum() and not plain.startswith(_BEGINNINGS):
        return False
    if plain in _ANYWHERE or (bare in _ANYWHERE and bare != "ref") or plain in ("#ref", "#ref!"):
        return plain not in ("missing", "ref", "value") or is_answer
    if is_answer and (plain in _AS_ANSWER or bare in _AS_ANSWER) and text not in ("Na", "NaCl"):
        return True
    if text == "None":
        return is_answer
    if (hit := _BRACKETED.fullmatch(text)) is not None:
        inner = hit[1].strip()
        if inner.upper().replace(" ", "_") in _OWN_MASKS:
            return False
        if text.startswith(("{{", "${", "<<", "[[")) or _FILLER.search(inner):
            return not text.startswith("(") or bool(_FILLER.fullmatch(inner))
    if _LOREM.match(text):
        return True
    if is_answer and _MARKS.fullmatch(text):
        return True
    return is_answer and _REPEATED.fullmatch(plain) is not None and len(plain) >= 3


def _hole(text: str) -> str | None:
    """The first hole."""
    brackets = "{" in text or "[" in text or "<" in text or "%" in text
    noted = any(word in text for word in _NOTE_WORDS)
    if not brackets and not noted:
        return None
    plain = without_code(text)
    if brackets:
        for pattern in (_HOLES, _CASED_HOLES):
            for hit in pattern.finditer(plain):
                inner = hit[0].strip("[]{}<>%$ ")
                if inner.upper().replace(" ", "_") in _OWN_MASKS:
                    continue
                line = plain[plain.rfind("\n", 0, hit.start()) + 1 : hit.start()][-_LINE:]
                if not _IN_CODE.search(line):
                    return hit[0]
    for pattern in (_LOREM, _NOTE) if noted else ():
        found = pattern.search(plain)
        if found is not None:
            return found[0]
    return None


_NOTE_WORDS = ("TODO", "FIXME", "TBD", "XXX", "orem ipsum", "OREM IPSUM", "olor sit", "OLOR SIT",
               "onsectetur", "incididunt", "labore et", "citation")  # fmt: skip
_SIGNS = ("{", "[", "<", "%", *_NOTE_WORDS)
"""One of these stands in every text with a hole."""
