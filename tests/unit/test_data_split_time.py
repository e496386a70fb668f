"""Sides by time: the latest rows judge, units stay whole, and what can't be promised is told."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fettle.data.account.account import Prepared
from fettle.data.meaning.detect import detect
from fettle.data.meaning.times import parse_time, shown_time
from fettle.data.prepare import prepare
from fettle.data.split import split
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection
from fettle.records.rows import Example, Finding, RawRow, Split, SplitRow

START = date(2024, 1, 1)
RANK = {"train": 0, "validation": 1, "holdout": 2}


def day(number: int) -> str:
    return (START + timedelta(days=number)).isoformat()


def example(number: int, time: str | None, **values: Any) -> Example:
    row_id = values.pop("row_id", f"{number:05}")
    text = values.pop("text", f"text {number}")
    label = values.pop("label", "abc"[number % 3])
    return Example(row_id, "data", number + 1, None, text=text, target=label, time=time, **values)


def run(
    rows: Sequence[Example],
    held: Sequence[Example] = (),
    seed: int = 0,
    pins: dict[str, Split] | None = None,
    **options: Any,
) -> tuple[dict[str, SplitRow], list[Finding]]:
    section = DataSection(path=["data"], time="day", **options)
    placed, findings = split(rows, held, section, seed, "classify", pins)
    return {row.row_id: row for row in placed}, [f for f in findings if f.kind == "time_order"]


def sides(placed: dict[str, SplitRow]) -> dict[str, str]:
    return {row_id: row.split for row_id, row in placed.items()}


def warnings(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "warning"]


def test_the_holdout_is_the_latest_rows_and_validation_the_ones_before() -> None:
    rows = [example(i, day(i)) for i in range(100)]
    placed, findings = run(rows)
    expected = ["train"] * 70 + ["validation"] * 10 + ["holdout"] * 20
    assert [placed[row.row_id].split for row in rows] == expected
    assert {row.reason for row in placed.values()} == {"time"}
    (note,) = findings
    assert note.severity == "note"
    assert f"holdout from {day(80)} on, validation from {day(70)} on" in note.evidence


def test_fractions_hold_and_order_seed_and_scale_play_no_part() -> None:
    rows = [example(i, day(i)) for i in range(200)]
    placed, _ = run(rows, holdout_fraction=0.4, validation_fraction=0.05)
    found = list(sides(placed).values())
    assert (found.count("holdout"), found.count("validation")) == (80, 10)
    shuffled = Random(5).sample(rows, len(rows))
    for seed in (0, 1):
        other, _ = run(shuffled, seed=seed, holdout_fraction=0.4, validation_fraction=0.05)
        assert sides(other) == sides(placed)


def test_rows_of_one_moment_are_parted_by_their_ids_whatever_their_order() -> None:
    rows = [example(i, day(0)) for i in range(100)]
    placed, findings = run(rows)
    assert [placed[f"{i:05}"].split for i in range(30)] == ["holdout"] * 20 + ["validation"] * 10
    other, _ = run(list(reversed(rows)))
    assert sides(other) == sides(placed)
    assert not warnings(findings)


def test_a_group_and_near_copies_go_to_the_side_of_their_earliest_row() -> None:
    long = "please tell me when the parcel with the green lamp from the second shop comes to us"
    rows = [example(i, day(i), group=f"g{i // 2}") for i in range(96)]
    # One near copy is early, one late; one group began in train and goes on in the holdout.
    rows += [
        example(96, day(3), text=long, label="a", group="early"),
        example(97, day(95), text=long.replace("comes", "arrives"), label="a", group="late"),
        example(98, day(10), text="began early", group="goes on"),
        example(99, day(94), text="and went on", group="goes on"),
    ]
    placed, findings = run(rows)
    assert [placed[f"{i:05}"].split for i in (96, 97, 98, 99)] == ["train"] * 4
    assert [placed[f"{i:05}"].reason for i in (96, 97, 98, 99)] == [
        "time", "time_cluster", "time", "time_cluster",
    ]  # fmt: skip
    (late,) = warnings(findings)
    assert late.related == ("00097", "00099")
    assert late.evidence.startswith("2 of ")
    assert "finer --group" in late.remedy
    held: dict[str | None, set[str]] = {}
    for row in rows:
        held.setdefault(row.group, set()).add(placed[row.row_id].split)
    assert all(len(found) == 1 for found in held.values())


def test_a_side_has_its_rows_give_or_take_half_a_unit() -> None:
    random = Random(3)
    for _ in range(20):
        sizes = [random.randint(1, 12) for _ in range(60)]
        rows = [
            example(len(sizes) * 100 * unit + i, day(unit), group=f"g{unit:02}")
            for unit, size in enumerate(sizes)
            for i in range(size)
        ]
        placed, findings = run(rows)
        found = list(sides(placed).values())
        assert abs(found.count("holdout") - 0.2 * len(rows)) <= 6.5
        assert abs(found.count("validation") - 0.1 * len(rows)) <= 6.5
        in_time = [RANK[placed[row.row_id].split] for row in rows]
        assert in_time == sorted(in_time)
        assert not warnings(findings)


def test_a_group_too_large_for_a_side_is_trained_on_and_told() -> None:
    rows = [example(i, day(i)) for i in range(60)]
    rows += [example(i, day(i), group="large") for i in range(60, 100)]
    placed, findings = run(rows)
    assert {placed[f"{i:05}"].split for i in range(60, 100)} == {"train"}
    assert {placed[f"{i:05}"].split for i in range(40, 60)} == {"holdout"}
    (late,) = warnings(findings)
    assert late.evidence.startswith("40 of 80")


def test_where_every_group_is_too_large_the_latest_are_taken() -> None:
    rows = [example(i, day(i), group=f"g{i // 25}") for i in range(100)]
    placed, _ = run(rows)
    assert [placed[f"{i:05}"].split for i in (0, 25, 50, 75)] == [
        "train", "train", "validation", "holdout",
    ]  # fmt: skip


def test_rows_without_a_time_are_trained_on_with_all_that_belongs_to_them() -> None:
    rows = [example(i, day(i)) for i in range(100)]
    rows[99] = example(99, "soon")
    rows[98] = example(98, None, group="g")
    rows[97] = example(97, day(97), group="g")
    placed, findings = run(rows)
    reasons = ["time_cluster", "no_time", "no_time"]
    assert [placed[f"0009{i}"].reason for i in (7, 8, 9)] == reasons
    assert {placed[f"0009{i}"].split for i in (7, 8, 9)} == {"train"}
    unread, late = warnings(findings)
    assert unread.evidence.startswith('2 rows have no readable time in "day"')
    assert unread.related == ("00098", "00099")
    assert late.related == ("00097",)


def test_a_column_that_holds_no_times_is_refused() -> None:
    rows = [example(i, "31/01/2024" if i % 2 else day(i)) for i in range(99)]
    run(rows)
    with pytest.raises(DataError, match="only 49 of 100 rows have a readable time") as caught:
        run(
            [
                *(example(i, f"no {i}") for i in range(51)),
                *(example(i, day(i)) for i in range(51, 100)),
            ]
        )
    assert caught.value.code == "E0341"
    assert "'no 0', 'no 1', 'no 10'" in caught.value.where
    with pytest.raises(DataError, match="only 0 of 30"):
        run([example(i, None) for i in range(30)])


def test_a_given_holdout_that_is_older_than_the_training_rows_is_told() -> None:
    rows = [example(i, day(i)) for i in range(100)]
    later = [example(i, day(i)) for i in range(200, 230)]
    placed, findings = run(rows, later)
    assert not warnings(findings)
    assert [placed[f"{i:05}"].split for i in (89, 90, 99)] == ["train", "validation", "validation"]
    mixed = [*later, *(example(i, day(50), label="a") for i in range(300, 303))]
    _, findings = run(rows, mixed)
    (old,) = warnings(findings)
    assert old.evidence.startswith("49 of 100 training and validation rows are later")
    assert "3 of 33 holdout rows older" in old.evidence
    assert old.related == ("00300", "00301", "00302")
    assert "no row is taken out" in old.remedy
    _, findings = run(rows, [example(i, None) for i in range(200, 230)])
    (unread,) = warnings(findings)
    assert "; 30 in the holdout" in unread.evidence


def test_newer_rows_move_the_boundary_on_and_never_back() -> None:
    rows = [example(i, day(i)) for i in range(200)]
    before, _ = run(rows[:100])
    after, _ = run(rows[:130])
    moved = {(before[key].split, after[key].split) for key in before}
    assert all(RANK[new] <= RANK[old] for old, new in moved)
    assert ("holdout", "train") in moved
    # As the base of a new run the old one keeps its rows, and the newest rows judge as well.
    kept, _ = run(rows[:130], pins={key: row.split for key, row in before.items()})
    assert all(kept[key].split == row.split for key, row in before.items())
    assert {kept[f"{i:05}"].split for i in range(124, 130)} == {"holdout"}


def test_labels_that_come_late_stay_in_the_holdout_and_are_told() -> None:
    rows = [example(i, day(i)) for i in range(100)]
    rows[95] = example(95, day(95), label="new")
    section = DataSection(path=["data"], time="day")
    placed, findings = split(rows, [], section, 0, "classify")
    assert placed[95].split == "holdout"
    assert [f.row_id for f in findings if f.kind == "unknown_label"] == ["00095"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-31", "2024-01-31T00:00:00+00:00"),
        ("2024-01-31 12:30", "2024-01-31T12:30:00+00:00"),
        ("2024-01-31t12:30:15.25z", "2024-01-31T12:30:15.250000+00:00"),
        ("2024-01-31T12:30:00+02:00", "2024-01-31T10:30:00+00:00"),
        ("2024-01-31 12:30:00 +0200", "2024-01-31T10:30:00+00:00"),
        ("2024-01-31 12:30:00 UTC", "2024-01-31T12:30:00+00:00"),
        ("2024/01/31", "2024-01-31T00:00:00+00:00"),
        ("20240131", "2024-01-31T00:00:00+00:00"),
        ("20240131123000", "2024-01-31T12:30:00+00:00"),
        ("2024-01", "2024-01-01T00:00:00+00:00"),
        ("2024", "2024-01-01T00:00:00+00:00"),
        ("1706704200", "2024-01-31T12:30:00+00:00"),
        ("1706704200.5", "2024-01-31T12:30:00.500000+00:00"),
        ("1706704200.123", "2024-01-31T12:30:00.123000+00:00"),
        ("1706704200500", "2024-01-31T12:30:00.500000+00:00"),
        ("1706704200500000", "2024-01-31T12:30:00.500000+00:00"),
        ("1706704200500000000", "2024-01-31T12:30:00.500000+00:00"),
    ],
)
def test_times_that_can_be_read(text: str, expected: str) -> None:
    found = parse_time(f" {text} ")
    assert found is not None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert (epoch + timedelta(microseconds=found)).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    ["", "soon", "31/01/2024", "01/31/2024", "2024-13-01", "2024-02-30", "2024-01-31T25:00",
     "12:30", "7", "123456789", "202401311230", "9" * 39, "nan", "-5", "1e9", "٢٠٢٤",
     "2024-01-31 in the evening", "0000"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    assert parse_time(text) is None


def test_nothing_and_a_value_without_end_are_no_times() -> None:
    assert parse_time(None) is None
    assert parse_time("1" * 10_000_000) is None


def test_every_moment_is_read_as_it_was_written() -> None:
    random = Random(1)
    for _ in range(500):
        seconds = random.randrange(315_532_800, 7_258_118_400)
        zone = timezone(timedelta(minutes=random.randrange(-720, 720, 15)))
        moment = datetime.fromtimestamp(seconds, zone)
        forms = [moment.isoformat(), moment.isoformat(" "), str(seconds), f"{seconds}000"]
        assert {parse_time(form) for form in forms} == {seconds * 10**6}
        assert shown_time(seconds * 10**6)[:10] == f"{moment.astimezone(UTC):%Y-%m-%d}"


def layout_hints(column: str, values: Sequence[Any], **options: Any) -> list[str]:
    rows = [
        RawRow("data", i + 1, i + 1, {"text": f"words of row {i}", "label": "ab"[i % 2], column: v})
        for i, v in enumerate(values)
    ]
    section = DataSection(path=["data"], **options)
    found = detect(rows, section, None)
    assert found.columns.get("time") == options.get("time")
    return [said for said in found.ambiguities if "--time" in said]


def test_a_column_that_looks_like_a_time_is_named_and_not_applied() -> None:
    days = [day(i) for i in range(100)]
    (said,) = layout_hints("created_at", days)
    assert said == (
        '"created_at" looks like a time; --time created_at makes the holdout the latest rows'
    )
    assert layout_hints("Timestamp", [1_706_704_200 + i for i in range(100)])
    assert layout_hints("tweet_date", [*days[:96], "soon", "later", "", ""])
    assert not layout_hints("tweet_date", [*days[:90], *["x", "y", "z", "w", "v"] * 2])
    assert not layout_hints("tweet_date", [*days[:90], *[""] * 10])
    assert not layout_hints("time", list(range(100)))
    assert not layout_hints("year_of_date", [str(1900 + i) for i in range(100)])
    assert not layout_hints("due", days)
    assert not layout_hints("created_at", days, time="created_at")
    assert not layout_hints("created_at", days, eval=["other"])


def prepared_from(path: Path, rows: Sequence[dict[str, Any]], workers: int = 1) -> Prepared:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    section = DataSection(path=[str(path)], label="label", time="when")
    return prepare(section, "classify", 0, today=START, workers=workers)


def test_from_a_file_whatever_its_order_and_the_workers(tmp_path: Path) -> None:
    words = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jay"]
    rows = [
        {"text": f"{words[i % 10]} {words[i // 10]}", "label": "ab"[i % 2], "when": day(i // 3)}
        for i in range(100)
    ]
    # What was asked before is old, also where its first copy has left.
    rows += [{**rows[k], "when": day(90)} for k in (0, 1, 2, 3, 4)]
    whole = prepared_from(tmp_path / "a.jsonl", rows)
    held = {(row.text, row.time) for row in whole.examples["holdout"]}
    assert {rows[k]["text"] for k in range(5)}.isdisjoint(text for text, _ in held)
    assert all(time is not None and time >= day(80 // 3) for _, time in held)
    assert len(held) in (19, 20, 21)
    (note,) = (f for f in whole.findings if f.kind == "time_order")
    assert f"holdout from {min(time or '' for _, time in held)} on" in note.evidence
    other = prepared_from(tmp_path / "a.jsonl", Random(2).sample(rows, len(rows)), workers=2)
    for side, found in whole.examples.items():
        assert {row.row_id for row in found} == {row.row_id for row in other.examples[side]}
