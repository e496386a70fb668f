"""Names of metrics for people, in the headline and in the notes; the JSON keeps the keys."""

import pytest

from fettle.evaluate.plan import make_plan, plan_power
from fettle.evaluate.wording import TITLES, baseline_note, headline, metric_title, power_sentence
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


def test_what_the_holdout_can_show_is_said_before_training():
    plan = make_plan("classify", "accuracy", power=plan_power("accuracy", 640))
    said = power_sentence(plan)
    assert said.startswith("640 holdout rows can show a difference of 3.6 points or more at 80 % ")
    assert "if exactly one arm is right on 10 % of the rows; " in said
    assert "would show 2.0 points" in said
    assert "a result with p at most alpha would on average show 1." in said
    few = power_sentence(make_plan("classify", "accuracy", power=plan_power("accuracy", 30)))
    assert "one arm is right on 10 %" not in few, "so few rows need more than that"
    assert "5 holdout rows are too few to show any difference" in power_sentence(
        make_plan("classify", "accuracy", power=plan_power("accuracy", 5))
    )
    mean = power_sentence(make_plan("chat", "loss", power=plan_power("loss", 910)))
    assert "about 0.09 standard deviations of the rows' differences at 80 % power" in mean


def test_guards_and_earlier_looks_are_said_too():
    guards = {"joint": 0.6, "guards": 3, "discordance": 0.1, "rows_needed": 572}
    power = plan_power("accuracy", 640, alpha=0.025) | {"guards": guards}
    lines = power_sentence(make_plan("classify", "accuracy", power=power, looks=2)).splitlines()
    assert lines[1].startswith("all 3 guards hold with 60 % power where nothing got worse")
    assert lines[1].endswith("572 rows in each would make it 90 %")
    assert lines[2] == "this holdout was opened once before: look 2 is tested at alpha 0.025"
