"""Kill fettle's training, at random instants or at every write, and compare what comes of it.

    python bench/_kill.py random --number 20 --seed 1
    python bench/_kill.py points [--every 2 --first 1]
    python bench/_kill.py pipeline --number 2 --seed 1

Prints one JSON object. A toy with dropout goes through the real driver: validation, checkpoints,
the best one, pruning, events. `points` counts every operation that writes (open, sync, rename,
delete, ...) and kills one child before each; where bytes are written it kills a second one with
half of the bytes there, as a loss of power leaves them before the sync.
"""

import argparse
import copy
import gc
import json
import math
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork does not take the threads of torch along
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from _forks import finish, random_kills, sha256, workplace  # noqa: E402
from safetensors.torch import save  # noqa: E402
from tests.command import tiny_base, write_tickets  # noqa: E402
from tests.train_fixture import PAD, VOCABULARY, label_rows, settings, weights  # noqa: E402
from transformers import BertConfig, BertForSequenceClassification  # noqa: E402

from fettle.inference.predict import predict_labels  # noqa: E402
from fettle.models.machine import seed_everything  # noqa: E402
from fettle.recipe.resolve import Settings  # noqa: E402
from fettle.records.journal import Journal, read_events  # noqa: E402
from fettle.records.run_directory import write_atomic, write_json  # noqa: E402
from fettle.train import checkpoint  # noqa: E402
from fettle.train.train import Validation, train  # noqa: E402

CHANGES_WITH_TIME = ("time", "seconds", "tokens_per_second")
SETTINGS = settings(
    "classify",
    batch_size=6,
    max_steps=6,
    evaluate_every=2,
    learning_rate=3e-3,
    micro_batch_tokens=72,
    patience=100,
)
THREE_SAVES = replace(SETTINGS, num_steps=3, evaluate_every=1, checkpoint_every=1)
"""The first save, one beside another, and one that deletes the first; nothing between them."""
ROWS, VALIDATION = label_rows(24), label_rows(9, seed=2)
MODEL = BertForSequenceClassification(
    BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        num_labels=3,
        hidden_dropout_prob=0.2,
        pad_token_id=PAD,
    )
)
"""Made once, before the forks: every child has a copy of the same weights."""


def life(folder: Path, chosen: Settings = SETTINGS) -> None:
    """Train the toy, or go on with it."""
    folder.mkdir(exist_ok=True)
    model = copy.deepcopy(MODEL)

    def validate() -> Validation:
        found = predict_labels(model, VALIDATION, ("a", "b", "c"), PAD, 512)
        loss = -sum(math.log(p["abc"[i % 3]]) for i, p in enumerate(found)) / len(found)
        return Validation(loss, "loss", loss, higher_is_better=False)

    seed_everything(7)
    journal = Journal(folder / "events.jsonl")
    result = train(
        model,
        ROWS,
        chosen,
        device="cpu",
        pad_id=PAD,
        checkpoints=folder / "checkpoints",
        validate=validate,
        emit=journal.emit,
        stop_requested=lambda: False,
        flush=journal.flush,
    )
    write_atomic(folder / "model.safetensors", save(weights(model)))
    write_json(folder / "result.json", asdict(result))


def fingerprint(folder: Path) -> dict[str, Any]:
    """All bytes that a training leaves, and what it said of each step but for the times."""
    told = [
        {key: value for key, value in event.items() if key not in CHANGES_WITH_TIME}
        for event in read_events(folder / "events.jsonl")
        if "step" in event
    ]
    # Of the last two files, which are this script's own; a run sweeps such names away.
    unfinished = set(folder.glob(".*.tmp-*"))
    files = {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "events.jsonl" and path not in unfinished
    }
    return {"events": sorted(told, key=lambda e: (e["step"], e["event"])), "files": files}


class Writes:
    """Counts the operations of this process that write below a folder; kills it at one of them.

    Args:
        folder: what counts.
        target: number of the operation at which the process dies; 0 = none.
    """

    def __init__(self, folder: Path, target: int) -> None:
        self._folder = str(folder)
        self._target = target
        self._synced: dict[Path, int] = {}
        self.labels: list[str] = []

    def install(self) -> None:
        """Listen to Python's own audit events, and to the two writers that raise none."""
        sys.addaudithook(self._heard)
        sync, save_file = os.fsync, checkpoint.save_file

        def watched_sync(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self._point(f"fsync {path.name}", path)
            if path.is_file():
                already = self._synced.get(path, 0)
                self._point(f"half of {path.name} before fsync", path, lambda: _cut(path, already))
                self._synced[path] = path.stat().st_size
            sync(descriptor)

        def watched_save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
            def half() -> None:
                save_file(tensors, path)
                _cut(path, 0)

            self._point(f"write {path.name}", path)
            self._point(f"half of {path.name}", path, half)
            save_file(tensors, path)

        os.fsync, checkpoint.save_file = watched_sync, watched_save

    def _heard(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = values
            if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            self._point(f"open {Path(path).name}", Path(path))
            if flags & os.O_APPEND:
                self._point(f"half a line in {Path(path).name}", Path(path), lambda: _tear(path))
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            self._point(f"{event} {Path(values[0]).name}", Path(values[0]))

    def _point(self, label: str, path: Path, before: Callable[[], object] | None = None) -> None:
        inside = str(path).startswith(self._folder)
        # What is deleted by descriptor has a name without its folder.
        if not (inside or not path.is_absolute()):
            return
        self.labels.append(label)
        if len(self.labels) == self._target:
            self._target = 0  # what tears a file must not count itself
            if before is not None:
                before()
            os.kill(os.getpid(), signal.SIGKILL)


def _cut(path: Path, synced: int) -> None:
    """Take away half of what was not synced yet."""
    os.truncate(path, synced + (path.stat().st_size - synced) // 2)


def _tear(path: str) -> None:
    with open(path, "ab") as handle:
        handle.write(b'{"schema": 1, "event": "st')


def every_point(every: int, first: int) -> dict[str, Any]:
    """Kill at each write of a training, one training each."""
    with workplace() as root:
        errors, whole, labels_file = root / "error.txt", root / "whole", root / "labels.json"

        def counted() -> None:
            writes = Writes(whole, 0)
            writes.install()
            life(whole, THREE_SAVES)
            labels_file.write_text(json.dumps(writes.labels), encoding="utf-8")

        if finish(counted, errors):
            raise RuntimeError(errors.read_text(encoding="utf-8"))
        expected = fingerprint(whole)
        labels = json.loads(labels_file.read_text(encoding="utf-8"))
        wrong: list[str] = []
        chosen = range(first, len(labels) + 1, every)
        for target in chosen:
            folder = root / "killed"

            def killed(folder: Path = folder, target: int = target) -> None:
                Writes(folder, target).install()
                life(folder, THREE_SAVES)

            label = f"{target} {labels[target - 1]}"
            if finish(killed, errors) != -signal.SIGKILL:
                wrong.append(f"{label}: was not killed")
            elif finish(lambda folder=folder: life(folder, THREE_SAVES), errors):
                wrong.append(f"{label}: {errors.read_text(encoding='utf-8')[-400:]}")
            elif fingerprint(folder) != expected:
                wrong.append(f"{label}: another result")
            shutil.rmtree(folder)
    return {"points": len(labels), "killed": len(chosen), "wrong": wrong, "labels": labels}


def whole_runs(number: int, seed: int) -> dict[str, Any]:
    """Kill `fettle run` as a whole, from its first second to its last."""
    # Only here: what a child shares with its parent costs time at every fork.
    import fettle
    import fettle.api.runs
    import fettle.report.plots

    with workplace() as root:
        base = tiny_base(root / "base", "encoder")
        tickets = write_tickets(root / "tickets.csv", copies=2)

        def life_of_run(folder: Path) -> None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if (folder / "recipe.yaml").is_file():
                fettle.resume(folder, quiet=True)
                return
            fettle.run(
                tickets,
                base=base,
                task="classify",
                method="full",
                out=folder,
                settings=(
                    "train.max_steps=12",
                    "train.batch_size=8",
                    "train.evaluate_every=3",
                    "evaluate.resamples=200",
                    "base.dtype=float32",
                    "train.threads=1",
                    "train.micro_batch_tokens=1024",
                ),
                quiet=True,
            )

        def of_run(folder: Path) -> dict[str, Any]:
            verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
            verdict.pop("created")
            names = ("model/model.safetensors", "evaluation/predictions.tuned.jsonl", "plan.json")
            left_behind = [path.name for path in folder.rglob(".*tmp-*")]
            hashes = [sha256(folder / name) for name in names]
            # Each run is another look at the holdout, unless it has a ledger of its own.
            return {"verdict": verdict, "hashes": hashes, "left_behind": left_behind}

        def in_own_project(folder: Path) -> None:
            (folder / ".fettle").mkdir(parents=True, exist_ok=True)
            life_of_run(folder / "run")

        return random_kills(in_own_project, lambda folder: of_run(folder / "run"), number, seed, 2)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("random", "points", "pipeline"))
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    asked = parser.parse_args()
    random.seed(asked.seed)
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a child that collects would copy every page that it shares
    if asked.what == "random":
        found = random_kills(life, fingerprint, asked.number, asked.seed)
    elif asked.what == "points":
        found = every_point(asked.every, asked.first)
    else:
        found = whole_runs(asked.number, asked.seed)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
