"""The marks that the checks of text must reach on injected faults; the full bench is in bench/."""

from collections import Counter
from pathlib import Path

import pytest
from bench.detection_text import MARKS, detect, detect_turns, rates, score
from bench.faults.text import FAULTS, LOOK_ALIKES, Injected, inject

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
