"""Policies decide what is done about a finding, waivers which findings count; nothing is silent."""

import ast
import json
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.unit.test_data_near import sentence

import fettle
from fettle.data.account.account import Prepared, load_account, write_account
from fettle.data.cleaning.policy import refuse_errors
from fettle.data.prepare import prepare
from fettle.errors import DataError, RecipeError
from fettle.recipe.load import load_recipe
from fettle.recipe.policies import POLICIES, policy_of
from fettle.recipe.recipe import DataSection
from fettle.records.run_directory import read_jsonl

WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jetty"]
ROWS = [
    (f"{WORDS[i % 10]} {WORDS[i // 10]} asks about the order of day {i}", "ab"[i % 2])
    for i in range(60)
]
ADDRESS = "please write to ann.lee@example.com about it"
DAMAGED = [("The cafÃ© in zone 12 was closed", "a"), ROWS[3], (ADDRESS, "b")]
DAY = date(2026, 11, 22)


def prepared_from(folder: Path, rows: list[tuple[str, str]], **options: Any) -> Prepared:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in rows))
    section = DataSection.model_validate({"path": [str(path)], "label": "label", **options})
    return prepare(section, "classify", 0, today=DAY)


def reasons(prepared: Prepared) -> list[str]:
    return sorted(reason for _, _, reason in prepared.quarantined)


def texts(prepared: Prepared) -> set[str]:
    return {e.text or "" for rows in prepared.examples.values() for e in rows}


def kinds(prepared: Prepared) -> set[str]:
    return {finding.kind for finding in prepared.findings}


def test_every_kind_has_a_default_that_it_allows_and_a_reason_for_what_it_refuses() -> None:
    for kind, known in POLICIES.items():
        assert known.default in known.allowed, kind
        refused = {"report", "fix", "quarantine", "error"} - set(known.allowed)
        assert all(known.refused.get(policy) for policy in refused), kind
        assert ("fix" in known.allowed) == bool(known.fix), kind
        assert policy_of(kind, {}) == known.default


def test_the_defaults_are_the_safe_ones(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, [*ROWS, *DAMAGED])
    assert reasons(prepared) == ["exact_duplicate"]
    assert "The café in zone 12 was closed" in texts(prepared)
    assert ADDRESS in texts(prepared)
    assert {"mojibake", "exact_duplicate", "personal_data"} <= kinds(prepared)


@pytest.mark.parametrize(
    ("policies", "gone", "there"),
    [
        ({"mojibake": "report"}, ["exact_duplicate"], DAMAGED[0][0]),
        ({"mojibake": "quarantine"}, ["exact_duplicate", "mojibake"], ADDRESS),
        ({"exact_duplicate": "report"}, [], ROWS[3][0]),
        ({"personal_data": "quarantine"}, ["exact_duplicate", "personal_data"], ROWS[0][0]),
        ({"personal_data": "fix"}, ["exact_duplicate"], "please write to [EMAIL] about it"),
    ],
)
def test_a_policy_is_carried_out(
    tmp_path: Path, policies: dict[str, str], gone: list[str], there: str
) -> None:
    prepared = prepared_from(tmp_path, [*ROWS, *DAMAGED], policies=policies)
    assert reasons(prepared) == gone
    assert there in texts(prepared)
    # Whatever is done, it is told.
    assert {"mojibake", "exact_duplicate", "personal_data"} <= kinds(prepared)


def test_a_policy_of_error_stops_a_run_and_a_check_lists_all(tmp_path: Path) -> None:
    prepared = prepared_from(tmp_path, [*ROWS, *DAMAGED], policies={"personal_data": "error"})
    assert [f.kind for f in prepared.counting("error")] == ["personal_data"]
    with pytest.raises(DataError) as caught:
        refuse_errors(prepared.findings, prepared.policies, prepared.waived)
    assert caught.value.code == "E0370"
    assert "ann.lee" not in str(caught.value)
    found = fettle.check(
        tmp_path / "rows.jsonl", out=tmp_path / "out", settings=["data.policies={secret: error}"]
    )
    assert found.exit_code == 0
    refuse_errors(found.prepared.findings, found.prepared.policies, ())


def test_what_is_masked_stands_in_no_file_but_those_that_bring_it_back(tmp_path: Path) -> None:
    rows = [*ROWS, (ADDRESS, "b"), ("bÃ¤r: ann.lee@example.com", "a")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in rows))
    found = fettle.check(
        path,
        out=tmp_path / "out",
        fix=tmp_path / "clean",
        settings=["data.policies={personal_data: fix}"],
    )
    assert len(found.prepared.masked) == 2
    for file in [*(tmp_path / "out").iterdir(), tmp_path / "clean" / "rows.jsonl"]:
        assert "ann.lee" not in file.read_text(), file
    cleaned = [line["text"] for line in read_jsonl(tmp_path / "clean" / "rows.jsonl")]
    assert cleaned[-2:] == ["please write to [EMAIL] about it", "bär: [EMAIL]"]
    path_before = path.read_bytes()
    path.unlink()
    fettle.restore(tmp_path / "clean", kinds=["personal_data"])
    fettle.restore(tmp_path / "clean", everything=True)
    assert (tmp_path / "clean" / "rows.jsonl").read_bytes() == path_before


def test_personal_data_is_never_shown_as_evidence(tmp_path: Path) -> None:
    rows = [*ROWS, (ADDRESS, "b"), ("bÃ¤r: ann.lee@example.com", "a"), (ADDRESS, "a")]
    write_account(tmp_path / "data", prepared_from(tmp_path, rows))
    for name in ("findings.jsonl", "manifest.json", "holdout_review.jsonl"):
        assert "ann.lee" not in (tmp_path / "data" / name).read_text(), name


def test_two_rows_that_are_one_when_masked_lie_together(tmp_path: Path) -> None:
    twins = [(f"my address is user{i}@example.com, what now", "a") for i in range(20)]
    prepared = prepared_from(tmp_path, [*ROWS, *twins], policies={"personal_data": "fix"})
    assert reasons(prepared) == ["exact_duplicate"] * 19


def test_a_given_holdout_is_never_thinned_out_and_goes_to_a_person(tmp_path: Path) -> None:
    held = [(f"{WORDS[i]} holdout row with number {i}", "ab"[i % 2]) for i in range(10)]
    held += [(ADDRESS, "b"), (ADDRESS, "b")]
    path = tmp_path / "held.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in held))
    policies = {"personal_data": "quarantine"}
    prepared = prepared_from(tmp_path, [*ROWS, (ADDRESS, "a")], policies=policies, eval=[str(path)])
    assert len(prepared.examples["holdout"]) == 12
    assert set(reasons(prepared)) <= {"personal_data", "split_leak"}
    assert len(reasons(prepared)) == 1
    write_account(tmp_path / "data", prepared)
    review = list(read_jsonl(tmp_path / "data" / "holdout_review.jsonl"))
    assert {line["kind"] for line in review} >= {"personal_data"}
    held_ids = {example.row_id for example in prepared.examples["holdout"]}
    assert {line["row_id"] for line in review} <= held_ids
    assert "ann.lee" not in json.dumps(review)


def test_policies_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    rows = [(f"{text} ann{i}@example.com", label) for i, (text, label) in enumerate(ROWS)]
    with pytest.raises(DataError) as caught:
        prepared_from(tmp_path, rows, policies={"personal_data": "quarantine"})
    assert caught.value.code == "E0371"


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        ({"policies": {"label_error_suspected": "fix"}}, "E0230", "right label"),
        ({"policies": {"imbalance": "quarantine"}}, "E0230", "no row"),
        ({"policies": {"split_leak": "report"}}, "E0230", "trained on"),
        ({"policies": {"mojibak": "fix"}}, "E0230", "mojibake"),
        ({"policies": {"mojibake": "drop"}}, "E0205", "drop"),
        ({"waivers": [{"kind": "empty", "by": "Ann"}]}, "E0205", "reason"),
        ({"waivers": [{"kind": "empty", "by": "Ann", "reason": " "}]}, "E0205", "reason"),
        ({"waivers": [{"kind": "empt", "by": "Ann", "reason": "x"}]}, "E0231", "empty"),
        (
            {"waivers": [{"kind": "empty", "by": "Ann", "reason": "x", "pattern": "("}]},
            "E0231",
            "regular",
        ),
        (
            {"waivers": [{"kind": "empty", "by": "Ann", "reason": "x", "expires": "soon"}]},
            "E0205",
            "expires",
        ),
    ],
)
def test_what_can_not_be_is_refused_at_load(data: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe({"data": {"path": ["a.csv"], **data}})
    assert caught.value.code == code
    assert said in str(caught.value)


def waiver(**more: object) -> dict[str, object]:
    return {"kind": "personal_data", "reason": "a public address", "by": "Ann", **more}


@pytest.mark.parametrize(
    ("more", "holds"),
    [
        ({}, True),
        ({"pattern": "@example[.]com"}, True),
        ({"pattern": "@example[.]org"}, False),
        ({"rows": ["0000000000000000"]}, False),
        ({"expires": "2026-11-22"}, True),
        ({"expires": "2026-11-21"}, False),
    ],
)
def test_a_waiver_holds_for_what_it_names_until_its_day(
    tmp_path: Path, more: dict[str, object], holds: bool
) -> None:
    prepared = prepared_from(
        tmp_path,
        [*ROWS, (ADDRESS, "b")],
        policies={"personal_data": "error"},
        waivers=[waiver(**more)],
    )
    # The finding is there in any case.
    assert "personal_data" in kinds(prepared)
    assert bool(prepared.counting("error")) != holds
    assert len(prepared.waived) == holds
    if holds:
        refuse_errors(prepared.findings, prepared.policies, prepared.waived)
    expected = "waiver_expired" if more.get("expires") == "2026-11-21" else "waiver_unused"
    assert (expected in kinds(prepared)) != holds


def test_a_waived_row_stays_and_the_ledger_says_who_let_it(tmp_path: Path) -> None:
    prepared = prepared_from(
        tmp_path,
        [*ROWS, ROWS[5], (ADDRESS, "b")],
        policies={"personal_data": "quarantine"},
        waivers=[waiver(), waiver(kind="exact_duplicate", reason="asked twice", by="Bo")],
    )
    assert reasons(prepared) == []
    write_account(tmp_path / "data", prepared)
    lines = list(read_jsonl(tmp_path / "data" / "ledger.jsonl"))
    used = [line for line in lines if line["action"] == "waiver"]
    assert [(line["kind"], line["by"], line["reason"]) for line in used] == [
        ("personal_data", "Ann", "a public address"),
        ("exact_duplicate", "Bo", "asked twice"),
    ]
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert [entry["findings"] for entry in manifest["waivers"]] == [1, 1]
    assert load_account(tmp_path / "data").waived == prepared.waived


def test_a_check_of_the_whole_says_its_level(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": t, "label": k}) for t, k in [*ROWS, ROWS[1]]]
    path.write_text("\n".join(lines))
    found = fettle.check(path, out=tmp_path / "out")
    assert (found.level, found.exit_code) == ("quarantined", 0)
    path.write_text("\n".join([*lines, "{"]))
    found = fettle.check(path, out=tmp_path / "out", fix=tmp_path / "clean")
    # A broken row is an error; in the cleaned copy none remains.
    assert (found.errors, found.remaining, found.exit_code) == (1, 0, 0)
    found = fettle.check(path, out=tmp_path / "out")
    assert (found.level, found.exit_code) == ("blocked", 3)


def test_new_data_keep_the_old_sides_and_say_what_changed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    def write(rows: list[tuple[str, str]]) -> None:
        path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in rows))

    write(ROWS)
    old = fettle.check(path, out=tmp_path / "old")
    new = [(f"{WORDS[i]} {WORDS[-i]} wants a thing of its own, {i}", "ab"[i % 2]) for i in range(9)]
    write([*ROWS[10:], *new])
    found = fettle.check(path, out=tmp_path / "new", against=tmp_path / "old", seed=7)
    assert found.prepared.against is not None
    counts = found.prepared.against.counts()
    assert (counts["new"], counts["gone"], counts["moved"], counts["same"]) == (9, 10, 0, 50)
    before = {row.row_id: row.split for row in old.prepared.splits}
    held = {row_id for row_id, side in before.items() if side == "holdout"}
    trained = {example.row_id for example in found.prepared.examples["train"]}
    assert held
    assert not held & trained
    lines = list(read_jsonl(tmp_path / "new" / "changes.jsonl"))
    assert len(lines) == 19
    assert load_account(tmp_path / "new").against == found.prepared.against
    # Without the earlier account another seed is another split.
    free = fettle.check(path, out=tmp_path / "free", seed=7)
    assert held & {example.row_id for example in free.prepared.examples["train"]}


def test_what_is_nearly_an_old_row_keeps_to_its_side(tmp_path: Path) -> None:
    random = Random(3)
    texts = [sentence(random, 14) for _ in range(120)]
    path = tmp_path / "rows.jsonl"

    def sides(texts: list[str], **options: Any) -> dict[str, str]:
        rows = [{"text": text, "label": "ab"[len(text) % 2]} for text in texts]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = fettle.check(path, **options).prepared
        return {row.text: side for side, held in found.examples.items() for row in held if row.text}

    before = sides(texts, out=tmp_path / "old")
    # All old rows are gone: only their account can tell what the new ones are like.
    fresh = [sentence(random, 14) for _ in range(20)]
    now = sides(
        [*(f"{text} now" for text in texts), *fresh],
        out=tmp_path / "new", against=tmp_path / "old", seed=5,
    )  # fmt: skip
    assert {text: now[f"{text} now"] for text in texts} == before
    assert len(set(before.values())) == 3


def test_the_page_has_the_table_of_kinds(repository: Path) -> None:
    page = (repository / "docs/concepts/splits-and-quarantine.md").read_text(encoding="utf-8")
    for kind, known in POLICIES.items():
        row = f"| `{kind}` | {known.default} | {', '.join(known.allowed)} | {known.fix or '–'} |"
        assert row in page, f"docs/concepts/splits-and-quarantine.md needs: {row}"


def test_every_kind_that_is_found_has_a_policy(repository: Path) -> None:
    """Kinds are the first or fifth argument of what makes a finding."""
    position = {"finding": 0, "quarantine": 1, "note": 1, "Finding": 4, "_Unusable": 0, "_about": 1}
    found = set()
    for folder in ("data", "stages"):
        for path in (repository / "src/fettle" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else ""
                name = function.id if isinstance(function, ast.Name) else name
                index = position.get(name)
                if index is None or len(node.args) <= index:
                    continue
                value = node.args[index]
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found.add(value.value)
    assert len(found) > 20
    assert sorted(found - set(POLICIES)) == []
