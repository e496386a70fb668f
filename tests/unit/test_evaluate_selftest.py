"""The swap test: right rates, the same words as the plain policy, and a broken policy is caught."""

import json
from dataclasses import replace

import numpy as np
import pytest

import fettle
from fettle.errors import DataError, UsageError
from fettle.evaluate import selftest as module
from fettle.evaluate.contrast import contrast_sums, group_numbers
from fettle.evaluate.plan import make_plan
from fettle.evaluate.selftest import swap_test
from fettle.evaluate.verdict import choose_word
from fettle.metrics import find_metric
from fettle.records.outcomes import Prediction


def scored(n, num_groups=None, shift=0.0, seed=0):
    """Both arms of rows with a score; the rows of a group move together."""
    generator = np.random.default_rng(seed)
    groups = np.arange(n) % num_groups if num_groups else None
    arms = []
    for extra in (0.0, shift):
        values = generator.normal(extra, 1.0, n)
        if groups is not None:
            values += generator.normal(0.0, 1.5, num_groups)[groups]
        arms.append(
            [
                Prediction(
                    f"r{number}",
                    None,
                    "",
                    group=None if groups is None else f"g{groups[number]}",
                    score=float(value),
                )
                for number, value in enumerate(values)
            ]
        )
    return arms


def labelled(n, seed=0):
    generator = np.random.default_rng(seed)
    arms = []
    truth = generator.integers(0, 3, n)
    for _ in range(2):
        said = np.where(generator.random(n) < 0.7, truth, generator.integers(0, 3, n))
        arms.append([Prediction(f"r{i}", f"c{said[i]}", f"c{truth[i]}") for i in range(n)])
    return arms


def plan_for(rows, metric, resamples=400, **more):
    return make_plan("compare", metric, n_holdout=len(rows), num_resamples=resamples, **more)


def plain_words(plan, base, tuned, num_swaps, seed):
    """Every swap through the policy, without any shortcut."""
    metric = find_metric(plan["metric"])
    groups = group_numbers(base)
    sums = metric.sums([base, tuned])
    units = len(base) if groups is None else int(groups.max()) + 1
    generator = np.random.default_rng([seed, 1])
    words = {"improved": 0, "worse": 0}
    for start in range(0, num_swaps, module.BATCH):
        for swap in generator.random((min(module.BATCH, num_swaps - start), units)) < 0.5:
            swapped = (swap if groups is None else swap[groups])[:, None]
            arms = np.where(swapped, sums[1], sums[0]), np.where(swapped, sums[0], sums[1])
            found = contrast_sums(
                *(metric, *arms, groups), num_resamples=plan["resamples"], seed=seed
            )
            word, _ = choose_word(plan, found)
            words[word] = words.get(word, 0) + 1
    return words["improved"], words["worse"]


@pytest.mark.parametrize("kind", ["score", "clusters", "few clusters", "accuracy", "macro_f1"])
def test_shortcuts_change_nothing(kind):
    arms = {
        "score": lambda: scored(60, shift=0.5),
        "clusters": lambda: scored(90, 15, shift=0.3),
        "few clusters": lambda: scored(80, 8),
        "accuracy": lambda: labelled(80),
        "macro_f1": lambda: labelled(80),
    }[kind]()
    plan = plan_for(arms[0], kind if kind in ("accuracy", "macro_f1") else "score")
    found = swap_test(plan, *arms, num_swaps=200, seed=3)
    assert (found.improved, found.worse) == plain_words(plan, *arms, 200, 3)
    assert found.rate == (found.improved + found.worse) / 200


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_level_is_kept_whatever_the_true_difference(shift):
    found = swap_test(plan_for(range(100), "score"), *scored(100, shift=shift), num_swaps=1000)
    assert found.passed
    assert 0.02 <= found.rate <= found.most / 1000
    assert "level kept" in repr(found)


def test_a_policy_that_ignores_groups_is_caught(monkeypatch):
    base, tuned = scored(200, 10)
    plan = plan_for(base, "score")
    assert swap_test(plan, base, tuned, num_swaps=400).passed
    whole = module.contrast_sums

    def without_groups(metric, one, other, groups=None, **settings):
        return whole(metric, one, other, None, **settings)

    screened = module._screen

    def screen_rows(metric, sums, groups, swaps, **settings):
        found = screened(metric, sums, groups, swaps, **settings)
        return np.zeros_like(found)

    monkeypatch.setattr(module, "contrast_sums", without_groups)
    monkeypatch.setattr(module, "_screen", screen_rows)
    found = swap_test(plan, base, tuned, num_swaps=400)
    assert not found.passed
    assert "NOT KEPT" in repr(found)


def test_bounds_are_binomial_quantiles():
    found = swap_test(plan_for(range(30), "accuracy"), *labelled(30), num_swaps=2000)
    assert (found.most, found.most_improved) == (131, 73)


def test_too_few_clusters_say_nothing():
    found = swap_test(plan_for(range(50), "score"), *scored(50, 5), num_swaps=200)
    assert (found.improved, found.worse, found.clusters) == (0, 0, 5)


def test_what_can_not_be_swapped():
    base, tuned = labelled(30)
    plan = plan_for(base, "accuracy")
    with pytest.raises(UsageError, match="swaps are 20"):
        swap_test(plan, base, tuned, num_swaps=20)
    with pytest.raises(DataError, match="only in the base"):
        swap_test(plan, base, tuned[1:])
    broken = [replace(row, prediction=None) for row in tuned]
    with pytest.raises(DataError, match="no prediction"):
        swap_test(plan, base, broken)


def test_from_a_run_directory(tmp_path, capsys):
    base, tuned = labelled(60)
    run = tmp_path / "run"
    (run / "evaluation").mkdir(parents=True)
    (run / "plan.json").write_text(json.dumps(plan_for(base, "accuracy")))
    for arm, rows in (("base", base), ("tuned", tuned)):
        lines = [json.dumps(row.to_json()) for row in rows]
        (run / "evaluation" / f"predictions.{arm}.jsonl").write_text("\n".join(lines) + "\n")
    found = fettle.selftest("verdict", run, swaps=200)
    assert found.test == "exact McNemar"
    assert found.to_json()["swaps"] == 200
    with pytest.raises(UsageError, match="no selftest"):
        fettle.selftest("weights", run)
    with pytest.raises(UsageError, match="holds no evaluation"):
        fettle.selftest("verdict", tmp_path)
