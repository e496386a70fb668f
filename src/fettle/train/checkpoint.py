"""Checkpoints: safetensors and JSON, hash-verified, written whole or not at all.

In: the trainable weights, the optimizer, random states and a JSON state. Out: a directory
``checkpoints/000100/`` with MANIFEST.json, and back. Must not know: the loop, the task. Nothing is
ever pickled or unpickled.

A save fills a folder of another name, syncs every file and the folder, renames it and syncs its
parent; only then older ones are deleted, each renamed first. So whatever stands under a decimal
name was once whole, at any instant.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fettle.errors import IntegrityError
from fettle.records.outcomes import SCHEMA
from fettle.records.run_directory import (
    read_json,
    remove_directory,
    staged_directory,
    write_json,
)
from fettle.train.optimizer import trainable_parameters
from fettle.train.randomness import all_states

KEPT = 2
"""Newest whole checkpoints that are kept; each with the best one that it refers to."""
WEIGHTS, OPTIMIZER, RANDOM = "weights.safetensors", "optimizer.safetensors", "random.safetensors"
_HINT = "`fettle resume` goes on from the newest checkpoint that is whole"


def save_checkpoint(
    directory: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    best_step: int = 0,
    random: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write ``directory/000100`` atomically and return it.

    Args:
        state: JSON-ready: position in the data, best value so far, what the driver needs.
        best_step: checkpoint that going on from this one needs as well; 0 = none.
        random: states of the random generators; None = those of this process, now.

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
        save_file(dict(random if random is not None else all_states()), folder / RANDOM)
        write_json(
            folder / "state.json",
            {"schema": SCHEMA, "step": step, "best_step": best_step, **state},
        )
        files = sorted(folder.iterdir())
        manifest = {
            "sha256": {file.name: _sha256(file) for file in files},
            "bytes": {file.name: file.stat().st_size for file in files},
        }
        write_json(folder / "MANIFEST.json", {"schema": SCHEMA, "step": step, **manifest})
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
            best_step = _best_step(path)
            if best_step:
                verify_checkpoint(directory / checkpoint_name(best_step))
        except IntegrityError as error:
            problems.append(error)
            continue
        return path, problems
    return None, problems


def refuse_all(directory: Path, problems: Sequence[IntegrityError]) -> NoReturn:
    """Say that there are checkpoints, and none to go on from.

    Raises:
        IntegrityError: E0908; starting over unasked could throw days of work away.
    """
    raise IntegrityError(
        "E0908",
        f"none of the {len(problems)} checkpoints in {directory} can be gone on from;"
        f" the newest: {problems[0].message}",
        where=str(directory),
        why="going on from a damaged one would train another model than the one that was begun",
        hint=f"put the files back from a copy; or train again from the first step:"
        f" rm -r {directory}, then `fettle resume {directory.parent}`",
    )


def needed_checkpoints(directory: Path) -> set[str]:
    """Names of the newest two that have all their files, and of the best ones that they need.

    Files are compared by name and size here, by their hashes before anything is read back.
    """
    needed: set[str] = set()
    num_kept = 0
    for path in reversed(list_checkpoints(directory)):
        try:
            best_step = _best_step(path)
            best = directory / checkpoint_name(best_step) if best_step else path
            whole = _has_all_files(path) and _has_all_files(best)
        except (IntegrityError, KeyError, TypeError, ValueError, OSError):
            continue
        if whole and num_kept < KEPT:
            needed |= {path.name, best.name}
            num_kept += 1
    return needed


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
    other = [name for name, p in parameters.items() if p.shape != tensors[name].shape]
    if other:
        raise IntegrityError(
            "E0903",
            f"checkpoint {path} is of another model: {other[0]} has the shape"
            f" {list(tensors[other[0]].shape)}, not {list(parameters[other[0]].shape)}",
            hint="start the run again with the recipe that it was made with",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Put weights and optimizer moments back.

    Returns:
        The JSON state, and the states of the random generators for ``set_all_states``.

    Raises:
        IntegrityError: E0902 or E0903.
    """
    verify_checkpoint(path)
    load_weights(path, model)
    names = {parameter: name for name, parameter in trainable_parameters(model).items()}
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in _load(path / OPTIMIZER).items():
        name, _, kind = key.rpartition("/")
        moments.setdefault(name, {})[kind] = value
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                # Fused AdamW keeps its step count where the parameter is.
                kind: value.to(parameter.device)
                for kind, value in moments.get(names[parameter], {}).items()
            }
    state: dict[str, Any] = read_json(path / "state.json")
    return state, _load(path / RANDOM)


def prune_checkpoints(directory: Path, keep: set[str]) -> None:
    """Delete all checkpoints but those named, and what an interrupted write left behind."""
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        left_behind = path.name.startswith(".") and (".tmp-" in path.name or ".old-" in path.name)
        if left_behind and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif left_behind:
            path.unlink(missing_ok=True)
        elif path.is_dir() and path.name.isdecimal() and path.name not in keep:
            remove_directory(path)


def _best_step(path: Path) -> int:
    return int(read_json(path / "state.json")["best_step"])


def _has_all_files(path: Path) -> bool:
    sizes = read_json(path / "MANIFEST.json")["bytes"]
    files = {file.name: file.stat().st_size for file in path.iterdir()}
    files.pop("MANIFEST.json")
    return bool(sizes) and files == sizes


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in trainable_parameters(model).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _load(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError("E0902", f"{path} can't be read: {error}") from error
    return tensors


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
