"""events.jsonl: lines that stay, a torn last line that hurts nothing."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fettle.errors import MachineError
from fettle.records.journal import Journal, read_events


def test_events_are_written_before_they_are_heard(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    heard: list[Mapping[str, Any]] = []

    def listener(event: Mapping[str, Any]) -> None:
        heard.append(event)
        assert read_events(path)[-1] == event

    journal = Journal(path, [listener, heard.append])
    journal.emit("step", {"step": 1, "loss": 0.5})
    journal.note("äöü")
    events = read_events(path)
    assert [event["event"] for event in events] == ["step", "note"]
    assert events == [heard[0], heard[2]]
    assert all(event["schema"] == 1 and event["time"] > 0 for event in events)
    assert "äöü" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("torn", [b'{"event": "ste', b'{"event": "note", "message": "\xc3'])
def test_a_torn_last_line_is_left_out_and_kept_apart(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    Journal(path).note("one")
    with path.open("ab") as handle:
        handle.write(torn)
    assert [event["message"] for event in read_events(path)] == ["one"]
    journal = Journal(path)
    journal.note("two")
    journal.note("three")
    assert [event["message"] for event in read_events(path)] == ["one", "two", "three"]


def test_text_that_has_no_utf8_form_stays_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Journal(path).note("half a pair \ud83d, a line separator \u2028")
    (line,) = path.read_bytes().decode("utf-8").split("\n")[:-1]
    assert json.loads(line)["message"] == "half a pair \ud83d, a line separator \u2028"
    assert len(read_events(path)) == 1


def test_no_file_is_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl") == []


def test_lines_of_another_kind_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('[1]\n"x"\n{"event": "note"}\n', encoding="utf-8")
    assert read_events(path) == [{"event": "note"}]


def test_a_refused_write_says_so(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        Journal(tmp_path / "gone" / "events.jsonl").note("x")
    assert caught.value.code == "E0401"


def test_a_step_that_was_done_again_is_given_once_as_it_was_last_said(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    for step, loss in ((1, 0.5), (2, 0.4), (3, 0.3)):
        journal.emit("step", {"step": step, "loss": loss})
    journal.emit("validation", {"step": 3, "value": 7})
    journal.note("resumed after step 1")
    journal.emit("step", {"step": 2, "loss": 0.25})
    journal.emit("step", {"step": [3]})
    events = read_events(tmp_path / "events.jsonl")
    told = [(event["event"], event.get("step"), event.get("loss")) for event in events]
    assert told == [
        ("step", 1, 0.5),
        ("step", 3, 0.3),
        ("validation", 3, None),
        ("note", None, None),
        ("step", 2, 0.25),
        ("step", [3], None),
    ]


def test_all_but_steps_are_synced_and_flush_syncs_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path / "events.jsonl")
    journal.flush()
    journal.emit("step", {"step": 1})
    assert synced == []
    journal.note("x")
    assert len(synced) == 1
    journal.emit("step", {"step": 2})
    journal.flush()
    assert len(synced) == 2


def test_a_line_that_a_full_disk_cut_off_is_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    journal.note("one")

    def full(descriptor: int) -> None:
        with path.open("rb+") as handle:
            handle.truncate(path.stat().st_size - 5)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(MachineError, match="No space left"):
            journal.note("two")
    journal.note("three")
    assert [event["message"] for event in read_events(path)] == ["one", "three"]
