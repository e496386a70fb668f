"""Fake runs, complete and realistic, for tests of the report and for looking at it.

``python tests/unit/report_fixture.py DIR`` writes DIR/classify, DIR/three, DIR/chat with their
report.html and README.md.
"""

import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fettle.data.meaning.detect import Layout
from fettle.data.reading.read import Source
from fettle.evaluate.abstain import abstain
from fettle.evaluate.slices import slices
from fettle.evaluate.wording import headline
from fettle.metrics import find_metric
from fettle.records.events import StepRecord, ValidationRecord
from fettle.records.outcomes import BaselineResult, Comparison, Grade, Prediction, Verdict
from fettle.report import write_card, write_report

TOPICS = (
    "card",
    "transfer",
    "top_up",
    "cash",
    "refund",
    "pin",
    "exchange",
    "direct_debit",
    "identity",
    "account",
    "payment",
)
PROBLEMS = (
    "arrival",
    "fee_charged",
    "not_working",
    "declined",
    "pending",
    "limits",
    "lost_or_stolen",
)
SENTENCES = (
    "I am still waiting on my {topic}, what is the matter with {problem}?",
    "What can I do if my {topic} shows {problem} after 2 weeks?",
    "Why was there a {problem} on my {topic} this morning? I did nothing unusual.",
    "{topic}: {problem}!!! Please help me, I am abroad",
    "How do I deal with {problem} when I use my {topic} at a shop?",
)
ANSWER = (
    "I understand how unnerving it can be to {verb} an order, especially if it's order number "
    "{{{{Order Number}}}}. Here is how:\n\n1. Sign in to your account.\n2. Open the section "
    "'Orders'.\n3. Choose the order and press '{verb}'.\n\nIf anything stays unclear, our team is "
    "there for you from Monday to Friday, 8 AM to 8 PM."
)
VERBS = ("cancel", "change", "track", "return", "exchange")


def _id(kind: str, number: int) -> str:
    return f"{random.Random(f'{kind}{number}').getrandbits(64):016x}"


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _events(root: Path, num_steps: int, floor: float, metric: str) -> None:
    noise = random.Random(7)
    lines: list[dict[str, Any]] = [
        {"schema": 1, "event": "stage", "stage": "data", "status": "start", "time": 0.0},
        {"schema": 1, "event": "stage", "stage": "data", "status": "done", "seconds": 3.2},
        {"schema": 1, "event": "stage", "stage": "plan", "status": "done", "seconds": 0.4},
        {"schema": 1, "event": "note", "message": "9 rows are longer than 256 tokens and were cut"},
    ]
    best = math.inf
    for step in range(1, num_steps + 1):
        done = step / num_steps
        loss = floor + 3.9 * math.exp(-5 * done) + noise.gauss(0, 0.08)
        rate = 1e-3 * min(done / 0.1, (1 - done) / 0.9)
        record = StepRecord(step, num_steps, done * 4, loss, rate, 1.1, 32, 700, 2310.0, 0.3)
        lines.append(
            {"schema": 1, "event": "step", "time": step * 0.3}
            | {name: getattr(record, name) for name in StepRecord.__slots__}
        )
        if step % max(1, num_steps // 12) == 0:
            value = floor + 0.1 + 3.7 * math.exp(-5 * done) + 0.25 * max(0.0, done - 0.8)
            look = ValidationRecord(step, value, metric, 0.9, value < best)
            best = min(best, value)
            lines.append(
                {"schema": 1, "event": "validation"}
                | {name: getattr(look, name) for name in ValidationRecord.__slots__}
            )
    lines.append(
        {"schema": 1, "event": "stage", "stage": "train", "status": "done", "seconds": 190}
    )
    lines.append(
        {"schema": 1, "event": "stage", "stage": "evaluate", "status": "done", "seconds": 21.0}
    )
    _write_lines(root / "events.jsonl", lines)


def _recipe(root: Path, task: str, base: str, data: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    recipe = {"schema": 1, "task": task, "data": {"path": [data]}, "base": {"id": base}}
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    values = {
        "task": (task, "detected", "a text column and a label column"),
        "data.path": ([data], "user", ""),
        "base.id": (base, "user", ""),
        "method.type": ("lora", "default", "fits the memory of this machine and keeps the base"),
        "method.rank": (16, "default", "enough for this many classes"),
        "method.target_modules": (
            ["query", "key", "value", "dense"],
            "default",
            "all linear layers",
        ),
        "train.learning_rate": (2e-4, "default", "about 10 times the rate of full fine-tuning"),
        "train.batch_size": (32, "default", "250 steps an epoch"),
        "train.epochs": (4.0, "default", "8,031 rows"),
        "train.micro_batch_tokens": (4096, "probed", "2.1 GiB are free"),
        "train.max_length": (128, "detected", "the longest row has 97 tokens"),
        "base.dtype": ("float32", "probed", "bfloat16 is 3.1 times slower on this processor"),
        "evaluate.minimum_difference": (0.0, "default", "any difference counts"),
        "seed": (0, "default", ""),
    }
    resolved = {
        "schema": 1,
        "values": {
            key: {"value": value, "source": source, "reason": reason}
            for key, (value, source, reason) in values.items()
        },
        "facts": {
            "base": {
                "id": base,
                "revision": "c9745ed1",
                "sha256": "5b" * 32,
                "num_parameters": 22_713_216,
                "licence": "apache-2.0",
            }
        },
    }
    (root / "recipe.resolved.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False), "utf-8")
    environment = {
        "schema": 1,
        "python": "3.11.9",
        "platform": "Linux-6.1-x86_64",
        "machine": {"device": "cpu", "threads": 2, "gflops": {"float32": 148.2, "bfloat16": 47.5}},
        "packages": {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
    }
    _write(root / "environment.json", environment)
    _write(root / "plan.json", {"schema": 1, "minimum_difference": 0.0, "sha256": "ab" * 32})


def _data(root: Path, source: str, counts: Mapping[str, int], rows: Sequence[Any]) -> None:
    file = Source(source, "d0" * 32, "csv", 839_073, sum(counts.values()), 5, "utf-8", ",", True)
    reason = "one column of long texts, one of 77 repeated values"
    columns = {"text": "text", "label": "category"}
    layout = Layout("text_label", "classify", columns, reason, ("--label intent",))
    manifest = {
        "schema": 1,
        "sources": [file.to_json()],
        "eval_sources": [],
        "layout": layout.to_json(),
        "skipped": [["data/notes.docx", "not a format that is read"]],
    }
    _write(root / "data" / "manifest.json", manifest)
    splits: list[dict[str, Any]] = []
    for split, count in counts.items():
        for place in range(count):
            reason = "hash of the row"
            if split == "quarantine":
                reason = "exact duplicate" if place % 3 else "malformed: 3 fields where 2 are named"
            splits.append(
                {
                    "row_id": _id(split, place),
                    "source": source,
                    "record": len(splits) + 1,
                    "line": len(splits) + 2,
                    "split": split,
                    "reason": reason,
                }
            )
    _write_lines(root / "data" / "splits.jsonl", splits)
    findings = [
        ("exact_duplicate", "warning", 9, "same text as record 17", "kept once"),
        ("malformed_row", "error", 5, "3 fields where the header names 2", "quarantined"),
        ("imbalance", "note", 1, "largest class 187 rows, smallest 35", "none needed"),
        ("label_conflict", "warning", 6, "same text, two labels", "look at both rows"),
    ]
    _write_lines(
        root / "data" / "findings.jsonl",
        [
            {
                "row_id": _id("train", place),
                "source": source,
                "record": place + 1,
                "line": place + 2,
                "kind": kind,
                "severity": severity,
                "evidence": evidence,
                "remedy": remedy,
                "related": [],
            }
            for kind, severity, count, evidence, remedy in findings
            for place in range(count)
        ],
    )
    _write_lines(root / "data" / "rows.jsonl", rows)


def _grades(root: Path, metric: str, values: Mapping[str, Sequence[tuple[str, float]]]) -> None:
    lines = [
        Grade(row_id, arm, metric, value)
        for arm, pairs in values.items()
        for row_id, value in pairs
    ]
    _write_lines(
        root / "evaluation" / "grades.jsonl",
        [{name: getattr(line, name) for name in Grade.__slots__} for line in lines],
    )


def _class_scores(
    labels: Sequence[str], truth: Sequence[str], said: Sequence[str]
) -> list[dict[str, float]]:
    scores = []
    for label in labels:
        right = sum(a == label == b for a, b in zip(truth, said, strict=True))
        precision = right / max(1, sum(b == label for b in said))
        recall = right / max(1, sum(a == label for a in truth))
        f1 = 2 * precision * recall / max(1e-12, precision + recall)
        scores.append({"precision": precision, "recall": recall, "f1": f1})
    return scores


def write_classify_run(
    root: Path,
    num_classes: int = 77,
    num_rows: int = 976,
    base_quality: float = 0.62,
    tuned_quality: float = 0.91,
    word: str = "improved",
) -> Path:
    """A run that classifies, with everything in it but the report and the card."""
    names = [f"{topic}_{problem}" for topic in TOPICS for problem in PROBLEMS]
    labels = sorted(names[:num_classes] if num_classes > 3 else ["negative", "neutral", "positive"])
    dice = random.Random(1)
    rows, truth, said = [], [], {"base": [], "tuned": []}
    predictions: dict[str, list[dict[str, Any]]] = {"base": [], "tuned": []}
    row_ids = [_id("holdout", number) for number in range(num_rows)]
    for row_id in row_ids:
        place = dice.randrange(len(labels))
        truth.append(labels[place])
        words = labels[place].split("_", 1)
        text = dice.choice(SENTENCES).format(topic=words[0], problem=words[-1].replace("_", " "))
        rows.append({"row_id": row_id, "split": "holdout", "text": text, "target": labels[place]})
        for arm, quality in (("base", base_quality), ("tuned", tuned_quality)):
            is_right = dice.random() < quality
            near = (place + dice.choice((-2, -1, 1, 1, 7))) % len(labels)
            answer = labels[place if is_right or near == place else near]
            top = dice.uniform(0.5, 0.99)
            chances = {answer: top}
            if answer != labels[place]:
                chances[labels[place]] = (1 - top) * dice.random()
            said[arm].append(answer)
            record = Prediction(row_id, answer, labels[place], probabilities=chances).to_json()
            predictions[arm].append(record)
    right = {
        arm: [
            (row_id, float(a == b)) for row_id, a, b in zip(row_ids, truth, said[arm], strict=True)
        ]
        for arm in said
    }
    scores = {arm: sum(value for _, value in right[arm]) / num_rows for arm in right}
    b = sum(x[1] > y[1] for x, y in zip(right["base"], right["tuned"], strict=True))
    c = sum(x[1] < y[1] for x, y in zip(right["base"], right["tuned"], strict=True))
    error = 1.96 * math.sqrt((b + c) - (c - b) ** 2 / num_rows) / num_rows
    difference = scores["tuned"] - scores["base"]
    classes = {arm: _class_scores(labels, truth, said[arm]) for arm in said}
    matrix = [[0] * len(labels) for _ in labels]
    before = [[0] * len(labels) for _ in labels]
    for a, answer, other in zip(truth, said["tuned"], said["base"], strict=True):
        matrix[labels.index(a)][labels.index(answer)] += 1
        before[labels.index(a)][labels.index(other)] += 1

    def comparison(metric: str, base: float, tuned: float, p: float) -> Comparison:
        gap = tuned - base
        return Comparison(
            metric,
            True,
            base,
            tuned,
            gap,
            gap - error,
            gap + error,
            0.95,
            p,
            "exact McNemar" if metric == "accuracy" else "paired bootstrap",
            num_rows,
            None,
            metric,
            None if metric == "accuracy" else min(1.0, 2 * p),
        )

    macro = {arm: sum(score["f1"] for score in classes[arm]) / len(labels) for arm in classes}
    p = 3e-12 if difference > 0.05 else 0.31
    primary = comparison("accuracy", scores["base"], scores["tuned"], p)
    verdict = Verdict(
        verdict=word,  # type: ignore[arg-type]
        reason="the tuned model is better than the base by at least 29.2 points (p < 0.001, alpha "
        "0.05). No guard sets were given, so nothing else was tested."
        if word == "improved"
        else "p = 0.31 is above alpha 0.05. If the difference seen is the true one, about 2,900 "
        "more rows would decide (3,140 in all, 80 % power).",
        primary=primary,
        secondary=[
            comparison("macro_f1", macro["base"], macro["tuned"], p),
            comparison("macro_recall", macro["base"] - 0.004, macro["tuned"] - 0.002, p),
        ],
        power={"n": num_rows, "minimum_detectable_difference": 0.029, "power": 0.8, "alpha": 0.05},
        baselines=[
            BaselineResult("majority class", 0.022, scores["tuned"] - 0.022, 1e-300, num_rows),
            BaselineResult(
                "TF-IDF + logistic regression",
                0.851,
                scores["tuned"] - 0.851,
                2.1e-5 if scores["tuned"] > 0.87 else 0.4,
                num_rows,
            ),
            BaselineResult(
                "zero-shot label likelihood", 0.187, scores["tuned"] - 0.187, 1e-100, num_rows
            ),
        ],
        holdout={
            "rows": num_rows,
            "sha256": "7c" * 32,
            "looks": 1,
            "alpha_spent": 0.05,
            "rows_with_train_twin": 12,
        },
        plan={"sha256": "ab" * 32},
        weights={"sha256": "9e" * 32},
        base={
            "id": "sentence-transformers/all-MiniLM-L6-v2",
            "revision": "c9745ed1",
            "sha256": "5b" * 32,
        },
        seeds=[0],
        created="2026-11-22T13:30:00Z",
        headline=headline(word, primary, []),  # type: ignore[arg-type]
        extra={
            "per_class": [
                {
                    "label": label,
                    "support": sum(a == label for a in truth),
                    "base": classes["base"][place],
                    "tuned": classes["tuned"][place],
                }
                for place, label in enumerate(labels)
            ],
            "confusion": {"labels": labels, "base": before, "tuned": matrix},
            "discordant": {"base_only": b, "tuned_only": c},
            "rows_to_decide": None,
        },
    )
    _recipe(root, "classify", "sentence-transformers/all-MiniLM-L6-v2", "data/tickets.csv")
    _write(root / "verdict.json", verdict.to_json())
    counts = {"train": 8031, "validation": 982, "holdout": num_rows, "quarantine": 14}
    _data(root, "data/tickets.csv", counts, rows)
    _events(root, 1000, 0.25, "accuracy")
    for arm, lines in predictions.items():
        _write_lines(root / "evaluation" / f"predictions.{arm}.jsonl", lines)
    _grades(root, "accuracy", right)
    return root


def write_chat_run(root: Path, num_rows: int = 300, num_answered: int = 120) -> Path:
    """A run that answers, with everything in it but the report and the card."""
    dice = random.Random(2)
    rows, predictions = [], {"base": [], "tuned": []}
    losses: dict[str, list[tuple[str, float]]] = {"base": [], "tuned": []}
    for number in range(num_rows):
        row_id, verb = _id("holdout", number), dice.choice(VERBS)
        question = f"question about how to {verb} order {dice.randrange(10**6)}, can u help me?"
        reference = ANSWER.format(verb=verb)
        messages = [
            {"role": "system", "content": "You are the support desk of a shop."},
            {"role": "user", "content": question},
            {"role": "assistant", "content": reference},
        ]
        rows.append(
            {"row_id": row_id, "split": "holdout", "messages": messages, "target": reference}
        )
        hard = dice.gauss(0, 0.25)
        for arm, mean, answer in (
            ("base", 2.6, "The order is a order of the order. " * dice.randrange(1, 14)),
            ("tuned", 0.9, ANSWER.format(verb=dice.choice(VERBS))),
        ):
            loss = max(0.05, mean + hard + dice.gauss(0, 0.35 if arm == "base" else 0.9))
            losses[arm].append((row_id, loss))
            said = answer if number < num_answered else None
            predictions[arm].append(
                Prediction(row_id, said, reference, loss_sum=loss * 90, num_targets=90).to_json()
            )
    means = {arm: sum(value for _, value in pairs) / num_rows for arm, pairs in losses.items()}
    gap = means["tuned"] - means["base"]

    def generated(metric: str, base: float, tuned: float, half: float) -> Comparison:
        return Comparison(
            metric,
            True,
            base,
            tuned,
            tuned - base,
            tuned - base - half,
            tuned - base + half,
            0.95,
            1e-4,
            "paired bootstrap",
            num_answered,
            None,
            metric,
            3e-4,
        )

    primary = Comparison(
        "loss",
        False,
        means["base"],
        means["tuned"],
        gap,
        gap - 0.11,
        gap + 0.11,
        0.95,
        1e-4,
        "paired bootstrap",
        num_rows,
        None,
        "loss",
    )
    verdict = Verdict(
        verdict="improved",
        reason="the tuned model is better than the base by at least 1.528 nats (p < 0.001).",
        primary=primary,
        headline=headline("improved", primary, []),
        extra={"display": {"perplexity": {arm: math.exp(value) for arm, value in means.items()}}},
        secondary=[
            generated("chrf", 17.2, 51.8, 2.9),
            generated("rouge_l", 0.09, 0.56, 0.03),
            generated("exact_match", 0.0, 0.183, 0.07),
        ],
        power={"n": num_rows, "minimum_detectable_difference": None, "power": 0.8, "alpha": 0.05},
        baselines=[
            BaselineResult("nearest training answer", 44.1, 7.7, 1e-4, num_answered, "chrf")
        ],
        holdout={
            "rows": num_rows,
            "sha256": "7c" * 32,
            "looks": 3,
            "alpha_spent": 0.05,
            "rows_with_train_twin": 0,
        },
        plan={"sha256": "ab" * 32},
        weights={"sha256": "9e" * 32},
        base={"id": "starter", "revision": None, "sha256": "5b" * 32},
        seeds=[0],
        created="2026-11-22T13:30:00Z",
    )
    _recipe(root, "chat", "starter", "data/support.csv")
    _write(root / "verdict.json", verdict.to_json())
    counts = {"train": 2400, "validation": 300, "holdout": num_rows, "quarantine": 3}
    _data(root, "data/support.csv", counts, rows)
    _events(root, 300, 0.8, "loss")
    for arm, lines in predictions.items():
        _write_lines(root / "evaluation" / f"predictions.{arm}.jsonl", lines)
    _grades(root, "loss", losses)
    return root


def add_evidence(root: Path) -> Path:
    """Give a run what a judged one has besides: guards, parts, a threshold, twins, power, times."""
    path = root / "verdict.json"
    verdict = json.loads(path.read_text(encoding="utf-8"))
    arms = []
    for arm in ("base", "tuned"):
        lines = (root / "evaluation" / f"predictions.{arm}.jsonl").read_text("utf-8").splitlines()
        arms.append([Prediction(**json.loads(line)) for line in lines])
    primary = verdict["primary"]
    found = slices(find_metric(primary["metric"]), *arms, num_resamples=200)
    verdict["extra"]["slices"] = [item.to_json() for item in found]
    threshold = abstain(arms[1][::2], arms[1])
    if threshold is not None:
        verdict["extra"]["abstain"] = threshold.to_json()
    verdict["extra"]["without_train_twins"] = primary | {"n": primary["n"] - 12}
    verdict["power"] |= {
        "discordance": 0.1,
        "smaller": {"difference": 0.01, "rows": 7844},
        "exaggeration": {"difference": 0.0145, "power": 0.29, "type_m": 1.8},
        "guards": {"joint": 0.87, "guards": 1, "discordance": 0.1, "rows_needed": 480},
    }
    verdict["guards"] = [
        _guard("general text", "loss", False, 3.412, 3.431, (0.008, 0.031), 0.1, "held"),
        _guard("last year's tickets", "accuracy", True, 0.842, 0.836, (-0.061, 0.049), 0.05,
               "unproven"),
        _guard("refund policy questions", "exact_match", True, 0.71, 0.55, (-0.21, -0.11), 0.05,
               "lost"),
    ]  # fmt: skip
    verdict["candidates_screened"] = 12
    _write(path, verdict)
    seconds = {"base": 0.0041, "tuned": 0.0044, "TF-IDF + logistic regression": 0.00021}
    _write(root / "evaluation" / "seconds.json", {"schema": 1, "seconds_per_row": seconds})
    return root


def _guard(
    name: str,
    metric: str,
    higher_is_better: bool,
    base: float,
    tuned: float,
    ends: tuple[float, float],
    margin: float,
    outcome: str,
) -> dict[str, Any]:
    return {
        "name": name,
        "metric": metric,
        "higher_is_better": higher_is_better,
        "base": base,
        "tuned": tuned,
        "difference": tuned - base,
        "ci_low": ends[0],
        "ci_high": ends[1],
        "confidence": 0.95,
        "margin": margin,
        "p_value": 0.001 if outcome == "held" else 0.2,
        "test": "Tango",
        "n": 240,
        "clusters": None,
        "outcome": outcome,
        "reason": f"a sentence that says why it is {outcome}.",
    }


def main(folder: Path) -> None:
    """Write runs with their reports and cards."""
    runs = (
        add_evidence(write_classify_run(folder / "classify")),
        add_evidence(
            write_classify_run(folder / "three", 3, 240, 0.60, 0.63, "no_clear_difference")
        ),
        add_evidence(write_chat_run(folder / "chat")),
    )
    for run in runs:
        print(write_report(run), write_card(run))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
