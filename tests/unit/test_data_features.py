"""Cheap models: they learn what can be learned, and agree with scikit-learn's own pipeline."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from fettle.data.features.features import (
    PROBE_STRENGTHS,
    TfidfFeatures,
    fit_linear,
    fit_probe,
    nearest_answers,
)

TOPICS = {"money": "refund payment card charge", "travel": "flight hotel train airport"}


def corpus(number: int, seed: int) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(seed)
    labels = [str(generator.choice(list(TOPICS))) for _ in range(number)]
    texts = [
        " ".join(generator.choice([*TOPICS[label].split(), "please", "now", "my"], size=6))
        for label in labels
    ]
    return texts, labels


def test_the_linear_baseline_learns_topics() -> None:
    baseline = fit_linear(*corpus(200, 0))
    texts, labels = corpus(100, 1)
    predicted = baseline.predict(texts)
    assert np.mean([a == b for a, b in zip(predicted, labels, strict=True)]) > 0.97
    chances = baseline.predict_proba(texts)
    assert baseline.labels == ("money", "travel")
    assert chances.shape == (100, 2)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert [baseline.labels[i] for i in chances.argmax(axis=1)] == predicted
    assert baseline.predict([]) == []


def test_the_linear_baseline_is_reproducible_and_takes_odd_texts() -> None:
    texts, labels = corpus(100, 0)
    one, two = fit_linear(texts, labels), fit_linear(texts, labels)
    np.testing.assert_array_equal(one.predict_proba(texts), two.predict_proba(texts))
    symbols = fit_linear(["?!", "!!", "??"], ["a", "b", "a"])
    assert set(symbols.predict(["?!", "new words"])) <= {"a", "b"}
    assert fit_linear(["x y", "z"], ["only", "only"]).predict(["q"]) == ["only"]


def test_nearest_answers_agree_with_scikit_learn() -> None:
    known, _ = corpus(60, 0)
    asked, _ = corpus(30, 1)
    answers = [f"answer {i}" for i in range(60)]
    features = TfidfFeatures()
    matrix = features.fit_transform(known)
    similarity = cosine_similarity(features.transform(asked), matrix)
    expected = np.take_along_axis(similarity, similarity.argmax(axis=1)[:, None], axis=1)[:, 0]
    found = [answers.index(answer) for answer in nearest_answers(known, answers, asked)]
    np.testing.assert_allclose(similarity[np.arange(30), found], expected, rtol=1e-9)
    assert nearest_answers(known, answers, known[:5]) == [
        answers[known.index(text)] for text in known[:5]
    ]
    assert nearest_answers(known, answers, ["本"]) == ["answer 0"]


@pytest.fixture(scope="module")
def clusters() -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(4, 12))
    index = generator.integers(0, 4, 400)
    features = centres[index] + generator.normal(size=(400, 12))
    features[:, 3] *= 1000
    features[:, 5] = 7.0
    labels = [f"class {i}" for i in index]
    return features[:300], labels[:300], features[300:], labels[300:]


def test_the_probe_chooses_its_strength_on_validation_rows(
    clusters: tuple[np.ndarray, list[str], np.ndarray, list[str]],
) -> None:
    features, labels, validation, validation_labels = clusters
    probe = fit_probe(features, labels, validation, validation_labels)
    accuracy = np.mean([
        a == b for a, b in zip(probe.predict(validation), validation_labels, strict=True)
    ])  # fmt: skip
    scaler = StandardScaler().fit(features)
    by_hand = {
        strength: LogisticRegression(C=strength, max_iter=1000)
        .fit(scaler.transform(features), labels)
        .score(scaler.transform(validation), validation_labels)
        for strength in PROBE_STRENGTHS
    }
    assert accuracy == pytest.approx(max(by_hand.values()), abs=0.02)
    assert accuracy > 0.6
    assert probe.strength in PROBE_STRENGTHS
    np.testing.assert_allclose(probe.predict_proba(validation).sum(axis=1), 1)


def test_the_probe_without_validation_rows_or_with_one_label() -> None:
    features = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    probe = fit_probe(features, ["a", "b"] * 15, np.empty((0, 3)), [])
    assert probe.strength == 1.0
    assert set(probe.predict(features)) == {"a", "b"}
    assert fit_probe(features, ["a"] * 30, features, ["a"] * 30).predict(features) == ["a"] * 30
    unknown = fit_probe(features, ["a", "b"] * 15, features[:4], ["z"] * 4)
    assert set(unknown.predict(features)) <= {"a", "b"}
