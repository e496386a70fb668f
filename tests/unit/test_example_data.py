"""The examples' own data: what their pages say about them is true."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest


def _records(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))


def test_ticket_routing_has_exactly_the_faults_that_its_page_names(repository: Path) -> None:
    header, *records = _records(repository / "examples/ticket-routing/tickets.csv")
    assert header == ["text", "queue"]
    assert len(records) == 600
    whole = [record for record in records if len(record) == 2]
    assert len(records) - len(whole) == 1
    filled = [(text, queue) for text, queue in whole if text.strip()]
    assert len(whole) - len(filled) == 2
    assert len(filled) - len(set(filled)) == 3
    queues = defaultdict(set)
    for text, queue in filled:
        queues[text].add(queue)
    assert sum(len(found) > 1 for found in queues.values()) == 2
    page = (repository / "examples/ticket-routing/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {q for _, q in filled}


def test_customer_service_answers_are_short_and_questions_differ(repository: Path) -> None:
    header, *records = _records(repository / "examples/customer-service/tickets.csv")
    assert header == ["customer_message", "agent_reply"]
    page = (repository / "examples/customer-service/README.md").read_text(encoding="utf-8")
    assert f"{len(records)} pairs" in page
    assert len({question for question, _ in records}) == len(records)
    assert all(question.strip() for question, _ in records)
    assert max(len(answer.split()) for _, answer in records) <= 60
    assert len({answer for _, answer in records}) > 0.8 * len(records)


@pytest.mark.parametrize("unit", ["€", "days", "hours", "km", "%"])
def test_every_figure_in_an_answer_is_on_the_policy_sheet(repository: Path, unit: str) -> None:
    """An amount, span, distance or share that the sheet does not have would teach a falsehood."""
    folder = repository / "examples/customer-service"
    form = {
        "€": r"€([\d,]+)",
        "days": r"(\d+)(?: working)? days",
        "hours": r"(\d+) hours",
        "km": r"(\d+) km",
        "%": r"(\d+) %",
    }[unit]
    sheet = (folder / "policies.md").read_text(encoding="utf-8")
    known = set(re.findall(r"[\d,]*\d", sheet))
    said = {
        figure.rstrip(",")
        for _, answer in _records(folder / "tickets.csv")[1:]
        for figure in re.findall(form, answer)
    }
    assert said
    # a question about two vouchers is answered with their sum
    assert said - known <= {"300"}
