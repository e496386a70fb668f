"""Checkpoints: safetensors and JSON, hash-verified, written whole or not at all.

In: the trainable weights, the optimizer, random states and a JSON state. Out: a directory
``checkpoints/000100/`` with MANIFEST.json, and back. Must not know: the loop, the task. Nothing is
ever pickled or unpickled.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fettle.errors import IntegrityError
from fettle.records.outcomes import SCHEMA
from fettle.records.run_directory import read_json, staged_directory, write_json
from fettle.train.optimizer import trainable_parameters

WEIGHTS, OPTIMIZER, RANDOM = "weights.safetensors", "optimizer.safetensors", "random.safetensors"
_HINT = "`fettle resume` goes on from the newest checkpoint that is whole"


def save_checkpoint(
    directory: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    best_step: int = 0,
) -> Path:
    """Write ``directory/000100`` atomically and return it.

    Args:
        state: JSON-ready: position in the data, best value so far, what the driver needs.
        best_step: checkpoint that going on from this one needs as well; 0 = none.

    Raises:
        MachineError: E0401, the disk refused; earlier checkpoints are untouched.
    """
    target = directory / checkpoint_name(step)
    with staged_directory(target) as folder:
        weights = {
            name: p.detach().cpu().contiguous() for name, p in trainable_parameters(model).items()
        }
        save_file(weights, folder / WEIGHTS)
        save_file(_optimizer_tensors(model, optimizer), folder / OPTIMIZER)
        save_file(_random_tensors(), folder / RANDOM)
        write_json(
            folder / "state.json",
            {"schema": SCHEMA, "step": step, "best_step": best_step, **state},
        )
        hashes = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
        write_json(folder / "MANIFEST.json", {"schema": SCHEMA, "step": step, "sha256": hashes})
    return target


def checkpoint_name(step: int) -> str:
    """The folder's name: 100 -> "000100"."""
    return f"{step:06d}"


def list_checkpoints(directory: Path) -> list[Path]:
    """Finished checkpoints, oldest first; half-written ones have other names."""
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def verify_checkpoint(path: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        IntegrityError: E0902, a file is missing, foreign or changed.
    """
    try:
        expected: dict[str, str] = dict(read_json(path / "MANIFEST.json")["sha256"])
    except (IntegrityError, KeyError, TypeError, ValueError):
        expected = {}
    if not path.is_dir():
        raise IntegrityError("E0902", f"checkpoint {path} is gone", hint=_HINT)
    present = {file.name for file in path.iterdir()} - {"MANIFEST.json"}
    wrong = sorted(present ^ expected.keys()) + [
        name for name in sorted(present & expected.keys()) if _sha256(path / name) != expected[name]
    ]
    if wrong or not expected:
        raise IntegrityError(
            "E0902",
            f"checkpoint {path} is damaged: {', '.join(wrong if expected else ['MANIFEST.json'])}",
            hint=_HINT,
        )


def newest_valid(directory: Path) -> tuple[Path | None, list[IntegrityError]]:
    """The newest checkpoint whose every byte is as written, and what was wrong with newer ones.

    One that needs a best checkpoint which is damaged or gone can't be gone on from either.
    """
    problems: list[IntegrityError] = []
    for path in reversed(list_checkpoints(directory)):
        try:
            verify_checkpoint(path)
            best_step = int(read_json(path / "state.json")["best_step"])
            if best_step:
                verify_checkpoint(directory / checkpoint_name(best_step))
        except IntegrityError as error:
            problems.append(error)
            continue
        return path, problems
    return None, problems


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the trainable weights of a checkpoint into the model."""
    parameters = trainable_parameters(model)
    tensors = _load(path / WEIGHTS)
    if tensors.keys() != parameters.keys():
        names = sorted(tensors.keys() ^ parameters.keys())
        raise IntegrityError(
            "E0903",
            f"checkpoint {path} is of another model: {', '.join(names[:5])}",
            hint="start the run again with the recipe that it was made with",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put weights, optimizer moments and random states back; return the JSON state.

    Raises:
        IntegrityError: E0902 or E0903.
    """
    verify_checkpoint(path)
    load_weights(path, model)
    names = {parameter: name for name, parameter in trainable_parameters(model).items()}
    tensors = _load(path / OPTIMIZER)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = f"{names[parameter]}/"
            optimizer.state[parameter] = {
                # Fused AdamW keeps its step count where the parameter is.
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
    random = _load(path / RANDOM)
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
    state: dict[str, Any] = read_json(path / "state.json")
    return state


def prune_checkpoints(directory: Path, keep: set[str]) -> None:
    """Delete all checkpoints but those named, and what an interrupted write left behind."""
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name.startswith(".") or (path.name.isdecimal() and path.name not in keep):
            shutil.rmtree(path, ignore_errors=True)


def _optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in trainable_parameters(model).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _random_tensors() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError("E0902", f"{path} can't be read: {error}") from error
    return tensors


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
