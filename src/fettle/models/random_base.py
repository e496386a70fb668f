"""A base with random weights, for training from nothing: ``random:DIR`` or ``random:DIR#SEED``.

In: a directory with config.json and tokenizer files, without weights. Out: a directory that is a
base like any other, and its facts. Must not know: tasks, training.

The weights are drawn once and kept beside the hub's cache, under a hash of all that decides them,
so that what follows (hashes, resuming, adapters, serving) is the same as for any base.
"""

import hashlib
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from fettle.errors import BaseModelError
from fettle.models.catalog import ARCHITECTURES
from fettle.models.hub import cache_directory
from fettle.models.inspect_base import described_by, inspect_base, read_config
from fettle.models.quiet import quiet
from fettle.models.random_id import anchored_random, split_random
from fettle.records.facts import BaseFacts
from fettle.records.run_directory import staged_directory


def random_base(id: str, progress: Callable[[str], None]) -> BaseFacts:
    """Draw the weights, unless that was done already.

    The same directory, seed and versions of torch and transformers give the same weights.

    Args:
        id: ``random:DIR`` or ``random:DIR#SEED``.
        progress: told in one line what is being done.

    Returns:
        Facts with the whole id, and the hash of the drawn weights.

    Raises:
        BaseModelError: E0512 or E0562, see ``split_random``; E0502 to E0505, see ``read_config``;
            E0560, no tokenizer.json.
        MachineError: E0401, the cache can't be written.
    """
    directory, seed = split_random(id)
    config = read_config(directory)
    if not (directory / "tokenizer.json").is_file():
        raise BaseModelError(
            "E0560",
            f"the base {id} has no tokenizer.json",
            where=str(directory),
            hint="put the tokenizer files of the model to be there, beside config.json",
        )
    target = cache_directory().parent / "fettle-random" / _digest(directory, seed)
    if not (target / "model.safetensors").is_file():
        progress(f"base {id}: drawing random weights, into {target}")
        decoder = ARCHITECTURES[config.model_type].kind == "decoder"
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            built = (AutoModelForCausalLM if decoder else AutoModel).from_config(config)
        _write(built, directory, target)
    return inspect_base(target, anchored_random(id))


def _write(model: PreTrainedModel, source: Path, target: Path) -> None:
    with staged_directory(target) as staged, quiet():
        # In one file: a name that is there is the whole of it.
        model.save_pretrained(staged, max_shard_size="1000GB")
        for path in described_by(source):
            if path.name != "config.json":
                shutil.copyfile(path, staged / path.name)


def _digest(directory: Path, seed: int) -> str:
    """Of all that decides the weights and the tokens."""
    total = hashlib.sha256(f"{seed} {version('torch')} {version('transformers')}\n".encode())
    for path in described_by(directory):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]
