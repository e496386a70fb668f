"""What is injected is found: the marks of bench.detection, on real rows and on written ones."""

from random import Random

import pytest
from bench.detection import (
    MARKS,
    SHARED,
    Result,
    banking77,
    copies,
    false_links,
    gsm8k,
    leaks,
    linked,
)
from bench.faults.duplicates import Row, look_alikes
from tests.unit.test_data_near import sentence

from fettle.data.deduplicate import input_key
from fettle.data.near import clusters
from fettle.records.rows import Example

NUM = 60


def assert_marks(results: list[Result]) -> None:
    assert sum(result.fault in MARKS for result in results) >= 6
    missed = [r for r in results if r.fault in MARKS and r.recall < MARKS[r.fault]]
    assert not missed


def written(num: int, seed: int) -> list[Row]:
    random = Random(seed)
    return [{"text": sentence(random, random.randint(40, 90)), "label": "a"} for _ in range(num)]


def test_copies_and_leaks_in_rows_written_here() -> None:
    rows = written(1200, 0)
    assert_marks(copies("written here", rows[:800], NUM, 0, 30))
    assert_marks(leaks("written here", rows[:400], rows[400:], NUM, 0, 30))
    assert false_links(rows[:800]) == 0


def test_look_alikes_are_not_duplicates() -> None:
    # Numbers that a template's other slot has too may trade places: at most one in a thousand rows.
    assert false_links(look_alikes(1000)) <= 2


@pytest.mark.skipif(not (SHARED / "gsm8k").is_dir(), reason="the public set gsm8k is not there")
def test_copies_and_leaks_in_calculations() -> None:
    training, held = gsm8k("train")[:1500], gsm8k("test")
    assert_marks(copies("gsm8k", training, NUM, 0, 30))
    assert_marks(leaks("gsm8k", training, held, NUM, 0, 30))


@pytest.mark.skipif(not (SHARED / "banking77").is_dir(), reason="banking77 is not there")
def test_the_published_leak_of_banking77_is_found() -> None:
    rows = [*banking77("train"), *banking77("test")]
    num_train = len(banking77("train"))
    examples = [Example(str(i), "data", i, i, text=row["text"]) for i, row in enumerate(rows)]
    keys = [input_key(example) for example in examples]
    found = clusters(examples, keys, [i >= num_train for i in range(len(rows))])
    train = set(keys[:num_train])
    twins = train | {right for left, right in linked(found) if left in train}
    share = sum(key in twins for key in keys[num_train:]) / (len(rows) - num_train)
    # Measured before by an exact join over five characters alone: 12.3 %.
    assert share == pytest.approx(0.125, abs=0.004)
