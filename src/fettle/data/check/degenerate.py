"""Answers that teach a bad habit: loops, refusals, mashed keys, ends in the middle of a sentence.

In: examples. Out: findings. Must not know: models, splits.

Repetition follows the signals of Rae et al. 2021 (Gopher, table A1), with thresholds that spare
lists, tables and refrains. Whether an end is a cut is a question of the set: where almost all
answers end with a mark, one that ends with a letter was cut.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from operator import eq
from typing import Final, NamedTuple

from fettle.data.check.places import answers, shown
from fettle.data.check.refusals import WORDS as REFUSAL_WORDS
from fettle.data.check.refusals import refuses
from fettle.data.check.screen import Screen
from fettle.data.deduplicate import normal_text
from fettle.data.sensitive import redact
from fettle.records.rows import Example, Finding, Severity

_MIN_RUN: Final = 7
"""A word this many times in a row is a loop."""
_LONGEST_PHRASE: Final = 12
"""Words of a phrase whose immediate repetition is looked for."""
_MOST_DISTINCT: Final = 0.75
"""A sentence three times, in two fifths of a text, leaves fewer distinct words than this share."""
_RUN = re.compile(r"([^\W\d_])\1{14,}|([!?])\2{14,}|([-=_*#~.,])\3{19,}|(\d)\4{29,}")
_RUNS: Final = tuple(sign * 15 for sign in string.ascii_letters + string.digits + "!?-=_*#~.,")
"""Each run in ASCII that ``_RUN`` finds holds one of these."""
_SENTENCE = re.compile(r"[.!?\n]+\s*")
_ROWS = tuple(map(frozenset, ("qwertyuiop", "asdfghjkl", "zxcvbnm")))
_CLUSTER = re.compile(r"[bcdfghjklmnpqrstvwxz]{6}")
_VOWEL = re.compile(r"[aeiouy]")
_FUNCTION_WORDS: Final = frozenset(
    ("the", "a", "an", "and", "or", "but", "of", "to", "with", "for", "from", "that", "which", "is",
     "are", "was", "were", "by", "as", "at", "your", "our", "their", "its", "if", "when",
     "because", "und", "der",
     "die", "das", "le", "la", "les", "et", "de", "el", "los", "y", "que")
)  # fmt: skip
_LAST_ENDS: Final = (
    re.compile(r"""(?s:.*)(?:[.!?…]|[.?]\)|[.?!]"|\.”|\.\*)[ ]"""),
    re.compile(r"(?s:.*)[。！？]"),
)
"""Up to the last end of a sentence: looked for from behind, all marks at once."""
_ITEM = re.compile(r"(?:^|\s\s)(?:[-*•–]|\d{1,2}[.)])\s")
_CLOSINGS = frozenset(
    (
        "thanks",
        "thank",
        "cheers",
        "best",
        "sincerely",
        "regards",
        "enjoy",
        "love",
        "yours",
        "warmly",
    )
)
_SMALL = frozenset(("of", "and", "the", "on", "for", "in", "to", "a", "an", "at"))
"""Words that stay small in a title."""
_MIN_WORDS_CUT = 6
_END_SHARE = 0.93
_OFTEN = 0.1


Endings = tuple[bool, bool]
"""Whether prose, and whether items of lists, end with a mark in almost all answers of a set."""


class Seen(NamedTuple):
    """What one row shows by itself."""

    name: str = ""
    """Of a fault; empty = none."""
    evidence: str = ""
    end: str = ""
    """The last fragment of the answer, or its mark alone; empty where it is no prose."""
    is_item: bool = False
    """Whether that is an item of a list."""


# Nearly all rows are one of these: shared, so that a million of them take no room.
_NOTHING: Final = Seen()
_ENDED: Final = (Seen("", "", ".", False), Seen("", "", ".", True))


def rows(examples: Sequence[Example], screen: Screen | None = None) -> list[Seen]:
    """What each row shows by itself, in order: the part that may be done chunk by chunk.

    Args:
        examples: the rows.
        screen: of them, where there is one.
    """
    screen = screen or Screen(examples)
    may_refuse = set(screen.rows(screen.with_words(REFUSAL_WORDS, any_case=True)))
    may_run = set(screen.rows(screen.with_words(_RUNS) | screen.beyond_ascii))
    return [
        look(example, row in may_refuse, row in may_run) for row, example in enumerate(examples)
    ]


def find(examples: Sequence[Example], seen: Sequence[Seen] | None = None) -> list[Finding]:
    """One degenerate finding for each such row: warning, or note where many rows have it.

    Args:
        examples: all rows.
        seen: ``rows`` of them, where that was done before.
    """
    seen = rows(examples) if seen is None else seen
    endings = _endings(seen)
    found: list[tuple[Example, str, str]] = []
    for example, row in zip(examples, seen, strict=True):
        if row.name:
            found.append((example, row.name, row.evidence))
        elif row.end and (cut := cut_off(row.end, row.is_item, endings)):
            evidence = f"the answer ends in the middle of a sentence: …{redact(cut)!r}"
            found.append((example, "cut", evidence))
    counts = Counter(name for _, name, _ in found)
    findings = []
    for example, name, evidence in found:
        many = counts[name] > max(_OFTEN * len(examples), 10)
        severity: Severity = "note" if many else "warning"
        more = f"; so in {counts[name]:,} rows" if many else ""
        findings.append(
            example.finding(
                "degenerate", severity, f"{evidence}{more}", "mend the answer, or leave the row out"
            )
        )
    return findings


def look(example: Example, may_refuse: bool = True, may_run: bool = True) -> Seen:
    """The first bad answer of a row; documents are looked at for loops.

    Args:
        example: the row.
        may_refuse: False where no text of the row holds a word of refusals.
        may_run: False where none holds a character 15 times running.
    """
    if example.text is not None:
        if example.target is None and (loop := repetition(example.text, may_run)) is not None:
            return Seen("repetition", f"{loop[0]} in the text: {shown(example.text, *loop[1:])}")
        return _NOTHING
    for place, text in answers(example):
        if (loop := repetition(text, may_run)) is not None:
            return Seen("repetition", f"{loop[0]} in {place}: {shown(text, *loop[1:])}")
        if is_mash(text):
            return Seen("mash", f"{place} looks like mashed keys: {shown(text, 0, 40)}")
        if may_refuse and (refusal := refuses(text)) is not None:
            evidence = f"{place} refuses, or speaks as an AI: {shown(text, *refusal)}"
            return Seen("refusal", evidence)
    turns = example.messages
    answer = turns[-1].content
    if len(turns) > 1 and len(answer) >= 12 and _same(answer, turns[-2].content):
        return Seen("echo", "the answer only repeats the prompt")
    found = _last_fragment(answer)
    if found is None:
        return _NOTHING
    end, is_item = found
    # Where the items before it have their marks, or there are none, an item is read as prose.
    if is_item and not _is_marked(end) and _items_end_with_marks(answer):
        is_item = False
    return _ENDED[is_item] if _is_marked(end) else Seen("", "", end, is_item)


def _same(one: str, other: str) -> bool:
    """Whether two texts are the same but for case, width and spaces."""
    if one.isascii() and other.isascii() and one.lower().split(None, 1)[:1] != other.lower().split(
        None, 1)[:1]:  # fmt: skip
        return False  # the first words settle nearly all
    return normal_text(one) == normal_text(other)


def repetition(text: str, may_run: bool = True) -> tuple[str, int, int] | None:
    """(what repeats, start, end), or None.

    Args:
        text: any text.
        may_run: False where no character stands in it so often that a run is looked for.
    """
    words = text.split()
    if may_run and (hit := _long_run(text)) is not None:
        return "a run of one character", *hit.span()
    if any(map(eq, words, words[1:])):
        run = 1
        for before, word in pairwise(words):
            run = run + 1 if before == word and any(map(str.isalnum, word)) else 1
            if run >= _MIN_RUN:
                at = text.find(f"{word} {word}")
                return "the same word again and again", max(at, 0), max(at, 0) + 2 * len(word) + 1
    if len(words) >= 16:
        # The words of a loop are few; most texts end here.
        distinct = len(set(words)) / len(words)
        if distinct < 0.6 and _loops(words):
            return "the same words again and again", 0, 60
        return _repeated_parts(text) if distinct < _MOST_DISTINCT else None
    if "\n" in text or len(words) >= 8:
        return _repeated_parts(text)
    return None


def _long_run(text: str) -> re.Match[str] | None:
    for hit in _RUN.finditer(text):
        if hit[3] is None:
            return hit
        # Rules between paragraphs, blanks to fill in and dotted lines are drawn with these.
        line_end = text.find("\n", hit.end())
        rest = text[hit.end() : line_end if line_end >= 0 else len(text)].strip()
        before = text[max(0, hit.start() - 1) : hit.start()]
        if (before.isalnum() and not rest) or len(hit[0]) >= 0.9 * len(text.strip()):
            return hit
    return None


def _loops(words: list[str]) -> bool:
    """Whether a phrase stands four times running, or most word triples stand often."""
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    often = {
        triple: count
        for triple, count in triples.items()
        if count >= 4 and any(any(map(str.isalpha, word)) for word in triple)
    }
    if not often:
        return False
    for period in range(2, _LONGEST_PHRASE + 1):
        run = 0
        for word, later in zip(words, words[period:], strict=False):
            run = run + 1 if word == later else 0
            if run >= max(3 * period, 8):
                return True
    few = len(set(words)) < 0.35 * len(words)
    return few and sum(often.values()) >= 0.6 * (len(words) - 2)


def _repeated_parts(text: str) -> tuple[str, int, int] | None:
    """A sentence or line that stands three times or more and makes up much of the text."""
    parts = [part.strip() for part in _SENTENCE.split(text)]
    if len(parts) - len(set(parts)) < 2:
        return None  # none stands three times
    counts = Counter(parts)
    part, count = counts.most_common(1)[0]
    if not part or count < 3:
        part, count = max(
            ((p, n) for p, n in counts.items() if p), key=lambda item: item[1], default=("", 0)
        )
    words = part.split()
    letters = sum(map(str.isalpha, part))
    enough = count >= 3 if len(words) >= 4 else count >= 5
    if enough and letters >= max(6, len(part) // 2) and len(part) * count >= 0.4 * len(text):
        return "the same sentence again and again", text.find(part), text.find(part) + len(part)
    return None


def is_mash(text: str) -> bool:
    """Whether most words are keys pressed at random."""
    if len(text) > 200 or not text.isascii() or any(map(str.isdigit, text)):
        return False
    words = [word for word in re.findall(r"[A-Za-z]+", text) if not word.isupper()]
    odd = sum(_is_odd(word.lower(), len(words) == 1) for word in words)
    return odd > 0 and odd >= 0.6 * len(words) and sum(map(len, words)) >= 0.7 * len(text.strip())


def _is_odd(word: str, alone: bool) -> bool:
    if len(word) < 5:
        return False
    if not _VOWEL.search(word) or _CLUSTER.search(word):
        return True
    rows = _ROWS[1:] if alone else _ROWS
    return len(word) >= 7 and any(row.issuperset(word) for row in rows)


def cut_off(end: str, is_item: bool, endings: Endings) -> str:
    """The last words of an answer that was cut; empty if it was not.

    Args:
        end: the answer's last fragment.
        is_item: whether that is an item of a list.
        endings: whether the answers of this set end with a mark, so that a letter is a cut.
    """
    if _is_marked(end):
        return ""
    words = end.split()
    sure = not is_item and (words[-1].lower() in _FUNCTION_WORDS or end[-1] == ",")
    return " ".join(words[-4:]) if endings[is_item] or sure else ""


def _is_marked(end: str) -> bool:
    return not end[-1].isalpha() and end[-1] != ","


def _last_fragment(text: str) -> tuple[str, bool] | None:
    """What stands after the last end of a sentence, and whether it is an item of a list.

    None where it is neither: signatures, headings, code and addresses need no mark at their end.
    """
    text = text.rstrip()
    if text.count(" ") < _MIN_WORDS_CUT:
        return None
    tail = text[-300:]
    line = tail[tail.rfind("\n") + 1 :]
    ends = [hit.end() for end in _LAST_ENDS if (hit := end.match(line, 0, len(line) - 1))]
    begin = max(ends, default=0)
    fragment = line[begin:]
    fragment = fragment[fragment.rfind("  ") + 1 :].strip()
    words = fragment.split()
    if not words:
        return None
    if len(words) <= 2 and begin and not _is_item(line):
        # A word or two after a sentence, in its line: a beginning, unless it says goodbye.
        closes = words[0].strip(",").lower() in _CLOSINGS
        return None if closes or not words[-1].isalpha() else (fragment, False)
    if len(words) < 2:
        return None
    telling = [word for word in words if word.lower() not in _SMALL]
    if sum(word[0].isupper() for word in telling) > 0.5 * len(telling) or "```" in tail:
        return None
    last = words[-1]
    if "://" in last or "www." in last or "@" in last or "_" in last or "regards" in line.lower():
        return None
    return fragment, _is_item(line)


def _items_end_with_marks(text: str) -> bool:
    """Whether all items of a list but the last one, which may be the only one, have their mark."""
    lines = [line.rstrip() for line in text.rstrip().split("\n")[:-1]]
    return all(_is_marked(line) for line in lines if line and _ITEM.match(line.lstrip()))


def _is_item(line: str) -> bool:
    if "  " in line or not (line.isascii() and line.isprintable()):
        return _ITEM.search(line) is not None
    return _ITEM.match(line) is not None  # without two spaces running it can only begin the line


def _endings(seen: Sequence[Seen]) -> Endings:
    """Whether the answers of a set end with a mark: those that end in prose, and in an item."""
    marks: tuple[list[bool], list[bool]] = ([], [])
    for row in seen:
        if row.end:
            marks[row.is_item].append(_is_marked(row.end))
    prose, items = (len(m) >= 20 and sum(m) >= _END_SHARE * len(m) for m in marks)
    return prose, items
