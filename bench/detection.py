"""How many injected duplicates and leaks are found, and how many clean rows are called one.

`python -m bench.detection [--num 200] [--seed 0]` prints a table and writes
bench/results/detection_duplicates.json. The clean rows are public sets; a set that is not there is
left out, and the table says so.

An injected row counts as found when the detector links it to the row that it was made from. Of
look-alikes, which say different things, none should be found. That a link holds is not measured
here: each is counted exactly, and tests/unit/test_data_near.py compares that with plain sets.
"""

import argparse
import csv
import gzip
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.compare.prepare import BENCH, REPOSITORY
from bench.faults.duplicates import (
    EDITS,
    LEAKS,
    Row,
    as_chats,
    as_prompts,
    cut_conversations,
    cut_documents,
    inject_copies,
    inject_leaks,
    look_alikes,
    other_numbers,
    texts_of,
)

from fettle.data.deduplicate import input_key
from fettle.data.near import Clusters, clusters
from fettle.records.rows import Example, Message

SHARED = REPOSITORY.parent / "shared" / "data"
RESULTS = BENCH / "results" / "detection_duplicates.json"
MARKS: Mapping[str, float] = {
    "copy: exact": 1.0,
    "copy: case": 0.99,
    "copy: spacing": 0.99,
    "copy: words 2 %": 0.99,
    "copy: words 5 %": 0.85,
    "copy: wrapped": 0.90,
    "leak: exact": 1.0,
    "leak: words 2 %": 0.99,
    "leak: words 5 %": 0.95,
    "leak: words 10 %": 0.80,
    "leak: wrapped": 1.0,
    "leak: truncated": 1.0,
    "leak: contained": 1.0,
    "group: conversation": 0.95,
    "group: document": 0.95,
}
"""Recall that is asked for, over texts of 30 words or more."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    data: str
    fault: str
    injected: int
    found: int

    @property
    def recall(self) -> float:
        """Share of the injected rows that were found."""
        return self.found / self.injected if self.injected else 1.0


def examples_of(rows: Sequence[Mapping[str, Any]], name: str = "data") -> list[Example]:
    """Rows of a JSON Lines file as examples."""
    made = []
    for number, row in enumerate(rows, start=1):
        place = (f"{name}-{number}", name, number, number)
        if "messages" in row:
            turns = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
            made.append(Example(*place, messages=turns, target=turns[-1].content))
        elif "prompt" in row:
            turns = (Message("user", row["prompt"]), Message("assistant", row["completion"]))
            made.append(Example(*place, messages=turns, target=row["completion"]))
        else:
            made.append(Example(*place, text=row["text"], target=row.get("label")))
    return made


def linked(found: Clusters) -> set[tuple[str, str]]:
    """Pairs of inputs that are called the same or contained, both ways round."""
    pairs = {(x.left, x.right) for x in found.links if x.method in ("near", "contained")}
    return pairs | {(right, left) for left, right in pairs}


def copies(name: str, rows: Sequence[Row], num: int, seed: int, enough: int) -> list[Result]:
    """Recall of copies within one pool."""
    dirty = inject_copies(rows, list(EDITS), num, seed, _long(enough))
    keys = [input_key(example) for example in examples_of(dirty.rows)]
    pairs = linked(clusters(examples_of(dirty.rows), keys))
    hits = dict.fromkeys(EDITS, 0)
    for answer in dirty.answers:
        one, two = keys[answer.row], keys[answer.origin]
        hits[answer.kind] += one == two or (one, two) in pairs
    return [Result(name, f"copy: {kind}", num, count) for kind, count in hits.items()]


def leaks(
    name: str, training: Sequence[Row], held: Sequence[Row], num: int, seed: int, enough: int
) -> list[Result]:
    """Recall of leaks from an evaluation set into training rows."""
    dirty = inject_leaks(training, held, LEAKS, num, seed, _long(enough))
    examples = [*examples_of(dirty.rows), *examples_of(held, "held")]
    keys = [input_key(example) for example in examples]
    other = [index >= len(dirty.rows) for index in range(len(examples))]
    pairs = linked(clusters(examples, keys, other))
    hits = dict.fromkeys(LEAKS, 0)
    for answer in dirty.answers:
        one, two = keys[answer.row], keys[len(dirty.rows) + answer.origin]
        hits[answer.kind] += one == two or (one, two) in pairs
    return [Result(name, f"leak: {kind}", num, count) for kind, count in hits.items()]


def grouped(name: str, fault: str, made: Sequence[tuple[Row, int]]) -> Result:
    """Recall of rows that belong to one conversation or document, whose key nobody gave."""
    examples = examples_of([row for row, _ in made])
    keys = [input_key(example) for example in examples]
    found = clusters(examples, keys)
    first: dict[int, str] = {}
    injected = hits = 0
    for (_, group), key in zip(made, keys, strict=True):
        if group not in first:
            first[group] = found.key(key)
            continue
        injected += 1
        hits += found.key(key) == first[group]
    return Result(name, fault, injected, hits)


def _other_numbers(name: str, rows: Sequence[Row], num: int, seed: int) -> Result:
    """Rows with other numbers that are called the same as the row that they were made from."""
    made = other_numbers(rows, num, seed)
    examples = examples_of([*(row for row, _ in made), *(rows[i] for _, i in made)])
    keys = [input_key(example) for example in examples]
    pairs = linked(clusters(examples, keys))
    found = sum((keys[i], keys[len(made) + i]) in pairs for i in range(len(made)))
    return Result(name, "look-alike: other numbers", len(made), found)


def false_links(rows: Sequence[Row]) -> int:
    """Rows of these, no two of which are the same, that are called the same as another."""
    examples = examples_of(rows)
    keys = [input_key(example) for example in examples]
    return len({left for left, _ in linked(clusters(examples, keys))})


def _long(enough: int) -> Callable[[Row], bool]:
    return lambda row: all(len(text.split()) >= enough for text in texts_of(row)[:1])


# --- data ---------------------------------------------------------------------------------------


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(path).splitlines() if line]


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def gsm8k(part: str) -> list[Row]:
    """Calculations in words, with worked answers."""
    rows = _lines(SHARED / "gsm8k" / f"{part}.jsonl")
    return as_prompts([row["question"] for row in rows], [row["answer"] for row in rows])


def banking77(part: str) -> list[Row]:
    """Short requests to a bank."""
    with (SHARED / "banking77" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        return [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]


def medquad() -> list[Row]:
    """Long answers about diseases, as texts."""
    rows = _lines(SHARED / "medquad" / "medquad.jsonl.gz")
    return [{"text": row["answer"], "label": "a"} for row in rows if row.get("answer")]


def measure(num: int, seed: int) -> list[Result]:
    """Everything that the data on this machine allow."""
    results: list[Result] = []
    if (SHARED / "gsm8k").is_dir():
        training, held = gsm8k("train"), gsm8k("test")
        chats = [as_chats([r["prompt"]], [r["completion"]])[0] for r in training]
        results += copies("gsm8k, prompts of 30+ words", training, num, seed, 30)
        results += copies("gsm8k, chats of 12 to 30 words", [
            row for row in chats if 12 <= len(texts_of(row)[0].split()) < 30
        ], num // 4, seed, 12)  # fmt: skip
        results += leaks("gsm8k, prompts of 30+ words", training, held, num // 4, seed, 30)
        results.append(_other_numbers("gsm8k", training, num, seed))
        documents = [row["prompt"] for row in training if len(row["prompt"].split()) >= 55][:100]
        questions = [row["prompt"] for row in training if len(row["prompt"].split()) < 25][:40]
        made = cut_documents(documents, questions, 4, seed)
        results.append(grouped("gsm8k", "group: document", made))
    if (SHARED / "banking77").is_dir():
        training, held = banking77("train"), banking77("test")
        results += copies("banking77, 12+ words", training, num // 2, seed, 12)
        results += leaks("banking77, 12+ words", training, held, num // 8, seed, 12)
    if (SHARED / "sgd_subset").is_dir():
        results.append(grouped("sgd", "group: conversation", cut_conversations(sgd())))
    rows = look_alikes(2000, seed)
    results.append(Result("written here", "look-alike: template", len(rows), false_links(rows)))
    return results


def sgd() -> list[list[dict[str, str]]]:
    """Conversations between a user and an assistant."""
    found = []
    for path in sorted((SHARED / "sgd_subset" / "test").glob("dialogues_*.json.gz"))[:1]:
        for dialogue in json.loads(_text(path)):
            turns = dialogue["turns"]
            role = {"USER": "user", "SYSTEM": "assistant"}
            found.append([{"role": role[t["speaker"]], "content": t["utterance"]} for t in turns])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=200, help="injected rows of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    start = time.monotonic()
    if not SHARED.is_dir():
        print(f"no public sets at {SHARED}: only what is written here is measured")
    results = measure(options.num, options.seed)
    missed = 0
    print(f"{'data':34}{'fault':28}{'rows':>6}{'found':>8}   mark")
    for result in results:
        # A single edit is 8 % of a text of twelve words: such texts are shown without a mark.
        mark = None if "12" in result.data else MARKS.get(result.fault)
        low = mark is not None and result.recall < mark
        missed += low
        words = "" if mark is None else f"{mark:.2f}{' MISSED' if low else ''}"
        print(f"{result.data:34}{result.fault:28}{result.injected:6}{result.recall:8.3f}   {words}")
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [asdict(result) | {"recall": round(result.recall, 4)} for result in results]
    text = json.dumps({"schema": 1, **vars(options), "results": rows}, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
