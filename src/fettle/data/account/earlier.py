"""An earlier account, read for what new data must keep to: which row was on which side.

In: an account, a run, or the folder of a cleaned copy. Out: names of rows (their ids, and the keys
of their inputs, since a row whose record was changed has another id) with their sides; the rows
themselves, since a text that was changed has another key too. Must not know: how a new row is
placed.
"""

from collections.abc import Iterator
from pathlib import Path

from fettle.data.account.account import example_from_json
from fettle.data.deduplicate import input_key
from fettle.data.placing import SEEN, input_name
from fettle.errors import UsageError
from fettle.records.rows import Example, Split
from fettle.records.run_directory import read_jsonl

SPLITS = "splits.jsonl"


def find_account(directory: Path) -> Path:
    """The folder with the account: the one named, or ``data`` or ``account`` in it.

    Raises:
        UsageError: E0140, there is none.
    """
    for folder in (directory, directory / "data", directory / "account"):
        if (folder / "manifest.json").is_file() and (folder / SPLITS).is_file():
            return folder
    raise UsageError(
        "E0140",
        f"{directory} holds no account of data",
        hint="name a run, what `fettle check` wrote (checks/NAME), or a folder of --fix",
    )


def rows_of(account: Path) -> dict[str, str]:
    """row_id -> side of every row, quarantine among them."""
    return {row["row_id"]: row["split"] for row in read_jsonl(account / SPLITS)}


def sides_of(account: Path) -> dict[str, Split]:
    """The side of each row that was used, by its id and by the key of its input."""
    splits, rows = account / SPLITS, account / "rows.jsonl"
    if not splits.is_file():
        return {}
    sides: dict[str, Split] = {
        row["row_id"]: row["split"] for row in read_jsonl(splits) if row["split"] != "quarantine"
    }
    for record in read_jsonl(rows) if rows.is_file() else ():
        name = input_name(input_key(example_from_json(record)))
        # One input on two sides: what was trained on decides.
        if sides.get(name) not in SEEN:
            sides[name] = record["split"]
    return sides


def examples_of(account: Path) -> Iterator[Example]:
    """The rows that were used; none where the account is gone."""
    rows = account / "rows.jsonl"
    for record in read_jsonl(rows) if rows.is_file() else ():
        yield example_from_json(record)
