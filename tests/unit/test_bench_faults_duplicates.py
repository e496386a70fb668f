"""The injector of duplicates: pure, seeded, and its answer key is true."""

from random import Random

import pytest
from bench.faults.duplicates import (
    EDITS,
    LEAKS,
    as_chats,
    as_prompts,
    changed,
    cut_conversations,
    cut_documents,
    inject_copies,
    inject_leaks,
    look_alikes,
    other_numbers,
    texts_of,
    vocabulary,
    word_edits,
)

SENTENCES = [
    f"The {a} of the {b} was {c} when we came back. Nobody had seen the {b} leave, and the {a} said"
    f" that it was {c} before {n} people went home."
    for n, (a, b, c) in enumerate(
        (a, b, c)
        for a in ("owner", "guard", "cook", "driver")
        for b in ("house", "station", "market", "garden", "ship")
        for c in ("open", "dark", "empty", "locked", "full")
    )
]
ROWS = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(SENTENCES)]


def test_copies_are_the_same_for_a_seed_and_their_origins_are_true() -> None:
    dirty = inject_copies(ROWS, list(EDITS), 5, seed=3)
    assert dirty == inject_copies(ROWS, list(EDITS), 5, seed=3)
    assert dirty != inject_copies(ROWS, list(EDITS), 5, seed=4)
    assert len(dirty.rows) == 150
    assert [a.kind for a in dirty.answers] == [kind for kind in EDITS for _ in range(5)]
    assert len({a.origin for a in dirty.answers}) == 50
    for answer in dirty.answers:
        copy, origin = dirty.rows[answer.row], dirty.rows[answer.origin]
        assert origin in ROWS
        assert copy["label"] == origin["label"]
        if answer.kind == "exact":
            assert copy == origin
        else:
            assert copy != origin
        if answer.kind in ("case", "spacing"):
            assert copy["text"].lower().split() == origin["text"].lower().split()
        if answer.kind == "wrapped":
            assert origin["text"] in copy["text"]
        if answer.kind == "truncated":
            assert origin["text"].startswith(copy["text"])
        if answer.kind == "reordered":
            assert sorted(copy["text"].split()) == sorted(origin["text"].split())


def test_leaks_come_from_evaluation_rows() -> None:
    held = ROWS[:60]
    dirty = inject_leaks(ROWS[60:], held, LEAKS, 4, seed=1)
    assert len(dirty.rows) == 40 + 4 * len(LEAKS)
    inside = [a for a in dirty.answers if a.kind == "contained"]
    assert len(inside) == 4
    for answer in inside:
        text, leak = held[answer.origin]["text"], dirty.rows[answer.row]["text"]
        assert text in leak
        assert len(leak) >= 3 * len(text)
    with pytest.raises(ValueError, match="80 rows are to be changed, but only 60"):
        inject_leaks(ROWS[60:], held, ["exact"], 80)


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.10])
def test_the_rate_of_word_edits(rate: float) -> None:
    text = " ".join(f"w{i}" for i in range(1000))
    kept = []
    for seed in range(20):
        new = set(word_edits(rate)(text, Random(seed), ["new"]).split())
        kept.append(len(new & set(text.split())))
    # Substitutions and deletions, half of all edits, take a word away.
    assert sum(kept) / len(kept) == pytest.approx(1000 * (1 - rate / 2), abs=1000 * rate / 5)
    for seed in range(20):
        assert word_edits(rate)("one two three", Random(seed), ["new"]) != "one two three"


def test_edits_write_no_numbers() -> None:
    assert not any(any(c.isdigit() for c in word) for word in vocabulary(ROWS))


def test_chats_and_prompts_are_changed_in_every_text_but_the_system_turn() -> None:
    chat = as_chats(["Hello there"], ["Good day"], system="Be kind")[0]
    upper = changed(chat, str.upper)
    assert [turn["content"] for turn in upper["messages"]] == ["Be kind", "HELLO THERE", "GOOD DAY"]
    assert texts_of(upper) == ["HELLO THERE", "GOOD DAY"]
    assert chat["messages"][1]["content"] == "Hello there"
    prompt = as_prompts(["Hello"], ["Good day"])[0]
    assert changed(prompt, str.upper) == {"prompt": "HELLO", "completion": "GOOD DAY"}


def test_look_alikes_differ() -> None:
    rows = look_alikes(500, seed=2)
    assert rows == look_alikes(500, seed=2)
    assert len({row["text"] for row in rows}) == 500
    assert not any("{" in row["text"] for row in rows)
    assert len({row["label"] for row in rows}) == 9


def test_other_numbers_change_each_number_and_nothing_else() -> None:
    for row, origin in other_numbers(ROWS, 40):
        old, new = ROWS[origin]["text"].split(), row["text"].split()
        different = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        assert len(different) == 1
        assert all(word.isdigit() for word in different[0])


def test_rows_of_a_conversation_and_of_a_document_begin_alike() -> None:
    turns = [{"role": r, "content": f"turn {i}"} for i, r in enumerate(["user", "assistant"] * 3)]
    rows = cut_conversations([turns, turns[:2]])
    assert [index for _, index in rows] == [0, 0, 0, 1]
    assert [len(row["messages"]) for row, _ in rows] == [2, 4, 6, 2]
    asked = cut_documents(["long text", "another"], ["a?", "b?", "c?"], 2)
    assert [index for _, index in asked] == [0, 0, 1, 1]
    assert len({row["text"] for row, _ in asked}) == 4
    assert all(row["text"].startswith(("long text", "another")[i]) for row, i in asked)
