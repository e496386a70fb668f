"""Labels as a set, and rows that contradict each other: injected faults and hard negatives."""

import csv
import json
import math
import time
import tracemalloc
from collections import Counter

import pytest
from bench.faults.labels import add_unknown, contradict, make_rare, respell
from scipy.stats import entropy

from fettle.data.check import conflicts, labels
from fettle.data.deduplicate import input_key
from fettle.records.rows import Example, Message


def classified(texts, targets):
    examples = [
        Example(f"{i:016x}", "d.csv", i + 1, i + 2, text=text, target=target)
        for i, (text, target) in enumerate(zip(texts, targets, strict=True))
    ]
    return examples, [input_key(example) for example in examples]


def answered(prompts, answers):
    examples = [
        Example(
            f"{i:016x}", "d.jsonl", i + 1, i + 1, target=answer,
            messages=(Message("user", prompt), Message("assistant", answer)),
        )
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]  # fmt: skip
    return examples, [input_key(example) for example in examples]


def banking(shared):
    with (shared / "data" / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def clinc(shared):
    rows = json.loads((shared / "data" / "clinc150" / "data_full.json").read_text())["train"]
    return [row[0] for row in rows], [row[1] for row in rows]


# --- spellings of labels ------------------------------------------------------------------------


@pytest.mark.parametrize("source", [banking, clinc])
def test_injected_spellings_are_found_and_real_labels_are_not(shared, source):
    texts, clean = source(shared)
    texts, clean = texts[::4], clean[::4]
    examples, _ = classified(texts, clean)
    assert labels.spellings(examples, Counter(clean)) == {}
    changed = respell(clean, 60, 0.2, seed=4)
    truth = {changed.labels[i]: label for i, label in changed.original.items()}
    examples, _ = classified(texts, changed.labels)
    found = labels.spellings(examples, Counter(changed.labels))
    right = sum(truth.get(label) == usual for label, usual in found.items())
    assert len(truth) > 50
    assert right / len(truth) >= 0.95
    assert right / len(found) >= 0.95


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("card_arrival", "card_arriving"),
        ("time", "timer"),
        ("level_1", "level_2"),
        ("1 star", "1 stair"),
        ("typical", "atypical"),
        ("plan a", "plan b"),
        ("male", "female"),
        ("bat", "cat"),
        ("transfer_in", "transfer_on"),
    ],
)
def test_labels_of_different_rows_are_different(one, other):
    texts = [f"{'apples grow on trees' if i % 2 else 'ships sail the sea'} {i}" for i in range(60)]
    examples, _ = classified(texts, [one if i % 2 else other for i in range(60)])
    assert labels.find(examples) == []


@pytest.mark.parametrize(
    ("usual", "variant"),
    [
        ("lost_card", "Lost Card"),
        ("lost_card", "lost-card"),
        ("lost_card", "lostcard"),
        ("lost_card", "lost_cards"),
        ("category", "categories"),
        ("lost_card", "lsot_card"),
        ("lost_card", "lost_crad"),
        ("refund", "refnd"),
        ("refund", "refund."),
    ],
)
def test_a_rare_spelling_with_like_rows_is_a_variant(usual, variant):
    texts = [
        f"{'my card was taken away' if i % 2 else 'ships sail the sea'} {i}" for i in range(60)
    ]
    given = [usual if i % 2 else "shipping" for i in range(60)]
    given[7] = given[11] = variant
    examples, _ = classified(texts, given)
    found = [f for f in labels.find(examples) if f.kind == "label_variant"]
    assert {finding.row_id for finding in found} == {examples[7].row_id, examples[11].row_id}
    assert all(repr(usual) in finding.evidence for finding in found)


def test_unknown_labels_are_no_spelling_of_others(shared):
    texts, clean = banking(shared)
    changed = add_unknown(clean[::5], 10, seed=0)
    examples, _ = classified(texts[::5], changed.labels)
    found = labels.find(examples)
    assert [f.kind for f in found if f.kind == "label_variant"] == []
    assert any("10 of 87 labels have fewer than 5 rows" in f.evidence for f in found)


def test_rare_labels_and_the_effective_number(shared):
    texts, clean = banking(shared)
    names = sorted(set(clean))[:2]
    texts, rare = make_rare(texts, clean, names, 2, seed=0)
    found = [f for f in labels.find(classified(texts, rare)[0]) if f.kind == "imbalance"]
    assert [f.severity for f in found] == ["note", "warning"]
    assert f"2 of 77 labels have fewer than 5 rows: {names[0]!r}, {names[1]!r}" in found[1].evidence
    counts = Counter(rare)
    expected = math.exp(entropy(list(counts.values())))
    assert labels.effective_number(counts) == pytest.approx(expected)
    assert labels.effective_number({"a": 5, "b": 5, "c": 0}) == pytest.approx(2.0)


# --- contradictions -----------------------------------------------------------------------------


def key_pairs(added, keys):
    return [(keys[one], keys[other], 0.9) for one, other in added.partner.items()]


def scored(added, examples, found):
    wanted = {examples[i].row_id for pair in added.partner.items() for i in pair}
    named = {finding.row_id for finding in found}
    return len(named & wanted) / len(wanted), len(named & wanted) / max(len(named), 1)


@pytest.mark.parametrize("edits", [0, 1])
def test_contradicting_labels(shared, edits):
    texts, clean = banking(shared)
    added = contradict(texts[::4], clean[::4], 200, seed=1, kind="label", edits=edits)
    examples, keys = classified(added.texts, added.labels)
    found = conflicts.find(examples, keys, key_pairs(added, keys))
    recall, precision = scored(added, examples, found)
    assert recall >= 0.9
    assert precision >= 0.9
    assert all(finding.related for finding in found)


def test_contradicting_numbers_and_yes_or_no(shared):
    lines = (shared / "data" / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:600]]
    added = contradict(
        [row["question"] for row in rows], [row["answer"] for row in rows], 100, 2, "number"
    )
    examples, keys = answered(added.texts, added.labels)
    recall, precision = scored(
        added, examples, conflicts.find(examples, keys, key_pairs(added, keys))
    )
    assert recall >= 0.9
    assert precision >= 0.9
    prompts = [f"is it possible to return item {i} in the shop?" for i in range(100)]
    said = ["Yes, within two weeks." if i % 2 else "No, that is not possible." for i in range(100)]
    added = contradict(prompts, said, 40, 3, "yes_no")
    examples, keys = answered(added.texts, added.labels)
    recall, precision = scored(
        added, examples, conflicts.find(examples, keys, key_pairs(added, keys))
    )
    assert recall >= 0.9
    assert precision >= 0.9


def test_answers_with_nothing_in_common():
    asked = ["how do I reset the router at home", "How do I reset the router at home?"]
    examples, keys = answered(asked, ["hold the button for ten seconds", "roses are red"])
    found = conflicts.find(examples, keys, [(keys[0], keys[1], 0.95)])
    assert {finding.row_id for finding in found} == {example.row_id for example in examples}
    examples, keys = answered(asked, ["hold the button for ten seconds", "hold the red button"])
    assert conflicts.find(examples, keys, [(keys[0], keys[1], 0.95)]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what is 17 plus 25 in the test today", "what is 17 plus 26 in the test today"),
        ("is it allowed to park a car there", "is it not allowed to park a car there"),
        ("can I pay with my card at the shop here", "can't I pay with my card at the shop here"),
        ("turn on the light in the kitchen", "turn off the light in the kitchen"),
    ],
)  # fmt: skip
def test_what_asks_something_else_is_no_contradiction(one, other):
    examples, keys = classified([one, other], ["a", "b"])
    assert conflicts.find(examples, keys, [(keys[0], keys[1], 0.9)]) == []


def test_greetings_have_many_answers_and_numbers_some_spread():
    examples, keys = answered(["hello", "hello"], ["Good day.", "How can I help?"])
    assert conflicts.find(examples, keys) == []
    texts = [f"row {i} is fine" for i in range(20)]
    numbered = [
        Example(str(i), "d", i, i, text=text, target=str(value), number=value)
        for i, (text, value) in enumerate(
            zip([*texts, "the same one here", "the same one here!"],
                [*map(float, range(20)), 4.0, 4.5], strict=True)
        )
    ]  # fmt: skip
    keys = [input_key(example) for example in numbered]
    assert conflicts.find(numbered, keys, [(keys[20], keys[21], 0.95)]) == []
    apart = [*numbered[:21], Example("21", "d", 21, 21, text="the same one here!", target="19",
                                     number=19.0)]  # fmt: skip
    found = conflicts.find(apart, keys, [(keys[20], keys[21], 0.95)])
    assert {finding.row_id for finding in found} == {"20", "21"}


def test_many_answers_to_one_prompt_are_compared_in_bounded_time() -> None:
    words = [f"word{i}" for i in range(900)]
    rows = []
    for i in range(400):
        answer = " ".join(words[(i * 37 + j * (i + 1)) % 900] for j in range(200))
        turns = (Message("user", "Tell me a story about the sea"), Message("assistant", answer))
        rows.append(Example(f"{i:03}", "data", i, i, messages=turns, target=answer))
    keys = [input_key(row) for row in rows]
    start = time.process_time()
    found = conflicts.find(rows, keys)
    assert time.process_time() - start < 20
    assert len(found) == 400
    backwards = conflicts.find(rows[::-1], keys)
    assert {f.row_id: f.related for f in backwards} == {f.row_id: f.related for f in found}


def test_long_labels_take_no_more_memory_than_they_are_long() -> None:
    rows = [
        Example(f"{i}", "data", i, i, text=f"text {i}", target=label)
        for i, label in enumerate(["z" * 20_000, "y" * 20_000, "card lost", "card lots"] * 3)
    ]
    tracemalloc.start()
    labels.find(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000
