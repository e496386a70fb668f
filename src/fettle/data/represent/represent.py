"""Whether training rows are like the rows that a model will meet.

Three answers that are never joined into one: which rows of the target nothing in train is like
(coverage), how well the two can be told apart (distinguishability), and whether known slices have
the same shares (mix). With labels in train also how many points of accuracy the difference may
cost.

In: examples of train and of a target, which needs no labels. Out: ``Representation``, findings, row
weights. Must not know: files, splits, models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from fettle.data.check.label_errors import folds_of
from fettle.data.deduplicate import normal_text
from fettle.data.features.hashed import count_ngrams, fit_tfidf
from fettle.data.represent.coverage import Coverage, cover, group_rows, likeness, word_rows
from fettle.data.represent.domain import (
    Distinguishability,
    effective_rows,
    importance_weights,
    tell_apart,
    telling_words,
)
from fettle.data.represent.drop import NUM_FOLDS, Drop, expected_drop
from fettle.data.represent.mix import MixShift, length_buckets, mix_shift
from fettle.errors import DataError
from fettle.records.rows import Example, Finding

MIN_TARGET: Final = 30
"""Fewer target rows show nothing."""
MIN_TRAIN: Final = 100
MAX_REFERENCE: Final = 8_000
"""Rows of train that a target row is compared with."""
MAX_CALIBRATION: Final = 1_000
MAX_TARGET: Final = 4_000
MAX_COMPARED: Final = 500
"""Rows of each side that the classifier sees."""
ALPHA: Final = 0.05
MIX_APART: Final = 0.10
"""Total variation distance from which on a shift of the mix is worth a finding."""
DROP_POINTS: Final = 0.05

SliceOf = Callable[[Example], str]
"""A row → its slice."""


@dataclass(frozen=True, slots=True)
class Representation:
    """How train and target compare."""

    num_train: int
    num_target: int
    coverage: Coverage
    distinguishability: Distinguishability
    mix: tuple[MixShift, ...]
    drop: Drop | None
    """None where train has no labels, or only one."""
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return asdict(self)


def represent(
    train: Sequence[Example],
    target: Sequence[Example],
    seed: int = 0,
    slices: Mapping[str, SliceOf] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> Representation:
    """Compare train with a sample of what the model will meet.

    Args:
        train: training rows.
        target: rows of real traffic; labels are not needed.
        seed: of samples, folds and permutations.
        slices: name → the slice of a row, such as language or channel; length, and the label where
            both sides have it, are always looked at.
        clusters: row_id of train → cluster of near copies, which is kept together.

    Raises:
        DataError: E0338, too few rows on a side.
    """
    known, asked = _distinct(train), _distinct(target)
    if len(known) < MIN_TRAIN or len(asked) < MIN_TARGET:
        raise DataError(
            "E0338",
            f"{len(known):,} different rows to train on and {len(asked):,} in the target are too "
            "few to be compared",
            why=f"It takes {MIN_TRAIN} and {MIN_TARGET}",
            hint="give a larger sample of real inputs with --target",
        )
    near = clusters or {}
    key_of = {example.row_id: near.get(example.row_id, example.row_id) for example in known}
    return Representation(
        num_train=len(train),
        num_target=len(target),
        coverage=_coverage(known, asked, key_of, len(train), seed),
        distinguishability=_distinguishability(known, asked, seed),
        mix=_mix(train, target, slices or {}, seed),
        drop=_drop(known, asked, key_of, seed),
        seed=seed,
    )


def row_weights(
    train: Sequence[Example], target: Sequence[Example], seed: int = 0
) -> tuple[dict[str, float], float]:
    """Weights with which train counts as the target would (``domain.weighed_by``).

    Args:
        train: training rows.
        target: rows of real traffic.
        seed: of folds and landmarks.

    Returns:
        row_id → weight, of mean 1; and how many equal rows weigh as surely (Kish).
    """
    asked = _ranked(target, seed, "weights")[:MAX_TARGET]
    counts = count_ngrams([_text(example) for example in [*train, *asked]])
    features = fit_tfidf(counts, min_rows=2).transform(counts)
    weights = importance_weights(features[: len(train)], features[len(train) :], seed)
    by_row = {example.row_id: float(w) for example, w in zip(train, weights, strict=True)}
    return by_row, effective_rows(weights)


def findings_of(representation: Representation, source: str = "") -> list[Finding]:
    """What is worth a word: unrepresentative, a warning for each of the answers.

    Args:
        representation: from ``represent``.
        source: path of the target, for the findings.
    """
    found = []
    coverage = representation.coverage
    if coverage.p_value <= ALPHA:
        about = "; ".join(
            f"{len(group.rows):,} rows about {', '.join(group.keywords[:4]) or '(no words)'}: "
            f"collect about {group.rows_to_collect:,}"
            for group in coverage.groups[:3]
        )
        found.append(
            (
                f"{coverage.share:.1%} of {coverage.n:,} target rows are unlike anything in train "
                f"(95 % CI {coverage.ci_low:.1%} to {coverage.ci_high:.1%}; of train's own rows "
                f"{coverage.expected:.1%}, p = {coverage.p_value:.2g}): {about}",
                "collect and label rows like these, or say that the model is not for them",
                tuple(row for group in coverage.groups for row in group.rows)[:20],
            )
        )
    apart = representation.distinguishability
    if apart.p_value <= ALPHA and not apart.close:
        words = ", ".join(word.word for word in apart.words[:5])
        found.append(
            (
                f"train and target can be told apart: AUC {apart.auc:.2f} (95 % CI "
                f"{apart.ci_low:.2f} to {apart.ci_high:.2f}; 0.5 = not at all), by {words}",
                "measure on rows of the target; weights by target can help",
                (),
            )
        )
    for mix in representation.mix:
        if mix.p_value <= ALPHA and mix.distance >= MIX_APART:
            most = "; ".join(f"{s.name} {s.train:.0%} → {s.target:.0%}" for s in mix.shares[:3])
            found.append(
                (
                    f"the mix by {mix.slices} differs by {mix.distance:.0%} of the rows (95 % CI "
                    f"{mix.ci_low:.0%} to {mix.ci_high:.0%}): {most}",
                    "collect rows of the slices that train has too few of",
                    (),
                )
            )
    drop = representation.drop
    if drop is not None and drop.drop >= DROP_POINTS:
        found.append(
            (
                f"a linear model expects {drop.own_accuracy:.1%} accuracy on rows like train and "
                f"{drop.target_accuracy:.1%} on the target",
                "label some target rows and measure on them before you trust the holdout",
                (),
            )
        )
    return [
        Finding("", source, 0, None, "unrepresentative", "warning", evidence, remedy, related)
        for evidence, remedy, related in found
    ]


def _coverage(
    train: Sequence[Example],
    target: Sequence[Example],
    key_of: Mapping[str, str],
    num_train: int,
    seed: int,
) -> Coverage:
    """One fifth of train, by cluster, sets the threshold."""
    held = [e for e in train if _draw(key_of[e.row_id], seed, "held") % 5 == 0]
    kept = {e.row_id for e in train} - {e.row_id for e in held}
    reference = _ranked([e for e in train if e.row_id in kept], seed, "reference")[:MAX_REFERENCE]
    own = _ranked(held, seed, "own")[:MAX_CALIBRATION]
    asked = _ranked(target, seed, "target")[:MAX_TARGET]
    texts = [_text(example) for example in reference]
    counts = count_ngrams(texts)
    weights = fit_tfidf(counts, min_rows=0)
    known = weights.transform(counts)
    own_like = likeness(weights.transform(count_ngrams([_text(e) for e in own])), known)
    features = weights.transform(count_ngrams([_text(e) for e in asked]))
    target_like = likeness(features, known)
    coverage, below = cover(target_like, own_like)
    rows = np.flatnonzero(below)
    rows = rows[np.argsort(target_like[rows], kind="stable")]
    if coverage.p_value > ALPHA or not len(rows):
        return coverage
    # Words of train that a row does not share must count too, so that like rows find each other.
    alone = count_ngrams([_text(asked[i]) for i in rows.tolist()])
    groups = group_rows(
        fit_tfidf(alone).transform(alone),
        [_text(asked[i]) for i in rows.tolist()],
        [asked[i].row_id for i in rows.tolist()],
        word_rows(texts),
        len(texts),
        max(coverage.share - coverage.expected, 0.0),
        num_train,
        seed,
    )
    return replace(coverage, groups=groups)


def _distinguishability(
    train: Sequence[Example], target: Sequence[Example], seed: int
) -> Distinguishability:
    size = min(len(train), len(target), MAX_COMPARED)
    ours = [_text(e) for e in _ranked(train, seed, "compared")[:size]]
    theirs = [_text(e) for e in _ranked(target, seed, "compared")[:size]]
    counts = count_ngrams([*ours, *theirs])
    features = fit_tfidf(counts, min_rows=2).transform(counts)
    found = tell_apart(features[:size], features[size:], seed)
    words = telling_words(word_rows(ours), size, word_rows(theirs), size)
    return replace(found, words=words)


def _mix(
    train: Sequence[Example],
    target: Sequence[Example],
    slices: Mapping[str, SliceOf],
    seed: int,
) -> tuple[MixShift, ...]:
    lengths = length_buckets(
        [len(_text(e).split()) for e in train], [len(_text(e).split()) for e in target]
    )
    found = [mix_shift("length", *lengths, seed=seed)]
    ours = [label for e in train if e.number is None and e.text is not None for label in e.classes]
    theirs = [label for e in target if e.number is None for label in e.classes]
    if ours and len(theirs) >= MIN_TARGET and all(e.text is not None for e in target):
        found.append(mix_shift("label", ours, theirs, seed=seed))
    for name, slice_of in slices.items():
        found.append(
            mix_shift(name, [slice_of(e) for e in train], [slice_of(e) for e in target], seed=seed)
        )
    return tuple(found)


def _drop(
    train: Sequence[Example], target: Sequence[Example], key_of: Mapping[str, str], seed: int
) -> Drop | None:
    rows = [e for e in train if e.text is not None and e.labels is None and e.number is None]
    rows = _ranked([e for e in rows if e.target is not None], seed, "drop")[:MAX_REFERENCE]
    labels = [e.target or "" for e in rows]
    if len(rows) < MIN_TRAIN or len(set(labels)) < 2:
        return None
    folds: NDArray[np.int64] = folds_of(labels, [key_of[e.row_id] for e in rows], NUM_FOLDS)
    asked = [_text(e) for e in _ranked(target, seed, "target")[:MAX_TARGET]]
    return expected_drop([_text(e) for e in rows], labels, folds, [asked], seed)[0]


def _distinct(examples: Sequence[Example]) -> list[Example]:
    """One row of each text: copies would stand on both sides of every fold."""
    found: dict[str, Example] = {}
    for example in examples:
        text = normal_text(_text(example))
        if text and (text not in found or example.row_id < found[text].row_id):
            found[text] = example
    return list(found.values())


def _ranked(examples: Sequence[Example], seed: int, purpose: str) -> list[Example]:
    """In a random order that does not depend on the order that they came in."""
    return sorted(examples, key=lambda e: (_draw(e.row_id, seed, purpose), e.row_id))


def _draw(key: str, seed: int, purpose: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{purpose}/{key}".encode("utf-8", "surrogatepass"), seed=seed)


def _text(example: Example) -> str:
    """What the model is given: the text, or what the user says."""
    if example.text is not None:
        return example.text
    turns = [turn.content for turn in example.messages[:-1] if turn.role == "user"]
    return "\n".join(turns or [turn.content for turn in example.messages])
