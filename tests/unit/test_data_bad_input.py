"""Hostile and broken files end in findings or in one clear error, in bounded time and memory."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from fettle.data.account.account import Prepared, load_account, write_account
from fettle.data.meaning.target_rows import read_target
from fettle.data.prepare import prepare
from fettle.data.reading import decode
from fettle.errors import DataError, UsageError
from fettle.recipe.recipe import DataSection

WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jetty"]
ROWS = [
    (f"{WORDS[i % 10]} {WORDS[i // 10]} asks about the order of day {i}", "ab"[i % 2])
    for i in range(60)
]


def line(text: str, label: str, **more: Any) -> str:
    return json.dumps({"text": text, "label": label, **more})


LINES = [line(text, label) for text, label in ROWS]


def run(folder: Path, name: str, content: bytes | str, **options: Any) -> Prepared:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    section = DataSection.model_validate({"path": [str(path)], **options})
    prepared = prepare(section, options.pop("task", None), 0)
    # Whatever it is, it can be written and read back.
    write_account(folder / "data", prepared)
    load_account(folder / "data")
    return prepared


def why(prepared: Prepared) -> dict[str, str]:
    return {f.kind: f.evidence for f in prepared.findings}


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_MIN_BOMB", 1 << 20)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * (40 << 20)))
    with pytest.raises(DataError) as caught:
        run(tmp_path, path.name, path.read_bytes())
    assert caught.value.code == "E0339"
    # Repetitive, but real.
    many = "\n".join(line(f"{text} again", label) for text, label in ROWS * 5)
    assert run(tmp_path, "fine.jsonl.gz", gzip.compress(many.encode())).counts()["train"] > 0


def test_two_encodings_in_one_file(tmp_path: Path) -> None:
    good = "".join(f"{text} né,{label}\n" for text, label in ROWS)
    content = ("text,label\n" + good).encode() + "déjà vu in latin,a\n".encode("latin-1")
    prepared = run(tmp_path, "rows.csv", content)
    assert [reason for _, _, reason in prepared.quarantined] == ["malformed_row"]
    assert "invalid byte 0xe9" in why(prepared)["malformed_row"]


def test_two_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    content = "text,label,label\n" + "".join(f"{text},{k},x{k}\n" for text, k in ROWS)
    prepared = run(tmp_path, "rows.csv", content)
    assert prepared.sources[0].columns == ("text", "label", "label_2")
    assert set(prepared.labels) == {"a", "b"}


@pytest.mark.parametrize(
    "bad",
    [
        '{"text": "first", "text": "second one", "label": "a"}',
        '{"text" : "x", "label":"a", "label" :"b"}',
        '{"text": "x", "label": "a", "more": {"k": 1, "k": 2}}',
    ],
)
def test_a_key_that_stands_twice_loses_no_value_in_silence(tmp_path: Path, bad: str) -> None:
    for name, content in (
        ("rows.jsonl", "\n".join([*LINES, bad])),
        ("rows.json", "[" + ",".join([*LINES, bad]) + "]"),
    ):
        prepared = run(tmp_path, name, content)
        assert [reason for _, _, reason in prepared.quarantined] == ["malformed_row"], name
        assert "stands twice" in why(prepared)["malformed_row"]


def test_a_list_of_rows_under_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    rows = ",".join(LINES)
    content = f'{{"train": [{rows}], "test": [{LINES[0]}], "train": [{LINES[1]}]}}'
    with pytest.raises(DataError, match="'train' stands twice") as caught:
        run(tmp_path, "rows.json", content)
    assert caught.value.code == "E0324"


def test_text_that_looks_like_keys_is_no_key(tmp_path: Path) -> None:
    lines = [line(f'he said "a": {text} "b": no', label) for text, label in ROWS]
    assert run(tmp_path, "rows.jsonl", "\n".join(lines)).quarantined == []


def test_nan_is_a_missing_value_and_half_surrogates_are_replaced(tmp_path: Path) -> None:
    more = ['{"text": NaN, "label": "a"}', '{"text": "half \\ud83d of it", "label": "b"}']
    prepared = run(tmp_path, "rows.jsonl", "\n".join([*LINES, *more]))
    assert [reason for _, _, reason in prepared.quarantined] == ["empty"]
    assert any("surrogate" in finding.evidence for finding in prepared.findings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    ["word ", "a", "&amp;", "cafÃ©", "1234567890 ", "x@y.z ", "\\u2019", "<b>", '"', "{{x}}"],
)
def test_a_row_of_ten_megabytes_takes_bounded_time(tmp_path: Path, unit: str) -> None:
    huge = line(unit * (10_000_000 // len(unit)), "a")
    started = time.process_time()
    prepared = run(tmp_path, "rows.jsonl", "\n".join([*LINES, huge]))
    assert len(prepared.splits) == 61
    assert time.process_time() - started < 60


def test_one_group_for_all_rows_can_not_be_split(tmp_path: Path) -> None:
    lines = [line(text, label, user="u1") for text, label in ROWS]
    with pytest.raises(DataError) as caught:
        run(tmp_path, "rows.jsonl", "\n".join(lines), group="user")
    assert caught.value.code == "E0336"
    assert "--group" in caught.value.hint


def test_a_holdout_that_is_all_in_train(tmp_path: Path) -> None:
    held = tmp_path / "held.jsonl"
    held.write_text("\n".join(LINES[:20]))
    prepared = run(tmp_path, "rows.jsonl", "\n".join(LINES), eval=[str(held)])
    assert len(prepared.examples["holdout"]) == 20
    reasons = [reason for _, _, reason in prepared.quarantined]
    assert reasons == ["split_leak"] * 20
    trained = {example.text for example in prepared.examples["train"]}
    assert not trained & {example.text for example in prepared.examples["holdout"]}
    # And when nothing else is there to train on.
    with pytest.raises(DataError) as caught:
        run(tmp_path, "rows.jsonl", "\n".join(LINES[:20]), eval=[str(held)])
    assert caught.value.code == "E0335"


def test_a_target_in_any_form_is_read_and_another_file_is_refused(tmp_path: Path) -> None:
    prepared = run(tmp_path, "rows.jsonl", "\n".join(LINES))
    (tmp_path / "inputs.txt").write_text("où est ma carte ?\n\nwas ist das\n")
    assert len(read_target(str(tmp_path / "inputs.txt"), prepared.layout)) == 2
    (tmp_path / "full.jsonl").write_text("\n".join([*LINES, "{", '{"text": ""}']))
    found = read_target(str(tmp_path / "full.jsonl"), prepared.layout)
    assert len(found) == 60
    assert found[1].target == "b"
    (tmp_path / "other.csv").write_text("one,two\n" + "x,y\n" * 30)
    with pytest.raises(UsageError) as caught:
        read_target(str(tmp_path / "other.csv"), prepared.layout)
    assert caught.value.code == "E0134"
