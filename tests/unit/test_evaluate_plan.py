"""The plan is sealed, the power is stated, baselines and grades are what they say."""

import json

import pytest

from fettle.data.features.features import fit_linear, nearest_answers
from fettle.errors import UsageError
from fettle.evaluate.baselines import (
    as_predictions,
    baseline_result,
    input_text,
    linear_classifier,
    majority_class,
    nearest_answer,
)
from fettle.evaluate.grade import grade, grades_of_arms
from fettle.evaluate.plan import make_plan, plan_power, task_metrics, verify_plan
from fettle.evaluate.wording import baseline_note, difference_text, p_text, value_text
from fettle.metrics import METRICS
from fettle.records.outcomes import Prediction
from fettle.records.rows import Example, Message


def test_a_plan_is_sealed_and_survives_a_file():
    plan = make_plan(
        "classify",
        "accuracy",
        n_holdout=976,
        clusters=None,
        seeds=[1],
        baselines=["majority class"],
    )
    assert plan["schema"] == 1
    assert plan["higher_is_better"] is True
    assert verify_plan(plan)
    read_back = json.loads(json.dumps(plan, indent=2))
    assert verify_plan(read_back)
    reordered = dict(reversed(list(read_back.items())))
    assert verify_plan(reordered)


@pytest.mark.parametrize("key", sorted(make_plan("chat", "loss")))
def test_every_field_is_sealed(key):
    plan = make_plan("chat", "loss", power={"n": 3})
    assert not verify_plan(plan | {key: "changed"})
    assert not verify_plan({name: value for name, value in plan.items() if name != key})


def test_an_added_field_is_noticed():
    assert not verify_plan(make_plan("chat", "loss") | {"excluded": ["r1"]})


@pytest.mark.parametrize("names", [{"metric": "lost"}, {"metric": "loss", "secondary": ["chfr"]}])
def test_unknown_metrics_are_refused_before_training(names):
    with pytest.raises(UsageError):
        make_plan("chat", **names)


def test_metrics_of_the_tasks():
    assert task_metrics("classify").secondary == ("macro_f1", "macro_recall")
    chat = task_metrics("chat")
    assert (chat.primary, chat.display) == ("loss", ("perplexity",))
    assert chat.secondary == ("chrf", "rouge_l", "exact_match")
    assert task_metrics("text").primary == "loss"
    chosen = task_metrics("classify", "macro_recall")
    assert (chosen.primary, chosen.secondary) == ("macro_recall", ("accuracy", "macro_f1"))
    with pytest.raises(UsageError):
        task_metrics("classify", "recall of macros")


@pytest.mark.parametrize(
    ("task", "metric"), [("classify", "loss"), ("text", "chrf"), ("chat", "score")]
)
def test_a_metric_that_the_task_does_not_measure_is_refused(task: str, metric: str) -> None:
    with pytest.raises(UsageError, match="E1007"):
        task_metrics(task, metric)


def test_power_before_training():
    found = plan_power("accuracy", 976)
    assert found["minimum_detectable_difference"] == pytest.approx(0.029, abs=5e-4)
    assert (found["n"], found["power"], found["alpha"]) == (976, 0.8, 0.05)
    assert plan_power("accuracy", 5)["minimum_detectable_difference"] is None
    assert plan_power("accuracy", 976, clusters=5)["minimum_detectable_difference"] is None
    fewer = plan_power("accuracy", 976, clusters=90, design_effect=4.0)
    assert fewer["minimum_detectable_difference"] > 1.9 * found["minimum_detectable_difference"]
    assert plan_power("loss", 976)["minimum_detectable_difference"] is None
    known = plan_power("loss", 969, standard_deviation=1 / 3)
    assert known["minimum_detectable_difference"] == pytest.approx(0.03, abs=1e-5)


def example(number, text, target, group=None):
    return Example(f"r{number}", "f", number, number, text=text, target=target, group=group)


TRAIN = [example(1, "good", "pos"), example(2, "bad", "neg"), example(3, "nice", "pos")]
HOLDOUT = [
    example(4, "very good", "pos", "g"),
    example(5, "so bad", "neg"),
    example(6, "ok", "neg"),
]


def test_majority_class():
    found = majority_class(TRAIN, HOLDOUT)
    assert [row.prediction for row in found] == ["pos"] * 3
    assert [row.reference for row in found] == ["pos", "neg", "neg"]
    assert [row.group for row in found] == ["g", None, None]
    tied = majority_class(TRAIN[:2], HOLDOUT)
    assert tied[0].prediction == "neg"


def test_linear_classifier_sees_the_right_columns():
    class Rule:
        def predict(self, texts):
            assert list(texts) == ["very good", "so bad", "ok"]
            return ["pos" if "good" in text else "neg" for text in texts]

    def fit(texts, labels):
        assert (list(texts), list(labels)) == (["good", "bad", "nice"], ["pos", "neg", "pos"])
        return Rule()

    assert [row.prediction for row in linear_classifier(TRAIN, HOLDOUT, fit)] == [
        "pos",
        "neg",
        "neg",
    ]


def test_nearest_answer_uses_the_turns_before_the_answer():
    def chat(number, question, answer):
        turns = (
            Message("system", "be brief"),
            Message("user", question),
            Message("assistant", answer),
        )
        return Example(f"c{number}", "f", number, number, messages=turns, target=answer)

    train, holdout = [chat(1, "hi?", "hello"), chat(2, "bye?", "ciao")], [chat(3, "bye bye?", "x")]
    assert input_text(holdout[0]) == "be brief\nbye bye?"

    def nearest(corpus, answers, queries):
        assert answers == ["hello", "ciao"]
        assert all("hello" not in text and "ciao" not in text for text in corpus)
        best = [max(range(len(corpus)), key=lambda i: corpus[i].count("bye")) for _ in queries]
        return [answers[index] for index in best]

    (found,) = nearest_answer(train, holdout, nearest)
    assert (found.prediction, found.reference) == ("ciao", "x")


def test_baseline_result():
    tuned = as_predictions(HOLDOUT * 1, ["pos", "neg", "neg"])
    base = majority_class(TRAIN, HOLDOUT)
    found = baseline_result("majority class", base, tuned, [METRICS["accuracy"]])
    assert found.value == pytest.approx(1 / 3)
    assert found.difference_to_tuned == pytest.approx(2 / 3)
    assert (found.p_value, found.n, found.metric) == (0.5, 3, "accuracy")
    assert baseline_result("x", base, tuned, [METRICS["loss"]]) is None
    some = baseline_result("x", base[:2], tuned, [METRICS["accuracy"]])
    assert (some.value, some.n) == (0.5, 2)
    assert (
        baseline_note(some, 0.05, n=3)
        == "not clearly better than x (accuracy 50.0 % on 2 rows, p = 1.00)"
    )
    assert baseline_result("x", [], tuned, [METRICS["accuracy"]]) is None


def test_baselines_read_the_fitted_library():
    """The callables of data.features fit in as they are."""
    train = [example(i, f"{word} {i}", word) for i, word in enumerate(["red", "blue"] * 10)]
    holdout = [example(100, "red thing", "red"), example(101, "a blue one", "blue")]
    for found in (
        linear_classifier(train, holdout, fit_linear),
        nearest_answer(train, holdout, nearest_answers),
    ):
        assert [row.prediction for row in found] == ["red", "blue"]


def test_grades():
    rows = [
        Prediction("a", "yes", "yes", loss_sum=4.0, num_targets=2),
        Prediction("b", "no", ("yes", "y" * 200)),
        Prediction("c", None, "yes", loss_sum=float("nan"), num_targets=2),
    ]
    metrics = [METRICS[name] for name in ("accuracy", "loss", "macro_f1", "chrf")]
    found = list(grade(rows, "base", metrics))
    assert [(one.row_id, one.metric, one.value) for one in found[:3]] == [
        ("a", "accuracy", 1.0),
        ("b", "accuracy", 0.0),
        ("a", "loss", 2.0),
    ]
    assert [one.metric for one in found[3:]] == ["chrf", "chrf"]
    assert found[0].reason == ""
    assert found[1].reason.startswith("expected 'yes' or 'y")
    assert len(found[1].reason) < 100
    both = grades_of_arms({"base": rows, "tuned": rows[:1]}, metrics[:1])
    assert [(one.arm, one.row_id) for one in both] == [("base", "a"), ("base", "b"), ("tuned", "a")]


def test_words_for_numbers():
    accuracy, loss, chrf = (METRICS[name] for name in ("accuracy", "loss", "chrf"))
    assert value_text(accuracy, 0.61234) == "61.2 %"
    assert value_text(loss, 2.31) == "2.310 nats"
    assert difference_text(accuracy, 0.3049) == "+30.5 points"
    assert difference_text(accuracy, -0.3049) == "−30.5 points"
    assert difference_text(loss, -0.0001) == "+0.000 nats"
    assert difference_text(chrf, -5.25, sign=False) == "−5.2 points"
    assert [p_text(p) for p in (0.0004, 0.0123, 0.345)] == ["p < 0.001", "p = 0.012", "p = 0.34"]


def test_power_of_a_mean_whose_spread_is_unknown():
    found = plan_power("loss", 400)
    assert found["minimum_detectable_difference"] is None
    # 1.96 + 0.84 standard errors, each 1/20 of a standard deviation.
    assert found["standardized"] == pytest.approx(2.8016 / 20, abs=1e-4)
    grouped = plan_power("loss", 400, clusters=100)
    assert grouped["standardized"] == pytest.approx(2 * found["standardized"])
    assert "standardized" not in plan_power("loss", 400, standard_deviation=0.5)
    assert "standardized" not in plan_power("chrf", 400)
    assert "standardized" not in plan_power("accuracy", 400)
    assert "standardized" not in plan_power("loss", 5)
