"""Checks of single rows on several processes.

In: a function of examples that looks at each by itself, and examples. Out: its findings in the
order of the examples, whatever the number of processes. Must not know: what is looked for.

Processes are spawned, so that threads and locks of this one play no part; what they get and give
are examples and findings of this program alone. At most two chunks for each process are on their
way, which bounds the memory. Few rows are done here: starting a process takes longer.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Final, TypeVar

from fettle.records.rows import Example

CHUNK: Final = 2_000
"""Rows a process gets at a time."""
MIN_ROWS: Final = 20_000
"""Fewer rows than this are done in this process."""
_CHUNKS_EACH: Final = 2

T = TypeVar("T")
RowCheck = Callable[[Sequence[Example]], list[T]]


def map_chunks(
    function: RowCheck[T], examples: Sequence[Example], workers: int = 1, min_rows: int = MIN_ROWS
) -> list[T]:
    """All that a check of single rows gives (findings, or a value for each row).

    Args:
        function: of a module (a spawned process imports it by name); what it says of a row must
            not depend on the other rows.
        examples: all rows.
        workers: processes; 1 = none but this one.
        min_rows: with fewer rows no process is started.
    Returns:
        Findings in the order of the examples.
    """
    if workers < 2 or len(examples) < max(min_rows, CHUNK + 1):
        return [finding for chunk in _chunks(examples) for finding in function(chunk)]
    found: list[T] = []
    waiting: deque[Future[list[T]]] = deque()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for chunk in _chunks(examples):
            waiting.append(pool.submit(function, chunk))
            if len(waiting) >= _CHUNKS_EACH * workers:
                found.extend(waiting.popleft().result())
        while waiting:
            found.extend(waiting.popleft().result())
    return found


def _chunks(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), CHUNK):
        yield examples[start : start + CHUNK]
