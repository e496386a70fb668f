"""Tokenized rows to optimizer steps, in an order that depends on nothing but the seed.

In: tokenized rows. Out: steps, each a list of micro-batches, and the position as JSON. Rows of like
length come together: little is padding, or attention finds many rows of one length. Must not know:
tokenizers, models, torch.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from fettle.errors import DataError, IntegrityError
from fettle.records.tokens import Batch, TokenizedExample

BLOCK: Final = 50
"""Batches that are sorted by length together: enough for like lengths, few enough to stay mixed."""


class StepIterator:
    """Steps without end; every row comes exactly once in each epoch.

    An epoch's order: shuffle the rows; cut them into blocks of 50 batches; sort each block by
    length; cut it into batches; shuffle the batches. It is a function of the seed, the epoch's
    number and the rows' lengths. ``micro_batch_tokens`` only decides how a step is
    divided, never which rows it has.

    Args:
        rows: training rows; at least one.
        batch_size: rows in a step; an epoch's last rows may make one smaller step.
        micro_batch_tokens: most tokens of one forward pass; a longer row goes alone.
        seed: of the order.
        padded: whether the rows of a forward pass are filled up to the longest, so that padding
            counts among its tokens.
        shared: tokens that all rows begin with and that a forward pass computes once.

    Raises:
        DataError: E0364, there are no rows.
    """

    def __init__(
        self,
        rows: Sequence[TokenizedExample],
        batch_size: int,
        micro_batch_tokens: int,
        seed: int,
        padded: bool = True,
        shared: int = 0,
    ) -> None:
        if not rows:
            raise DataError(
                "E0364",
                "there are no rows to train on",
                hint="see data/quarantine.jsonl for the rows that were taken out, and why",
            )
        if batch_size < 1 or micro_batch_tokens < 1:
            raise ValueError("batch_size and micro_batch_tokens must be at least 1")
        self._rows = rows
        self._batch_size = batch_size
        self._micro_batch_tokens = micro_batch_tokens
        self._seed = seed
        self._padded = padded
        self._shared = shared
        self._epoch = 0
        self._step_in_epoch = 0
        self._order = self._epoch_order(0)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every row comes once."""
        return -(-len(self._rows) // self._batch_size)

    @property
    def epoch(self) -> float:
        """How often every row has come so far: 1.5 = one and a half times."""
        return self._epoch + self._step_in_epoch / self.steps_per_epoch

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def __next__(self) -> list[Batch]:
        if self._step_in_epoch == self.steps_per_epoch:
            self._epoch += 1
            self._step_in_epoch = 0
            self._order = self._epoch_order(self._epoch)
        chosen = self._order[self._step_in_epoch]
        self._step_in_epoch += 1
        return self.divide([self._rows[i] for i in chosen], self._micro_batch_tokens)

    def divide(self, rows: Sequence[TokenizedExample], micro_batch_tokens: int) -> list[Batch]:
        """Micro-batches of rows, divided as those of a step are, under another budget."""
        return micro_batches(rows, micro_batch_tokens, self._padded, self._shared)

    def state(self) -> dict[str, int]:
        """The position, as JSON; ``load_state`` goes on from it."""
        return {
            "seed": self._seed,
            "num_rows": len(self._rows),
            "batch_size": self._batch_size,
            "epoch": self._epoch,
            "step_in_epoch": self._step_in_epoch,
        }

    def load_state(self, state: dict[str, int]) -> None:
        """Go on from a position of the same rows, batch size and seed.

        Raises:
            IntegrityError: E0930, the position belongs to other data or another order.
        """
        mine = self.state()
        fixed = ("seed", "num_rows", "batch_size")
        wrong = [
            f"{key} {state.get(key)}, not {mine[key]}"
            for key in fixed
            if state.get(key) != mine[key]
        ]
        epoch, step = state.get("epoch", -1), state.get("step_in_epoch", -1)
        if not wrong and (epoch < 0 or not 0 <= step <= self.steps_per_epoch):
            wrong = [f"epoch {epoch}, step {step} of {self.steps_per_epoch}"]
        if wrong:
            raise IntegrityError(
                "E0930",
                f"the checkpoint's place in the data does not fit this run: {', '.join(wrong)}",
                why="the rows, the batch size or the seed have changed since it was written",
                hint="start a new run with another --out",
            )
        self._epoch, self._step_in_epoch = epoch, step
        self._order = self._epoch_order(epoch)

    def _epoch_order(self, epoch: int) -> list[list[int]]:
        random = np.random.Generator(np.random.PCG64([self._seed, epoch]))
        shuffled: list[int] = random.permutation(len(self._rows)).tolist()
        size = self._batch_size
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), BLOCK * size):
            block = shuffled[start : start + BLOCK * size]
            block.sort(key=lambda i: self._rows[i].num_tokens)  # stable: ties keep their order
            batches += [block[i : i + size] for i in range(0, len(block), size)]
        return [batches[i] for i in random.permutation(len(batches))]


def micro_batches(
    rows: Sequence[TokenizedExample],
    micro_batch_tokens: int,
    padded: bool = True,
    shared: int = 0,
) -> list[Batch]:
    """Divide rows into micro-batches of like length.

    Args:
        rows: rows of one step, in any order.
        micro_batch_tokens: most tokens of a micro-batch. Padded: the longest row times the rows;
            else real ones.
        padded: whether padding counts. If not, the micro-batches are few and of about one size.
        shared: without padding: tokens that all rows begin with; they count once in each.

    Returns:
        Micro-batches, short rows first; each holds at least one row.
    """
    ordered = sorted(rows, key=lambda row: row.num_tokens)
    if not padded:
        return _without_padding(ordered, micro_batch_tokens, shared)
    batches: list[Batch] = []
    open_rows: list[TokenizedExample] = []
    for row in ordered:
        if open_rows and row.num_tokens * (len(open_rows) + 1) > micro_batch_tokens:
            batches.append(Batch(tuple(open_rows)))
            open_rows = []
        open_rows.append(row)
    if open_rows:
        batches.append(Batch(tuple(open_rows)))
    return batches


def _without_padding(ordered: Sequence[TokenizedExample], budget: int, shared: int) -> list[Batch]:
    """As few micro-batches as best fit finds, evenly filled.

    Cut where rows stand by length if that takes no more micro-batches: rows of one length stay
    together, and attention computes those in one go.
    """
    limit = budget - shared
    fitting = [row for row in ordered if row.num_tokens - shared <= limit]
    alone = [[row] for row in ordered[len(fitting) :]]
    packed = _best_fit(fitting, limit, shared)
    low, high = max((row.num_tokens - shared for row in fitting), default=0), limit
    cut = _cut_in_line(fitting, limit, shared)
    if len(cut) <= len(packed):
        while low < high:
            middle = (low + high) // 2
            if len(_cut_in_line(fitting, middle, shared)) <= len(cut):
                high = middle
            else:
                low = middle + 1
        packed = _cut_in_line(fitting, low, shared)
    return [Batch(tuple(part)) for part in packed + alone]


def _cut_in_line(
    ordered: Sequence[TokenizedExample], limit: int, shared: int
) -> list[list[TokenizedExample]]:
    """Rows in their order, a new part wherever the next row would not fit."""
    parts: list[list[TokenizedExample]] = []
    room = 0
    for row in ordered:
        size = row.num_tokens - shared
        if not parts or size > room:
            parts.append([])
            room = limit
        parts[-1].append(row)
        room -= size
    return parts


def _best_fit(
    ordered: Sequence[TokenizedExample], limit: int, shared: int
) -> list[list[TokenizedExample]]:
    """Best fit decreasing: each row, longest first, goes where it leaves the least room."""
    parts: list[list[TokenizedExample]] = []
    room: list[int] = []
    for row in reversed(ordered):
        size = row.num_tokens - shared
        fits = [i for i, left in enumerate(room) if left >= size]
        if not fits:
            parts.append([])
            room.append(limit)
            fits = [len(parts) - 1]
        best = min(fits, key=room.__getitem__)
        parts[best].insert(0, row)
        room[best] -= size
    return sorted(parts, key=lambda part: sum(row.num_tokens for row in part))


def num_shared_tokens(rows: Sequence[TokenizedExample]) -> int:
    """How many tokens all rows begin with; each row has at least one more of its own."""
    if len(rows) < 2:
        return 0
    first = min(rows, key=lambda row: row.num_tokens).input_ids
    most = len(first) - 1
    for row in rows:
        ids = row.input_ids
        if ids[:most] != first[:most]:
            most = next(i for i in range(most) if ids[i] != first[i])
    return most


def evaluation_batches(rows: Sequence[TokenizedExample], micro_batch_tokens: int) -> list[Batch]:
    """All rows once, sorted by length; results belong to rows by ``row_id``."""
    return micro_batches(rows, micro_batch_tokens)
