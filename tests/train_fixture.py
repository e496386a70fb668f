"""A toy model with rows of very unequal lengths, and settings to train it; for tests of train/."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import Settings, resolve
from fettle.records.facts import BaseFacts, DataFacts, MachineFacts
from fettle.records.tokens import TokenizedExample
from fettle.train.train import Validation

VOCABULARY, PAD = 50, 0

BASE = BaseFacts(
    id="tiny",
    path="/nowhere",
    revision=None,
    sha256="0" * 64,
    kind="decoder",
    architecture="llama",
    num_parameters=20_000,
    hidden_size=32,
    num_layers=2,
    vocab_size=VOCABULARY,
    context_length=128,
    has_chat_template=True,
    licence=None,
    weight_bytes=80_000,
)
MACHINE = MachineFacts(
    device="cpu",
    device_name="test",
    num_threads=1,
    memory_bytes=8 * 2**30,
    disk_free_bytes=2**40,
    gflops={"float32": 50.0, "bfloat16": 20.0},
)


def data_facts(task: str = "chat", num_train: int = 24, **changes: Any) -> DataFacts:
    """Facts of a small data set."""
    facts = DataFacts(
        task=task,  # type: ignore[arg-type]
        num_rows={"train": num_train, "validation": 8, "holdout": 8, "quarantine": 0},
        labels=("a", "b", "c") if task == "classify" else (),
        label_counts={},
        median_tokens=12.0,
        max_tokens=30,
        train_tokens=400,
        target_tokens=200,
    )
    return replace(facts, **changes)


def settings(task: str = "chat", num_train: int = 24, **train: Any) -> Settings:
    """Resolved settings of a short run; ``train`` are keys of that section."""
    recipe = Recipe.model_validate({"data": {"path": ["x"]}, "train": train})
    return resolve(recipe, data_facts(task, num_train), BASE, MACHINE, "loss")


def decoder(dropout: float = 0.0) -> torch.nn.Module:
    """A random two-layer Llama; always the same."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            attention_dropout=dropout,
            initializer_range=0.2,
            pad_token_id=PAD,
        )
    )


def encoder(dropout: float = 0.0) -> torch.nn.Module:
    """A random two-layer Bert with three labels; always the same."""
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            num_labels=3,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.2,
            pad_token_id=PAD,
        )
    )


def chat_rows(number: int = 24, seed: int = 1) -> list[TokenizedExample]:
    """Rows of 3 to 30 tokens with 1 to all of them trained."""
    draw = random.Random(seed)
    rows = []
    for index in range(number):
        length = draw.choice((3, 4, 6, 12, 30))
        start = draw.randrange(1, length)
        ids = tuple(draw.randrange(1, VOCABULARY) for _ in range(length))
        rows.append(TokenizedExample(f"{index:016x}", ids, (0,) * start + (1,) * (length - start)))
    return rows


def label_rows(number: int = 24, seed: int = 1) -> list[TokenizedExample]:
    """Rows whose label is told by their first token."""
    draw = random.Random(seed)
    rows = []
    for index in range(number):
        label = index % 3
        ids = (label + 10, *(draw.randrange(1, VOCABULARY) for _ in range(draw.randrange(2, 20))))
        rows.append(TokenizedExample(f"{index:016x}", ids, label=label))
    return rows


class Events:
    """Collects what is emitted."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, fields: dict[str, Any]) -> None:
        """Take one event."""
        self.all.append((event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        """The fields of all events of one kind."""
        return [fields for name, fields in self.all if name == event]


def scripted(values: list[float]) -> Any:
    """A validation that gives these values, one after the other; lower is better."""
    left = list(values)

    def validate() -> Validation:
        value = left.pop(0)
        return Validation(value, "loss", value, higher_is_better=False)

    return validate


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal bit by bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def names(directory: Path) -> list[str]:
    """What a folder holds."""
    return sorted(path.name for path in directory.iterdir())
