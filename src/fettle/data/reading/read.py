"""Files and folders -> raw rows.

In: paths and the reading options of the recipe. Out: ``ReadResult``: every record of every file, in
order, and what each file was found to be. Must not know: what the columns mean.

The content decides the format; the suffix is a hint. Nothing is ever written to the input.

A plain text (.txt, .md) is a row for every line; when it has blank lines, for every paragraph
between them; and from 20 such files on, a row for every file.
"""

import hashlib
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from fettle.data.reading.decode import (
    MAX_RECORD_CHARS,
    Decoded,
    decode,
    load,
    printable,
    read_bytes,
)
from fettle.data.reading.json_records import looks_like_jsonl, read_json, read_jsonl
from fettle.data.reading.tables import read_table, sniff_delimiter, split_lines
from fettle.data.sensitive import redact
from fettle.errors import DataError, UsageError
from fettle.recipe.recipe import DataSection
from fettle.records.rows import RawRow

Format = Literal["csv", "json", "jsonl", "parquet", "text"]

_FORMAT_OF_SUFFIX: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".psv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
_DELIMITER_OF_SUFFIX = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_ABOUT_THE_DATA = ("license", "licence", "readme", "source", "changelog", "notice", "citation")
_ACCOUNT = ("manifest.json", "splits.jsonl", "quarantine.jsonl")
"""Files of a folder that fettle wrote beside a cleaned copy."""
_NUM_FILES_THAT_ARE_DOCUMENTS = 20
_INVALID = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Source:
    """One file that was read."""

    path: str
    """As the user gave it."""
    sha256: str
    """Of the bytes as stored (compressed where the file is)."""
    format: Format
    num_bytes: int
    num_records: int
    num_malformed: int
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """An entry of data/manifest.json."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "format": self.format,
            "num_bytes": self.num_bytes,
            "num_records": self.num_records,
            "num_malformed": self.num_malformed,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "header": self.header,
            "columns": list(self.columns),
        }


@dataclass(frozen=True, slots=True)
class ReadResult:
    """All rows of all files, in order, malformed ones among them."""

    rows: list[RawRow]
    sources: list[Source]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Files of a folder that were left out, with the reason."""


def read(paths: Sequence[str], options: DataSection) -> ReadResult:
    """Read files and folders.

    Args:
        paths: files, or folders that are searched for data files.
        options: format, encoding, delimiter, header and max_malformed are used.
    Returns:
        Every record exactly once, in the order of the files and of the records in them.
    Raises:
        UsageError: E0130 a path does not exist, E0131 it is neither file nor folder, E0132 the
            delimiter is not one character.
        DataError: a file that is empty (E0326), binary, damaged, not of its format; a folder
            without data (E0327); too many malformed rows (E0328).
    """
    files, skipped = _list_files(paths)
    contents = [(path, shown, read_bytes(path)) for path, shown, _ in files]
    num_texts = sum(_suffix(path)[0] in (".txt", ".md", ".text") for path, _, _ in contents)
    whole_files = num_texts >= _NUM_FILES_THAT_ARE_DOCUMENTS
    rows: list[RawRow] = []
    sources: list[Source] = []
    for path, shown, data in contents:
        found, source = _read_file(path, shown, data, options, whole_files)
        rows.extend(found)
        sources.append(source)
    tables = {source.path for source in sources if source.format != "text"}
    if tables and len(tables) < len(sources):
        from_folder = {shown for _, shown, listed in files if listed}
        left_out = {
            source.path: source
            for source in sources
            if source.format == "text" and source.path in from_folder
        }
        rows = [row for row in rows if row.source not in left_out]
        sources = [source for source in sources if source.path not in left_out]
        skipped.extend((name, "plain text beside tables") for name in sorted(left_out))
    _refuse_malformed(rows, options.max_malformed)
    return ReadResult(rows, sources, skipped)


def read_again(source: Source, stored: bytes) -> list[RawRow]:
    """The records of a file that was read before, from its bytes: nothing is detected anew.

    Args:
        source: what the file was found to be.
        stored: its bytes, as they were or as a cleaned copy has them.
    Raises:
        DataError: the bytes are no such file, or hold no row.
    """
    options = DataSection(
        path=[source.path],
        format=source.format,
        encoding=source.encoding,
        delimiter=source.delimiter,
        header=source.header,
    )
    whole_file = source.format == "text" and source.num_records == 1
    return _read_file(Path(source.path), source.path, stored, options, whole_file)[0]


def _list_files(
    paths: Sequence[str],
) -> tuple[list[tuple[Path, str, bool]], list[tuple[str, str]]]:
    """Files with the name to show and whether they come from a folder; and those left out."""
    files: list[tuple[Path, str, bool]] = []
    skipped: list[tuple[str, str]] = []
    seen: set[str] = set()
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            listed = _list_folder(path, skipped)
        elif path.is_file():
            listed = [path]
        elif path.exists():
            raise UsageError(
                "E0131",
                f"{given} is neither a file nor a folder",
                hint="write the rows to a file and give its name",
            )
        else:
            raise UsageError(
                "E0130", f"{given} does not exist", hint=f"check the path: ls '{path.parent}'"
            )
        for file in listed:
            real = os.path.realpath(file)
            shown = printable(str(file))
            if real in seen:
                skipped.append((shown, "given twice"))
                continue
            seen.add(real)
            files.append((file, shown, path.is_dir()))
    return files, skipped


def _list_folder(folder: Path, skipped: list[tuple[str, str]]) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        hidden = {name for name in folders if name.startswith(".")}
        for name in sorted(set(folders) - hidden):
            if all((Path(root) / name / file).is_file() for file in _ACCOUNT):
                hidden.add(name)
                skipped.append((printable(os.path.join(root, name)), "an account of fettle"))
        folders[:] = sorted(set(folders) - hidden)
        for name in sorted(names):
            path = Path(root) / name
            if name.startswith(".") or not path.is_file():
                continue
            if name.lower().startswith(_ABOUT_THE_DATA):
                skipped.append((printable(str(path)), "about the data"))
            elif _suffix(path)[0] not in _FORMAT_OF_SUFFIX:
                skipped.append((printable(str(path)), "not a known suffix"))
            else:
                found.append(path)
    if not found:
        raise DataError(
            "E0327",
            f"{folder} holds no data files",
            why=f"Known suffixes are {', '.join(_FORMAT_OF_SUFFIX)}, each plain or with .gz",
            hint="name the files themselves; then the content decides, not the suffix",
        )
    return found


def _suffix(path: Path) -> tuple[str, bool]:
    """Lower-case suffix without .gz, and whether there was a .gz."""
    name = path.name.lower()
    compressed = name.endswith(".gz")
    return Path(name.removesuffix(".gz")).suffix, compressed


def _read_file(
    path: Path, shown: str, stored: bytes, options: DataSection, whole_file: bool
) -> tuple[list[RawRow], Source]:
    digest = hashlib.sha256(stored).hexdigest()
    content = load(path, stored)
    columns: tuple[str, ...] = ()
    decoded: Decoded | None = None
    delimiter: str | None = None
    header: bool | None = None
    kind: Format
    if content[:4] == b"PAR1" or options.format == "parquet":
        kind = "parquet"
        rows, columns = _read_parquet(content, path, shown)
    else:
        decoded = decode(path, content, options.encoding)
        del content
        text = decoded.text
        if not text.strip("\x00 \t\r\n"):
            raise _empty(shown)
        kind, delimiter = _find_format(text, _suffix(path)[0], options)
        if kind == "csv":
            assert delimiter is not None
            table = read_table(text, shown, delimiter, options.header, decoded.has_invalid)
            rows, header, columns = table.rows, table.header, table.columns
        elif kind == "jsonl":
            rows = read_jsonl(text, shown)
        elif kind == "json":
            rows = read_json(text, shown, decoded.has_invalid)
        else:
            rows = _read_text(text, shown, whole_file)
    if not rows:
        raise _empty(shown)
    if not columns:
        columns = _columns_of(rows)
    source = Source(
        path=shown,
        sha256=digest,
        format=kind,
        num_bytes=len(stored),
        num_records=len(rows),
        num_malformed=sum(row.malformed is not None for row in rows),
        encoding=decoded.encoding if decoded is not None else None,
        delimiter=delimiter,
        header=header,
        columns=columns,
    )
    return rows, source


def _find_format(text: str, suffix: str, options: DataSection) -> tuple[Format, str | None]:
    """What the text is: the user's word, then the content, then the suffix."""
    hint = _FORMAT_OF_SUFFIX.get(suffix)
    kind: Format | None = options.format
    if kind is None and options.delimiter is not None:
        kind = "csv"
    if kind is None:
        bracket = text.lstrip("\x00 \t\r\n")[:1]
        is_json = bracket in ("{", "[")
        if (is_json and looks_like_jsonl(text)) or (hint == "jsonl" and bracket != "["):
            kind = "jsonl"
        elif hint in ("json", "jsonl") or (hint is None and is_json):
            kind = "json"
    if kind not in (None, "csv"):
        return kind, None
    if options.delimiter is not None:
        return "csv", _one_character(options.delimiter)
    delimiter, share, width = sniff_delimiter(text, _DELIMITER_OF_SUFFIX.get(suffix))
    if kind == "csv" or hint == "csv":
        return "csv", delimiter
    num_lines = text.count("\n") + 1
    regular = share >= 0.9 if delimiter == "\t" else share >= 0.98 and num_lines >= 3
    if width > 1 and regular:
        return "csv", delimiter
    return "text", None


def _one_character(delimiter: str) -> str:
    delimiter = _DELIMITER_NAMES.get(delimiter.lower(), delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n\x00':
        raise UsageError(
            "E0132",
            f"the delimiter {delimiter!r} is not one character",
            hint="for example --set data.delimiter=tab, or ';'",
        )
    return delimiter


def _read_text(text: str, source: str, whole_file: bool) -> list[RawRow]:
    lines = [line.rstrip("\r") for line in split_lines(text)]
    pieces: list[tuple[int, str]] = []
    if whole_file:
        pieces.append((1, "\n".join(lines).strip("\n")))
    elif all(line.strip() for line in "\n".join(lines).strip().split("\n")):
        pieces.extend((number, line) for number, line in enumerate(lines, 1) if line.strip())
    else:
        start, block = 0, list[str]()
        for number, line in enumerate([*lines, ""], start=1):
            if line.strip():
                start = start or number
                block.append(line)
            elif block:
                pieces.append((start, "\n".join(block)))
                start, block = 0, []
    return [_text_row(source, record, *piece) for record, piece in enumerate(pieces, start=1)]


def _text_row(source: str, record: int, line: int, piece: str) -> RawRow:
    reason = None
    if len(piece) > MAX_RECORD_CHARS:
        reason = f"record of {len(piece):,} characters; the limit is {MAX_RECORD_CHARS:,}"
        piece = piece[:1000]
    elif "\x00" in piece:
        reason = "NUL byte"
    elif not piece.isascii() and (found := _INVALID.search(piece)):
        reason = f"invalid byte 0x{ord(found[0]) - 0xDC00:02x}"
    if reason is None:
        return RawRow(source, record, line, {"text": piece})
    return RawRow(source, record, line, {"raw": printable(piece)}, reason)


def _read_parquet(content: bytes, path: Path, source: str) -> tuple[list[RawRow], tuple[str, ...]]:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            "E0329",
            f"{path} can't be read as Parquet: {str(error).splitlines()[0]}",
            hint="fetch the file again, or write it anew",
        ) from error
    names = tuple(str(name) for name in table.column_names)
    rows = []
    for record, values in enumerate(table.to_pylist(), start=1):
        fields = {str(name): _plain(value) for name, value in values.items()}
        rows.append(RawRow(source, record, None, fields))
    return rows, names


def _plain(value: Any) -> Any:
    """A Parquet value as JSON has it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Decimal):
        return str(value)
    return str(value)


def _columns_of(rows: Sequence[RawRow]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for row in rows:
        if row.malformed is None:
            names.update(dict.fromkeys(row.fields))
    return tuple(names)


def _refuse_malformed(rows: Sequence[RawRow], limit: float) -> None:
    bad = [row for row in rows if row.malformed is not None]
    if not bad or len(bad) <= limit * len(rows):
        return
    places = "; ".join(
        f"{row.source}:{row.line if row.line is not None else f'record {row.record}'}"
        f" ({redact(row.malformed or '')})"
        for row in bad[:5]
    )
    raise DataError(
        "E0328",
        f"{len(bad):,} of {len(rows):,} rows are malformed, more than {limit:.0%}",
        where=places + (f"; and {len(bad) - 5:,} more" if len(bad) > 5 else ""),
        hint="name the format if it was taken for another (--set data.format=csv,"
        " data.delimiter, data.encoding), mend the file,"
        " or allow more with --set data.max_malformed=0.5",
    )


def _empty(source: str) -> DataError:
    return DataError("E0326", f"{source} holds no rows", hint="give a file with at least 20 rows")
