"""Bad input: one clear error with the fix, the right exit code, nothing half-written."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.command import (
    Command,
    Outcome,
    assert_one_error,
    tiny_base,
    write_questions,
    write_tickets,
)

from fettle import pipeline
from fettle.records.journal import read_events

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "decoder")


@pytest.fixture
def fettle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(count: int, labels: int) -> str:
    return "text,label\n" + "".join(
        f"the text of row {n} is here,label {n % labels}\n" for n in range(count)
    )


JSON_DEEP = '[{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "a"}]'
BAD_DATA: dict[str, tuple[str, str | bytes, tuple[str, ...], str, int]] = {
    # name: file, content, options, code, exit
    "empty file": ("x.csv", "", (), "E0326", 3),
    "blank lines only": ("x.csv", "\n\n\n", (), "E0326", 3),
    "header only": ("x.csv", "text,label\n", (), "E0326", 3),
    "empty jsonl": ("x.jsonl", "", (), "E0326", 3),
    "one row": ("x.csv", rows(1, 1), (), "E0331", 3),
    "one label": ("x.csv", rows(60, 1), (), "E0332", 3),
    "labels all distinct": (
        "x.csv",
        rows(60, 60),
        ("--task", "classify", "--text", "text", "--label", "label"),
        "E0333",
        3,
    ),
    "missing column": ("x.csv", rows(60, 3), ("--label", "topic"), "E0134", 2),
    "binary file": ("x.csv", bytes(range(256)) * 64, (), "E0320", 3),
    "picture": ("x.json", b"\x89PNG\r\n\x1a\n" + bytes(500), (), "E0320", 3),
    "damaged gzip": ("x.csv.gz", gzip.compress(rows(60, 3).encode())[:-20], (), "E0321", 3),
    "deep json": ("x.json", JSON_DEEP, (), "E0324", 3),
    "cut json": ("x.json", '[{"text": "a", "label": "b"}, {"te', (), "E0324", 3),
    "malformed rows": (
        "x.jsonl",
        "".join(
            json.dumps({"text": f"row {n}", "label": "ab"[n % 2]}) + "\n" if n % 3 else "{broken\n"
            for n in range(90)
        ),
        (),
        "E0328",
        3,
    ),
    "no columns that fit": ("x.csv", "alpha,beta,gamma\n" + "1,2,3\n" * 60, (), "E0330", 3),
}


@pytest.mark.parametrize("verb", ["run", "check"])
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(fettle: Command, base: Path, tmp_path: Path, case: str, verb: str) -> None:
    name, content, options, code, exit_code = BAD_DATA[case]
    data = write(tmp_path / name, content)
    more = ("--base", base) if verb == "run" else ()
    outcome = fettle(verb, data, *options, *more)
    assert_one_error(outcome, code, exit_code)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name], "something was left behind"


def test_deep_json_lines_are_malformed_rows_or_refused(
    fettle: Command, base: Path, tmp_path: Path
) -> None:
    deep = '{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "a"}\n'
    data = write(tmp_path / "x.jsonl", deep * 5)
    assert_one_error(fettle("run", data, "--base", base), "E0328", 3)
    assert not (tmp_path / "runs").exists()


def test_a_line_of_200_megabytes(fettle: Command, base: Path, tmp_path: Path) -> None:
    data = tmp_path / "x.csv"
    with data.open("wb") as handle:
        handle.write(b"text,label\n")
        for _ in range(200):
            handle.write(b"a" * 2**20)
        handle.write(b",b\n")
    outcome = fettle("run", data, "--base", base)
    assert_one_error(outcome, "E0328", 3)
    assert "x.csv:2" in outcome.err
    assert len(outcome.err) < 2000, "the line must not be printed"
    assert not (tmp_path / "runs").exists()


DEEP = "[" * 100_000 + "]" * 100_000
BAD_FILES: dict[str, tuple[str, str | bytes, tuple[str, ...], str, int]] = {
    # name: file, content, the command before and after the file, code, exit
    "deep predictions": ("p.jsonl", f'{{"row_id": {DEEP}}}\n', ("evaluate",), "E0302", 3),
    "binary predictions": ("p.jsonl", bytes(range(256)) * 20, ("evaluate",), "E1003", 3),
    "no predictions": ("p.jsonl", "", ("evaluate",), "E1003", 3),
    "a table for predictions": ("p.jsonl", rows(9, 3), ("evaluate",), "E0302", 3),
    "deep recipe": ("r.yaml", f"data: {{path: {DEEP}}}\n", ("run",), "E0202", 2),
    "binary recipe": ("r.yaml", bytes(range(256)) * 20, ("run",), "E0201", 2),
    "empty recipe": ("r.yaml", "", ("run",), "E0205", 2),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_of_other_kinds(fettle: Command, tmp_path: Path, case: str) -> None:
    name, content, words, code, exit_code = BAD_FILES[case]
    assert_one_error(fettle(*words, write(tmp_path / name, content)), code, exit_code)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [f'{{"a": {DEEP}}}'.encode(), bytes(range(256))])
def test_damaged_files_of_the_base(
    fettle: Command, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = tiny_base(tmp_path / "base")
    write(folder / name, content)
    code = "E0561" if name == "tokenizer.json" else "E0505"
    assert_one_error(run_with(fettle, tmp_path, folder), code, 2)


def test_a_path_that_does_not_exist(fettle: Command, base: Path, tmp_path: Path) -> None:
    assert_one_error(fettle("run", "nowhere.csv", "--base", base), "E0130", 2)
    assert list(tmp_path.iterdir()) == []


# --- the base ----------------------------------------------------------------------------------


def run_with(fettle: Command, tmp_path: Path, base: Path | str, *words: str) -> Outcome:
    chat = words[:2] == ("--task", "chat")
    data = write_questions(tmp_path / "x.jsonl") if chat else write_tickets(tmp_path / "x.csv")
    outcome = fettle("run", data, "--base", base, *words)
    assert not (tmp_path / "runs").exists(), "something was left behind"
    return outcome


def test_a_directory_without_weights(fettle: Command, base: Path, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base")
    (folder / "model.safetensors").unlink()
    assert_one_error(run_with(fettle, tmp_path, folder), "E0506", 2)


def test_a_pickle_only_checkpoint(fettle: Command, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(2)}, folder / "pytorch_model.bin")
    assert_one_error(run_with(fettle, tmp_path, folder), "E0507", 2)


def test_damaged_weights(fettle: Command, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base")
    os.truncate(folder / "model.safetensors", 1000)
    assert_one_error(run_with(fettle, tmp_path, folder), "E0509", 2)


def test_an_empty_folder_as_base(fettle: Command, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    assert_one_error(run_with(fettle, tmp_path, tmp_path / "base"), "E0502", 2)


def test_a_base_without_chat_template(fettle: Command, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base", template=None)
    outcome = run_with(fettle, tmp_path, folder, "--task", "chat")
    assert_one_error(outcome, "E0701", 2)
    assert "base.chat_template=" in outcome.err


def test_an_encoder_can_not_chat(fettle: Command, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base", "encoder")
    assert_one_error(run_with(fettle, tmp_path, folder, "--task", "chat"), "E0513", 2)


def test_a_base_without_tokenizer(fettle: Command, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base")
    (folder / "tokenizer.json").unlink()
    assert_one_error(run_with(fettle, tmp_path, folder), "E0560", 2)


def test_a_hub_id_without_a_network(fettle: Command, tmp_path: Path) -> None:
    outcome = run_with(fettle, tmp_path, "nobody/nothing", "--set", "base.offline=true")
    assert_one_error(outcome, "E0802", 8)


# --- the command line and the recipe -----------------------------------------------------------

USES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown option": (("run", "x.csv", "--frobnicate"), "E0101"),
    "unknown verb": (("frobnicate",), "E0101"),
    "no data": (("run",), "E0101"),
    "not a number": (("run", "x.csv", "--seed", "one"), "E0101"),
    "unknown recipe key": (("run", "x.csv", "--set", "train.learning_rat=1"), "E0204"),
    "value out of bounds": (("run", "x.csv", "--set", "train.batch_size=0"), "E0205"),
    "override without value": (("run", "x.csv", "--set", "seed"), "E0207"),
    "unknown task": (("run", "x.csv", "--task", "frobnicate"), "E0205"),
    "unknown verdict": (("run", "x.csv", "--require", "best"), "E0116"),
    "no recipe": (("run", "nowhere.yaml"), "E0201"),
    "resume without a run": (("resume", "runs/none"), "E0112"),
    "evaluate without a run": (("evaluate", "runs/none"), "E0112"),
    "alpha of a run": (("evaluate", "runs/none", "--alpha", "0.1"), "E0117"),
    "predict without a run": (("predict", "runs/none", "x.csv"), "E0112"),
    "chat without a run": (("chat", "runs/none", "--prompt", "x"), "E0112"),
    "report without a run": (("report", "runs/none"), "E0120"),
}


@pytest.mark.parametrize("case", USES)
def test_wrong_use(fettle: Command, tmp_path: Path, case: str) -> None:
    words, code = USES[case]
    write_tickets(tmp_path / "x.csv")
    assert_one_error(fettle(*words), code, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_unknown_keys_name_the_nearest(fettle: Command, tmp_path: Path) -> None:
    write_tickets(tmp_path / "x.csv")
    assert "learning_rate" in fettle("run", "x.csv", "--set", "train.learning_rat=1").err
    recipe = write(tmp_path / "r.yaml", "schema: 1\ndata: {path: x.csv}\ntrian: {epochs: 1}\n")
    outcome = fettle("run", recipe)
    assert_one_error(outcome, "E0204", 2)
    assert "train" in outcome.err
    assert "r.yaml:3" in outcome.err


def test_an_unknown_metric_leaves_nothing(fettle: Command, base: Path, tmp_path: Path) -> None:
    outcome = run_with(fettle, tmp_path, base, "--metric", "frobnication")
    assert_one_error(outcome, "E1001", 2)


def test_json_errors_are_json(fettle: Command, base: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", "")
    outcome = fettle("run", data, "--base", base, "--json")
    error = json.loads(outcome.out)["error"]
    assert (error["code"], error["exit_code"], outcome.code) == ("E0326", 3, 3)
    assert error["hint"]


# --- directories and disks ---------------------------------------------------------------------


def test_a_directory_with_content_is_not_written_into(
    fettle: Command, base: Path, tmp_path: Path
) -> None:
    data = write_tickets(tmp_path / "x.csv")
    mine = tmp_path / "mine"
    mine.mkdir()
    write(mine / "thesis.txt", "years of work")
    for verb in ("run", "check"):
        more = ("--base", base) if verb == "run" else ()
        assert_one_error(fettle(verb, data, *more, "--out", mine), "E0111", 2)
        assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    assert_one_error(fettle("run", data, "--base", base, "--out", data), "E0111", 2)


def test_a_failed_attempt_does_not_block_the_next(
    fettle: Command, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "one"
    data = write(tmp_path / "x.csv", rows(60, 1))
    assert_one_error(fettle("run", data, "--base", base, "--out", out), "E0332", 3)
    assert not (tmp_path / "deep").exists()
    # A folder of the user's own stays, empty as it was.
    out.mkdir(parents=True)
    assert_one_error(fettle("run", data, "--base", base, "--out", out), "E0332", 3)
    assert list(out.iterdir()) == []


def test_a_file_where_the_folder_should_be(fettle: Command, base: Path, tmp_path: Path) -> None:
    data = write_tickets(tmp_path / "x.csv")
    blocked = write(tmp_path / "blocked", "")
    outcome = fettle("run", data, "--base", base, "--out", blocked / "run")
    assert_one_error(outcome, "E0401", 4)


def test_no_room_for_the_run(
    fettle: Command, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000, "total": 10**6, "used": 0})()
    monkeypatch.setattr("fettle.stages.training.shutil.disk_usage", lambda path: usage)
    outcome = run_with(fettle, tmp_path, base, "--set", "train.max_steps=1")
    assert_one_error(outcome, "E0402", 4)


@pytest.mark.parametrize("write_number", [1, 2, 4, 7])
def test_a_disk_that_fills_up(
    fettle: Command,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_number: int,
) -> None:
    """The nth synchronised write fails: in recipe.yaml, in data/, in the settings."""
    real, calls = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == write_number:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    outcome = run_with(fettle, tmp_path, base, "--set", "train.max_steps=1")
    assert_one_error(outcome, "E0401", 4)
    assert "No space left on device" in outcome.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system can't be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(
    fettle: Command, base: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Without the estimate, so that the writing itself hits the end of the disk.
    monkeypatch.setattr("fettle.stages.training._reserve_disk", lambda *values: None)
    data = write_tickets(tmp_path / "x.csv")
    outcome = fettle(
        "run", data, "--base", base, "--out", small_disk / "one", "--set", "train.max_steps=1"
    )
    assert_one_error(outcome, "E0401", 4)
    left = [path.name for path in small_disk.rglob("*") if path.name.startswith(".")]
    assert [name for name in left if "tmp" in name] == []


def test_an_unexpected_exception_is_one_block(
    fettle: Command, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*values: object) -> None:
        raise ZeroDivisionError("oh")

    data = write_tickets(tmp_path / "x.csv")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "probe_machine", broken)
        short = ("--set", "train.max_steps=1", "--set", "evaluate.resamples=200")
        outcome = fettle("run", data, "--base", base, "--out", "one", *short)
    assert_one_error(outcome, "E0001", 1)
    assert "FETTLE_DEBUG=1" in outcome.err
    # What fettle itself did wrong leaves its trace, and nothing else: resume begins anew.
    kept = {path.name for path in (tmp_path / "one").iterdir()}
    assert kept - {".lock"} == {"recipe.yaml", "events.jsonl", "log.txt"}
    (said,) = [e for e in read_events(tmp_path / "one" / "events.jsonl") if e["event"] == "error"]
    assert said["message"] == "ZeroDivisionError: oh"
    assert 'raise ZeroDivisionError("oh")' in said["trace"]
    assert "one/events.jsonl" in outcome.err
    assert "one/events.jsonl" in (tmp_path / "one" / "log.txt").read_text()
    assert fettle("resume", "one", "--quiet").code == 0


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (KeyboardInterrupt(), "E0606", 7),
        (MemoryError(), "E0605", 5),
        (PermissionError(13, "Permission denied", "/root/x"), "E0403", 4),
    ],
)
def test_what_the_machine_does_to_a_command(
    fettle: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: str,
    exit_code: int,
) -> None:
    def broken(*values: object, **options: object) -> None:
        raise error

    data = write_tickets(tmp_path / "x.csv")
    monkeypatch.setattr("fettle.api.data.prepare", broken)
    assert_one_error(fettle("check", data), code, exit_code)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m fettle check x.csv --json | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=write_tickets(tmp_path / "x.csv").parent,
        check=False,
    )
    assert done.stdout == "{"
    assert "Error" not in done.stderr


def test_debug_shows_the_traceback(
    fettle: Command, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETTLE_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["fettle", "run", "nowhere.csv", "--base", str(base)])
    with pytest.raises(Exception, match="does not exist"):
        fettle("run", "nowhere.csv", "--base", base)


def test_an_earlier_account_is_replaced(fettle: Command, tmp_path: Path) -> None:
    data = write_tickets(tmp_path / "x.csv")
    assert fettle("check", data, "--out", tmp_path / "a").code == 0
    assert fettle("check", data, "--out", tmp_path / "a").code == 0


# --- as a process of its own -------------------------------------------------------------------


def test_as_a_process(base: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "x.csv", "")
    done = subprocess.run(
        [sys.executable, "-m", "fettle", "run", data, "--base", base],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert_one_error(Outcome(done.returncode, done.stdout, done.stderr), "E0326", 3)
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
