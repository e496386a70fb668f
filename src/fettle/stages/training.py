"""Stage train: the base and the tokens -> a trained model in model/.

In: settings, facts, tokens. Out: checkpoints/ and model/ of the run. Must not know: the holdout.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn

from fettle.data.account.account import Prepared
from fettle.errors import MachineError, OutOfMemory
from fettle.inference.predict import row_losses
from fettle.metrics import find_metric
from fettle.metrics.metric import metric_value
from fettle.models.adapters import apply_method, count_parameters
from fettle.models.compiled import compile_blocks
from fettle.models.forward import autocast, unwrapped
from fettle.models.load import load_for_task
from fettle.models.machine import out_of_memory, seed_everything
from fettle.models.packed import use_padding_free
from fettle.models.save import save_model
from fettle.recipe.resolve import Settings
from fettle.records.facts import BaseFacts
from fettle.stages.context import Context
from fettle.stages.data import Tokens
from fettle.stages.labelled import head_meta, is_labelled, validated
from fettle.train.probe import peak_bytes, restart_peak
from fettle.train.train import TrainingResult, Validation, train

KEPT_CHECKPOINTS = 5
"""Last, the one before, the best of each, and the one that is being written."""


def train_model(
    context: Context,
    settings: Settings,
    base: BaseFacts,
    prepared: Prepared,
    tokens: Tokens,
    device: str,
) -> TrainingResult:
    """Train, or go on training, and write model/.

    Raises:
        MachineError: E0402, not enough room on the disk.
        OutOfMemory: E0605.
        Interrupted, Diverged, DataError: as ``train`` says.
    """
    seed_everything(settings.seed)
    pad_id = tokens.tokenizer.pad_id or 0
    model = trainable_model(settings, base, prepared, tokens.tokenizer.pad_id).to(device)
    if settings.compile:
        compile_blocks(unwrapped(model), base.id)
    trainable, total = count_parameters(model)
    _reserve_disk(context, trainable, trainable if isinstance(model, PeftModel) else total)
    context.journal.note(
        f"training {trainable:,} of {total:,} parameters in {settings.num_steps:,} steps"
    )
    restart_peak(torch.device(device))
    started = time.monotonic()
    with context.stop.wait():
        with memory_errors(settings):
            result = train(
                model,
                tokens.train,
                settings,
                device=device,
                pad_id=pad_id,
                checkpoints=context.directory.checkpoints,
                validate=_validator(model, settings, prepared, tokens, pad_id, device),
                emit=context.journal.emit,
                stop_requested=lambda: context.stop.requested,
                flush=context.journal.flush,
            )
        used = {
            "memory_bytes": peak_bytes(torch.device(device)),
            "training_seconds": time.monotonic() - started,
        }
        context.journal.emit("used", used)
        model.eval()
        save_model(
            model,
            context.directory.model,
            tokens.tokenizer,
            tokens.template.source if tokens.template is not None else None,
            _meta(settings, base, prepared, tokens, result),
        )
    return result


def trainable_model(
    settings: Settings, base: BaseFacts, prepared: Prepared, pad_id: int | None
) -> nn.Module:
    """The base with the task's head, ready for an optimizer, as it is probed and as it is trained.

    Args:
        settings: method, and how rows are computed.
        base: the base.
        prepared: task and labels.
        pad_id: the tokenizer's own.
    """
    model: nn.Module = load_for_task(
        base, prepared.task, prepared.labels, pad_id, multi_label=prepared.multi_label
    )
    model = apply_method(model, prepared.task, settings, base)
    if settings.padding_free:
        use_padding_free(unwrapped(model), settings.shared_prefix)
    return model


@contextmanager
def memory_errors(settings: Settings) -> Iterator[None]:
    """Turn what torch says when memory is short into OutOfMemory, E0605."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(
            "E0605",
            f"out of memory with {settings.micro_batch_tokens} tokens a micro-batch",
            hint="run again with --set"
            f" train.micro_batch_tokens={max(8, settings.micro_batch_tokens // 2)};"
            " the result stays the same",
        ) from error


def _validator(
    model: nn.Module,
    settings: Settings,
    prepared: Prepared,
    tokens: Tokens,
    pad_id: int,
    device: str,
) -> Callable[[], Validation]:
    """Measures the model on the validation rows: the primary metric where it is cheap, else the
    loss. Matrix products run in the dtype of training: these looks choose, they do not judge."""
    rows = tokens.validation
    if not is_labelled(settings.task):

        def by_loss() -> Validation:
            with autocast(settings.dtype, device):
                losses = row_losses(model, rows, pad_id, settings.micro_batch_tokens)
            sums, counts = zip(*losses, strict=True)
            loss = sum(sums) / sum(counts)
            return Validation(loss, "loss", loss, higher_is_better=False)

        return by_loss

    metric = find_metric(settings.metric)

    def by_metric() -> Validation:
        with autocast(settings.dtype, device):
            loss, predictions = validated(model, settings, prepared, tokens)
        return Validation(
            loss, settings.metric, metric_value(metric, predictions), metric.higher_is_better
        )

    return by_metric


def _reserve_disk(context: Context, trainable: int, saved: int) -> None:
    """Say how much room the run takes, and stop where it is not there.

    Args:
        trainable: parameters in a checkpoint, each with two moments.
        saved: parameters in model/.
    """
    place = context.directory
    needed = KEPT_CHECKPOINTS * trainable * 12 + saved * 4
    # A resumed run has taken part of it already.
    left = max(0, needed - _size(place.checkpoints) - _size(place.model))
    free = shutil.disk_usage(place.root).free
    context.journal.note(
        f"disk: up to {needed / 2**30:.2f} GiB for checkpoints and model,"
        f" {free / 2**30:.1f} GiB are free"
    )
    if left > free:
        raise MachineError(
            "E0402",
            f"the run needs {left / 2**30:.2f} GiB of disk and {free / 2**30:.2f} GiB are free",
            where=str(place.root),
            hint="free some space, choose another disk with --out, or --set method.type=lora",
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _meta(
    settings: Settings,
    base: BaseFacts,
    prepared: Prepared,
    tokens: Tokens,
    result: TrainingResult,
) -> dict[str, object]:
    """fettle.json: what is needed to use the model as it was trained."""
    meta: dict[str, object] = {
        **head_meta(prepared, tokens),
        "base": {"id": base.id, "revision": base.revision, "sha256": base.sha256},
        "method": settings.method,
        "max_length": tokens.max_length,
        "max_new_tokens": settings.max_new_tokens,
        "system": _system(prepared),
        "training": asdict(result),
    }
    if tokens.template is not None:
        meta["stop_ids"] = list(tokens.template.stop_ids)
    return meta


def _system(prepared: Prepared) -> str | None:
    """The system message that every training conversation had, if it was always the same."""
    found = {
        row.messages[0].content if row.messages and row.messages[0].role == "system" else None
        for row in prepared.examples["train"]
    }
    return next(iter(found)) if len(found) == 1 else None
