"""The account of the rows: every input record exactly once, for any input."""

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fettle.data.account.account import (
    Prepared,
    hash_holdout,
    load_account,
    move_to_quarantine,
    verify_conservation,
    write_account,
)
from fettle.data.deduplicate import input_key
from fettle.data.prepare import prepare
from fettle.errors import IntegrityError
from fettle.recipe.recipe import DataSection
from fettle.records.rows import Finding
from fettle.records.run_directory import read_jsonl

BASE = [(f"a sentence with the number {i} in it", "abc"[i % 3], f"g{i % 30}") for i in range(60)]
LABELS = ["a", "b", "c", "rare", " a", "A", ""]

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["same text", "SAME  text", "ｓａｍｅ text", "", " ", "\x00", '"', "\ud83d", "\x85"]
    ),
    st.sampled_from([text for text, _, _ in BASE]),
)
rows = st.tuples(texts, st.sampled_from(LABELS), st.sampled_from(["g1", "g2", "new", ""]))
broken = st.sampled_from(
    ["{", "[1", "nonsense", "3", "null", '{"text": "no label"}', '"', "{}", "[]"]
)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def jsonl(records: Sequence[tuple[str, str, str]]) -> list[str]:
    return [json.dumps({"text": t, "label": k, "group": g}) for t, k, g in records]


def prepare_text(name: str, content: str | bytes, seed: int = 0, **options: object) -> Prepared:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        section = DataSection.model_validate(
            {"path": [str(path)], "max_malformed": 1.0, "text": "text", "label": "label", **options}
        )
        prepared = prepare(section, "classify", seed)
        assert path.read_bytes() == data
    return prepared


def sides(prepared: Prepared) -> dict[tuple[str, str | None], str]:
    """Side of each kept example, by its content."""
    return {
        (e.text or "", e.target): side for side, found in prepared.examples.items() for e in found
    }


def assert_accounted(prepared: Prepared, num_records: int) -> None:
    assert [row.record for row in prepared.splits] == list(range(1, num_records + 1))
    assert len({row.row_id for row in prepared.splits}) == num_records
    assert sum(prepared.counts().values()) == num_records
    on_sides = Counter({side: len(found) for side, found in prepared.examples.items()})
    on_sides["quarantine"] = len(prepared.quarantined)
    assert {side: on_sides[side] for side in prepared.counts()} == prepared.counts()
    explained = {finding.row_id for finding in prepared.findings}
    assert all(row_id in explained for _, row_id, _ in prepared.quarantined)


def assert_copies_lie_together(prepared: Prepared) -> None:
    where: dict[str, set[str]] = {}
    for side, found in prepared.examples.items():
        for example in found:
            where.setdefault(input_key(example), set()).add(side)
    assert all(len(found) == 1 for found in where.values())


@RELAXED
@given(extra=st.lists(st.one_of(rows, broken), max_size=25), grouped=st.booleans())
def test_any_jsonl_is_accounted_for_and_comes_back_from_disk(
    extra: list[tuple[str, str, str] | str], grouped: bool
) -> None:
    lines = jsonl(BASE) + [x if isinstance(x, str) else jsonl([x])[0] for x in extra]
    prepared = prepare_text(
        "data.jsonl", "\n".join(lines) + "\n", group="group" if grouped else None
    )
    assert_accounted(prepared, len(lines))
    assert_copies_lie_together(prepared)
    # Without groups the key itself keeps equal inputs together, so that none has to leave.
    assert grouped or all(row.reason != "split_leak" for row in prepared.splits)
    with tempfile.TemporaryDirectory() as folder:
        write_account(Path(folder) / "data", prepared)
        loaded = load_account(Path(folder) / "data")
        written = list(read_jsonl(Path(folder) / "data" / "splits.jsonl"))
    assert replace(loaded, raw={}) == replace(prepared, raw={})
    assert [line["line"] for line in written] == list(range(1, len(lines) + 1))
    assert list(written[0]) == ["row_id", "source", "record", "line", "split", "reason"]


@RELAXED
@given(junk=st.lists(st.binary(max_size=30), max_size=15))
def test_any_bytes_in_a_csv_are_accounted_for(junk: list[bytes]) -> None:
    good = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label, _ in BASE)
    content = good.encode() + b"\n".join(junk)
    # Enough control bytes would make a binary file, which is refused as a whole.
    assume(sum((byte < 32 and byte not in b"\n\r\t") or byte == 127 for byte in content) <= 8)
    prepared = prepare_text("data.csv", content, encoding="utf-8", delimiter=",")
    assert_accounted(prepared, len(prepared.splits))
    # The rows before the junk are all there, whatever follows them.
    assert sum(row.split != "quarantine" for row in prepared.splits[: len(BASE)]) == len(BASE)
    physical = content.count(b"\n") + (not content.endswith(b"\n"))
    assert all(1 < (row.line or 0) <= physical for row in prepared.splits)


@RELAXED
@given(extra=st.lists(rows, max_size=25), more=st.lists(rows, max_size=25), grouped=st.booleans())
def test_a_row_stays_on_its_side_when_rows_are_added(
    extra: list[tuple[str, str, str]], more: list[tuple[str, str, str]], grouped: bool
) -> None:
    group = "group" if grouped else None
    lines = jsonl([*BASE, *extra])
    before = prepare_text("data.jsonl", "\n".join(lines), group=group)
    after = prepare_text("data.jsonl", "\n".join(lines + jsonl(more)), group=group)
    now = {row.row_id: row for row in after.splits}
    for row in before.splits:
        # A row may lose its place to a copy of it, never change from one side to another; one that
        # was moved to cover a label, or that new rows tied to others, says so.
        if row.reason in ("hash", "group_hash") and now[row.row_id].split != "quarantine":
            assert now[row.row_id].split == row.split or (
                now[row.row_id].reason in ("label_coverage", "cluster_hash")
            )


@RELAXED
@given(data=st.data(), extra=st.lists(rows, max_size=20), grouped=st.booleans())
def test_the_order_of_rows_plays_no_part(
    data: st.DataObject, extra: list[tuple[str, str, str]], grouped: bool
) -> None:
    group = "group" if grouped else None
    lines = jsonl([*BASE, *extra])
    shuffled = data.draw(st.permutations(lines))
    one = prepare_text("data.jsonl", "\n".join(lines), group=group)
    two = prepare_text("data.jsonl", "\n".join(shuffled), group=group)
    assert {r.row_id: r.split for r in one.splits} == {r.row_id: r.split for r in two.splits}
    assert sides(one) == sides(two)
    assert one.holdout_sha256 == two.holdout_sha256


def test_the_row_id_is_the_same_in_csv_and_jsonl_and_after_cleaning() -> None:
    records = [(f"{text} &amp; more", label, group) for text, label, group in BASE]
    table = "text,label,group\n" + "".join(f"{t},{k},{g}\n" for t, k, g in records)
    from_csv = prepare_text("data.csv", table)
    from_jsonl = prepare_text("data.jsonl", "\n".join(jsonl(records)))
    assert [r.row_id for r in from_csv.splits] == [r.row_id for r in from_jsonl.splits]
    example = from_csv.examples["train"][0]
    assert example.text is not None
    assert example.text.endswith("& more")
    assert example.tags["before.text"].endswith("&amp; more")


def test_conservation_names_what_is_missing() -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    records = [(row.source, row.record) for row in prepared.splits]
    verify_conservation(prepared.splits, records)
    with pytest.raises(IntegrityError, match="1 missing"):
        verify_conservation(prepared.splits[1:], records)
    with pytest.raises(IntegrityError, match="too many"):
        verify_conservation(prepared.splits, records[1:])
    twice = [*prepared.splits[:-1], replace(prepared.splits[-1], row_id=prepared.splits[0].row_id)]
    with pytest.raises(IntegrityError, match="used twice"):
        verify_conservation(twice, records)


def test_an_account_that_does_not_match_its_rows_is_not_written(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    fewer = {**prepared.examples, "train": prepared.examples["train"][1:]}
    with pytest.raises(IntegrityError):
        write_account(tmp_path / "data", replace(prepared, examples=fewer))
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    write_account(tmp_path / "data", prepared)
    path = tmp_path / "data" / "rows.jsonl"
    path.write_text(path.read_text().replace("number 1 ", "number 2 "))
    with pytest.raises(IntegrityError, match="not what was written"):
        load_account(tmp_path / "data")
    path.unlink()
    with pytest.raises(IntegrityError, match="can't be read back"):
        load_account(tmp_path / "data")


def test_the_manifest_says_what_was_read(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join([*jsonl(BASE), "{"]))
    write_account(tmp_path / "data", prepared)
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["counts"]["quarantine"] == 1
    assert manifest["reasons"]["quarantine"] == {"malformed_row": 1}
    assert manifest["sources"][0]["num_records"] == 61
    assert manifest["layout"]["columns"] == {"text": "text", "label": "label"}
    assert sum(sum(found.values()) for found in manifest["label_counts"].values()) == 60
    quarantined = json.loads((tmp_path / "data" / "quarantine.jsonl").read_text())
    assert quarantined["fields"] == {"raw": "{"}
    assert quarantined["line"] == 61


def test_a_later_stage_moves_rows_to_quarantine_with_their_raw_fields(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    example = prepared.examples["holdout"][0]
    finding = Finding(
        example.row_id, example.source, example.record, example.line, "overlong", "warning", "9", ""
    )
    moved = move_to_quarantine(prepared, [example.row_id], "overlong", [finding])
    assert_accounted(moved, 60)
    assert moved.counts()["quarantine"] == 1
    assert moved.quarantined[0][0].fields["text"] == example.text
    write_account(tmp_path / "data", moved)
    again = load_account(tmp_path / "data")
    second = again.examples["train"][0]
    moved_again = move_to_quarantine(again, [second.row_id], "overlong")
    assert moved_again.quarantined[1][0].fields["example"]["text"] == second.text
    write_account(tmp_path / "data", moved_again)
    assert load_account(tmp_path / "data").counts()["quarantine"] == 2


def test_the_holdout_is_known_by_its_records_and_answers_alone(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    first = prepared.examples["holdout"][0]
    # Another base may leave a row out or render it otherwise: it is the same holdout.
    moved = move_to_quarantine(prepared, [first.row_id], "overlong")
    assert moved.holdout_sha256 == prepared.holdout_sha256
    write_account(tmp_path / "data", moved)
    assert load_account(tmp_path / "data").holdout_sha256 == prepared.holdout_sha256
    rows = prepared.examples["holdout"]
    assert hash_holdout([replace(row, text="other") for row in rows]) == prepared.holdout_sha256
    assert hash_holdout([*rows[1:], rows[0]]) == prepared.holdout_sha256
    assert hash_holdout(rows[1:]) != prepared.holdout_sha256
    assert hash_holdout([replace(rows[0], target="z"), *rows[1:]]) != prepared.holdout_sha256


def test_holdout_rows_that_are_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    assert prepared.left_out == {}
    held = [row.row_id for row in prepared.examples["holdout"][:2]]
    train = [row.row_id for row in prepared.examples["train"][:3]]
    moved = move_to_quarantine(prepared, [*held, *train], "overlong")
    moved = move_to_quarantine(moved, [prepared.examples["holdout"][2].row_id], "empty")
    assert moved.left_out == {"overlong": 2, "empty": 1}
    write_account(tmp_path / "data", moved)
    assert load_account(tmp_path / "data").left_out == moved.left_out
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["holdout_left_out"] == moved.left_out


def test_rows_of_a_given_holdout_that_can_not_be_read_are_left_out_too(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("\n".join(jsonl(BASE)))
    held = [
        *jsonl([(f"new text {i}", "a", f"g{i}") for i in range(40)]),
        "{",
        *jsonl([("", "a", "")]),
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(held))
    section = DataSection(
        path=[str(tmp_path / "train.jsonl")], eval=[str(tmp_path / "test.jsonl")], group="group"
    )
    prepared = prepare(section, "classify", 0)
    assert prepared.left_out == {"malformed_row": 1, "empty": 1}
    train = {row.group for row in prepared.examples["train"]}
    shared = sum(row.group in train for row in prepared.examples["holdout"])
    assert prepared.rows_with_train_group() == shared > 10
    write_account(tmp_path / "data", prepared)
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["holdout_rows_with_train_group"] == shared
    assert manifest["findings"]["split_leak"] == shared


def test_the_largest_difference_of_a_labels_share(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    found = prepared.label_deviation()
    assert found is not None
    shares = {
        label: [
            sum(row.target == label for row in rows) / len(rows)
            for rows in prepared.examples.values()
        ]
        for label in "abc"
    }
    spans = {label: max(values) - min(values) for label, values in shares.items()}
    assert found["difference"] == max(spans.values()) == spans[found["label"]]
    assert list(found["shares"].values()) == shares[found["label"]]
    write_account(tmp_path / "data", prepared)
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["label_deviation"] == found


def test_the_copy_of_a_row_that_an_earlier_run_knew_takes_its_side(tmp_path: Path) -> None:
    prepared = prepare_text("data.jsonl", "\n".join(jsonl(BASE)))
    held = prepared.examples["holdout"]
    pins = {row.row_id: "train" for row in held}
    copies = [(row.text.upper(), row.target, "g") for row in held]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([*jsonl(copies), *jsonl(BASE)]))
    section = DataSection(path=[str(path)], text="text", label="label")
    after = prepare(section, "classify", 0, pins)
    old = {row.row_id for row in held}
    # Of each pair one stays, whichever it is, on the side of the old one.
    replaced = [
        row for row in after.splits if row.row_id in old and row.reason == "exact_duplicate"
    ]
    assert replaced
    texts = {row.text.upper() for row in held}
    kept = {e.row_id for e in after.examples["train"] if e.text.upper() in texts}
    assert len(kept) == len(held)
