"""What the GPU benchmark measures: models, rows, methods, and the arms that are held against one
another.

In: nothing. Out: ``CELLS`` and ``SMOKE``, most telling ones first. Must not know: how they are run.

Models have the real configurations of their names and random weights: speed does not depend on what
a weight is, quality is not measured here. Token ids are random, because products of zeros, or of
few values, run faster than real ones.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

from bench.compare.cells import MODELS as SMALLER
from bench.compare.cells import Model
from bench.compare.cells import _decoder as decoder
from bench.compare.flops import ModelShape

from fettle.records.tokens import TokenizedExample

PEAK_TFLOPS = 790.0
"""Dense bfloat16 products that an H200 was seen to reach on random data."""

_LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14_336,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": False,
}
_QWEN_4B: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "tie_word_embeddings": True,
}
# The same layers, small enough for a processor: every branch but CUDA's own can be tried with them.
_TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": 512,
}
MODELS: Mapping[str, Model] = {
    "llama-3.1-8b": decoder("llama-3.1-8b", _LLAMA_8B),
    "qwen3-4b": decoder("qwen3-4b", _QWEN_4B),
    "qwen3-0.6b": SMALLER["qwen3-0.6b"],
    "tiny-llama": decoder("tiny-llama", {**_LLAMA_8B, **_TINY}),
    "tiny-qwen3": decoder("tiny-qwen3", {**_QWEN_4B, **_TINY}),
}

ArmName = Literal[
    "fettle", "fettle wide", "fettle half base", "fettle compile", "plain", "plain cudnn",
    "plain liger", "plain fp8",
]  # fmt: skip
ARMS: Mapping[str, str] = {
    "fettle": "fettle's engine with the settings that it derives by itself",
    "fettle wide": "the same with micro-batches of the other arms' size",
    "fettle half base": "as fettle wide, the frozen base held in bfloat16 instead of float32",
    "fettle compile": "as fettle wide, the blocks compiled",
    "plain": "transformers and peft in a plain loop, padded, rows of like length together",
    "plain cudnn": "the same with cuDNN's attention before torch's own",
    "plain liger": "the same with Liger's kernels",
    "plain fp8": "the same, products of the frozen base in float8 (torchao, rows scaled)",
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Lengths and targets of the rows."""

    about: str
    median: int
    longest: int
    """Every row's length where it is the median too."""
    trained: float = 1.0
    """Share of a row's tokens, at its end, that is trained."""


ROWS: Mapping[str, Rows] = {
    "mixed": Rows("log-normal lengths, median 512, at most 2,048, all trained", 512, 2048),
    "completion": Rows("the same; the last 30 % of each row trained", 512, 2048, 0.3),
    "2k": Rows("2,048 tokens each, all trained", 2048, 2048),
    "8k": Rows("8,192 tokens each, all trained", 8192, 8192),
    "tiny": Rows("median 12, at most 40", 12, 40),
    "tiny completion": Rows("the same; the last 30 % trained", 12, 40, 0.3),
    "tiny uniform": Rows("16 tokens each", 16, 16),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One model trained in one way on one kind of rows, by several arms."""

    model: str
    method: Literal["lora", "full"]
    rows: str
    arms: tuple[ArmName, ...]
    step_tokens: int = 32_768
    """About so many tokens go into one optimizer step."""
    micro_tokens: int = 16_384
    """Most tokens of one forward pass, in the arms whose size fettle does not choose."""

    @property
    def name(self) -> str:
        """model.method.rows"""
        return f"{self.model}.{self.method}.{self.rows.replace(' ', '-')}"

    @property
    def shape(self) -> ModelShape:
        """What operations are counted from."""
        return MODELS[self.model].shape


_BOTH: tuple[ArmName, ...] = ("fettle", "fettle wide", "plain")
_LORA: tuple[ArmName, ...] = ("fettle", "fettle wide", "fettle half base", "plain")
_EXTRA: tuple[ArmName, ...] = ("plain liger", "plain fp8")
CELLS = [
    # The most telling ones first: where time runs out, the last ones are left.
    Cell("llama-3.1-8b", "lora", "mixed", _LORA + _EXTRA),
    Cell("qwen3-4b", "lora", "mixed", _LORA),
    Cell("qwen3-0.6b", "lora", "mixed", _LORA),
    Cell("qwen3-0.6b", "full", "mixed", _BOTH),
    Cell("llama-3.1-8b", "lora", "2k", ("fettle wide", "fettle half base", "plain cudnn")),
    Cell("qwen3-4b", "full", "mixed", _BOTH),
    Cell("llama-3.1-8b", "lora", "completion", ("fettle half base", "plain")),
    Cell("llama-3.1-8b", "lora", "8k", ("fettle half base", "plain cudnn")),
    Cell("llama-3.1-8b", "full", "mixed", _BOTH),
    Cell("qwen3-0.6b", "lora", "8k", ("fettle half base", "plain cudnn")),
    Cell("qwen3-0.6b", "lora", "completion", ("fettle compile",)),
]
_SMALL = Cell("tiny-llama", "lora", "tiny", _LORA + _EXTRA, step_tokens=400, micro_tokens=200)
SMOKE = [
    _SMALL,
    replace(_SMALL, model="tiny-qwen3", method="full", rows="tiny completion", arms=_BOTH),
    replace(_SMALL, model="tiny-qwen3", rows="tiny uniform", arms=("fettle", "plain cudnn")),
]


def make_rows(cell: Cell, num_steps: int, seed: int = 0) -> list[list[TokenizedExample]]:
    """The rows of every step, short ones first within a step; the same for all arms.

    Lengths are taken at equal steps of probability, so that few rows have the whole distribution,
    and dealt out like cards, so that all steps are about equally long.
    """
    kind = ROWS[cell.rows]
    draw = random.Random(seed)
    vocabulary = cell.shape.vocab
    mean = kind.median if kind.median == kind.longest else 1.2 * kind.median
    per_step = max(2, round(cell.step_tokens / mean))
    lengths = sorted(_lengths(kind, per_step * num_steps))
    steps: list[list[TokenizedExample]] = [[] for _ in range(num_steps)]
    for index, length in enumerate(lengths):
        ids = tuple(draw.randrange(4, vocabulary) for _ in range(length))
        trained = max(1, round(kind.trained * length))
        mask = (0.0,) * (length - trained) + (1.0,) * trained
        # Nothing stands before the first token to predict it from.
        row = TokenizedExample(str(index), ids, (0.0, *mask[1:]))
        steps[index % num_steps].append(row)
    return steps


def _lengths(kind: Rows, count: int) -> list[int]:
    if kind.median == kind.longest:
        return [kind.longest] * count
    # The 95th percentile is what may be longest: a twentieth of the rows is cut to it.
    spread = math.log(kind.longest / kind.median) / NormalDist().inv_cdf(0.95)
    normal = NormalDist(math.log(kind.median), spread)
    found = [round(math.exp(normal.inv_cdf((i + 0.5) / count))) for i in range(count)]
    return [min(kind.longest, max(4, length)) for length in found]


def skipped(cell: Cell, arm: str, free_bytes: int) -> str | None:
    """Why an arm can't be run in so much memory; None = it can be tried."""
    if cell.method != "full":
        return None
    shape = cell.shape
    tied = MODELS[cell.model].config["tie_word_embeddings"]
    parameters = shape.body + shape.head * (1 if tied else 2)
    # Weights, gradients and two moments in float32, and autocast's copies in bfloat16.
    needed = 18 * parameters
    if needed <= free_bytes:
        return None
    return (
        f"full training needs {needed / 2**30:.0f} GiB for float32 weights, gradients, moments and"
        f" bfloat16 copies, without activations; {free_bytes / 2**30:.0f} GiB are free"
    )
