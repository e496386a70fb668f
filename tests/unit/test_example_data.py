"""The examples' own data: what their pages say about them is true."""

import csv
import re
from collections import defaultdict
from pathlib import Path


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
