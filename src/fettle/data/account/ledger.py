"""The ledger of the data: every change of every row, in lines that can't be altered unnoticed.

In: entries (plain objects). Out: ``ledger.jsonl``, to which lines are only ever added; the entries
again, when every hash fits. Must not know: why something was done, how rows are read.

Each line holds its number and the SHA-256 of the line before it, so that a changed, removed or
swapped line breaks the chain; the last hash is in manifest.json, so that a cut end is seen too.

The sum of the rows is a hash of them as a multiset: blake2b-128 of each raw record, added modulo
2**128. Order plays no part, and a row that is lost, doubled or altered changes it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fettle.data.meaning.normalize import canonical
from fettle.errors import IntegrityError
from fettle.records.run_directory import write_atomic

LEDGER: Final = "ledger.jsonl"
START: Final = "0" * 64
"""What stands for the hash of the line before the first."""
_MODULUS: Final = 1 << 128
_HINT = "check the data again, and keep a copy of the account where nobody edits it"

Entry = Mapping[str, Any]


def row_hash(fields: Mapping[str, Any]) -> int:
    """blake2b-128 of one raw record, as a number."""
    return int.from_bytes(hashlib.blake2b(canonical(fields), digest_size=16).digest(), "big")


def total(hashes: Iterable[int]) -> int:
    """The sum of rows, modulo 2**128."""
    return sum(hashes) % _MODULUS


def shown(sum_of_rows: int) -> str:
    """A sum as 32 hex digits."""
    return f"{sum_of_rows:032x}"


def check_balance(received: int, parts: Mapping[str, int]) -> None:
    """What came in must be what is kept, repaired and set aside.

    Args:
        received: sum of the raw records as they were read.
        parts: name of each place where rows ended, and the sum of their raw records.
    Raises:
        IntegrityError: E0921, they differ.
    """
    found = total(parts.values())
    if found == received:
        return
    raise IntegrityError(
        "E0921",
        f"the rows do not balance: {shown(received)} came in, {shown(found)} are accounted for",
        where=", ".join(f"{name} {shown(value)}" for name, value in parts.items()),
        why="A row was lost, doubled or changed on its way",
        hint="this is a bug of fettle, or the account was edited: check the data again, and report"
        " it if it comes back",
    )


def chain(entries: Iterable[Entry], after: Sequence[Entry] = (), head: str = START) -> bytes:
    """Entries as lines of the ledger.

    Args:
        entries: what to write; "number" and "previous" are added.
        after: entries that stand before them.
        head: hash of the last line before them.
    """
    lines = []
    for number, entry in enumerate(entries, start=len(after) + 1):
        # Lone surrogates of damaged texts can only be written as escapes.
        line = json.dumps({"number": number, "previous": head, **entry})
        lines.append(line)
        head = _hash(line)
    return "".join(line + "\n" for line in lines).encode("ascii")


def head_of(content: bytes) -> str:
    """Hash of the last line."""
    lines = content.splitlines()
    return hashlib.sha256(lines[-1]).hexdigest() if lines else START


def verify(path: Path, lines: int | None = None, head: str | None = None) -> list[dict[str, Any]]:
    """The entries of a ledger whose every line is what was written.

    Args:
        path: the ledger.
        lines: how many lines it had when ``head`` was noted; later ones may follow.
        head: hash of the line with that number.
    Raises:
        IntegrityError: E0901 it is missing, E0920 it was changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError("E0901", f"{path} can't be read back: {error}", hint=_HINT) from error
    entries: list[dict[str, Any]] = []
    previous = START
    for number, raw in enumerate(content.split(b"\n")[:-1], start=1):
        entry = _entry(raw)
        if entry is None or entry.get("number") != number or entry.get("previous") != previous:
            raise _tampered(path, number, "it does not follow from the line before it")
        entries.append(entry)
        previous = hashlib.sha256(raw).hexdigest()
        if number == lines and previous != head:
            raise _tampered(path, number, "its hash is not the one in manifest.json")
    if content and not content.endswith(b"\n"):
        raise _tampered(path, len(entries) + 1, "it is cut short")
    if lines is not None and len(entries) < lines:
        raise _tampered(path, len(entries) + 1, f"{lines - len(entries)} line(s) are missing")
    return entries


def append(path: Path, entries: Sequence[Entry], old: Sequence[Entry]) -> tuple[int, str]:
    """Add entries to a ledger that was verified.

    Args:
        path: the ledger.
        entries: to add.
        old: what ``verify`` gave.
    Returns:
        The number of lines now, and the hash of the last.
    """
    content = path.read_bytes()
    content += chain(entries, old, head_of(content))
    write_atomic(path, content)
    return len(old) + len(entries), head_of(content)


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode("ascii")).hexdigest()


def _entry(raw: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(raw)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _tampered(path: Path, number: int, why: str) -> IntegrityError:
    return IntegrityError(
        "E0920",
        f"{path} is not what was written: line {number}",
        why=f"As it is, {why}",
        hint=_HINT,
    )
