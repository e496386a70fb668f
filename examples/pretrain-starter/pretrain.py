"""Token ids -> the starter's weights, with fettle's own training loop.

python pretrain.py WORK OUT --steps 2000
"""

import argparse
import functools
import itertools
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from fettle.models.forward import autocast, token_losses
from fettle.records.tokens import Batch, TokenizedExample
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer

LENGTH, ROWS, RATE = 512, 8, 3e-3


def piece(tokens: np.ndarray, start: int) -> TokenizedExample:
    ids = tuple(int(i) for i in tokens[start : start + LENGTH])
    return TokenizedExample(str(start), ids, (1,) * len(ids))


def bits_per_byte(model: torch.nn.Module, work: Path, pieces: int = 64) -> float:
    """On the start of the validation text, in pieces of LENGTH tokens."""
    tokens = np.load(work / "valid.npy")
    bytes_per_token = json.loads((work / "valid.json").read_text())["bytes"] / len(tokens)
    total, count = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for index in range(min(pieces, len(tokens) // LENGTH)):
            sums, counts = token_losses(model, Batch((piece(tokens, index * LENGTH),)), 1)
            total, count = total + float(sums.sum()), count + int(counts.sum())
    model.train()
    return total / count / math.log(2) / bytes_per_token


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000, help="of 4,096 tokens each")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    torch.manual_seed(0)
    tokens = np.load(options.work / "tokens.npy")
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=3,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters, {len(tokens):,} tokens", flush=True)
    if options.compile:
        model.model.compile()
    optimizer = make_optimizer(model, RATE, 0.1)
    order = np.random.default_rng(0).permutation(len(tokens) // LENGTH)
    steps = (
        [
            Batch(
                tuple(piece(tokens, int(order[(k + j) % len(order)]) * LENGTH) for j in range(ROWS))
            )
        ]
        for k in itertools.count(0, ROWS)
    )
    started, losses = time.monotonic(), []
    records = training_steps(
        model,
        OBJECTIVES["text"],
        optimizer,
        steps,
        pad_id=1,
        learning_rate=RATE,
        schedule="linear",
        warmup_steps=60,
        num_steps=options.steps,
        steps_per_epoch=len(order) / ROWS,
        max_gradient_norm=1.0,
        autocast=functools.partial(autocast, options.dtype),
    )
    for record in records:
        losses.append(record.loss)
        if record.step % 10 == 0:
            print(
                f"step {record.step} loss {np.mean(losses[-50:]):.3f}"
                f" {record.tokens_per_second:.0f} tokens/s, {time.monotonic() - started:.0f} s",
                flush=True,
            )
        if record.step % 400 == 0:
            print(f"bits per byte {bits_per_byte(model, options.work):.3f}", flush=True)
    print(f"final bits per byte {bits_per_byte(model, options.work, 400):.3f}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(options.out)
    weights = {n: p.detach().to(torch.bfloat16).contiguous() for n, p in model.named_parameters()}
    save_file(weights, options.out / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(options.work / name, options.out / name)


if __name__ == "__main__":
    main()
