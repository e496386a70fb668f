"""The order of rows: complete, repeatable, resumable, and free of the micro-batch size."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.data.batches import StepIterator, evaluation_batches, micro_batches
from fettle.errors import DataError, IntegrityError
from fettle.records.tokens import TokenizedExample

GOLDEN = [
    ["0004", "0003", "0006"],
    ["0001"],
    ["0002", "0005", "0000"],
    ["0004", "0003", "0006"],
    ["0002", "0005", "0000"],
    ["0001"],
]
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def _rows(lengths):
    return [TokenizedExample(f"{i:04x}", tuple(range(n))) for i, n in enumerate(lengths)]


def _ids(step):
    return [row.row_id for batch in step for row in batch.rows]


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(1, 200), st.integers(0, 5))
def test_every_row_comes_once_in_each_epoch(lengths, batch_size, tokens, seed):
    rows = _rows(lengths)
    iterator = StepIterator(rows, batch_size, tokens, seed)
    for _ in range(3):
        steps = _take(iterator, iterator.steps_per_epoch)
        assert Counter(row for step in steps for row in _ids(step)) == Counter(
            row.row_id for row in rows
        )
        sizes = sorted(len(_ids(step)) for step in steps)
        assert all(size == batch_size for size in sizes[1:])
        assert 1 <= sizes[0] <= batch_size


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(0, 5), st.integers(0, 40))
def test_a_resumed_iterator_goes_on_exactly(lengths, batch_size, seed, done):
    rows = _rows(lengths)
    first = StepIterator(rows, batch_size, 64, seed)
    _take(first, done)
    state = json.loads(json.dumps(first.state()))
    second = StepIterator(rows, batch_size, 64, seed)
    second.load_state(state)
    assert second.epoch == first.epoch
    count = 2 * first.steps_per_epoch + 1
    assert _take(second, count) == _take(first, count)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(1, 200), st.integers(1, 200))
def test_the_rows_of_a_step_do_not_depend_on_the_micro_batch_size(lengths, batch_size, one, two):
    rows = _rows(lengths)
    a, b = StepIterator(rows, batch_size, one, 3), StepIterator(rows, batch_size, two, 3)
    for _ in range(2 * a.steps_per_epoch):
        assert sorted(_ids(next(a))) == sorted(_ids(next(b)))


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 200))
def test_micro_batches_hold_the_limit_and_every_row(lengths, tokens):
    rows = _rows(lengths)
    batches = micro_batches(rows, tokens)
    assert sorted(_ids(batches)) == sorted(row.row_id for row in rows)
    for batch in batches:
        longest = max(row.num_tokens for row in batch.rows)
        assert len(batch.rows) == 1 or longest * len(batch.rows) <= tokens
    flat = [row.num_tokens for batch in batches for row in batch.rows]
    assert flat == sorted(flat)
    assert evaluation_batches(rows, tokens) == batches


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 200))
def test_without_padding_micro_batches_are_few_full_and_even(lengths, tokens):
    rows = _rows(lengths)
    batches = micro_batches(rows, tokens, padded=False)
    assert sorted(_ids(batches)) == sorted(row.row_id for row in rows)
    fitting = [batch for batch in batches if batch.num_tokens <= tokens]
    assert all(len(batch.rows) == 1 for batch in batches if batch not in fitting)
    for batch in batches:
        assert [row.num_tokens for row in batch.rows] == sorted(r.num_tokens for r in batch.rows)
    # Two that fit into one would be one too many.
    sizes = sorted(batch.num_tokens for batch in fitting)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > tokens
    assert len(batches) <= len(micro_batches(rows, tokens))


def test_without_padding_rows_of_one_length_stay_together_and_loads_are_even():
    rows = _rows([2, 9, 2, 9, 2, 9, 2, 9])
    batches = micro_batches(rows, 40, padded=False)
    assert [[row.num_tokens for row in batch.rows] for batch in batches] == [
        [2, 2, 2, 2, 9, 9],
        [9, 9],
    ]
    # Cutting in line would take three; the longest goes alone whatever the limit is.
    batches = micro_batches(_rows([4, 4, 4, 6, 6, 30]), 12, padded=False)
    assert [[row.num_tokens for row in batch.rows] for batch in batches] == [
        [4, 4, 4],
        [6, 6],
        [30],
    ]
    batches = micro_batches(_rows([3, 4, 6, 7]), 10, padded=False)
    assert sorted([row.num_tokens for row in batch.rows] for batch in batches) == [[3, 7], [4, 6]]


def test_padding_decides_the_micro_batches_of_a_step_and_nothing_else():
    rows = _rows([1, 2, 3, 4, 20, 21, 22, 23] * 5)
    padded, packed = StepIterator(rows, 8, 40, 3), StepIterator(rows, 8, 40, 3, padded=False)
    for _ in range(12):
        one, two = next(padded), next(packed)
        assert sorted(_ids(one)) == sorted(_ids(two))
        assert two == micro_batches([r for b in two for r in b.rows], 40, padded=False)
        assert padded.state() == packed.state()
    assert packed.divide(rows[:8], 10**6) == [*micro_batches(rows[:8], 10**6, padded=False)]


def test_the_order_differs_by_seed_and_epoch_and_is_the_same_in_another_process():
    code = (
        "from fettle.data.batches import StepIterator\n"
        "from fettle.records.tokens import TokenizedExample\n"
        "rows = [TokenizedExample(str(i), (0,) * (i * 7 % 23 + 1)) for i in range(50)]\n"
        "it = StepIterator(rows, 4, 64, 7)\n"
        "print([[r.row_id for b in next(it) for r in b.rows] for _ in range(26)])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    rows = [TokenizedExample(str(i), (0,) * (i * 7 % 23 + 1)) for i in range(50)]
    iterator = StepIterator(rows, 4, 64, 7)
    steps = [_ids(step) for step in _take(iterator, 26)]
    assert outputs == {f"{steps}\n"}
    assert steps[:13] != steps[13:]
    other = StepIterator(rows, 4, 64, 8)
    assert [_ids(step) for step in _take(other, 13)] != steps[:13]


def test_the_order_of_a_seed_is_fixed_for_ever():
    """Golden: a checkpoint written by an older fettle must resume on the same rows."""
    rows = _rows([3, 9, 1, 7, 5, 2, 8])
    iterator = StepIterator(rows, 3, 100, 0)
    assert [_ids(step) for step in _take(iterator, 6)] == GOLDEN


def test_rows_of_like_length_come_together():
    rows = _rows([1, 100] * 400)
    steps = _take(StepIterator(rows, 8, 1_000, 0), 100)
    mixed = [step for step in steps if len({r.num_tokens for b in step for r in b.rows}) > 1]
    assert len(mixed) <= 2
    first = [step[0].rows[0].num_tokens for step in steps]
    assert first != sorted(first)


def test_no_rows_and_foreign_positions_are_refused():
    with pytest.raises(DataError) as caught:
        StepIterator([], 4, 64, 0)
    assert caught.value.code == "E0364"
    rows = _rows([1, 2, 3])
    iterator = StepIterator(rows, 2, 64, 0)
    state = iterator.state()
    for change in (
        {"seed": 1},
        {"num_rows": 4},
        {"batch_size": 1},
        {"step_in_epoch": 3},
        {"epoch": -1},
    ):
        with pytest.raises(IntegrityError, match="does not fit") as caught_:
            iterator.load_state({**state, **change})
        assert caught_.value.code == "E0930"
    with pytest.raises(IntegrityError):
        iterator.load_state({})
    assert iterator.state() == state
    for wrong in ((0, 64), (2, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            StepIterator(rows, *wrong, 0)
