"""A cleaned copy of a source file in the file's own format, and the way back to the original.

In: the bytes of a file, its records, which of them to leave out and which texts to change. Out: the
new bytes, and edits that turn them into the old ones. Must not know: why a row leaves, where files
lie.

Everything that is not changed keeps its bytes: quoting, spacing, order of keys, line ends, byte
order mark. What was written is read again, and must give exactly the records that were meant; where
a format can't say that by leaving lines out, the file is written anew and the edit holds it whole.
Parquet is handled value for value.
"""

import codecs
import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from fettle.data.calls import ARGUMENTS, changed_texts
from fettle.data.reading.json_records import Span, find_spans
from fettle.data.reading.read import Source, read_again
from fettle.data.reading.tables import read_table
from fettle.errors import DataError, IntegrityError
from fettle.records.rows import RawRow

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TAIL = re.compile(r"[\r\n]*\Z")
GZIP: Final = b"\x1f\x8b"

Texts = Callable[[str], str]
"""A text before -> the text after."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of the records of one file."""

    drop: frozenset[int]
    """Record numbers that are left out."""
    changed: Mapping[int, Texts]
    """Record number -> what becomes of its texts."""
    columns: frozenset[str]
    """Columns whose texts may change; where a record has none of them, all."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A place of the cleaned copy, and what stood there."""

    at: int
    """Offset in bytes, without a gzip layer."""
    length: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Fixed:
    """A cleaned copy."""

    content: bytes
    """As it is stored; compressed where the source is. Empty when no record is left."""
    edits: list[Edit] = field(default_factory=list)
    """From first to last; none for Parquet."""
    originals: bytes = b""
    """Parquet: the rows that were left out or changed, as an Arrow stream."""
    left: tuple[int, ...] = ()
    """Records whose change can't be written in this format or encoding: they are as they were."""


@dataclass(frozen=True, slots=True)
class _Region:
    """Characters [start, end) that become ``new``."""

    start: int
    end: int
    new: str


def fix(stored: bytes, source: Source, rows: Sequence[RawRow], plan: Plan) -> Fixed:
    """The cleaned copy of a file.

    Args:
        stored: bytes of the file.
        source: what it was found to be.
        rows: all its records, in order.
        plan: what to leave out and to change.
    Raises:
        IntegrityError: E0923, the copy does not lead back to the original (a bug).
    """
    if source.format == "parquet":
        return _fix_parquet(stored, rows, plan)
    content = unpacked(stored)
    if all(row.record in plan.drop for row in rows):
        return Fixed(b"", [Edit(0, 0, content)])
    fixed = _fix_text(content, source, rows, plan)
    if undo(fixed.content, fixed.edits) != content:
        raise not_the_original(source.path)
    if stored[:2] == GZIP:
        fixed = replace(fixed, content=gzip.compress(fixed.content, mtime=0))
    return fixed


def undo(content: bytes, edits: Iterable[Edit]) -> bytes:
    """The original from a cleaned copy (without gzip layers)."""
    pieces = []
    at = 0
    for edit in edits:
        pieces += [content[at : edit.at], edit.raw]
        at = edit.at + edit.length
    return b"".join([*pieces, content[at:]])


def unpacked(stored: bytes) -> bytes:
    """The bytes without a gzip layer; the reader has held them to its limits before."""
    return gzip.decompress(stored) if stored[:2] == GZIP else stored


def change_texts(value: Any, texts: Texts) -> Any:
    """A value with every text in it changed, those inside JSON in a text too."""
    if isinstance(value, str):
        # Conversations in one cell; another text that is JSON is changed as a whole.
        after = changed_texts(value, texts) if value.startswith("[{") else value
        return texts(value) if after == value else after
    if isinstance(value, list):
        return [change_texts(item, texts) for item in value]
    if isinstance(value, Mapping):
        return {
            key: changed_texts(item, texts) if key == ARGUMENTS else change_texts(item, texts)
            for key, item in value.items()
        }
    return value


def _change_fields(fields: Mapping[str, Any], plan: Plan, texts: Texts) -> dict[str, Any]:
    named = plan.columns & fields.keys() or fields.keys()
    return {
        name: change_texts(value, texts) if name in named else value
        for name, value in fields.items()
    }


def _fix_text(content: bytes, source: Source, rows: Sequence[RawRow], plan: Plan) -> Fixed:
    opening, codec = _encoding(content, source.encoding or "utf-8")
    text = content[len(opening) :].decode(codec, _errors(codec))
    expected, edited = _expected(rows, plan)
    if opening + _encode(text, codec) != content:
        # An encoding with several spellings of one text: only a new file says what is meant.
        return _anew(content, source, rows, expected, plan)
    if source.format == "json":
        spans = find_spans(text)
        if not spans:
            return _anew(content, source, rows, expected, plan)
        regions, left = _json_regions(text, rows, plan, edited, spans, codec)
    else:
        regions, left = _line_regions(text, source, rows, plan, edited, codec)
    for record in left:
        expected[record] = next(row.fields for row in rows if row.record == record)
    cleaned, edits = _apply(text, regions, opening, codec)
    fixed = Fixed(cleaned, edits, left=tuple(sorted(left)))
    # A broken record that came back may be read in another way than among its old neighbours.
    any_broken = any(row.malformed is not None and row.record in expected for row in rows)
    if any_broken or _reads_as(source, cleaned, expected):
        return fixed
    return _anew(content, source, rows, expected, plan)


def _expected(
    rows: Sequence[RawRow], plan: Plan
) -> tuple[dict[int, Mapping[str, Any]], dict[int, dict[str, Any]]]:
    """Fields of each record of the copy, and of those among them that change."""
    expected: dict[int, Mapping[str, Any]] = {}
    edited: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row.record in plan.drop:
            continue
        expected[row.record] = row.fields
        texts = plan.changed.get(row.record)
        if texts is not None:
            edited[row.record] = _change_fields(row.fields, plan, texts)
            expected[row.record] = edited[row.record]
    return expected, edited


def _reads_as(source: Source, cleaned: bytes, expected: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether a file, read as its source was, holds exactly these records."""
    try:
        rows = read_again(source, cleaned)
    except DataError:
        return False
    found = [(row.fields, row.malformed) for row in rows]
    return found == [(dict(fields), None) for fields in expected.values()]


def _line_regions(
    text: str,
    source: Source,
    rows: Sequence[RawRow],
    plan: Plan,
    edited: Mapping[int, Mapping[str, Any]],
    codec: str,
) -> tuple[list[_Region], set[int]]:
    """CSV, JSONL and plain text: a record goes from its first line to that of the next."""
    starts = _line_starts(text)
    bounds = [starts[(row.line or 1) - 1] for row in rows] + [len(text)]
    quoted = True
    if edited and source.format == "csv" and '"' in text:
        quoted = read_table(text, source.path, source.delimiter or ",", source.header, False).quoted
    regions = []
    left = set()
    for row, start, end in zip(rows, bounds, bounds[1:], strict=False):
        if row.record in plan.drop:
            regions.append(_Region(start, end, ""))
        elif row.record in edited:
            raw = text[start:end]
            tail = _TAIL.search(raw)
            body = raw[: tail.start()] if tail is not None else raw
            new = _written(source, body, row.fields, edited[row.record], quoted)
            if new is None or new == body or not _can_encode(new, codec):
                left.add(row.record)
            else:
                regions.append(_Region(start, start + len(body), new))
    return regions, left


def _written(
    source: Source,
    body: str,
    fields: Mapping[str, Any],
    wanted: Mapping[str, Any],
    quoted: bool,
) -> str | None:
    """One changed record in the format of its file; None where it can't be said there."""
    if source.format == "jsonl":
        return _written_json(body, fields, wanted)
    if source.format == "text":
        return _joined_lines(body, str(wanted["text"]))
    cells = [str(value) for value in wanted.values()]
    delimiter = source.delimiter or ","
    if not quoted:
        ends = (delimiter, "\n", "\r")
        return None if any(end in cell for cell in cells for end in ends) else delimiter.join(cells)
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(cells)
    return line.getvalue()


def _joined_lines(body: str, text: str) -> str | None:
    """A paragraph with its own line ends; None where the number of its lines would change."""
    if text.count("\n") != body.count("\n") or not all(map(str.strip, text.split("\n"))):
        return None
    return text.replace("\n", "\r\n") if "\r\n" in body else text


def _written_json(body: str, fields: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    value = json.loads(body)
    for name, new in wanted.items():
        if new == fields[name]:
            continue
        if isinstance(value, dict) and name in value:
            value[name] = new
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value[int(name)] = new
        elif isinstance(value, str):
            value = new
    spaced = '": ' in body or '",\n' in body or ", " in body
    separators = (", ", ": ") if spaced else (",", ":")
    indent = 2 if "\n" in body else None
    if indent is not None:
        separators = (",", ": ")
    return json.dumps(value, ensure_ascii=body.isascii(), separators=separators, indent=indent)


def _json_regions(
    text: str,
    rows: Sequence[RawRow],
    plan: Plan,
    edited: Mapping[int, Mapping[str, Any]],
    spans: Sequence[Span],
    codec: str,
) -> tuple[list[_Region], set[int]]:
    """A JSON document: a record leaves its list or object together with one comma."""
    by_container: dict[tuple[str | int, ...], list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.begin):
        by_container.setdefault(span.container, []).append(span)
    regions = []
    left = set()
    for held in by_container.values():
        any_kept = False
        for index, span in enumerate(held):
            row = rows[span.index]
            if row.record in plan.drop:
                following = held[index + 1].begin if index + 1 < len(held) else span.end
                start = held[index - 1].end if any_kept else span.begin
                regions.append(_Region(start, span.end if any_kept else following, ""))
                continue
            any_kept = True
            if row.record not in edited:
                continue
            body = text[span.start : span.end]
            new = _written_json(body, row.fields, edited[row.record])
            if new is None or new == body or not _can_encode(new, codec):
                left.add(row.record)
            else:
                regions.append(_Region(span.start, span.end, new))
    return sorted(regions, key=lambda region: region.start), left


def _apply(
    text: str, regions: Sequence[_Region], opening: bytes, codec: str
) -> tuple[bytes, list[Edit]]:
    pieces = [opening]
    edits = []
    size, at = len(opening), 0
    for region in regions:
        before = _encode(text[at : region.start], codec)
        new = _encode(region.new, codec)
        size += len(before)
        edits.append(Edit(size, len(new), _encode(text[region.start : region.end], codec)))
        pieces += [before, new]
        size += len(new)
        at = region.end
    return b"".join([*pieces, _encode(text[at:], codec)]), edits


def _anew(
    content: bytes,
    source: Source,
    rows: Sequence[RawRow],
    expected: Mapping[int, Mapping[str, Any]],
    plan: Plan,
) -> Fixed:
    """The copy written from its records alone; CSV with every cell in quotes, JSON as a list."""
    del rows, plan
    text = io.StringIO()
    if source.format == "csv":
        writer = csv.writer(
            text, delimiter=source.delimiter or ",", quoting=csv.QUOTE_ALL, lineterminator="\n"
        )
        if source.header:
            writer.writerow(source.columns)
        writer.writerows([fields.values() for fields in expected.values()])
    elif source.format == "json":
        json.dump([dict(fields) for fields in expected.values()], text, ensure_ascii=True, indent=0)
    elif source.format == "jsonl":
        text.writelines(json.dumps(dict(fields)) + "\n" for fields in expected.values())
    else:
        text.write("\n\n".join(str(fields["text"]) for fields in expected.values()) + "\n")
    opening, codec = _encoding(content, source.encoding or "utf-8")
    if not _can_encode(text.getvalue(), codec):
        opening, codec = b"", "utf-8"
    cleaned = opening + _encode(text.getvalue(), codec)
    return Fixed(cleaned, [Edit(0, len(cleaned), content)])


def _encoding(content: bytes, name: str) -> tuple[bytes, str]:
    """The byte order mark, and the codec of what follows it."""
    for mark, codec in _BOMS:
        if content.startswith(mark) and codecs.lookup(name).name.startswith(codec[:5]):
            return mark, codec
    return b"", codecs.lookup(name).name


def _errors(codec: str) -> str:
    return "strict" if codec.startswith(("utf-16", "utf-32")) else "surrogateescape"


def _encode(text: str, codec: str) -> bytes:
    return text.encode(codec, _errors(codec))


def _can_encode(text: str, codec: str) -> bool:
    try:
        _encode(text, codec)
    except UnicodeEncodeError:
        return False
    return True


def _line_starts(text: str) -> list[int]:
    """Offset of each physical line, as ``tables.split_lines`` counts them."""
    end = "\n" if "\n" in text or "\r" not in text else "\r"
    return [0, *(found.end() for found in re.finditer(end, text))]


def _fix_parquet(stored: bytes, rows: Sequence[RawRow], plan: Plan) -> Fixed:
    table = pq.read_table(io.BytesIO(stored))
    kept = [row.record - 1 for row in rows if row.record not in plan.drop]
    touched = [
        row.record - 1 for row in rows if row.record in plan.drop or row.record in plan.changed
    ]
    originals = table.take(pa.array(touched, pa.int64()))
    cleaned = table
    names = [name for name in table.column_names if name in plan.columns] or table.column_names
    changed = {record - 1: texts for record, texts in plan.changed.items()}
    left = set(changed)
    for name in names if changed else ():
        values = table.column(name).to_pylist()
        for index, texts in changed.items():
            after = change_texts(values[index], texts)
            if after != values[index]:
                values[index] = after
                left.discard(index)
        index = table.column_names.index(name)
        kind = table.schema.field(name)
        cleaned = cleaned.set_column(index, kind, pa.array(values, type=kind.type))
    cleaned = cleaned.take(pa.array(kept, pa.int64()))
    out = io.BytesIO()
    pq.write_table(cleaned, out)
    content = out.getvalue()
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, originals.schema) as writer:
        writer.write_table(originals)
    # An Arrow stream holds the rows in order; their numbers are in the patch.
    fixed = Fixed(content, originals=stream.getvalue(), left=tuple(sorted(i + 1 for i in left)))
    numbers = [index + 1 for index in touched]
    if not undo_parquet(content, fixed.originals, numbers, len(rows), plan.drop).equals(
        table, check_metadata=True
    ):
        raise not_the_original("the Parquet file")
    return fixed


def undo_parquet(
    content: bytes,
    originals: bytes,
    records: Sequence[int],
    num_records: int,
    drop: Collection[int],
) -> pa.Table:
    """The original table from a cleaned copy.

    Args:
        content: the cleaned copy.
        originals: the rows that were left out or changed, as an Arrow stream.
        records: their record numbers.
        num_records: of the original.
        drop: record numbers that are not in the copy.
    """
    cleaned = pq.read_table(io.BytesIO(content))
    if not records:
        return cleaned
    with pa.ipc.open_stream(io.BytesIO(originals)) as reader:
        kept_rows = reader.read_all()
    both = pa.concat_tables([cleaned, kept_rows]).unify_dictionaries().combine_chunks()
    place = {record: cleaned.num_rows + index for index, record in enumerate(records)}
    order = []
    at = 0
    for record in range(1, num_records + 1):
        order.append(place.get(record, at))
        at += record not in drop
    return both.take(pa.array(order, pa.int64())).replace_schema_metadata(cleaned.schema.metadata)


def not_the_original(path: str) -> IntegrityError:
    """E0923."""
    return IntegrityError(
        "E0923",
        f"the cleaned copy of {path} does not lead back to the original",
        hint="this is a bug of fettle: please report it with the kind of file",
    )
