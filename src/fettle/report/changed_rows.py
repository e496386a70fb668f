"""The holdout rows on which the tuned model gained or lost most, for side-by-side reading.

In: ``Contents``. Out: ``ChangedRows``. A row is ranked by its grade in the primary metric (or the
nearest one that is graded by row), then by the probability of its reference, so that rows whose
answer stayed the same follow those whose answer changed. Must not know: HTML.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fettle.report.contents import Answer, Contents, mapping, read_inputs
from fettle.report.words import metric_difference, metric_title, metric_value, percent, plain

NUM_SHOWN = 20
MAX_CHARACTERS = 4_000
"""Longer texts are cut here; 20 + 20 rows with four texts each then stay under 1 MB."""
FOLD_CHARACTERS = 400
PREVIEW_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class ShownText:
    """One text of a row: whole, or folded behind its first characters."""

    text: str
    preview: str = ""
    """Not empty when the text is folded."""
    num_left_out: int = 0


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """One holdout row with what both models said."""

    row_id: str
    change: str
    input: ShownText
    reference: ShownText
    base: ShownText
    tuned: ShownText
    base_note: str
    tuned_note: str


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """Both lists, best gain and worst loss first."""

    improved: tuple[ChangedRow, ...]
    worsened: tuple[ChangedRow, ...]
    ranked_by: str
    num_compared: int
    num_answered: int | None
    """chat: rows that both models answered in full, when that is not all of them."""
    counts: tuple[int, int, int]
    """Rows that got better, stayed, got worse, by the grade alone."""


def changed_rows(contents: Contents) -> ChangedRows | None:
    """Rank the holdout rows.

    Returns:
        None when there is nothing that both arms have for the same rows.
    """
    base, tuned = contents.answers.get("base", {}), contents.answers.get("tuned", {})
    shared = [row_id for row_id in base if row_id in tuned]
    grade = row_grades(contents, shared)
    if grade is None:
        return None
    metric, higher_is_better, grades = grade
    sign = 1.0 if higher_is_better else -1.0
    graded = [row_id for row_id in shared if row_id in grades]
    gains = {row_id: sign * (grades[row_id][1] - grades[row_id][0]) for row_id in graded}
    counts = (
        sum(gain > 0 for gain in gains.values()),
        sum(gain == 0 for gain in gains.values()),
        sum(gain < 0 for gain in gains.values()),
    )
    # Rows without answers have nothing to read side by side.
    answered = [row_id for row_id in graded if _is_answered(base[row_id], tuned[row_id])]
    pool = answered or graded

    def rank(row_id: str) -> tuple[float, float]:
        return gains[row_id], _probability_gain(base[row_id], tuned[row_id])

    ordered = sorted(pool, key=lambda row_id: (rank(row_id), row_id))
    worst = [row_id for row_id in ordered if rank(row_id) < (0.0, 0.0)][:NUM_SHOWN]
    best = [row_id for row_id in reversed(ordered) if rank(row_id) > (0.0, 0.0)][:NUM_SHOWN]
    inputs = read_inputs(contents, {*worst, *best})

    def shown(row_id: str) -> ChangedRow:
        return _shown(
            row_id,
            inputs.get(row_id, ""),
            base[row_id],
            tuned[row_id],
            _change(metric, grades[row_id], base[row_id], tuned[row_id]),
        )

    return ChangedRows(
        improved=tuple(map(shown, best)),
        worsened=tuple(map(shown, worst)),
        ranked_by=metric_title(metric),
        num_compared=len(graded),
        num_answered=len(answered) if len(answered) < len(graded) else None,
        counts=counts,
    )


def row_grades(
    contents: Contents, shared: list[str]
) -> tuple[str, bool, Mapping[str, tuple[float, float]]] | None:
    """Metric, whether higher is better, and row id to (base, tuned) grade."""
    verdict = contents.verdict
    primary = mapping(verdict.get("primary"))
    wanted = [primary, *[mapping(item) for item in verdict.get("secondary") or ()]]
    for comparison in wanted:
        metric = str(comparison.get("metric"))
        arms = contents.grades.get(metric, {})
        base, tuned = arms.get("base", {}), arms.get("tuned", {})
        both = {row_id: (base[row_id], tuned[row_id]) for row_id in base if row_id in tuned}
        if both:
            return metric, bool(comparison.get("higher_is_better", True)), both
    answers = [
        (row_id, contents.answers["base"][row_id], contents.answers["tuned"][row_id])
        for row_id in shared
    ]
    losses = {
        row_id: (base.loss, tuned.loss)
        for row_id, base, tuned in answers
        if base.loss is not None and tuned.loss is not None
    }
    if losses:
        return "loss", False, losses
    right = {
        row_id: (_is_right(base), _is_right(tuned))
        for row_id, base, tuned in answers
        if _is_answered(base, tuned)
    }
    return ("exact_match", True, right) if right else None


def _is_right(answer: Answer) -> float:
    return float(answer.prediction in answer.references)


def _is_answered(base: Answer, tuned: Answer) -> bool:
    return base.prediction is not None and tuned.prediction is not None


def _probability_gain(base: Answer, tuned: Answer) -> float:
    if base.probability is None or tuned.probability is None:
        return 0.0
    return tuned.probability - base.probability


def _change(metric: str, grades: tuple[float, float], base: Answer, tuned: Answer) -> str:
    if base.probability is not None and set(grades) <= {0.0, 1.0}:
        if grades[0] != grades[1]:
            return "wrong → right" if grades[1] > grades[0] else "right → wrong"
        state = "right" if grades[0] else "wrong"
        return (
            f"both {state}; probability of the reference {percent(base.probability)} → "
            f"{percent(tuned.probability)}"
        )
    difference = metric_difference(metric, grades[1] - grades[0])
    return (
        f"{metric_title(metric)} {metric_value(metric, grades[0])} → "
        f"{metric_value(metric, grades[1])} ({difference})"
    )


def _shown(row_id: str, text: str, base: Answer, tuned: Answer, change: str) -> ChangedRow:
    references = base.references or tuned.references

    def note(answer: Answer) -> str:
        if answer.confidence is not None:
            return percent(answer.confidence)
        return "" if answer.loss is None else f"loss {answer.loss:.3f}"

    return ChangedRow(
        row_id=plain(row_id),
        change=change,
        input=shown_text(text or "(this row is not in data/rows.jsonl)"),
        reference=shown_text("\n— or —\n".join(references)),
        base=shown_text(_answer(base)),
        tuned=shown_text(_answer(tuned)),
        base_note=note(base),
        tuned_note=note(tuned),
    )


def _answer(answer: Answer) -> str:
    if answer.prediction is None:
        return "(not answered in full; only its loss was measured)"
    return answer.prediction or "(an empty answer)"


def shown_text(text: str) -> ShownText:
    """Clean a text and decide whether it is folded or cut."""
    cut = plain(text[:MAX_CHARACTERS])
    left_out = max(0, len(text) - MAX_CHARACTERS)
    is_long = len(cut) > FOLD_CHARACTERS or cut.count("\n") > 8
    preview = " ".join(cut[: PREVIEW_CHARACTERS * 2].split())[:PREVIEW_CHARACTERS]
    return ShownText(cut, preview if is_long else "", left_out)
