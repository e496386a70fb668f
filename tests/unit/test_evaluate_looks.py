"""What later looks at the same holdout may still conclude."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from fettle.evaluate.looks import count_look, look_alpha, looks_before, spent_alpha
from fettle.evaluate.plan import make_plan
from fettle.evaluate.verdict import decide
from fettle.records.outcomes import Prediction
from fettle.statistics.paired import mcnemar_exact


def test_the_levels_of_the_looks():
    assert [round(look_alpha(look), 6) for look in (1, 2, 3, 10)] == [
        0.05,
        0.025,
        round(0.05 / 6, 6),
        round(0.05 / 90, 6),
    ]
    assert sum(look_alpha(look) for look in range(2, 100_001)) == pytest.approx(0.05, rel=1e-4)
    with pytest.raises(ValueError, match="from 1"):
        look_alpha(0)


def test_what_is_spent_never_exceeds_alpha():
    assert spent_alpha(0) == 0.0
    assert spent_alpha(1) == 0.025
    assert spent_alpha(2) == pytest.approx(0.0375)
    spent = [spent_alpha(looks) for looks in range(1, 300)]
    assert spent == sorted(spent)
    assert 0.0499 < spent[-1] < 0.05


def test_looks_before_are_those_of_other_runs(tmp_path: Path):
    (tmp_path / ".fettle").mkdir()
    one, two = tmp_path / "one", tmp_path / "two"
    assert looks_before(one, "h") == 0
    assert count_look(one, "h", "a") == 1
    assert looks_before(one, "h") == 0
    assert looks_before(two, "h") == 1
    assert looks_before(two, "other") == 0
    assert len(list((tmp_path / ".fettle").glob("looks.jsonl"))) == 1


def rows(right):
    return [
        Prediction(str(number), "yes" if flag else "no", "yes") for number, flag in enumerate(right)
    ]


def at_look(look, base, tuned):
    plan = make_plan("classify", "accuracy", n_holdout=len(base), num_resamples=500)
    holdout = None if look is None else {"looks": look}
    return decide(plan, rows(base), rows(tuned), holdout=holdout)


def test_the_level_of_the_look_decides():
    base = [1] * 80 + [1] * 4 + [0] * 16
    tuned = [1] * 80 + [0] * 4 + [1] * 14 + [0] * 2
    first = at_look(1, base, tuned)
    assert first.verdict == "improved"
    assert first.primary.p_value == pytest.approx(0.0309, abs=1e-3)
    assert first.primary.confidence == 0.95
    assert at_look(None, base, tuned).primary == first.primary
    second = at_look(2, base, tuned)
    assert second.verdict == "no_clear_difference"
    assert "above alpha 0.025 for look 2 at this holdout" in second.reason
    assert second.primary.confidence == 0.975
    assert second.primary.ci_low < first.primary.ci_low


def test_ten_looks_promote_nothing_more_often_than_alpha():
    """Ten models that are no better, on one holdout, correlated through the base they share."""
    generator = np.random.default_rng(11)
    trials = 400
    base = generator.random((trials, 1, 150)) < 0.7
    tuned = generator.random((trials, 10, 150)) < 0.7
    base_only, tuned_only = (base & ~tuned).sum(axis=2), (tuned & ~base).sum(axis=2)
    p_values = np.ones(base_only.shape)
    for place in np.argwhere(tuned_only > base_only):
        lost, won = int(base_only[tuple(place)]), int(tuned_only[tuple(place)])
        p_values[tuple(place)] = mcnemar_exact(lost, won).p_value
    levels = np.array([look_alpha(look) for look in range(1, 11)])
    allowed = binom.ppf(0.999, trials, 0.05)
    assert np.sum(np.any(p_values <= levels, axis=1)) <= allowed
    assert np.sum(np.any(p_values <= 0.05, axis=1)) > allowed, "the test could fail"
