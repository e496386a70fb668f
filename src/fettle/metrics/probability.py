"""Metrics of probabilities: log loss, Brier score, calibration error.

In: predictions with ``probabilities`` of labels (or ``confidence``). Out: metrics. Must not know:
models.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fettle.errors import UsageError
from fettle.metrics.metric import Metric, references_of, row_metric, single_reference, text_of
from fettle.records.outcomes import Prediction, confidence_of, labels_from_text
from fettle.statistics.resampling import FloatArray

FLOOR = float(np.finfo(np.float64).eps)
"""Smallest probability in a logarithm; scikit-learn's."""


def log_loss() -> Metric:
    """Mean negative logarithm of the probability of the true label, in nats.

    Of a row with any number of labels: the mean over all labels of each one's yes or no.

    Source: scikit-learn's ``log_loss``; probabilities below 2.2e-16 count as that.
    """
    return row_metric(
        "log_loss",
        _log_loss,
        higher_is_better=False,
        needs="probabilities",
        unit="nats",
        span=None,
        settings="floor:2.2e-16",
        explain=_chance_of_truth,
    )


def brier(half: bool = True) -> Metric:
    """Mean squared distance of the probabilities from the truth.

    Of a row with any number of labels: the mean over all labels of each one's squared distance.

    Args:
        half: half the sum over classes, 0 to 1, which for two classes is the usual binary score;
            else Brier's own sum, 0 to 2.

    Source: Brier 1950; scikit-learn's ``brier_score_loss`` with ``scale_by_half``.
    """
    scale = 0.5 if half else 1.0
    return row_metric(
        "brier",
        lambda row: _brier(row, scale),
        higher_is_better=False,
        needs="probabilities",
        unit="number",
        span=2.0 * scale,
        settings=f"half:{'yes' if half else 'no'}",
        explain=_chance_of_truth,
    )


def calibration_error(bins: int = 15) -> Metric:
    """Mean gap between confidence and accuracy, over bins that hold equally many rows (ECE).

    Descriptive: it is biased upwards on few rows, and a model that is less sure and no better can
    win by it. Each arm's bins are those of all its rows, in every resample as well.

    Args:
        bins: 1 to 99; a bin without rows counts nothing.

    Source: Naeini et al. 2015; Nixon et al. 2019 for bins of equal mass; the bins are those of
    scikit-learn's ``calibration_curve`` with ``strategy="quantile"``.
    """
    if bins < 1:
        raise UsageError(
            "E1002",
            f"calibration_error needs at least 1 bin, not {bins}",
            hint="write calibration_error:bins=15",
        )

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        return [_by_bin(arm, bins) for arm in arms]

    return Metric(
        name="calibration_error",
        higher_is_better=False,
        kind="corpus",
        needs="confidence",
        unit="share",
        span=1.0,
        source="fettle",
        settings=f"bins:{bins}|of equal mass|confidence of the prediction",
        sums=sums,
        score=_calibration_error,
        descriptive=True,
    )


def is_right(row: Prediction) -> bool:
    """Whether the predicted label, or set of labels, is the referred one."""
    text = text_of(row)
    if text in references_of(row):
        return True
    if not text.startswith("["):
        return False
    said = labels_from_text(text)
    return any(said == labels_from_text(accepted) for accepted in references_of(row))


def _by_bin(rows: Sequence[Prediction], bins: int) -> FloatArray:
    """[N, 2 bins]: a row's bin has (confidence - right, 1), the others 0."""
    table = np.zeros((len(rows), bins, 2))
    if rows:
        confidence = np.array([confidence_of(row) or 0.0 for row in rows])
        right = np.array([float(is_right(row)) for row in rows])
        edges = np.quantile(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1])
        place = np.searchsorted(edges, confidence)
        table[np.arange(len(rows)), place, 0] = confidence - right
        table[np.arange(len(rows)), place, 1] = 1.0
    return table.reshape(len(rows), 2 * bins)


def _calibration_error(sums: FloatArray) -> FloatArray:
    table = sums.reshape(*sums.shape[:-1], -1, 2)
    value: FloatArray = np.abs(table[..., 0]).sum(axis=-1) / table[..., 1].sum(axis=-1)
    return value


def _log_loss(row: Prediction) -> float:
    terms = [-math.log(max(chance if true else 1.0 - chance, FLOOR)) for chance, true in _each(row)]
    if _is_set(row):
        return math.fsum(terms) / max(1, len(terms))
    (truth,) = labels_from_text(single_reference(row, "log_loss"))
    return -math.log(max(_probabilities(row).get(truth, 0.0), FLOOR))


def _brier(row: Prediction, scale: float) -> float:
    terms = [(chance - true) ** 2 for chance, true in _each(row)]
    if _is_set(row):
        return math.fsum(terms) / max(1, len(terms)) * (2.0 * scale)
    return math.fsum(terms) * scale


def _each(row: Prediction) -> Iterator[tuple[float, bool]]:
    """Probability and truth of every label; one that the model does not know has probability 0."""
    truth = labels_from_text(single_reference(row, "a metric of probabilities"))
    known = _probabilities(row)
    for label in sorted(truth | known.keys()):
        yield known.get(label, 0.0), label in truth


def _is_set(row: Prediction) -> bool:
    """Whether the row has any number of labels, each with a probability by itself."""
    reference = single_reference(row, "a metric of probabilities")
    return reference.startswith("[") and labels_from_text(reference) != {reference}


def _probabilities(row: Prediction) -> Mapping[str, float]:
    if row.probabilities is None:
        raise ValueError(f"row {row.row_id} has no probabilities")
    return row.probabilities


def _chance_of_truth(row: Prediction) -> str:
    truth = labels_from_text(single_reference(row, "a metric of probabilities"))
    known = _probabilities(row)
    return ", ".join(f"{label!r} had {known.get(label, 0.0):.3g}" for label in sorted(truth))
