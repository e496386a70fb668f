"""Killed, interrupted, out of disk: a training ends as the one that was left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.command import tiny_base, write_tickets
from tests.train_fixture import PAD, encoder, label_rows, names, same, scripted, settings, weights

from fettle.errors import MachineError, UsageError
from fettle.records.journal import Journal, read_events
from fettle.records.run_directory import RunDirectory
from fettle.train.checkpoint import list_checkpoints, verify_checkpoint
from fettle.train.train import train

pytestmark = pytest.mark.slow

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks and /proc")


def harness(repository: Path, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(repository / "bench" / "_kill.py"), *map(str, words)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = process.communicate(timeout=550)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


@linux
def test_twenty_random_kills_end_bitwise_equal(repository: Path) -> None:
    found = answer(harness(repository, "random", "--number", 20, "--seed", 3))
    assert found["kills"] == 20
    assert found["bitwise"] == found["trainings"] > 5, found


@linux
def test_a_kill_before_every_single_write_ends_bitwise_equal(repository: Path) -> None:
    halves = [harness(repository, "points", "--every", 2, "--first", n) for n in (1, 2)]
    found = [answer(half) for half in halves]
    assert [half["wrong"] for half in found] == [[], []]
    assert sum(half["killed"] for half in found) == found[0]["points"]
    seen = {label.split(".tmp-")[0] for label in found[0]["labels"]}
    assert seen >= {
        "half of optimizer.safetensors",
        "half of weights.safetensors before fsync",
        "half of .MANIFEST.json",
        "fsync checkpoints",
        "os.rename .000001",
        "os.rename 000001",
        "os.remove weights.safetensors",
        "half a line in events.jsonl",
    }


@linux
def test_a_whole_run_ends_with_the_same_verdict(repository: Path) -> None:
    found = answer(harness(repository, "pipeline", "--number", 2, "--seed", 2))
    assert found["kills"] == 2
    assert found["bitwise"] == found["trainings"], found


# --- requests to stop --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / ".fettle").mkdir()
    tiny_base(folder / "base", "encoder")
    write_tickets(folder / "tickets.csv")
    return folder


def running(project: Path, name: str, *more: str) -> "subprocess.Popen[str]":
    """A real process of ``fettle run`` that would train for minutes."""
    command = [sys.executable, "-m", "fettle", "run", "tickets.csv", "--base", "base"]
    command += ["--task", "classify", "--out", name]
    values = ("train.max_steps=20000", "train.evaluate_every=5000", "train.batch_size=8")
    fixed = ("base.dtype=float32", "train.threads=1", "evaluate.resamples=200")
    for value in (*values, *fixed, *more):
        command += ["--set", value]
    return subprocess.Popen(
        command, cwd=project, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=-3, text=True
    )


def wait_for_steps(process: "subprocess.Popen[str]", run: Path) -> None:
    end = time.monotonic() + 300
    while not any(event["event"] == "step" for event in read_events(run / "events.jsonl")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_saves_and_exits_7(project: Path, number: signal.Signals) -> None:
    run = project / f"stopped-{number.name}"
    process = running(project, run.name)
    wait_for_steps(process, run)
    with pytest.raises(UsageError, match="in use by another fettle process"):
        RunDirectory(run).locked().__enter__()
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 7, said
    assert "[E0604]" in said
    assert f"fettle resume {run.name}" in said
    (path,) = list_checkpoints(run / "checkpoints")
    verify_checkpoint(path)
    steps = [
        event["step"] for event in read_events(run / "events.jsonl") if event["event"] == "step"
    ]
    assert int(path.name) == steps[-1]


def test_a_second_request_stops_at_once(project: Path) -> None:
    run = project / "twice"
    # A save after every step of a long line: the second signal comes before the first is answered.
    process = running(project, run.name, "train.batch_size=80", "train.micro_batch_tokens=8")
    wait_for_steps(process, run)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 7, said
    assert "[E0606]" in said
    assert "Traceback" not in said
    assert list_checkpoints(run / "checkpoints") == []


def test_a_loss_that_overflows_exits_6_with_its_rows(project: Path) -> None:
    process = running(project, "diverged", "train.learning_rate=1e30", "train.warmup_fraction=0")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 6, said
    assert "[E0603]" in said
    assert "Where: rows " in said


# --- a full disk -------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, whose size the test sets by mounting it again."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def resize(place: Path, kilobytes: int) -> None:
    options = f"remount,size={kilobytes}k"
    subprocess.run(["mount", "-o", options, str(place)], check=True)


def train_toy(folder: Path) -> torch.nn.Module:
    model = encoder(0.2)
    torch.manual_seed(5)
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / "events.jsonl")
    newest = list_checkpoints(folder / "checkpoints")[-1:]
    looked = int(newest[0].name) // 2 if newest else 0
    train(
        model,
        label_rows(),
        settings("classify", batch_size=8, max_steps=8, evaluate_every=2, patience=99),
        device="cpu",
        pad_id=PAD,
        checkpoints=folder / "checkpoints",
        validate=scripted([4.0, 3.0, 2.0, 1.0][looked:]),
        emit=journal.emit,
        stop_requested=lambda: False,
        flush=journal.flush,
    )
    return model


def test_a_full_disk_never_harms_what_is_there(tmp_path: Path, small_disk: Path) -> None:
    whole = train_toy(tmp_path / "whole")
    one = sum(f.stat().st_size for f in (tmp_path / "whole/checkpoints/000008").iterdir()) // 1024
    refused = []
    for kilobytes in (4, one // 2, one + one // 3, 2 * one - 8, 2 * one + one // 2, 3 * one):
        resize(small_disk, kilobytes)
        run = small_disk / "run"
        with pytest.raises(MachineError, match="No space left") as caught:
            train_toy(run)
        assert (caught.value.code, caught.value.exit_code) == ("E0401", 4)
        found = list_checkpoints(run / "checkpoints")
        for path in found:
            verify_checkpoint(path)
        assert not [name for name in names(run / "checkpoints") if "tmp" in name] or not found
        refused.append(len(found))
        shutil.rmtree(run)
    assert refused[0] == 0
    assert max(refused) >= 2

    resize(small_disk, 2 * one + one // 2)
    with pytest.raises(MachineError):
        train_toy(small_disk / "run")
    resize(small_disk, 8 * one)
    assert same(weights(train_toy(small_disk / "run")), weights(whole))
