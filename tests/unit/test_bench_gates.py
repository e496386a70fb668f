"""The gates let nothing pass that is not the same work; the ledger sees what reached a model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.compare import table
from bench.compare.cells import CELLS, DATA, TOOLS, WARM_UP_LENGTH, Cell
from bench.compare.gates import check_pair, check_run, failed
from bench.compare.prepare import lengths, order, plan, token_rows
from bench.compare.tune import candidates
from bench.runners.job import IGNORED, Ledger, labels_of, row_hash, rows_of, step_digest

from fettle.chat.tokenizer import Tokenizer
from fettle.models.catalog import STARTER_DIRECTORY

ROWS: list[dict[str, Any]] = [
    {"input_ids": [5, 6, 7, 8], "targets": [0, 0, 1, 1]},
    {"input_ids": [9, 10], "targets": [0, 1]},
    {"input_ids": [5, 6, 7], "targets": [0, 1, 1]},
]
STEPS = [[0, 1], [2]]


def _padded(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), 1)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for index, row in enumerate(rows):
        size = len(row["input_ids"])
        ids[index, :size] = torch.tensor(row["input_ids"])
        labels[index, :size] = torch.tensor(labels_of(row))
        mask[index, :size] = 1
    return ids, labels, mask


def _result() -> dict[str, Any]:
    """A run that did as it was told."""
    ledger = Ledger()
    ledger.begin()
    for step in STEPS:
        ledger.forward(*_padded([ROWS[index] for index in step]))
        ledger.end_step()
    return {
        "counted": ledger.counted(),
        "losses": [4.0, 3.9],
        "gradient_norms": [1.0, 0.9],
        "trainable": 10,
        "lora_b": 3,
        "lora_b_zero": 0,
    }


def test_a_true_run_passes_every_gate() -> None:
    result = _result()
    assert result["counted"]["num_targets"] == [3, 2]
    assert result["counted"]["num_tokens"] == [6, 3]
    gates = [*check_run(result, plan(ROWS, STEPS), "lora"), *check_pair(result, result)]
    assert len(gates) == 7
    assert failed(gates) == []


def test_padded_flattened_and_one_by_one_are_the_same_rows() -> None:
    padded = rows_of(*_padded(ROWS))
    flat_ids = torch.tensor([[token for row in ROWS for token in row["input_ids"]]])
    flat_labels = torch.tensor([[label for row in ROWS for label in labels_of(row)]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 0, 1, 2]])
    single = [found for row in ROWS for found in rows_of(*_padded([row]))]
    assert padded == rows_of(flat_ids, flat_labels, None, positions) == single
    assert padded[0] == ([5, 6, 7, 8], [2, 3])


def test_a_classifiers_rows_carry_their_label() -> None:
    ids, _, mask = _padded(ROWS)
    assert rows_of(ids, torch.tensor([4, 0, 2]), mask)[1] == ([9, 10], 0)


def test_a_label_on_the_first_token_does_not_count() -> None:
    assert rows_of(torch.tensor([[5, 6]]), torch.tensor([[5, 6]])) == [([5, 6], [1])]


def test_digests_know_order_within_rows_but_not_of_rows() -> None:
    one, two = row_hash([1, 2], [1]), row_hash([3], [])
    assert step_digest([one, two]) == step_digest([two, one])
    assert step_digest([one, one]) != step_digest([one])
    assert row_hash([1, 2], [1]) != row_hash([2, 1], [1])
    assert row_hash([1, 2], [1]) != row_hash([1, 2], [])
    assert row_hash([1, 2], 1) != row_hash([1, 2], [1])


@pytest.mark.parametrize(
    ("damage", "gate"),
    [
        (lambda r: r["counted"]["digest"].reverse(), "same rows and masks"),
        (lambda r: r["counted"]["digest"].pop(), "same rows and masks"),
        (lambda r: r["counted"]["num_targets"].append(1), "same number of targets"),
        (lambda r: r["gradient_norms"].__setitem__(1, 0.0), "gradients in every step"),
        (lambda r: r["gradient_norms"].__setitem__(0, float("nan")), "gradients in every step"),
        (lambda r: r["gradient_norms"].pop(), "gradients in every step"),
        (lambda r: r.__setitem__("lora_b_zero", 1), "every lora_B moved"),
        (lambda r: r.__setitem__("lora_b", 0), "every lora_B moved"),
    ],
)
def test_a_run_that_did_other_work_fails(damage: Any, gate: str) -> None:
    result = _result()
    damage(result)
    problems = failed(check_run(result, plan(ROWS, STEPS), "lora"))
    assert [problem.startswith(gate) for problem in problems] == [True]


def test_a_truncated_row_fails() -> None:
    short = copy.deepcopy(ROWS)
    short[0]["input_ids"].pop()
    short[0]["targets"].pop()
    problems = failed(check_run(_result(), plan(short, STEPS), "full"))
    assert [problem.partition(":")[0] for problem in problems] == [
        "same rows and masks in every step",
        "same number of targets",
    ]


@pytest.mark.parametrize(
    ("name", "value", "gate"),
    [
        ("trainable", 11, "same number of trained parameters"),
        ("losses", [4.0041, 3.9], "first loss"),
        ("losses", [4.0, 3.94], "loss curve"),
        ("losses", [4.0], "loss curve"),
        ("losses", [4.0, float("nan")], "loss curve"),
    ],
)
def test_a_pair_that_differs_fails(name: str, value: Any, gate: str) -> None:
    other = {**_result(), name: value}
    problems = failed(check_pair(_result(), other))
    assert [problem.startswith(gate) for problem in problems] == [True]


def test_small_differences_of_rounding_pass() -> None:
    other = {**_result(), "losses": [4.0039, 3.93]}
    assert failed(check_pair(_result(), other)) == []


def test_mixed_lengths_have_the_median_and_the_tail_they_claim() -> None:
    found = sorted(lengths(DATA["natural"], 400))
    assert found[200] == pytest.approx(128, abs=2)
    assert found[380] == pytest.approx(600, abs=25)
    assert (found[0], found[-1]) == (16, 1024)
    assert lengths(DATA["natural"], 400) == lengths(DATA["natural"], 400) != found


def _cell_rows(cell: Cell) -> list[dict[str, Any]]:
    warm = cell.warmup * cell.rows_in_step
    count = cell.steps * cell.rows_in_step - warm
    return token_rows(DATA[cell.data], warm, count, Tokenizer.load(STARTER_DIRECTORY))


def test_every_row_comes_once_and_warm_up_first() -> None:
    for name in ("smollm2-135m.lora.natural.trl.tuned", "smollm2-135m.lora.natural.trl.defaults"):
        cell = CELLS[name]
        rows = _cell_rows(cell)
        steps = order(rows, cell)
        assert sorted(index for step in steps for index in step) == list(range(len(rows)))
        assert [len(step) for step in steps] == [cell.rows_in_step] * cell.steps
        first = [len(rows[index]["input_ids"]) for index in steps[0]]
        assert (first == [WARM_UP_LENGTH] * cell.rows_in_step) == bool(cell.warmup)


def test_rows_of_the_prefix_share_it_and_nothing_more() -> None:
    rows = _cell_rows(CELLS["smollm2-135m.lora.prefix.trl.tuned"])
    ids = [row["input_ids"] for row in rows]
    assert len(rows) == 16
    assert {len(row) for row in ids} == {632}
    assert {tuple(row[:512]) for row in ids} == {tuple(ids[0][:512])}
    assert len({tuple(row[512:]) for row in ids}) == 16
    assert {sum(row["targets"]) for row in rows} == {40}


def test_a_completion_is_the_end_of_its_row() -> None:
    rows = _cell_rows(CELLS["smollm2-135m.lora.completion.trl.tuned"])
    trained = sum(sum(row["targets"]) for row in rows)
    tokens = sum(len(row["input_ids"]) for row in rows)
    assert trained / tokens == pytest.approx(0.3, abs=0.01)
    for row in rows:
        assert row["targets"] == sorted(row["targets"])
        assert row["targets"][0] == 0


def test_peers_are_tuned_only_with_sizes_that_divide_a_step() -> None:
    tried = list(candidates(TOOLS["trl"], 2, "next_token"))
    assert [settings["per_device_train_batch_size"] for settings in tried] == [1, 2]
    assert all(settings["gradient_checkpointing"] is False for settings in tried)
    for settings in candidates(TOOLS["trainer"], 32, "classify"):
        assert not settings.get("padding_free")


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n", encoding="utf-8")
    table.write_into(page, table.markdown({"cells": []}))
    assert page.read_text(encoding="utf-8") == (
        f"before\n{table.BEGIN}\n{table.NOT_YET}{table.END}\nafter\n"
    )
    table.write_into(page, "1 \\1\n")
    assert "\n1 \\1\n" in page.read_text(encoding="utf-8")


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must have"):
        table.write_into(page, "text\n")


def test_a_cell_that_failed_shows_its_reason_and_no_speed() -> None:
    cell = {"name": "a.b", "status": "failed", "reason": "trl: loss curve within 1 %: 4 %"}
    text = table.plain([cell])
    assert "failed: trl: loss curve within 1 %: 4 %" in text
    assert text.count("\n") == 2


def test_a_measured_cell_shows_both_sides_and_marks_a_restless_machine() -> None:
    side = {"trained_per_second": 50.0, "peak_bytes": 2.5e9, "job_seconds": 61.2}
    side |= {"of_float32": 0.42, "versions": {"trl": "1.16.0"}, "settings": {"bf16": False}}
    cell = {
        "name": "a.b",
        "status": "measured",
        "fettle": {**side, "trained_per_second": 100.0, "settings": {"dtype": "float32"}},
        "peer": {**side, "tool": "trl"},
        "ratio": {"median": 2.0, "low": 1.9, "high": 2.1, "num_pairs": 5},
        "noise": {"drift": 0.01, "steal_share": 0.0},
    }
    row = "a.b | 100.0 | 50.0 | 2.00 (1.90 to 2.10) | 5 | 2.5 / 2.5 | 61 / 61 | 42 % / 42 %"
    record = {
        "cells": [cell],
        "machine": {"processor": "P", "cores": 2, "torch": "2.13.0", "cpu_capability": "AVX512"},
        "settings": {"threads": 1},
        "created": "2026-11-22T00:00:00",
        "commit": "abc",
    }
    assert f"| {row} |" in table.markdown(record)
    assert "fettle dtype float32; trl 1.16.0 bf16 False" in table.markdown(record)
    cell["noise"] = {"drift": 0.2, "steal_share": 0.0}
    assert "2.00 (1.90 to 2.10) ~" in table.plain([cell])
