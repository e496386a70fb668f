"""Rows with a number or with several labels, from the file to their sides."""

import csv
import json
from pathlib import Path

import pytest

from fettle.data.account.account import load_account, write_account
from fettle.data.prepare import prepare
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection, Task

BAD = ["abc", "", "nan", "inf", "1,5"]


def prepared(path: Path, task: Task | None = None, **options: object):
    return prepare(DataSection.model_validate({"path": [str(path)], **options}), task, 0)


def numbers_file(folder: Path, bad: int = len(BAD)) -> Path:
    path = folder / "numbers.csv"
    values = [f"{i * 1.25:g}" for i in range(60)] + [BAD[i % len(BAD)] for i in range(bad)]
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "score"])
        writer.writerows([f"the text of row {i}", value] for i, value in enumerate(values))
    return path


def sets_file(folder: Path) -> Path:
    path = folder / "sets.jsonl"
    names = ("late", "rude", "lost")
    lines = [
        {"text": f"complaint {i}", "labels": [n for bit, n in enumerate(names) if i >> bit & 1]}
        for i in range(60)
    ]
    lines += [{"text": "null", "labels": None}, {"text": "nested", "labels": [["late"]]}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_values_that_are_no_numbers_are_kept_apart_and_named(tmp_path: Path) -> None:
    path = numbers_file(tmp_path)
    found = prepared(path, "regress")
    assert (found.task, found.labels, found.judged_as) == ("regress", (), "regress")
    reasons = {raw.fields["score"]: reason for raw, _, reason in found.quarantined}
    assert reasons == dict.fromkeys(BAD, "malformed_row")
    evidence = [f for f in found.findings if f.kind == "malformed_row"]
    assert [f.line for f in evidence] == [62, 63, 64, 65, 66]
    assert "'abc' is not a finite number" in evidence[0].evidence
    assert '"score"' in evidence[0].evidence
    kept = [row for rows in found.examples.values() for row in rows]
    assert len(kept) == 60
    assert all(row.number == float(row.target or "x") for row in kept)
    assert not [f for f in found.findings if f.kind in ("label_variant", "imbalance")]


def test_too_many_bad_numbers_stop(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(numbers_file(tmp_path, bad=20), "regress")
    assert caught.value.code == "E0328"
    assert "numbers.csv" in caught.value.where
    assert len(prepared(numbers_file(tmp_path, 20), "regress", max_malformed=0.5).quarantined) == 20


def test_the_same_number_everywhere_can_not_be_learned(tmp_path: Path) -> None:
    path = tmp_path / "same.csv"
    lines = ["text,score", *(f"text {i},3.0" for i in range(40))]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        prepared(path, "regress", label="score")
    assert caught.value.code == "E0332"


def test_sets_of_labels(tmp_path: Path) -> None:
    found = prepared(sets_file(tmp_path))
    assert (found.task, found.multi_label, found.judged_as) == ("classify", True, "multi_label")
    assert found.labels == ("late", "lost", "rude")
    kept = {row.text: row for rows in found.examples.values() for row in rows}
    assert kept["complaint 0"].labels == ()
    assert (kept["complaint 5"].labels, kept["complaint 5"].target) == (
        ("late", "lost"),
        '["late", "lost"]',
    )
    assert sorted(raw.fields["text"] for raw, _, _ in found.quarantined) == ["nested", "null"]
    assert found.label_counts() == {"late": 30, "lost": 28, "rude": 30}
    train = {label for row in found.examples["train"] for label in row.classes}
    assert train == {"late", "lost", "rude"}


def test_a_separator_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "sets.csv"
    cells = ("late; rude", "rude", "", "lost;late")
    lines = ["text,label", *(f"complaint {i},{cells[i % 4]}" for i in range(60))]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = prepared(path, label_separator=";")
    assert found.labels == ("late", "lost", "rude")
    sets = {row.labels for rows in found.examples.values() for row in rows}
    assert sets == {("late", "rude"), ("rude",), (), ("late", "lost")}
    assert found.quarantined == []
    plain = prepared(path)
    assert plain.labels == ("late; rude", "lost;late", "rude")


@pytest.mark.parametrize("make", [numbers_file, sets_file])
def test_the_account_reads_back_equal(tmp_path: Path, make) -> None:
    found = prepared(make(tmp_path), "regress" if make is numbers_file else None)
    write_account(tmp_path / "data", found)
    back = load_account(tmp_path / "data")
    assert back.examples == found.examples
    assert (back.layout, back.labels, back.judged_as) == (
        found.layout,
        found.labels,
        found.judged_as,
    )
