"""The calibration's fast policy gives the verdict's own p-values, intervals and words."""

import numpy as np
import pytest
from bench._calibration_cells import CLUSTERS, Cell, cells
from bench._calibration_policy import batch, outcome_of, plain

from fettle.evaluate.contrast import contrast_sums
from fettle.evaluate.plan import make_plan
from fettle.evaluate.verdict import choose_word

SMALL = [cell for cell in cells() if cell.layout in CLUSTERS or cell.num_rows <= 300]


def trials_of(cell: Cell, seed: int, number: int = 3):
    generator = np.random.default_rng(seed)
    groups = cell.groups(generator)
    n = cell.num_rows if groups is None else len(groups)
    return [cell.draw(generator, groups, n) for _ in range(number)], groups


@pytest.mark.parametrize(
    "cell", SMALL, ids=lambda cell: f"{cell.name}-{cell.layout}-{cell.num_rows}"
)
def test_fast_policy_equals_the_plain_one(cell):
    trials, groups = trials_of(cell, 3)
    # One trial with a real difference, so that words other than "other" occur.
    base, tuned = trials[0]
    trials.append((base, np.where(np.arange(base.shape[1]) == 0, 1.3 * tuned + 0.2, tuned)))
    settings = {"alpha": 0.05, "num_resamples": 250, "seed": 5}
    if cell.name.startswith(("accuracy", "macro")):
        trials.pop()
    found = batch(cell.metric, trials, groups, **settings)
    for outcome, (base, tuned) in zip(found, trials, strict=True):
        expected = plain(cell.metric, base, tuned, groups, **settings)
        assert outcome.word == expected.word
        assert outcome.p_value == pytest.approx(expected.p_value, abs=1e-12)
        assert (outcome.low is None) == (expected.low is None)
        if expected.low is not None:
            ends = pytest.approx((expected.low, expected.high), rel=1e-8, abs=1e-10)
            assert (outcome.low, outcome.high) == ends


def test_words_are_those_of_the_verdict():
    words = set()
    for seed in range(12):
        for cell in (SMALL[0], *SMALL[-9:]):
            ((base, tuned),), groups = trials_of(cell, seed, 1)
            if seed % 2:
                tuned = tuned.copy()
                tuned[:, 0] = 0.6 * tuned[:, 0] if seed % 4 == 1 else 1.5 * tuned[:, 0]
            found = contrast_sums(cell.metric, base, tuned, groups, num_resamples=250)
            plan = make_plan("compare", cell.metric.name, n_holdout=len(base))
            word, _ = choose_word(plan, found)
            outcome = outcome_of(found, 0.05)
            assert outcome.word == (word if word in ("improved", "worse") else "other")
            words.add(outcome.word)
    assert words == {"improved", "worse", "other"}


def test_both_arms_are_drawn_alike():
    """Over many rows the two arms of every cell have the same value."""
    for cell in cells():
        if cell.num_rows != 3000:
            continue
        (base, tuned) = cell.draw(np.random.default_rng(1), None, 200_000)
        first, second = (float(cell.metric.score(arm.sum(axis=0))) for arm in (base, tuned))
        assert second == pytest.approx(first, rel=0.04, abs=0.01), cell.name
