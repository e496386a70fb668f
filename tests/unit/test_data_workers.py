"""Checks of single rows give the same on any number of processes."""

import pytest

from fettle.data import workers
from fettle.data.check import single_rows
from fettle.data.workers import map_chunks
from fettle.records.rows import Example


def examples(number: int) -> list[Example]:
    texts = ("see https://example.com", "mail bob@example.com", "nothing here", "[INST] hi [/INST]")
    return [
        Example(f"{i:016x}", "rows.csv", i + 1, i + 2, text=f"{texts[i % 4]} {i}", target="a")
        for i in range(number)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_the_number_of_processes_plays_no_part(number: int) -> None:
    rows = examples(2 * workers.CHUNK + 7)
    plain = single_rows(rows)
    assert len({finding.kind for finding in plain}) >= 3
    found = map_chunks(single_rows, rows, number, min_rows=1)
    assert found == map_chunks(single_rows, rows)
    assert sorted(found, key=str) == sorted(plain, key=str)


def test_few_rows_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", refuse)
    rows = examples(50)
    assert sorted(map_chunks(single_rows, rows, 4), key=str) == sorted(single_rows(rows), key=str)
