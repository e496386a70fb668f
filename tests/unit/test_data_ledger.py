"""The ledger can't be altered unnoticed, and the sums of the rows balance."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.data.account.account import load_account, write_account
from fettle.data.account.actions import entries, sums
from fettle.data.account.ledger import (
    LEDGER,
    append,
    chain,
    check_balance,
    head_of,
    row_hash,
    shown,
    total,
    verify,
)
from fettle.data.meaning.normalize import canonical
from fettle.data.prepare import Prepared, prepare
from fettle.errors import IntegrityError
from fettle.recipe.recipe import DataSection
from fettle.records.run_directory import read_json

ENTRIES = [
    {"action": "quarantine", "row_id": f"{i:016x}", "evidence": "é \ud800"} for i in range(5)
]
WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jetty"]


def written(folder: Path, found: list[dict[str, str]] | None = None) -> Path:
    path = folder / LEDGER
    path.write_bytes(chain(ENTRIES if found is None else found))
    return path


def csv_of(rows: list[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)


def plain_rows(number: int = 40) -> list[tuple[str, str]]:
    return [
        (f"{WORDS[i % 10]} {WORDS[i // 10]} asks about the order of day {i}", "ab"[i % 2])
        for i in range(number)
    ]


def prepared_from(folder: Path, content: str, **options: Any) -> Prepared:
    path = folder / "rows.csv"
    path.write_text(content, encoding="utf-8", newline="")
    return prepare(DataSection.model_validate({"path": [str(path)], **options}), None, 0)


def test_each_line_holds_the_hash_of_the_one_before(tmp_path: Path) -> None:
    lines = written(tmp_path).read_bytes().splitlines()
    assert json.loads(lines[0])["previous"] == "0" * 64
    for before, after in pairwise(lines):
        assert json.loads(after)["previous"] == hashlib.sha256(before).hexdigest()
    assert [entry["evidence"] for entry in verify(tmp_path / LEDGER)] == ["é \ud800"] * 5


@pytest.mark.parametrize("line", range(5))
def test_a_changed_line_is_found(tmp_path: Path, line: int) -> None:
    path = written(tmp_path)
    head = head_of(path.read_bytes())
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"quarantine", b"restore   ")
    path.write_bytes(b"".join(lines))
    with pytest.raises(IntegrityError) as caught:
        verify(path, 5, head)
    assert (caught.value.code, caught.value.exit_code) == ("E0920", 9)


@pytest.mark.parametrize("line", range(5))
def test_a_missing_line_is_found(tmp_path: Path, line: int) -> None:
    path = written(tmp_path)
    head = head_of(path.read_bytes())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:line] + lines[line + 1 :]))
    with pytest.raises(IntegrityError, match="line"):
        verify(path, 5, head)


def test_swapped_lines_a_cut_end_and_a_file_that_is_gone_are_found(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for broken in (b"".join([*lines[:2], lines[3], lines[2], lines[4]]), content[:-3], b"{}\n"):
        path.write_bytes(broken)
        with pytest.raises(IntegrityError):
            verify(path, 5, head_of(content))
    path.unlink()
    with pytest.raises(IntegrityError) as caught:
        verify(path)
    assert caught.value.code == "E0901"


def test_a_ledger_written_anew_with_right_hashes_is_not_the_one_that_was_noted(
    tmp_path: Path,
) -> None:
    path = written(tmp_path)
    head = head_of(path.read_bytes())
    written(tmp_path, [*ENTRIES[:4], {"action": "other"}])
    assert len(verify(path)) == 5
    with pytest.raises(IntegrityError, match="manifest"):
        verify(path, 5, head)


def test_lines_are_added_behind_the_old_ones(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    head = head_of(before)
    lines, now = append(path, [{"action": "restore"}], verify(path))
    assert path.read_bytes().startswith(before)
    assert (lines, now) == (6, head_of(path.read_bytes()))
    assert verify(path, 6, now)[-1]["action"] == "restore"
    # The manifest of before the addition still fits: a kill between the two writes does no harm.
    assert len(verify(path, 5, head)) == 6


records = st.dictionaries(
    st.text(max_size=5),
    st.one_of(st.text(max_size=10), st.integers(), st.none(), st.lists(st.booleans(), max_size=2)),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(records, max_size=20), data=st.data())
def test_the_sum_of_rows_tells_every_loss_copy_and_change(
    rows: list[dict[str, object]], data: st.DataObject
) -> None:
    hashes = [row_hash(row) for row in rows]
    shuffled = data.draw(st.permutations(hashes))
    cut = data.draw(st.integers(0, len(rows)))
    check_balance(total(hashes), {"kept": total(shuffled[:cut]), "gone": total(shuffled[cut:])})
    # By hand, from the definition.
    plain = sum(
        int.from_bytes(hashlib.blake2b(canonical(row), digest_size=16).digest(), "big")
        for row in rows
    )
    assert shown(total(hashes)) == f"{plain % 2**128:032x}"
    if not rows:
        return
    for broken in (hashes[1:], [*hashes, hashes[0]], [row_hash({"other": "row\x00"}), *hashes[1:]]):
        with pytest.raises(IntegrityError) as caught:
            check_balance(total(hashes), {"kept": total(broken)})
        assert caught.value.code == "E0921"


def test_a_data_set_balances_and_the_ledger_names_every_change(tmp_path: Path) -> None:
    rows = plain_rows()
    damaged = [("The cafÃ© in zone 12 was closed", "a"), rows[3], ("", "b")]
    prepared = prepared_from(tmp_path, csv_of(rows + damaged))
    write_account(tmp_path / "data", prepared)
    found = verify(tmp_path / "data" / LEDGER)
    assert [entry["action"] for entry in found] == [
        "input",
        "repair",
        "quarantine",
        "quarantine",
        "balance",
    ]
    assert (found[1]["before"], found[1]["after"]) == (
        "The cafÃ© in zone 12 was closed",
        "The café in zone 12 was closed",
    )
    assert "ftfy" in found[1]["algorithm"]
    assert found[1]["kinds"] == ["mojibake"]
    assert [entry["reason"] for entry in found[2:4]] == ["exact_duplicate", "empty"]
    balance = found[-1]
    parts = [int(balance[name], 16) for name in ("kept", "repaired", "quarantined")]
    assert total(parts) == int(balance["input"], 16) == prepared.received
    # Every part from the records themselves.
    assert int(balance["repaired"], 16) == row_hash({"text": damaged[0][0], "label": "a"})
    assert parts[2] == total(row_hash(raw.fields) for raw, _, _ in prepared.quarantined)
    assert load_account(tmp_path / "data").hashes == prepared.hashes


def test_a_lost_or_doubled_row_is_never_written(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, csv_of(plain_rows()))
    lost = {**prepared.examples, "train": prepared.examples["train"][1:]}
    for broken in (
        replace(prepared, examples=lost),
        replace(prepared, received=prepared.received ^ 1),
        replace(prepared, examples={**prepared.examples, "validation": lost["train"]}),
    ):
        with pytest.raises(IntegrityError) as caught:
            entries(broken)
        assert caught.value.code == "E0921"


def test_an_account_whose_rows_do_not_add_up_is_not_read(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, csv_of([*plain_rows(), plain_rows()[0]]))
    folder = tmp_path / "data"
    write_account(folder, prepared)
    manifest = read_json(folder / "manifest.json")
    # One who edits a file and the hashes of the files: the sum tells.
    path = folder / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[1:]), encoding="utf-8")
    manifest["files"]["rows.jsonl"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(IntegrityError) as caught:
        load_account(folder)
    assert caught.value.code == "E0921"


def test_an_account_with_an_altered_ledger_is_not_read(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, csv_of([*plain_rows(), plain_rows()[0]]))
    folder = tmp_path / "data"
    write_account(folder, prepared)
    path = folder / LEDGER
    path.write_bytes(path.read_bytes().replace(b"exact_duplicate", b"label_conflict "))
    with pytest.raises(IntegrityError) as caught:
        load_account(folder)
    assert caught.value.code == "E0920"


def test_the_order_of_rows_plays_no_part_in_the_sums(tmp_path: Path) -> None:
    rows = [*plain_rows(), plain_rows()[5]]
    first = prepared_from(tmp_path, csv_of(rows))
    second = prepared_from(tmp_path, csv_of(rows[::-1]))
    assert first.received == second.received
    assert sums(first) == sums(second)
