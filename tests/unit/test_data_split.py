"""Sides by hash: fractions, groups, labels, sides that the user gave, leaks."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from fettle.data.check import check
from fettle.data.deduplicate import find_copies, input_key, normal_text
from fettle.data.split import _shown, fractions_for, position, split
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection, Task
from fettle.records.rows import Example, Finding, Message, Split, SplitRow


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


def test_the_same_input_in_two_groups_holds_them_together() -> None:
    rows = [example(f"text {i}", "a", group=f"g{i}") for i in range(200)]
    copies = [example(f"TEXT  {i}", "b", group=f"h{i}") for i in range(200)]
    placed, findings = run([*rows, *copies])
    assert all(placed[a.row_id].split == placed[b.row_id].split
               for a, b in zip(rows, copies, strict=True))  # fmt: skip
    assert not any(f.kind == "split_leak" for f in findings)
    assert len({row.split for row in placed.values()}) == 3


def test_what_every_group_says_ties_no_groups_together_and_leaves_the_lower_side() -> None:
    rows = [example(f"text {i}", "a", group=f"g{i // 2}") for i in range(2400)]
    greetings = [example("Hello", "ab"[i % 2], group=f"g{i}", row_id=f"h{i}") for i in range(1200)]
    placed, findings = run([*rows, *greetings])
    assert len({placed[row.row_id].split for row in rows}) == 3
    leaked = {f.row_id: f.related[0] for f in findings if f.kind == "split_leak"}
    rank = {"train": 0, "validation": 1, "holdout": 2}
    # Greetings stay on one side only: the highest on which there is one.
    assert len({placed[g.row_id].split for g in greetings} - {"quarantine"}) == 1
    assert leaked
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


def test_a_small_holdout_says_what_it_can_show() -> None:
    # 17.6 points: exact enumeration for 50 rows, 80 % power, discordance .20.
    assert "from 18 points of accuracy on" in _shown(50)
    assert _shown(5) == "; too few for any"
    _, findings = run(examples(20))
    assert findings[0].evidence.endswith("; too few for any")


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
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        Message(
            role,
            "x",
            tool_calls=(call,) if following == "tool" else (),
            tool_call_id="1" if role == "tool" else None,
        )
        for role, following in zip(roles, [*roles[1:], None], strict=True)
    ]
    row = Example("1", "d", 1, 1, messages=tuple(turns), target="x")
    found = [f.evidence for f in check([row], [input_key(row)]) if f.kind == "role_order"]
    assert [item[: len(evidence or "")] for item in found] == ([evidence] if evidence else [])


# --- labels on every side, and sides of earlier runs -------------------------------------------


def on_sides(rows: Sequence[Example], placed: dict[str, SplitRow]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {side: set() for side in ("train", "validation", "holdout")}
    for row in rows:
        found.setdefault(placed[row.row_id].split, set()).update(row.classes)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_label_with_enough_rows_is_on_every_side(seed: int) -> None:
    rows = [example(f"{label} {i}", f"label {label}") for label in range(60) for i in range(10)]
    placed, findings = run(rows, seed=seed)
    labels = {row.target for row in rows}
    assert all(found == labels for found in on_sides(rows, placed).values())
    assert not any(f.kind == "unrepresentative" for f in findings)
    # Nothing but the nearest row of a label that lacked a side was moved.
    for row in rows:
        u = position(seed, f"input:{input_key(row)}")
        by_hash = "holdout" if u < 0.2 else "validation" if u >= 0.9 else "train"
        if placed[row.row_id].reason == "hash":
            assert placed[row.row_id].split == by_hash
            continue
        assert placed[row.row_id].reason == "label_coverage"
        others = [r for r in rows if r.target == row.target and r is not row]
        ranked = sorted([row, *others], key=lambda r: position(seed, f"input:{input_key(r)}"))
        if placed[row.row_id].split == "holdout":
            assert ranked[0] is row
        elif placed[row.row_id].split == "validation":
            assert ranked[-1] is row
    assert 0 < sum(row.reason == "label_coverage" for row in placed.values()) < 60


def test_a_label_with_too_few_rows_may_lack_the_holdout_and_a_finding_says_so() -> None:
    rare = [example(f"rare {i}", f"rare {i // 4}") for i in range(80)]
    placed, findings = run([*examples(400), *rare])
    found = on_sides([*examples(400), *rare], placed)
    absent = found["train"] - found["holdout"]
    assert 2 < len(absent) < 18
    (finding,) = [f for f in findings if f.kind == "unrepresentative"]
    assert finding.severity == "note"
    assert f"no row of {len(absent)} of the {len(found['train'])} labels" in finding.evidence
    assert finding.evidence.endswith(f"and {len(absent) - 3} more")


def test_label_coverage_never_parts_a_group_and_never_empties_train() -> None:
    groups = [
        example(f"{g} {i}", f"label {g % 12}", group=f"g{g}") for g in range(48) for i in range(5)
    ]
    for seed in range(10):
        placed, findings = run(groups, seed=seed)
        sides: dict[str | None, set[str]] = {}
        for row in groups:
            sides.setdefault(row.group, set()).add(placed[row.row_id].split)
        assert all(len(found) == 1 for found in sides.values())
        found = on_sides(groups, placed)
        assert found["train"] == {f"label {n}" for n in range(12)}
        # Four groups of a label are enough for each side to have one.
        assert found["holdout"] == found["validation"] == found["train"]
        assert not any(f.kind == "unrepresentative" for f in findings)


def test_a_group_larger_than_the_side_stays_in_train() -> None:
    big = [example(f"big {i}", "rare", group=f"big {i % 2}") for i in range(200)]
    small = [example(f"small {i}", "usual", group=f"small {i}") for i in range(100)]
    stayed = 0
    for seed in range(20):
        placed, findings = run([*big, *small], seed=seed)
        if all(placed[row.row_id].reason == "group_hash" for row in big):
            at = {placed[row.row_id].split for row in big}
            stayed += at == {"train"}
            kinds = {f.kind for f in findings}
            assert ("unrepresentative" in kinds) == ("holdout" not in at)
    assert stayed > 5


def test_any_number_of_labels_a_row() -> None:
    rows = [
        Example(
            f"{i}", "data", 1, 1, text=f"text {i}", target=str(i), labels=(f"a{i % 7}", f"b{i % 9}")
        )
        for i in range(120)
    ]
    placed, _ = run(rows)
    labels = {label for row in rows for label in row.classes}
    assert all(found == labels for found in on_sides(rows, placed).values())


def test_rows_of_an_earlier_run_keep_their_side() -> None:
    old, new = examples(200), [example(f"new {i}", "abc"[i % 3]) for i in range(200)]
    before, _ = run(old, seed=1)
    pins = {row_id: row.split for row_id, row in before.items()}
    section = DataSection(path=["data"])
    found, _ = split([*new, *old], (), section, 2, "classify", pins)
    after = {row.row_id: row for row in found}
    assert {row_id: after[row_id].split for row_id in pins} == pins
    assert {after[row_id].reason for row_id in pins} == {"earlier_run"}
    assert {after[row.row_id].reason for row in new} == {"hash"}
    without = {row.row_id: row.split for row in split([*new, *old], (), section, 2, "classify")[0]}
    assert any(without[row_id] != side for row_id, side in pins.items())


def test_a_new_row_follows_the_old_rows_of_its_key() -> None:
    old = [example(f"text {i}", "ab"[i % 2], group=f"g{i % 40}") for i in range(120)]
    pins: dict[str, Split] = {
        row.row_id: ("holdout" if i % 40 < 10 else "train") for i, row in enumerate(old)
    }
    new = [example(f"more {i}", "ab"[i % 2], group=f"g{i % 50}") for i in range(100)]
    rows, _ = split([*old, *new], (), DataSection(path=["data"]), 0, "classify", pins)
    placed = {row.row_id: row for row in rows}
    for i, row in enumerate(new):
        if i % 50 < 40:
            assert placed[row.row_id].split == ("holdout" if i % 50 < 10 else "train")
        else:
            assert placed[row.row_id].reason != "earlier_run"
    # Of a group that the earlier run had parted, nothing new is judged on.
    pins[old[0].row_id], pins[old[40].row_id] = "train", "holdout"
    rows, findings = split([*old, *new], (), DataSection(path=["data"]), 0, "classify", pins)
    placed = {row.row_id: row for row in rows}
    assert placed[new[0].row_id].split == "train"
    assert placed[old[40].row_id].split == "holdout"
    assert {f.row_id for f in findings if f.kind == "split_leak"} >= {old[40].row_id}


def test_an_old_holdout_row_is_not_trained_on_beside_another_holdout() -> None:
    old = examples(100)
    pins: dict[str, Split] = {
        row.row_id: ("holdout" if i < 20 else "train") for i, row in enumerate(old)
    }
    held = [example(f"mine {i}", "abc"[i % 3]) for i in range(30)]
    rows, findings = split(old, held, DataSection(path=["data"]), 0, "classify", pins)
    placed = {row.row_id: row for row in rows}
    assert {placed[row.row_id].reason for row in old[:20]} == {"unused_holdout"}
    assert {placed[row.row_id].split for row in old[20:]} <= {"train"} | {"validation"}
    evidence = {f.evidence for f in findings if f.kind == "unused_holdout"}
    assert evidence == {"an earlier run had it in its holdout, but another holdout was given"}


def test_nothing_but_old_training_rows_can_not_be_judged() -> None:
    old = examples(50)
    pins: dict[str, Split] = {
        row.row_id: ("validation" if i < 5 else "train") for i, row in enumerate(old)
    }
    with pytest.raises(DataError) as caught:
        split(old, (), DataSection(path=["data"]), 0, "classify", pins)
    assert caught.value.code == "E0337"
    assert "50 of 50" in caught.value.message


def test_holdout_rows_whose_group_is_trained_on_are_kept_and_named() -> None:
    rows = [example(f"text {i}", "ab"[i % 2], group=f"g{i % 20}") for i in range(100)]
    held = [example(f"own {i}", "ab"[i % 2], group=f"g{i}") for i in range(10, 40)]
    placed, findings = run(rows, held)
    train = {row.group for row in rows if placed[row.row_id].split == "train"}
    shared = {row.row_id for row in held if row.group in train}
    assert 0 < len(shared) <= 10
    assert {f.row_id for f in findings if f.kind == "split_leak"} == shared
    assert all(placed[row.row_id].split == "holdout" for row in held)
    finding = next(f for f in findings if f.kind == "split_leak")
    assert "5 training rows are of the same group 'g1" in finding.evidence
    assert len(finding.related) == 5
    none, findings = run([example(f"text {i}", "ab"[i % 2]) for i in range(100)], held)
    assert not any(f.kind == "split_leak" for f in findings)
    assert counts(none)["holdout"] == 30
