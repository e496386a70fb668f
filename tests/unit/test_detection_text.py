"""The marks that the checks of text must reach on injected faults; the full bench is in bench/."""

from collections import Counter
from pathlib import Path

import pytest
from bench.detection_text import MARKS, detect, detect_turns, rates, score
from bench.faults.text import FAULTS, LOOK_ALIKES, Injected, inject
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from fettle.data.check import (
    degenerate,
    encoding,
    identify,
    markup,
    personal_data,
    placeholder,
    prompt_injection,
    secrets,
    template_residue,
)
from fettle.data.check.places import texts
from fettle.data.check.screen import Screen
from fettle.records.rows import Example, Message

ROWS = [
    {
        "prompt": f"How do I return item {i}, please?",
        "completion": f"You don't need a receipt. Send item {i} back to us within thirty days,"
        " and we will gladly return the complete amount to you afterwards.",
    }
    for i in range(800)
]


def test_injection_is_a_function_of_its_seed() -> None:
    dirty, key = inject(ROWS, 3, 1)
    assert (dirty, key) == inject(ROWS, 3, 1)
    assert dirty != inject(ROWS, 4, 1)[0]
    changed = {i for i, row in enumerate(dirty) if row != ROWS[i]}
    assert changed == {one.row for one in key}
    assert len(key) == len(changed)
    faults = {(one.kind, one.variant) for one in key if one.is_fault}
    assert faults == {(kind, name) for kind, table in FAULTS.items() for name in table}
    spared = {(one.kind, one.variant) for one in key if not one.is_fault}
    assert spared == {(kind, name) for kind, table in LOOK_ALIKES.items() for name in table}


def test_one_kind_alone_changes_the_same_rows_in_the_same_way() -> None:
    with pytest.raises(ValueError, match="too few"):
        inject(ROWS[:5], 1, 1)
    dirty, key = inject(ROWS, 3, 2, kinds=["placeholder"], look_alikes=False)
    assert {one.kind for one in key} == {"placeholder"}
    assert all(dirty[one.row] != ROWS[one.row] for one in key)


def test_scores_count_what_they_say() -> None:
    key = [Injected(0, "a", "x", True), Injected(1, "a", "x", True), Injected(2, "a", "y", False)]
    found = {0: Counter(a=1), 2: Counter(a=1), 3: Counter(a=1), 4: Counter(a=1), 1: Counter(b=1)}
    scores, missed, wrong = score(found, {4: Counter(a=1)}, key)
    assert [(s.kind, s.recall, s.precision) for s in scores] == [("a", 0.5, 1 / 3)]
    assert missed == [key[1]]
    assert wrong == [(2, "a"), (3, "a")]


def _dirty_examples() -> list[Example]:
    dirty, _ = inject(ROWS, 5, 1)
    rows = []
    for i, row in enumerate(dirty):
        prompt, answer = row.get("prompt", ""), row.get("completion", "")
        if isinstance(prompt, str) and isinstance(answer, str):
            turns = (Message("user", prompt), Message("assistant", answer))
            rows.append(Example(f"{i:016x}", "d", i + 1, i + 1, messages=turns, target=answer))
    half = (
        Message("user", "half of a pair \ud83d, and bob@example.com"),
        Message("assistant", "a"),
    )
    return [*rows, Example("f" * 16, "d", 999, 999, messages=half, target="a")]


def test_a_screen_leaves_out_nothing_that_a_closer_look_finds() -> None:
    rows = _dirty_examples()
    screen = Screen(rows)
    for check in (markup, personal_data, secrets, prompt_injection, template_residue):
        one_by_one = [finding for row in rows if (finding := check.look(row)) is not None]
        assert check.find(rows, screen=screen) == one_by_one, check.__name__
        assert one_by_one, check.__name__
    assert placeholder.rows(rows, screen) == [placeholder.look(row) for row in rows]
    assert degenerate.rows(rows, screen) == [degenerate.look(row) for row in rows]
    damaged = {row.row_id for row in rows for _, text in texts(row) if list(encoding.look(text))}
    assert {finding.row_id for finding in encoding.find(rows, screen)} == damaged


def test_languages_of_many_texts_are_those_of_one() -> None:
    plain = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    sides = [turn.content for row in _dirty_examples()[::7] for turn in row.messages]
    sides += ["", "12 34", "这是一个测试", "HELLO WORLD THIS IS", "мама мыла раму", "Ünïcödé " * 20]
    for text, (language, sure) in zip(sides, identify.classify(sides), strict=True):
        expected, chance = plain.classify(text)
        assert (language, sure) == (expected, pytest.approx(chance, abs=1e-4)), text
    assert identify.classify([]) == []


def test_marks_are_reached_on_real_rows(shared: Path) -> None:
    scores, missed, wrong, _ = detect("gsm8k", 1, 2, shared=shared / "data", limit=2000)
    turns, missed_turns, wrong_turns = detect_turns("gsm8k", 1, 2, shared=shared / "data")
    scores += [one for one in turns if one.kind == "role_order"]
    assert {one.kind for one in scores} == set(MARKS)
    below = [
        (one.kind, one.recall, one.precision)
        for one in scores
        if one.recall < MARKS[one.kind][0] or one.precision < MARKS[one.kind][1]
    ]
    assert not below, (below, missed[:9], wrong[:9], missed_turns[:9], wrong_turns[:9])


@pytest.mark.parametrize("name", ["banking77", "e2e_nlg"])
def test_clean_rows_are_not_set_aside(name: str, shared: Path) -> None:
    found = rates(name, shared / "data")
    assert found["rows"] >= 4000
    assert found["set_aside"] <= 0.005 * found["rows"], found
