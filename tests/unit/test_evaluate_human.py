"""Human labels correct a judge: no bias, an interval that covers, and bad files are told."""

import numpy as np
import pytest
from scipy import stats

from fettle.errors import DataError
from fettle.evaluate.human import corrected_rate, read_human_labels, rogan_gladen


def draw(seed, num_rows=600, num_human=60, rate=0.6, found=0.9, told=0.6):
    """True preferences, a biased judge's, and the people's of some rows."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(num_rows) < rate).astype(float)
    chance = np.where(truth == 1.0, found, 1.0 - told)
    judge = (generator.random(num_rows) < chance).astype(float)
    chosen = generator.permutation(num_rows)[:num_human]
    judged = {str(i): float(value) for i, value in enumerate(judge)}
    return judged, {str(i): float(truth[i]) for i in chosen}, truth


def test_a_biased_judge_is_corrected_and_the_interval_covers():
    rates, covered, widths, plain = [], 0, [], []
    for seed in range(400):
        judged, human, _ = draw(seed)
        found = corrected_rate(judged, human)
        rates.append(found.rate)
        covered += found.ci_low <= 0.6 <= found.ci_high
        widths.append(found.ci_high - found.ci_low)
        labels = np.array(list(human.values()))
        plain.append(2 * 2.0 * labels.std(ddof=1) / np.sqrt(len(labels)))
    assert np.mean(rates) == pytest.approx(0.6, abs=0.01)
    judge_alone = np.mean([corrected_rate(*draw(seed)[:2]).judge_rate for seed in range(20)])
    assert judge_alone == pytest.approx(0.6 * 0.9 + 0.4 * 0.4, abs=0.02), "the judge is biased"
    # 93.5 % is the bar; 0.1 % of runs of a 95 % interval fall below 0.915 in 400 trials.
    assert covered / 400 >= 0.915
    assert np.mean(widths) < 0.93 * np.mean(plain), "the judge adds to what the labels tell"


def test_a_judge_who_says_nothing_leaves_the_labels_alone():
    _, human, _ = draw(3)
    judged = {str(i): 1.0 for i in range(600)}
    found = corrected_rate(judged, human)
    labels = np.array([human[key] for key in sorted(human)])
    low, high = stats.t.interval(0.95, 59, labels.mean(), stats.sem(labels))
    assert (found.rate, found.ci_low, found.ci_high) == pytest.approx((labels.mean(), low, high))
    assert found.method == "prediction-powered, weight 0.000"


def test_a_perfect_judge_counts_all_rows():
    judged, _, truth = draw(4)
    judged = {key: float(truth[int(key)]) for key in judged}
    human = {key: judged[key] for key in list(judged)[:100]}
    found = corrected_rate(judged, human)
    assert found.agreement == 1.0
    assert found.rate == pytest.approx(truth.mean(), abs=0.02)
    error = np.sqrt(truth.mean() * (1 - truth.mean()) / 600)
    assert (found.ci_high - found.ci_low) / 2 == pytest.approx(1.98 * error, rel=0.05)


def test_rows_that_nobody_judged_do_not_count():
    judged, human, _ = draw(5)
    more = human | {"elsewhere": 0.0}
    assert corrected_rate(judged, more) == corrected_rate(judged, human)
    few = dict(list(human.items())[:12])
    assert not corrected_rate(judged, few).enough
    with pytest.raises(DataError) as caught:
        corrected_rate(judged, {"elsewhere": 1.0, "0": 1.0})
    assert caught.value.code == "E1032"


def test_every_row_with_a_label():
    judged = {str(i): float(i % 2) for i in range(40)}
    found = corrected_rate(judged, {key: 1.0 - value for key, value in judged.items()})
    assert (found.rate, found.agreement) == (0.5, 0.0)


def test_rogan_and_gladens_example_and_coverage():
    estimate, low, high = rogan_gladen(300, 1000, (90, 100), (80, 100))
    assert estimate == pytest.approx((0.3 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert low < estimate < high
    assert rogan_gladen(0, 1000, (90, 100), (80, 100))[0] == 0.0
    covered = 0
    generator = np.random.default_rng(0)
    for _ in range(1_000):
        positives = generator.binomial(400, 0.3 * 0.9 + 0.7 * 0.15)
        found, told = generator.binomial(40, 0.9), generator.binomial(60, 0.85)
        _, low, high = rogan_gladen(positives, 400, (found, 40), (told, 60))
        covered += low <= 0.3 <= high
    assert covered / 1_000 >= 0.935
    for useless in ((50, 100), (40, 100)):
        with pytest.raises(DataError, match="no better than chance"):
            rogan_gladen(300, 1000, (50, 100), useless)


def test_a_file_of_labels(tmp_path):
    path = tmp_path / "human.jsonl"
    path.write_text(
        '{"row_id": "a", "better": "B"}\n\n{"row_id": "a", "better": "tie"}\n'
        '{"row_id": 7, "better": " Base "}\n'
    )
    assert read_human_labels(path) == {"a": 0.75, "7": 0.0}


@pytest.mark.parametrize(
    "line", ['{"row_id": "a"}', '{"row_id": "a", "better": "yes"}', "[1]", "x", "[" * 100_000]
)
def test_lines_that_are_no_labels(tmp_path, line):
    path = tmp_path / "human.jsonl"
    path.write_text('{"row_id": "a", "better": "A"}\n' + line)
    with pytest.raises(DataError) as caught:
        read_human_labels(path)
    assert caught.value.code == "E1032"
    assert caught.value.where == f"{path}:2"
    with pytest.raises(DataError):
        read_human_labels(tmp_path / "absent")
