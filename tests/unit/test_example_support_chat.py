"""The conversations of examples/support-chat: remade byte for byte, varied, and true to the sheet.

The figures are read from the sheet's own tables here, not from the generator's table of facts.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import fettle

BIKES = ("Wren", "Heron", "Ox", "Finch")
PLANS = ("Drift", "Steady", "Homeward")
SLOT = re.compile(r"\{\w+\}")


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "examples/support-chat"


@pytest.fixture(scope="module")
def records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "conversations.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def answers(records: list[dict[str, Any]]) -> list[str]:
    return [turn["content"] for r in records for turn in r["messages"][1::2]]


@pytest.fixture(scope="module")
def sheet(folder: Path) -> str:
    return (folder / "policies.md").read_text(encoding="utf-8")


def _table(sheet: str, heading: str) -> dict[str, dict[str, str]]:
    """Bike -> column -> cell of the table below a heading."""
    rows = re.search(rf"^## {heading}.*?\n((?:\|.*\n)+)", sheet, re.MULTILINE)
    assert rows is not None
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows[1].splitlines()]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def _sentences(texts: list[str]) -> Iterator[str]:
    for text in texts:
        yield from re.split(r"(?<=[.!?;]) ", text)


def _the_one(names: tuple[str, ...], text: str) -> str | None:
    """The only one of the names in the text."""
    found = [name for name in names if re.search(rf"\b{name}\b", text)]
    return found[0] if len(found) == 1 else None


# The files ----------------------------------------------------------------------------------------


def test_the_generator_makes_the_committed_files_again(folder: Path, tmp_path: Path) -> None:
    script = folder / "generate.py"
    subprocess.run([sys.executable, "-B", script, tmp_path], check=True, capture_output=True)
    for name in ("conversations.jsonl", "policies.md"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name
    assert (folder / "conversations.jsonl").stat().st_size < 1_500_000


def test_counts_and_shape(records: list[dict[str, Any]], folder: Path) -> None:
    turns = [len(r["messages"]) for r in records]
    assert sum(turns) >= 2000
    assert set(turns) == {2, 4, 6}
    assert 700 <= len(records) <= 900
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{len(records)} conversations with {sum(turns):,} turns" in page
    assert len({r["id"] for r in records}) == len(records)
    customers = Counter(r["customer"] for r in records)
    assert f"{len(customers)} customers" in page
    assert sum(number > 1 for number in customers.values()) > 100
    for record in records:
        assert list(record) == ["id", "customer", "must_name", "messages"]
        for number, turn in enumerate(record["messages"]):
            assert turn["role"] == ("user", "assistant")[number % 2]
            assert turn["content"] == " ".join(turn["content"].split()) != ""


def test_must_name_is_in_the_last_answer(records: list[dict[str, Any]]) -> None:
    for record in records:
        last = record["messages"][-1]["content"].lower()
        assert record["must_name"]
        assert all(part.lower() in last for part in record["must_name"]), record["id"]
    goodbye = sum(record["must_name"] == ["Ride well"] for record in records)
    assert 0 < goodbye < 0.15 * len(records)


def test_fettle_reads_it_without_a_finding_that_matters(folder: Path, tmp_path: Path) -> None:
    checked = fettle.check(
        folder / "conversations.jsonl", out=tmp_path / "account", group="customer"
    )
    findings = (tmp_path / "account/findings.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in findings.splitlines()]
    assert [f for f in found if f["severity"] in ("error", "warning")] == []
    sides: dict[str, set[str]] = {}
    for side, examples in checked.prepared.examples.items():
        for example in examples:
            assert example.group is not None
            sides.setdefault(example.group, set()).add(side)
    assert all(len(held) == 1 for held in sides.values())
    assert checked.prepared.quarantined == []


# Variety ------------------------------------------------------------------------------------------


def _jaccard(sets: list[set[str]]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The Jaccard similarity of every pair, with 0 on the diagonal."""
    column: dict[str, int] = {}
    rows, columns = [], []
    for number, members in enumerate(sets):
        for member in members:
            rows.append(number)
            columns.append(column.setdefault(member, len(column)))
    ones = np.ones(len(rows), dtype=np.int32)
    matrix = sparse.csr_matrix((ones, (rows, columns)), shape=(len(sets), len(column)))
    both = (matrix @ matrix.T).toarray().astype(np.float64)
    sizes = np.diag(both)
    similar = both / (sizes[:, None] + sizes[None, :] - both)
    np.fill_diagonal(similar, 0)
    return similar


def _characters(text: str) -> set[str]:
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def test_similarity_of_pairs_is_the_plain_one() -> None:
    sets = [{"a", "b"}, {"b", "c", "d"}, {"a", "b"}, {"x"}]
    plain = [[len(a & b) / len(a | b) if a is not b else 0 for b in sets] for a in sets]
    np.testing.assert_allclose(_jaccard(sets), plain)
    assert _characters("abcdef") == {"abcde", "bcdef"}


@pytest.mark.parametrize("words", [str.split, lambda text: re.findall(r"\w+", text)])
def test_no_two_conversations_are_near(
    records: list[dict[str, Any]], words: Callable[[str], list[str]]
) -> None:
    sets = []
    for record in records:
        said = words(" ".join(turn["content"] for turn in record["messages"]).lower())
        sets.append({f"{a} {b}" for a, b in pairwise(said)})
    assert _jaccard(sets).max() < 0.5


@pytest.mark.parametrize("form", [str, str.lower])
def test_no_two_requests_are_near(
    records: list[dict[str, Any]], form: Callable[[str], str]
) -> None:
    asked = [turn["content"] for r in records for turn in r["messages"][::2]]
    assert _jaccard([_characters(form(text)) for text in asked]).max() < 0.7


def test_no_long_answer_is_given_twice(answers: list[str]) -> None:
    counts = Counter(text for text in answers if len(text) > 40)
    assert [text for text, number in counts.items() if number > 1] == []
    first = Counter(text.split(". ")[0] for text in answers)
    assert first.most_common(1)[0][1] < 0.03 * len(answers)


# Truth --------------------------------------------------------------------------------------------


def test_phrases_of_answers_hold_no_figure(folder: Path) -> None:
    """Whatever figure an answer has, it comes from the table of facts."""
    phrases = tomllib.loads((folder / "phrases.toml").read_text(encoding="utf-8"))
    frame = phrases.pop("_frame")
    del phrases["_sheet"]
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{len(phrases)} topics" in page
    asked = ("greeting", "story", "farewell", "link", "thanks")
    texts = [v for k, v in frame.items() if not k.startswith("reply_") and k not in asked]
    texts += [t[k] for t in phrases.values() for k in ("answer", "more", "stand") if k in t]
    assert len(texts) > 170
    said = [SLOT.sub("", text) for text in texts]
    assert [text for text in said if re.search(r"\d", text)] == []


@pytest.mark.parametrize(
    ("topic", "unit", "heading", "column", "least"),
    [
        (r"deposit", r"€[\d,]+", "Bikes", "deposit", 10),
        (r"share|stolen", r"€[\d,]+", "Bikes", "share after a theft", 15),
        (r"buys?\b", r"€[\d,]+", "Bikes", "price to buy it", 10),
        (r"weigh|scales|lift|It's \d+ kg for", r"\d+ kg", "Bikes", "weight", 20),
    ],
)
def test_figures_of_a_bike_are_those_of_the_sheet(
    answers: list[str], sheet: str, topic: str, unit: str, heading: str, column: str, least: int
) -> None:
    table, checked = _table(sheet, heading), 0
    for sentence in _sentences(answers):
        bike, figures = _the_one(BIKES, sentence), re.findall(unit, sentence)
        if bike and re.search(topic, sentence) and len(figures) == 1:
            assert figures[0] == table[bike][column], sentence
            checked += 1
        if bike and re.search("[Nn]o deposit", sentence):
            assert table[bike]["deposit"] == "none", sentence
    assert checked >= least


def test_monthly_prices_are_those_of_the_sheet(answers: list[str], sheet: str) -> None:
    table, seen = _table(sheet, "Plans"), set()
    columns = {plan: next(c for c in table["Wren"] if c.startswith(plan)) for plan in PLANS}
    for sentence in _sentences(answers):
        bike, plan = _the_one(BIKES, sentence), _the_one(PLANS, sentence)
        figures = re.findall(r"(€[\d,]+) a month", sentence)
        if bike and plan and len(figures) == 1:
            assert figures[0] == table[bike][columns[plan]], sentence
            seen.add((bike, plan))
    assert len(seen) == 12


@pytest.mark.parametrize(("unit", "on_sheet"), [("km", "Range about"), ("hours", "Full charge:")])
def test_range_and_charging_are_those_of_the_sheet(
    answers: list[str], sheet: str, unit: str, on_sheet: str
) -> None:
    known = re.search(rf"{on_sheet} (\d+) {unit} \(Heron\), (\d+) {unit} \(Ox\)", sheet)
    assert known is not None
    expected, checked = {"Heron": known[1], "Ox": known[2]}, 0
    for sentence in _sentences(answers):
        bike, figures = _the_one(BIKES, sentence), re.findall(rf"(\d+) {unit}", sentence)
        about = unit == "km" or re.search("charge|full|empty", sentence)
        if bike and about and len(figures) == 1:
            assert figures[0] == expected[bike], sentence
            checked += 1
    assert checked >= 20


def test_sizes_follow_from_heights(answers: list[str], sheet: str) -> None:
    spans = {
        size: (int(low), int(high))
        for size, low, high in re.findall(r"\b(S|M|L|small|large) (\d+)\s+to\s+(\d+)\s+cm", sheet)
    }
    assert set(spans) == {"S", "M", "L", "small", "large"}
    checked = Counter()
    for text in answers:
        for pattern in (r"\bsize (S|M|L)\b", r"\b(small|large) Finch"):
            size = re.search(pattern, text, re.IGNORECASE)
            height = re.search(r"(\d{3}) cm", re.sub(r"\d+ to \d+ cm", "", text))
            if size and height:
                low, high = spans[size[1]]
                assert low <= int(height[1]) <= high, text
                checked[size[1]] += 1
    assert len(checked) == 5


def test_every_figure_is_on_the_sheet(answers: list[str], sheet: str) -> None:
    """With its unit; heights of people and the price of an early end are worked out elsewhere."""
    units = r"working days|days|hours|months|minutes|years|bikes|km|kg|%|°C|gears"
    form = rf"€[\d,]*\d|\d+:\d\d|\d+ to \d+|\d+ (?:{units})|over \d+\b(?! hours)"
    prices, checked = _table(sheet, "Plans"), 0
    known = set(re.findall(form, " ".join(sheet.split())))
    for answer in answers:
        text = re.sub(r"\b\d{3} cm", "", re.sub(r"(\d+ to \d+) cm", r"\1", answer))
        early = re.search(r"For your (\w+) that is (€\d+)", text)
        if early:
            plan = re.search(r"(Steady|Homeward)", text)
            assert plan is not None, answer
            column = next(c for c in prices["Wren"] if c.startswith(plan[1]))
            fees = {"Steady": 1, "Homeward": 2}[plan[1]]
            assert early[2] == f"€{fees * int(prices[early[1]][column][1:])}", answer
            text = text.replace(early[0], "")
            checked += 1
        said = set(re.findall(form, text))
        assert said <= known, answer
        assert not re.search(r"\d", re.sub(form, "", text)), answer
    assert checked >= 3
