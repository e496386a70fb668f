"""Leaks between sides, near duplicates in a split, and what the verdict must know of them."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bench.faults.duplicates import inject_copies, look_alikes
from tests.unit.test_data_near import edited, pool, sentence

from fettle.data.check import duplicates, leaks
from fettle.data.deduplicate import input_key
from fettle.data.near import clusters
from fettle.data.prepare import prepare
from fettle.data.split import split
from fettle.recipe.recipe import DataSection
from fettle.records.rows import Example, Finding, Message, Split, SplitRow


def row(text: str, **values: Any) -> Example:
    return Example(values.pop("row_id", text), "data", 1, 1, text=text, target="a", **values)


def run(
    rows: list[Example],
    held: list[Example] | None = None,
    pins: dict[str, Split] | None = None,
    **options: Any,
) -> tuple[dict[str, SplitRow], list[Finding]]:
    section = DataSection(path=["data"], **options)
    found, findings = split(rows, held or [], section, 0, "classify", pins)
    return {placed.row_id: placed for placed in found}, findings


def kinds(findings: list[Finding]) -> Counter[str]:
    return Counter(finding.kind for finding in findings)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    random = Random(11)
    return [sentence(random, 30) for _ in range(120)]


def test_near_duplicates_lie_on_one_side_and_are_named_once(texts: list[str]) -> None:
    random = Random(12)
    copies = [edited(text, random, 1) for text in texts]
    placed, findings = run([row(text) for text in [*texts, *copies]])
    for text, copy in zip(texts, copies, strict=True):
        assert placed[text].split == placed[copy].split
    assert len({p.split for p in placed.values()}) == 3
    found = [f for f in findings if f.kind == "near_duplicate"]
    assert len(found) == 120
    assert all(f.severity == "note" and len(f.related) == 1 for f in found)
    # One of each pair is never named: what a policy takes out leaves the other.
    assert not {f.row_id for f in found} & {f.related[0] for f in found}
    assert kinds(findings)["split_leak_near"] == 0


def test_near_leaks_into_a_given_holdout_are_reported_and_kept(texts: list[str]) -> None:
    random = Random(13)
    held = [row(edited(texts[i], random, 1), row_id=f"h{i}") for i in range(10)]
    held += [row(f"{sentence(random, 9)} {texts[10]}", row_id="wrapped")]
    held += [row(texts[11].upper(), row_id="exact"), row(sentence(random, 30), row_id="clean")]
    placed, findings = run([row(text) for text in texts], held)
    assert all(placed[e.row_id].split == "holdout" for e in held)
    leaked = {f.row_id: f for f in findings if f.kind == "split_leak_near"}
    assert leaked.keys() == {*(f"h{i}" for i in range(10)), "wrapped"}
    assert all(f.related == (texts[i],) for i in range(10) for f in [leaked[f"h{i}"]])
    assert placed[texts[0]].split in ("train", "validation")
    assert placed[texts[11]].split == "quarantine"
    splits = list(placed.values())
    in_train = {i for i in range(11) if placed[texts[i]].split == "train"}
    assert leaks.with_train_twin(splits, findings) == {
        "wrapped" if i == 10 else f"h{i}" for i in in_train
    }


def test_look_alikes_may_part_and_are_one_note() -> None:
    rows = [row(made["text"]) for made in look_alikes(200)]
    placed, findings = run(rows)
    found = [f for f in findings if f.kind == "same_template"]
    assert len(found) == 1
    assert not found[0].row_id
    assert kinds(findings)["near_duplicate"] <= 2
    assert len({p.split for p in placed.values()}) == 3


def test_what_a_too_large_cluster_parts_goes_to_quarantine() -> None:
    random = Random(14)
    chain = [sentence(random, 40)]
    for _ in range(600):
        chain.append(edited(chain[-1], random, 1))
    rows = [row(text) for text in dict.fromkeys(chain)]
    placed, findings = run(rows)
    aside = {r for r, p in placed.items() if p.reason == "split_leak_near"}
    assert aside == {f.row_id for f in findings if f.kind == "split_leak_near"}
    assert 0 < len(aside) < 0.2 * len(rows)
    # No two rows that are known to be alike are left on two sides.
    found = clusters(rows, [input_key(e) for e in rows])
    side = {input_key(e): placed[e.row_id].split for e in rows}
    pairs = {(side[link.left], side[link.right]) for link in found.links if link.method == "near"}
    assert {a for a, b in pairs if a != b and "quarantine" not in (a, b)} == set()
    assert ("train", "train") in pairs


def test_a_row_that_joins_two_old_clusters_moves_neither(texts: list[str]) -> None:
    random = Random(15)
    old = [row(text) for text in texts]
    bridge = row(f"{texts[0]} {texts[1]}", row_id="bridge")
    pins: dict[str, Split] = {e.row_id: "train" for e in old}
    pins[texts[1]] = "holdout"
    new = [row(sentence(random, 30)) for _ in range(40)]
    placed, findings = run([*old, bridge, *new], pins=pins)
    assert placed[texts[0]].split == "train"
    assert placed[texts[1]].split == "holdout"
    assert placed["bridge"].split == "train"
    assert leaks.with_train_twin(placed.values(), findings) == {texts[1]}


def test_a_group_and_a_cluster_hold_together(texts: list[str]) -> None:
    random = Random(16)
    rows = [row(text, group=f"g{i // 2}") for i, text in enumerate(texts)]
    rows += [row(edited(texts[i], random, 1), group=f"other {i}") for i in range(0, 120, 5)]
    placed, findings = run(rows)
    sides: dict[str | None, set[str]] = {}
    for e in rows:
        sides.setdefault(e.group, set()).add(placed[e.row_id].split)
    assert all(len(found) == 1 for found in sides.values())
    for index, e in enumerate(rows[120:]):
        assert placed[e.row_id].split == placed[texts[5 * index]].split
    assert {placed[e.row_id].reason for e in rows[120:]} == {"cluster_hash"}
    assert kinds(findings)["split_leak"] == kinds(findings)["split_leak_near"] == 0


def test_rows_that_lie_in_another_pool() -> None:
    texts = pool(40, seed=9, words=(20, 40))
    random = Random(17)
    fresh = [sentence(random, 30) for _ in range(20)]
    rows = [row(text) for text in [*texts, *fresh]]
    guard = [row(texts[0].title(), row_id="g0"), row(f"see: {fresh[1]}", row_id="g1")]
    guard.append(row(sentence(random, 30), row_id="g2"))
    found = {f.row_id: f for f in leaks.against(rows, [input_key(e) for e in rows], guard)}
    assert found[texts[0]].kind == "split_leak"
    assert found[texts[0]].related == ("g0",)
    assert found[fresh[1]].kind == "split_leak_near"
    assert not any("g2" in f.related for f in found.values())
    assert not found.keys() & {*fresh[:1], *fresh[2:]}


def test_a_second_check_of_what_was_kept_sets_nothing_aside(tmp_path: Path) -> None:
    random = Random(18)
    made = inject_copies(
        [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(pool(80, seed=10))],
        ["exact", "case", "spacing", "words 5 %", "wrapped"],
        8,
    ).rows
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(one) for one in made]
    results = []
    for _ in range(3):
        path.write_text("\n".join(lines), encoding="utf-8")
        first = prepare(DataSection(path=[str(path)]), None, 0)
        results.append({r.row_id: r.split for r in first.splits})
        kept = [r.record - 1 for r in first.splits if r.split != "quarantine"]
        lines = [lines[index] for index in kept]
        random.shuffle(lines)
    sets = [Counter(result.values()) for result in results]
    assert sets[0]["quarantine"] == 24
    assert sets[1]["quarantine"] == sets[2]["quarantine"] == 0
    # Neither the rows that left nor the order of the lines moved any other row.
    for after in results[1:]:
        assert all(results[0][row_id] == side for row_id, side in after.items())


def test_repeated_prompts_and_answers() -> None:
    def chat(row_id: str, prompt: str, answer: str) -> Example:
        turns = (Message("user", prompt), Message("assistant", answer))
        return Example(row_id, "data", 1, int(row_id), messages=turns, target=answer)

    long = "this answer is long enough to repeat on purpose"
    rows = [
        chat("1", "Hello", long),
        chat("2", "HELLO ", long.upper()),
        chat("3", "hello", "Another answer"),
        chat("4", "Good bye", f" {long}"),
        chat("5", "Well", "Yes"),
        chat("6", "Really", "yes"),
    ]
    found = duplicates.find(rows, [input_key(e) for e in rows], False)
    assert [(f.row_id, f.kind, f.related) for f in found] == [
        ("2", "exact_duplicate", ("1",)),
        ("3", "duplicate_prompt", ("1",)),
        ("4", "duplicate_answer", ("1",)),
    ]


def test_a_given_holdout_is_held_against_the_rows_of_an_earlier_run(texts: list[str]) -> None:
    random = Random(14)
    sides: list[Split] = ["train", "validation", "holdout"]
    pins = {f"old {i}": sides[i % 3] for i in range(9)}
    earlier = [row(texts[i], row_id=f"old {i}") for i in range(9)]
    held = [row(edited(texts[i], random, 1), row_id=f"h{i}") for i in range(9)]
    held.append(row(sentence(random, 30), row_id="clean"))
    section = DataSection(path=["data"])
    found, findings = split(
        [row(text) for text in texts[20:]], held, section, 0, "classify", pins, earlier=earlier
    )
    leaked = {f.row_id: f for f in findings if f.kind == "split_leak_near"}
    assert {name: f.related for name, f in leaked.items()} == {
        f"h{i}": (f"old {i}",) for i in range(9) if i % 3 < 2
    }
    assert "of an earlier run" in leaked["h0"].evidence
    assert leaks.with_train_twin(found, findings) == leaked.keys()
    assert len(found) == 110


def test_a_row_that_only_shares_its_group_is_no_twin(texts: list[str]) -> None:
    train = [row(text, row_id=f"t{i}", group=f"g{i % 5}") for i, text in enumerate(texts[:20])]
    held = [row(text, row_id=f"h{i}", group=f"g{i % 5}") for i, text in enumerate(texts[20:40])]
    held.append(row(texts[3], row_id="twin", group="b"))
    section = DataSection(path=["data"])
    found, findings = split(train, held, section, 0, "classify")
    told = {f.row_id for f in findings if f.kind == "split_leak"}
    assert len(told & {f"h{i}" for i in range(20)}) >= 12, "one group of the five validates"
    # The same text: its training row went to quarantine, so nothing tells about it any more.
    assert leaks.with_train_twin(found, findings) == set()


def test_findings_do_not_depend_on_the_order_of_rows(texts: list[str]) -> None:
    random = Random(15)
    rows = [row(text) for text in texts]
    # Three rows of one input and other labels, like one other row: one of them is named.
    for i in range(6):
        copy = edited(texts[i], random, 1)
        rows += [replace(row(copy, row_id=f"{name}{i}"), target=name) for name in "bcd"]

    def told(rows: list[Example]) -> set[tuple[str, str, str, tuple[str, ...]]]:
        return {(f.row_id, f.kind, f.evidence, f.related) for f in run(rows)[1]}

    assert told(rows) == told(rows[::-1])


@pytest.mark.parametrize("num", [90, 160])
def test_documents_that_are_parted_are_told_of(texts: list[str], num: int) -> None:
    random = Random(16)
    document = sentence(random, 80)
    about = [row(f"{document} {sentence(random, 9)}?", row_id=f"q{i}") for i in range(num)]
    placed, findings = run([*about, *(row(sentence(random, 30)) for _ in range(400))])
    sides = Counter(placed[e.row_id].split for e in about)
    told = [f for f in findings if f.kind == "split_leak_near"]
    assert len(sides) == 3
    assert len(told) == 1
    assert f"train {sides['train']}, validation {sides['validation']}" in told[0].evidence
    # An instruction in front of nearly every row is none.
    rows = [row(f"{document} {sentence(random, 30)}", row_id=f"i{i}") for i in range(300)]
    assert kinds(run(rows)[1])["split_leak_near"] == 0


def test_a_given_holdout_that_shares_documents_is_told_of(texts: list[str]) -> None:
    random = Random(17)
    documents = [sentence(random, 60) for _ in range(3)]
    held = [row(f"{d} {sentence(random, 9)}?", row_id=f"h{i}") for i, d in enumerate(documents)]
    rows = [row(f"{d} {sentence(random, 9)}?", row_id=f"t{i}") for i, d in enumerate(documents)]
    placed, findings = run([*map(row, texts), *rows], held)
    told = [f for f in findings if f.kind == "split_leak_near" and not f.row_id]
    assert len(told) == 1
    num = sum(placed[e.row_id].split == "train" for e in rows)
    assert num > 1
    assert told[0].evidence.startswith(f"{num} groups of rows")
    assert "train 1, holdout 1" in told[0].evidence
