"""chrF and BLEU: sacrebleu counts, the score of summed counts is vectorised here.

sacrebleu gives every segment's n-gram counts; a resample needs the score of 10,000 sums of them,
which its own code does one at a time. Equal to sacrebleu's corpus score to 1e-9 (tests/parity).

In: predictions with text. Out: metrics. Must not know: models.
"""

from collections.abc import Sequence

import numpy as np
import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from fettle.errors import UsageError
from fettle.metrics.metric import Metric, references_of, text_of
from fettle.records.outcomes import Prediction
from fettle.statistics.resampling import FloatArray

SOURCE = f"sacrebleu {sacrebleu.__version__}"
BLEU_ORDER = 4
BLEU_TOKENIZERS = ("13a", "char", "intl", "none", "zh")
"""Those that need neither a download nor another package."""


def chrf(word_order: int = 0, lowercase: bool = False) -> Metric:
    """Character n-gram F-score, 0 to 100 (sacrebleu's chrF2; chrF++ with ``word_order=2``).

    Args:
        word_order: largest word n-gram that counts too.
        lowercase: fold case first.

    Source: Popović 2015, 2017; sacrebleu ``metrics/chrf.py``.
    """
    counter = CHRF(word_order=word_order, lowercase=lowercase)

    def per_row(row: Prediction) -> float:
        return float(counter.sentence_score(text_of(row), references_of(row)).score)

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        return [_counts(counter, arm, 3 * counter.order) for arm in arms]

    return Metric(
        name="chrf",
        higher_is_better=True,
        kind="corpus",
        needs="prediction",
        unit="points",
        span=100.0,
        source=SOURCE,
        settings=f"case:{'lc' if lowercase else 'mixed'}|eff:yes|nc:6|nw:{word_order}|space:no",
        sums=sums,
        score=chrf_score,
        per_row=per_row,
    )


def bleu(tokenize: str = "13a", lowercase: bool = False) -> Metric:
    """BLEU, 0 to 100, with exponential smoothing; a row's own value uses the effective order.

    Args:
        tokenize: 13a, char, intl, none or zh.
        lowercase: fold case first.

    Raises:
        UsageError: E1002, another tokenizer.

    Source: Papineni et al. 2002; sacrebleu ``metrics/bleu.py``.
    """
    if tokenize not in BLEU_TOKENIZERS:
        raise UsageError(
            "E1002",
            f"bleu has no tokenizer {tokenize!r}",
            hint=f"use one of {', '.join(BLEU_TOKENIZERS)}, such as bleu:tokenize=13a",
        )
    counter = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    single = BLEU(tokenize=tokenize, lowercase=lowercase, force=True, effective_order=True)

    def per_row(row: Prediction) -> float:
        return float(single.sentence_score(text_of(row), references_of(row)).score)

    def sums(arms: Sequence[Sequence[Prediction]]) -> list[FloatArray]:
        return [_counts(counter, arm, 2 + 2 * BLEU_ORDER) for arm in arms]

    return Metric(
        name="bleu",
        higher_is_better=True,
        kind="corpus",
        needs="prediction",
        unit="points",
        span=100.0,
        source=SOURCE,
        settings=f"case:{'lc' if lowercase else 'mixed'}|eff:no|tok:{tokenize}|smooth:exp",
        sums=sums,
        score=bleu_score,
        per_row=per_row,
    )


def _counts(counter: CHRF | BLEU, arm: Sequence[Prediction], num_columns: int) -> FloatArray:
    """[N, K] n-gram counts of every row against its references."""
    if not arm:
        return np.zeros((0, num_columns))
    references = [references_of(row) for row in arm]
    most = max(len(accepted) for accepted in references)
    # sacrebleu takes one list per reference number; None stands where a row has fewer.
    streams: list[list[str | None]] = [
        [accepted[number] if number < len(accepted) else None for accepted in references]
        for number in range(most)
    ]
    answers = [text_of(row) for row in arm]
    counts = counter._extract_corpus_statistics(
        answers,
        streams,  # type: ignore[arg-type]  # None in a stream is documented, not annotated
    )
    return np.array(counts, dtype=np.float64)


def chrf_score(sums: FloatArray) -> FloatArray:
    """chrF2 of summed counts.

    Args:
        sums: [..., 3 * orders]: per order n-grams of answer, of reference, and matches.

    Returns:
        [...] 0 to 100: F with beta 2 of the mean precision and recall over the orders that occur.
    """
    table = sums.reshape(*sums.shape[:-1], -1, 3)
    answered, referred, matched = table[..., 0], table[..., 1], table[..., 2]
    occurs = (answered > 0) & (referred > 0)
    orders = np.maximum(occurs.sum(axis=-1), 1)
    precision = np.where(occurs, matched / np.where(occurs, answered, 1.0), 0.0).sum(-1) / orders
    recall = np.where(occurs, matched / np.where(occurs, referred, 1.0), 0.0).sum(-1) / orders
    total = 4.0 * precision + recall
    value: FloatArray = 100.0 * 5.0 * precision * recall / np.where(total > 0, total, 1.0)
    return value


def bleu_score(sums: FloatArray) -> FloatArray:
    """BLEU of summed counts.

    Args:
        sums: [..., 10]: length of answers, of references, matches of orders 1 to 4, n-grams of
            orders 1 to 4.

    Returns:
        [...] 0 to 100; an order without any match gets 1 / (2^k total), k counting such orders.
    """
    length, reference_length = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    missed = matches <= 0
    smoothed = 1.0 / 2.0 ** np.cumsum(missed, axis=-1)
    counted = np.where(missed, smoothed, matches)
    usable = np.all(totals > 0, axis=-1) & np.any(~missed, axis=-1)
    precisions = counted / np.where(totals > 0, totals, 1.0)
    shortness = 1.0 - reference_length / np.where(length > 0, length, 1.0)
    brevity = np.where(length > 0, np.exp(np.minimum(shortness, 0.0)), 0.0)
    value: FloatArray = np.where(
        usable, 100.0 * brevity * np.exp(np.mean(np.log(precisions), axis=-1)), 0.0
    )
    return value
