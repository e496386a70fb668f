"""What a summary took from its source, what it made up, and how much it copied.

Signals that need no model: numbers, names and terms, compared as text. They see an invented dose or
a wrong name; they do not see a true fact turned into its opposite. Names are words with a capital
letter, so that they mean little where all nouns have one (German) or none (Chinese, Arabic).

In: predictions with ``input``. Out: metrics. Must not know: models.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from fettle.errors import UsageError
from fettle.metrics.match import all_numbers
from fettle.metrics.metric import Graded, Metric, graded_metric, references_of, text_of
from fettle.records.outcomes import Prediction

WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
TITLES = {"Dr", "Mr", "Mrs", "Ms", "Prof", "St", "Jr", "Sr", "No"}
"""Words whose full stop ends no sentence; no names themselves."""
SENTENCE_START = re.compile(r"(?:^|[.!?:;\n\u2022]|\d[.)])[\s\"'\u201c\u2018(\[*#>-]*$")
AFTER_TITLE = re.compile(rf"\b(?:{'|'.join(sorted(TITLES))})\.\s*$")
IN_WORDS = "zero,one,two,three,four,five,six,seven,eight,nine,ten,eleven,twelve"
STEM = 5
"""Letters by which terms are compared: "patient" and "patients" are one."""
SHOWN = 5
"""Facts named in a reason."""


def faithfulness(of: str = "all") -> Metric:
    """Share of an answer's facts that its input holds; 1 where the answer states none.

    Args:
        of: numbers; names (words with a capital that do not begin a sentence); terms (words of
            five letters or more, by their first five); or all, which is numbers and names.

    Raises:
        UsageError: E1002, another kind.

    Source: Nan et al. 2021 (entity precision against the source), with words for entities.
    """
    find = _finder("faithfulness", of)

    def grade(row: Prediction) -> Graded:
        stated, known = find(text_of(row)), _known(row.input or "", find, of)
        if not stated:
            return Graded(1.0, "nothing to check in the answer")
        invented = [fact for fact in stated if fact not in known]
        named = f"not in the input: {_some(invented)}" if invented else ""
        return Graded(1.0 - len(invented) / len(stated), named)

    return graded_metric("faithfulness", grade, settings=_settings(of), also=("input",))


def kept(of: str = "all") -> Metric:
    """Share of the facts that input and reference both state which the answer states too.

    1 where they share none; where the reference is empty, all facts of the input count.

    Args:
        of: as in ``faithfulness``.

    Raises:
        UsageError: E1002, another kind.

    Source: Nan et al. 2021 (entity recall), with words for entities.
    """
    find = _finder("kept", of)

    def grade(row: Prediction) -> Graded:
        source = find(row.input or "")
        wanted = set().union(*(_known(text, find, of) for text in references_of(row)))
        if any(text.strip() for text in references_of(row)):
            source = [fact for fact in source if fact in wanted]
        if not source:
            return Graded(1.0, "nothing to keep in input and reference")
        said = _known(text_of(row), find, of)
        left_out = [fact for fact in source if fact not in said]
        named = f"left out: {_some(left_out)}" if left_out else ""
        return Graded(1.0 - len(left_out) / len(source), named)

    return graded_metric("kept", grade, settings=_settings(of), also=("input",))


def novelty(n: int = 2) -> Metric:
    """Share of the answer's word n-grams that its input does not hold: 0 is copied, 1 all new.

    Descriptive: neither more nor less of it is better.

    Args:
        n: words in a row.

    Source: See et al. 2017 (novel n-grams of summaries).
    """
    if n < 1:
        raise UsageError("E1002", "novelty:n is 0", hint="choose 1 or more, such as novelty:n=2")

    def grade(row: Prediction) -> Graded:
        answer = _grams(text_of(row), n)
        if not answer:
            return Graded(0.0, f"fewer than {n} words in the answer")
        known = set(_grams(row.input or "", n))
        new = sum(gram not in known for gram in answer)
        return Graded(new / len(answer), f"{new} of {len(answer)} are new")

    return graded_metric(
        "novelty", grade, settings=f"n:{n}|case:folded", also=("input",), descriptive=True
    )


def numbers(text: str) -> list[str]:
    """The different numbers of a text, in order; English words up to twelve count as such."""
    spelled = {word: str(value) for value, word in enumerate(IN_WORDS.split(","))}
    found = [_plain(abs(number)) for number in all_numbers(text)]
    found += [spelled[word] for word in WORD.findall(text.casefold()) if word in spelled]
    return list(dict.fromkeys(found))


def names(text: str) -> list[str]:
    """The different words with a capital that no sentence begins with, in order.

    A word that begins a sentence counts only if it has a second capital ("NASA").
    """
    found = []
    for match in WORD.finditer(text):
        word = _base(match.group())
        if len(word) < 2 or not word[0].isupper() or word in TITLES:
            continue
        before = text[max(0, match.start() - 12) : match.start()]
        starts = SENTENCE_START.search(before) and not AFTER_TITLE.search(before)
        if not starts or any(letter.isupper() for letter in word[1:]):
            found.append(word)
    return list(dict.fromkeys(found))


def terms(text: str) -> list[str]:
    """The different words of five letters or more, cut to five, in order."""
    long = (word for word in WORD.findall(text.casefold()) if len(word) >= STEM)
    return list(dict.fromkeys(word[:STEM] for word in long))


def facts(text: str) -> list[str]:
    """Numbers and names."""
    return [*numbers(text), *names(text)]


FINDERS: Mapping[str, Callable[[str], list[str]]] = {
    "all": facts,
    "numbers": numbers,
    "names": names,
    "terms": terms,
}


def _known(text: str, find: Callable[[str], list[str]], of: str) -> set[str]:
    """The facts that a text supports: for names every word, wherever it stands."""
    found = set(find(text))
    if of in ("names", "all"):
        for word in WORD.findall(text):
            base = _base(word)
            found |= {base, base[:1].upper() + base[1:], base.upper()}
            found |= {part[:1].upper() + part[1:] for part in re.split("[-'\u2019]", word) if part}
    return found


def _base(word: str) -> str:
    """Without the 's of a possessive."""
    return re.sub(r"['\u2019]s$", "", word)


def _plain(number: Decimal) -> str:
    """One text for one value: 3.50 and 3.5 are the same."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _some(found: list[str]) -> str:
    listed = ", ".join(found[:SHOWN])
    return listed if len(found) <= SHOWN else f"{listed} and {len(found) - SHOWN} more"


def _finder(metric: str, of: str) -> Callable[[str], list[str]]:
    if of not in FINDERS:
        raise UsageError(
            "E1002",
            f"{metric} has no kind of facts {of!r}",
            hint=f"use one of {', '.join(FINDERS)}, such as {metric}:of=numbers",
        )
    return FINDERS[of]


def _settings(of: str) -> str:
    return f"of:{of}|compared:as text"
