"""fettle itself, through the layers that its training stage uses, with what it derives by default.

The rows come tokenised, so the data stages are left out; nothing else is: the machine is probed,
the base is inspected and hashed, a few micro-batches are timed, and the rules decide on padding,
micro-batches and, where the cell leaves it open, the dtype.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import job as jobs
import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from fettle.chat.tokenizer import Tokenizer
from fettle.data.batches import StepIterator, num_shared_tokens
from fettle.models.adapters import apply_method
from fettle.models.compiled import compile_blocks
from fettle.models.forward import autocast, unwrapped
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.machine import probe_machine, seed_everything
from fettle.models.packed import shared_by_all, use_padding_free
from fettle.models.save import save_model
from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import Settings, resolve
from fettle.records.facts import BaseFacts, DataFacts
from fettle.records.tokens import Batch, TokenizedExample
from fettle.stages.probing import probe_training
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer

SHOWN = ("dtype", "micro_batch_tokens", "padding_free", "shared_prefix", "compile")


def train(job: dict[str, Any], ledger: jobs.Ledger) -> dict[str, Any]:
    """Train, save, report."""
    rows = [_example(index, row) for index, row in enumerate(jobs.read_rows(job))]
    base = inspect_base(Path(job["model"]), job["model"])
    tokenizer = Tokenizer.load(job["model"])
    settings, device = _settings(job, rows, base, tokenizer)
    seed_everything(settings.seed)
    model: torch.nn.Module = load_for_task(base, settings.task, job["labels"], tokenizer.pad_id)
    model = apply_method(model, settings.task, settings, base)
    _start_as_all_do(model, job)
    if settings.padding_free:
        use_padding_free(unwrapped(model), settings.shared_prefix)
    if settings.compile:
        compile_blocks(unwrapped(model), base.id)
    steps = StepIterator(
        rows,
        settings.batch_size,
        settings.micro_batch_tokens,
        settings.seed,
        padded=not settings.padding_free,
        shared=shared_by_all(model, rows),
    )
    # Which rows a step has is the same for all tools; how it is divided is fettle's own affair.
    parts = ([rows[index] for index in step] for step in job["steps"])
    records = training_steps(
        model,
        OBJECTIVES[settings.task],
        make_optimizer(model, settings.learning_rate, settings.weight_decay),
        _watched((steps.divide(part, settings.micro_batch_tokens) for part in parts), ledger),
        pad_id=tokenizer.pad_id or 0,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        warmup_steps=settings.warmup_steps,
        num_steps=settings.num_steps,
        steps_per_epoch=steps.steps_per_epoch,
        max_gradient_norm=settings.max_gradient_norm,
        autocast=partial(autocast, settings.dtype, device),
    )
    ledger.begin()
    for record in records:
        ledger.end_step()
        ledger.losses.append(record.loss)
        ledger.gradient_norms.append(record.gradient_norm)
    report = jobs.weights_report(model)
    meta = {"task": settings.task, "labels": job["labels"], "method": settings.method}
    save_model(model.eval(), Path(job["out"]), tokenizer, None, {**meta, "base": {"id": base.id}})
    values = {name: getattr(settings, name) for name in SHOWN}
    return {**report, "chosen": {name: value for name, value in values.items() if value}}


def _settings(
    job: dict[str, Any], rows: Sequence[TokenizedExample], base: BaseFacts, tokenizer: Tokenizer
) -> tuple[Settings, str]:
    """What the rules make of a recipe that says as little as the cell allows; and the device."""
    task = "classify" if job["task"] == "classify" else "text"
    recipe = Recipe.model_validate(
        {
            "task": task,
            "data": {"path": [job["rows"]]},
            "base": {"id": job["model"], "dtype": job["config"].get("dtype", "auto")},
            "method": {"type": job["method"], "rank": job["rank"], "alpha": job["alpha"]},
            "train": {
                "learning_rate": job["learning_rate"],
                "batch_size": job["batch_size"],
                "max_steps": len(job["steps"]),
                "schedule": "constant",
                "warmup_fraction": 0.0,
                "weight_decay": 0.0,
            },
            "seed": job["seed"],
        }
    )
    lengths = [row.num_tokens for row in rows]
    data = DataFacts(
        task=task,
        num_rows={"train": len(rows), "validation": 0, "holdout": 0, "quarantine": 0},
        labels=tuple(job["labels"]),
        label_counts={},
        median_tokens=float(median(lengths)),
        max_tokens=max(lengths),
        train_tokens=sum(lengths),
        target_tokens=sum(row.num_targets for row in rows),
        shared_tokens=num_shared_tokens(rows),
    )
    machine = probe_machine()
    metric = "accuracy" if task == "classify" else "loss"
    settings = resolve(recipe, data, base, machine, metric)
    # The probe reads no more of the earlier stages than this.
    prepared = SimpleNamespace(task=task, labels=tuple(job["labels"]), multi_label=False)
    tokens = SimpleNamespace(tokenizer=tokenizer, train=list(rows))
    cost = probe_training(settings, base, prepared, tokens, machine)
    if cost is not None:
        settings = resolve(recipe, data, base, machine, metric, cost)
    return settings, machine.device


def _start_as_all_do(model: torch.nn.Module, job: dict[str, Any]) -> None:
    """The adapter, or the classifier's head, that all tools begin with."""
    if job["method"] == "lora":
        set_peft_model_state_dict(
            model, load_file(Path(job["adapter"]) / "adapter_model.safetensors")
        )
    elif job["task"] == "classify":
        model.load_state_dict(load_file(Path(job["model"]) / "model.safetensors"))


def _example(index: int, row: dict[str, Any]) -> TokenizedExample:
    if "label" in row:
        return TokenizedExample(str(index), tuple(row["input_ids"]), label=row["label"])
    return TokenizedExample(str(index), tuple(row["input_ids"]), tuple(row["targets"]))


def _watched(steps: Iterator[list[Batch]], ledger: jobs.Ledger) -> Iterator[list[Batch]]:
    """The same steps; every row of a batch is entered in the ledger."""
    for batches in steps:
        for batch in batches:
            for row in batch.rows:
                ids = torch.tensor([row.input_ids])
                if row.label is not None:
                    ledger.forward(ids, torch.tensor([row.label]))
                else:
                    mask = torch.tensor([row.loss_mask], dtype=torch.bool)
                    ledger.forward(ids, ids.masked_fill(~mask, jobs.IGNORED))
        yield batches


if __name__ == "__main__":
    jobs.run("fettle", ("torch", "transformers", "peft", "fettle"), train)
