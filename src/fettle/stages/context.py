"""What every stage gets: the recipe, the directory, the journal, a way to be stopped."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from fettle.errors import Interrupted
from fettle.recipe.recipe import Recipe
from fettle.records.journal import Journal
from fettle.records.run_directory import RunDirectory


@dataclass(slots=True)
class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into an orderly end.

    While ``deferred`` is set (training), the flag is only noted and the loop saves a checkpoint;
    elsewhere the stage is given up at once, which is safe because stages write whole or not at all.
    The second request stops the process where it is.
    """

    hint: str
    deferred: bool = False
    requested: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if not self.deferred:
            self._end()

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Put the end off until the block is done; the block may ask ``requested`` itself."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False
        if self.requested:
            self._end()

    def _end(self) -> NoReturn:
        raise Interrupted("E0604", "stopped on request", hint=self.hint)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM; only the main thread may, elsewhere nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self.handle) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@dataclass(slots=True)
class Context:
    """One run under way."""

    recipe: Recipe
    directory: RunDirectory
    journal: Journal
    stop: StopRequest = field(init=False)

    def __post_init__(self) -> None:
        self.stop = StopRequest(f"go on with `fettle resume {self.directory.root}`")
