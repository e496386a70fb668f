"""JSON and JSONL text -> rows, each with the line on which it starts.

In: text. Out: rows, or DataError when a whole JSON file can't be parsed. Must not know: files, what
the fields mean.

Shapes of a JSON file that are understood:
    [{...}, ...]                           a list of objects
    [[text, label], ...]  ["text", ...]    a list of lists (columns "0", "1", ...) or of texts
    {"train": [...], "test": [...]}        lists by name; the name becomes the column "split";
                                           empty lists and plain values may stand beside them
    {"greeting": ["hi", ...], ...}         lists by name; the name becomes the column "key"
    {"text": [...], "label": [...]}        columns
    {"id1": {...}, "id2": {...}}           objects by name; the name becomes the column "key"
    {"data": {"examples": [...]}}          any of these one or two levels down
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.data.reading.decode import MAX_RECORD_CHARS, printable
from fettle.data.reading.names import COMPLETION, LABEL, PROMPT, TEXT, normal, split_of
from fettle.data.reading.tables import split_lines
from fettle.errors import DataError
from fettle.records.rows import RawRow

MAX_DEPTH = 100
"""Deeper nesting in a record is malformed: nothing below needs it, and recursion has an end."""

_KEY = re.compile(r'"[ \t]*:')
_SPACE = re.compile(r"[ \t\r\n]*")
_INVALID = re.compile("[\udc80-\udcff]")
_COLUMN_NAMES = frozenset(TEXT + LABEL + PROMPT + COMPLETION) | {"id"}
_TURN_KEYS = frozenset({"role", "from", "speaker", "author", "sender"})


def looks_like_jsonl(text: str) -> bool:
    """Whether the first lines, at least two of them, are JSON values of their own."""
    good = bad = 0
    for line in _head(text):
        if line.lstrip()[:1] in ("{", "["):
            try:
                value = _loads(line)
            except (ValueError, RecursionError):
                bad += 1
            else:
                good += isinstance(value, dict | list)
        else:
            bad += 1
    return good > bad and good + bad > 1


def read_jsonl(text: str, source: str) -> list[RawRow]:
    """One JSON value a line. A line that is none is a malformed row."""
    rows: list[RawRow] = []
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        record = len(rows) + 1
        if len(line) > MAX_RECORD_CHARS:
            rows.append(_oversized(source, record, number, line, len(line)))
            continue
        try:
            value = _loads_line(line)
        except RecursionError:
            reason = f"JSON nested deeper than {MAX_DEPTH} levels"
            rows.append(RawRow(source, record, number, {"raw": line[:1000]}, reason))
            continue
        except ValueError as error:
            reason = f"not JSON: {_explain(line, error)}"
            rows.append(RawRow(source, record, number, {"raw": printable(line)}, reason))
            continue
        rows.append(_row(source, record, number, value, line))
    return rows


def read_json(text: str, source: str, has_invalid: bool) -> list[RawRow]:
    """The records of one JSON document.

    Args:
        text: the document.
        source: name for the rows.
        has_invalid: whether the text holds bytes that could not be decoded.
    Raises:
        DataError: E0324 not JSON, E0325 JSON without records, or with several kinds of them.
    """
    try:
        document = _loads_strictly(text)
    except RecursionError:
        raise DataError(
            "E0324",
            f"{source} is nested too deeply to be read",
            why=f"fettle reads records of up to {MAX_DEPTH} levels",
            hint="give a list of flat objects, for example as JSONL",
        ) from None
    except ValueError as error:
        where = source
        if isinstance(error, json.JSONDecodeError):
            where = f"{source}:{error.lineno}, column {error.colno}"
        raise DataError(
            "E0324",
            f"{source} is not valid JSON: {_explain(text, error)}",
            where=where,
            hint="mend the file at that place, or fetch it again if it was cut short",
        ) from error
    try:
        records = list(_find(document, (), 0))
    except _SeveralLists as several:
        first, *others = (f"{place} ({count:,})" for place, count in several.counts.items())
        raise DataError(
            "E0325",
            f"{source} holds records in several places: {first}, and beside it {', '.join(others)}",
            why="They are not of one kind: one would be read and the others be lost",
            hint="give the rows as one list, or each list as a file of its own",
        ) from None
    key = _doubled_container(document, records)
    if key is not None:
        raise DataError(
            "E0324",
            f"{source} is not valid JSON: the key {key!r} stands twice in an object",
            why="What stands under it the first time would be lost",
            hint="join the two, or rename one",
        )
    if not records:
        raise DataError(
            "E0325",
            f"{source} holds no records",
            why=f"It is {_describe(document)}; rows are a list of objects, an object of lists,"
            " or either of them one or two levels down",
            hint="give the part that holds the rows as a JSON list or as JSONL",
        )
    lines = _lines_of(text, records)
    rows = []
    for index, ((_, extra, value), (line, size)) in enumerate(
        zip(records, lines, strict=True), start=1
    ):
        if size > MAX_RECORD_CHARS:
            raw = json.dumps(value)[:1000]
            rows.append(_oversized(source, index, line, raw, size))
            continue
        if has_invalid and _has_invalid(value):
            raw = json.dumps(value, ensure_ascii=False)
            fault = "invalid bytes in a value"
            rows.append(RawRow(source, index, line, {"raw": printable(raw)}, fault))
            continue
        rows.append(_row(source, index, line, value, None, extra))
    return rows


_Path = tuple[str | int, ...]
_Record = tuple[_Path, Mapping[str, Any], Any]


def _find(value: Any, path: _Path, depth: int) -> Iterator[_Record]:
    """Every record below ``value`` with its path and the fields that its place adds."""
    if isinstance(value, list):
        if path or any(isinstance(item, dict | list | str) for item in value):
            yield from (((*path, index), {}, item) for index, item in enumerate(value))
        return
    if not isinstance(value, dict) or not value:
        return
    items = list(value.items())
    if _is_record(value):
        yield path, {}, value
        return
    if (columns := _columns(value)) is not None:
        yield from ((("",), {}, row) for row in columns)
        return
    lists = _named_lists(value)
    if lists:
        name = "split" if all(map(split_of, lists)) else "key"
        for key, item in lists.items():
            for index, entry in enumerate(item):
                yield (*path, key, index), {name: key}, entry
        return
    if len(items) > 1 and all(isinstance(v, dict) and not _is_wrapper(v) for _, v in items):
        yield from (((*path, key), {"key": key}, item) for key, item in items)
        return
    if depth < 3:
        # A wrapper such as {"version": 1, "data": [...]}: the one list of records in it.
        found = {
            key: records
            for key, item in items
            if (isinstance(item, dict) or _is_record_list(item))
            and (records := list(_find(item, (*path, key), depth + 1)))
        }
        if found:
            yield from _only(found, path)
            return
    if depth == 0 and any(isinstance(item, str) for _, item in items):
        yield path, {}, value


class _SeveralLists(Exception):
    """A document with records in several places that are not of one kind."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        super().__init__(str(counts))
        self.counts = counts
        """Place -> records there, the most first."""


def _named_lists(value: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The lists of an object that holds several of one kind, by name; none where it does not.

    Empty lists may stand among them, and what is plain beside them, such as a version.
    """
    lists = {key: item for key, item in value.items() if item == [] or _is_record_list(item)}
    full = [item for item in lists.values() if item]
    # One list with records among empty ones is a side only if all of them are named like sides.
    several = len(full) > 1 or (len(full) == 1 < len(lists) and all(map(split_of, lists)))
    beside = [item for key, item in value.items() if key not in lists]
    is_plain = all(
        _is_record(item) if isinstance(item, dict) else not isinstance(item, list)
        for item in beside
    )
    if several and is_plain and _are_alike([_first(item) for item in full]):
        return lists
    return {}


def _only(found: Mapping[str, Sequence[_Record]], path: _Path) -> Sequence[_Record]:
    """The records of a wrapper; what tells about them (names of labels, a licence) is left out.

    Raises:
        _SeveralLists: others would be lost.
    """
    by_size = sorted(found, key=lambda key: -len(found[key]))
    rows = [key for key in by_size if split_of(key) or not _is_about(found[key], (*path, key))]
    if len(rows) > 1:
        raise _SeveralLists({".".join(map(str, (*path, k))): len(found[k]) for k in rows})
    return found[rows[0] if rows else by_size[0]]


_RASA = "rasa_nlu_data"
_RASA_PATTERNS = ("regex_features", "lookup_tables", "entity_synonyms")


def _is_about(records: Sequence[_Record], path: _Path) -> bool:
    """Whether these are no rows: one object of plain values, texts alone, or a part of Rasa's NLU
    format that holds patterns and synonyms."""
    if path[:1] == (_RASA,) and path[-1] in _RASA_PATTERNS:
        return True
    return records[0][0] == path or all(isinstance(item, str) for _, _, item in records)


def _first(items: Sequence[Any]) -> Any:
    return next(item for item in items if isinstance(item, dict | list | str))


def _are_alike(values: Sequence[Any]) -> bool:
    """Records of one kind: objects that share half of their names, or values of one type."""
    first = values[0]
    if isinstance(first, dict):
        return all(
            isinstance(value, dict) and 2 * len(first.keys() & value.keys()) >= len(first)
            for value in values
        )
    return all(type(value) is type(first) for value in values)


def _is_record_list(value: Any) -> bool:
    return isinstance(value, list) and any(
        isinstance(item, dict | list | str) for item in value[:100]
    )


def _is_wrapper(value: Mapping[str, Any]) -> bool:
    """An object that is no row itself but holds lists of rows."""
    return any(
        isinstance(item, list) and item and isinstance(item[0], dict | list)
        for item in value.values()
    )


def _is_record(value: Mapping[str, Any]) -> bool:
    """A single row: an object with a conversation, or one whose values are all plain."""
    for item in value.values():
        if isinstance(item, list) and item and isinstance(item[0], dict):
            return bool(_TURN_KEYS & set(item[0]))
        if isinstance(item, dict | list):
            return False
    return True


def _columns(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Rows of a column-oriented object: lists (or pandas' index objects) of one length."""
    if not any(normal(name) in _COLUMN_NAMES for name in value):
        return None
    cells = list(value.values())
    if all(isinstance(item, dict) for item in cells):
        keys = list(cells[0])
        if not keys or any(list(item) != keys for item in cells):
            return None
        cells = [[item[key] for key in keys] for item in cells]
    elif not all(isinstance(item, list) for item in cells):
        return None
    lengths = {len(item) for item in cells}
    if len(lengths) != 1 or lengths == {0}:
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]


def _row(
    source: str,
    record: int,
    line: int | None,
    value: Any,
    raw: str | None,
    extra: Mapping[str, Any] | None = None,
) -> RawRow:
    """A parsed value as a row: objects by name, lists by position, a text as "text"."""
    if isinstance(value, dict):
        fields: dict[str, Any] = dict(value)
    elif isinstance(value, list):
        fields = {str(index): item for index, item in enumerate(value)}
    elif isinstance(value, str):
        fields = {"text": value}
    else:
        fields = {}
    if extra:
        fields.update({key: item for key, item in extra.items() if key not in fields})
    key = _doubled(value)
    if key is not None:
        reason: str | None = f"the key {key!r} stands twice in an object"
    elif isinstance(value, dict | list | str):
        reason = _fault(value, raw)
    else:
        reason = f"{_describe(value)} where an object is expected"
    if reason is None:
        return RawRow(source, record, line, fields)
    shown = raw if raw is not None else json.dumps(value)[:MAX_RECORD_CHARS]
    return RawRow(source, record, line, {"raw": printable(shown)}, reason)


def _fault(value: Any, raw: str | None) -> str | None:
    if raw is not None:
        if not raw.isascii() and (found := _INVALID.search(raw)):
            return f"invalid byte 0x{ord(found[0]) - 0xDC00:02x} at column {found.start() + 1}"
        if raw.count("{") + raw.count("[") <= MAX_DEPTH:
            return None
    if not _shallow(value, MAX_DEPTH):
        return f"JSON nested deeper than {MAX_DEPTH} levels"
    return None


def _has_invalid(value: Any) -> bool:
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) and not item.isascii() and _INVALID.search(item):
            return True
    return False


def _shallow(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_shallow(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_shallow(item, depth - 1) for item in value)
    return True


def _lines_of(text: str, records: Sequence[_Record]) -> list[tuple[int | None, int]]:
    """Line and length in characters of each record; (None, 0) where the walk can't tell.

    The document is scanned a second time along the paths of its records; each value is skipped at
    the speed of the C parser.
    """
    found: list[tuple[int | None, int]] = [(None, 0)] * len(records)
    line, position = 1, 0
    spans = sorted(_spans(text, records), key=lambda span: span.start)
    for span in spans:
        line += text.count("\n", position, span.start)
        position = span.start
        found[span.index] = (line, span.end - span.start)
    return found


@dataclass(frozen=True, slots=True)
class Span:
    """Where one record of a JSON document stands, in characters."""

    index: int
    """From 0, in the order of the records."""
    container: tuple[str | int, ...]
    """Path of the list or object that holds it."""
    begin: int
    """Start of its key in an object, else of the record."""
    start: int
    end: int


def find_spans(text: str) -> list[Span]:
    """Where the records of a document stand; empty where they are no parts of its text (columns).

    Args:
        text: a document that ``read_json`` reads.
    """
    return _spans(text, list(_find(_loads(text), (), 0)))


def _spans(text: str, records: Sequence[_Record]) -> list[Span]:
    wanted = {path: index for index, (path, _, _) in enumerate(records)}
    if len(wanted) != len(records):
        return []
    containers = {path[:length] for path in wanted for length in range(len(path))}
    spans: dict[_Path, tuple[int, int, int]] = {}
    scan = json.JSONDecoder(parse_constant=_constant).raw_decode
    at = _skip(text, 0)
    _walk(text, at, at, (), containers, wanted, spans, scan)
    if len(spans) != len(wanted):
        return []
    return [Span(wanted[path], path[:-1], *where) for path, where in spans.items()]


def _walk(
    text: str,
    begin: int,
    at: int,
    path: _Path,
    containers: set[_Path],
    wanted: Mapping[_Path, int],
    spans: dict[_Path, tuple[int, int, int]],
    scan: Callable[[str, int], tuple[Any, int]],
) -> int:
    """Scan one value that starts at ``at``; note the spans of wanted values; return its end."""
    if path in wanted or path not in containers:
        _, end = scan(text, at)
        if path in wanted:
            spans[path] = (begin, at, end)
        return end
    is_object = text[at] == "{"
    close = "}" if is_object else "]"
    at = _skip(text, at + 1)
    index = 0
    while text[at] != close:
        key: str | int = index
        begin = at
        if is_object:
            key, at = scan(text, at)
            at = _skip(text, _skip(text, at) + 1)
        at = _skip(text, _walk(text, begin, at, (*path, key), containers, wanted, spans, scan))
        if text[at] == ",":
            at = _skip(text, at + 1)
        index += 1
    return at + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _head(text: str) -> Iterator[str]:
    """Up to 20 lines that are not blank, from the first million characters."""
    lines = [line for line in text[: 1 << 20].split("\n", 40)[:40] if line.strip()]
    if len(text) > 1 << 20 and len(lines) > 1:
        lines.pop()
    return iter(lines[:20])


def _constant(name: str) -> None:
    """NaN and Infinity are not JSON; writers that leave them mean a missing value."""
    del name


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_constant)


class _Doubled(dict[str, Any]):
    """An object in which a key stands twice: one of its values would be lost unnoticed."""

    key: str = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    doubled = _Doubled(value)
    doubled.key = next(key for key, count in Counter(k for k, _ in pairs).items() if count > 1)
    return doubled


def _loads_strictly(text: str) -> Any:
    """As ``_loads``, but objects with a key twice are ``_Doubled``."""
    return json.loads(text, parse_constant=_constant, object_pairs_hook=_object)


def _loads_line(line: str) -> Any:
    value = _loads(line)
    # A flat object has as many colons behind quotes as keys; others are looked at more closely.
    if isinstance(value, dict) and len(_KEY.findall(line)) != len(value):
        return _loads_strictly(line)
    return value


def _doubled_container(document: Any, records: Sequence[_Record]) -> str | None:
    """The key that stands twice in an object around the records, not in one of them."""
    paths = {path[:length] for path, _, _ in records for length in range(len(path))}
    for path in paths:
        item = document
        for step in path:
            item = _step(item, step)
        if isinstance(item, _Doubled):
            return item.key
    return None


def _step(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    is_inside = isinstance(value, list) and isinstance(step, int)
    return value[step] if is_inside else None


def _doubled(value: Any) -> str | None:
    """The key that stands twice in an object inside a value."""
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, _Doubled):
            return item.key
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return None


def _explain(text: str, error: ValueError) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return str(error).split(";")[0]
    near = printable(text[max(error.pos - 15, 0) : error.pos + 15]).replace("\n", "\\n")
    return f"{error.msg} near {near!r}"


def _describe(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")


def _oversized(source: str, record: int, line: int | None, raw: str, size: int) -> RawRow:
    reason = f"record of {size:,} characters; the limit is {MAX_RECORD_CHARS:,}"
    return RawRow(source, record, line, {"raw": printable(raw[:1000])}, reason)
