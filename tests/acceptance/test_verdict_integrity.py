"""A run whose plan, rows, metric or guards were changed afterwards is judged invalid, or corrected
for; guards and earlier looks are in the plan and in the verdict. All on one toy run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.command import tiny_base, write_tickets

import fettle
from fettle.errors import UsageError
from fettle.evaluate.plan import plan_hash
from fettle.records.run_directory import read_json, read_jsonl

pytestmark = pytest.mark.slow

FAST = (
    "train.max_steps=4",
    "train.batch_size=8",
    "train.evaluate_every=4",
    "evaluate.resamples=200",
    "base.dtype=float32",
    "train.threads=1",
    "train.micro_batch_tokens=1024",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data and a guard file of which five rows are training data."""
    folder = tmp_path_factory.mktemp("project")
    (folder / ".fettle").mkdir()
    tiny_base(folder / "encoder", "encoder")
    lines = write_tickets(folder / "tickets.csv").read_text().splitlines()
    others = [line.replace("Ticket 0", "Case") for line in lines[1:41]]
    guard = [lines[0], *lines[41:81], *others]
    (folder / "earlier.csv").write_text("\n".join(guard) + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    """The run that the tests copy and change."""
    return fettle.run(
        place / "tickets.csv",
        base=place / "encoder",
        guard=[place / "earlier.csv"],
        out=place / "runs" / "one",
        settings=FAST,
        quiet=True,
    ).directory.root


@pytest.fixture
def copy(finished: Path) -> Callable[[], Path]:
    """A copy of the run beside it; the ledger of looks is theirs together."""

    def make() -> Path:
        target = finished.with_name("copy")
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(finished, target))

    return make


def again(run: Path) -> dict[str, Any]:
    found = fettle.evaluate(run, quiet=True).verdict.to_json()
    assert read_json(run / "verdict.json")["verdict"] == found["verdict"]
    assert (run / "report.html").is_file()
    return dict(found)


def test_the_guard_is_in_plan_and_verdict(finished: Path) -> None:
    plan, verdict = read_json(finished / "plan.json"), read_json(finished / "verdict.json")
    (sealed,) = plan["guards"]
    assert (sealed["name"], sealed["metric"], sealed["margin"]) == ("earlier", "accuracy", 0.05)
    assert sealed["shared_with_train"] > 0
    assert sealed["rows"] + sealed["shared_with_train"] == 80
    assert 0.0 < plan["power"]["guards"]["joint"] < 1.0
    (judged,) = verdict["guards"]
    assert judged["n"] == sealed["rows"]
    assert judged["outcome"] in ("held", "lost", "unproven")
    train = {
        row["text"]
        for row in read_jsonl(finished / "data" / "rows.jsonl")
        if row["split"] in ("train", "validation")
    }
    assert not train & {row["text"] for row in read_jsonl(finished / "guards.jsonl")}
    for arm in ("base", "tuned"):
        lines = list(read_jsonl(finished / "evaluation" / f"guards.{arm}.jsonl"))
        assert len(lines) == sealed["rows"]
    assert verdict["holdout"]["looks"] == 1
    assert verdict["holdout"]["alpha_spent"] == 0.025
    assert verdict["extra"]["abstain"]["rows"] == verdict["holdout"]["rows"]
    assert read_json(finished / "evaluation" / "seconds.json")["seconds_per_row"]["tuned"] > 0


def test_a_changed_plan_is_invalid(copy: Callable[[], Path]) -> None:
    run = copy()
    plan = read_json(run / "plan.json")
    for change in ({"metric": "macro_f1"}, {"alpha": 0.2}, {"guards": []}):
        changed = plan | change
        (run / "plan.json").write_text(json.dumps(changed))
        assert "changed after it was sealed" in again(run)["reason"]
        resealed = changed | {"sha256": plan_hash(changed)}
        (run / "plan.json").write_text(json.dumps(resealed))
        found = again(run)
        assert found["verdict"] == "invalid"
        assert "not the one that was sealed before training" in found["reason"]
        assert found["primary"] is None
    (run / "plan.json").write_text("{")
    assert again(run)["verdict"] == "invalid"


def test_changed_rows_are_invalid(copy: Callable[[], Path]) -> None:
    run = copy()
    rows = (run / "data" / "rows.jsonl").read_text().splitlines()
    holdout = next(line for line in rows if '"split": "holdout"' in line)
    kept = [line for line in rows if line != holdout]
    (run / "data" / "rows.jsonl").write_text("\n".join(kept) + "\n")
    found = again(run)
    assert found["verdict"] == "invalid"
    assert "rows.jsonl is not what was written" in found["reason"]
    moved = [line.replace('"split": "holdout"', '"split": "train"') for line in rows]
    (run / "data" / "rows.jsonl").write_text("\n".join(moved) + "\n")
    assert again(run)["verdict"] == "invalid"


def test_a_metric_swapped_in_the_settings_is_invalid(copy: Callable[[], Path]) -> None:
    run = copy()
    text = (run / "recipe.resolved.yaml").read_text()
    assert "value: accuracy" in text
    (run / "recipe.resolved.yaml").write_text(text.replace("value: accuracy", "value: macro_f1"))
    found = again(run)
    assert found["verdict"] == "invalid"
    assert "the settings say metric = macro_f1" in found["reason"]


def test_changed_guard_rows_are_invalid(copy: Callable[[], Path]) -> None:
    run = copy()
    lines = (run / "guards.jsonl").read_text().splitlines()
    (run / "guards.jsonl").write_text("\n".join(lines[1:]) + "\n")
    found = again(run)
    assert found["verdict"] == "invalid"
    assert "guard 'earlier'" in found["reason"]


def test_guards_that_can_not_be_used(place: Path, tmp_path: Path) -> None:
    trained = place / "tickets.csv"
    (tmp_path / "other.csv").write_text("text,label\nwhat a day,sunny\nrain again,wet\n" * 8)
    for file, code in ((trained, None), (tmp_path / "other.csv", "E1020")):
        settings = {"settings": FAST, "quiet": True, "base": place / "encoder"}
        if code is None:
            # Only the holdout's own rows are left of it.
            fettle.plan(trained, guard=[file], **settings)
        else:
            with pytest.raises(UsageError, match=code):
                fettle.plan(trained, guard=[file], **settings)
