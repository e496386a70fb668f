"""Each of the words, when it may be said and when it may not."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from fettle.evaluate.plan import hash_ids, make_plan
from fettle.evaluate.verdict import decide
from fettle.records.facts import BaseFacts
from fettle.records.outcomes import Prediction


def answers(right, *, prefix="r", group=None):
    """One row per flag: the label is "yes", the wrong one "no"."""
    return [
        Prediction(
            f"{prefix}{number}",
            "yes" if flag else "no",
            "yes",
            group=None if group is None else group(number),
        )
        for number, flag in enumerate(right)
    ]


def plan_for(rows, metric="accuracy", task="classify", clusters=None, **more):
    return make_plan(
        task,
        metric,
        n_holdout=len(rows),
        clusters=clusters,
        holdout_row_ids=[row.row_id for row in rows],
        num_resamples=more.pop("num_resamples", 1000),
        **more,
    )


def counts(both, base_only, tuned_only, neither):
    base = [1] * (both + base_only) + [0] * (tuned_only + neither)
    tuned = [1] * both + [0] * base_only + [1] * tuned_only + [0] * neither
    return answers(base), answers(tuned)


def judge(base, tuned, **more):
    names = {"metric", "task", "minimum_difference"} & set(more)
    settings = {name: more.pop(name) for name in names}
    return decide(plan_for(base, **settings), base, tuned, **more)


def test_improved_says_what_was_seen():
    found = judge(*counts(50, 2, 40, 8))
    assert found.verdict == "improved"
    primary = found.primary
    assert (primary.base, primary.tuned) == (0.52, 0.9)
    assert primary.difference == pytest.approx(0.38)
    assert primary.test == "exact McNemar"
    assert primary.interval == "Tango"
    assert primary.ci_low > 0.2
    assert primary.clusters is None
    assert found.extra["discordant"] == {"base_only": 2, "tuned_only": 40}
    assert found.headline.startswith("IMPROVED  accuracy 52.0 % → 90.0 % (+38.0 points, 95 % CI ")
    assert found.headline.endswith(", p < 0.001, exact McNemar, n = 100)")
    assert "nothing else was tested" in found.reason


def test_the_arms_are_not_mixed_up():
    found = judge(*counts(50, 40, 2, 8))
    assert found.verdict == "worse"
    assert found.primary.difference == pytest.approx(-0.38)
    assert found.primary.ci_high < 0
    assert "−38.0 points" in found.headline


def test_no_clear_difference_says_how_many_rows_would_decide():
    found = judge(*counts(80, 6, 12, 2))
    assert found.verdict == "no_clear_difference"
    assert 100 < found.extra["rows_to_decide"] < 1000
    assert f"about {found.extra['rows_to_decide'] - 100} more rows would decide" in found.reason


def test_no_difference_at_all_is_not_called_equal():
    found = judge(*counts(80, 5, 5, 10))
    assert found.verdict == "no_clear_difference"
    assert found.extra["rows_to_decide"] is None
    assert "No practical number of rows" in found.reason


@pytest.mark.parametrize(("rows", "word"), [(5, "too_few_rows"), (6, "improved")])
def test_too_few_rows_is_when_nothing_could_have_been_shown(rows, word):
    found = judge(answers([0] * rows), answers([1] * rows))
    assert found.verdict == word
    if word == "too_few_rows":
        assert "at least 6 rows" in found.reason


@pytest.mark.parametrize(("groups", "word"), [(5, "too_few_rows"), (6, "improved")])
def test_groups_count_not_rows(groups, word):
    base = answers([0] * 60, group=lambda number: f"g{number % groups}")
    tuned = [replace(row, prediction="yes") for row in base]
    found = decide(plan_for(base, clusters=groups), base, tuned)
    assert found.verdict == word
    assert found.primary.clusters == groups
    assert found.primary.test == "cluster sign-flip"
    assert f"{groups} groups" in found.headline


def test_dependent_rows_are_not_taken_for_independent_ones():
    """8 conversations of 20 rows, 6 of them better throughout: rows alone would be convincing."""
    right = [number // 20 < 6 for number in range(160)]
    base = answers([not flag for flag in right])
    tuned = answers(right)
    assert judge(base, tuned).verdict == "improved"
    grouped = [
        [replace(row, group=str(number // 20)) for number, row in enumerate(arm)]
        for arm in (base, tuned)
    ]
    found = decide(plan_for(grouped[0], clusters=8), *grouped)
    assert found.verdict == "no_clear_difference"
    assert found.primary.p_value == pytest.approx(2 * (1 + 8 + 28) / 256)


def test_groups_of_one_row_are_independent_rows():
    base, tuned = ([replace(row, group=row.row_id) for row in arm] for arm in counts(50, 2, 40, 8))
    assert judge(base, tuned).primary.test == "exact McNemar"


def test_equivalent_needs_a_stated_band_and_an_interval_inside():
    arms = counts(960, 10, 12, 18)
    assert judge(*arms).verdict == "no_clear_difference"
    assert judge(*arms, minimum_difference=0.02).verdict == "equivalent"
    assert judge(*arms, minimum_difference=0.008).verdict == "no_clear_difference"


def test_improved_must_exceed_the_difference_that_matters():
    arms = counts(700, 40, 120, 140)  # +8 points, interval about 5.6 to 10.4
    assert judge(*arms, minimum_difference=0.05).verdict == "improved"
    found = judge(*arms, minimum_difference=0.07)
    assert found.verdict == "no_clear_difference"
    assert "not that it exceeds the 7.0 points" in found.reason
    assert judge(*arms, minimum_difference=0.15).verdict == "equivalent"


def losses(per_token, shift=0.0, seed=0):
    """A loss of 2 +- noise nats a token, 20 tokens a row, moved by ``per_token``."""
    generator = np.random.default_rng(seed)
    return [
        Prediction(
            f"r{number}",
            None,
            "text",
            loss_sum=20 * (value + shift) + per_token * 20,
            num_targets=20,
        )
        for number, value in enumerate(generator.normal(2.0, 0.3, 60))
    ]


def noisy(rows, sd, seed=1):
    noise = np.random.default_rng(seed).normal(0.0, sd, len(rows))
    return [
        replace(row, loss_sum=row.loss_sum + float(value))
        for row, value in zip(rows, noise, strict=True)
    ]


@pytest.mark.parametrize(("change", "word"), [(-0.2, "improved"), (0.2, "worse")])
def test_a_lower_loss_is_better(change, word):
    base, tuned = losses(0.0), noisy(losses(change), 2.0)
    found = judge(base, tuned, metric="loss", task="chat")
    assert found.verdict == word
    assert found.primary.higher_is_better is False
    assert found.primary.difference == pytest.approx(change, abs=0.05)
    assert (found.primary.ci_high < 0) == (word == "improved")
    assert found.primary.test == "paired sign-flip"
    assert "nats" in found.headline


def test_display_metrics_are_shown_and_not_tested():
    base, tuned = losses(0.0), noisy(losses(-0.2), 2.0)
    plan = plan_for(base, metric="loss", task="chat", display=["perplexity"])
    found = decide(plan, base, tuned)
    shown = found.extra["display"]["perplexity"]
    assert shown["base"] == pytest.approx(math.exp(found.primary.base))
    assert shown["tuned"] < shown["base"]
    assert not found.secondary
    huge = [replace(row, loss_sum=20_000.0 * row.num_targets) for row in base]
    found = decide(plan, huge, tuned)
    assert found.extra["display"]["perplexity"]["base"] is None
    assert json.loads(found.dumps())["verdict"] == "improved"


def test_secondary_metrics_are_corrected_and_decide_nothing():
    base, tuned = counts(50, 2, 40, 8)
    plan = plan_for(base, secondary=["macro_f1", "macro_recall"])
    found = decide(plan, base, tuned)
    assert [item.metric for item in found.secondary] == ["macro_f1", "macro_recall"]
    for item in found.secondary:
        assert item.p_adjusted == pytest.approx(2 * item.p_value, rel=1e-9)
        assert item.test == "paired approximate randomization"
        assert item.interval == "wider of paired bootstrap and sign-flip"


def test_secondary_metrics_on_the_rows_that_were_answered():
    base, tuned = losses(0.0), noisy(losses(-0.2), 2.0)
    plan = plan_for(base, metric="loss", task="chat", secondary=["exact_match", "chrf", "macro_f1"])
    base = [replace(row, prediction="tex") if i < 20 else row for i, row in enumerate(base)]
    tuned = [replace(row, prediction="text") if i < 20 else row for i, row in enumerate(tuned)]
    found = decide(plan, base, tuned)
    assert [item.n for item in found.secondary] == [20, 20, 20]
    assert found.secondary[0].tuned == 1.0
    lopsided = [replace(tuned[0], prediction=None), *tuned[1:]]
    found = decide(plan, base, lopsided)
    assert not found.secondary
    assert "1 row only in the base (r0)" in found.extra["skipped"]["chrf"]
    assert found.verdict == "improved"


def test_a_baseline_that_is_not_beaten_is_in_the_headline():
    base, tuned = counts(50, 2, 40, 8)
    better = answers([1] * 98 + [0] * 2)
    close = answers([1] * 88 + [0] * 12)
    beaten = answers([0] * 60 + [1] * 40)
    found = judge(base, tuned, baselines={"TF-IDF": better, "close": close, "majority": beaten})
    assert [item.name for item in found.baselines] == ["TF-IDF", "close", "majority"]
    assert found.baselines[0].difference_to_tuned == pytest.approx(-0.08)
    assert "; not better than TF-IDF (accuracy 98.0 %)" in found.headline
    assert "; not clearly better than close (accuracy 88.0 %, p = " in found.headline
    assert "majority" not in found.headline
    assert found.verdict == "improved"


def test_a_baseline_without_a_loss_is_judged_by_its_answers():
    base, tuned = losses(0.0), noisy(losses(-0.2), 2.0)
    tuned = [replace(row, prediction="text") for row in tuned]
    nearest = [replace(row, prediction="tex", loss_sum=None, num_targets=None) for row in base]
    plan = plan_for(base, metric="loss", task="chat", secondary=["chrf"])
    found = decide(plan, base, tuned, baselines={"nearest training answer": nearest})
    (item,) = found.baselines
    assert (item.metric, item.n) == ("chrf", 60)
    assert item.difference_to_tuned > 0
    assert item.p_value < 0.05


INVALID = {
    "other rows": (lambda a, b: (a, answers([1] * 50, prefix="x")), "the rows differ: 0 in both"),
    "a row less": (lambda a, b: (a, b[:-1]), "1 row only in the base (r99)"),
    "a row less in both": (lambda a, b: (a[:-1], b[:-1]), "missing for 1 row of the holdout's 100"),
    "a row more in both": (
        lambda a, b: ([*a, replace(a[0], row_id="z")], [*b, replace(b[0], row_id="z")]),
        "1 row judged are not in the holdout (z)",
    ),
    "a row twice": (lambda a, b: (a, [*b, b[0]]), "the tuned model has 1 row more than once (r0)"),
    "no rows": (lambda a, b: ([], []), "no rows"),
    "no answer": (
        lambda a, b: (a, [replace(b[0], prediction=None), *b[1:]]),
        "the tuned model has no prediction for accuracy in 1 row (r0)",
    ),
    "other reference": (
        lambda a, b: (a, [replace(b[0], reference="no"), *b[1:]]),
        "the reference differs between the arms in 1 row (r0)",
    ),
    "other group": (
        lambda a, b: (a, [replace(b[0], group="g"), *b[1:]]),
        "the group differs between the arms in 1 row (r0)",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_with_the_reason(case):
    change, said = INVALID[case]
    base, tuned = counts(50, 2, 40, 8)
    plan = plan_for(base)
    found = decide(plan, *change(base, tuned), expected_row_ids=[row.row_id for row in base])
    assert found.verdict == "invalid"
    assert said in found.reason
    assert found.primary is None
    assert found.headline.startswith("INVALID  ")


def test_dropped_rows_are_noticed_from_the_plan_alone():
    base, tuned = counts(50, 2, 40, 8)
    plan = plan_for(base)
    found = decide(plan, base[:-1], tuned[:-1])
    assert (found.verdict, "sealed for 100 holdout rows" in found.reason) == ("invalid", True)
    swapped = [[replace(row, row_id=f"x{row.row_id}") for row in arm] for arm in (base, tuned)]
    found = decide(plan, *swapped)
    assert (found.verdict, "not those that the plan" in found.reason) == ("invalid", True)


def test_training_on_the_holdout_is_invalid():
    base, tuned = counts(50, 2, 40, 8)
    found = judge(base, tuned, train_row_ids={"r3", "elsewhere"})
    assert found.verdict == "invalid"
    assert "1 row of the holdout were trained on (r3)" in found.reason


@pytest.mark.parametrize("key", ["metric", "alpha", "minimum_difference", "resamples", "seeds"])
def test_a_changed_plan_is_invalid(key):
    base, tuned = counts(50, 2, 40, 8)
    plan = plan_for(base)
    changed = plan | {key: {"metric": "macro_f1", "seeds": [5]}.get(key, 0.04)}
    assert decide(changed, base, tuned).verdict == "invalid"
    again = make_plan("classify", "accuracy", alpha=0.2, n_holdout=100)
    found = decide(again, base, tuned, sealed_sha256=plan["sha256"])
    assert found.verdict == "invalid"
    assert "not the one that was sealed" in found.reason
    assert decide(plan, base, tuned, sealed_sha256=plan["sha256"]).verdict == "improved"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss_sum": math.nan}, "loss is not a finite number in 1 row (r7)"),
        ({"loss_sum": None}, "has no loss for loss in 1 row (r7)"),
        ({"num_targets": 19}, "other target tokens"),
    ],
)
def test_broken_losses_are_invalid(change, said):
    base, tuned = losses(0.0), losses(-0.2)
    tuned[7] = replace(tuned[7], **change)
    found = judge(base, tuned, metric="loss", task="chat")
    assert found.verdict == "invalid"
    assert said in found.reason
    json.loads(found.dumps())


def test_equal_scores_everywhere_are_not_equivalent_by_themselves():
    """No spread among 60 losses: nothing bounds what another row would show."""
    rows = losses(0.0)
    plan = plan_for(rows, metric="loss", task="chat", minimum_difference=0.5)
    found = decide(plan, rows, rows)
    assert found.verdict == "no_clear_difference"
    assert found.primary.p_value == 1.0


def test_one_row_has_no_interval():
    rows = losses(0.0)[:1]
    found = judge(rows, rows, metric="loss", task="chat")
    assert found.verdict == "too_few_rows"
    assert (found.primary.ci_low, found.primary.ci_high) == (None, None)
    assert "no interval" in found.headline
    json.loads(found.dumps())


def test_row_order_does_not_matter():
    base, tuned = counts(50, 2, 40, 8)
    plan = plan_for(base, secondary=["macro_f1"])
    one = decide(plan, base, tuned)
    other = decide(plan, base, list(reversed(tuned)))
    assert replace(one, created="") == replace(other, created="")


def test_verdict_json_has_the_contract():
    base, tuned = counts(50, 2, 40, 8)
    facts = BaseFacts(
        "starter", "/x", "main", "ab", "decoder", "llama", 1, 1, 1, 1, 1, True, None, 1
    )
    power = {"n": 100, "minimum_detectable_difference": 0.09, "power": 0.8, "alpha": 0.05}
    found = decide(
        plan_for(base, power=power, seeds=[3]),
        base,
        tuned,
        holdout={"rows": 100, "sha256": "cd", "looks": 1},
        weights={"sha256": "ef"},
        base_facts=facts,
        candidates_screened=4,
    )
    record = json.loads(found.dumps())
    assert record["base"] == {"id": "starter", "revision": "main", "sha256": "ab"}
    assert record["power"] == power
    assert record["seeds"] == [3]
    assert record["weights"] == {"sha256": "ef"}
    assert record["candidates_screened"] == 4
    assert record["guards"] == []
    assert record["created"].endswith("+00:00")
    fixed = (
        "metric higher_is_better base tuned difference ci_low ci_high confidence p_value test n"
        " clusters signature"
    )
    assert set(fixed.split()) <= set(record["primary"])


def test_class_tables():
    rows = [("a", "a", "a"), ("b", "a", "a"), ("b", "b", "a"), ("b", "b", "b")] * 3
    base = [Prediction(str(i), b, r) for i, (b, _, r) in enumerate(rows)]
    tuned = [Prediction(str(i), t, r) for i, (_, t, r) in enumerate(rows)]
    found = decide(plan_for(base), base, tuned).extra
    assert found["confusion"] == {
        "labels": ["a", "b"],
        "base": [[3, 6], [0, 3]],
        "tuned": [[6, 3], [0, 3]],
    }
    first = found["per_class"][0]
    assert (first["label"], first["support"]) == ("a", 9)
    assert first["base"] == {"precision": 1.0, "recall": pytest.approx(1 / 3), "f1": 0.5}
    assert first["tuned"]["recall"] == pytest.approx(2 / 3)


def test_row_id_hash_is_of_the_set():
    assert hash_ids(["b", "a"]) == hash_ids(["a", "b"]) != hash_ids(["a", "c"])


def test_false_promotions_stay_rare():
    """Swapping the arms of random rows is an exact null: improved must stay below alpha / 2."""
    generator = np.random.default_rng(2)
    promoted = 0
    for _ in range(250):
        right = generator.random((2, 60)) < 0.6
        base, tuned = answers(right[0]), answers(right[1])
        promoted += decide(plan_for(base), base, tuned).verdict == "improved"
    # 99.9 % binomial quantile of 250 trials at 0.025.
    assert promoted <= 15


def test_limits_of_the_holdout_are_in_headline_and_reason():
    base, tuned = counts(50, 2, 40, 8)
    holdout = {"rows": 100, "rows_with_train_group": 12, "left_out": {"overlong": 2, "empty": 1}}
    found = judge(base, tuned, holdout=holdout)
    shared = "12 rows of the holdout share their group with training rows"
    left = "3 rows of the holdout were left out (1 empty, 2 overlong)"
    assert found.headline.endswith(f"n = 100); {shared}; {left}")
    assert found.reason.endswith(f" {shared}. {left}.")
    assert found.to_json()["holdout"] == holdout
    one = judge(base, tuned, holdout={"rows_with_train_group": 1, "left_out": {"overlong": 1}})
    assert "1 row of the holdout shares its group with training rows" in one.headline
    assert "1 row of the holdout was left out (1 overlong)" in one.headline
    none = judge(base, tuned, holdout={"rows_with_train_group": 0, "left_out": {}})
    assert "holdout" not in none.headline


def test_the_result_is_given_without_rows_that_have_a_twin_in_train():
    base, tuned = counts(50, 2, 40, 8)
    twins = {row.row_id for row in base[::3]}
    found = judge(base, tuned, train_twins=twins)
    others = judge(*([row for row in rows if row.row_id not in twins] for rows in (base, tuned)))
    without = found.extra["without_train_twins"]
    assert without["n"] == len(base) - len(twins)
    assert without == asdict(others.primary)
    assert found.primary == judge(base, tuned).primary
    assert (
        "34 rows of the holdout have near twins in train; without them the diff" in found.headline
    )
    assert "without_train_twins" not in judge(base, tuned).extra
    every = judge(base, tuned, train_twins={row.row_id for row in base})
    assert every.extra["without_train_twins"] is None
    assert every.headline.endswith("have near twins in train; without them: no row is left")


def test_a_gain_that_rests_on_twins_is_said_in_the_headline():
    base, tuned = counts(0, 0, 60, 0)
    worse_base, worse_tuned = counts(28, 12, 0, 0)
    others = [
        [replace(row, row_id=f"o{row.row_id}") for row in arm] for arm in (worse_base, worse_tuned)
    ]
    twins = {row.row_id for row in base}
    found = judge([*base, *others[0]], [*tuned, *others[1]], train_twins=twins)
    assert found.verdict == "improved"
    assert "without them the difference is −" in found.headline
    assert "without them the difference is −" in found.reason
