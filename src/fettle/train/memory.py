"""What is done when a step does not fit into memory: smaller micro-batches, the same step.

In: the rows of a step, and the micro-batch that did not fit. Out: micro-batches under a budget of
tokens that is halved as often as needed, and ``micro_batches.json``, so that a resumed run divides
every step as the first one did. Must not know: models, losses, optimizers.
"""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fettle.errors import OutOfMemory
from fettle.models.machine import out_of_memory
from fettle.records.outcomes import SCHEMA
from fettle.records.run_directory import read_json, write_json
from fettle.records.tokens import Batch, TokenizedExample
from fettle.train.parallel import ALONE, Ranks

__all__ = ["FILE", "MicroBatches", "out_of_memory"]

FILE = "micro_batches.json"
Divide = Callable[[Sequence[TokenizedExample], int], list[Batch]]


class MicroBatches:
    """Divides the rows of each step, under a budget that shrinks when memory is short.

    The budget is a function of the step's number once it is written down: whether a resumed run
    would have had more memory plays no part, so it stays bitwise equal.

    Args:
        tokens: budget of the first step.
        divide: cuts rows into micro-batches of at most so many tokens.
        file: where changes are kept; None = nowhere.
        emit: takes an event name and its fields.
        ranks: the processes that must agree.
    """

    def __init__(
        self,
        tokens: int,
        divide: Divide,
        file: Path | None = None,
        emit: Callable[[str, dict[str, Any]], None] = lambda event, fields: None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._first = tokens
        self._divide = divide
        self._file = file
        self._emit = emit
        self._ranks = ranks
        self._tried_again = 0
        self._changes: dict[int, int] = {}
        if file is not None and file.is_file():
            changes = read_json(file)["from_step"]
            self._changes = {int(step): int(budget) for step, budget in changes.items()}

    def tokens(self, step: int) -> int:
        """Budget of a step."""
        before = [number for number in self._changes if number <= step]
        return self._changes[max(before)] if before else self._first

    def shrunk(self, step: int) -> bool:
        """Whether the budget of a step is smaller than the first."""
        return self.tokens(step) < self._first

    def of(self, step: int, rows: Sequence[TokenizedExample]) -> list[Batch]:
        """The micro-batches of these rows."""
        return self._divide(rows, self.tokens(step)) if rows else []

    def shrink(self, step: int, failed: Batch | None) -> None:
        """Halve the budget from this step on; every process calls it, one at least with a batch.

        A row that is alone already gets one more try with the caches emptied.

        Args:
            step: that has to be done again.
            failed: the micro-batch that did not fit; None in a process where all did.

        Raises:
            OutOfMemory: E0605, a single row does not fit.
        """
        budget = self.tokens(step)
        wanted = budget
        if failed is not None and len(failed.rows) > 1:
            size = len(failed.rows) * max(row.num_tokens for row in failed.rows)
            wanted = max(1, min(budget, size) // 2)
        elif failed is not None:
            wanted = 0 if self._tried_again == step else budget
            self._tried_again = step
        agreed = self._ranks.smallest(wanted)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if agreed == 0:
            raise _does_not_fit(step, failed)
        if agreed == budget:
            return
        self._changes[step] = agreed
        if self._file is not None and self._ranks.first:
            write_json(self._file, {"schema": SCHEMA, "from_step": self._changes})
        self._emit(
            "note",
            {
                "message": f"out of memory at step {step}: micro-batches have at most {agreed:,}"
                f" tokens from here on, not {budget:,}; the step is done again, and what it"
                " computes stays the same but for rounding",
                "code": "E0605",
                "step": step,
                "micro_batch_tokens": agreed,
            },
        )


def _does_not_fit(step: int, failed: Batch | None) -> OutOfMemory:
    if failed is None or len(failed.rows) > 1:
        return OutOfMemory(
            "E0605",
            f"step {step}: another process is out of memory with a single row",
            hint="see what that process said",
        )
    row = failed.rows[0]
    return OutOfMemory(
        "E0605",
        f"out of memory at step {step} with a single row of {row.num_tokens:,} tokens",
        where=f"row {row.row_id}",
        hint="cut long rows in a new run (--set train.max_length="
        f"{max(8, row.num_tokens // 2)} --set train.overlong=cut), or use a smaller base",
    )
