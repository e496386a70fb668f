"""A judge's rate, corrected by labels that people gave some of the rows.

In: a judge's values of all rows, people's values of some. Out: a rate with its interval. Must not
know: who the judge is, files' other columns.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, t

from fettle.errors import DataError
from fettle.statistics.resampling import FloatArray

FEWEST = 30
"""Labels below which a correction is shown, but says that it rests on too few."""
VALUES = {"tuned": 1.0, "b": 1.0, "tie": 0.5, "base": 0.0, "a": 0.0}


@dataclass(frozen=True, slots=True)
class Corrected:
    """A mean over all rows, from a judge and some human labels."""

    rate: float
    ci_low: float
    ci_high: float
    confidence: float
    judge_rate: float
    """The judge's own mean over all its rows."""
    human_rate: float
    """The mean of the human labels alone."""
    agreement: float
    """Share of the labelled rows on which the judge says the same."""
    human_rows: int
    judged_rows: int
    method: str
    enough: bool
    """Whether there are at least ``FEWEST`` labels."""

    def to_json(self) -> dict[str, Any]:
        """For verdict.json's ``extra``."""
        return asdict(self)


def corrected_rate(
    judged: Mapping[str, float], human: Mapping[str, float], confidence: float = 0.95
) -> Corrected:
    """The rate that people would find on all rows: the judge's, less its error on labelled rows.

    The judge is trusted as far as it goes with the labels (the weight that gives the least
    variance), so that a judge that says nothing leaves the labels alone.

    Args:
        judged: row id -> the judge's value, 0 to 1 (1 for the tuned model, 0.5 for a tie).
        human: row id -> a person's value of the same kind; rows that the judge has not are left
            out, and should be a random part of all rows.
        confidence: of the interval, by Student's t with the labels' degrees of freedom.

    Raises:
        DataError: E1032, fewer than two rows with both.

    Source: Angelopoulos et al. 2023 (prediction-powered inference), 2024 (PPI++: the weight).
    """
    both = sorted(judged.keys() & human.keys())
    if len(both) < 2:
        raise DataError(
            "E1032",
            f"{len(both)} of the {len(human):,} human labels are of rows that were judged",
            why="a correction needs at least two, and 30 or more to be of use",
            hint="give labels by row_id of the rows of this comparison",
        )
    people = np.array([human[row_id] for row_id in both])
    theirs = np.array([judged[row_id] for row_id in both])
    rest = np.array([value for row_id, value in judged.items() if row_id not in human])
    weight = _weight(people, theirs, len(rest))
    rate = float(people.mean())
    variance = float(np.var(people, ddof=1)) / len(both)
    if len(rest) > 1 and weight > 0.0:
        rate += weight * float(rest.mean() - theirs.mean())
        variance = float(np.var(people - weight * theirs, ddof=1)) / len(both)
        variance += weight**2 * float(np.var(rest, ddof=1)) / len(rest)
    reach = float(t.ppf(0.5 + confidence / 2.0, len(both) - 1)) * math.sqrt(variance)
    return Corrected(
        rate=rate,
        ci_low=max(0.0, rate - reach),
        ci_high=min(1.0, rate + reach),
        confidence=confidence,
        judge_rate=float(np.mean(list(judged.values()))),
        human_rate=float(people.mean()),
        agreement=float(np.mean(people == theirs)),
        human_rows=len(both),
        judged_rows=len(judged),
        method=f"prediction-powered, weight {weight:.3f}",
        enough=len(both) >= FEWEST,
    )


def rogan_gladen(
    positives: int,
    rows: int,
    sensitivity: tuple[int, int],
    specificity: tuple[int, int],
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """The true share of right rows, from a judge of right and wrong that errs at known rates.

    Args:
        positives: rows that the judge calls right.
        rows: that it judged, none of those below among them.
        sensitivity: (of the rows that people call right, how many the judge does; how many).
        specificity: (of the rows that people call wrong, how many the judge does; how many).
        confidence: of the interval.

    Returns:
        Estimate and both ends, within 0 and 1; the estimate is the plain one, the interval that of
        Lang and Reiczigel.

    Raises:
        DataError: E1032, the judge tells right from wrong no better than chance.

    Source: Rogan and Gladen 1978; Lang and Reiczigel 2014 for the interval.
    """
    found, told = _divide(*sensitivity), _divide(*specificity)
    if found + told <= 1.0:
        raise DataError(
            "E1032",
            f"the judge finds {found:.0%} of the right rows and {told:.0%} of the wrong ones",
            why="together that is no better than chance, and nothing can be corrected by it",
            hint="use another judge, or the human labels alone",
        )
    estimate = (positives / rows + told - 1.0) / (found + told - 1.0)
    z = float(norm.ppf(0.5 + confidence / 2.0))
    n, n_found, n_told = rows + z * z, sensitivity[1] + 2, specificity[1] + 2
    p = (positives + z * z / 2.0) / n
    se, sp = (sensitivity[0] + 1) / n_found, (specificity[0] + 1) / n_told
    gain = se + sp - 1.0
    centre = (p + sp - 1.0) / gain
    noise_found, noise_told = se * (1.0 - se) / n_found, sp * (1.0 - sp) / n_told
    shift = 2.0 * z * z * (centre * noise_found - (1.0 - centre) * noise_told)
    spread = p * (1.0 - p) / n + centre**2 * noise_found + (1.0 - centre) ** 2 * noise_told
    reach = z * math.sqrt(spread) / gain
    low, high = centre + shift - reach, centre + shift + reach
    return min(1.0, max(0.0, estimate)), max(0.0, low), min(1.0, high)


def read_human_labels(path: str | Path) -> dict[str, float]:
    """Read one JSON object a line: row_id, and better: base, tuned or tie (A and B also do).

    Args:
        path: JSONL in UTF-8.

    Returns:
        Row id -> 1 where the tuned answer was preferred, 0 for the base's, 0.5 for a tie. A row
        that several people judged has their mean.

    Raises:
        DataError: E1032, the file can't be read or a line is something else (file:line).
    """
    found: dict[str, list[float]] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_labels(f"{path} can't be read: {error}", str(path)) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
            row_id, better = str(record["row_id"]), str(record["better"]).strip().casefold()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _bad_labels("not an object with row_id and better", where) from error
        if better not in VALUES:
            raise _bad_labels(f"better is {better[:40]!r}", where)
        found.setdefault(row_id, []).append(VALUES[better])
    return {row_id: math.fsum(values) / len(values) for row_id, values in found.items()}


def _weight(people: FloatArray, theirs: FloatArray, num_rest: int) -> float:
    """The weight of the judge that gives the least variance, from 0 to 1."""
    spread = float(np.var(theirs, ddof=1))
    if not num_rest or spread == 0.0:
        return 0.0
    common = float(np.cov(people, theirs, ddof=1)[0, 1])
    return min(1.0, max(0.0, common / ((1.0 + len(people) / num_rest) * spread)))


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _bad_labels(message: str, where: str) -> DataError:
    return DataError(
        "E1032",
        message,
        where=where,
        hint='write one line a row: {"row_id": "…", "better": "base|tuned|tie"}',
    )
