"""Files of every kind, good and bad -> rows with the line on which each starts."""

import csv
import datetime
import gzip
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.data.reading import decode, read, tables
from fettle.errors import DataError, UsageError
from fettle.recipe.recipe import DataSection

Write = Callable[[str, str | bytes], str]
ROWS = [(f"text number {i}, with a comma", "abc"[i % 3]) for i in range(30)]
CSV = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


def read_path(*paths: str, **options: Any) -> read.ReadResult:
    return read.read(paths, DataSection(path=list(paths), **options))


def values(result: read.ReadResult) -> list[tuple[Any, ...]]:
    return [tuple(row.fields.values()) for row in result.rows if row.malformed is None]


def refused(code: str, *paths: str, **options: Any) -> str:
    with pytest.raises((DataError, UsageError)) as caught:
        read_path(*paths, **options)
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.csv", lambda text: text.encode()),
        ("a.csv", lambda text: b"\xef\xbb\xbf" + text.encode()),
        ("a.csv", lambda text: text.replace("\n", "\r\n").encode()),
        ("a.csv", lambda text: text.replace("\n", "\r").encode()),
        ("a.csv", lambda text: text.encode("utf-16")),
        ("a.csv", lambda text: text.encode("utf-16-le")),
        ("a.csv", lambda text: text.removesuffix("\n").encode()),
        ("a.csv.gz", lambda text: gzip.compress(text.encode())),
        ("a.csv", lambda text: gzip.compress(text.encode())),
        ("a.data", lambda text: text.encode()),
        ("a.txt", lambda text: text.encode()),
    ],
)
def test_the_same_table_however_it_is_stored(
    write: Write, name: str, encode: Callable[[str], bytes]
) -> None:
    result = read_path(write(name, encode(CSV)))
    assert values(result) == ROWS
    assert [row.line for row in result.rows] == list(range(2, 32))
    assert [row.record for row in result.rows] == list(range(1, 31))
    assert result.sources[0].columns == ("text", "label")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_delimiter_and_header_are_found(
    write: Write, delimiter: str, header: bool, suffix: str
) -> None:
    rows = [(f"text, number; {i} with words", "abc"[i % 3]) for i in range(30)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(["phrase", "kind"])
    writer.writerows(rows)
    source = read_path(write(f"a.{suffix}", buffer.getvalue())).sources[0]
    assert (source.delimiter, source.header) == (delimiter, header)
    assert source.columns == (("phrase", "kind") if header else ("0", "1"))


def test_lines_are_exact_with_newlines_inside_quotes(write: Write) -> None:
    text = 'text,label\n"one\ntwo",a\n\nthree,b\n"four\r\n\r\n""five""",a\nsix,b\n'
    result = read_path(write("a.csv", text))
    assert [row.line for row in result.rows] == [2, 5, 6, 9]
    assert values(result)[2] == ('four\r\n\r\n"five"', "a")


# Without control characters: many of them in a short file make it binary.
cells = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc",), include_characters="\n\t"), max_size=12
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=12))
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(("text", "label", "other"))
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(buffer.getvalue().encode())
    assert values(read_path(str(path), delimiter=",", encoding="utf-8")) == rows


def test_quotes_of_tweets_are_ordinary_characters(write: Write) -> None:
    lines = [f"{i}\tneutral\ta tweet number {i}" for i in range(40)]
    lines[5] = '5\tpositive\t"Yes we can" became a thing'
    lines[9] = '9\tneutral\t"never closed here'
    lines[20] = '20\tneutral\tends with one"'
    result = read_path(write("a.tsv", "\n".join(lines)))
    assert len(result.rows) == 40
    assert not any(row.malformed for row in result.rows)
    assert result.rows[5].fields["2"] == '"Yes we can" became a thing'


def test_two_lone_quotes_do_not_swallow_the_rows_between(write: Write) -> None:
    lines = [f"{i}\tneutral\ta tweet number {i}" for i in range(40)]
    lines[9] = '9\tneutral\t"opens'
    lines[20] = '20\tneutral\tcloses"'
    assert len(read_path(write("a.tsv", "\n".join(lines))).rows) == 40


def test_quoted_prose_with_commas_on_each_line_stays_quoted(write: Write) -> None:
    text = "text,label\n" + "".join(f'"line {i},\nand ""more""",{"ab"[i % 2]}\n' for i in range(30))
    result = read_path(write("a.csv", text))
    assert len(result.rows) == 30
    assert result.rows[0].fields["text"] == 'line 0,\nand "more"'


def test_malformed_rows_are_named_and_kept(write: Write) -> None:
    extra = 'a,b,c\nonly one\n"closed" badly,a\ngood,b\nnul \x00 here,a\n"never closed,a\nlast,b\n'
    path = write("a.csv", CSV.encode() + extra.encode() + b"bad \xff byte,a\n")
    result = read_path(path)
    bad = {row.line: row.malformed for row in result.rows if row.malformed}
    assert bad == {
        32: "3 fields where 2 are expected",
        33: "1 fields where 2 are expected",
        34: "text after a closing quote",
        36: "NUL byte at column 5",
        37: "quote is never closed",
        39: "invalid byte 0xff at column 5",
    }
    raw = {row.line: row.fields["raw"] for row in result.rows if row.malformed}
    assert raw[34] == '"closed" badly,a'
    assert raw[39] == "bad \\xff byte,a"
    assert [row.fields["text"] for row in result.rows[-5:] if not row.malformed] == [
        "good", "last",
    ]  # fmt: skip
    assert result.sources[0].num_malformed == 6


def test_too_many_malformed_rows_stop_with_their_places(write: Write) -> None:
    lines = [json.dumps({"text": "x", "label": "a"})] * 6 + ["{oops"] * 4
    path = write("a.jsonl", "\n".join(lines))
    message = refused("E0328", path)
    assert f"{path}:7" in message
    assert "4 of 10" in message
    assert len(read_path(path, max_malformed=0.4).rows) == 10


@pytest.mark.parametrize(
    ("text", "expected", "lines"),
    [
        ('[\n {"text": "x"},\n\n {"text": "y"}]', [("x",), ("y",)], [2, 4]),
        ('[["x", "a"],\n["y", "b"]]', [("x", "a"), ("y", "b")], [1, 2]),
        ('["x",\n"y"]', [("x",), ("y",)], [1, 2]),
        (
            '{"train": [\n["x", "a"]],\n"oos_test": [["y", "b"]]}',
            [("x", "a", "train"), ("y", "b", "oos_test")],
            [2, 3],
        ),
        ('{"hello": ["hi",\n"hey"], "bye": ["ciao"]}',
         [("hi", "hello"), ("hey", "hello"), ("ciao", "bye")], [1, 2, 2]),
        ('{"text": ["x", "y"], "label": ["a", "b"]}', [("x", "a"), ("y", "b")], [None, None]),
        ('{"text": {"0": "x", "1": "y"}, "label": {"0": "a", "1": "b"}}',
         [("x", "a"), ("y", "b")], [None, None]),
        ('{"id1": {"t": "x"},\n"id2": {"t": "y"}}', [("x", "id1"), ("y", "id2")], [1, 2]),
        ('{"v": 1, "data": {"examples": [\n{"t": "x"},\n{"t": "y"}], "names": ["n"]}}',
         [("x",), ("y",)], [2, 3]),
        ('{"text": "x", "label": "a"}', [("x", "a")], [1]),
        ('{"train": [{"t": "x"}], "test": [{"t": "y"}], "dev": [], "version": "1", "by": {"n": 1}}',
         [("x", "train"), ("y", "test")], [1, 1]),
        ('{"train": [{"t": "x"}], "test": []}', [("x", "train")], [1]),
        ('{"data": [{"t": "x"}, {"t": "y"}], "errors": [], "classes": ["a", "b", "c"]}',
         [("x",), ("y",)], [1, 1]),
        ('{"train": [null, "a", "b", "c"], "test": ["d", "e"]}',
         [(x, "train") for x in "abc"] + [("d", "test"), ("e", "test")], [1] * 6),
    ],
)  # fmt: skip
def test_shapes_of_json(
    write: Write, text: str, expected: list[tuple[str, ...]], lines: list[int | None]
) -> None:
    result = read_path(write("a.json", text))
    assert values(result) == expected
    assert [row.line for row in result.rows] == lines


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{"train": [{"t": "x"}, {"t": "z"}], "test": ["y"]}', ("train (2)", "test (1)")),
        ('{"images": [{"i": 1}], "notes": [{"n": 1}, {"n": 2}]}', ("notes (2)", "images (1)")),
        ('{"one": {"train": [{"t": "x"}]}, "two": {"test": [{"t": "y"}]}}', ("one", "two")),
        ('{"data": {"a": [{"x": 1}], "b": [[1]], "c": 1}}', ("data.a (1)", "data.b (1)")),
    ],
)
def test_records_in_several_places_are_never_left_out_silently(
    write: Write, text: str, places: tuple[str, ...]
) -> None:
    message = refused("E0325", write("a.json", text))
    assert all(place in message for place in places)


def test_patterns_and_synonyms_of_rasa_are_no_rows(write: Write) -> None:
    rows = [{"text": "lights off", "intent": "lights"}, {"text": "wake me", "intent": "alarm"}]
    patterns = [{"name": "alarm", "pattern": "wake"}]
    document = {"common_examples": rows, "entity_examples": [], "regex_features": patterns}
    result = read_path(write("a.json", json.dumps({"rasa_nlu_data": document})))
    assert [row.fields for row in result.rows] == rows
    assert refused("E0325", write("b.json", json.dumps({"other": document})))


def test_a_single_conversation_is_one_record(write: Write) -> None:
    conversation = {"messages": [{"role": "user", "content": "hi"}]}
    for name in ("a.json", "a.jsonl"):
        result = read_path(write(name, json.dumps(conversation)))
        assert [row.fields for row in result.rows] == [conversation]


def test_the_content_decides_not_the_suffix(write: Write) -> None:
    lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS)
    for name in ("a.jsonl", "a.json", "a.csv", "a.txt", "a"):
        result = read_path(write(name, lines))
        assert (result.sources[0].format, len(result.rows)) == ("jsonl", 30)
    array = json.dumps([{"text": text} for text, _ in ROWS], indent=1)
    for name in ("a.jsonl", "a.json", "a"):
        assert read_path(write(name, array)).sources[0].format == "json"


def test_parquet_with_types_that_json_lacks(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["x", None],
            "when": [datetime.date(2024, 1, 2), None],
            "number": [1.5, float("nan")],
            "turns": [[{"role": "user", "content": "hi"}], []],
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    result = read_path(str(path))
    assert [dict(row.fields) for row in result.rows] == [
        {"text": "x", "when": "2024-01-02", "number": 1.5,
         "turns": [{"role": "user", "content": "hi"}]},
        {"text": None, "when": None, "number": None, "turns": []},
    ]  # fmt: skip
    assert result.rows[0].line is None
    path.write_bytes(path.read_bytes()[:-20])
    refused("E0329", str(path))


def test_plain_text_by_line_by_paragraph_and_by_file(write: Write, tmp_path: Path) -> None:
    assert [(r.line, r.fields["text"]) for r in read_path(write("a.txt", "One.\nTwo.\n")).rows] == [
        (1, "One."), (2, "Two."),
    ]  # fmt: skip
    paragraphs = read_path(write("b.md", "\n# Head\nmore\n\n\nTail, end\n")).rows
    assert [(r.line, r.fields["text"]) for r in paragraphs] == [
        (2, "# Head\nmore"), (6, "Tail, end"),
    ]  # fmt: skip
    for number in range(20):
        write(f"many/{number:02}.txt", f"Part {number}.\n\nEnd.")
    files = read_path(str(tmp_path / "many"))
    assert [r.fields["text"] for r in files.rows][:2] == ["Part 0.\n\nEnd.", "Part 1.\n\nEnd."]


def test_a_folder_gives_its_data_files_and_says_what_it_left_out(
    write: Write, tmp_path: Path
) -> None:
    for name in ("d/b.csv", "d/a.csv.gz", "d/sub/c.csv"):
        write(name, gzip.compress(CSV.encode()) if name.endswith("gz") else CSV)
    for name in ("d/README.md", "d/LICENSE", "d/x.bin", "d/.hidden.csv"):
        write(name, "text")
    write("d/notes.txt", "Some prose.\nMore prose.")
    result = read_path(str(tmp_path / "d"))
    assert [Path(source.path).name for source in result.sources] == ["a.csv.gz", "b.csv", "c.csv"]
    assert {Path(name).name for name, _ in result.skipped} == {
        "README.md", "LICENSE", "x.bin", "notes.txt",
    }  # fmt: skip
    assert len(result.rows) == 90
    twice = read_path(str(tmp_path / "d" / "b.csv"), str(tmp_path / "d"))
    assert len(twice.rows) == 90


def test_other_encodings(write: Write) -> None:
    french = "text,label\n" + "".join(f"déjà vu à la crémerie n°{i},{i % 3}\n" for i in range(50))
    result = read_path(write("fr.csv", french.encode("cp1252")))
    assert result.sources[0].encoding == "cp1252"
    assert result.rows[0].fields["text"] == "déjà vu à la crémerie n°0"
    russian = "text,label\n" + "".join(f"где мой заказ номер {i},{i % 3}\n" for i in range(50))
    result = read_path(write("ru.csv", russian.encode("cp1251")))
    assert result.rows[0].fields["text"] == "где мой заказ номер 0"
    koi = read_path(write("koi.csv", russian.encode("koi8-r")), encoding="koi8-r")
    assert koi.rows[0].fields["text"] == "где мой заказ номер 0"
    refused("E0133", write("x.csv", CSV), encoding="utf-99")
    refused("E0323", write("y.csv", CSV + "x"), encoding="utf-32")


@pytest.mark.parametrize(
    ("code", "name", "content"),
    [
        ("E0326", "a.csv", b""),
        ("E0326", "a.csv", b"\n \r\n"),
        ("E0326", "a.csv", b"text,label\n"),
        ("E0326", "a.jsonl", b"\n"),
        ("E0325", "a.json", b"[]"),
        ("E0325", "a.json", b'{"a": 1, "b": {"c": []}}'),
        ("E0320", "a.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9),
        ("E0320", "a.json", pickle.dumps([{"a": 1}])),
        ("E0320", "a.json", pickle.dumps([{"a": 1}], protocol=0)),
        ("E0320", "a", b"\x7fELF" + bytes(4000)),
        ("E0320", "a.csv", os.urandom(20_000)),
        ("E0320", "a.xlsx", b"PK\x03\x04" + bytes(400)),
        ("E0321", "a.csv.gz", gzip.compress(CSV.encode())[:-30]),
        ("E0321", "a.csv.gz", b"\x1f\x8b" + bytes(50)),
        ("E0324", "a.json", b'[{"text": "x"}, {"text'),
        ("E0324", "a.json", b"[" * 100_000 + b"]" * 100_000),
        ("E0324", "a.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("E0328", "a.jsonl", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("E0328", "a.jsonl", b'{"a":' + b"[" * 150 + b"]" * 150 + b"}"),
        ("E0328", "a.jsonl", b'{"a": ' + b"9" * 10_000 + b"}"),
    ],
)
def test_bad_files_get_one_clear_error(write: Write, code: str, name: str, content: bytes) -> None:
    message = refused(code, write(name, content))
    assert "hint: " in message
    assert len(message) < 1500


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    refused("E0130", str(tmp_path / "missing.csv"))
    refused("E0131", os.devnull)
    refused("E0327", str(tmp_path))


def test_options_decide(write: Write) -> None:
    path = write("a.txt", "x;y\nz;w\n")
    assert values(read_path(path, delimiter="semicolon")) == [("x", "y"), ("z", "w")]
    assert values(read_path(path, delimiter=";", header=True)) == [("z", "w")]
    assert values(read_path(path, format="text")) == [("x;y",), ("z;w",)]
    refused("E0132", path, delimiter="ab")


def test_an_oversized_record_is_malformed_and_reading_goes_on(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (decode, tables, read):
        monkeypatch.setattr(module, "MAX_RECORD_CHARS", 1000)
    monkeypatch.setattr("fettle.data.reading.json_records.MAX_RECORD_CHARS", 1000)
    long = "x" * 2000
    unclosed = read_path(write("a.csv", f'{CSV}{long},a\n"{long},a\ngood,b\n'))
    assert [row.malformed for row in unclosed.rows if row.malformed] == [
        "record of 2,002 characters; the limit is 1,000",
        "record of 2,003 characters; the limit is 1,000",
    ]
    assert unclosed.rows[-1].fields["text"] == "good"
    lines = [json.dumps({"text": t}) for t in ("a", long, "b", "c", "d", "e")]
    for name, text in (("a.jsonl", "\n".join(lines)), ("a.json", f"[{','.join(lines)}]")):
        rows = read_path(write(name, text)).rows
        assert [row.malformed is not None for row in rows] == [False, True] + [False] * 4
        assert len(rows[1].fields["raw"]) <= 1000
    prose = read_path(write("a.txt", f"a\n{long}\nb\nc\nd\ne\n")).rows
    assert [row.malformed is not None for row in prose] == [False, True] + [False] * 4


def test_nothing_is_written_to_the_input(write: Write, tmp_path: Path) -> None:
    path = Path(write("a.csv", CSV))
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    read_path(str(path))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]
