"""Guards: held only when shown, what becomes of the word, power of all together."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from fettle.errors import UsageError
from fettle.evaluate.guards import (
    GENERAL_TEXT_MARGIN,
    default_margin,
    guard_fault,
    guards_power,
    hash_lines,
    judge_guard,
    plan_guard,
    word_with_guards,
)
from fettle.evaluate.plan import make_plan
from fettle.evaluate.verdict import decide
from fettle.metrics import find_metric
from fettle.records.outcomes import Prediction
from fettle.stages.guarding import general_text


def answers(right, name="g"):
    return [
        Prediction(f"{name}/{number}", "yes" if flag else "no", "yes")
        for number, flag in enumerate(right)
    ]


def arms(both, base_only, tuned_only, neither, name="g"):
    base = [1] * (both + base_only) + [0] * (tuned_only + neither)
    tuned = [1] * both + [0] * base_only + [1] * tuned_only + [0] * neither
    return answers(base, name), answers(tuned, name)


def guard(rows, metric="accuracy", margin=0.05, name="g", **more):
    return plan_guard(name, metric, margin, rows, "ab", **more)


def losses(per_token, spread=0.02, rows=60, seed=0):
    generator = np.random.default_rng(seed)
    noise = generator.normal(0.0, spread, rows)
    return [
        Prediction(f"t/{i}", None, "", loss_sum=20 * (3.0 + per_token + noise[i]), num_targets=20)
        for i in range(rows)
    ]


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ((440, 8, 9, 43), "held"),  # nothing changed, enough rows
        ((440, 40, 4, 16), "lost"),  # 7 points worse
        ((50, 3, 3, 4), "unproven"),  # nothing changed, too few rows to tell
        ((400, 0, 0, 100), "held"),  # the very same answers
        ((8, 0, 0, 2), "unproven"),  # the very same answers on ten rows
        ((420, 22, 0, 58), "lost"),  # 4.4 points worse for certain, by the margin or not
    ],
)
def test_outcomes(counts, outcome):
    base, tuned = arms(*counts)
    found = judge_guard(guard(base), base, tuned)
    assert found.outcome == outcome
    assert (found.outcome == "held") == (found.ci_low > -0.05)
    assert found.difference == pytest.approx((counts[2] - counts[1]) / sum(counts))
    assert found.test == "Tango non-inferiority"
    if outcome == "held":
        assert found.p_value <= 0.025


def test_a_loss_counts_the_other_way_round():
    base = losses(0.0)
    better = judge_guard(guard(base, "loss", 0.1), base, losses(-0.2, seed=1))
    assert (better.outcome, better.higher_is_better) == ("held", False)
    slightly = judge_guard(guard(base, "loss", 0.1), base, losses(0.05, seed=1))
    assert slightly.outcome == "held"
    assert 0.0 < slightly.ci_low < slightly.difference < slightly.ci_high < 0.1
    wrecked = judge_guard(guard(base, "loss", 0.1), base, losses(0.5, seed=1))
    assert wrecked.outcome == "lost"
    assert wrecked.tuned > wrecked.base
    near = judge_guard(guard(base, "loss", 0.1), base, losses(0.08, spread=0.6, seed=1))
    assert near.outcome == "unproven"
    assert "nats is possible" in near.reason


def test_later_looks_need_more_to_hold():
    base, tuned = arms(440, 17, 9, 34)
    assert judge_guard(guard(base), base, tuned).outcome == "held"
    assert judge_guard(guard(base), base, tuned, alpha=0.05 / 90).outcome == "unproven"


def test_rows_that_are_missing_are_never_counted_as_held():
    base, tuned = arms(440, 8, 9, 43)
    assert judge_guard(guard(base), base, tuned[:-1]).outcome == "unproven"
    broken = [replace(tuned[0], prediction=None), *tuned[1:]]
    found = judge_guard(guard(base), base, broken)
    assert found.outcome == "unproven"
    assert "no prediction" in found.reason
    assert found.ci_low is None


def test_the_same_rows_in_another_order():
    base, tuned = arms(440, 8, 9, 43)
    assert judge_guard(guard(base), base, tuned[::-1]) == judge_guard(guard(base), base, tuned)


def test_corpus_metrics_have_their_bootstrap_interval():
    base, tuned = arms(300, 8, 9, 83)
    both = [
        [replace(row, reference="yes" if number % 2 else "no") for number, row in enumerate(rows)]
        for rows in (base, tuned)
    ]
    found = judge_guard(guard(base, "macro_f1", 0.5), *both, num_resamples=500)
    assert found.outcome == "held"
    assert found.p_value is None
    assert "bootstrap" in found.test


def test_a_guard_at_its_margin_is_held_in_at_most_one_of_forty():
    """True loss = margin: "held" would be a false promise."""
    generator = np.random.default_rng(3)
    margin, n, held, trials = 0.05, 400, 0, 100
    for _ in range(trials):
        draw = generator.random(n)
        base_only = int(np.sum(draw < 0.08))
        tuned_only = int(np.sum((draw >= 0.08) & (draw < 0.03 + 0.08)))
        both = int(0.5 * (n - base_only - tuned_only))
        base, tuned = arms(both, base_only, tuned_only, n - both - base_only - tuned_only)
        held += judge_guard(guard(base, margin=margin), base, tuned).outcome == "held"
    assert held <= binom.ppf(0.999, trials, 0.025)


def test_words():
    good = judge_guard(guard(arms(440, 8, 9, 43)[0]), *arms(440, 8, 9, 43))
    lost = judge_guard(guard(arms(440, 40, 4, 16)[0]), *arms(440, 40, 4, 16))
    open_ = judge_guard(guard(arms(50, 3, 3, 4)[0]), *arms(50, 3, 3, 4))
    assert word_with_guards("improved", "r.", [])[0] == "improved"
    word, reason = word_with_guards("improved", "r.", [good])
    assert (word, "Nothing got worse by its margin on the guard (g)" in reason) == (word, True)
    assert word_with_guards("improved", "r.", [good, open_])[0] == "guard_unproven"
    assert word_with_guards("improved", "r.", [open_, lost])[0] == "regressed_elsewhere"
    assert word_with_guards("equivalent", "r.", [lost])[0] == "regressed_elsewhere"
    for other in ("worse", "no_clear_difference", "too_few_rows"):
        word, reason = word_with_guards(other, "r.", [lost])
        assert word == other
        assert "Guard 'g' is lost" in reason


def verdict_with(guard_arms, **changes):
    rows = arms(50, 2, 40, 8, "r")
    entry = guard(guard_arms[0])
    plan = make_plan(
        "classify",
        "accuracy",
        n_holdout=100,
        holdout_row_ids=[row.row_id for row in rows[0]],
        num_resamples=500,
        guards=[entry],
    )
    given = {"guards": {"g": guard_arms}, "guard_rows": {"g": "ab"}} | changes
    return decide(plan, *rows, **given)


def test_a_lost_guard_takes_the_improvement_away():
    held = verdict_with(arms(440, 8, 9, 43))
    assert held.verdict == "improved"
    assert held.to_json()["guards"][0]["outcome"] == "held"
    assert "nothing else was tested" not in held.reason
    lost = verdict_with(arms(440, 40, 4, 16))
    assert lost.verdict == "regressed_elsewhere"
    assert lost.primary.p_value < 0.001
    assert "guard g lost" in lost.headline
    assert verdict_with(arms(50, 3, 3, 4)).verdict == "guard_unproven"
    json.loads(lost.dumps())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"guards": {}}, "rows of the guard 'g' are missing"),
        ({"guards": None}, "rows of the guard 'g' are missing"),
        ({"guard_rows": {"g": "cd"}}, "not those that the plan was sealed for"),
        ({"guards": {"g": arms(440, 8, 9, 42)}}, "sealed for 500 rows, 499 were answered"),
    ],
)
def test_a_guard_that_is_not_the_sealed_one_is_invalid(changes, words):
    found = verdict_with(arms(440, 8, 9, 43), **changes)
    assert found.verdict == "invalid"
    assert words in found.reason


def test_a_guard_that_was_not_sealed_is_a_fault():
    assert "not in the sealed plan" in guard_fault([], {"g": arms(1, 1, 1, 1)}, {"g": "ab"})


def test_margins_where_none_is_given():
    assert default_margin(find_metric("accuracy")) == 0.05
    assert default_margin(find_metric("loss")) == GENERAL_TEXT_MARGIN
    assert default_margin(find_metric("chrf")) == 2.0
    with pytest.raises(UsageError, match="E1020"):
        default_margin(find_metric("mae"))


def test_joint_power_is_what_is_planned():
    """3 guards x 300 rows, 5 points, discordance 10 %: .85 singly is .60 together at 5 %
    one-sided; at the plan's 2.5 % it is less."""
    lenient = [guard(answers([1] * 300), name=name, alpha=0.1) for name in "abc"]
    assert lenient[0]["power"] == pytest.approx(0.85, abs=0.01)
    assert guards_power(lenient, 0.1)["joint"] == pytest.approx(0.60, abs=0.015)
    entries = [guard(answers([1] * 300), name=name) for name in "abc"]
    found = guards_power(entries)
    assert found["joint"] == pytest.approx(entries[0]["power"] ** 3)
    assert found["joint"] < 0.5
    assert 560 < found["rows_needed"] < 620
    assert guards_power([guard(losses(0.0), "loss", 0.1)]) is None
    assert guards_power([]) is None


def test_rows_are_sealed_by_their_content():
    lines = [{"row_id": "a", "text": "x"}, {"row_id": "b", "text": "y"}]
    assert hash_lines(lines) == hash_lines([dict(reversed(line.items())) for line in lines])
    assert hash_lines(lines) != hash_lines(lines[::-1])
    assert hash_lines(lines) != hash_lines([lines[0], {"row_id": "b", "text": "z"}])


def test_the_general_text_is_what_its_note_says():
    rows = general_text()
    assert 40 <= len(rows) <= 100
    assert sum(len(row.text.encode()) for row in rows) < 60_000
    assert len({row.text for row in rows}) == len(rows)
    assert all(300 < len(row.text) < 1000 for row in rows)
