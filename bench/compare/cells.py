"""The grid: which models, which data, which tools, in which lanes.

In: nothing. Out: ``CELLS`` by name. Must not know: how a cell is run.

Models have the real configurations of their names and random weights: speed does not depend on what
a weight is, quality is not measured here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.compare.flops import ModelShape

Lane = Literal["defaults", "tuned"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the benchmark."""

    name: str
    config: Mapping[str, Any]
    """Of transformers; empty for the classifier, whose files are those of its package."""
    shape: ModelShape


def _decoder(name: str, config: dict[str, Any]) -> Model:
    common = {
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        # ids of the tokenizer that the rows are made with
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 3,
    }
    shape = ModelShape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
    )
    return Model(name, {**common, **config}, shape)


MODELS = {
    "smollm2-135m": _decoder(
        "smollm2-135m",
        {
            "model_type": "llama",
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "intermediate_size": 1536,
            "vocab_size": 49152,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        },
    ),
    "qwen3-0.6b": _decoder(
        "qwen3-0.6b",
        {
            "model_type": "qwen3",
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
            "vocab_size": 151_936,
            "max_position_embeddings": 40_960,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        },
    ),
    "minilm": Model(
        "minilm",
        {},
        ModelShape(384, 6, 12, 12, 32, 1536, vocab=0, gated=False, causal=False),
    ),
}


@dataclass(frozen=True, slots=True)
class Data:
    """Where the lengths and the trained tokens of a set of rows come from."""

    name: str
    about: str
    batch_size: int = 4
    trained: float = 1.0
    """Share of a row's tokens, at its end, that is trained."""
    length: int | None = None
    """Tokens of every row; None = mixed lengths."""
    prefix: int = 0
    """Tokens at the beginning that all rows have in common."""


MEDIAN_LENGTH, P95_LENGTH = 128, 600
SHORTEST, LONGEST = 16, 1024
WARM_UP_LENGTH = 64
"""Rows of warm-up steps are short, so that the measured ones can have the whole distribution."""

DATA = {
    "natural": Data("natural", "mixed lengths, median 128 and 95th percentile 600, all trained"),
    "completion": Data(
        "completion", "the same lengths; the last 30 % of each row trained", trained=0.3
    ),
    "uniform": Data("uniform", "256 tokens each, all trained", length=256),
    "prefix": Data(
        "prefix",
        "512 tokens in common, then 120 of the row's own; the last 40 trained",
        batch_size=16,
        trained=40 / 632,
        length=632,
        prefix=512,
    ),
    "banking77": Data("banking77", "short customer questions, 77 classes", batch_size=32),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """fettle against one tool on one task."""

    model: str
    method: Literal["lora", "full"]
    data: str
    tool: str
    lane: Lane
    steps: int = 3
    warmup: int = 1
    batch_size: int | None = None
    dtype: Literal["float32", "auto"] = "float32"
    """float32: every tool computes in it (exact). auto: every tool takes what is fastest here; in
    the lane of defaults it is always auto."""

    @property
    def name(self) -> str:
        """model.method.data.tool.lane, with +auto where the dtype is free."""
        free = "+auto" if self.dtype == "auto" and self.lane == "tuned" else ""
        return f"{self.model}.{self.method}.{self.data}.{self.tool}.{self.lane}{free}"

    @property
    def rows_in_step(self) -> int:
        """Rows of one optimizer step."""
        return self.batch_size or DATA[self.data].batch_size

    @property
    def task(self) -> str:
        """next_token or classify."""
        return "classify" if self.model == "minilm" else "next_token"

    @property
    def order(self) -> str:
        """In the lane of defaults the rows come at random, as the peers would take them; tuned
        tools get rows of like length together."""
        return "random" if self.lane == "defaults" else "grouped"


TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, ALPHA = 16, 32
RATES = {"lora": 2e-4, "full": 2e-5}
SEED = 0

SMALL = "smollm2-135m"
LARGE = "qwen3-0.6b"

_GRID = [
    # The most telling ones first: where time runs out, the last ones are left.
    Cell(SMALL, "lora", "natural", "trl", "tuned"),
    Cell(SMALL, "full", "natural", "trl", "tuned"),
    Cell(SMALL, "lora", "prefix", "trl", "tuned", steps=1, warmup=0),
    # One step: without tuning it takes minutes.
    Cell(
        SMALL, "lora", "natural", "trl", "defaults", steps=1, warmup=0, batch_size=8, dtype="auto"
    ),
    Cell(SMALL, "lora", "completion", "trl", "tuned"),
    Cell(SMALL, "full", "completion", "trl", "tuned"),
    Cell("minilm", "full", "banking77", "trainer", "tuned", steps=60, warmup=10),
    Cell(
        "minilm",
        "full",
        "banking77",
        "trainer",
        "defaults",
        steps=60,
        warmup=10,
        batch_size=8,
        dtype="auto",
    ),
    Cell("minilm", "full", "banking77", "sentence-transformers", "tuned", steps=60, warmup=10),
    Cell(SMALL, "lora", "natural", "trainer", "tuned"),
    Cell(SMALL, "lora", "uniform", "trl", "tuned"),
    Cell(SMALL, "full", "uniform", "trl", "tuned"),
    Cell(LARGE, "lora", "completion", "trl", "tuned"),
    Cell(SMALL, "lora", "uniform", "litgpt", "tuned"),
    Cell(SMALL, "lora", "completion", "llama-factory", "tuned"),
    Cell(SMALL, "lora", "natural", "trl", "tuned", dtype="auto"),
    Cell(SMALL, "full", "prefix", "trl", "tuned", steps=1, warmup=0),
]
CELLS: dict[str, Cell] = {cell.name: cell for cell in _GRID}
QUICK = Cell(SMALL, "lora", "completion", "trl", "tuned", batch_size=2)


UNFIT = {
    "setfit": "trains the body on pairs of texts, then a head on frozen features: there is no loss"
    " or step to hold against another tool's",
    "unsloth": "starts on a GPU only",
}
"""Peers that can't be measured here, and why; printed with every full run."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A peer: where it runs and how it may be tuned."""

    name: str
    environment: str
    runner: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What its documentation would make one run; empty = its own defaults."""
    tuned: Mapping[str, Any] = field(default_factory=dict)
    """Where tuning starts."""
    choices: Sequence[Mapping[str, Any]] = ()
    """Settings that tuning tries on top, one at a time."""
    half: Mapping[str, Any] = field(default_factory=dict)
    """What makes it compute in bfloat16; tried where the dtype is free."""
    full_precision: Mapping[str, Any] = field(default_factory=dict)
    converter: tuple[str, Mapping[str, str]] | None = None
    """Script that writes a model in the tool's own format, and its names of our models."""


def _micro(size: int, **more: Any) -> dict[str, Any]:
    return {"per_device_train_batch_size": size, **more}


_WHOLE: dict[str, Any] = {"per_device_train_batch_size": None}
"""None: as many rows as the step has."""
_FLAT = _micro(4, padding_free=True)

TOOLS = {
    "trl": Tool(
        "trl",
        "trl",
        "run_trl.py",
        defaults=_micro(8),
        tuned={"gradient_checkpointing": False},
        choices=[_micro(1), _micro(2), _micro(4), _micro(8), _FLAT],
        half={"bf16": True},
        full_precision={"bf16": False},
    ),
    "trainer": Tool(
        "trainer",
        "trainer",
        "run_trainer.py",
        defaults=_micro(8),
        choices=[_micro(1), _micro(2), _micro(4), _micro(8), _FLAT, _WHOLE],
        half={"bf16": True},
        full_precision={"bf16": False},
    ),
    "sentence-transformers": Tool(
        "sentence-transformers",
        "sentence-transformers",
        "run_sentence_transformers.py",
        defaults=_micro(8),
        choices=[_micro(8), _micro(16), _WHOLE],
        half={"bf16": True},
        full_precision={"bf16": False},
    ),
    "llama-factory": Tool(
        "llama-factory",
        "llama-factory",
        "run_llama_factory.py",
        defaults=_micro(8),
        tuned={"disable_gradient_checkpointing": True},
        choices=[_micro(1), _micro(2), _micro(8)],
        half={"bf16": True},
        full_precision={"bf16": False},
    ),
    "litgpt": Tool(
        "litgpt",
        "litgpt",
        "run_litgpt.py",
        choices=[{"micro_batch_size": size} for size in (1, 2, 8)],
        half={"precision": "bf16-mixed"},
        full_precision={"precision": "32-true"},
        converter=("convert_litgpt.py", {SMALL: "SmolLM2-135M", LARGE: "Qwen3-0.6B"}),
    ),
}
