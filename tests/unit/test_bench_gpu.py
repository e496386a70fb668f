"""The GPU benchmark on toys: what it compares, what it refuses to count, what it survives."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import _gpu_arms as arms
from bench import gpu
from bench._gpu_cells import CELLS, MODELS, ROWS, SMOKE, Cell, make_rows, skipped

TOY = SMOKE[0]


def test_parameters_of_the_real_configurations() -> None:
    """8,030,261,248 and 4,022,468,096 are the counts that their publishers name."""
    llama, qwen = MODELS["llama-3.1-8b"].shape, MODELS["qwen3-4b"].shape
    assert llama.body + 2 * llama.head + (2 * 32 + 1) * 4096 == 8_030_261_248
    norms = 36 * (2 * 2560 + 2 * 128) + 2560
    assert qwen.body + qwen.head + norms == 4_022_468_096


@pytest.mark.parametrize("rows", ["mixed", "completion", "8k"])
def test_rows_have_the_lengths_and_targets_that_they_say(rows: str) -> None:
    cell = Cell("qwen3-0.6b", "lora", rows, ("fettle",))
    steps = make_rows(cell, 4)
    lengths = sorted(row.num_tokens for step in steps for row in step)
    kind = ROWS[rows]
    assert lengths[len(lengths) // 2] == pytest.approx(kind.median, rel=0.1)
    assert lengths[-1] == kind.longest
    for step in steps:
        tokens = sum(row.num_tokens for row in step)
        assert tokens == pytest.approx(cell.step_tokens, rel=0.3)
        assert len({row.num_tokens for row in step}) > 4 or kind.median == kind.longest
        assert sum(row.num_targets for row in step) == pytest.approx(kind.trained * tokens, rel=0.1)
        assert all(row.loss_mask[0] == 0 for row in step)
    assert steps == make_rows(cell, 4)


def test_full_training_of_eight_billion_is_skipped_with_both_figures() -> None:
    cell = next(c for c in CELLS if c.name == "llama-3.1-8b.full.mixed")
    assert "needs 135 GiB" in (skipped(cell, "fettle", 120 * 2**30) or "")
    assert skipped(cell, "fettle", 140 * 2**30) is None
    assert skipped(CELLS[0], "fettle", 1) is None  # an adapter: it is tried


@pytest.fixture(scope="module")
def both() -> dict[str, dict[str, Any]]:
    steps = make_rows(TOY, 3)
    return {arm: arms.measure(TOY, arm, steps, 60.0, "cpu") for arm in ("fettle wide", "plain")}


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    return arms.plan_of(make_rows(TOY, 3))


def broken(one: Any, reference: Any, plan: Any) -> list[str]:
    return [gate.name for gate in gpu.gates(one, reference, plan, "lora") if not gate.held]


def test_two_arms_do_the_same_work_and_are_measured(both: Any, plan: Any) -> None:
    ours, plain = both["fettle wide"], both["plain"]
    assert broken(ours, plain, plan) == []
    assert broken(plain, plain, plan) == []
    assert len(gpu.gates(ours, plain, plan, "lora")) == 8
    rows = [row for step in make_rows(TOY, 3)[2:] for row in step]
    (seconds,) = ours["step_seconds"]
    assert ours["tokens_per_second"] * seconds == pytest.approx(sum(r.num_tokens for r in rows))
    assert ours["trained_per_second"] * seconds == pytest.approx(sum(r.num_targets for r in rows))
    assert ours["of_peak"] == pytest.approx(ours["tflops"] / 790)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trainable": 1}, "trained parameters"),
        ({"losses": [6.35, 6.2, 6.2]}, "first loss within 0.2 %"),
        ({"row_losses": [6.3, 6.3, 6.3, float("nan")]}, "single rows"),
        ({"row_losses": []}, "single rows"),
        ({"gradient_norms": [0.5, 0.0, 0.5]}, "gradients in every step"),
        ({"lora_b_zero": 1}, "every lora_B moved"),
        ({"counted": {"digest": ["0"] * 3, "num_targets": [0] * 3}}, "same rows and masks"),
    ],
)
def test_what_is_not_the_same_work_does_not_count(
    both: Any, plan: Any, change: dict[str, Any], says: str
) -> None:
    found = broken({**both["fettle wide"], **change}, both["plain"], plan)
    assert any(says in name for name in found)


def test_attention_to_other_rows_is_noticed(
    both: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the loss of a whole step hardly moves, that of single rows does."""

    def as_one(batch: Any, share: bool = False) -> Any:
        line = real(batch)
        total = sum(number * length for number, length in line.runs)
        return type(line)(line.rows, line.order, ((1, total),))

    real = sys.modules["fettle.models.forward"].pack_rows  # type: ignore[attr-defined]
    monkeypatch.setattr("fettle.models.forward.pack_rows", as_one)
    wrong = arms.measure(TOY, "fettle wide", make_rows(TOY, 3), 60.0, "cpu")
    assert "losses of single rows within 0.02 nats" in broken(wrong, both["plain"], plan)


def test_out_of_memory_is_tried_smaller_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def full(*arguments: Any) -> dict[str, Any]:
        tried.append(arguments[-1])
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(arms, "_measure", full)
    found = arms.measure(TOY, "plain", make_rows(TOY, 3), 1.0, "cpu")
    assert found["status"] == "out_of_memory"
    assert tried == [200, 100, 50]
    assert "50 tokens" in found["reason"]


def test_another_error_is_recorded_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> dict[str, Any]:
        raise ValueError("no such thing")

    monkeypatch.setattr(arms, "_measure", fails)
    found = arms.measure(TOY, "plain", make_rows(TOY, 3), 1.0, "cpu")
    assert found == {"status": "failed", "reason": "ValueError: no such thing"}


def test_a_missing_package_is_named() -> None:
    with pytest.raises(arms.NotInstalled, match="no_such_package is not installed"):
        arms._package("no_such_package", "no_such_package.kernels")


FAKE = """#!{python}
import json, sys, time
skip = next(int(word[7:]) for word in sys.argv if word.startswith("--skip="))
names = {names}
for number, (cell, arm) in enumerate(names):
    if number < skip:
        continue
    if number == 1:
        print("no record", flush=True)
        sys.exit(3)
    if number == 3:
        time.sleep(60)
    record = {{"cell": cell, "arm": arm, "status": "skipped", "reason": "fake"}}
    print(json.dumps(record), flush=True)
"""


def test_a_process_that_crashes_or_hangs_costs_one_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [(cell.name, arm) for cell in SMOKE for arm in cell.arms]
    script = tmp_path / "worker"
    script.write_text(FAKE.format(python=sys.executable, names=names))
    script.chmod(0o700)
    monkeypatch.setattr("bench.gpu.sys.executable", str(script))
    monkeypatch.setattr(gpu, "ARM_SECONDS", 3.0)
    monkeypatch.setattr(gpu, "START_SECONDS", 0.0)
    options = gpu._options(["--smoke"])
    found = list(gpu._results(SMOKE, options, time.monotonic() + 100))
    assert [(one["cell"], one["arm"]) for one in found] == names
    states = [one["status"] for one in found]
    assert states[1] == "failed"
    assert "exit code 3" in found[1]["reason"]
    assert states[3] == "over_time"
    assert {states[index] for index in range(len(names)) if index not in (1, 3)} == {"skipped"}


def test_what_was_not_reached_in_time_is_in_the_table() -> None:
    options = gpu._options(["--smoke"])
    found = list(gpu._results(SMOKE[:1], options, time.monotonic()))
    assert {one["status"] for one in found} == {"skipped"}
    text = gpu.table(found)
    assert text.count("the time was used up before it") == len(SMOKE[0].arms)


def test_an_arm_that_broke_a_gate_or_stands_alone_says_so(
    both: Any, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_plan", lambda cell, num_steps: plan)
    named = {"cell": TOY.name, "arm": "fettle wide"}
    alone = [{**named, **both["fettle wide"]}]
    options = gpu._options(["--smoke"])
    gpu._judge(alone, [TOY], options)
    assert alone[0]["alone"]
    assert "held against no plain arm" in gpu.table(alone)
    pair = [{**alone[0], "lora_b_zero": 2}, {**named, **both["plain"], "arm": "plain"}]
    gpu._judge(pair, [TOY], options)
    assert gpu.table(pair).count("DOES NOT COUNT: every lora_B moved") == 1
    assert "no plain arm" not in gpu.table(pair)


def test_without_a_gpu_nothing_is_measured_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path)]) == 0
    assert "no CUDA device" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_on_toys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--smoke", "--seconds", "1", "--only", "uniform", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "gpu_smoke.json").read_text())
    assert [one["status"] for one in record["arms"]] == ["measured", "measured"]
    assert all(one["gates"] and not one["broken"] for one in record["arms"])
    assert "tiny-qwen3.lora.tiny-uniform" in capsys.readouterr().out
