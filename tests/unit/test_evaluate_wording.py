"""Names of metrics for people, in the headline and in the notes; the JSON keeps the keys."""

import pytest

from fettle.evaluate.wording import TITLES, baseline_note, headline, metric_title
from fettle.metrics import FAMILIES
from fettle.records.outcomes import BaselineResult, Comparison
from fettle.report import words

NAMES = {
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "exact_match": "exact match",
    "subset_accuracy": "subset accuracy",
    "bleu:tokenize=none": "BLEU (tokenize=none)",
    "accuracy": "accuracy",
}


@pytest.mark.parametrize(("key", "name"), NAMES.items())
def test_the_headline_has_the_name_and_not_the_key(key: str, name: str) -> None:
    figures = (0.5, 0.7, 0.2, 0.1, 0.3, 0.95, 0.001)
    found = Comparison(key, True, *figures, "paired bootstrap", 100, None, key)
    line = headline("improved", found)
    assert line.startswith(f"IMPROVED  {name} ")
    assert found.metric == key


def test_no_name_has_an_underscore() -> None:
    assert not any("_" in metric_title(key) for key in FAMILIES)
    assert set(TITLES) <= set(FAMILIES)


def test_a_baseline_is_named_by_the_same_words() -> None:
    found = BaselineResult("TF-IDF", 0.9, -0.1, 0.5, 100, "macro_f1")
    assert baseline_note(found, 0.05, 100) == "not better than TF-IDF (macro F1 90.0 %)"


def test_the_report_has_the_same_names() -> None:
    assert all(words.metric_title(key) == metric_title(key) for key in FAMILIES)
