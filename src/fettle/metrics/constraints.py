"""Whether an answer keeps to what its row asks for: terms to name, lengths, forms.

A constraint is a text that the answer must contain, or an object with one key (several keys are
several constraints):

    contains, contains_any, not_contains    a text, or a list of texts; case does not count
    regex                                   a pattern that is found in the answer
    starts_with, ends_with                  a text
    min_words, max_words                    words between spaces
    min_characters, max_characters          of the answer without whitespace at its ends
    sentences                               at most so many (., ! or ? before a space or the end)
    lines, bullets                          exactly so many non-empty lines, or lines with - * • 1.
    json                                    true: the answer is JSON
    lowercase, uppercase                    true: no letter of the other case

In: predictions with ``constraints``. Out: a metric. Must not know: models, where they come from.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import regex

from fettle.metrics.match import holds, searched
from fettle.metrics.metric import Graded, Metric, graded_metric, shown, text_of
from fettle.metrics.structure import parsed
from fettle.records.outcomes import Prediction

BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+\S")
SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")


def constraints(all_or_nothing: bool = False) -> Metric:
    """Share of the row's constraints that its answer keeps; the mean over rows.

    Args:
        all_or_nothing: 1 only when all are kept, else 0.
    """

    def grade(row: Prediction) -> Graded:
        asked = list(_each(row))
        if not asked:
            return Graded(None, "an empty list of constraints")
        answer = text_of(row)
        broken = []
        for kind, value in asked:
            try:
                kept = CHECKS[kind](answer, value) if kind in CHECKS else None
            except (TypeError, ValueError, regex.error, TimeoutError):
                kept = None
            if kept is None:
                return Graded(None, f"no valid constraint ({kind}: {shown(str(value))})")
            if not kept:
                broken.append(f"{kind} {shown(str(value))}")
        share = float(not broken) if all_or_nothing else 1.0 - len(broken) / len(asked)
        return Graded(share, f"not kept: {', '.join(broken)}" if broken else "")

    return graded_metric(
        "constraints",
        grade,
        settings=f"row:{'all or nothing' if all_or_nothing else 'share kept'}",
        also=("constraints",),
        binary=all_or_nothing,
    )


def _each(row: Prediction) -> Iterator[tuple[str, Any]]:
    for constraint in row.constraints or ():
        if isinstance(constraint, Mapping):
            yield from constraint.items()
        else:
            yield "contains", constraint


def _terms(value: Any) -> list[str]:
    terms = value if isinstance(value, list | tuple) else [value]
    if not terms or not all(isinstance(term, str) and term.strip() for term in terms):
        raise ValueError("terms are texts that are not empty")
    return list(terms)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a count is a whole number")
    return value


def _switch(answer: bool, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return answer is value


def _lines(answer: str) -> list[str]:
    return [line for line in answer.splitlines() if line.strip()]


CHECKS: dict[str, Callable[[str, Any], bool]] = {
    "contains": lambda a, v: all(holds(a, term) for term in _terms(v)),
    "contains_any": lambda a, v: any(holds(a, term) for term in _terms(v)),
    "not_contains": lambda a, v: not any(holds(a, term) for term in _terms(v)),
    "regex": lambda a, v: searched(_terms(v)[0], a),
    "starts_with": lambda a, v: a.strip().casefold().startswith(_terms(v)[0].casefold()),
    "ends_with": lambda a, v: a.strip().casefold().endswith(_terms(v)[0].casefold()),
    "min_words": lambda a, v: len(a.split()) >= _count(v),
    "max_words": lambda a, v: len(a.split()) <= _count(v),
    "min_characters": lambda a, v: len(a.strip()) >= _count(v),
    "max_characters": lambda a, v: len(a.strip()) <= _count(v),
    "sentences": lambda a, v: len(SENTENCE_END.findall(a.strip())) <= _count(v),
    "lines": lambda a, v: len(_lines(a)) == _count(v),
    "bullets": lambda a, v: sum(bool(BULLET.match(line)) for line in _lines(a)) == _count(v),
    "json": lambda a, v: _switch(parsed(a)[1] is None, v),
    "lowercase": lambda a, v: _switch(a == a.lower(), v),
    "uppercase": lambda a, v: _switch(a == a.upper(), v),
}
"""Kind to a function of answer and value."""
