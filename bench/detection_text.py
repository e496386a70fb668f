"""How well the checks of text find injected faults, and how often they speak of clean rows.

    python -m bench.detection_text [--each 8] [--seed 1] [--json FILE] [--kinds a,b]

Clean rows come from public sets (../shared/data). Faults and look-alikes are injected
(``bench.faults.text``); every row then goes the way of the product: normalize (which repairs) and
the families of ``fettle.data.check``. Recall of a kind: injected rows with a finding of that kind.
Precision: of all rows with a finding of that kind, those with an injected fault of that kind;
rows of which the clean set itself has that finding do not count. Prints a table, writes JSON.
"""

import argparse
import csv
import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bench.faults.text import Injected, inject, inject_turns

from fettle.data.check import (
    conversations,
    degenerate,
    encoding,
    fields,
    language,
    markup,
    personal_data,
    placeholder,
    prompt_injection,
    secrets,
    template_residue,
)
from fettle.data.meaning.detect import Layout
from fettle.data.meaning.normalize import normalize
from fettle.recipe.recipe import DataSection
from fettle.records.rows import Example, Finding, RawRow

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "bench" / "results" / "detection_text.json"
FAMILIES: Mapping[str, Callable[[Sequence[Example]], list[Finding]]] = {
    "encoding": encoding.find,
    "markup": markup.find,
    "placeholder": placeholder.find,
    "personal_data": personal_data.find,
    "secrets": secrets.find,
    "template_residue": template_residue.find,
    "prompt_injection": prompt_injection.find,
    "degenerate": degenerate.find,
    "language": language.find,
    "fields": fields.find,
    "conversations": conversations.find,
}
MARKS: Mapping[str, tuple[float, float]] = {
    "mojibake": (0.95, 0.95),
    "encoding_error": (0.95, 0.95),
    "control_characters": (0.95, 0.95),
    "empty": (1.0, 0.99),
    "placeholder": (1.0, 0.99),
    "html_or_url": (0.95, 0.95),
    "personal_data": (0.95, 0.95),
    "secret": (0.90, 0.95),
    "language_mismatch": (0.95, 0.95),
    "degenerate": (0.95, 0.95),
    "template_residue": (1.0, 0.99),
    "prompt_injection": (0.90, 0.95),
    "swapped_fields": (0.90, 0.90),
    "answer_in_prompt": (0.90, 0.90),
    "role_order": (1.0, 0.99),
}
"""Recall and precision to reach."""
_WHOLE = ("language_mismatch", "swapped_fields", "degenerate", "html_or_url", "placeholder")
_PAIR = Layout("prompt_completion", "chat", {"prompt": "prompt", "completion": "completion"}, "")
_TURNS = Layout("messages", "chat", {"messages": "messages"}, "")
_TEXT = Layout("text_label", "classify", {"text": "text", "label": "label"}, "")


@dataclass(frozen=True)
class Score:
    """One kind of fault on one set."""

    kind: str
    injected: int
    found: int
    spoken: int
    """Rows with a finding of that kind, but for those that the clean set has too."""
    right: int

    @property
    def recall(self) -> float:
        """Share of the injected rows that were found."""
        return self.found / self.injected if self.injected else 1.0

    @property
    def precision(self) -> float:
        """Share of the findings that are right."""
        return self.right / self.spoken if self.spoken else 1.0


def kinds_by_row(rows: Sequence[Mapping[str, Any]], layout: Layout) -> dict[int, Counter[str]]:
    """Row number -> kinds of what is found about it."""
    raw = [RawRow("data", i + 1, i + 1, dict(row)) for i, row in enumerate(rows)]
    examples, findings, _ = normalize(raw, layout, DataSection(path=["data"]))
    for find in FAMILIES.values():
        findings.extend(find(examples))
    kinds: dict[int, Counter[str]] = defaultdict(Counter)
    for finding in findings:
        kinds[finding.record - 1][finding.kind] += 1
    return kinds


def score(
    found: Mapping[int, Counter[str]], before: Mapping[int, Counter[str]], key: Sequence[Injected]
) -> tuple[list[Score], list[Injected], list[tuple[int, str]]]:
    """Scores by kind, the faults that were missed, and (row, kind) of findings without a fault."""
    at = {one.row: one for one in key}
    kinds = sorted({one.kind for one in key if one.is_fault})
    scores, missed, wrong = [], [], []
    for kind in kinds:
        injected = [one for one in key if one.is_fault and one.kind == kind]
        hit = [one for one in injected if found.get(one.row, Counter())[kind]]
        missed += [one for one in injected if not found.get(one.row, Counter())[kind]]
        spoken = right = 0
        for row, counts in found.items():
            if not counts[kind]:
                continue
            one = at.get(row)
            mine = one is not None and one.kind == kind
            # The clean row may have had it, and a fault may be one of another kind too; so may a
            # look-alike, clean German is another language, <your token> is a placeholder.
            other_fault = one is not None and not mine and (one.is_fault or kind in _WHOLE)
            had = before.get(row, Counter())[kind] and not (
                mine and one is not None and one.is_fault
            )
            if other_fault or had:
                continue
            spoken += 1
            if one is not None and one.is_fault:
                right += 1
            else:
                wrong.append((row, kind))
        scores.append(Score(kind, len(injected), len(hit), spoken, right))
    return scores, missed, wrong


def clean_rows(name: str, shared: Path = SHARED) -> list[dict[str, str]]:
    """Rows of a public set, as {"prompt", "completion"} or {"text", "label"}."""
    if name == "medquad":
        with gzip.open(shared / "medquad" / "medquad.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return [
            {"prompt": row["question"], "completion": row["answer"]}
            for row in rows
            if row["answer"]
        ]
    if name == "gsm8k":
        lines = (shared / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
        return [
            {"prompt": row["question"], "completion": row["answer"]}
            for row in map(json.loads, lines)
        ]
    if name == "clinc150":
        data = json.loads((shared / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
        return [{"text": text, "label": label} for text, label in data["train"]]
    path, columns, delimiter = _TABLES[name]
    rows = []
    for file_path in sorted(shared.glob(path)):
        with file_path.open(encoding="utf-8", newline="") as file:
            rows += [
                {ours: row[theirs] for ours, theirs in columns.items()}
                for row in csv.DictReader(file, delimiter=delimiter)
            ]
    return rows


_TABLES = {
    "banking77": ("banking77/train.csv", {"text": "text", "label": "category"}, ","),
    "bitext": (
        "bitext_customer_support/*.csv",
        {"prompt": "instruction", "completion": "response"},
        ",",
    ),
    "e2e_nlg": ("e2e_nlg/devset.csv", {"prompt": "mr", "completion": "ref"}, ","),
    "multidogo": ("multidogo/*/train.tsv", {"text": "utterance", "label": "intent"}, "\t"),
}
CLEAN = ("banking77", "clinc150", "bitext", "gsm8k", "e2e_nlg", "multidogo", "medquad")
INJECTED = ("medquad", "gsm8k", "bitext")


def detect(
    name: str,
    seed: int,
    each: int,
    kinds: Sequence[str] | None = None,
    shared: Path = SHARED,
    limit: int | None = None,
) -> tuple[list[Score], list[Injected], list[tuple[int, str]], list[dict[str, str]]]:
    """Inject into one set (or as many rows of it) and look."""
    rows = [
        row
        for row in clean_rows(name, shared)
        if 20 <= len(row["completion"]) < 3000 and len(row["prompt"]) >= 12
    ]
    if limit is not None:
        rows = Random(seed).sample(rows, min(limit, len(rows)))
    dirty, key = inject(rows, seed, each, kinds)
    found, before = kinds_by_row(dirty, _PAIR), kinds_by_row(rows, _PAIR)
    return *score(found, before, key), dirty


def detect_turns(
    name: str, seed: int, each: int, shared: Path = SHARED
) -> tuple[list[Score], list[Injected], list[tuple[int, str]]]:
    """Inject faults of order into conversations made from one set, and look."""
    turns, key = inject_turns(clean_rows(name, shared), seed, each)
    return score(kinds_by_row(turns, _TURNS), {}, key)


def rates(name: str, shared: Path = SHARED) -> dict[str, Any]:
    """Findings and errors (rows to be set aside) of a clean set, as shares of its rows."""
    rows = clean_rows(name, shared)
    layout = _PAIR if "prompt" in rows[0] else _TEXT
    raw = [RawRow(name, i + 1, i + 1, dict(row)) for i, row in enumerate(rows)]
    examples, findings, _ = normalize(raw, layout, DataSection(path=["data"]))
    for find in FAMILIES.values():
        findings.extend(find(examples))
    kinds = Counter((finding.kind, finding.severity) for finding in findings)
    return {
        "rows": len(rows),
        "findings": {f"{kind} ({severity})": n for (kind, severity), n in sorted(kinds.items())},
        "set_aside": sum(n for (_, severity), n in kinds.items() if severity == "error"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables, write the JSON file; 1 if a mark was missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--each", type=int, default=8, help="rows for each variant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="")
    parser.add_argument("--sets", default=",".join(INJECTED))
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--limit", type=int, help="take only so many rows of each set")
    parser.add_argument("--show", action="store_true", help="print what was missed or wrong")
    parser.add_argument("--clean", default=",".join(CLEAN), help="clean sets; empty = none")
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",") if options.kinds else None
    result: dict[str, Any] = {
        "seed": options.seed,
        "each": options.each,
        "limit": options.limit,
        "sets": {},
        "clean": {},
    }
    missed_mark = False
    for name in options.sets.split(","):
        scores, missed, wrong, dirty = detect(
            name, options.seed, options.each, kinds, limit=options.limit
        )
        if kinds is None:
            more, *_ = detect_turns(name, options.seed, options.each)
            scores += [one for one in more if one.kind == "role_order"]
        print(f"\n{name}\n{'kind':20} {'injected':>8} {'recall':>7} {'precision':>9}")
        for one in scores:
            recall, precision = MARKS[one.kind]
            fails = one.recall < recall or one.precision < precision
            missed_mark |= fails
            print(
                f"{one.kind:20} {one.injected:8} {one.recall:7.3f} {one.precision:9.3f}"
                f"{'  below the mark' if fails else ''}"
            )
        result["sets"][name] = [
            {
                "kind": one.kind,
                "injected": one.injected,
                "recall": round(one.recall, 4),
                "precision": round(one.precision, 4),
            }
            for one in scores
        ]
        if options.show:
            for fault in missed:
                print("missed", fault.kind, fault.variant, str(dirty[fault.row])[:240])
            for row, kind in wrong:
                print("wrong", kind, str(dirty[row])[:400])
    for name in options.clean.split(",") if options.clean else ():
        result["clean"][name] = rates(name)
        print(name, json.dumps(result["clean"][name]))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(missed_mark)


if __name__ == "__main__":
    sys.exit(main())
