"""The page of `fettle check`: its figures are the account's, and any text in it stays text."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_report_page import HOSTILE, Page

import fettle
from fettle.api.data import Checked
from fettle.data.account.account import SIDES, Prepared, load_account
from fettle.data.account.ledger import LEDGER, head_of
from fettle.data.prepare import prepare
from fettle.data.represent.represent import represent
from fettle.errors import UsageError
from fettle.recipe.policies import POLICIES
from fettle.recipe.recipe import DataSection, Waiver
from fettle.records.rows import Example, Finding, SplitRow
from fettle.records.run_directory import read_jsonl
from fettle.report import check_groups, check_sections
from fettle.report.check_report import (
    CHECK_REPORT,
    Lengths,
    read_mended,
    render_check,
    write_check_report,
)
from fettle.report.check_rows import excerpt, look_up, short_names, spread
from fettle.report.check_words import MEANINGS, OUTCOMES, POLICY_WORDS, outcome_of
from fettle.report.plots import length_plot

WORDS = [
    "amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "jetty",
    "kettle", "lemon",
]  # fmt: skip
FOREIGN = ["which", "stadium", "hosts", "tomorrow", "evening", "football", "match", "tickets"]


def sentence(seed: int, words: list[str] = WORDS) -> str:
    generator = np.random.default_rng(seed)
    return " ".join(generator.choice(words, 9))


ROWS = [
    *((f"{sentence(i)} {WORDS[i % 3]}", WORDS[i % 3]) for i in range(120)),
    *[("the same row again and again please", "amber")] * 4,
    ("The cafÃ© was lovely and the fiancÃ© too", "birch"),
    ("write to ann.lee@example.com about it", "birch"),
    ("my password is hunter2secret99 keep it", "cedar"),
    *((text[:9000], "cedar") for text in HOSTILE if "\ud800" not in text),
    ("", "amber"),
]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checks")
    found = fettle.check(write_rows(directory / "tickets.jsonl", ROWS), out=directory / "tickets")
    assert found.level == "blocked"
    return found.directory


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Prepared:
    return load_account(folder)


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / CHECK_REPORT).read_text(encoding="utf-8")


def page_of(prepared: Prepared, **more: object) -> Page:
    return Page(render_check(prepared, name="x", directory="checks/x", **more))  # type: ignore[arg-type]


def cells(html: str, caption: str) -> list[list[str]]:
    """The body of the table with a caption, read without the code that made it."""
    tables = re.findall(r"<table.*?</table>", html, flags=re.DOTALL)
    table = next(t for t in tables if f"<caption>{caption}" in t)
    body = table[table.index("<tbody") :]
    rows = re.findall(r"<tr.*?</tr>", body, flags=re.DOTALL)
    return [
        [
            " ".join(re.sub(r"<[^>]*>", "", cell).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL)
        ]
        for row in rows
    ]


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_check_writes_the_page_and_may_write_it_again(folder: Path, html: str) -> None:
    again = fettle.check(folder.parent / "tickets.jsonl", out=folder)
    assert (folder / CHECK_REPORT).read_text(encoding="utf-8") == html
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="E0111"):
        fettle.check(folder.parent / "tickets.jsonl", out=folder)
    (folder / "notes.txt").unlink()
    assert again.directory == folder


def test_the_page_of_a_loaded_account_is_the_same(
    folder: Path, prepared: Prepared, html: str
) -> None:
    assert write_check_report(folder, prepared) == folder / CHECK_REPORT
    assert (folder / CHECK_REPORT).read_text(encoding="utf-8") == html


def test_sections_stand_in_order_and_headings_too(html: str) -> None:
    page = Page(html)
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == [
        "outcome", "rows", "cleaned", "findings", "lengths", "labels", "duplicates", "target",
        "sources",
    ]  # fmt: skip
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    ids = {attrs["id"] for tag, attrs in page.tags if "id" in attrs}
    assert {(link or "")[1:] for link in links} <= ids
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_loads_nothing_and_is_accessible(html: str) -> None:
    page = Page(html)
    names = Counter(tag for tag, _ in page.tags)
    assert not set(names) & {"script", "link", "img", "iframe", "object", "form", "image"}
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for _, attrs in page.tags:
        assert not [key for key in attrs if key.startswith("on")]
        for key in ("href", "xlink:href", "src"):
            assert (attrs.get(key) or "#").startswith("#")
    assert all(attrs.get("scope") in {"col", "row"} for tag, attrs in page.tags if tag == "th")
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(figures) == names["figcaption"] == names["figure"] == 2
    assert all(len(attrs["aria-label"] or "") > 20 for attrs in figures)
    assert names["table"] == names["caption"]
    assert "var(--tuned)" in html
    assert re.findall(r"(?:fill|stroke): #\w+", html) == []


def test_the_first_sentence_is_that_of_the_account(prepared: Prepared, html: str) -> None:
    counts = prepared.counts()
    found = Counter(finding.severity for finding in prepared.findings)
    assert (
        f"Of {len(prepared.splits)} input rows, {counts['train']} are for training, "
        f"{counts['validation']} for validation, {counts['holdout']} in the holdout, "
        f"{counts['quarantine']} in quarantine. Found: {found['error']} error"
    ) in Page(html).text
    assert f"{found['warning']} warnings, {found['note']} notes." in Page(html).text


def test_rows_by_file_and_reason_add_up(folder: Path, html: str) -> None:
    lines = list(read_jsonl(folder / "splits.jsonl"))
    sides = Counter(line["split"] for line in lines)
    row = cells(html, "Input rows by file")[0]
    assert [number(x) for x in row[1:]] == [
        *(sides[side] for side in (*SIDES, "quarantine")), len(lines),
    ]  # fmt: skip
    why = cells(html, "Why rows are on their side")
    assert sum(number(row[2]) for row in why) == sum(sides[side] for side in SIDES)
    aside = {row[0]: number(row[1]) for row in cells(html, "Rows in quarantine")}
    assert aside == {
        reason.replace("_", " "): count
        for reason, count in Counter(
            line["reason"] for line in lines if line["split"] == "quarantine"
        ).items()
    }
    back = {row[0]: row[4] for row in cells(html, "Rows in quarantine")}
    assert back["exact duplicate"] == f"fettle restore {folder} --kind exact_duplicate"


def test_kinds_with_counts_severities_and_policies(folder: Path, html: str) -> None:
    lines = list(read_jsonl(folder / "findings.jsonl"))
    table = cells(html, "Findings by kind")
    expected = Counter(line["kind"].replace("_", " ") for line in lines)
    assert {row[0]: number(row[1]) for row in table} == expected
    for kind, _, _, policy, _ in table:
        default = POLICIES[kind.replace(" ", "_")].default
        assert policy == f"{default}: {POLICY_WORDS[default]}"
    order = ["error", "warning", "note"]
    worst = [min(order.index(s) for s in order if s in row[2]) for row in table]
    assert worst == sorted(worst)
    for kind, count in expected.items():
        examples = cells(html, f"Examples of {kind}<")
        severities = Counter(
            line["severity"] for line in lines if line["kind"] == kind.replace(" ", "_")
        )
        worst_of_kind = next(severity for severity in order if severities[severity])
        assert len(examples) == min(5, severities[worst_of_kind])
        if count > len(examples):
            assert f"And {count - len(examples)} more of this kind" in Page(html).text


def test_what_was_cleaned_is_what_the_ledger_says(folder: Path, html: str) -> None:
    content = (folder / LEDGER).read_bytes()
    entries = [json.loads(line) for line in content.splitlines()]
    repairs = Counter(
        kind for entry in entries if entry["action"] == "repair" for kind in entry["kinds"]
    )
    assert repairs["mojibake"] == 1
    shown = {row[0]: number(row[2].split()[0]) for row in cells(html, "What was cleaned")}
    assert shown == {kind.replace("_", " "): count for kind, count in repairs.items()}
    mended = read_mended(folder / LEDGER)
    assert mended is not None
    assert (mended.lines, mended.head) == (len(entries), head_of(content))
    assert mended.head in html
    assert "cafÃ©" in html
    assert "café" in html


def test_masked_rows_are_counted_and_what_is_masked_is_nowhere(tmp_path: Path) -> None:
    found = fettle.check(
        write_rows(tmp_path / "rows.jsonl", ROWS),
        out=tmp_path / "out",
        settings=["data.policies={personal_data: fix}"],
    )
    html = (found.directory / CHECK_REPORT).read_text(encoding="utf-8")
    assert "ann.lee" not in html
    assert ["personal data", "masked; the original is in its file alone", "1 row"] in cells(
        html, "What was cleaned"
    )
    table = {row[0]: row for row in cells(html, "Findings by kind")}
    assert table["personal data"][3].endswith("(recipe)")


def test_lengths_without_a_base_are_characters(prepared: Prepared, html: str) -> None:
    values = [len(e.text or "") for side in SIDES for e in prepared.examples[side]]
    assert "No base was named, so lengths are in characters" in Page(html).text
    last = cells(html, "Lengths in characters")[-1]
    assert last[:2] == ["all", str(len(values))]
    assert number(last[2]) == round(float(np.median(values)))
    assert number(last[4]) == max(values)


def test_lengths_under_a_base_name_limit_and_rows_beyond_it(prepared: Prepared) -> None:
    lengths = Lengths({"train": [5, 6, 7, 40], "holdout": [8, 31]}, "tokens", 30, "my/base")
    html = render_check(prepared, name="x", directory="", lengths=lengths)
    assert "Under the tokenizer and template of my/base, 2 of 6 rows are longer than the limit of" \
        " 30 tokens." in Page(html).text  # fmt: skip
    assert [row[-1] for row in cells(html, "Lengths in tokens")] == ["1", "1", "2"]
    assert "2 are longer than the limit of 30" in html
    assert ">limit 30<" in html


@pytest.mark.parametrize(
    ("values", "limit", "shown", "clipped"),
    [
        ([10] * 100, 12, "limit 12<", 0),
        ([10] * 100, 1_000, "limit 1,000 →<", 0),
        ([*[10] * 999, 5_000], 1_000, "limit 1,000 →<", 1),
        ([*[10] * 50, *[90] * 50], 20, "limit 20<", 0),
        ([0], None, "length of a row", 0),
    ],
)
def test_the_limit_is_marked_wherever_it_lies(
    values: list[int], limit: int | None, shown: str, clipped: int
) -> None:
    svg, beyond = length_plot({"train": values}, unit="tokens", limit=limit)
    assert shown in svg
    assert beyond == clipped


def test_token_lengths_of_a_base_reach_the_page(tmp_path: Path) -> None:
    rows = [*ROWS[:120], ("amber " * 3_000, "amber")]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    found = fettle.check(path, out=tmp_path / "out", base="starter")
    assert found.tokens is not None
    assert {side: len(rows) for side, rows in found.tokens.lengths.items()} == {
        side: sum(row.split == side for row in found.prepared.splits) for side in SIDES
    }
    assert max(map(max, found.tokens.lengths.values())) == found.tokens.longest
    text = Page((found.directory / CHECK_REPORT).read_text(encoding="utf-8")).text
    limit = found.tokens.max_length
    assert f"1 of 121 rows is longer than the limit of {limit:,} tokens" in text


def test_labels_have_the_counts_of_the_account(prepared: Prepared, html: str) -> None:
    counts = Counter(e.target for side in SIDES for e in prepared.examples[side])
    bars = cells(html, "Rows by label<")
    assert {row[0]: number(row[1]) for row in bars} == counts
    table = cells(html, "Rows by label and side")
    for label, *numbers in table:
        assert [number(x) for x in numbers] == [
            *(prepared.label_counts(side)[label] for side in SIDES), counts[label],
        ]  # fmt: skip


def test_copies_are_joined_as_networkx_would(prepared: Prepared) -> None:
    import networkx

    graph = networkx.Graph(
        (f.row_id, other)
        for f in prepared.findings
        if f.kind in check_groups.JOINING
        for other in f.related
    )
    expected = sorted(map(sorted, networkx.connected_components(graph)))
    found = check_groups.clusters(prepared)
    assert expected
    assert found.num_clusters == len(expected)
    assert found.num_rows == sum(map(len, expected))
    assert sorted(sorted(cluster.row_ids) for cluster in found.largest) == expected[:10]


def test_clusters_show_their_rows_wherever_these_ended(html: str) -> None:
    rows = cells(html, "Cluster 1 of 4 rows")
    assert {row[2] for row in rows} == {"the same row again and again please"}
    assert Counter(row[1] == "quarantine" for row in rows) == {True: 3, False: 1}


def test_texts_stay_texts_and_are_redacted(html: str, prepared: Prepared) -> None:
    names = {tag for tag, _ in Page(html).tags}
    assert "script" not in names
    assert "img" not in names
    assert "ann.lee" not in html
    assert "hunter2secret99" not in html
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", html) is None
    first = prepared.examples["train"][0]
    hostile = [
        Finding(first.row_id, HOSTILE[0], 1, 1, "placeholder", "warning", text, text)
        for text in HOSTILE
    ]
    labelled = replace(first, target="<script>label</script>")
    rows = {**prepared.examples, "train": [labelled, *prepared.examples["train"][1:]]}
    worse = replace(
        prepared,
        examples=rows,
        labels=(*prepared.labels, "<script>label</script>"),
        findings=[*prepared.findings, *hostile],
        skipped=[(text, text) for text in HOSTILE[:4]],
        waivers=[Waiver(kind="empty", reason=HOSTILE[0], by=HOSTILE[1])],
    )
    text = render_check(worse, name=HOSTILE[0], directory=HOSTILE[1])
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert "<script>alert(1)</script>" in page.text
    assert "<script>label</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", text) is None
    assert len(text) < 1_000_000


def test_evidence_is_redacted_once_more(prepared: Prepared) -> None:
    old = Finding("", "s", 0, None, "placeholder", "warning", "is ann.lee@example.com", "x")
    html = render_check(replace(prepared, findings=[old]), name="x", directory="")
    assert "ann.lee" not in html
    assert "is [EMAIL]" in html


def test_an_excerpt_never_ends_in_half_a_secret() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "Mx9" * 2_000
    assert "Mx9" not in excerpt(key)
    assert excerpt("a" * 300) == "a" * 200 + "…"
    assert excerpt("short\n\ttext") == "short text"
    address = "b " * 2_100 + "ann.lee@example.com"
    assert "@" not in excerpt(address[: 4_200 + 5])


@pytest.mark.parametrize(
    ("drop", "level"),
    [((), "blocked"), (("error",), "quarantined"), (("error", "warning", "note"), "quarantined")],
)
def test_the_outcome_is_that_of_the_check(
    prepared: Prepared, drop: tuple[str, ...], level: str
) -> None:
    kept = [f for f in prepared.findings if f.severity not in drop]
    changed = replace(prepared, findings=kept)
    found = Checked(Path("x"), changed)
    page = page_of(changed)
    assert found.level == level
    assert OUTCOMES[level].word in page.text
    counts = Counter(f.severity for f in kept)
    assert outcome_of(found.remaining, len(changed.quarantined), counts["warning"]) == level


def test_each_outcome_has_its_words() -> None:
    assert outcome_of(1, 1, 1) == "blocked"
    assert outcome_of(0, 1, 1) == "quarantined"
    assert outcome_of(0, 0, 1) == "warnings"
    assert outcome_of(0, 0, 0) == "clean"
    assert set(OUTCOMES) == {"blocked", "quarantined", "warnings", "clean"}


def test_strict_says_that_warnings_count(prepared: Prepared) -> None:
    both = [f for f in prepared.findings if f.severity in ("error", "warning")]
    strict = Checked(Path("x"), prepared, strict=True)
    text = page_of(prepared, remaining=strict.remaining).text
    assert strict.remaining == len(both)
    assert f"{len(both)} errors remain, warnings counted as errors (--strict)." in text


def test_waivers_are_shown_with_their_findings(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    write_rows(tmp_path / "rows.jsonl", ROWS)
    recipe.write_text(
        f"data:\n  path: [{tmp_path / 'rows.jsonl'}]\n  waivers:\n"
        "  - {kind: secret, reason: it is invented, by: ann}\n"
    )
    found = fettle.check(recipe, out=tmp_path / "out")
    html = (found.directory / CHECK_REPORT).read_text(encoding="utf-8")
    assert cells(html, "Accepted findings")[0] == [
        "secret", str(len(found.prepared.waived)), "it is invented", "ann", "no end",
    ]  # fmt: skip
    assert len(found.prepared.waived) == 1
    row = next(row for row in cells(html, "Findings by kind") if row[0] == "secret")
    assert row[1:4] == ["1", "warning", "1"]


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) == set(POLICIES)


def test_suspected_labels_are_listed_worst_first(prepared: Prepared) -> None:
    rows = prepared.examples["train"]
    found = [
        rows[i].finding("label_error_suspected", "warning", f"looks odd (score {i}.50)", "read it")
        for i in range(60)
    ]
    html = render_check(replace(prepared, findings=found), name="x", directory="")
    table = cells(html, "Labels to read again")
    assert [row[5] for row in table] == [rows[i].row_id for i in range(59, 19, -1)]
    assert "In 60 rows, a classifier" in Page(html).text
    assert "And 20 more of them; all are in findings.jsonl" in Page(html).text


@pytest.fixture(scope="module")
def target() -> tuple[list[Example], list[Example]]:
    def rows(texts: list[str], name: str) -> list[Example]:
        return [
            Example(
                f"{name}{i}", "d", i, i, text=text, target=WORDS[i % 3] if name == "r" else None
            )
            for i, text in enumerate(texts)
        ]

    known = rows([sentence(i) for i in range(300)], "r")
    asked = [sentence(1_000 + i) for i in range(60)] + [sentence(i, FOREIGN) for i in range(40)]
    return known, rows(asked, "t")


def test_the_target_has_the_figures_of_its_comparison(
    prepared: Prepared, target: tuple[list[Example], list[Example]]
) -> None:
    known, asked = target
    found = represent(known, asked)
    html = render_check(
        prepared, name="x", directory="", representation=found, target_examples=asked
    )
    text = Page(html).text
    assert "300 training rows against 100 rows of the target" in text
    assert f"{100 * found.coverage.share:g} % of {found.coverage.n} target rows" in text
    assert f"with probability {found.distinguishability.auc:.2f}" in text
    groups = cells(html, "Rows to collect")
    assert [(number(row[1]), number(row[2])) for row in groups] == [
        (len(group.rows), group.rows_to_collect) for group in found.coverage.groups
    ]
    texts = {example.row_id: example.text or "" for example in asked}
    assert texts[found.coverage.groups[0].rows[0]] in groups[0][3]
    for mix in found.mix:
        shown = cells(html, f"The slices by {mix.slices}")
        assert [row[0] for row in shown] == [share.name for share in mix.shares]
    assert ";--other:" in html


def test_without_a_target_the_page_says_how_to_give_one(html: str) -> None:
    assert "No target was given." in Page(html).text


def test_numbers_and_conversations(tmp_path: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    path.write_text(
        "".join(json.dumps({"text": sentence(i), "label": i / 7}) + "\n" for i in range(90))
    )
    found = prepare(DataSection(path=[str(path)], text="text", label="label"), "regress", 0)
    html = render_check(found, name="x", directory="")
    table = cells(html, "Numbers to predict")
    values = [row.number for row in found.examples["train"]]
    assert table[0][:2] == ["train", str(len(values))]
    assert float(table[0][2]) == pytest.approx(min(values), rel=1e-4)
    path = tmp_path / "chat.jsonl"
    chats = [{"prompt": sentence(i), "completion": sentence(i + 500)} for i in range(90)]
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    found = prepare(DataSection(path=[str(path)]), "chat", 0)
    page = page_of(found)
    assert "These rows have no labels: the task is chat." in page.text
    assert "Suspected label errors" not in page.text


def test_an_account_without_ledger_says_so(prepared: Prepared, tmp_path: Path) -> None:
    assert read_mended(tmp_path / LEDGER) is None
    assert "This account has no ledger" in page_of(prepared).text


def test_the_page_stays_small_whatever_the_number_of_rows(prepared: Prepared) -> None:
    """Many rows, files, labels, kinds, copies: all at once."""
    size = 20_000
    first = prepared.examples["train"][0]
    rows = [
        replace(first, row_id=f"{i:016x}", record=i, line=i, target=f"label {i % 5_000}",
                text=f"{i} " + "long text <b> " * 40, source=f"folder/file{i % 400}.csv")
        for i in range(size)
    ]  # fmt: skip
    findings = [
        row.finding(kind, "warning", "evidence " * 200, f"remedy {i} " * 99,
                    tuple(r.row_id for r in rows[max(0, i - 3) : i]))
        for i, (row, kind) in enumerate(zip(rows, sorted(POLICIES) * 1_000, strict=False))
    ]  # fmt: skip
    huge = replace(
        prepared,
        examples={"train": rows, "validation": [], "holdout": []},
        labels=tuple(sorted({row.target or "" for row in rows})),
        quarantined=[],
        splits=[SplitRow(r.row_id, r.source, r.record, r.line, "train", "hash") for r in rows],
        findings=findings,
        sources=[replace(prepared.sources[0], path=f"folder/file{i}.csv") for i in range(400)],
        skipped=[(f"other{i}.bin", "no rows") for i in range(400)],
        hashes={},
    )
    html = render_check(huge, name="x", directory="")
    text = Page(html).text
    assert len(html.encode()) < 1_000_000
    assert "And 370 more files; all are in manifest.json" in text
    assert "And 4,800 more labels" in text
    assert "and 370 more files" in text
    per_kind = Counter(f.kind for f in findings)["empty"]
    assert f"And {per_kind - 5:,} more of this kind; all are in findings.jsonl" in text


def test_examples_are_spread_over_all() -> None:
    assert spread(list(range(3)), 5) == [0, 1, 2]
    assert spread(list(range(101)), 5) == [0, 25, 50, 75, 100]


def test_rows_are_found_wherever_they_ended(prepared: Prepared) -> None:
    seen = look_up(prepared, [row.row_id for row in prepared.splits])
    assert {row_id: row.side for row_id, row in seen.items()} == {
        row.row_id: row.split for row in prepared.splits
    }
    aside = [row_id for _, row_id, reason in prepared.quarantined if reason == "exact_duplicate"]
    assert {seen[row_id].text for row_id in aside} == {"the same row again and again please"}
    assert {seen[row_id].label for row_id in aside} == {"amber"}


def test_files_of_one_name_keep_their_folders(prepared: Prepared) -> None:
    source = prepared.sources[0]
    paths = ["a/x.csv", "b/x.csv", "b/y.csv"]
    two = replace(prepared, sources=[replace(source, path=path) for path in paths])
    assert short_names(two) == {"b/y.csv": "y.csv"}


def test_a_score_is_read_from_the_evidence() -> None:
    finding = Finding("r", "s", 1, 1, "label_error_suspected", "warning", "(score 3.25)", "")
    assert check_sections._score(finding) == 3.25


@pytest.mark.slow
def test_no_torch_is_imported() -> None:
    code = (
        "import sys, fettle.report.check_report; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_evidence_names_files_as_the_places_do() -> None:
    evidence = "90% the same as /a/x.csv:3, or /a/x.csv, record 4, not /b/a/x.csv.old"
    finding = Finding("r", "/a/x.csv", 1, 1, "near_duplicate", "note", evidence, "")
    shown = check_sections.shown_evidence(finding, {"/a/x.csv": "x.csv"})
    assert shown == "90% the same as x.csv:3, or x.csv, record 4, not /b/a/x.csv.old"


def test_clusters_of_conversations_have_no_column_of_labels(prepared: Prepared) -> None:
    found = check_groups.clusters(prepared)
    seen = look_up(prepared, found.wanted())
    (first, *_) = check_groups.shown_clusters(found, seen)
    assert first.table.columns[-1] == "label"
    bare = {row_id: replace(row, label="") for row_id, row in seen.items()}
    (first, *_) = check_groups.shown_clusters(found, bare)
    assert first.table.columns[-1] == "row"
    assert all(len(row) == 4 for row in first.table.rows)


def test_labels_are_masked_wherever_they_stand(tmp_path: Path) -> None:
    labels = ["rare.78@corp-mail.com", "Rare.78@corp-mail.com", "usual"]
    rows = [(f"{sentence(i)} {i}", labels[2 if i > 7 else i > 5]) for i in range(90)]
    rows += [(rows[0][0], "usual")] * 2
    fettle.check(write_rows(tmp_path / "a.jsonl", rows), out=tmp_path / "out")
    page = (tmp_path / "out" / CHECK_REPORT).read_text(encoding="utf-8")
    assert "[EMAIL]" in page
    assert "corp-mail" not in page
