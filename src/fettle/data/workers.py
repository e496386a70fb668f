"""Checks of single rows on several processes.

In: a function of examples that looks at each by itself, and examples. Out: what it gives for each
chunk, in the order of the examples, whatever the number of processes. Must not know: what is looked
for.

Processes are spawned, so that threads and locks of this one play no part; what they get and give
are examples and findings of this program alone. At most two chunks for each process are on their
way, which bounds the memory. Few rows are done here: starting a process takes longer.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Final, TypeVar

from fettle.records.rows import Example

CHUNK: Final = 2_000
"""Rows a process gets at a time."""
MIN_ROWS: Final = 20_000
"""Fewer rows than this are done in this process."""
_CHUNKS_EACH: Final = 2

S = TypeVar("S")
T = TypeVar("T")
ChunkCheck = Callable[[Sequence[Example], S, int], T]

_shared: Any = None
"""In a process of a pool: what all chunks are looked at with."""


def map_chunks(
    function: ChunkCheck[S, T],
    examples: Sequence[Example],
    shared: S,
    workers: int = 1,
    min_rows: int = MIN_ROWS,
) -> list[tuple[int, T]]:
    """What a check of single rows gives for each chunk of them.

    Args:
        function: of a module (a spawned process imports it by name), called with a chunk,
            ``shared`` and the place of its first row; what it says of a row must not depend on the
            rows of the chunk.
        examples: all rows.
        shared: what is known of all rows; sent to each process once.
        workers: processes; 1 = none but this one.
        min_rows: with fewer rows no process is started.
    Returns:
        (place of the first row, result) of each chunk, in the order of the examples.
    """
    starts = range(0, len(examples), CHUNK)
    if workers < 2 or len(examples) < max(min_rows, CHUNK + 1):
        return [(start, function(chunk, shared, start)) for start, chunk in _chunks(examples)]
    found: list[T] = []
    waiting: deque[Future[T]] = deque()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_share, initargs=(shared,)
    ) as pool:
        for start, chunk in _chunks(examples):
            waiting.append(pool.submit(_call, function, chunk, start))
            if len(waiting) >= _CHUNKS_EACH * workers:
                found.append(waiting.popleft().result())
        while waiting:
            found.append(waiting.popleft().result())
    return list(zip(starts, found, strict=True))


def _share(shared: object) -> None:
    global _shared
    _shared = shared


def _call(function: ChunkCheck[Any, T], chunk: Sequence[Example], start: int) -> T:
    return function(chunk, _shared, start)


def _chunks(examples: Sequence[Example]) -> Iterator[tuple[int, Sequence[Example]]]:
    for start in range(0, len(examples), CHUNK):
        yield start, examples[start : start + CHUNK]
