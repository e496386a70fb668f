"""Every error that fettle shows to a user, as one small tree.

    FettleError                     exit 1   a bug of ours
    ├── UsageError                  exit 2   the command line or a Python argument
    │   ├── RecipeError             exit 2   a recipe file or a --set value
    │   └── BaseModelError          exit 2   the base that was named can't be used
    ├── DataError                   exit 3   the user's rows
    ├── MachineError                exit 4   disk, memory, permissions, missing package
    │   └── OutOfMemory             exit 5
    ├── Diverged                    exit 6   the loss is not a number
    ├── Interrupted                 exit 7   stopped on request; can be resumed
    ├── NetworkError                exit 8   a hub or server did not answer
    ├── IntegrityError              exit 9   bytes are not what their hash says
    └── VerdictBelow                exit 10  the verdict is below --require

A code such as E0312 names one condition for ever: it is documented in docs/reference/errors.md
(a test compares the two) and is never given to another condition.

Must not know: anything else of fettle.
"""

from typing import ClassVar


class FettleError(Exception):
    """A condition that a user can act on.

    Args:
        code: permanent code, ``E`` and four digits.
        message: what is wrong, with the value, without a final full stop.
        where: file:line, column or row id; empty when there is none.
        why: one sentence of cause, where it is not plain from the message.
        hint: the command or change that fixes it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, code: str, message: str, *, where: str = "", why: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        parts = [f"[{self.code}] {self.message}."]
        if self.where:
            parts.append(f"Where: {self.where}.")
        if self.why:
            parts.append(self.why if self.why.endswith((".", "?")) else f"{self.why}.")
        text = " ".join(parts)
        return f"{text}\nhint: {self.hint}" if self.hint else text

    def to_json(self) -> dict[str, object]:
        """The same facts for ``--json`` output."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "where": self.where,
                "why": self.why,
                "hint": self.hint,
                "exit_code": self.exit_code,
            }
        }


class UsageError(FettleError):
    """A command line or a Python argument that can't be carried out."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe file or a ``--set`` value that is not valid."""


class BaseModelError(UsageError):
    """The base that was named is missing, unsafe or unfit for the task."""


class DataError(FettleError):
    """The user's rows can't be used as they are."""

    exit_code = 3


class MachineError(FettleError):
    """Disk, permissions, a missing package: the machine, not the input."""

    exit_code = 4


class OutOfMemory(MachineError):
    """The run does not fit into memory."""

    exit_code = 5


class Diverged(FettleError):
    """The loss or the gradient is not a finite number."""

    exit_code = 6


class Interrupted(FettleError):
    """Stopped on request, with a checkpoint to go on from."""

    exit_code = 7


class NetworkError(FettleError):
    """A hub or a server did not answer, or refused."""

    exit_code = 8


class IntegrityError(FettleError):
    """Stored bytes are not those that were written."""

    exit_code = 9


class VerdictBelow(FettleError):
    """The verdict is below what ``--require`` asked for."""

    exit_code = 10
