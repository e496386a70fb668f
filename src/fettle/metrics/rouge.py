"""ROUGE-L of answers, by rouge-score.

In: predictions with text. Out: a metric. Must not know: models.
"""

import importlib
from functools import cache
from importlib.metadata import version
from typing import Any

from fettle.metrics.metric import Metric, references_of, row_metric, text_of
from fettle.records.outcomes import Prediction


def rouge_l(stemmer: bool = False) -> Metric:
    """Mean F-measure of the longest common subsequence of words, 0 to 1; best of the references.

    rouge-score lowers the case and keeps a to z and digits only: words of other scripts do not
    count. Use chrF for those.

    Args:
        stemmer: strip English suffixes first (Porter).

    Source: Lin 2004; rouge-score's ``rougeL``.
    """

    def per_row(row: Prediction) -> float:
        best = _scorer(stemmer).score_multi(references_of(row), text_of(row))
        return float(best["rougeL"].fmeasure)

    return row_metric(
        "rouge_l",
        per_row,
        unit="number",
        source=f"rouge-score {version('rouge-score')}",
        settings=f"stemmer:{'yes' if stemmer else 'no'}|references:best",
    )


@cache
def _scorer(stemmer: bool) -> Any:
    # rouge-score imports all of nltk, and that scikit-learn: seconds that only ROUGE shall cost.
    rouge_scorer = importlib.import_module("rouge_score.rouge_scorer")
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=stemmer)
