"""Whole runs with several labels a row and with numbers, to a verdict and back out of model/."""

import csv
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from tests.command import tiny_base
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import fettle
from fettle.models.quiet import quiet
from fettle.pipeline import Run
from fettle.records.run_directory import read_json, read_jsonl

pytestmark = pytest.mark.slow

FAST = (
    "train.max_steps=12",
    "train.batch_size=8",
    "train.evaluate_every=4",
    "evaluate.resamples=200",
    "base.dtype=float32",
    "train.threads=1",
    "train.micro_batch_tokens=1024",
)
CASES: Mapping[str, tuple[str, str, str, str | None, tuple[str, ...]]] = {
    "lists encoder full": ("lists.jsonl", "encoder", "full", None, ()),
    "lists decoder lora": ("lists.jsonl", "decoder", "lora", None, ()),
    "separator encoder lora": (
        "sets.csv",
        "encoder",
        "lora",
        "classify",
        ("data.label_separator='|'", "train.class_weights=balanced"),
    ),
    "numbers encoder full": ("numbers.csv", "encoder", "full", "regress", ()),
    "numbers decoder lora": ("numbers.csv", "decoder", "lora", "regress", ()),
}
LABELS = ("broken", "late", "rude")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bases, data and runs of this module."""
    folder = tmp_path_factory.mktemp("project")
    (folder / ".fettle").mkdir()
    for kind in ("encoder", "decoder"):
        tiny_base(folder / kind, kind)
    draw = random.Random(0)
    rows = [
        (f"Order {i} was {' and '.join(found) or 'fine'}.", found)
        for i in range(140)
        for found in [[label for label in LABELS if draw.random() < 0.4]]
    ]
    with (folder / "lists.jsonl").open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps({"text": t, "labels": f}) + "\n" for t, f in rows)
    with (folder / "sets.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label"])
        writer.writerows([text, "|".join(found)] for text, found in rows)
    with (folder / "numbers.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "price"])
        for i in range(140):
            size = draw.randrange(1, 50)
            writer.writerow([f"Order {i} {'x' * size}", 1000 + 2.5 * size])
        writer.writerow(["Order without a price", "unknown"])
    return folder


_finished: dict[tuple[Path, str], Run] = {}


def finished(place: Path, case: str) -> Run:
    """The run of a case; made once."""
    if (place, case) not in _finished:
        data, kind, method, task, more = CASES[case]
        _finished[place, case] = fettle.run(
            place / data,
            base=place / kind,
            method=method,
            out=place / "runs" / case.replace(" ", "-"),
            settings=(*FAST, *more),
            quiet=True,
            **({} if task is None else {"task": task}),
        )
    return _finished[place, case]


def is_number(case: str) -> bool:
    return case.startswith("numbers")


@pytest.mark.parametrize("case", CASES)
def test_a_run_ends_in_a_verdict(place: Path, case: str) -> None:
    run = finished(place, case)
    verdict = read_json(run.directory.verdict)
    assert verdict["verdict"] != "invalid", verdict["reason"]
    judged = "regress" if is_number(case) else "multi_label"
    plan = read_json(run.directory.plan)
    assert plan["task"] == judged
    assert run.task == ("regress" if is_number(case) else "classify")
    primary = verdict["primary"]
    assert primary["metric"] == ("mae" if is_number(case) else "micro_f1")
    assert primary["higher_is_better"] is not is_number(case)
    secondary = {item["metric"] for item in verdict["secondary"]}
    assert secondary == (
        {"rmse", "pearson", "spearman"} if is_number(case) else {"macro_f1", "subset_accuracy"}
    )
    assert len(verdict["baselines"]) == 2
    for arm in ("base", "tuned"):
        rows = list(read_jsonl(run.directory.evaluation / f"predictions.{arm}.jsonl"))
        assert len(rows) == verdict["holdout"]["rows"]
        for row in rows:
            if is_number(case):
                assert 900 < float(row["prediction"]) < 1300
                assert float(row["reference"]) >= 1000
            else:
                said = json.loads(row["prediction"])
                assert said == sorted(
                    label for label, chance in row["probabilities"].items() if chance >= 0.5
                )
                assert set(json.loads(row["reference"])) <= set(LABELS)
    if is_number(case):
        assert "per_class" not in verdict["extra"]
    else:
        assert {row["label"] for row in verdict["extra"]["per_class"]} == set(LABELS)
        assert "confusion" not in verdict["extra"]
    page = run.directory.report.read_text(encoding="utf-8")
    assert ("mean absolute error" if is_number(case) else "micro F1") in page


@pytest.mark.parametrize("case", CASES)
def test_stock_libraries_give_the_same(place: Path, case: str) -> None:
    run = finished(place, case)
    directory = run.directory.model
    meta = read_json(directory / "fettle.json")
    texts = {r["row_id"]: r["text"] for r in read_jsonl(run.directory.data / "rows.jsonl")}
    num_labels = 1 if is_number(case) else len(LABELS)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model: Any = (
            AutoPeftModelForSequenceClassification.from_pretrained(directory, num_labels=num_labels)
            if "lora" in case
            else AutoModelForSequenceClassification.from_pretrained(directory)
        ).eval()
    config = read_json(directory / "config.json")
    problem = "regression" if is_number(case) else "multi_label_classification"
    assert config["problem_type"] == problem
    for row in list(read_jsonl(run.directory.evaluation / "predictions.tuned.jsonl"))[:5]:
        inputs = tokenizer(texts[row["row_id"]], return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        if is_number(case):
            found = meta["scale"]["mean"] + meta["scale"]["spread"] * float(logits[0])
            assert float(row["prediction"]) == pytest.approx(found, abs=1e-3)
        else:
            for label, chance in zip(meta["labels"], logits.sigmoid().tolist(), strict=True):
                assert row["probabilities"][label] == pytest.approx(chance, abs=1e-5)


def test_predictions_of_new_rows(place: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.jsonl"
    lines = [{"text": "Order 9 was late."}, {"text": "Order 8", "labels": ["late"]}]
    new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = fettle.predict(finished(place, "lists encoder full").directory.root, new)
    assert all(set(json.loads(row["prediction"])) <= set(LABELS) for row in found)
    assert [row.get("reference") for row in found] == [None, '["late"]']

    new = tmp_path / "new.csv"
    new.write_text("text,price\nOrder 9 xxxx,1010.50\nOrder 8,dear\nOrder 7,\n", encoding="utf-8")
    found = fettle.predict(finished(place, "numbers encoder full").directory.root, new)
    assert all(900 < float(row["prediction"]) < 1300 for row in found)
    assert [row.get("reference") for row in found] == ["1010.5", None, None]


def test_two_runs_are_compared_by_their_own_metric(place: Path) -> None:
    root = finished(place, "numbers encoder full").directory.root
    verdict = fettle.compare(root, root)
    assert verdict.primary is not None
    assert (verdict.primary.metric, verdict.primary.difference) == ("mae", 0.0)
    root = finished(place, "lists encoder full").directory.root
    verdict = fettle.compare(root, root)
    assert verdict.primary is not None
    assert verdict.primary.metric == "micro_f1"
    verdict = fettle.compare(root, root, metric="subset_accuracy")
    assert verdict.primary is not None
    assert verdict.primary.test == "exact McNemar"


def test_an_earlier_run_of_numbers_is_the_base_arm(place: Path) -> None:
    earlier = finished(place, "numbers encoder full")
    run = fettle.run(
        place / "numbers.csv",
        base=earlier.directory.root,
        task="regress",
        out=place / "runs" / "again",
        settings=FAST,
        quiet=True,
    )
    before = {
        row["row_id"]: row["prediction"]
        for row in read_jsonl(earlier.directory.evaluation / "predictions.tuned.jsonl")
    }
    arm = list(read_jsonl(run.directory.evaluation / "predictions.base.jsonl"))
    shared = [row for row in arm if row["row_id"] in before]
    assert shared
    for row in shared:
        assert float(row["prediction"]) == pytest.approx(float(before[row["row_id"]]), abs=1e-3)
