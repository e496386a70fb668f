"""Rows back from quarantine, and repairs undone: a file as it was, in all of its rows or in some.

In: an account (of a check, a run or a cleaned copy), and which rows. Out: files; lines in the
ledger. Must not know: why a row was set aside.

Everything restored is the original byte for byte; of Parquet, and of a file inside gzip, value for
value. It is rebuilt from the source, or where that is gone from the cleaned copy and its patch, and
is held against the hash that the source had when it was read.
"""

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fettle.data.account.account import Prepared, load_account
from fettle.data.account.copies import (
    ACCOUNT,
    PATCH,
    columns_of,
    edit_line,
    is_as_written,
    masker_of,
    patch_lines,
    plan_for,
    read_patch,
    source_changed,
    stored_bytes,
)
from fettle.data.account.earlier import find_account
from fettle.data.account.fixed import Edit, Fixed, Plan, fix, undo, undo_parquet, unpacked
from fettle.data.account.ledger import LEDGER, append, row_hash, shown, verify
from fettle.data.reading.read import Source, read_again
from fettle.errors import IntegrityError, UsageError
from fettle.records.run_directory import read_json, write_atomic

_CHANGES = ("quarantine", "repair", "mask")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was brought back."""

    files: tuple[Path, ...]
    rows: tuple[str, ...]
    kinds: dict[str, int]
    """Rows by the kind of finding that had set them aside or changed them."""
    whole: bool
    """Whether the files are the originals."""

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "files": [str(path) for path in self.files],
            "rows": list(self.rows),
            "kinds": dict(self.kinds),
            "whole": self.whole,
        }


@dataclass(frozen=True, slots=True)
class _Work:
    """An account that is restored from."""

    account: Path
    prepared: Prepared
    manifest: dict[str, Any]
    entries: list[dict[str, Any]]

    @property
    def copy(self) -> Path | None:
        """The folder of the cleaned copy, where this is its account."""
        has_copy = self.account.name == ACCOUNT and (self.account / PATCH).is_file()
        return self.account.parent if has_copy else None

    @property
    def sources(self) -> list[Source]:
        return [*self.prepared.sources, *self.prepared.eval_sources]


def restore(
    directory: Path,
    rows: Sequence[str] = (),
    kinds: Sequence[str] = (),
    everything: bool = False,
    out: Path | None = None,
) -> Restored:
    """Bring rows back as they were.

    Args:
        directory: an account, a run, or the folder of a cleaned copy.
        rows: row ids in quarantine, or repaired.
        kinds: kinds of findings; every row that one of them set aside or changed.
        everything: all rows; the files are then the originals.
        out: a file, or a folder where there are several; None = in the cleaned copy itself, else in
            a folder beside the account, ``<account>-restored``.
    Raises:
        UsageError: E0140 there is no account, E0141 no row was named, E0142 nothing fits, E0143 a
            source would be overwritten, E0144 another file would be.
        IntegrityError: E0906, E0920, E0921 the account was changed; E0922 the source is gone or
            changed.
    """
    work = _open(find_account(directory))
    chosen = _choose(work, rows, kinds, everything)
    in_place = out is None and work.copy is not None
    back = set(chosen) | (_back_already(work) if in_place else set())
    touched = {row.source for row in work.prepared.splits if row.row_id in chosen}
    sources = [s for s in work.sources if everything or s.path in touched]
    targets = _targets(work, sources, directory, out)
    contents: list[bytes] = []
    lines: dict[str, list[dict[str, Any]]] = {}
    for source, target in zip(sources, targets, strict=True):
        stored = _original(work, source)
        columns = columns_of(work.prepared, source)
        masker = masker_of(work.prepared)
        plan = plan_for(source, work.prepared.splits, work.entries, columns, masker, back)
        content, lines[source.path] = _rebuilt(stored, source, plan, target.name)
        contents.append(content)
    _refuse_foreign(work, targets)
    for target, content in zip(targets, contents, strict=True):
        if content:
            write_atomic(target, content)
    _note(work, chosen, targets, lines if in_place else None)
    counts: dict[str, int] = {}
    for found in chosen.values():
        for kind in found:
            counts[kind] = counts.get(kind, 0) + 1
    return Restored(tuple(targets), tuple(chosen), counts, everything)


def _open(account: Path) -> _Work:
    prepared = load_account(account)
    manifest = read_json(account / "manifest.json")
    if "ledger" not in manifest:
        raise UsageError(
            "E0140",
            f"{account} was written by an older fettle and has no ledger",
            hint="check the data again",
        )
    noted = manifest["ledger"]
    entries = verify(account / LEDGER, noted["lines"], noted["sha256"])
    for raw, row_id, _ in prepared.quarantined:
        if shown(row_hash(raw.fields)) != shown(prepared.hashes[row_id]) and _is_raw(raw.fields):
            raise IntegrityError(
                "E0921",
                f"the quarantined row {row_id} is not the one that was set aside",
                where=str(account / "quarantine.jsonl"),
                hint="check the data again",
            )
    return _Work(account, prepared, manifest, entries)


def _is_raw(fields: Any) -> bool:
    """Whether these are fields as read; a later stage may have had the example alone."""
    return set(fields) != {"example"}


def _choose(
    work: _Work, rows: Sequence[str], kinds: Sequence[str], everything: bool
) -> dict[str, list[str]]:
    """row_id -> kinds of what was done to it, for the rows that were asked for."""
    if not (rows or kinds or everything):
        raise UsageError(
            "E0141",
            "no row was named",
            hint="--row ID, --kind KIND, or --all; the ids and kinds are in"
            f" {work.account / 'quarantine.jsonl'}",
        )
    changed: dict[str, list[str]] = {}
    for entry in work.entries:
        if entry["action"] in _CHANGES:
            found = entry["kinds"] if "kinds" in entry else [entry["reason"]]
            changed.setdefault(entry["row_id"], []).extend(found)
    unknown = [row_id for row_id in rows if row_id not in changed]
    known_kinds = {kind for found in changed.values() for kind in found}
    unknown += [kind for kind in kinds if kind not in known_kinds]
    if unknown:
        raise UsageError(
            "E0142",
            f"nothing was set aside or changed under {unknown[0]!r}",
            where=str(work.account),
            hint=f"kinds there are: {', '.join(sorted(known_kinds)) or 'none'}; row ids are in"
            " quarantine.jsonl and ledger.jsonl",
        )
    return {
        row_id: sorted(set(found))
        for row_id, found in changed.items()
        if everything or row_id in rows or not set(kinds).isdisjoint(found)
    }


def _back_already(work: _Work) -> set[str]:
    """Rows that are back in the cleaned copy."""
    return {e["row_id"] for e in work.entries if e["action"] == "restore" and e["in_place"]}


def _targets(
    work: _Work, sources: Sequence[Source], directory: Path, out: Path | None
) -> list[Path]:
    files = {line["source"]: line["file"] for line, _ in _patch(work).values()}
    names = [files.get(source.path, Path(source.path).name) for source in sources]
    if out is None:
        folder = work.copy or directory.parent / f"{directory.resolve().name}-restored"
        targets = [folder / name for name in names]
    elif len(sources) == 1 and not out.is_dir():
        targets = [out]
    else:
        targets = [out / name for name in names]
    inputs = {_source_path(work, source).resolve(): source for source in work.sources}
    for target in targets:
        if target.resolve() in inputs:
            raise UsageError(
                "E0143",
                f"{target} is the file that was checked",
                why="The input is never written to",
                hint="choose another file with --out",
            )
    return targets


def _refuse_foreign(work: _Work, targets: Sequence[Path]) -> None:
    """Nothing is overwritten but what this account wrote there, as long as it is unchanged."""
    written = {
        (work.copy / header["file"]).resolve(): header["sha256"]
        for header, _ in _patch(work).values()
        if work.copy is not None
    }
    for entry in work.entries:
        if entry["action"] == "restore" and not entry["in_place"]:
            written.update({Path(path): found for path, found in entry.get("files", {}).items()})
    for target in targets:
        if target.exists() and not is_as_written(target, written.get(target.resolve())):
            raise UsageError(
                "E0144",
                f"{target} is there already",
                why="It is not, or no longer, what was written there from this account",
                hint="move it away, or choose another file with --out",
            )


def _patch(work: _Work) -> dict[str, tuple[dict[str, Any], list[Edit]]]:
    return {} if work.copy is None else read_patch(work.account)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _source_path(work: _Work, source: Source) -> Path:
    """Where a source lies: relative names count from where the data were checked."""
    path = Path(source.path).expanduser()
    return path if path.is_absolute() else Path(work.manifest["working_directory"]) / path


def _original(work: _Work, source: Source) -> bytes:
    """The bytes of a source, from the file itself or from the cleaned copy."""
    path = _source_path(work, source)
    copy = work.copy
    if copy is None:
        return stored_bytes(path, source.sha256)
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256:
        return path.read_bytes()
    header, edits = _patch(work)[source.path]
    cleaned_path = copy / header["file"]
    cleaned = cleaned_path.read_bytes() if cleaned_path.is_file() else b""
    found = hashlib.sha256(cleaned).hexdigest()
    if found != header["sha256"]:
        raise IntegrityError(
            "E0922",
            f"neither the source {source.path} nor its cleaned copy is what it was",
            where=str(cleaned_path),
            why=f"The copy had the SHA-256 {header['sha256']} and has {found}; the source had"
            f" {source.sha256}",
            hint="put one of the two back",
        )
    if source.format == "parquet":
        return _parquet(cleaned, header, source)
    content = undo(unpacked(cleaned) if cleaned else b"", edits)
    found = hashlib.sha256(content).hexdigest()
    if found != header["content_sha256"]:
        raise source_changed(path, header["content_sha256"], f"what was rebuilt has {found}")
    return gzip.compress(content, mtime=0) if header["gzip"] else content


def _parquet(cleaned: bytes, header: dict[str, Any], source: Source) -> bytes:
    originals = base64.b64decode(header["originals"])
    table = undo_parquet(
        cleaned, originals, header["touched"], source.num_records, set(header["dropped"])
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _rebuilt(
    stored: bytes, source: Source, plan: Plan, name: str
) -> tuple[bytes, list[dict[str, Any]]]:
    """The file with only what the plan still leaves out or changes, and the way back."""
    if not (plan.drop or plan.changed):
        return stored, patch_lines(name, source, stored, Fixed(stored), plan)
    fixed = fix(stored, source, read_again(source, stored), plan)
    return fixed.content, patch_lines(name, source, stored, fixed, plan)


def _note(
    work: _Work,
    chosen: dict[str, list[str]],
    targets: Sequence[Path],
    patch: dict[str, list[dict[str, Any]]] | None,
) -> None:
    """What was brought back, into the ledger; in a cleaned copy the new patch too."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    place = {row.row_id: row for row in work.prepared.splits}
    files = {str(path.resolve()): _sha256(path) for path in targets if path.is_file()}
    added = [
        {
            "action": "restore",
            "row_id": row_id,
            "source": place[row_id].source,
            "record": place[row_id].record,
            "kinds": found,
            "to": [str(target) for target in targets],
            "in_place": patch is not None,
            "files": files,
            "time": now,
        }
        for row_id, found in chosen.items()
    ]
    lines, head = append(work.account / LEDGER, added, work.entries)
    manifest = dict(work.manifest)
    if patch is not None:
        held = {
            source: [header, *map(edit_line, edits)]
            for source, (header, edits) in _patch(work).items()
        }
        held.update(patch)
        content = "".join(
            json.dumps(line) + "\n" for found in held.values() for line in found
        ).encode("ascii")
        write_atomic(work.account / PATCH, content)
        manifest["files"] = {**manifest["files"], PATCH: hashlib.sha256(content).hexdigest()}
    manifest["ledger"] = {"lines": lines, "sha256": head}
    write_atomic(work.account / "manifest.json", json.dumps(manifest, indent=2) + "\n")
