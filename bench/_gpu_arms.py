"""One arm of a GPU cell: the model built on the device, trained for a few steps, measured.

In: a cell, an arm, steps of rows. Out: a record with times, losses, gradient norms and memory. Must
not know: other arms, tables, files.

All arms begin with the same numbers: every weight is drawn by its name, in bfloat16, whatever dtype
it is then held in; so is every lora_A. Rows and masks are the same, and are counted as they reach
the model.
"""

import gc
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from bench._gpu_cells import MODELS, PEAK_TFLOPS, Cell
from bench.compare.cells import ALPHA, RANK, RATES, SEED, TARGETS
from bench.compare.flops import step_flops
from bench.runners.job import IGNORED, row_hash, rows_of, step_digest, weights_report
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoModelForCausalLM

from fettle.data.batches import micro_batches
from fettle.models import varlen
from fettle.models.adapters import apply_method
from fettle.models.compiled import compile_blocks
from fettle.models.forward import autocast, pad, token_losses, unwrapped
from fettle.models.machine import out_of_memory, probe_machine
from fettle.models.packed import use_padding_free
from fettle.models.quiet import quiet
from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import Settings, resolve
from fettle.records.facts import BaseFacts, DataFacts
from fettle.records.tokens import Batch, TokenizedExample
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer
from fettle.train.probe import peak_bytes, restart_peak

PAD = 1
COMPARED = 4
"""Rows of the first step whose losses are compared one by one."""
WARM_UP = 2
SMALLER = 3
"""Tries, each with half the tokens a forward pass, where a step does not fit into memory."""

Steps = Sequence[Sequence[TokenizedExample]]


class NotInstalled(Exception):
    """An arm needs a package that is not there."""


def measure(cell: Cell, arm: str, steps: Steps, seconds: float, device: str) -> dict[str, Any]:
    """Build, train and measure.

    Args:
        steps: rows of every step; the first WARM_UP are not timed.
        seconds: no step begins after so much time of training, but for one timed step.
        device: cuda, or cpu to try things out.

    Returns:
        ``status`` measured, not_installed, out_of_memory or failed, with a ``reason``; figures.
    """
    tokens = cell.micro_tokens
    # The arm that derives its own size would only fail again.
    for _ in range(1 if arm == "fettle" else SMALLER):
        try:
            return _measure(cell, arm, steps, seconds, device, tokens)
        except NotInstalled as error:
            return {"status": "not_installed", "reason": str(error)}
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip()[:300]}"
            if not out_of_memory(error):
                return {"status": "failed", "reason": reason}
        # Outside of the except block: the traceback holds the tensors of all its frames.
        _forget(device)
        tokens //= 2
    return {"status": "out_of_memory", "reason": f"{reason} (down to {2 * tokens} tokens a pass)"}


def _measure(
    cell: Cell, arm: str, steps: Steps, seconds: float, device: str, tokens: int
) -> dict[str, Any]:
    _forget(device)
    restart_peak(torch.device(device))
    started = time.perf_counter()
    ours = arm.startswith("fettle")
    settings = settings_of(cell, arm, steps, tokens, device)
    model = _fettle_model(cell, arm, settings, device) if ours else _plain_model(cell, arm, device)
    chosen = settings.micro_batch_tokens if ours else tokens
    run = _fettle_steps if ours else _plain_steps
    precision = partial(autocast, settings.dtype, device)
    with _attention(arm):
        rows = _row_losses(model, compared_rows(steps), ours, precision)
        built = time.perf_counter() - started
        restart_peak(torch.device(device))
        stamps, losses, norms, digests = [time.perf_counter()], [], [], []
        for loss, norm, digest in run(model, steps, settings, chosen, precision, device):
            losses.append(loss)
            norms.append(norm)
            digests.append(digest)
            stamps.append(time.perf_counter())
            enough = len(losses) > WARM_UP and stamps[-1] - stamps[0] > seconds
            if enough or len(losses) == len(steps):
                break
    done = steps[: len(losses)]
    return {
        "status": "measured",
        **_speeds(cell, done, stamps),
        **weights_report(model),
        "counted": _count(done, digests),
        "losses": losses,
        "gradient_norms": norms,
        "row_losses": rows,
        "peak_bytes": peak_bytes(torch.device(device)),
        "build_seconds": built,
        "settings": {
            "dtype": settings.dtype,
            "weights": str(next(unwrapped(model).parameters()).dtype).removeprefix("torch."),
            "micro_batch_tokens": chosen,
            "attention": _attention_name(cell, arm, settings, device),
        },
    }


def compared_rows(steps: Steps) -> list[TokenizedExample]:
    """Rows of the first step from short to the longest."""
    last = len(steps[0]) - 1
    return [steps[0][last * part // COMPARED] for part in range(1, COMPARED + 1)]


def _speeds(cell: Cell, steps: Steps, stamps: Sequence[float]) -> dict[str, Any]:
    """Figures of the steps after warm-up, counted from the rows, not by the arm."""
    warm = min(WARM_UP, len(steps) - 1)
    rows = [(row.num_tokens, row.num_targets) for step in steps[warm:] for row in step]
    seconds = stamps[-1] - stamps[warm]
    operations = step_flops(cell.shape, cell.method, RANK, rows)
    tflops = operations / seconds / 1e12
    return {
        "tokens_per_second": sum(tokens for tokens, _ in rows) / seconds,
        "trained_per_second": sum(targets for _, targets in rows) / seconds,
        "tflops": tflops,
        "of_peak": tflops / PEAK_TFLOPS,
        "timed_steps": len(steps) - warm,
        "step_seconds": [b - a for a, b in zip(stamps[warm:], stamps[warm + 1 :], strict=False)],
    }


def _count(steps: Steps, digests: Sequence[str]) -> dict[str, list[Any]]:
    return {
        "digest": list(digests),
        "num_targets": [sum(row.num_targets for row in step) for step in steps],
    }


def plan_of(steps: Steps) -> dict[str, list[Any]]:
    """What every arm must be seen to do, in the form that the gates read."""
    return {"digests": [_digest(step) for step in steps], **_count(steps, [])}


def _digest(rows: Iterable[TokenizedExample]) -> str:
    return step_digest(
        row_hash(row.input_ids, [at for at, on in enumerate(row.loss_mask) if on]) for row in rows
    )


# --- fettle ---------------------------------------------------------------------------------------


def settings_of(cell: Cell, arm: str, steps: Steps, tokens: int, device: str) -> Settings:
    """What fettle's rules make of a recipe that says as little as the arm allows."""
    rows = [row for step in steps for row in step]
    train: dict[str, Any] = {
        "learning_rate": RATES[cell.method],
        "batch_size": len(steps[0]),
        "max_steps": len(steps),
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "weight_decay": 0.0,
    }
    if arm != "fettle":
        train["micro_batch_tokens"] = tokens
    if arm == "fettle compile":
        train["compile"] = True
    method = {"rank": RANK, "alpha": ALPHA} if cell.method == "lora" else {}
    recipe = Recipe.model_validate(
        {
            "task": "text",
            "data": {"path": ["rows"]},
            "base": {"id": cell.model},
            "method": {"type": cell.method, **method},
            "train": train,
            "seed": SEED,
        }
    )
    lengths = sorted(row.num_tokens for row in rows)
    data = DataFacts(
        task="text",
        num_rows={"train": len(rows), "validation": 0, "holdout": 0, "quarantine": 0},
        labels=(),
        label_counts={},
        median_tokens=float(lengths[len(lengths) // 2]),
        max_tokens=lengths[-1],
        train_tokens=sum(lengths),
        target_tokens=sum(row.num_targets for row in rows),
    )
    return resolve(recipe, data, _base(cell), probe_machine(), "loss")


def _base(cell: Cell) -> BaseFacts:
    shape, config = cell.shape, MODELS[cell.model].config
    return BaseFacts(
        id=cell.model,
        path="/nowhere",
        revision=None,
        sha256="0" * 64,
        kind="decoder",
        architecture=config["model_type"],
        num_parameters=shape.body + shape.head,
        hidden_size=shape.hidden,
        num_layers=shape.layers,
        vocab_size=shape.vocab,
        context_length=config["max_position_embeddings"],
        has_chat_template=False,
        licence=None,
        weight_bytes=0,
        packs=True,
    )


def _fettle_model(cell: Cell, arm: str, settings: Settings, device: str) -> nn.Module:
    """As stages.training builds it, but for the files: weights are drawn on the device."""
    half = arm == "fettle half base"
    base = random_model(cell, torch.bfloat16 if half else torch.float32, device)
    model = apply_method(base, "text", settings, _base(cell))
    _same_adapter(model)
    if settings.padding_free:
        use_padding_free(unwrapped(model), settings.shared_prefix)
    if settings.compile:
        compile_blocks(unwrapped(model), cell.model)
    return model


def _fettle_steps(
    model: nn.Module, steps: Steps, settings: Settings, tokens: int, precision: Any, device: str
) -> Iterator[tuple[float, float, str]]:
    """fettle's own loop; loss, gradient norm and digest of every step."""
    divided = [micro_batches(step, tokens, padded=not settings.padding_free) for step in steps]
    digests = [_digest(row for batch in step for row in batch.rows) for step in divided]
    records = training_steps(
        model,
        OBJECTIVES[settings.task],
        make_optimizer(model, settings.learning_rate, settings.weight_decay),
        iter(divided),
        pad_id=PAD,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        warmup_steps=settings.warmup_steps,
        num_steps=len(steps),
        steps_per_epoch=len(steps),
        max_gradient_norm=settings.max_gradient_norm,
        autocast=precision,
    )
    for record, digest in zip(records, digests, strict=True):
        _wait(device)
        yield record.loss, record.gradient_norm, digest


# --- transformers and peft in a plain loop --------------------------------------------------------


def _plain_model(cell: Cell, arm: str, device: str) -> nn.Module:
    # Adapters train on a base in bfloat16, as everybody holds it; full training keeps float32
    # weights under autocast, as fettle does: with bfloat16 moments it would be other training.
    dtype = torch.bfloat16 if cell.method == "lora" else torch.float32
    base = random_model(cell, dtype, device)
    if arm == "plain liger":
        kernels = _package("liger_kernel", "liger_kernel.transformers")
        architecture = MODELS[cell.model].config["model_type"]
        getattr(kernels, f"apply_liger_kernel_to_{architecture}")(model=base)
    if arm == "plain fp8":
        _use_float8(base, device)
    if cell.method == "full":
        return base
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        target_modules=list(TARGETS),
    )
    with quiet():
        model = get_peft_model(base, config)
    _same_adapter(model)
    return model


def _use_float8(base: nn.Module, device: str) -> None:
    """Products of the blocks' matrices in float8, both ways."""
    float8 = _package("torchao", "torchao.float8")
    if device != "cuda":
        raise NotInstalled("float8 products need a GPU")
    float8.convert_to_float8_training(
        base,
        config=float8.Float8LinearConfig.from_recipe_name("rowwise"),
        module_filter_fn=lambda module, name: "lm_head" not in name,
    )


def _plain_steps(
    model: nn.Module, steps: Steps, settings: Settings, tokens: int, precision: Any, device: str
) -> Iterator[tuple[float, float, str]]:
    """The loop that one would write; loss, gradient norm and digest of every step."""
    divided = [[_padded(batch) for batch in micro_batches(step, tokens)] for step in steps]
    # Before the clock runs: taking rows out of tensors costs as much as a step of a small model.
    digests = [step_digest(row_hash(*row) for b in step for row in _rows_in(b)) for step in divided]
    parameters = [item for item in model.parameters() if item.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True
    )
    model.train()
    for step, batches, digest in zip(steps, divided, digests, strict=True):
        targets = sum(row.num_targets for row in step)
        total = torch.zeros((), device=device)
        for batch in batches:
            inputs = {name: item.to(device) for name, item in batch.items()}
            if not (batch["attention_mask"] == 0).any():
                del inputs["attention_mask"]  # no padding: attention needs no mask
            with precision():
                loss = model(**inputs, use_cache=False, num_items_in_batch=targets).loss
            loss.backward()
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        found, size = torch.stack([total, norm.to(total)]).tolist()
        _wait(device)
        yield found, size, digest


def _padded(batch: Batch) -> dict[str, Tensor]:
    inputs = pad(batch, PAD)
    labels = torch.full_like(inputs["input_ids"], IGNORED)
    for index, row in enumerate(batch.rows):
        on = torch.tensor(row.loss_mask, dtype=torch.bool)
        ids = inputs["input_ids"][index, : row.num_tokens]
        labels[index, : row.num_tokens] = ids.masked_fill(~on, IGNORED)
    return {**inputs, "labels": labels}


def _rows_in(batch: dict[str, Tensor]) -> list[tuple[list[int], list[int] | int]]:
    return rows_of(batch["input_ids"], batch["labels"], batch["attention_mask"])


# --- what both have in common ---------------------------------------------------------------------


def random_model(cell: Cell, dtype: torch.dtype, device: str) -> Any:
    """The model of a cell, built on the device, with weights that depend on their names alone."""
    settings = dict(MODELS[cell.model].config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with quiet(), torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    for name, parameter in model.named_parameters():
        _draw(name, parameter, config.initializer_range)
    return model


def _draw(name: str, parameter: Tensor, std: float) -> None:
    """Ones for a norm, else normal numbers of bfloat16's precision."""
    with torch.no_grad():
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            return
        generator = torch.Generator(parameter.device).manual_seed(zlib.crc32(name.encode()))
        values = torch.empty(parameter.shape, dtype=torch.bfloat16, device=parameter.device)
        parameter.copy_(values.normal_(0.0, std, generator=generator))


def _same_adapter(model: nn.Module) -> None:
    """Every lora_A by its name; every lora_B stays at zero."""
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            _draw(name, parameter, parameter.shape[1] ** -0.5)


def _row_losses(
    model: nn.Module, rows: Sequence[TokenizedExample], ours: bool, precision: Any
) -> list[float]:
    """Mean loss of single rows before training, computed together.

    With random weights the loss of a whole step is about log(vocabulary) whatever attention does;
    that of a row tells a wrong one.
    """
    batch = Batch(tuple(rows))
    counts = torch.tensor([row.num_targets for row in rows])
    with torch.no_grad(), precision():
        if ours:
            sums, _ = token_losses(model, batch, PAD)
            return (sums.cpu() / counts).tolist()
        inputs = _padded(batch)
        device = next(model.parameters()).device
        labels = inputs.pop("labels")[:, 1:].to(device)
        found = []
        logits = model(**{name: item.to(device) for name, item in inputs.items()}).logits
        for index in range(len(rows)):
            losses = functional.cross_entropy(
                logits[index, :-1].float(), labels[index], reduction="sum", ignore_index=IGNORED
            )
            found.append(float(losses) / rows[index].num_targets)
        return found


def _attention(arm: str) -> AbstractContextManager[Any]:
    if arm != "plain cudnn":
        return nullcontext()
    order = [
        *(SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION),
        *(SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    ]
    return sdpa_kernel(order, set_priority=True)


def _attention_name(cell: Cell, arm: str, settings: Settings, device: str) -> str:
    if not arm.startswith("fettle"):
        return "torch SDPA, cuDNN first" if arm == "plain cudnn" else "torch SDPA"
    if not settings.padding_free:
        return "torch SDPA on padded rows"
    probe = torch.zeros(1, 1, 1, cell.shape.head_dim, device=device)
    with autocast(settings.dtype, device):
        kernel = varlen.kernel_for(probe, probe, 0.0)
    return "torch SDPA row by row" if kernel is None else "torch varlen_attn"


def _package(name: str, module: str) -> Any:
    if find_spec(name) is None:
        raise NotInstalled(f"the package {name} is not installed")
    return import_module(module)


def _forget(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
