"""Sides by hash: fractions, groups, labels, sides that the user gave, leaks."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from fettle.data.check import check
from fettle.data.deduplicate import find_copies, input_key, normal_text
from fettle.data.split import fractions_for, position, split
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection, Task
from fettle.records.rows import Example, Finding, Message, SplitRow


def example(text: str, label: str | None = "a", **values: Any) -> Example:
    row_id = values.pop("row_id", f"{text}/{label}/{values}")
    return Example(row_id, "data", 1, 1, text=text, target=label, **values)


def examples(number: int, **values: Any) -> list[Example]:
    return [example(f"text {i}", "abc"[i % 3], **values) for i in range(number)]


def run(
    rows: Sequence[Example],
    held: Sequence[Example] = (),
    seed: int = 0,
    task: Task = "classify",
    **options: Any,
) -> tuple[dict[str, SplitRow], list[Finding]]:
    section = DataSection(path=["data"], **options)
    found, findings = split(rows, held, section, seed, task)
    assert [row.row_id for row in found] == [e.row_id for e in [*rows, *held]]
    return {row.row_id: row for row in found}, findings


def counts(rows: dict[str, SplitRow]) -> Counter[str]:
    return Counter(row.split for row in rows.values())


def test_automatic_fractions() -> None:
    rows, _ = run(examples(4000))
    assert counts(rows)["holdout"] == pytest.approx(800, abs=80)
    assert counts(rows)["validation"] == pytest.approx(400, abs=60)
    many, _ = run(examples(6000))
    assert counts(many)["holdout"] == pytest.approx(600, abs=75)
    # The step from small to large data takes rows out of the holdout, and puts none into it.
    grown = {rows[key].split: Counter[str]() for key in rows}
    for key in rows:
        grown[rows[key].split][many[key].split] += 1
    assert grown["train"] == {"train": grown["train"].total()}
    assert grown["validation"] == {"validation": grown["validation"].total()}
    assert set(grown["holdout"]) == {"holdout", "train"}


def test_fractions_of_the_user_and_the_seed() -> None:
    rows, _ = run(examples(2000), holdout_fraction=0.5, validation_fraction=0.25)
    assert counts(rows)["holdout"] == pytest.approx(1000, abs=90)
    assert counts(rows)["validation"] == pytest.approx(500, abs=80)
    other, _ = run(examples(2000), seed=1)
    same, _ = run(examples(2000), seed=1)
    assert other == same
    assert {k: r.split for k, r in other.items()} != {k: r.split for k, r in run(
        examples(2000))[0].items()}  # fmt: skip


def test_groups_stay_together() -> None:
    rows = [example(f"text {i}", "ab"[i % 2], group=f"g{i // 10}") for i in range(600)]
    placed, _ = run(rows)
    sides: dict[str | None, set[str]] = {}
    for row in rows:
        sides.setdefault(row.group, set()).add(placed[row.row_id].split)
    assert all(len(found) == 1 for found in sides.values())
    assert len({side for found in sides.values() for side in found}) == 3


def test_the_same_input_in_two_groups_leaves_the_lower_side() -> None:
    rows = [example(f"text {i}", "a", group=f"g{i}") for i in range(200)]
    copies = [example(f"TEXT  {i}", "b", group=f"h{i}") for i in range(200)]
    placed, findings = run([*rows, *copies])
    leaked = {f.row_id: f.related[0] for f in findings if f.kind == "split_leak"}
    assert leaked
    rank = {"train": 0, "validation": 1, "holdout": 2}
    for row, copy in zip(rows, copies, strict=True):
        one, two = placed[row.row_id], placed[copy.row_id]
        assert "quarantine" not in (one.split, two.split) or one.split != two.split
        if one.split != "quarantine" and two.split != "quarantine":
            assert one.split == two.split
    for row_id, other in leaked.items():
        assert placed[row_id].reason == "split_leak"
        assert rank[placed[other].split] > 0


def test_every_label_is_in_train() -> None:
    rows = examples(300) + [example(f"rare {i}", f"rare {i}") for i in range(100)]
    placed, findings = run(rows)
    assert {r.target for r in rows} == {r.target for r in rows if placed[r.row_id].split == "train"}
    moved = [row for row in placed.values() if row.reason == "label_coverage"]
    assert 10 < len(moved) < 60
    assert not any(f.kind == "unknown_label" for f in findings)
    # One row of a frequent label more moves none of those that were placed by their hash.
    after, _ = run([*rows, example("rare again", "rare 1")])
    assert all(after[key].split == row.split for key, row in placed.items() if row.reason == "hash")


def test_of_a_label_that_train_lacks_the_key_with_the_largest_hash_moves() -> None:
    rare = [example(f"rare {i}", f"rare {i // 3}") for i in range(300)]
    placed, _ = run([*examples(300), *rare])
    for start in range(0, 300, 3):
        group = rare[start : start + 3]
        moved = [e for e in group if placed[e.row_id].reason == "label_coverage"]
        assert len(moved) <= 1
        last = max(group, key=lambda e: position(0, f"input:{input_key(e)}"))
        assert moved in ([], [last])


def test_no_side_is_empty_in_small_data() -> None:
    for seed in range(30):
        placed, findings = run(examples(20), seed=seed)
        assert set(counts(placed)) == {"train", "validation", "holdout"}
        assert [f.kind for f in findings] == ["holdout_too_small"]


def test_a_given_holdout_is_the_holdout() -> None:
    rows = examples(100)
    held = [example("TEXT 3", "a", row_id="leak"), example("new", "zzz", row_id="new")]
    placed, findings = run(rows, held)
    assert placed["leak"].split == placed["new"].split == "holdout"
    assert placed["leak"].reason == "eval_file"
    assert placed[rows[3].row_id].reason == "split_leak"
    assert placed[rows[3].row_id].split == "quarantine"
    assert counts(placed)["holdout"] == 2
    assert counts(placed)["validation"] > 0
    kinds = {f.row_id: f.kind for f in findings if f.row_id}
    assert kinds == {rows[3].row_id: "split_leak", "new": "unknown_label"}


def test_a_split_column_is_followed() -> None:
    rows = [
        example(f"text {i}", "ab"[i % 2], split=("train", "validation", "holdout")[i % 3])
        for i in range(90)
    ]
    placed, _ = run(rows)
    assert all(placed[r.row_id].split == r.split for r in rows)
    assert {row.reason for row in placed.values()} == {"split_column"}
    without_validation = [r for r in rows if r.split != "validation"]
    cut, _ = run(without_validation)
    assert all(
        (cut[r.row_id].split == "holdout") == (r.split == "holdout") for r in without_validation
    )
    assert counts(cut)["validation"] > 0
    both, _ = run(rows, examples(30, group="x"))
    assert {both[r.row_id].reason for r in rows if r.split == "holdout"} == {"unused_holdout"}


def test_what_can_not_be_split_is_an_error() -> None:
    for rows, code in (
        (examples(19), "E0331"),
        ([example(f"t{i}", "ab"[i % 2], group="one") for i in range(50)], "E0336"),
        ([example(f"t{i}", "a", split="holdout") for i in range(50)], "E0335"),
    ):
        with pytest.raises(DataError) as caught:
            run(rows)
        assert caught.value.code == code
    with pytest.raises(DataError) as caught:
        run(examples(30), [example(f"TEXT {i}", "a", row_id=str(i)) for i in range(30)])
    assert caught.value.code == "E0335"


def test_fractions_are_zero_where_a_side_was_given() -> None:
    section = DataSection(path=["data"])
    assert fractions_for(examples(30), True, section).holdout == 0
    given = [*examples(30), example("x", split="validation")]
    assert fractions_for(given, False, section).validation == 0


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Hello  world", " hello world\n", True),
        ("ＡＢＣ", "abc", True),
        ("Straße", "STRASSE", True),
        ("café", "cafe\u0301", True),
        ("hello", "hello!", False),
        ("", " ", True),
    ],
)
def test_normal_text(one: str, two: str, same: bool) -> None:
    assert (normal_text(one) == normal_text(two)) is same
    assert normal_text(normal_text(one)) == normal_text(one)


def test_conversations_are_compared_up_to_their_target() -> None:
    def chat(row_id: str, *turns: tuple[Any, str]) -> Example:
        messages = tuple(Message(*turn) for turn in turns)
        return Example(row_id, "data", 1, 1, messages=messages, target=messages[-1].content)

    one = chat("1", ("user", "Hi"), ("assistant", "Yes"))
    two = chat("2", ("user", "hi "), ("assistant", "No"))
    three = chat("3", ("user", "Hi"), ("assistant", "yes"))
    other = chat("4", ("assistant", "Hi"), ("assistant", "yes"))
    keys = [input_key(e) for e in (one, two, three, other)]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert find_copies([one, two, three, other], keys) == {"3": "1"}


def test_the_copy_that_stays_is_the_first_occurrence() -> None:
    rows = [
        example("x", "a", row_id="1", tags={"occurrence": "2"}),
        example("x", "a", row_id="5"),
        example("X", "a", row_id="3"),
        example("x", "A", row_id="2"),
    ]
    assert find_copies(rows, [input_key(e) for e in rows]) == {"1": "3", "5": "3"}


def test_findings_about_examples() -> None:
    rows = [
        *(example(f"text {i}", "spam") for i in range(40)),
        example("Text 1", "ham", row_id="conflict"),
        example("text 2", "spam", row_id="copy"),
        example("see https://x.org <b>now</b>", "SPAM", row_id="variant"),
    ]
    findings = check(rows, [input_key(e) for e in rows])
    by_kind = {kind: [f for f in findings if f.kind == kind] for kind in {f.kind for f in findings}}
    assert {f.row_id for f in by_kind["label_conflict"]} == {"conflict", "text 1/spam/{}"}
    assert by_kind["label_conflict"][0].severity == "warning"
    assert by_kind["exact_duplicate"][0].related
    assert [f.row_id for f in by_kind["label_variant"]] == ["variant"]
    assert "'spam'" in by_kind["label_variant"][0].evidence
    assert by_kind["html_or_url"][0].evidence == "1 web address(es) and 2 HTML tag(s)"
    assert "'spam' has 41 rows" in by_kind["imbalance"][0].evidence
    held = check(rows, [input_key(e) for e in rows], given_holdout=True)
    assert "kept" in next(f.remedy for f in held if f.kind == "exact_duplicate")


@pytest.mark.parametrize(
    ("roles", "evidence"),
    [
        (["user", "assistant"], None),
        (["system", "user", "assistant", "tool", "assistant", "user", "assistant"], None),
        (["user", "user", "assistant"], "turns 1 and 2 are both from the user"),
        (["assistant", "user", "assistant"], "the assistant speaks first"),
        (["user", "system", "assistant"], "a system turn stands inside"),
    ],
)
def test_order_of_turns(roles: list[Any], evidence: str | None) -> None:
    row = Example("1", "d", 1, 1, messages=tuple(Message(r, "x") for r in roles), target="x")
    found = [f.evidence for f in check([row], [input_key(row)]) if f.kind == "role_order"]
    assert [item[: len(evidence or "")] for item in found] == ([evidence] if evidence else [])
