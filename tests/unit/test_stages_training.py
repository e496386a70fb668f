"""Stage train: out of memory in every dress, and room on the disk."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train_fixture import settings

from fettle.errors import MachineError, OutOfMemory
from fettle.recipe.recipe import Recipe
from fettle.records.journal import Journal, read_events
from fettle.records.run_directory import RunDirectory
from fettle.stages.context import Context
from fettle.stages.training import _reserve_disk, memory_errors


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB"),
    ],
)
def test_out_of_memory_names_the_setting(error: BaseException) -> None:
    with pytest.raises(OutOfMemory) as caught, memory_errors(settings(micro_batch_tokens=512)):
        raise error
    assert (caught.value.code, caught.value.exit_code) == ("E0605", 5)
    assert "train.micro_batch_tokens=256" in caught.value.hint


def test_torch_really_says_it_so() -> None:
    with pytest.raises(OutOfMemory), memory_errors(settings()):
        torch.empty(2**50, dtype=torch.uint8)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(settings()):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    ("free", "taken", "fits"),
    [(10**6, 0, True), (10**5, 0, False), (10**5, 230_000, True), (10**5, 200_000, False)],
)
def test_disk_use_is_said_and_must_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, taken: int, fits: bool
) -> None:
    place = RunDirectory(tmp_path)
    recipe = Recipe.model_validate({"data": {"path": ["x"]}})
    context = Context(recipe, place, Journal(place.events))
    usage: Any = type("Usage", (), {"free": free})()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    (place.checkpoints / "000010").mkdir(parents=True)
    (place.checkpoints / "000010" / "weights.safetensors").write_bytes(b"x" * taken)
    # 5 checkpoints of weights and two moments, and the model: 5 * 12 * 5,000 + 4 * 5,000 bytes.
    if fits:
        _reserve_disk(context, 5_000, 5_000)
    else:
        with pytest.raises(MachineError) as caught:
            _reserve_disk(context, 5_000, 5_000)
        assert caught.value.code == "E0402"
        assert "--out" in caught.value.hint
    assert "disk: up to" in read_events(place.events)[0]["message"]
