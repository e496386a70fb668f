"""Whole runs on toy bases: the contract of the run directory, resuming, and every verb on it."""

import csv
import io
import json
import os
import signal
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from tests.command import (
    Command,
    assert_one_error,
    tiny_base,
    write_documents,
    write_questions,
    write_tickets,
)
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import fettle
import fettle.chat.render
import fettle.evaluate.verdict
import fettle.report
from fettle.data.account.account import load_account
from fettle.errors import UsageError
from fettle.models.quiet import quiet
from fettle.pipeline import Run
from fettle.records.run_directory import RunDirectory, read_json, read_jsonl

pytestmark = pytest.mark.slow

FAST = (
    "train.max_steps=12",
    "train.batch_size=8",
    "train.evaluate_every=4",
    "evaluate.resamples=200",
    "evaluate.generate_rows=6",
    "evaluate.max_new_tokens=8",
    # What a probe decides could differ between two runs on a busy machine.
    "base.dtype=float32",
    "train.threads=1",
    "train.micro_batch_tokens=1024",
)

CASES = {
    "classify encoder full": ("classify", "encoder", "full"),
    "classify encoder lora": ("classify", "encoder", "lora"),
    "classify decoder full": ("classify", "decoder", "full"),
    "classify decoder lora": ("classify", "decoder", "lora"),
    "chat decoder full": ("chat", "decoder", "full"),
    "chat decoder lora": ("chat", "decoder", "lora"),
    "text decoder full": ("text", "decoder", "full"),
}
WRITERS: dict[str, Callable[[Path], Path]] = {
    "classify": lambda folder: write_tickets(folder / "tickets.csv"),
    "chat": lambda folder: write_questions(folder / "questions.jsonl"),
    "text": lambda folder: write_documents(folder / "documents.jsonl"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bases, data and runs of this module, with one ledger of looks."""
    folder = tmp_path_factory.mktemp("project")
    (folder / ".fettle").mkdir()
    for kind in ("encoder", "decoder"):
        tiny_base(folder / kind, kind)
    for make in WRITERS.values():
        make(folder)
    return folder


DATA = {"classify": "tickets.csv", "chat": "questions.jsonl", "text": "documents.jsonl"}
_finished: dict[tuple[Path, str], Run] = {}


def finished(place: Path, case: str) -> Run:
    """The run of a case; made once."""
    if (place, case) not in _finished:
        task, kind, method = CASES[case]
        name = case.replace(" ", "-")
        _finished[place, case] = fettle.run(
            place / DATA[task],
            base=place / kind,
            task=task,
            method=method,
            out=place / "runs" / name,
            settings=FAST,
            quiet=True,
        )
    return _finished[place, case]


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# --- the run directory -------------------------------------------------------------------------

FILES = [
    "recipe.yaml",
    "recipe.resolved.yaml",
    "plan.json",
    "environment.json",
    "events.jsonl",
    "verdict.json",
    "report.html",
    "README.md",
    "data/manifest.json",
    "data/rows.jsonl",
    "data/findings.jsonl",
    "data/quarantine.jsonl",
    "data/splits.jsonl",
    "checkpoints/000012/weights.safetensors",
    "checkpoints/000012/state.json",
    "checkpoints/000012/MANIFEST.json",
    "model/config.json",
    "model/tokenizer.json",
    "model/fettle.json",
    "evaluation/predictions.base.jsonl",
    "evaluation/predictions.tuned.jsonl",
    "evaluation/grades.jsonl",
    "evaluation/baselines.json",
]
VERDICT_KEYS = {
    "schema", "verdict", "reason", "primary", "secondary", "power", "guards", "baselines",
    "holdout", "plan", "candidates_screened", "weights", "base", "seeds", "created",
}  # fmt: skip
PRIMARY_KEYS = {
    "metric", "higher_is_better", "base", "tuned", "difference", "ci_low", "ci_high", "confidence",
    "p_value", "test", "n", "clusters", "signature",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_contract_of_the_run_directory(place: Path, case: str) -> None:
    task, kind, method = CASES[case]
    result = finished(place, case)
    root = result.directory.root
    missing = [name for name in FILES if not (root / name).is_file()]
    assert missing == []
    weights = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    assert (root / "model" / weights).is_file()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert not [path for path in root.rglob("*") if ".tmp-" in path.name or ".old-" in path.name]
    assert not [path for path in root.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pth")]

    for path in root.rglob("*.json"):
        inside_model = path.parent.name == "model" and path.name != "fettle.json"
        if not inside_model:
            assert read(path)["schema"] == 1, path
    verdict = read(root / "verdict.json")
    assert verdict.keys() >= VERDICT_KEYS
    assert verdict["verdict"] != "invalid", verdict["reason"]
    assert verdict["primary"].keys() >= PRIMARY_KEYS
    primary = verdict["primary"]
    assert primary["difference"] == pytest.approx(primary["tuned"] - primary["base"], abs=1e-9)
    assert verdict["holdout"].keys() >= {"rows", "sha256", "looks", "alpha_spent"}
    assert verdict["plan"]["sha256"] == read(root / "plan.json")["sha256"]
    assert verdict["candidates_screened"] == 3
    names = {item["name"] for item in verdict["baselines"]}
    assert len(names) == {"classify": 2 + (kind == "decoder"), "chat": 1, "text": 0}[task]
    assert result.verdict.to_json() == verdict
    assert (result.task, read(root / "model" / "fettle.json")["task"]) == (task, task)
    assert str(root) in repr(result)
    assert result.verdict.headline in repr(result)

    events = [record["event"] for record in read_jsonl(root / "events.jsonl")]
    assert events.count("step") == 12
    assert events.count("validation") == 3
    stages = [
        (record["stage"], record["status"])
        for record in read_jsonl(root / "events.jsonl")
        if record["event"] == "stage"
    ]
    order = ("read", "base", "data", "plan", "train", "evaluate", "report")
    assert stages == [(stage, status) for stage in order for status in ("start", "done")]
    report = (root / "report.html").read_text(encoding="utf-8")
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert verdict["verdict"].replace("_", " ") in report.lower()


@pytest.mark.parametrize("case", ["classify encoder full", "chat decoder lora"])
def test_every_record_is_accounted_for(place: Path, case: str) -> None:
    root = finished(place, case).directory.root
    rows = list(read_jsonl(root / "data" / "splits.jsonl"))
    number = {"classify": 120, "chat": 80}[CASES[case][0]]
    assert sorted(row["record"] for row in rows) == list(range(1, number + 1))
    assert all(
        row.keys() == {"row_id", "source", "record", "line", "split", "reason"} for row in rows
    )
    assert len({row["row_id"] for row in rows}) == number
    held = {row["row_id"] for row in rows if row["split"] == "holdout"}
    for arm in ("base", "tuned"):
        path = root / "evaluation" / f"predictions.{arm}.jsonl"
        assert {row["row_id"] for row in read_jsonl(path)} == held
    assert read(root / "verdict.json")["holdout"]["rows"] == len(held)


def stock(directory: Path, method: str, causal: bool) -> Any:
    """The model as people without fettle load it."""
    if method == "lora":
        kind = AutoPeftModelForCausalLM if causal else AutoPeftModelForSequenceClassification
        labels = {} if causal else {"num_labels": len(read(directory / "fettle.json")["labels"])}
        return kind.from_pretrained(directory, **labels).eval()
    auto = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
    return auto.from_pretrained(directory).eval()


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] == "classify"])
def test_stock_libraries_give_the_same_labels(place: Path, case: str) -> None:
    root = finished(place, case).directory.root
    directory = root / "model"
    labels = read(directory / "fettle.json")["labels"]
    texts = {row["row_id"]: row["text"] for row in read_jsonl(root / "data" / "rows.jsonl")}
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model = stock(directory, CASES[case][2], causal=False)
    for row in list(read_jsonl(root / "evaluation" / "predictions.tuned.jsonl"))[:5]:
        inputs = tokenizer(texts[row["row_id"]], return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            probabilities = model(**inputs).logits[0].softmax(-1).tolist()
        for label, expected in zip(labels, probabilities, strict=True):
            assert row["probabilities"][label] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("case", ["chat decoder full", "chat decoder lora"])
def test_stock_libraries_give_the_same_answers(place: Path, case: str) -> None:
    root = finished(place, case).directory.root
    directory = root / "model"
    questions = {row["row_id"]: row["messages"] for row in read_jsonl(root / "data" / "rows.jsonl")}
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model = stock(directory, CASES[case][2], causal=True)
    answered = [
        row
        for row in read_jsonl(root / "evaluation" / "predictions.tuned.jsonl")
        if row["prediction"] is not None
    ]
    assert len(answered) == 6
    for row in answered[:3]:
        turns = [{k: m[k] for k in ("role", "content")} for m in questions[row["row_id"]][:-1]]
        inputs = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert tokenizer.decode(new, skip_special_tokens=True).strip() == row["prediction"]


def test_the_base_on_disk_is_untouched_and_the_tuned_model_differs(place: Path) -> None:
    with quiet():
        base = AutoModelForCausalLM.from_pretrained(place / "decoder").state_dict()
        tuned = AutoModelForCausalLM.from_pretrained(
            finished(place, "chat decoder full").directory.model
        ).state_dict()
    assert base.keys() == tuned.keys()
    assert any(not torch.equal(base[name], tuned[name]) for name in base)


# --- stop and resume ---------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a process that is gone: nothing of fettle catches it."""


def killer(event: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None]:
    """A listener that ends the process when an event with these fields comes."""

    def listen(found: Mapping[str, Any]) -> None:
        if all(found.get(key) == value for key, value in event.items()):
            raise Killed

    return listen


def numbers(root: Path) -> dict[str, Any]:
    """verdict.json without what names the place and time."""
    verdict = read(root / "verdict.json")
    for key in ("created", "holdout", "base"):
        verdict.pop(key)
    return dict(verdict)


BOUNDARIES: dict[str, dict[str, Any]] = {
    **{
        f"start of {stage}": {"event": "stage", "stage": stage, "status": "start"}
        for stage in ("read", "base", "data", "plan", "train", "evaluate", "report")
    },
    **{
        f"end of {stage}": {"event": "stage", "stage": stage, "status": "done"}
        for stage in ("data", "plan", "train", "evaluate", "report")
    },
    "data written": {"event": "data"},
    "settings written": {"event": "settings"},
    "plan sealed": {"event": "plan"},
    "step 6": {"event": "step", "step": 6},
    "checkpoint 8": {"event": "checkpoint", "step": 8},
    "verdict written": {"event": "verdict"},
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_killed_run_resumes_to_the_same_numbers(
    place: Path, tmp_path: Path, boundary: str
) -> None:
    case = "classify encoder full"
    (tmp_path / ".fettle").mkdir()
    out = tmp_path / "run"
    with pytest.raises(Killed):
        fettle.run(
            place / "tickets.csv",
            base=place / "encoder",
            task="classify",
            method="full",
            out=out,
            settings=FAST,
            quiet=True,
            listener=killer(BOUNDARIES[boundary]),
        )
    with (out / "events.jsonl").open("ab") as handle:
        handle.write(b'{"event": "st')  # the line that was being written
    (out / ".data.tmp-0123abcd").mkdir()
    result = fettle.resume(out, quiet=True)
    assert numbers(out) == numbers(finished(place, case).directory.root)
    assert result.verdict.verdict == read(out / "verdict.json")["verdict"]
    assert not (out / ".data.tmp-0123abcd").exists()
    again = read(out / "verdict.json")
    fettle.resume(out, quiet=True)
    assert read(out / "verdict.json") == again, "a finished run is not judged again"


@pytest.mark.parametrize(
    "case", ["chat decoder lora", "classify decoder lora", "text decoder full"]
)
def test_other_tasks_resume_in_training_too(place: Path, tmp_path: Path, case: str) -> None:
    task, kind, method = CASES[case]

    def run(folder: Path, listener: Any = None) -> Path:
        # A project of its own: a second look at the same holdout is tested at another level.
        (folder / ".fettle").mkdir(parents=True)
        fettle.run(
            place / DATA[task],
            base=place / kind,
            task=task,
            method=method,
            out=folder / "run",
            settings=FAST,
            quiet=True,
            listener=listener,
        )
        return folder / "run"

    with pytest.raises(Killed):
        run(tmp_path / "killed", killer({"event": "step", "step": 7}))
    fettle.resume(tmp_path / "killed" / "run", quiet=True)
    assert numbers(tmp_path / "killed" / "run") == numbers(run(tmp_path / "whole"))


def test_a_base_that_changed_meanwhile_is_noticed(place: Path, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "encoder")
    with pytest.raises(Killed):
        fettle.run(
            place / "tickets.csv",
            base=base,
            out=tmp_path / "run",
            settings=FAST,
            quiet=True,
            listener=killer({"event": "step", "step": 5}),
        )
    content = bytearray((base / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (base / "model.safetensors").write_bytes(content)
    with pytest.raises(fettle.errors.IntegrityError) as caught:
        fettle.resume(tmp_path / "run", quiet=True)
    assert (caught.value.code, caught.value.exit_code) == ("E0907", 9)


def test_ctrl_c_in_training_saves_and_exits_7(place: Path, cli: Command, tmp_path: Path) -> None:
    def interrupt(event: Mapping[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(fettle.errors.Interrupted) as caught:
        fettle.run(
            place / "tickets.csv",
            base=place / "encoder",
            out="stopped",
            settings=FAST,
            quiet=True,
            listener=interrupt,
        )
    assert (caught.value.code, caught.value.exit_code) == ("E0604", 7)
    assert (tmp_path / "stopped" / "checkpoints" / "000006").is_dir()
    assert cli("resume", "stopped", "--quiet").code == 0
    expected = numbers(finished(place, "classify encoder full").directory.root)
    assert numbers(tmp_path / "stopped") == expected


# --- who may be where --------------------------------------------------------------------------


def test_a_directory_in_use(place: Path, cli: Command) -> None:
    root = finished(place, "classify encoder full").directory.root
    before = read(root / "verdict.json")
    with FileLock(str(root / ".lock")):
        for verb in ("resume", "evaluate"):
            assert_one_error(cli(verb, root), "E0110", 2)
    assert read(root / "verdict.json") == before
    outcome = cli("run", place / "tickets.csv", "--base", place / "encoder", "--out", root)
    assert_one_error(outcome, "E0111", 2)
    assert read(root / "verdict.json") == before


def test_out_is_numbered_when_it_is_taken(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "tickets").mkdir(parents=True)
    result = fettle.run(
        place / "tickets.csv",
        base=place / "encoder",
        settings=(*FAST, "train.max_steps=1"),
        quiet=True,
    )
    assert result.directory.root == Path("runs/tickets-2")


# --- an earlier run as the base ----------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    ["classify encoder full", "classify decoder lora", "chat decoder full", "chat decoder lora"],
)
def test_an_earlier_run_is_the_incumbent(place: Path, tmp_path: Path, case: str) -> None:
    task, _, _ = CASES[case]
    earlier = finished(place, case).directory.root
    result = fettle.run(
        place / DATA[task],
        base=earlier,
        task=task,
        out=tmp_path / "next",
        settings=FAST,
        quiet=True,
    )
    rows = {
        arm: list(read_jsonl(result.directory.evaluation / f"predictions.{arm}.jsonl"))
        for arm in ("base", "tuned")
    }
    incumbent = list(read_jsonl(earlier / "evaluation" / "predictions.tuned.jsonl"))
    key = "probabilities" if task == "classify" else "loss_sum"
    # The same data, so the same holdout: the base arm is what the earlier run answered.
    assert {row["row_id"] for row in incumbent} == {row["row_id"] for row in rows["base"]}
    before = {row["row_id"]: row[key] for row in incumbent}
    for row in rows["base"]:
        assert row[key] == pytest.approx(before[row["row_id"]], rel=1e-4, abs=1e-5)
    assert rows["base"] != rows["tuned"]
    assert result.verdict.verdict != "invalid"


# --- predict, chat -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["classify encoder full", "classify decoder lora"])
def test_predict_labels(place: Path, cli: Command, case: str) -> None:
    root = finished(place, case).directory.root
    outcome = cli("predict", root, place / "tickets.csv")
    assert outcome.code == 0, outcome.err
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert len(records) == 120
    assert [row["row_id"] for row in records] == [
        row["row_id"] for row in read_jsonl(root / "data" / "splits.jsonl")
    ]
    found = {row["row_id"]: row for row in records}
    for row in read_jsonl(root / "evaluation" / "predictions.tuned.jsonl"):
        assert found[row["row_id"]]["prediction"] == row["prediction"]
        assert found[row["row_id"]]["reference"] == row["reference"]
        for label, share in found[row["row_id"]]["probabilities"].items():
            assert row["probabilities"][label] == pytest.approx(share, abs=1e-5)
    assert "120 rows answered" in outcome.err


def test_predict_without_labels_and_with_bad_rows(
    place: Path, cli: Command, tmp_path: Path
) -> None:
    root = finished(place, "classify encoder full").directory.root
    path = tmp_path / "new.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "text"])
        writer.writerows([[1, "My lamp is too hot."], [2, ""], [3, "My lamp is too hot."]])
        handle.write("4,too,many,fields\n")
        writer.writerow([5, "My clock\nhas a crack"])
    outcome = cli("predict", root, path, "--out", tmp_path / "answers.jsonl")
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    records = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(records) == 5
    assert [row["prediction"] is not None for row in records] == [True, False, True, False, True]
    assert records[0]["probabilities"] == records[2]["probabilities"]
    assert "empty" in records[1]["error"]
    assert "malformed" in records[3]["error"]
    assert not any("reference" in row for row in records)
    assert "3 rows answered; 2 could not be" in outcome.err


def test_predict_jsonl_where_a_row_lacks_the_field(place: Path, tmp_path: Path) -> None:
    root = finished(place, "classify encoder full").directory.root
    path = tmp_path / "new.jsonl"
    path.write_text('{"text": "a lamp"}\n{"other": 1}\n', encoding="utf-8")
    first, second = fettle.predict(root, path)
    assert first["prediction"] is not None
    assert second["prediction"] is None


def test_predict_with_another_column(place: Path, cli: Command, tmp_path: Path) -> None:
    root = finished(place, "classify encoder full").directory.root
    (tmp_path / "new.csv").write_text("body,n\nMy lamp is too hot.,1\nIt has a crack.,2\n")
    outcome = cli("predict", root, "new.csv")
    assert_one_error(outcome, "E0114", 2)
    assert "--text" in outcome.err
    assert cli("predict", root, "new.csv", "--text", "body").out.count('"prediction"') == 2
    with pytest.raises(UsageError, match="there is no option 'txt'"):
        fettle.predict(root, tmp_path / "new.csv", txt="body")


def test_predict_answers(place: Path, tmp_path: Path) -> None:
    root = finished(place, "chat decoder lora").directory.root
    measured = {
        row["row_id"]: row["prediction"]
        for row in read_jsonl(root / "evaluation" / "predictions.tuned.jsonl")
        if row["prediction"] is not None
    }
    records = fettle.predict(root, place / "questions.jsonl")
    assert len(records) == 80
    found = {row["row_id"]: row for row in records}
    assert measured
    for row_id, answer in measured.items():
        assert found[row_id]["prediction"] == answer
    questions = write_questions(tmp_path / "open.jsonl", copies=1, answers=False)
    with questions.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"prompt": ""}) + "\n")
        handle.write(json.dumps({"prompt": "long " * 400}) + "\n")
    records = fettle.predict(root, questions)
    assert [row["prediction"] is None for row in records] == [False] * 40 + [True, True]
    assert "empty" in records[40]["error"]
    assert "overlong" in records[41]["error"]


def test_chat_once_and_compared(place: Path, cli: Command) -> None:
    root = finished(place, "chat decoder lora").directory.root
    outcome = cli("chat", root, "--prompt", "My lamp is too hot. What can I do?")
    assert (outcome.code, outcome.err) == (0, "")
    conversation = fettle.chat(root, compare=True)
    answer = conversation.say("My lamp is too hot. What can I do?")
    assert outcome.out == f"{answer}\n"
    assert conversation.base is not None
    both = cli("chat", root, "--prompt", "Hello", "--compare", "--max-new-tokens", "4")
    assert both.code == 0
    assert [both.out.count(f"{name}> ") for name in ("base", "tuned")] == [1, 1]
    assert both.out.index("base> ") < both.out.index("tuned> ")


def test_chat_from_standard_input(
    place: Path, cli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = finished(place, "chat decoder lora").directory.root
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n\n/new\nHello\n/quit\nnever\n"))
    outcome = cli("chat", root, "--max-new-tokens", "4")
    assert outcome.code == 0
    half = len(outcome.out) // 2
    assert outcome.out[:half] == outcome.out[half:], "/new must forget the first turn"
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello"))
    assert cli("chat", root, "--prompt", "", "--max-new-tokens", "2").code == 0


def test_verbs_that_do_not_fit_the_task(place: Path, cli: Command) -> None:
    outcome = cli("chat", finished(place, "classify encoder full").directory.root)
    assert_one_error(outcome, "E0113", 2)
    text = finished(place, "text decoder full").directory.root
    assert_one_error(cli("predict", text, place / "documents.jsonl"), "E0113", 2)


# --- evaluate, report, compare, plan, doctor, check --------------------------------------------


def test_evaluate_again_gives_the_same_and_is_no_second_look(place: Path, cli: Command) -> None:
    root = finished(place, "classify encoder full").directory.root
    before = numbers(root)
    ledger = place / ".fettle" / "looks.jsonl"
    lines = ledger.read_text()
    outcome = cli("evaluate", root, "--json", "--quiet")
    assert outcome.code == 0, outcome.err
    after = json.loads(outcome.out)
    assert numbers(root) == before
    assert after == read(root / "verdict.json")
    assert after["holdout"]["looks"] == 1
    assert ledger.read_text().splitlines()[0] == lines.splitlines()[0]
    same = [row for row in read_jsonl(ledger) if row["run"] == str(root.resolve())]
    assert len(same) == 1


def test_another_run_on_the_same_holdout_is_a_second_look(place: Path) -> None:
    first = finished(place, "classify decoder full")
    second = finished(place, "classify decoder lora")
    looks = [read(run.directory.verdict)["holdout"]["looks"] for run in (first, second)]
    assert looks[0] != looks[1]


def test_report_is_written_anew(place: Path, cli: Command) -> None:
    root = finished(place, "chat decoder full").directory.root
    (root / "report.html").unlink()
    (root / "README.md").unlink()
    outcome = cli("report", root)
    assert outcome.code == 0, outcome.err
    assert Path(outcome.out.strip()) == root / "report.html"
    assert (root / "report.html").is_file()
    assert (root / "README.md").is_file()


def test_compare_two_runs_and_two_files(place: Path, cli: Command) -> None:
    a = finished(place, "classify decoder full").directory
    b = finished(place, "classify decoder lora").directory
    outcome = cli("compare", a.root, b.root, "--json")
    assert outcome.code == 0, outcome.err
    verdict = json.loads(outcome.out)
    assert verdict["primary"]["n"] == read(a.verdict)["holdout"]["rows"]
    assert verdict["plan"] is None
    files = [place_.evaluation / "predictions.tuned.jsonl" for place_ in (a, b)]
    twin = fettle.compare(*files)
    assert twin.to_json()["primary"] == verdict["primary"]
    assert cli("compare", *files).out.strip()


def test_plan_trains_nothing_and_leaves_nothing(place: Path, cli: Command, tmp_path: Path) -> None:
    words = ("plan", place / "tickets.csv", "--base", place / "encoder")
    outcome = cli(*words, "--json")
    assert outcome.code == 0, outcome.err
    values = json.loads(outcome.out)
    assert values["train.learning_rate"]["reason"]
    assert list(tmp_path.iterdir()) == []
    text = cli(*words)
    assert "train.learning_rate" in text.out
    assert "holdout" in text.err
    assert fettle.plan(place / "tickets.csv", base=place / "encoder", quiet=True).task == "classify"


def test_doctor(cli: Command) -> None:
    outcome = cli("doctor", "--json")
    found = json.loads(outcome.out)
    assert {check["name"] for check in found["checks"]} >= {"python", "torch", "disk", "starter"}
    assert outcome.code == (0 if found["healthy"] else 4)
    assert "torch" in cli("doctor").out
    assert fettle.doctor().machine.num_threads >= 1


def test_check_exits_3_when_errors_remain(place: Path, cli: Command, tmp_path: Path) -> None:
    outcome = cli("check", place / "tickets.csv")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "checks" / "tickets" / "splits.jsonl").is_file()
    doubled = write_tickets(tmp_path / "doubled.csv")
    lines = doubled.read_text().splitlines()
    doubled.write_text("\n".join([*lines, lines[1]]) + "\n")
    assert cli("check", doubled).code == 0
    strict = cli("check", doubled, "--strict", "--json")
    found = json.loads(strict.out)
    assert found["findings"]["exact_duplicate"] == 1
    assert strict.code == (3 if found["warnings"] else 0)
    doubled.write_text("\n".join([*lines, "one,two,three,four"]) + "\n")
    broken = cli("check", doubled, "--json")
    found = json.loads(broken.out)
    assert (broken.code, found["errors"]) == (3, 1)
    assert fettle.check(doubled, out=tmp_path / "twin").errors == 1


def test_require(place: Path, cli: Command) -> None:
    result = finished(place, "classify encoder full")
    root, word = result.directory.root, result.verdict.verdict
    assert cli("resume", root, "--quiet", "--require", word).code == 0
    if word != "improved":
        outcome = cli("resume", root, "--json", "--require", "improved")
        assert_one_error(outcome, "E1010", 10)
        assert json.loads(outcome.out)["verdict"] == word, "the result is on stdout all the same"


def test_run_on_the_command_line(place: Path, cli: Command, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"schema: 1\ntask: chat\ndata: {{path: {place / 'questions.jsonl'}}}\n"
        f"base: {{id: {place / 'decoder'}}}\ntrain: {{max_steps: 2, batch_size: 8}}\n"
        "evaluate: {resamples: 200, generate_rows: 2, max_new_tokens: 4}\n"
    )
    outcome = cli("run", "recipe.yaml", "--out", "runs/one", "--method", "lora")
    assert outcome.code == 0, outcome.err
    headline = read(tmp_path / "runs" / "one" / "verdict.json")["headline"]
    assert outcome.out == f"{headline}\n"
    assert "next      fettle chat runs/one · open runs/one/report.html" in outcome.err
    assert "[[" in outcome.err, "trained tokens are shown"
    log = (tmp_path / "runs" / "one" / "log.txt").read_text(encoding="utf-8")
    assert headline in log


def test_a_holdout_of_ones_own(place: Path, tmp_path: Path) -> None:
    train, held = write_tickets(tmp_path / "train.csv"), tmp_path / "test.csv"
    lines = train.read_text().splitlines()
    held.write_text("\n".join([lines[0], *(f"New! {line}" for line in lines[1:31])]) + "\n")
    result = fettle.run(
        train,
        eval=held,
        base=place / "encoder",
        out=tmp_path / "run",
        settings=(*FAST, "train.max_steps=2"),
        quiet=True,
    )
    assert read(result.directory.verdict)["holdout"]["rows"] == 30
    assert len(load_account(result.directory.data).examples["holdout"]) == 30


def test_twins_can_be_called_after_their_packages_were_imported(place: Path) -> None:
    assert fettle.chat.render.ChatTemplate is not None
    root = finished(place, "chat decoder full").directory.root
    assert fettle.chat(root).say("Hello") is not None
    assert fettle.report(root) == root / "report.html"
    assert fettle.evaluate(root, quiet=True).verdict.verdict
    for name in ("run", "check", "plan", "predict", "compare", "doctor", "resume"):
        assert callable(getattr(fettle, name)), name
    with pytest.raises(AttributeError):
        _ = fettle.frobnicate


def test_run_directory_names(place: Path) -> None:
    directory = RunDirectory(finished(place, "classify encoder full").directory.root)
    assert directory.is_run()
    assert read_json(directory.environment)["packages"]["torch"] == torch.__version__


# --- what the verdict says of its holdout ------------------------------------------------------

ONE_STEP = (*FAST, "train.max_steps=1")


def test_next_months_rows_join_without_moving_the_old_ones(place: Path, tmp_path: Path) -> None:
    earlier = finished(place, "classify encoder full").directory
    old = {row["row_id"]: row["split"] for row in read_jsonl(earlier.data / "splits.jsonl")}
    grown = write_tickets(tmp_path / "grown.csv", copies=5)
    result = fettle.run(
        grown,
        base=earlier.root,
        out=tmp_path / "next",
        settings=ONE_STEP,
        seed=7,
        quiet=True,
    )
    rows = {row["row_id"]: row for row in read_jsonl(result.directory.data / "splits.jsonl")}
    assert len(rows) == 200
    assert {row_id: rows[row_id]["split"] for row_id in old} == old
    assert {rows[row_id]["reason"] for row_id in old} == {"earlier_run"}
    assert {row["reason"] for row in rows.values()} > {"earlier_run"}
    assert result.verdict.verdict != "invalid", result.verdict.reason


def test_rows_of_the_holdout_that_say_little_are_in_the_verdict(
    place: Path, cli: Command, tmp_path: Path
) -> None:
    table = write_tickets(tmp_path / "all.csv").read_text().splitlines()[1:]
    records = [f"{line},g{number % 30}\n" for number, line in enumerate(table)]
    (tmp_path / "train.csv").write_text("text,label,who\n" + "".join(records[:90]))
    long = f"{'word ' * 200},{table[0].rpartition(',')[2]},new\n"
    broken = f",{table[0].rpartition(',')[2]},new\n"
    held = [line.replace("My", "Our") for line in records[90:]]
    (tmp_path / "test.csv").write_text("text,label,who\n" + "".join([*held, long, broken]))
    outcome = cli(
        "run", "train.csv", "--eval", "test.csv", "--group", "who", "--base", place / "encoder",
        "--out", "run", *(word for item in ONE_STEP for word in ("--set", item)),
        "--set", "train.overlong=quarantine", "--set", "train.max_length=100", "--quiet",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    train = {
        row["group"]
        for row in read_jsonl(tmp_path / "run/data/rows.jsonl")
        if row["split"] == "train"
    }
    shared = sum(
        row["group"] in train
        for row in read_jsonl(tmp_path / "run/data/rows.jsonl")
        if row["split"] == "holdout"
    )
    verdict = read(tmp_path / "run" / "verdict.json")
    assert verdict["holdout"]["rows"] == 30
    assert verdict["holdout"]["rows_with_train_group"] == shared > 20
    assert verdict["holdout"]["left_out"] == {"empty": 1, "overlong": 1}
    said = f"{shared} rows of the holdout share their group with training rows"
    left = "2 rows of the holdout were left out (1 empty, 1 overlong)"
    assert f"; {said}; {left}" in outcome.out
    assert said in verdict["reason"]
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert left in report
    assert "1 empty, 1 overlong" in report


def test_another_base_meets_the_same_holdout(place: Path) -> None:
    cases = ("classify encoder full", "classify decoder full")
    holdouts = [read(finished(place, case).directory.verdict)["holdout"] for case in cases]
    assert holdouts[0]["sha256"] == holdouts[1]["sha256"]
    assert holdouts[0]["looks"] != holdouts[1]["looks"]


def test_evaluate_measures_files_and_the_answers_of_a_run(place: Path, cli: Command) -> None:
    run = finished(place, "classify encoder full").directory
    verdict = read(run.verdict)
    answers = run.evaluation / "predictions.tuned.jsonl"
    for source in (answers, run.root):
        outcome = cli("evaluate", source, "--metric", "accuracy", "--json")
        assert outcome.code == 0, outcome.err
        found = json.loads(outcome.out)
        assert found["value"] == verdict["primary"]["tuned"]
        assert (found["n"], found["interval"]) == (verdict["holdout"]["rows"], "Wilson")
    outcome = cli("evaluate", answers, "--metric", "macro_f1")
    assert outcome.out.startswith("macro_f1 ")
    assert "95 % CI" in outcome.out
    assert read(run.verdict) == verdict, "the verdict stays as it was"
    assert_one_error(cli("evaluate", run.root, "--alpha", "0.1"), "E0117", 2)
    assert_one_error(cli("evaluate", answers, "--metric", "score"), "E1009", 3)
    assert_one_error(cli("evaluate", answers, "--alpha", "0.9"), "E1005", 2)
