"""The ledger of looks, and the seal of the plan in the events."""

import threading
from pathlib import Path

import pytest
from tests.train_fixture import BASE

from fettle.recipe.recipe import Recipe
from fettle.records.journal import Journal
from fettle.records.run_directory import RunDirectory, read_jsonl
from fettle.stages.context import Context
from fettle.stages.evaluation import count_look, sealed_hash


def ledger(folder: Path) -> list[dict[str, object]]:
    return list(read_jsonl(folder / ".fettle" / "looks.jsonl"))


def test_every_new_model_is_a_look(tmp_path: Path) -> None:
    one, two = tmp_path / "runs" / "one", tmp_path / "runs" / "two"
    (tmp_path / ".fettle").mkdir()
    assert count_look(one, "holdout", "a") == 1
    assert count_look(two, "holdout", "b") == 2
    assert count_look(one, "another holdout", "a") == 1
    assert count_look(one, "holdout", "a") == 1, "the same weights again keep their number"
    assert count_look(one, "holdout", "trained again") == 3
    assert len(ledger(tmp_path)) == 4
    assert {row["schema"] for row in ledger(tmp_path)} == {1}


def test_another_folder_below_the_same_project_does_not_reset_it(tmp_path: Path) -> None:
    (tmp_path / ".fettle").mkdir()
    assert count_look(tmp_path / "runs" / "one", "holdout", "a") == 1
    assert count_look(tmp_path / "deep" / "er" / "two", "holdout", "b") == 2


def test_without_a_project_the_ledger_lies_beside_the_run(tmp_path: Path) -> None:
    if any((folder / ".fettle").is_dir() for folder in tmp_path.parents):
        pytest.skip("a folder above the temporary ones has a ledger of its own")
    assert count_look(tmp_path / "runs" / "one", "holdout", "a") == 1
    assert len(ledger(tmp_path / "runs")) == 1
    assert count_look(tmp_path / "runs" / "two", "holdout", "b") == 2


def test_no_look_is_lost_when_two_runs_end_together(tmp_path: Path) -> None:
    (tmp_path / ".fettle").mkdir()
    found: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: found.append(count_look(tmp_path / str(n), "holdout", str(n)))
        )
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 13))
    assert len(ledger(tmp_path)) == 12


@pytest.mark.parametrize("torn", [b"", b'{"event": "pl'])
def test_the_seal_is_the_first_that_was_noted(tmp_path: Path, torn: bytes) -> None:
    place = RunDirectory(tmp_path)
    recipe = Recipe.model_validate({"data": {"path": [BASE.id]}})
    context = Context(recipe, place, Journal(place.events))
    assert sealed_hash(context) is None
    context.journal.emit("plan", {"sha256": "first"})
    with place.events.open("ab") as handle:
        handle.write(torn)
    Journal(place.events).emit("plan", {"sha256": "second"})
    assert sealed_hash(context) == "first"
