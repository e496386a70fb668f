"""Whether an answer is right: by the letter, normalised, as a number, by what it contains.

In: predictions with text. Out: metrics of 0 and 1. Must not know: labels, models.
"""

import re
import string
from decimal import Decimal
from importlib.metadata import version

import regex

from fettle.errors import UsageError
from fettle.metrics.metric import (
    Graded,
    Metric,
    graded_metric,
    references_of,
    row_metric,
    shown,
    text_of,
)
from fettle.records.outcomes import Prediction

PATTERN_SECONDS = 1.0
"""Longest that one pattern may search one answer: some patterns take years on some texts."""
ARTICLES = re.compile(r"\b(?:a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
NUMBER = re.compile(
    r"(?:(?<![\w)])[-+\u2212])?(?<![\w.])"
    r"(?:(?:\d{1,3}(?:[,'\u00a0\u2009\u202f]\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d+)?"
)
SEPARATORS = re.compile(r"[,'\u00a0\u2009\u202f]")
MOST_DIGITS = 400
"""Of a number with its exponent; longer ones are no answers, and cost time."""


def exact_match() -> Metric:
    """Share of answers that equal a reference, apart from whitespace at both ends."""
    return row_metric("exact_match", _is_match, settings="strip:ends|case:mixed", binary=True)


def normalized_match(articles: bool = False) -> Metric:
    """Share of answers that equal a reference apart from case, punctuation, articles, whitespace.

    Args:
        articles: the English articles a, an, the count; they don't by default.

    Source: Rajpurkar et al. 2016 (SQuAD's exact match).
    """

    def grade(row: Prediction) -> Graded:
        accepted = [normalized(reference, articles) for reference in references_of(row)]
        answer = normalized(text_of(row), articles)
        if answer in accepted:
            return Graded(1.0)
        return Graded(0.0, f"{shown(answer)} is not {' or '.join(map(shown, accepted))}")

    kept = "kept" if articles else "removed"
    return graded_metric(
        "normalized_match",
        grade,
        settings=f"case:folded|punctuation:removed|articles:{kept}|whitespace:one",
        binary=True,
    )


def numeric_answer(tolerance: float = 0.0) -> Metric:
    """Share of answers whose number is right: the one after the last ``####``, else the last.

    Thousands may be separated (1,234 or 1'234); a decimal comma is not understood. A reference
    without a number leaves the row without a value; an answer without one is wrong.

    Args:
        tolerance: largest difference that still counts as right.

    Source: Cobbe et al. 2021 for ``#### 42`` (gsm8k).
    """
    if not 0.0 <= tolerance < float("inf"):
        raise UsageError(
            "E1002",
            f"numeric_answer:tolerance is {tolerance}",
            hint="choose 0 or more, such as numeric_answer:tolerance=0.01",
        )
    allowed = Decimal(repr(tolerance))

    def grade(row: Prediction) -> Graded:
        wanted = [final_number(reference) for reference in references_of(row)]
        known = [number for number in wanted if number is not None]
        if not known:
            return Graded(None, "no number in its reference")
        said = final_number(text_of(row))
        expected = " or ".join(str(number) for number in known)
        if said is None:
            return Graded(0.0, f"no number in the answer, expected {expected}")
        if any(abs(said - number) <= allowed for number in known):
            return Graded(1.0)
        return Graded(0.0, f"{said} is not {expected}")

    return graded_metric(
        "numeric_answer",
        grade,
        settings=f"number:after ####, else last|tol:{tolerance:g}",
        binary=True,
    )


def contains(case: bool = False, words: bool = False) -> Metric:
    """Share of answers that contain a reference (any of them, where there are several).

    Args:
        case: upper and lower case differ.
        words: only whole words count: "cat" is not in "category".
    """

    def grade(row: Prediction) -> Graded:
        terms = references_of(row)
        if not any(term.strip() for term in terms):
            return Graded(None, "an empty reference (every answer contains it)")
        if any(term.strip() and holds(text_of(row), term, case, words) for term in terms):
            return Graded(1.0)
        return Graded(0.0, f"{' or '.join(map(shown, terms))} is not in it")

    return graded_metric(
        "contains",
        grade,
        settings=f"case:{'mixed' if case else 'folded'}|words:{'whole' if words else 'any part'}",
        binary=True,
    )


def matches(pattern: str = "", full: bool = False) -> Metric:
    """Share of answers in which a regular expression is found.

    Args:
        pattern: what to look for; the row's references are the patterns where it is left out. It
            takes the rest of the metric's name, commas and all.
        full: the whole answer, apart from whitespace at both ends, must match.

    Raises:
        UsageError: E1002, not a pattern.

    Source: the regex package, in the syntax of Python's ``re`` (VERSION0).
    """
    if pattern:
        fault = pattern_fault(pattern)
        if fault is not None:
            raise UsageError(
                "E1002",
                f"{shown(pattern)} is not a regular expression: {fault}",
                hint=r"write one such as regex:pattern=^\d+$, in quotes on the command line",
            )

    def grade(row: Prediction) -> Graded:
        patterns = (pattern,) if pattern else references_of(row)
        text = text_of(row).strip() if full else text_of(row)
        for one in patterns:
            if not one:
                return Graded(None, "an empty pattern (every answer matches it)")
            try:
                if searched(one, text, full):
                    return Graded(1.0)
            except regex.error as error:
                return Graded(None, f"no valid pattern ({shown(one)}: {error})")
            except TimeoutError:
                return Graded(
                    None, f"no end of a search ({shown(one)}, after {PATTERN_SECONDS:g} s)"
                )
        return Graded(0.0, f"no match of {' or '.join(map(shown, patterns))}")

    return graded_metric(
        "regex",
        grade,
        source=f"regex {version('regex')}",
        settings=f"find:{'all of it' if full else 'anywhere'}|pattern:{pattern or 'reference'}",
        binary=True,
    )


def normalized(text: str, articles: bool = False) -> str:
    """Lower case, no ASCII punctuation, one space between words; no articles unless they count."""
    text = text.lower().translate(WITHOUT_PUNCTUATION)
    return " ".join((text if articles else ARTICLES.sub(" ", text)).split())


def final_number(text: str) -> Decimal | None:
    """The number behind the last ``####``, else the last number; None where there is none."""
    marked = all_numbers(text.rpartition("####")[2]) if "####" in text else []
    if marked:
        return marked[0]
    numbers = all_numbers(text)
    return numbers[-1] if numbers else None


def all_numbers(text: str) -> list[Decimal]:
    """The numbers in a text, in order, without separators of thousands."""
    found = []
    for match in NUMBER.finditer(text):
        plain = SEPARATORS.sub("", match.group()).replace("\u2212", "-")
        if len(plain) > MOST_DIGITS:
            continue
        number = Decimal(plain)
        if abs(number.adjusted()) <= MOST_DIGITS:
            found.append(number)
    return found


def holds(text: str, term: str, case: bool = False, words: bool = False) -> bool:
    """Whether a text contains a term; whitespace of any length counts as one space."""
    text, term = (" ".join(part.split()) for part in (text, term))
    if not case:
        text, term = text.casefold(), term.casefold()
    if not words:
        return term in text
    return re.search(rf"(?<!\w){re.escape(term)}(?!\w)", text) is not None


def searched(pattern: str, text: str, full: bool = False) -> bool:
    """Whether a pattern is found in a text.

    Raises:
        regex.error: not a pattern.
        TimeoutError: it searched for longer than ``PATTERN_SECONDS``.
    """
    search = regex.fullmatch if full else regex.search
    return search(pattern, text, timeout=PATTERN_SECONDS) is not None


def pattern_fault(pattern: str) -> str | None:
    """Why a text is not a regular expression, or None."""
    try:
        regex.compile(pattern)
    except regex.error as error:
        return str(error)
    return None


def _is_match(row: Prediction) -> float:
    answer = text_of(row).strip()
    return float(any(answer == reference.strip() for reference in references_of(row)))
