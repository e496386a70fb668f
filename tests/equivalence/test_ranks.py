"""Two gloo processes train what one does: the same rows a step, losses and weights to 1e-6."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

CASES = ("decoder", "encoder", "one row a step", "unused weight", "out of memory")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> dict[int, Path]:
    """The folders of all cases, by number of processes."""
    folders = {}
    for number in (1, 2):
        folders[number] = tmp_path_factory.mktemp(f"ranks{number}")
        command = [sys.executable, "-m", "tests.rank_children", str(number), str(folders[number])]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(
            [*command, *CASES],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folders


def told(folder: Path, kind: str) -> list[dict[str, Any]]:
    events = json.loads((folder / "events.json").read_text(encoding="utf-8"))
    return [fields for name, fields in events if name == kind]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(trained: dict[int, Path], case: str) -> None:
    one, two = (trained[number] / case.replace(" ", "-") for number in (1, 2))
    steps, others = told(one, "step"), told(two, "step")
    assert len(steps) == len(others) == 5
    exact = ("step", "epoch", "num_targets", "num_tokens", "learning_rate")
    for step, other in zip(steps, others, strict=True):
        assert {key: step[key] for key in exact} == {key: other[key] for key in exact}
        assert other["loss"] == pytest.approx(step["loss"], abs=1e-6)
        assert other["gradient_norm"] == pytest.approx(step["gradient_norm"], rel=1e-5)
    expected, first, second = (
        load_file(path)
        for path in (one / "0.safetensors", two / "0.safetensors", two / "1.safetensors")
    )
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), "the processes have drifted apart"
        if name.endswith("key.bias"):
            continue  # softmax ignores it: its gradient is rounding alone, which Adam scales up
        assert torch.allclose(first[name], value, atol=1e-6, rtol=0), name
    alike = all(torch.equal(first[name], value) for name, value in expected.items())
    # Of a step with one row the second process has none; else rounding must tell that rows were
    # shared at all.
    assert alike == (case == "one row a step")


def test_an_unused_weight_is_left_alone(trained: dict[int, Path]) -> None:
    for folder in trained.values():
        spare = load_file(folder / "unused-weight" / "0.safetensors")["spare"]
        assert torch.equal(spare, torch.ones(3, 3))


def test_what_does_not_fit_in_one_process_is_divided_in_all(trained: dict[int, Path]) -> None:
    for number, folder in trained.items():
        notes = [note for note in told(folder / "out-of-memory", "note") if "code" in note]
        assert notes, number
        assert {note["code"] for note in notes} == {"E0605"}
