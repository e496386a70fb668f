"""A brand's voice: learned from texts, never from the one that is scored."""

import numpy as np
import pytest

from fettle.data.features.features import fit_linear
from fettle.errors import DataError
from fettle.evaluate.compare import compare
from fettle.evaluate.voice import PARTS, learn_voice, part_of, voiced
from fettle.records.outcomes import Prediction

OPENERS = ("Ahoy", "Aye", "Yo ho", "Avast")
THINGS = ("ship", "rope", "sail", "anchor", "compass", "map", "rum", "deck")


def texts(seed, brand, count=60):
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        thing, other = generator.choice(THINGS, 2)
        if brand:
            found.append(f"{generator.choice(OPENERS)}, matey! Yer {thing} and {other} {number}!")
        else:
            found.append(f"Your {thing} and the {other} have been sent, number {number}.")
    return found


def test_voices_are_told_apart_and_answers_scored():
    voice = learn_voice(texts(0, True), texts(1, False), fit_linear)
    assert voice.auroc > 0.95
    assert voice.usable
    assert voice.reason.startswith("out of 60 texts of the brand and 60 others")
    base = [Prediction(str(i), text, "") for i, text in enumerate(texts(2, False, 30))]
    tuned = [Prediction(str(i), text, "") for i, text in enumerate(texts(3, True, 30))]
    verdict = compare(voiced(voice, base), voiced(voice, tuned), "brand_voice")
    assert verdict.verdict == "improved"
    assert voiced(voice, [Prediction("x", None, "")])[0].scores is None
    assert voice.to_json()["usable"] is True


def test_a_text_is_never_scored_by_a_classifier_that_saw_it():
    seen = []

    class Recorder:
        labels = ("brand", "other")

        def __init__(self, known):
            self.known = set(known)

        def predict_proba(self, asked):
            assert not self.known & set(asked)
            return np.full((len(asked), 2), 0.5)

    def fit(known, labels):
        seen.append((list(known), list(labels)))
        return Recorder(known)

    brand, other = texts(0, True), texts(1, False)
    voice = learn_voice(brand, other, fit)
    voice.scores([*brand, *other])
    assert len(seen) == PARTS
    assert part_of("A  b\n") == part_of("a b")
    assert {part_of(text) for text in brand} == set(range(PARTS))


def test_voices_that_are_alike_carry_no_verdict():
    voice = learn_voice(texts(0, False), texts(1, False), fit_linear)
    assert not voice.usable
    assert voice.reason.endswith("below 80%: no verdict may rest on it")


@pytest.mark.parametrize(
    ("brand", "other"),
    [(texts(0, True, 5), texts(1, False)), (texts(0, True), ["", " "] * 30),
     (["same"] * 30, texts(1, False))],
)  # fmt: skip
def test_too_few_texts(brand, other):
    with pytest.raises(DataError) as caught:
        learn_voice(brand, other, fit_linear)
    assert caught.value.code == "E1033"
