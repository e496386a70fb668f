"""Cleaned copies in the format of the source, and the way back: byte for byte, value for value."""

import codecs
import csv
import gzip
import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fettle
from fettle.data.account.fixed import Plan, fix, undo
from fettle.data.reading.read import read, read_again
from fettle.errors import IntegrityError, UsageError
from fettle.recipe.recipe import DataSection
from fettle.records.run_directory import read_jsonl

WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jetty"]
ROWS = [
    (f"{WORDS[i % 10]} {WORDS[i // 10]} asks about the order of day {i}", "ab"[i % 2])
    for i in range(40)
]
DAMAGED = [("The cafÃ© in zone 12 was closed", "a"), ROWS[3], ("", "b"), ("bell \x07 rings", "b")]
RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def as_csv(rows: list[tuple[str, str]], end: str = "\n", quoting: Any = csv.QUOTE_ALL) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end, quoting=quoting)
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    return out.getvalue().encode()


def as_jsonl(rows: list[tuple[str, str]]) -> bytes:
    lines = []
    for number, (text, label) in enumerate(rows):
        record = {"text": text, "label": label} if number % 3 else {"label": label, "text": text}
        separators = (",", ":") if number % 2 else (" , ", " :  ")
        lines.append(json.dumps(record, ensure_ascii=number % 5 == 0, separators=separators))
        if number % 7 == 0:
            lines.append("  ")
    return "\r\n".join(lines).encode()


def as_json(rows: list[tuple[str, str]]) -> bytes:
    records = [{"text": text, "label": label} for text, label in rows]
    return json.dumps(records, ensure_ascii=False, indent=3).encode()


ALL = [*ROWS, *DAMAGED]
FILES = {
    "plain.csv": as_csv(ALL),
    "crlf.csv": as_csv(ALL, "\r\n", csv.QUOTE_MINIMAL),
    "bom.csv": codecs.BOM_UTF8 + as_csv(ALL),
    "no-end.csv": as_csv(ALL).rstrip(b"\n"),
    "utf16.csv": codecs.BOM_UTF16_BE + as_csv(ALL).decode().encode("utf-16-be"),
    "blank-lines.csv": as_csv(ALL).replace(b'"a"\n', b'"a"\n\n  \n'),
    "plain.tsv": "".join(f"{t}\t{k}\n" for t, k in [("text", "label"), *ALL]).encode(),
    "odd.jsonl": as_jsonl(ALL),
    "broken.jsonl": as_jsonl(ALL) + b'\r\n{"text": "cut sho\r\n{"text": "\xff", "label": "a"}',
    "list.json": as_json(ALL),
    "lists.json": json.dumps(
        {
            "train": [{"text": t, "label": k} for t, k in ALL[:30]],
            "test": [{"text": t, "label": k} for t, k in ALL[30:]],
        }
    ).encode(),
    "objects.json": json.dumps(
        {f"id{i}": {"text": t, "label": k} for i, (t, k) in enumerate(ALL)}, indent=1
    ).encode(),
    "columns.json": json.dumps(
        {"text": [t for t, _ in ALL], "label": [k for _, k in ALL]}
    ).encode(),
}


def checked(folder: Path, name: str, content: bytes, **options: Any) -> Any:
    source = folder / name
    source.write_bytes(content)
    return fettle.check(source, out=folder / "out", fix=folder / "clean", **options)


def texts_of(path: Path) -> list[str]:
    return [str(row.fields["text"]) for row in read([str(path)], DataSection(path=["x"])).rows]


@pytest.mark.parametrize("name", FILES)
def test_everything_comes_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    found = checked(tmp_path, name, FILES[name])
    original = tmp_path / name
    assert original.read_bytes() == FILES[name]
    assert len(found.prepared.quarantined) >= 2
    clean = tmp_path / "clean" / name
    assert clean.read_bytes() != FILES[name]
    texts = texts_of(clean)
    assert "The café in zone 12 was closed" in texts
    assert "bell  rings" in texts
    assert "" not in texts
    assert len(texts) == len(set(texts)) == 42
    # From the source, out of the account alone.
    fettle.restore(tmp_path / "out", everything=True, out=tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == FILES[name]
    # And when the source is gone, from the copy.
    original.unlink()
    back = fettle.restore(tmp_path / "clean", everything=True)
    assert back.whole
    assert clean.read_bytes() == FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_a_check_of_the_cleaned_copy_sets_nothing_aside(tmp_path: Path, name: str) -> None:
    checked(tmp_path, name, FILES[name])
    again = fettle.check(tmp_path / "clean" / name, out=tmp_path / "second", task="classify")
    assert again.prepared.quarantined == []
    assert again.prepared.num_changed == 0
    assert again.exit_code == 0


@pytest.mark.parametrize("name", FILES)
def test_rows_come_back_by_id_and_by_kind(tmp_path: Path, name: str) -> None:
    found = checked(tmp_path, name, FILES[name])
    clean = tmp_path / "clean" / name
    before = texts_of(clean)
    # In lists.json the two copies lie on given sides, where one is a leak.
    reasons = ("exact_duplicate", "split_leak")
    copy = next(row_id for _, row_id, reason in found.prepared.quarantined if reason in reasons)
    fettle.restore(tmp_path / "clean", rows=[copy])
    assert sorted(texts_of(clean)) == sorted([*before, ROWS[3][0]])
    fettle.restore(tmp_path / "clean", kinds=["mojibake"])
    texts = texts_of(clean)
    assert "The cafÃ© in zone 12 was closed" in texts
    assert texts.count(ROWS[3][0]) == 2
    assert "bell  rings" in texts
    # The rest from there; and out of a copy whose source is gone.
    (tmp_path / name).unlink()
    fettle.restore(tmp_path / "clean", everything=True)
    assert clean.read_bytes() == FILES[name]
    actions = [e["action"] for e in read_jsonl(tmp_path / "clean" / "account" / "ledger.jsonl")]
    assert actions.count("restore") >= 6


def test_unchanged_rows_keep_their_bytes(tmp_path: Path) -> None:
    checked(tmp_path, "odd.jsonl", FILES["odd.jsonl"])
    lines = set(FILES["odd.jsonl"].split(b"\r\n"))
    clean = (tmp_path / "clean" / "odd.jsonl").read_bytes().split(b"\r\n")
    assert len([line for line in clean if line not in lines]) == 2  # the two repairs


def test_gzip_comes_back_value_for_value(tmp_path: Path) -> None:
    content = gzip.compress(FILES["plain.csv"], mtime=7)
    checked(tmp_path, "plain.csv.gz", content)
    clean = tmp_path / "clean" / "plain.csv.gz"
    assert b"caf\xc3\xa9" in gzip.decompress(clean.read_bytes())
    fettle.restore(tmp_path / "out", everything=True, out=tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == content
    (tmp_path / "plain.csv.gz").unlink()
    fettle.restore(tmp_path / "clean", everything=True)
    assert gzip.decompress(clean.read_bytes()) == FILES["plain.csv"]


def test_parquet_comes_back_value_for_value(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": [text for text, _ in ALL],
            "label": pa.array([label for _, label in ALL]).dictionary_encode(),
            "seen": pa.array(range(len(ALL)), pa.timestamp("ms")),
            "more": [{"a": [i, None], "b": b"\xff"} for i in range(len(ALL))],
        }
    ).replace_schema_metadata({"origin": "here"})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=7)
    table = pq.read_table(io.BytesIO(out.getvalue()))
    checked(tmp_path, "rows.parquet", out.getvalue(), label="label", text="text")
    clean = tmp_path / "clean" / "rows.parquet"
    cleaned = pq.read_table(clean)
    assert cleaned.schema.equals(table.schema, check_metadata=True)
    assert cleaned.num_rows == 42
    assert "The café in zone 12 was closed" in cleaned["text"].to_pylist()
    (tmp_path / "rows.parquet").unlink()
    fettle.restore(tmp_path / "clean", kinds=["empty"])
    assert pq.read_table(clean).num_rows == 43
    fettle.restore(tmp_path / "clean", everything=True)
    assert pq.read_table(clean).equals(table, check_metadata=True)


def test_conversations_are_repaired_inside_their_turns(tmp_path: Path) -> None:
    lines = []
    for i in range(30):
        turns = [
            {"role": "user", "content": f"Where is order {i}? {WORDS[i % 10]}"},
            {"role": "assistant", "content": "In the cafÃ©." if i == 4 else f"On shelf {i}."},
        ]
        lines.append(json.dumps({"messages": turns, "note": "cafÃ©"}, ensure_ascii=False))
    content = "\n".join(lines).encode()
    checked(tmp_path, "chat.jsonl", content)
    clean = (tmp_path / "clean" / "chat.jsonl").read_text(encoding="utf-8").splitlines()
    assert [i for i, line in enumerate(clean) if line != lines[i]] == [4]
    assert json.loads(clean[4])["messages"][1]["content"] == "In the café."
    assert json.loads(clean[4])["note"] == "cafÃ©"  # a column that is not read stays
    fettle.restore(tmp_path / "clean", everything=True)
    assert (tmp_path / "clean" / "chat.jsonl").read_bytes() == content


def test_a_repair_that_the_encoding_can_not_hold_is_left_and_said(tmp_path: Path) -> None:
    rows = [*ROWS, ("the arrow &rarr; is one", "a"), ("süß", "b")]
    content = as_csv(rows).decode().encode("cp1252")
    found = checked(tmp_path, "old.csv", content, settings=["data.encoding=cp1252"])
    assert found.prepared.num_changed == 1
    assert found.copies[0].left == (41,)
    assert b"&rarr;" in (tmp_path / "clean" / "old.csv").read_bytes()


def test_a_source_that_changed_or_is_gone_is_refused_with_both_hashes(tmp_path: Path) -> None:
    found = checked(tmp_path, "rows.csv", FILES["plain.csv"])
    was = found.prepared.sources[0].sha256
    source = tmp_path / "rows.csv"
    source.write_bytes(FILES["plain.csv"] + b"\n")
    now = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(IntegrityError) as caught:
        fettle.restore(tmp_path / "out", everything=True)
    assert caught.value.code == "E0922"
    assert was in str(caught.value)
    assert now in str(caught.value)
    source.unlink()
    with pytest.raises(IntegrityError) as caught:
        fettle.restore(tmp_path / "out", everything=True)
    assert was in str(caught.value)
    # The copy leads back, until it is altered too.
    (tmp_path / "clean" / "rows.csv").write_bytes(b"text,label\n")
    with pytest.raises(IntegrityError) as caught:
        fettle.restore(tmp_path / "clean", everything=True)
    assert caught.value.code == "E0922"


def test_an_altered_quarantine_is_refused(tmp_path: Path) -> None:
    checked(tmp_path, "rows.csv", FILES["plain.csv"])
    path = tmp_path / "out" / "quarantine.jsonl"
    path.write_bytes(path.read_bytes().replace(b"order", b"0rder"))
    with pytest.raises(IntegrityError) as caught:
        fettle.restore(tmp_path / "out", everything=True)
    assert caught.value.code == "E0906"


def test_what_can_not_be_restored_is_said(tmp_path: Path) -> None:
    checked(tmp_path, "rows.csv", FILES["plain.csv"])
    codes = []
    for directory, options in (
        (tmp_path, {"everything": True}),
        (tmp_path / "out", {}),
        (tmp_path / "out", {"rows": ["0000"]}),
        (tmp_path / "out", {"kinds": ["overlong"]}),
        (tmp_path / "out", {"everything": True, "out": tmp_path / "rows.csv"}),
    ):
        with pytest.raises(UsageError) as caught:
            fettle.restore(directory, **options)  # type: ignore[arg-type]  # options of any kind
        codes.append(caught.value.code)
    assert codes == ["E0140", "E0141", "E0142", "E0142", "E0143"]
    assert (tmp_path / "rows.csv").read_bytes() == FILES["plain.csv"]


def test_a_copy_never_goes_where_something_else_is(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_bytes(FILES["plain.csv"])
    with pytest.raises(UsageError) as caught:
        fettle.check(source, out=tmp_path / "out", fix=tmp_path)
    assert caught.value.code == "E0143"
    with pytest.raises(UsageError) as caught:
        fettle.check(tmp_path, out=tmp_path / "out", fix=tmp_path / "inside")
    assert caught.value.code == "E0143"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError) as caught:
        fettle.check(source, out=tmp_path / "out", fix=tmp_path / "mine")
    assert caught.value.code == "E0111"
    assert not (tmp_path / "out").exists()


def refused(code: str, call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        call(*args, **options)
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize("mine", ["my_notes.txt", "account/notes.txt", "rows.csv"])
def test_a_new_copy_replaces_nothing_but_an_unchanged_old_one(tmp_path: Path, mine: str) -> None:
    checked(tmp_path, "rows.csv", FILES["plain.csv"])
    checked(tmp_path, "rows.csv", FILES["plain.csv"])
    path = tmp_path / "clean" / mine
    path.write_text("mine")
    assert mine in refused("E0111", checked, tmp_path, "rows.csv", FILES["plain.csv"])
    assert path.read_text() == "mine"
    path.unlink()
    checked(tmp_path, "rows.csv", FILES["plain.csv"])


@pytest.mark.parametrize("fix", ["same", "same/clean", "."])
def test_the_copy_and_the_account_do_not_replace_each_other(tmp_path: Path, fix: str) -> None:
    (tmp_path / "data").mkdir()
    source = tmp_path / "data" / "rows.csv"
    source.write_bytes(FILES["plain.csv"])
    work = tmp_path / "work"
    refused("E0111", fettle.check, source, out=work / "same", fix=work / fix)
    assert not work.exists()


def test_restore_overwrites_only_what_it_wrote(tmp_path: Path) -> None:
    checked(tmp_path, "rows.csv", FILES["plain.csv"])
    other = tmp_path / "other.txt"
    other.write_text("mine")
    refused("E0144", fettle.restore, tmp_path / "clean", everything=True, out=other)
    assert other.read_text() == "mine"
    for kinds in (["empty"], ["mojibake"]):
        fettle.restore(tmp_path / "out", kinds=kinds)
    again = tmp_path / "out-restored" / "rows.csv"
    again.write_text("mine")
    refused("E0144", fettle.restore, tmp_path / "out", everything=True)
    clean = tmp_path / "clean" / "rows.csv"
    clean.write_text("mine")
    refused("E0144", fettle.restore, tmp_path / "clean", everything=True)
    assert again.read_text() == clean.read_text() == "mine"


def test_a_folder_with_a_cleaned_copy_is_read_without_its_account(tmp_path: Path) -> None:
    checked(tmp_path, "rows.csv", FILES["plain.csv"])
    found = read([str(tmp_path / "clean")], DataSection(path=["x"]))
    assert [Path(source.path).name for source in found.sources] == ["rows.csv"]
    assert [reason for _, reason in found.skipped] == ["an account of fettle"]


cells = st.one_of(
    st.text(max_size=12),
    st.sampled_from(['"', "a,b", "x\ny", "\r", "", " ", "cafÃ©", "\x07", "&amp;", "é", "\ufeff"]),
)
table = st.lists(st.tuples(cells, st.sampled_from(["a", "b", "", 'q"'])), max_size=12)


def round_trip(name: str, content: bytes, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        checked(folder, name, content, settings=["data.max_malformed=1.0"], **options)
        clean = folder / "clean" / name
        (folder / name).unlink()
        fettle.restore(folder / "clean", everything=True)
        assert clean.read_bytes() == content


@RELAXED
@given(
    rows=table,
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    mark=st.sampled_from([b"", codecs.BOM_UTF8]),
    junk=st.sampled_from([b"", b'"open\n', b"one,two,three\n", b"\xff\xfe,a\n", b"\n\n \n"]),
)
def test_any_csv_comes_back(
    rows: list[tuple[str, str]], end: str, quoting: int, mark: bytes, junk: bytes
) -> None:
    content = mark + as_csv([*ROWS, *rows], end, quoting) + junk
    round_trip("data.csv", content, text="text", label="label")


plain = st.one_of(
    st.text(max_size=8), st.integers(), st.none(), st.sampled_from(["cafÃ©", "\ud800"])
)
values = st.one_of(
    plain, st.lists(plain, max_size=2), st.dictionaries(st.text(max_size=3), plain, max_size=2)
)


@RELAXED
@given(
    rows=st.lists(st.fixed_dictionaries({"text": values, "label": values}), max_size=12),
    ascii=st.booleans(),
    space=st.sampled_from([",", " , "]),
    as_list=st.booleans(),
)
def test_any_json_comes_back(
    rows: list[dict[str, object]], ascii: bool, space: str, as_list: bool
) -> None:
    good = [{"text": text, "label": label} for text, label in ROWS]
    lines = [
        json.dumps(row, ensure_ascii=ascii, separators=(space, ": ")) for row in [*good, *rows]
    ]
    text = "[\n" + f"{space}\n".join(lines) + "]" if as_list else "\n".join(lines)
    name = "data.json" if as_list else "data.jsonl"
    content = text.encode("utf-8", "backslashreplace" if not ascii else "strict")
    round_trip(name, content, text="text", label="label", task="classify")


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=8, unique=True),
    data=st.data(),
)
def test_any_choice_of_rows_leaves_exactly_the_others(rows: list[str], data: st.DataObject) -> None:
    content = json.dumps(
        [{"text": text} for text in rows], indent=data.draw(st.sampled_from([None, 1]))
    )
    drop = data.draw(st.sets(st.integers(1, len(rows)), max_size=len(rows) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        path.write_text(content, encoding="utf-8")
        result = read([str(path)], DataSection(path=[str(path)], format="json"))
        plan = Plan(frozenset(drop), {}, frozenset({"text"}))
        fixed = fix(path.read_bytes(), result.sources[0], result.rows, plan)
    kept = [row.fields for row in result.rows if row.record not in drop]
    assert [row.fields for row in read_again(result.sources[0], fixed.content)] == kept
    assert undo(fixed.content, fixed.edits) == content.encode()


@pytest.mark.parametrize(
    "name",
    [
        "banking77/train.csv",
        "gsm8k/test.jsonl",
        "clinc150/data_imbalanced.json",
        "semeval2017_twitter_sentiment/twitter-2016train-A.tsv",
    ],
)
def test_real_files_come_back(shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "data" / name
    copy = tmp_path / source.name
    shutil.copyfile(source, copy)
    found = fettle.check(copy, out=tmp_path / "out", fix=tmp_path / "clean")
    copy.unlink()
    if found.prepared.quarantined or found.prepared.num_changed:
        fettle.restore(tmp_path / "clean", everything=True)
    assert (tmp_path / "clean" / source.name).read_bytes() == source.read_bytes()
