"""Checks of single rows give the same on any number of processes, and with a screen or without."""

import pytest

from fettle.data import workers
from fettle.data.check import fields, look
from fettle.data.workers import map_chunks
from fettle.records.rows import Example, Message


def examples(number: int) -> list[Example]:
    texts = ("see https://example.com", "mail bob@example.com", "nothing here", "[INST] hi [/INST]")
    return [
        Example(f"{i:016x}", "rows.csv", i + 1, i + 2, text=f"{texts[i % 4]} {i}", target="a")
        for i in range(number)
    ]


def conversations(number: int) -> list[Example]:
    """Prompts that ask and answers that state; in a few rows they are swapped."""
    rows = []
    for i in range(number):
        asked = f"how do i return item {i}?"
        answer = f"Please send item {i} back to us within thirty days of the delivery."
        if i % 500 == 7:
            asked, answer = answer, asked
        turns = (Message("user", asked), Message("assistant", answer))
        rows.append(Example(f"{i:016x}", "r.csv", i + 1, i + 2, messages=turns, target=answer))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_the_number_of_processes_plays_no_part(number: int) -> None:
    rows = [*examples(2 * workers.CHUNK + 7)]
    found = map_chunks(look, rows, None, number, min_rows=1)
    assert found == map_chunks(look, rows, None)
    assert len({finding.kind for _, chunk in found for finding in chunk.findings}) >= 3
    chats = conversations(2 * workers.CHUNK + 7)
    sides = fields.sides_of(chats)
    found = map_chunks(look, chats, sides, number, min_rows=1)
    assert found == map_chunks(look, chats, sides)
    assert sum(len(chunk.fields.swapped) for _, chunk in found) == 8


def test_chunks_say_what_the_whole_says() -> None:
    rows = conversations(workers.CHUNK + 501)
    sides = fields.sides_of(rows)
    parts = [(start, chunk.fields) for start, chunk in map_chunks(look, rows, sides)]
    assert [start for start, _ in parts] == [0, workers.CHUNK]
    whole = fields.find(rows)
    assert fields.find(rows, sides, parts) == whole
    assert sum(finding.kind == "swapped_fields" for finding in whole) == 5


def test_few_rows_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", refuse)
    rows = examples(50)
    assert map_chunks(look, rows, None, 4) == [(0, look(rows, None, 0))]
