"""fettle's LoRA layer beside peft's own: the same work, in turns, in one process, on one thread.

    python bench/lora_layer.py [--layers 4] [--rounds 7] [--only layers|step]

First single layers of the four shapes of SmolLM2-135M (forward and backward; its configuration,
random weights, rank 16), then the forward and backward pass of a training step of a model of
``--layers`` such blocks (30 = the whole) on rows of 128 tokens in one line. Time is processor time,
so that other processes disturb it less; each figure is the median of the rounds, each ratio the
median of the rounds' ratios, with its quartiles.

Prints a table and writes bench/results/lora_layer.json. Under two minutes on a core of its own.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]

from bench.compare.cells import ALPHA, MODELS, RANK, SMALL, TARGETS  # noqa: E402
from bench.compare.machine import between, cpu_times, facts  # noqa: E402

from fettle.models.forward import autocast, token_loss_sum, unwrapped  # noqa: E402
from fettle.models.lora_layer import use_fused_layers  # noqa: E402
from fettle.models.packed import use_padding_free  # noqa: E402
from fettle.records.tokens import Batch, TokenizedExample  # noqa: E402

ROW_TOKENS = 128
TOKENS = (512, 2048)
DTYPES = ("float32", "bfloat16")
MODEL = MODELS[SMALL]
HIDDEN, KEYS, INNER = (
    MODEL.shape.hidden,
    MODEL.shape.kv_heads * MODEL.shape.head_dim,
    MODEL.shape.intermediate,
)
# (input width, output width, how many a block has)
SHAPES = ((HIDDEN, HIDDEN, 2), (HIDDEN, KEYS, 2), (HIDDEN, INNER, 2), (INNER, HIDDEN, 1))

Pass = Callable[[], object]


class _OneLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs, bias=False)


def adapted(base: Any, targets: Sequence[str], fused: bool) -> PeftModel:
    """A copy of the base with adapters whose B is not zero; the frozen weights are shared."""
    model = copy.deepcopy(base, {id(item): item for item in base.parameters()})
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(targets))
    if fused:
        assert use_fused_layers(config, model)
    torch.manual_seed(1)
    changed = get_peft_model(model, config)
    for name, parameter in changed.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    return changed


def in_turns(passes: dict[str, Pass], rounds: int) -> dict[str, Any]:
    """Times of each, in turns, the order turned about every round; the first does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(rounds + 1):
        for name in list(passes)[:: -1 if number % 2 else 1]:
            started = time.thread_time()
            passes[name]()
            if number:
                seconds[name].append(time.thread_time() - started)
    pairs = zip(seconds["peft"], seconds["fused"], strict=True)
    low, middle, high = statistics.quantiles([theirs / ours for theirs, ours in pairs], n=4)
    return {
        "milliseconds": {k: 1e3 * statistics.median(v) for k, v in seconds.items()},
        "best_milliseconds": {k: 1e3 * min(v) for k, v in seconds.items()},
        "ratio": middle,
        "ratio_quartiles": [low, high],
        "rounds": rounds,
    }


def layer_pass(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor, dtype: str) -> None:
    """Forward and backward of one layer, all gradients anew."""
    for leaf in (x, *layer.parameters()):
        leaf.grad = None
    with autocast(dtype):
        y = layer(x)
    y.backward(dy)


def layer_times(inputs: int, outputs: int, tokens: int, dtype: str, rounds: int) -> dict[str, Any]:
    """Both layers of one shape on one line of tokens."""
    torch.manual_seed(0)
    base = _OneLayer(inputs, outputs)
    x = torch.randn(1, tokens, inputs, requires_grad=True)
    dy = torch.randn(1, tokens, outputs, dtype=getattr(torch, dtype))
    passes: dict[str, Pass] = {
        name: partial(
            layer_pass, adapted(base, ["layer"], fused).get_submodule(PLACE), x, dy, dtype
        )
        for name, fused in (("peft", False), ("fused", True))
    }
    return in_turns(passes, rounds)


PLACE = "base_model.model.layer"


def step_pass(model: PeftModel, batch: Batch, dtype: str) -> None:
    """Forward and backward of one micro-batch, as the loop runs it."""
    model.zero_grad(set_to_none=True)
    with autocast(dtype):
        loss = token_loss_sum(model, batch, 0)
    (loss / batch.target_weight).backward()


def step_times(
    models: dict[str, PeftModel], layers: int, tokens: int, dtype: str, rounds: int
) -> dict[str, Any]:
    """Both models on rows of 128 tokens, the last ones of each trained: 30 % in a whole model, so
    many fewer in one of fewer blocks that the output head has the same share of the time."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        4, MODEL.shape.vocab, (tokens // ROW_TOKENS, ROW_TOKENS), generator=generator
    )
    untrained = round((1 - 0.3 * layers / MODEL.shape.layers) * ROW_TOKENS)
    mask = (0,) * untrained + (1,) * (ROW_TOKENS - untrained)
    batch = Batch(
        tuple(
            TokenizedExample(row_id=str(number), input_ids=tuple(row), loss_mask=mask)
            for number, row in enumerate(ids.tolist())
        )
    )
    return in_turns(
        {name: partial(step_pass, model, batch, dtype) for name, model in models.items()}, rounds
    )


def whole_models(num_layers: int) -> dict[str, PeftModel]:
    """The benchmark's decoder with so many blocks, once with each kind of layer."""
    values = {key: value for key, value in MODEL.config.items() if key != "model_type"}
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**{**values, "num_hidden_layers": num_layers})).train()
    models = {name: adapted(base, TARGETS, name == "fused") for name in ("peft", "fused")}
    for model in models.values():
        use_padding_free(unwrapped(model))
    return models


def show(what: str, found: dict[str, Any]) -> None:
    """One row of the table."""
    times, (low, high) = found["milliseconds"], found["ratio_quartiles"]
    print(
        f"{what:<44}{times['peft']:>10.2f}{times['fused']:>10.2f}{found['ratio']:>8.2f}"
        f"   {low:.2f} to {high:.2f}",
        flush=True,
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("layers", "step"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    before, results = cpu_times(), {}
    print(
        f"{'forward and backward, processor time':<44}{'peft ms':>10}{'fused ms':>10}{'ratio':>8}"
    )
    for dtype in DTYPES if asked.only != "step" else ():
        for tokens in TOKENS:
            for inputs, outputs, _ in SHAPES:
                name = f"layer {inputs} to {outputs}, {tokens} tokens, {dtype}"
                results[name] = layer_times(inputs, outputs, tokens, dtype, 3 * asked.rounds)
                show(name, results[name])
    if asked.only != "layers":
        models = whole_models(asked.layers)
        for dtype in DTYPES:
            for tokens in TOKENS:
                name = f"step of {asked.layers} blocks, {tokens} tokens, {dtype}"
                results[name] = step_times(models, asked.layers, tokens, dtype, asked.rounds)
                show(name, results[name])
    busy = between(before, cpu_times())
    print(f"machine: {busy['busy_share']:.0%} busy, load {busy['load_average']:.1f}")
    target = BENCH / "results" / "lora_layer.json"
    target.parent.mkdir(exist_ok=True)
    record = {"schema": 1, "machine": facts(), "busy": busy, "results": results}
    target.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
