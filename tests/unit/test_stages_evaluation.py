"""The ledger of looks, the seal of the plan in the events, what a decoder is asked untrained."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from tests.tiny import tiny_rows, tiny_tokenizer
from tests.train_fixture import BASE

from fettle.chat.tokenizer import Tokenizer
from fettle.evaluate.looks import count_look
from fettle.recipe.recipe import Recipe
from fettle.records.journal import Journal
from fettle.records.run_directory import RunDirectory, read_jsonl
from fettle.stages.baselines import zero_shot_prompts
from fettle.stages.context import Context
from fettle.stages.sealing import sealed_hash


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


def test_what_a_killed_writer_left_beside_the_ledger_is_removed(tmp_path: Path) -> None:
    place = tmp_path / ".fettle"
    place.mkdir()
    (place / ".looks.jsonl.tmp-0badcafe").write_text("half a li")
    (place / "notes.txt").write_text("the user's own")
    assert count_look(tmp_path / "runs" / "one", "holdout", "a") == 1
    assert sorted(path.name for path in place.iterdir() if path.suffix != ".lock") == [
        "looks.jsonl",
        "notes.txt",
    ]


def test_a_writer_that_has_the_lock_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / ".fettle"
    place.mkdir()
    half = place / ".looks.jsonl.tmp-0badcafe"
    half.write_text("half a li")
    with FileLock(str(place / "looks.lock")):
        other = threading.Thread(target=count_look, args=(tmp_path / "one", "holdout", "a"))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert half.exists()
    other.join()
    assert not half.exists()
    assert len(ledger(tmp_path)) == 1


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


@pytest.mark.parametrize("room", [-40, 0, 1, 5, 400])
def test_zero_shot_prompts_leave_room_for_the_longest_label(tmp_path: Path, room: int) -> None:
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path))
    encode = tokenizer.encode_plain
    labels = ("ok", "a_rather_long_label_of_many_tokens")
    longest = len(encode(" a rather long label of many tokens"))
    words = len(encode("Text:")) + len(encode("\nLabel:"))
    limit = max(1, words + longest + len(tokenizer.affixes[0]) + room)
    rows = [replace(row, target="ok") for row in tiny_rows()[1]]
    prepared: Any = SimpleNamespace(labels=labels, examples={"holdout": rows})
    tokens: Any = SimpleNamespace(tokenizer=tokenizer, max_length=limit)
    found = zero_shot_prompts(prepared, tokens, 0)
    if room <= 0:
        assert isinstance(found, str)
        assert f"no room for a text in the {limit} tokens" in found
        return
    assert not isinstance(found, str)
    assert [row.row_id for row in found.rows] == [row.row_id for row in rows]
    assert found.labels["ok"] == encode(" ok")
    after = encode("\nLabel:")
    for row, prompt in zip(rows, found.prompts, strict=True):
        assert len(prompt) + longest <= limit
        assert prompt[-len(after) :] == after
        whole = [*tokenizer.affixes[0], *encode(f"Text: {row.text}"), *after]
        assert (prompt == whole) == (len(whole) + longest <= limit)
