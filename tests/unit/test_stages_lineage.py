"""Sides that rows had in the runs behind a base."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fettle.data.account.account import example_to_json
from fettle.data.split import split
from fettle.recipe.recipe import DataSection
from fettle.records.rows import Example
from fettle.records.run_directory import write_atomic, write_jsonl
from fettle.stages.lineage import (
    earlier_sides,
    run_of,
    runs_behind,
    seen_among,
    trained_before,
    without_account,
)


def write_run(root: Path, sides: Mapping[str, str], base: Path | None = None) -> Path:
    """What is read of a run: the account of its rows, and which run was its base."""
    write_atomic(root / "recipe.yaml", "schema: 1\n")
    facts = {
        "base": {"incumbent_run": None if base is None else str(base)},
        "data": {},
        "machine": {},
    }
    write_atomic(root / "recipe.resolved.yaml", json.dumps({"schema": 1, "facts": facts}))
    rows = [{"row_id": row_id, "split": side, "reason": "hash"} for row_id, side in sides.items()]
    write_jsonl(root / "data" / "splits.jsonl", rows)
    return root


def test_the_newest_run_that_knows_a_row_decides_but_for_rows_once_trained_on(
    tmp_path: Path,
) -> None:
    first = write_run(
        tmp_path / "1",
        {"a": "train", "b": "holdout", "c": "train", "d": "validation", "g": "train"},
    )
    second = write_run(
        tmp_path / "2",
        {"a": "train", "b": "train", "c": "holdout", "e": "holdout", "f": "quarantine"},
        first,
    )
    third = write_run(tmp_path / "3", {"e": "validation", "g": "quarantine"}, second)
    assert [place.root for place in runs_behind(third)] == [third, second, first]
    assert earlier_sides(second) == {
        "a": "train", "b": "train", "c": "train", "d": "validation", "e": "holdout", "g": "train",
    }  # fmt: skip
    assert earlier_sides(third)["e"] == "validation"
    assert trained_before(third) == {"a", "b", "c", "d", "e", "g"}
    assert trained_before(first) == {"a", "c", "d", "g"}
    assert earlier_sides(None) == {}
    assert trained_before(None) == set()


def test_a_row_is_known_by_its_input_under_another_id(tmp_path: Path) -> None:
    run = write_run(tmp_path / "1", {"a": "train", "b": "holdout"})
    old = [
        Example(row_id=str(i), source="old.csv", record=i, line=i, text=f"Question {i}", target="x")
        for i in range(200)
    ]
    order = ("holdout", "validation", "train", "train")
    sides = {row.row_id: order[int(row.row_id) % 4] for row in old}
    records = [example_to_json(row) | {"split": sides[row.row_id]} for row in old]
    write_jsonl(run / "data" / "rows.jsonl", records)
    new = [replace(row, row_id=f"new {row.row_id}", target="y") for row in old]
    trained = {f"new {row_id}" for row_id, side in sides.items() if side != "holdout"}
    assert seen_among(new, run) == trained
    data = DataSection(path=["x"])
    placed, _ = split(new, [], data, seed=5, task="classify", pins=earlier_sides(run))
    assert {row.row_id: row.split for row in placed} == {
        f"new {row_id}": side for row_id, side in sides.items()
    }


def test_a_run_whose_account_is_gone_is_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "1", {"a": "train"})
    second = write_run(tmp_path / "2", {"b": "train"}, first)
    assert without_account(second) == []
    shutil.rmtree(first)
    assert without_account(second) == [first]


def test_runs_that_name_each_other_end(tmp_path: Path) -> None:
    write_run(tmp_path / "1", {"a": "train"}, tmp_path / "2")
    write_run(tmp_path / "2", {"b": "train"}, tmp_path / "1")
    assert trained_before(tmp_path / "1") == {"a", "b"}


def test_what_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "runs" / "one", {})
    (run / "model").mkdir()
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_of("runs/one") == run_of(str(run / "model")) == run.resolve()
    assert run_of("plain") is run_of("starter") is run_of("owner/name") is run_of(None) is None
