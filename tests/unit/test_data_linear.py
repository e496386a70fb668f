"""Linear models of label sets and numbers, against scikit-learn's own."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

from fettle.data.features.linear import (
    RIDGE_PENALTIES,
    fit_fast,
    fit_label_sets,
    fit_text_label_sets,
    fit_text_numbers,
    probe_label_sets,
    probe_numbers,
)


def data(seed=0, n=120, width=6):
    generator = np.random.default_rng(seed)
    features = generator.normal(5.0, 3.0, (n, width))
    sets = [
        {name for name, column in (("a", 0), ("b", 1), ("c", 2)) if row[column] > 5.0}
        for row in features
    ]
    numbers = (features @ np.arange(width) + generator.normal(0, 0.1, n)).tolist()
    return features, sets, numbers


def test_label_sets_equal_one_vs_rest():
    features, sets, _ = data()
    binary = MultiLabelBinarizer().fit(sets)
    solver = LogisticRegression(C=1.0, max_iter=200, tol=1e-3, random_state=0)
    theirs = OneVsRestClassifier(solver).fit(features, binary.transform(sets))
    ours = fit_label_sets(features, sets, 1.0)
    assert ours.labels == tuple(binary.classes_)
    assert ours.predict_proba(features) == pytest.approx(theirs.predict_proba(features), abs=1e-6)


def test_a_label_of_every_row_needs_no_model():
    features, sets, _ = data()
    model = fit_label_sets(features, [found | {"always"} for found in sets], 1.0)
    assert set(model.predict_proba(features)[:, model.labels.index("always")]) == {1.0}


def test_the_probe_of_label_sets_finds_what_is_there():
    features, sets, _ = data(n=300)
    found = probe_label_sets(features[:200], sets[:200], features[200:250], sets[200:250],
                             features[250:])  # fmt: skip
    said = [{label for label, chance in row.items() if chance >= 0.5} for row in found]
    assert np.mean([a == b for a, b in zip(said, sets[250:], strict=True)]) > 0.8
    alone = probe_label_sets(features[:200], sets[:200], features[:0], [], features[250:])
    assert len(alone) == 50


def test_the_probe_of_numbers_is_ridge_with_the_best_penalty():
    features, _, numbers = data(n=300)
    found = probe_numbers(
        features[:200], numbers[:200], features[200:250], numbers[200:250], features[250:]
    )
    scaler = StandardScaler().fit(features[:200])
    errors, answers = [], []
    for penalty in RIDGE_PENALTIES:
        model = Ridge(alpha=penalty).fit(scaler.transform(features[:200]), numbers[:200])
        errors.append(
            np.abs(model.predict(scaler.transform(features[200:250])) - numbers[200:250]).mean()
        )
        answers.append(model.predict(scaler.transform(features[250:])))
    assert found == pytest.approx(answers[int(np.argmin(errors))])


def test_texts():
    texts = [f"{'late ' * (i % 2)}{'rude ' * (i % 3 == 0)}order {i}" for i in range(60)]
    sets = [{*(["late"] * (i % 2)), *(["rude"] * (i % 3 == 0))} for i in range(60)]
    model = fit_text_label_sets(texts, sets)
    assert model.predict(["late order", "rude order", "order"]) == [{"late"}, {"rude"}, set()]
    assert model.predict([]) == []
    numbers = fit_text_numbers(texts, [float("late" in text) for text in texts])
    low, high = numbers.predict(["order", "late order"])
    assert high - low > 0.5
    assert numbers.predict([]) == []


def test_no_rows_teach_nothing() -> None:
    model = fit_fast(np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32), 1.0, 5)
    assert not model.weights.any()
    assert model.offsets[0] == model.offsets[1]
