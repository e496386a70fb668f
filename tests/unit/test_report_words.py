"""Numbers and verdicts as words."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.records.outcomes import VerdictWord
from fettle.report import sentences, words
from fettle.report.contents import Contents


def test_every_verdict_has_a_word_a_sign_and_a_meaning() -> None:
    assert set(words.VERDICTS) == set(get_args(VerdictWord))
    assert all(style.word and style.sign and style.meaning for style in words.VERDICTS.values())
    assert words.verdict_style({"verdict": "of_a_later_version"}).word == "Of a later version"


@given(st.text(st.characters(exclude_categories=())))
def test_plain_text_can_be_written_anywhere(text: str) -> None:
    shown = words.plain(text)
    shown.encode("utf-8")
    assert not any(ord(sign) < 0x20 and sign not in "\n\t" for sign in shown)


def test_plain_joins_surrogate_pairs_and_shows_lone_ones() -> None:
    assert words.plain("\ud83d\ude42") == "🙂"
    assert words.plain("a\ud83d\x00") == "a\ufffd\u2400"


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("accuracy", 0.61234, "61.2 %"),
        ("loss", 2.3104, "2.310 nats"),
        ("chrf:word_order=2", 51.77, "51.8"),
        ("not_of_this_version", 0.5, "0.500"),
        ("accuracy", None, "–"),
        ("accuracy", float("nan"), "–"),
    ],
)
def test_values_have_their_unit(metric: str, value: float | None, shown: str) -> None:
    assert words.metric_value(metric, value) == shown


def test_differences_have_a_sign_and_intervals_none() -> None:
    assert words.metric_difference("accuracy", 0.305) == "+30.5 points"
    assert words.metric_difference("loss", -1.5) == "−1.500 nats"
    assert words.interval("accuracy", -0.01, 0.334) == "−1.0 to 33.4"
    assert words.interval("accuracy", None, None) == "no interval"


def _explained(p: float) -> str:
    primary = {"metric": "accuracy", "difference": 0.1, "confidence": 0.95, "p_value": p, "n": 100}
    return sentences.explained(Contents(Path(), {"primary": primary}))[1]


@pytest.mark.parametrize(
    ("p", "trials"),
    [
        (0.0026, "at most 1 of 380"),
        (0.001, "at most 1 of 1,000"),
        (0.05, "at most 1 of 20"),
        (0.31, "about 31 of 100"),
        (1.0, "about 100 of 100"),
        (1e-9, "less than 1 of 1,000,000"),
    ],
)
def test_p_values_as_trials(p: float, trials: str) -> None:
    assert f"would occur in {trials} such trials" in _explained(p)


@given(st.floats(1e-6, 0.05))
def test_at_most_is_true(p: float) -> None:
    trials = int(_explained(p).split("at most 1 of ")[1].split(" ")[0].replace(",", ""))
    assert 0.89 / p <= trials <= 1 / p + 1e-6


def test_the_headline_does_not_repeat_the_verdict() -> None:
    verdict = {"verdict": "no_clear_difference", "headline": "NO CLEAR DIFFERENCE  accuracy 1 → 2"}
    assert words.headline(verdict) == "accuracy 1 → 2"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.42, "0.4 s"), (59.4, "59 s"), (190, "3 min 10 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown
