"""Predictions, grades and the verdict.

In: nothing. Out: value types, each with ``to_json`` in the shape that DESIGN section 5 fixes.
Must not know: how any of them is computed.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SCHEMA = 1

VerdictWord = Literal[
    "improved",
    "equivalent",
    "worse",
    "no_clear_difference",
    "too_few_rows",
    "regressed_elsewhere",
    "guard_unproven",
    "invalid",
]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Prediction:
    """What one model said about one row; a line of a prediction file."""

    row_id: str
    prediction: str | None
    """Label, answer, number or set of labels (``labels_as_text``); None when only the loss was
    measured for this row."""
    reference: str | tuple[str, ...]
    group: str | None = None
    score: float | None = None
    """A score that the user's own file brings; used when it is the chosen metric."""
    probabilities: Mapping[str, float] | None = None
    loss_sum: float | None = None
    """Nats over the row's target tokens."""
    num_targets: int | None = None
    confidence: float | None = None
    """0 to 1, that the prediction is right; for files that bring no probabilities."""
    input: str | None = None
    """What the model was given: a text, or the turns before the answer. Only where a metric needs
    it, because it makes files several times larger."""
    constraints: tuple[str | Mapping[str, Any], ...] | None = None
    """What this row's answer must satisfy; see ``metrics.constraints``."""
    tags: Mapping[str, str] | None = None
    """Names and values that rows are sliced by."""
    scores: Mapping[str, float] | None = None
    """By name, what a grader outside the metrics (a judge, a classifier of the brand's voice) gave
    this row; a row that it could not grade has none."""

    def to_json(self) -> dict[str, Any]:
        """One line of a prediction file; absent values are left out."""
        record = {key: value for key, value in asdict(self).items() if value is not None}
        record["prediction"] = self.prediction
        if isinstance(self.reference, tuple):
            record["reference"] = list(self.reference)
        if self.constraints is not None:
            record["constraints"] = list(record["constraints"])
        return record


def confidence_of(row: Prediction) -> float | None:
    """How sure a model is of its prediction, 0 to 1; None where the row doesn't say.

    Args:
        row: with ``confidence``, or with ``probabilities`` of labels; of a set of labels, the
            chance that all of them are right and no other, each by itself.
    """
    if row.confidence is not None:
        return row.confidence
    if row.probabilities is None or row.prediction is None:
        return None
    if row.prediction in row.probabilities:
        return row.probabilities[row.prediction]
    said = labels_from_text(row.prediction)
    if not row.prediction.startswith("[") or not said <= row.probabilities.keys():
        return None
    chances = (p if label in said else 1.0 - p for label, p in row.probabilities.items())
    return math.prod(chances)


def labels_as_text(labels: Iterable[str]) -> str:
    """A set of labels as a prediction file holds it: a sorted JSON list, ``["late", "rude"]``."""
    return json.dumps(sorted(labels), ensure_ascii=False)


def labels_from_text(text: str) -> frozenset[str]:
    """The labels in a prediction: those of a JSON list of texts, else the text as the only one."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return frozenset({text})
        if isinstance(found, list) and all(isinstance(label, str) for label in found):
            return frozenset(found)
    return frozenset({text})


@dataclass(frozen=True, slots=True)
class Grade:
    """One metric on one row of one arm."""

    row_id: str
    arm: str
    metric: str
    value: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric, two arms, one test. ``difference`` is always B - A, with the base as A."""

    metric: str
    higher_is_better: bool
    base: float
    tuned: float
    difference: float
    ci_low: float | None
    """None where the rows can't bound the difference (a single row or cluster)."""
    ci_high: float | None
    confidence: float
    p_value: float
    test: str
    n: int
    clusters: int | None
    signature: str
    p_adjusted: float | None = None
    interval: str = ""
    """How ci_low and ci_high were found."""


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """A cheap alternative on the same rows."""

    name: str
    value: float
    difference_to_tuned: float
    """tuned - baseline."""
    p_value: float | None
    n: int = 0
    metric: str = ""
    """Differs from the primary metric where a baseline has no value for that (a loss)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a comparison; ``to_json`` is verdict.json."""

    verdict: VerdictWord
    reason: str
    primary: Comparison | None
    secondary: Sequence[Comparison] = ()
    power: Mapping[str, Any] | None = None
    guards: Sequence[Mapping[str, Any]] | None = ()
    """None when two prediction files were compared: nothing else could be tested."""
    baselines: Sequence[BaselineResult] = ()
    holdout: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    candidates_screened: int | None = None
    weights: Mapping[str, Any] | None = None
    base: Mapping[str, Any] | None = None
    seeds: Sequence[int] = ()
    created: str = ""
    headline: str = ""
    """The one line that a person reads first; with the baseline in it when that is not beaten."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Tables for the report (per class, confusion); not part of the contract."""

    def to_json(self) -> dict[str, Any]:
        """The contract of DESIGN section 5, in its order."""
        primary = asdict(self.primary) if self.primary is not None else None
        if primary is not None:
            primary.pop("p_adjusted")
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "reason": self.reason,
            "headline": self.headline,
            "primary": primary,
            "secondary": [asdict(item) for item in self.secondary],
            "power": self.power,
            "guards": None if self.guards is None else list(self.guards),
            "baselines": [asdict(item) for item in self.baselines],
            "holdout": self.holdout,
            "plan": self.plan,
            "candidates_screened": self.candidates_screened,
            "weights": self.weights,
            "base": self.base,
            "seeds": list(self.seeds),
            "created": self.created,
            "extra": dict(self.extra),
        }

    def __repr__(self) -> str:
        return f"Verdict({self.verdict}: {self.headline or self.reason})"

    def dumps(self) -> str:
        """verdict.json as text."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
