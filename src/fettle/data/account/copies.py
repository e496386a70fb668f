"""The cleaned copy of a data set: a folder with a file for each source, and its account.

In: a prepared data set. Out: DIR/<file> for each source, DIR/account/ with the account and
patch.jsonl, which leads from each cleaned file back to the original without the original. Must not
know: why a row leaves.

    patch.jsonl    one line for each file, then one for each of its edits: the offset and length in
                   the cleaned file, and the bytes that stood there (as text where they are UTF-8)

The account holds what was taken out, personal data among it: it is private to the user, and is not
to be passed on with the copy.
"""

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fettle.data.account.account import (
    ACCOUNT_FILES,
    LATER_FILES,
    Prepared,
    write_account,
)
from fettle.data.account.actions import entries
from fettle.data.account.fixed import GZIP, Edit, Fixed, Plan, Texts, fix, unpacked
from fettle.data.cleaning.masking import TEXT_ROLES, masker_for
from fettle.data.reading.decode import read_bytes
from fettle.data.reading.read import Source
from fettle.errors import IntegrityError, UsageError
from fettle.records.rows import SplitRow
from fettle.records.run_directory import read_jsonl, staged_directory, write_atomic

ACCOUNT: Final = "account"
PATCH: Final = "patch.jsonl"


@dataclass(frozen=True, slots=True)
class Copy:
    """One cleaned file."""

    source: str
    file: str
    rows: int
    left: tuple[int, ...]
    """Records whose repair can't be written in the file's format or encoding."""

    def to_json(self) -> dict[str, Any]:
        """For --json and the manifest."""
        return {
            "source": self.source,
            "file": self.file,
            "rows": self.rows,
            "not_repaired": list(self.left),
        }


def check_copy_directory(directory: Path, sources: Iterable[str], out: Path | None = None) -> None:
    """Whether a cleaned copy may be written there.

    Args:
        directory: of the copy.
        sources: the files that are read.
        out: where an account of the same check goes.
    Raises:
        UsageError: E0111 something else is there or will be, E0143 one of the sources lies there.
    """
    for source in sources:
        if _in_each_other(directory, Path(source).expanduser()):
            raise UsageError(
                "E0143",
                f"{source} and {directory}, where the cleaned copy is to go, lie in each other",
                why="The input is never written to, and the copy would be read as data",
                hint="choose another directory with --fix",
            )
    if out is not None and _in_each_other(directory, out):
        raise UsageError(
            "E0111",
            f"{directory}, where the cleaned copy is to go, and {out}, where the account goes, lie"
            " in each other",
            why="Each is replaced as a whole by the next check",
            hint="choose another directory with --fix or --out",
        )
    if not directory.exists():
        return
    is_copy = (directory / ACCOUNT / "manifest.json").is_file()
    if not directory.is_dir() or (any(directory.iterdir()) and not is_copy):
        raise UsageError(
            "E0111",
            f"{directory} is there already and holds no cleaned copy of an earlier check",
            hint="choose another directory with --fix",
        )
    if is_copy and (others := _not_ours(directory)):
        raise UsageError(
            "E0111",
            f"{directory} holds {', '.join(others[:3])}"
            + (f" and {len(others) - 3:,} more" if len(others) > 3 else ""),
            why="An earlier check did not write that, or not so, and the new copy replaces all",
            hint="move it away, or choose another directory with --fix",
        )


def _in_each_other(one: Path, two: Path) -> bool:
    one, two = one.resolve(), two.resolve()
    return one.is_relative_to(two) or two.is_relative_to(one)


def _not_ours(directory: Path) -> list[str]:
    """What is in the folder of a cleaned copy beside it, and files that were changed since."""
    account = directory / ACCOUNT
    headers = read_patch(account).values() if (account / PATCH).is_file() else ()
    written = {header["file"]: header["sha256"] for header, _ in headers}
    others = [
        path.name
        for path in directory.iterdir()
        if path.name != ACCOUNT and not is_as_written(path, written.get(path.name))
    ]
    known = {*ACCOUNT_FILES, *LATER_FILES}
    others += [f"{ACCOUNT}/{path.name}" for path in account.iterdir() if path.name not in known]
    return sorted(others)


def is_as_written(path: Path, sha256: str | None) -> bool:
    """Whether a file holds what fettle wrote there; None = it wrote none."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def write_copies(directory: Path, prepared: Prepared) -> list[Copy]:
    """Write the cleaned copy and its account, whole or not at all.

    Args:
        directory: from ``check_copy_directory``; an earlier copy there is replaced.
        prepared: what became of the rows.
    Raises:
        IntegrityError: E0922 a source changed since it was read, E0923 a copy does not lead back to
            its original.
    """
    done = entries(prepared)
    copies = []
    lines: list[dict[str, Any]] = []
    with staged_directory(directory) as folder:
        folder.chmod(0o700)
        sources = [*prepared.sources, *prepared.eval_sources]
        for source, name in zip(sources, names_for(sources), strict=True):
            rows = [prepared.raw[row.row_id] for row in of_source(prepared.splits, source.path)]
            columns = columns_of(prepared, source)
            plan = plan_for(source, prepared.splits, done, columns, masker_of(prepared))
            stored = stored_bytes(Path(source.path), source.sha256)
            fixed = fix(stored, source, rows, plan)
            if fixed.content:
                write_atomic(folder / name, fixed.content)
            lines += patch_lines(name, source, stored, fixed, plan)
            kept = source.num_records - len(plan.drop)
            copies.append(Copy(source.path, name if kept else "", kept, fixed.left))
        patch = "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
        write_account(folder / ACCOUNT, prepared, {PATCH: patch})
    return copies


def names_for(sources: Sequence[Source]) -> list[str]:
    """A file name for each source: its own, numbered where two have the same."""
    names: list[str] = []
    for source in sources:
        name = Path(source.path).name
        stem, dot, suffix = name.partition(".")
        number = 2
        while name in names or name == ACCOUNT:
            name = f"{stem}-{number}{dot}{suffix}"
            number += 1
        names.append(name)
    return names


def of_source(splits: Iterable[SplitRow], path: str) -> list[SplitRow]:
    """The rows of one source, in order."""
    return [row for row in splits if row.source == path]


def plan_for(
    source: Source,
    splits: Iterable[SplitRow],
    done: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    masker: Texts,
    back: Collection[str] = (),
) -> Plan:
    """What becomes of the records of one source.

    Args:
        source: the file.
        splits: the account.
        done: entries of the ledger; repairs and masks are read.
        columns: role -> column of the source.
        masker: masks a text.
        back: row ids that come back as they were.
    """
    path = source.path
    texts = frozenset(name for role, name in columns.items() if role in TEXT_ROLES)
    drop = {
        row.record
        for row in of_source(splits, path)
        if row.split == "quarantine" and row.row_id not in back
    }
    mended: dict[int, dict[str, str]] = {}
    masked: set[int] = set()
    for entry in done:
        if entry.get("source") != path or entry["row_id"] in back:
            continue
        if entry["action"] == "repair":
            mended.setdefault(entry["record"], {})[entry["before"]] = entry["after"]
        elif entry["action"] == "mask":
            masked.add(entry["record"])
    changed = {
        record: masker if record in masked else _mended(mended[record])
        for record in mended.keys() | masked
        if record not in drop
    }
    return Plan(frozenset(drop), changed, texts)


def columns_of(prepared: Prepared, source: Source) -> Mapping[str, str]:
    """Role -> column in one source."""
    is_eval = source in prepared.eval_sources
    return prepared.eval_columns if is_eval and prepared.eval_columns else prepared.layout.columns


def masker_of(prepared: Prepared) -> Texts:
    """What the texts of a masked row become."""
    return masker_for(prepared.policies, prepared.layout.name == "text_label")


def _mended(texts: Mapping[str, str]) -> Texts:
    return lambda text: texts.get(text, text)


def stored_bytes(path: Path, sha256: str) -> bytes:
    """The bytes of a source that is still what was read.

    Raises:
        IntegrityError: E0922, with both hashes.
    """
    if not path.is_file():
        raise source_changed(path, sha256, "there is no such file now")
    stored = read_bytes(path)
    found = hashlib.sha256(stored).hexdigest()
    if found != sha256:
        raise source_changed(path, sha256, f"now it has {found}")
    return stored


def source_changed(path: Path, sha256: str, now: str) -> IntegrityError:
    """E0922."""
    return IntegrityError(
        "E0922",
        f"{path} is not the file that was checked",
        where=str(path),
        why=f"It had the SHA-256 {sha256}; {now}",
        hint="put that file back, restore from a cleaned copy (`fettle check DATA --fix DIR` holds"
        " what leads back), or check the file as it is now",
    )


def patch_lines(
    name: str, source: Source, stored: bytes, fixed: Fixed, plan: Plan
) -> list[dict[str, Any]]:
    """The lines of patch.jsonl about one file."""
    header: dict[str, Any] = {
        "file": name,
        "source": source.path,
        "sha256": hashlib.sha256(fixed.content).hexdigest(),
        "content_sha256": ""
        if source.format == "parquet"
        else hashlib.sha256(unpacked(stored)).hexdigest(),
        "edits": len(fixed.edits),
        "gzip": stored[:2] == GZIP,
        "dropped": sorted(plan.drop),
    }
    if source.format == "parquet":
        header["touched"] = sorted(plan.drop | plan.changed.keys())
        header["originals"] = base64.b64encode(fixed.originals).decode("ascii")
    return [header, *(edit_line(edit) for edit in fixed.edits)]


def edit_line(edit: Edit) -> dict[str, Any]:
    """An edit as a line of patch.jsonl."""
    try:
        return {"at": edit.at, "length": edit.length, "raw": edit.raw.decode("utf-8")}
    except UnicodeDecodeError:
        raw = base64.b64encode(edit.raw).decode("ascii")
        return {"at": edit.at, "length": edit.length, "raw_base64": raw}


def read_patch(account: Path) -> dict[str, tuple[dict[str, Any], list[Edit]]]:
    """Source path -> the header of its file, and the edits that lead back to it."""
    found: dict[str, tuple[dict[str, Any], list[Edit]]] = {}
    edits: list[Edit] = []
    for line in read_jsonl(account / PATCH):
        if "file" in line:
            edits = []
            found[line["source"]] = (line, edits)
            continue
        raw = (
            base64.b64decode(line["raw_base64"])
            if "raw_base64" in line
            else line["raw"].encode("utf-8")
        )
        edits.append(Edit(line["at"], line["length"], raw))
    return found
