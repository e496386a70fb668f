"""Delimited text (CSV, TSV, semicolons, pipes) -> rows, each with the line on which it starts.

In: text. Out: a ``Table``. Must not know: files, what columns mean beyond their usual names.

Python's csv module splits the fields; what is added here: the delimiter, whether quotes quote at
all (tweets with a lone double quote must not swallow the rows after them), whether there is a
header, and that reading goes on after a broken record: the line on which it starts is malformed and
the next line starts afresh.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fettle.data.reading.decode import MAX_RECORD_CHARS, printable
from fettle.data.reading.names import is_known_name
from fettle.records.rows import RawRow

DELIMITERS = ("\t", ",", ";", "|")
_SAMPLE_LINES = 1000
_HEADER_CELL = re.compile(r"[^\W\d]\w*(?:[ _./()#-]+\w*){0,3}\??")
_INVALID = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Table:
    """A delimited file."""

    rows: list[RawRow]
    delimiter: str
    header: bool
    columns: tuple[str, ...]
    quoted: bool
    """False: double quotes are ordinary characters in this file."""


@dataclass(slots=True)
class _Cut:
    """A record cut out of the text: its 1-based first line, raw text, and cells or a reason."""

    line: int
    raw: str
    cells: list[str]
    malformed: str | None = None


def read_table(
    text: str, source: str, delimiter: str, header: bool | None, has_invalid: bool
) -> Table:
    """Rows of a delimited text. Blank lines are no records.

    Args:
        text: the whole file.
        source: name for the rows.
        delimiter: one character.
        header: whether the first record holds the names; None = find out.
        has_invalid: whether the text holds bytes that could not be decoded.
    """
    lines = split_lines(text)
    cuts, quoted = _cut(lines, delimiter, '"' in text)
    good = [cut.cells for cut in cuts[:_SAMPLE_LINES] if cut.malformed is None]
    width = _modal_width(good)
    first_is_header = False
    if good and cuts[0].malformed is None:
        first_is_header = header if header is not None else has_header(good, width)
    names: tuple[str, ...] = tuple(str(index) for index in range(width))
    if first_is_header:
        names = _unique_names(cuts.pop(0).cells)
        width = len(names)
    rows = []
    for record, cut in enumerate(cuts, start=1):
        reason = cut.malformed or _fault(cut, width, has_invalid)
        if reason is None:
            fields: dict[str, str] = dict(zip(names, cut.cells, strict=False))
        else:
            fields = {"raw": printable(cut.raw)}
        rows.append(RawRow(source, record, cut.line, fields, reason))
    return Table(rows, delimiter, first_is_header, names, quoted)


def split_lines(text: str) -> list[str]:
    """Physical lines without their ends; a lone carriage return ends a line only in old files."""
    if "\n" not in text and "\r" in text:
        text = text.replace("\r", "\n")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def sniff_delimiter(text: str, preferred: str | None) -> tuple[str, float, int]:
    """The delimiter that cuts the first lines into records of the same width.

    Args:
        text: the file.
        preferred: wins a tie (from the suffix).
    Returns:
        Delimiter, share of records of the usual width (0 when that width is one), and that width.
    """
    lines = split_lines(text[: 256 * 1024])
    if len(text) > 256 * 1024 and len(lines) > 1:
        lines.pop()
    best = (0.0, False, False, False, 0, preferred or ",", 1)
    for rank, delimiter in enumerate(DELIMITERS):
        if delimiter not in text[: 256 * 1024]:
            continue
        cuts, _ = _cut(lines[:_SAMPLE_LINES], delimiter, any('"' in line for line in lines))
        good = [cut.cells for cut in cuts if cut.malformed is None]
        width = _modal_width(good)
        if width < 2:
            continue
        share = sum(len(cells) == width for cells in good) / max(len(cuts), 1)
        named = has_header(good, width)
        # Punctuation inside a text is followed by a space, a delimiter hardly ever is.
        later = [cell for cells in good for cell in cells[1:]]
        tight = sum(cell[:1] != " " for cell in later) > 0.5 * len(later)
        rated = (round(share, 2), named, tight, delimiter == preferred, -rank, delimiter, width)
        best = max(best, rated)
    return best[5], best[0], best[6]


def has_header(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether the first of these rows names the columns.

    It does when its cells look like names and one of them is a usual name of a column, or differs
    in kind from the column below it (a word above numbers, above long texts, or above values that
    repeat while it never does).
    """
    first, body = rows[0], rows[1:]
    names = [cell.strip() for cell in first]
    filled = [name for name in names if name]
    if not filled or len(filled) < len(names) - 1:
        return False
    if len(set(filled)) < len(filled):
        # A name twice is a mistake in a header, and more often no header at all.
        return len(set(filled)) > 1 and any(is_known_name(name) for name in filled)
    if not all(len(name) <= 60 and _HEADER_CELL.fullmatch(name) for name in filled):
        return False
    if any(is_known_name(name) for name in filled):
        return True
    if len(first) != width:
        return False
    evidence = False
    for index, name in enumerate(names):
        column = [row[index].strip() for row in body if index < len(row) and row[index].strip()]
        if not name or not column:
            continue
        if name in column:
            return False
        numeric = sum(_is_number(value) for value in column) / len(column)
        spaced = sum(" " in value for value in column) / len(column)
        mean_length = sum(map(len, column)) / len(column)
        repeats = len(set(column)) <= 0.5 * len(column)
        evidence |= numeric > 0.9 or repeats
        evidence |= spaced > 0.8 and mean_length > 3 * len(name)
    return evidence


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _unique_names(cells: Sequence[str]) -> tuple[str, ...]:
    """Header cells as names: an empty one gets its index, a repeated one a number."""
    names: list[str] = []
    for index, cell in enumerate(cells):
        name = printable(cell.strip()) or str(index)
        count = 2
        unique = name
        while unique in names:
            unique = f"{name}_{count}"
            count += 1
        names.append(unique)
    return tuple(names)


def _modal_width(rows: Sequence[Sequence[str]]) -> int:
    widths = Counter(len(cells) for cells in rows)
    return max(widths, key=lambda width: (widths[width], -width), default=1)


def _fault(cut: _Cut, width: int, has_invalid: bool) -> str | None:
    """Why a record that was cut well can't be used; drops empty cells beyond the last column."""
    if has_invalid and (found := _INVALID.search(cut.raw)):
        return f"invalid byte 0x{ord(found[0]) - 0xDC00:02x} at column {found.start() + 1}"
    if "\x00" in cut.raw:
        return f"NUL byte at column {cut.raw.index(chr(0)) + 1}"
    while len(cut.cells) > width and not cut.cells[-1].strip():
        cut.cells.pop()
    if len(cut.cells) != width:
        return f"{len(cut.cells)} fields where {width} are expected"
    return None


def _cut(lines: Sequence[str], delimiter: str, has_quotes: bool) -> tuple[list[_Cut], bool]:
    """Records of the file, and whether double quotes quote.

    Quotes are tried first. They are taken literally when that breaks fewer records. With tabs one
    record is reason enough, and so is a quoted record over several lines one of which is a record
    on its own: tab-separated files mostly know no quoting. With other delimiters quoting is the
    rule, and a few broken records are just that.
    """
    if not has_quotes:
        return _cut_plain(lines, delimiter), False
    quoted = _cut_quoted(lines, delimiter)
    broken = sum(cut.malformed is not None for cut in quoted)
    width = _modal_width([cut.cells for cut in quoted if cut.malformed is None])
    broken += sum(cut.malformed is None and len(cut.cells) != width for cut in quoted)
    allowed = max(3.0, 0.02 * len(quoted))
    if delimiter == "\t":
        allowed = 0
        broken += sum(
            any(line.count(delimiter) == width - 1 for line in cut.raw.split("\n")[1:])
            for cut in quoted
            if width > 1 and "\n" in cut.raw
        )
    if broken <= allowed:
        return quoted, True
    plain = _cut_plain(lines, delimiter)
    plain_width = _modal_width([cut.cells for cut in plain if cut.malformed is None])
    plain_broken = sum(len(cut.cells) != plain_width for cut in plain)
    if plain_width > 1 and plain_broken < broken:
        return plain, False
    return quoted, True


def _cut_plain(lines: Sequence[str], delimiter: str) -> list[_Cut]:
    cuts = []
    for number, line in enumerate(lines, start=1):
        stripped = line.rstrip("\r")
        if not stripped.strip(" "):
            continue
        if len(stripped) > MAX_RECORD_CHARS:
            cuts.append(_oversized(number, stripped, len(stripped)))
        else:
            cuts.append(_Cut(number, stripped, stripped.split(delimiter)))
    return cuts


def _cut_quoted(lines: Sequence[str], delimiter: str) -> list[_Cut]:
    """Records by Python's strict csv reader; after an error it goes on with the next line.

    This is linear: a scan for a closing quote ends at the next odd run of quotes, so that two
    failed scans never cover the same text.
    """
    feed = _Feed(lines)
    cuts: list[_Cut] = []
    with _unlimited_fields():
        reader = csv.reader(feed, delimiter=delimiter, strict=True)
        while feed.next < len(lines):
            start = feed.next
            feed.start = start
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raw = lines[start].rstrip("\r")
                if feed.size > MAX_RECORD_CHARS:
                    cuts.append(_oversized(start + 1, raw, feed.size))
                else:
                    cuts.append(_Cut(start + 1, raw, [], _explain(str(error))))
                feed.next = start + 1
                continue
            raw = "\n".join(lines[start : feed.next]).rstrip("\r")
            if cells and (len(cells) > 1 or raw.strip(" ")):
                cuts.append(_Cut(start + 1, raw, cells))
    return cuts


class _Feed:
    """Lines for the csv reader; ends early when one record grows beyond the limit."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.next = 0
        self.start = 0
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.next >= len(self.lines):
            raise StopIteration
        line = self.lines[self.next]
        self.size = len(line) + (self.size if self.next > self.start else 0)
        if self.size > MAX_RECORD_CHARS:
            raise csv.Error("too long")
        self.next += 1
        return line + "\n"


@contextmanager
def _unlimited_fields() -> Iterator[None]:
    """The csv module's own limit (128 KiB) is process-wide; ours is MAX_RECORD_CHARS."""
    before = csv.field_size_limit(2 * MAX_RECORD_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _oversized(line: int, raw: str, size: int) -> _Cut:
    reason = f"record of {size:,} characters; the limit is {MAX_RECORD_CHARS:,}"
    return _Cut(line, raw[:1000], [], reason)


def _explain(error: str) -> str:
    if "end of data" in error:
        return "quote is never closed"
    if "expected after" in error:
        return "text after a closing quote"
    if "new-line character" in error:
        return "carriage return inside an unquoted field"
    return error
