"""What was found out about the data, the base and the machine, before anything is decided.

In: nothing. Out: value types that ``recipe.resolve`` reads. Must not know: how they are measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """A base model, from its files alone (no weights are loaded)."""

    id: str
    """As the user named it: a hub id, a directory, "starter" or a fettle run."""
    path: str
    """Local directory that holds config.json, tokenizer.json and *.safetensors."""
    revision: str | None
    sha256: str
    """Hash over the names and bytes of the weight files."""
    kind: Literal["encoder", "decoder"]
    architecture: str
    """model_type of config.json."""
    num_parameters: int
    hidden_size: int
    num_layers: int
    vocab_size: int
    context_length: int
    has_chat_template: bool
    licence: str | None
    weight_bytes: int
    incumbent_run: str | None = None
    """When the base is an earlier fettle run: its directory."""
    files_sha256: str = ""
    """Hash over what else decides how the base is used: config, tokenizer and chat template."""
    narrowest: int | None = None
    """Smallest side of a matrix inside the blocks: no adapter of a higher rank makes sense."""
    packs: bool = False
    """Whether fettle can compute the architecture without padding."""
    dropout: str = ""
    """What a decoder itself drops at random in training, such as "resid_pdrop 0.1"."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data after reading and splitting."""

    task: Literal["classify", "regress", "chat", "text"]
    num_rows: Mapping[str, int]
    """Rows in each of train, validation, holdout, quarantine."""
    labels: tuple[str, ...]
    """Sorted; empty unless the task is classify."""
    label_counts: Mapping[str, int]
    median_tokens: float
    max_tokens: int
    train_tokens: int
    target_tokens: int
    num_groups: int | None = None
    validation_tokens: int = 0
    shared_tokens: int = 0
    """Tokens that all training rows begin with."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The machine, measured by a short probe."""

    device: str
    """cpu, cuda or mps."""
    device_name: str
    num_threads: int
    memory_bytes: int
    """Free memory of the device that trains."""
    disk_free_bytes: int
    gflops: Mapping[str, float] = field(default_factory=dict)
    """Measured matmul speed by dtype name ("float32", "bfloat16")."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """What training costs on this machine, found by running a few micro-batches of the real rows
    through the real model before the plan is made."""

    dtype: str
    """Fastest dtype of the matrix products."""
    threads: int
    """Fastest number of threads."""
    micro_batch_tokens: int
    """Smallest micro-batch that is as fast as larger ones."""
    seconds_per_token: float
    """Forward and backward pass, at the three above."""
    look_seconds_per_token: float
    """Forward pass alone."""
    step_seconds: float
    """Clipping the gradient and moving the weights, once per step."""
    memory_bytes: int
    """Highest use of memory by the whole process in a step with the largest micro-batch."""
    speeds: Mapping[str, float] = field(default_factory=dict)
    """Tokens per second of what was compared, such as "2 threads" or "float32"."""
