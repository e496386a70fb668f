"""Checkpoints: exact round trip, every kind of damage found, half-written ones never seen."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from tests.train_fixture import chat_rows, decoder, names, same, weights

from fettle.errors import IntegrityError, MachineError
from fettle.records.tokens import Batch
from fettle.train import checkpoint as module
from fettle.train.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    load_weights,
    needed_checkpoints,
    newest_valid,
    prune_checkpoints,
    save_checkpoint,
    verify_checkpoint,
)
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer
from fettle.train.randomness import set_all_states

Model = torch.nn.Module
Optimizer = torch.optim.Optimizer


def take_step(model: Model, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    loss = OBJECTIVES["chat"](model, Batch(tuple(chat_rows(4))), 0)
    (loss.sum / loss.count).backward()
    optimizer.step()


@pytest.fixture
def trained() -> tuple[Model, Optimizer]:
    model = decoder()
    optimizer = make_optimizer(model, 1e-3, 0.1)
    take_step(model, optimizer)
    return model, optimizer


def draws() -> tuple[list[float], ...]:
    """What each generator gives next; Python's and numpy's keep half of a pair of normals."""
    python = [random.gauss(0, 1) for _ in range(3)] + [random.random()]
    return torch.rand(5).tolist(), python, np.random.standard_normal(3).tolist()


def test_round_trip_is_exact(tmp_path: Path, trained: tuple[Model, Optimizer]) -> None:
    model, optimizer = trained
    state = {"data": {"epoch": 1}, "text": "ä", "rank": [0.1, -1e-30]}
    path = save_checkpoint(tmp_path, 7, model, optimizer, state)
    assert path == tmp_path / "000007"
    assert names(path) == [
        "MANIFEST.json",
        "optimizer.safetensors",
        "random.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    expected, drawn = weights(model), draws()
    take_step(model, optimizer)
    next_weights = weights(model)

    other = decoder()
    fresh = make_optimizer(other, 1e-3, 0.1)
    found, states = load_checkpoint(path, other, fresh)
    set_all_states(states)
    assert {key: found[key] for key in state} == state
    assert (found["schema"], found["step"], found["best_step"]) == (1, 7, 0)
    assert same(expected, weights(other))
    assert draws() == drawn
    take_step(other, fresh)
    assert same(next_weights, weights(other)), "the optimizer's moments or step count differ"


def test_frozen_weights_are_not_stored(tmp_path: Path) -> None:
    model = decoder()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "layers.1." in name
    path = save_checkpoint(tmp_path, 1, model, make_optimizer(model, 1e-3, 0.0), {})
    whole = sum(p.numel() for p in model.parameters() if p.requires_grad) * 4
    assert (path / "weights.safetensors").stat().st_size < whole + 4096


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped bit in the weights": lambda folder: flip_bit(folder / "weights.safetensors"),
    "flipped bit in the moments": lambda folder: flip_bit(folder / "optimizer.safetensors"),
    "flipped bit in the random state": lambda folder: flip_bit(folder / "random.safetensors"),
    "flipped bit in the state": lambda folder: flip_bit(folder / "state.json"),
    "flipped bit in the manifest": lambda folder: flip_bit(folder / "MANIFEST.json"),
    "truncated weights": lambda folder: truncate(folder / "weights.safetensors"),
    "truncated manifest": lambda folder: truncate(folder / "MANIFEST.json"),
    "missing moments": lambda folder: (folder / "optimizer.safetensors").unlink(),
    "missing manifest": lambda folder: (folder / "MANIFEST.json").unlink(),
    "manifest of another kind": lambda folder: (folder / "MANIFEST.json").write_text("[1, 2]"),
    "empty manifest": lambda folder: (folder / "MANIFEST.json").write_text('{"sha256": {}}'),
    "foreign file": lambda folder: (folder / "extra.bin").write_bytes(b"x"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_the_one_before_is_used(
    tmp_path: Path, trained: tuple[Model, Optimizer], damage: str
) -> None:
    for step in (10, 20):
        save_checkpoint(tmp_path, step, *trained, {})
    DAMAGE[damage](tmp_path / "000020")
    with pytest.raises(IntegrityError, match="000020 is damaged") as caught:
        verify_checkpoint(tmp_path / "000020")
    assert (caught.value.code, caught.value.exit_code) == ("E0902", 9)
    with pytest.raises(IntegrityError):
        load_checkpoint(tmp_path / "000020", *trained)
    path, problems = newest_valid(tmp_path)
    assert path == tmp_path / "000010"
    assert [problem.code for problem in problems] == ["E0902"]


def test_one_whose_best_is_damaged_is_not_gone_on_from(
    tmp_path: Path, trained: tuple[Model, Optimizer]
) -> None:
    save_checkpoint(tmp_path, 10, *trained, {}, best_step=10)
    save_checkpoint(tmp_path, 20, *trained, {}, best_step=20)
    save_checkpoint(tmp_path, 30, *trained, {}, best_step=20)
    assert newest_valid(tmp_path)[0] == tmp_path / "000030"
    flip_bit(tmp_path / "000020" / "weights.safetensors")
    path, problems = newest_valid(tmp_path)
    assert path == tmp_path / "000010"
    assert len(problems) == 2
    shutil.rmtree(tmp_path / "000020")
    assert newest_valid(tmp_path)[0] == tmp_path / "000010"


def test_nothing_there(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "none") == (None, [])
    prune_checkpoints(tmp_path / "none", set())


def test_half_written_and_foreign_entries_are_ignored(
    tmp_path: Path, trained: tuple[Model, Optimizer]
) -> None:
    save_checkpoint(tmp_path, 5, *trained, {})
    shutil.copytree(tmp_path / "000005", tmp_path / ".000006.tmp-0a1b2c3d")
    (tmp_path / "000007").write_text("a file, not a folder")
    (tmp_path / "notes").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["000005"]
    prune_checkpoints(tmp_path, {"000005"})
    assert names(tmp_path) == ["000005", "000007", "notes"]


def test_the_two_newest_whole_ones_and_their_best_are_needed(
    tmp_path: Path, trained: tuple[Model, Optimizer]
) -> None:
    for step, best in ((10, 10), (20, 20), (30, 20), (40, 40)):
        save_checkpoint(tmp_path, step, *trained, {}, best_step=best)
    # 30 could not be gone on from without 20, were 40 damaged.
    assert needed_checkpoints(tmp_path) == {"000040", "000030", "000020"}
    truncate(tmp_path / "000030" / "weights.safetensors")
    assert needed_checkpoints(tmp_path) == {"000040", "000020"}
    (tmp_path / "000040" / "state.json").unlink()
    assert needed_checkpoints(tmp_path) == {"000020", "000010"}


def test_a_checkpoint_is_never_half_deleted(
    tmp_path: Path, trained: tuple[Model, Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 5, *trained, {})
    seen = []

    def look(path: Path, ignore_errors: bool) -> None:
        seen.append(names(tmp_path))

    monkeypatch.setattr(shutil, "rmtree", look)
    prune_checkpoints(tmp_path, set())
    assert len(seen) == 1
    assert len(seen[0]) == 1
    assert seen[0][0].startswith(".000005.old-"), "it must lose its name before its files"


def test_more_than_a_million_steps_stay_in_order(tmp_path: Path) -> None:
    for name in ("1000000", "999999", "000100"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["000100", "999999", "1000000"]


def test_a_refused_write_leaves_the_earlier_ones(
    tmp_path: Path, trained: tuple[Model, Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, *trained, {})

    def full(tensors: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(MachineError, match="No space left on device") as caught:
        save_checkpoint(tmp_path, 2, *trained, {})
    assert (caught.value.code, caught.value.exit_code) == ("E0401", 4)
    assert names(tmp_path) == ["000001"]
    verify_checkpoint(tmp_path / "000001")


def test_a_checkpoint_of_another_model_is_refused(
    tmp_path: Path, trained: tuple[Model, Optimizer]
) -> None:
    path = save_checkpoint(tmp_path, 1, *trained, {})
    other = torch.nn.Linear(3, 3)
    with pytest.raises(IntegrityError, match="is of another model") as caught:
        load_weights(path, other)
    assert caught.value.code == "E0903"


def test_a_checkpoint_of_a_wider_model_is_refused(tmp_path: Path) -> None:
    narrow, wide = torch.nn.Linear(3, 3), torch.nn.Linear(4, 3)
    path = save_checkpoint(tmp_path, 1, narrow, make_optimizer(narrow, 1e-3, 0.0), {})
    with pytest.raises(
        IntegrityError, match=r"weight has the shape \[3, 3\], not \[3, 4\]"
    ) as caught:
        load_weights(path, wide)
    assert caught.value.code == "E0903"


def test_the_manifest_says_what_it_is(tmp_path: Path, trained: tuple[Model, Optimizer]) -> None:
    path = save_checkpoint(tmp_path, 3, *trained, {})
    manifest = json.loads((path / "MANIFEST.json").read_text())
    assert (manifest["schema"], manifest["step"]) == (1, 3)
    assert manifest["sha256"].keys() == manifest["bytes"].keys()
    assert sorted(manifest["sha256"]) == [name for name in names(path) if name != "MANIFEST.json"]
