"""Rows in a language that is not one of the set's, and answers in another language than asked.

In: examples. Out: findings. Must not know: models, splits.

py3langid names the language of a text; where it is not sure, or the text is too short or holds few
words, nothing is said. English is the commonest by far, and a few of its words settle it without a
model.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from fettle.data.check.identify import classify
from fettle.data.check.places import shown
from fettle.records.rows import Example, Finding

_FIRST: Final = 160
"""Characters that are looked at first; more (up to _MOST) only where they do not settle it."""
_MOST: Final = 1000
_MIN_LETTERS: Final = 40
_SURE: Final = 0.9
"""py3langid's confidence from which a language counts."""
_MIN_PROMPT: Final = 20
"""Characters of a prompt below which only its answer is looked at."""
_JUDGED_LETTERS: Final = 40
"""Fewer letters in another language are a name, a greeting, a quotation."""
_MAIN_SHARE: Final = 0.1
"""A language of at least this share of the rows is one of the set's."""
_FEW: Final = 20
_NOT_WORDS = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|www\.\S+|\S+@\S+|<[^<>]{1,80}>|[\d_{}\[\]()=<>/\\|#*;:]+",
    re.DOTALL,
)
_ONLY_ENGLISH = frozenset(
    ("the", "and", "you", "your", "with", "this", "that", "what", "how", "which", "would", "they",
     "there", "about", "because", "should", "could", "does", "my", "have", "are", "can", "from",
     "was", "when", "where", "will", "has", "been", "their", "were")
)  # fmt: skip
_ENGLISH = _ONLY_ENGLISH | frozenset(
    ("is", "in", "of", "to", "for", "it", "on", "be", "or", "an", "as", "not", "do", "if", "at",
     "by", "we", "me", "a", "i")
)  # fmt: skip
_RELATED: Final = tuple(
    frozenset(group.split())
    for group in (
        "no nb nn da sv fo is",
        "hr sr bs sl mk bg",
        "id ms jv su tl",
        "cs sk",
        "pt gl es ca oc an ast",
        "zh yue wuu lzh",
        "hi mr ne sa",
        "fa ps ckb ur ar",
        "ru uk be bg",
        "nl af fy nds li",
        "de lb nds als",
        "tr az tk",
        "fi et",
        "it co scn lmo vec",
        "en sco",
        "fr wa oc br",
    )
)
"""Languages that are easily taken for each other."""
_NAMED = re.compile(
    r"translat|übersetz|tradu|перевед|翻译|\b(?:english|german|french|spanish|italian|portuguese|dutch|polish"
    r"|russian|chinese|mandarin|japanese|korean|arabic|hindi|turkish|vietnamese|swedish|czech|danish|norwegian"
    r"|finnish|greek|hebrew|thai|ukrainian|romanian|hungarian|latin|indonesian|persian|farsi|language|languages"
    r"|deutsch|englisch|französisch|anglais|français|inglés|español)\b",
    re.IGNORECASE,
)


Guess = tuple[str, int] | None
# Nearly all texts of a set are one of a few, which are shared: a million take no room.
_ENGLISH_ENOUGH: Final = ("en", _JUDGED_LETTERS)


def rows(examples: Sequence[Example]) -> list[tuple[Guess, Guess]]:
    """The languages of each row's sides, in order: the part that may be done chunk by chunk."""
    texts = []
    for given, answered in map(_sides, examples):
        texts += [given if len(given) >= _MIN_PROMPT or not answered else "", answered]
    found = guesses(texts)
    pairs: dict[tuple[Guess, Guess], tuple[Guess, Guess]] = {}
    return [pairs.setdefault(pair, pair) for pair in zip(found[::2], found[1::2], strict=True)]


def find(
    examples: Sequence[Example], seen: Sequence[tuple[Guess, Guess]] | None = None
) -> list[Finding]:
    """One language_mismatch warning for each row that stands out.

    Args:
        examples: all rows.
        seen: ``rows`` of them, where that was done before.
    """
    seen = rows(examples) if seen is None else seen
    mains = [_mains(seen, side) for side in (0, 1)]
    same = _answers_follow(seen)
    findings = []
    for example, found in zip(examples, seen, strict=True):
        if _is_usual(found, mains):
            continue
        finding = _judged(example, _sides(example), found, mains, same)
        if finding is not None:
            findings.append(finding)
    return findings


def guesses(texts: Sequence[str]) -> list[Guess]:
    """The language of each text and its letters, 40 at most; None where that cannot be said.

    Args:
        texts: any texts. Code, addresses and numbers in them do not count.
    """
    found: list[Guess] = [None] * len(texts)
    known: dict[str, tuple[str, int]] = {}
    unsure: list[tuple[int, str, int]] = []
    for at, text in enumerate(texts):
        if len(text) < _MIN_LETTERS // 3:
            continue
        head = text[: 2 * _FIRST]
        if head.isascii() and (_is_english(head[:_FIRST]) or _is_english(head)):
            found[at] = _ENGLISH_ENOUGH if len(head) >= _JUDGED_LETTERS else ("en", len(head))
            continue
        plain = " ".join(_NOT_WORDS.sub(" ", text[:_MOST]).split())
        letters = _num_letters(plain[: 3 * _FIRST])
        if letters >= _MIN_LETTERS:
            unsure.append((at, plain, letters))
    # The beginnings first; whole texts only where those do not settle it.
    first = classify([plain[:_FIRST] for _, plain, _ in unsure]) if unsure else []
    again = [n for n, (_, plain, _) in enumerate(unsure)
             if first[n][1] < _SURE and len(plain) > _FIRST]  # fmt: skip
    for number, better in zip(again, classify([unsure[n][1] for n in again]), strict=True):
        first[number] = better
    for (at, _, letters), (language, sure) in zip(unsure, first, strict=True):
        if sure >= _SURE and language not in ("zxx", "und"):
            found[at] = known.setdefault(language, (language, min(letters, _JUDGED_LETTERS)))
    return found


def _num_letters(text: str) -> int:
    """Letters, where one of Chinese or Japanese says as much as three."""
    if text.isascii():
        return sum(map(str.isalpha, text))
    return sum(
        (3 if "\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3" else 1)
        for c in text
        if c.isalpha()
    )


def _is_english(text: str) -> bool:
    """Whether four different common words stand in it, one of which no other language has."""
    common = _ENGLISH.intersection(text.lower().split())
    return len(common) >= 3 and len(common) + len(_ONLY_ENGLISH & common) >= 5


def _sides(example: Example) -> tuple[str, str]:
    """(what is given, what is answered); the last exchange of a conversation."""
    if example.text is not None:
        return example.text, ""
    asked = [turn.content for turn in example.messages if turn.role == "user"]
    return (asked[-1] if asked else ""), example.messages[-1].content


def _mains(guesses: Sequence[tuple[Guess, Guess]], side: int) -> frozenset[str]:
    """The languages that a set is in, on one side."""
    counts = Counter(one[0] for found in guesses if (one := found[side]) is not None)
    total = counts.total()
    if total < _FEW:
        return frozenset()
    return frozenset(name for name, count in counts.items() if count >= _MAIN_SHARE * total)


def _answers_follow(guesses: Sequence[tuple[Guess, Guess]]) -> bool:
    """Whether answers are in the language of their prompts."""
    both = [(a[0], b[0]) for a, b in guesses if a is not None and b is not None]
    return len(both) >= _FEW and sum(a == b for a, b in both) >= 0.9 * len(both)


def _is_usual(found: tuple[Guess, Guess], mains: Sequence[frozenset[str]]) -> bool:
    """Whether nothing is to be said: what is known of both sides is one language of the set's."""
    given, answered = found
    if given is None and answered is None:
        return True
    if given is not None and (given[0] not in mains[0]):
        return False
    if answered is not None and (answered[0] not in mains[1]):
        return False
    return given is None or answered is None or given[0] == answered[0]


def _judged(
    example: Example,
    texts: tuple[str, str],
    found: tuple[Guess, Guess],
    mains: Sequence[frozenset[str]],
    same: bool,
) -> Finding | None:
    given, answered = found
    names = ", ".join(sorted(mains[0] | mains[1]))
    asks_for_language = _NAMED.search(texts[0][:2000])
    for place, side, one in (("the answer", 1, answered), ("the text", 0, given)):
        if one is None or one[1] < _JUDGED_LETTERS or not mains[side]:
            continue
        if side == 1 and asks_for_language:
            continue
        if not _is_one_of(one[0], mains[side]):
            place = place if example.text is not None or side == 1 else "the prompt"
            return example.finding(
                "language_mismatch",
                "warning",
                f"{place} is in {one[0]}, the set in {names}: {shown(texts[side], 0, 30)}",
                "leave the row out, or translate it, if the model is not to learn that language",
            )
    if same and given and answered and not asks_for_language:
        other = not _is_one_of(answered[0], frozenset((given[0],)))
        if other and min(given[1], answered[1]) >= _JUDGED_LETTERS:
            return example.finding(
                "language_mismatch",
                "warning",
                f"the prompt is in {given[0]}, the answer in {answered[0]}",
                "answer in the language of the prompt, or leave the row out",
            )
    return None


def _is_one_of(language: str, mains: frozenset[str]) -> bool:
    """Whether it is one of these, or one that is easily taken for one of these."""
    return language in mains or any(
        language in group and not group.isdisjoint(mains) for group in _RELATED
    )
