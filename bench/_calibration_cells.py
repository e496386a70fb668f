"""The cells of the calibration grid: how a trial without any difference between the arms is drawn.

Both arms are drawn in the same way, independently given what the rows have in common (their
difficulty, their cluster), so that no difference is real, whatever the metric.

In: a random generator. Out: sufficient statistics of both arms. Must not know: tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import norm

from fettle.metrics import METRICS
from fettle.metrics.auroc import placements
from fettle.metrics.metric import Metric, row_metric
from fettle.statistics.resampling import FloatArray, IntArray

Arms = tuple[FloatArray, FloatArray]
Draw = Callable[[np.random.Generator, IntArray | None, int], Arms]
"""Generator, cluster of every row, rows -> statistics of both arms."""

ROWS = (30, 100, 300, 1000, 3000)
RATES = (0.05, 0.2, 0.5, 0.8, 0.95)
CLUSTERS = ("5", "6", "10", "20", "50", "100", "giant")
MEAN_SIZE = 12
GIANT_CLUSTERS = 20
CLASSES = (0.5, 0.3, 0.15, 0.05)
SCORE = row_metric("score", lambda row: row.score or 0.0, needs="score", unit="number", span=None)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: a metric on rows of one kind and layout."""

    name: str
    metric: Metric
    draw: Draw
    num_rows: int
    layout: str
    """rows, or the number of clusters, or giant."""

    def groups(self, generator: np.random.Generator) -> IntArray | None:
        """Cluster of every row: sizes log-normal around 12; giant: one with half of all rows."""
        if self.layout == "rows":
            return None
        if self.layout == "giant":
            sizes = np.full(GIANT_CLUSTERS, MEAN_SIZE)
            sizes[0] = MEAN_SIZE * (GIANT_CLUSTERS - 1)
        else:
            drawn = generator.lognormal(np.log(MEAN_SIZE) - 0.32, 0.8, int(self.layout))
            sizes = np.maximum(1, np.rint(drawn)).astype(np.int64)
        return np.repeat(np.arange(len(sizes)), sizes)


def cells() -> list[Cell]:
    """All cells: every metric and test, rows 30 to 3,000, every layout of clusters."""
    found = []
    accuracy = METRICS["accuracy"]
    for rate in RATES:
        draw = partial(_right, rate=rate)
        for layout in CLUSTERS:
            found.append(Cell(f"accuracy {rate:g}", accuracy, draw, 0, layout))
        found += [Cell(f"accuracy {rate:g}", accuracy, draw, n, "rows") for n in ROWS]
    ties = partial(_right, rate=0.95, shared=3.0)
    found += [Cell("accuracy, heavy ties", accuracy, ties, n, "rows") for n in ROWS]
    kinds: dict[str, tuple[Metric, Draw]] = {
        "score, normal": (SCORE, _normal),
        "score, skewed": (SCORE, _skewed),
        "score, 5 levels": (SCORE, _levels),
        "score, 4 of 5 rows equal": (SCORE, _sparse),
        "loss": (METRICS["loss"], _loss),
        "macro F1": (METRICS["macro_f1"], _classes),
        "BLEU": (METRICS["bleu"], _bleu),
        "AUROC": (METRICS["auroc"], _auroc),
    }
    for name, (metric, draw) in kinds.items():
        found += [Cell(name, metric, draw, n, "rows") for n in ROWS]
        found += [Cell(name, metric, draw, 0, layout) for layout in CLUSTERS]
    return found


def _latent(
    generator: np.random.Generator, groups: IntArray | None, n: int, shared: float
) -> FloatArray:
    """[2, N] what both arms make of each row: the row's difficulty, the arm's own deviation by
    cluster, and the arm's own deviation by row."""
    latent = generator.normal(size=(2, n)) + shared * generator.normal(size=n)
    if groups is not None:
        num_groups = int(groups[-1]) + 1
        latent += generator.normal(0.0, 0.7, num_groups)[groups]
        latent += generator.normal(0.0, 0.8, (2, num_groups))[:, groups]
    return latent


def _spread(groups: IntArray | None, shared: float) -> float:
    return float(np.sqrt(1.0 + shared**2 + (0.0 if groups is None else 0.49 + 0.64)))


def _table(values: FloatArray) -> Arms:
    ones = np.ones(values.shape[1])
    return np.column_stack([values[0], ones]), np.column_stack([values[1], ones])


def _right(
    generator: np.random.Generator,
    groups: IntArray | None,
    n: int,
    *,
    rate: float,
    shared: float = 1.0,
) -> Arms:
    latent = _latent(generator, groups, n, shared)
    return _table((latent < norm.ppf(rate) * _spread(groups, shared)).astype(np.float64))


def _normal(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    return _table(_latent(generator, groups, n, 1.0))


def _skewed(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    return _table(np.exp(_latent(generator, groups, n, 0.5)))


def _levels(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    return _table(np.clip(np.rint(_latent(generator, groups, n, 1.0) + 4.0), 1.0, 5.0))


def _sparse(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    latent = _latent(generator, groups, n, 1.0)
    latent[1] = np.where(generator.random(n) < 0.8, latent[0], latent[1])
    return _table(latent)


def _loss(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    tokens = np.rint(generator.lognormal(3.5, 0.8, n)) + 1.0
    losses = np.exp(0.3 * _latent(generator, groups, n, 2.0)) * tokens
    return np.column_stack([losses[0], tokens]), np.column_stack([losses[1], tokens])


def _classes(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    reference = generator.choice(len(CLASSES), n, p=CLASSES)
    latent = _latent(generator, groups, n, 1.0)
    tables = []
    for line in latent:
        right = line < 0.6 * _spread(groups, 1.0)
        said = np.where(right, reference, generator.integers(0, len(CLASSES), n))
        table = np.zeros((n, len(CLASSES), 3))
        rows = np.arange(n)
        table[rows, reference, 2] = table[rows, said, 1] = 1.0
        table[rows, said, 0] = reference == said
        tables.append(table.reshape(n, -1))
    return tables[0], tables[1]


def _bleu(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    """Lengths, matches of orders 1 to 4 and n-gram totals, as sacrebleu counts them."""
    referred = generator.integers(6, 40, n)
    latent = _latent(generator, groups, n, 1.0)
    tables = []
    for line in latent:
        answered = np.maximum(1, referred + generator.integers(-3, 4, n))
        totals = np.maximum(answered[:, None] - np.arange(4), 0)
        share = norm.cdf(0.5 * line)[:, None] ** np.array([0.7, 1.2, 1.7, 2.2])
        matches = generator.binomial(np.minimum(totals, np.maximum(referred, 0)[:, None]), share)
        tables.append(np.column_stack([answered, referred, matches, totals]).astype(np.float64))
    return tables[0], tables[1]


def _auroc(generator: np.random.Generator, groups: IntArray | None, n: int) -> Arms:
    positive = generator.random(n) < 0.3
    positive[:2] = True, False
    latent = _latent(generator, groups, n, 1.0) + 1.2 * positive
    tables = []
    for line in latent:
        place, area = placements(line, positive)
        inside, outside = np.where(positive, place, 0.0), np.where(positive, 0.0, place)
        tables.append(np.column_stack([np.ones(n), inside, outside, positive, np.full(n, area)]))
    return tables[0], tables[1]
