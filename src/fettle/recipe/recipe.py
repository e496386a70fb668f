"""The recipe: everything that a run can be told, as strict data.

In: YAML or keyword arguments. Out: a ``Recipe``. ``auto`` (None here) means "derive it and say
why"; ``resolve`` fills those in. Must not know: torch, files of data, models.

The docstrings of the fields are the text of docs/reference/recipe.md.
"""

import os
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from fettle.recipe.policies import Policy
from fettle.records.outcomes import SCHEMA


def _auto(value: Any) -> Any:
    return None if isinstance(value, str) and value == "auto" else value


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _listed(value: Any) -> Any:
    if isinstance(value, str | os.PathLike):
        value = [value]
    if isinstance(value, list | tuple):
        return [os.fspath(item) if isinstance(item, os.PathLike) else item for item in value]
    return value


Auto = BeforeValidator(_auto)
"""Accepts the word ``auto`` where None stands."""

Name = BeforeValidator(_number_as_text)
"""A column or a revision that is a number is the text of that number."""

AutoStr = Annotated[str | None, Auto, Name]

listed = BeforeValidator(_listed)
"""One path, or several, of any type that names a file."""

Paths = Annotated[list[str], listed]

Task = Literal["classify", "regress", "chat", "text"]


class Section(BaseModel):
    """Strict: an unknown key is an error, and nothing is changed after it was read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Waiver(Section):
    """Findings that someone looked at and accepts."""

    kind: str
    """Kind of finding."""
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """Why they are accepted."""
    by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """Who accepted them."""
    pattern: str | None = None
    """Only findings of rows whose text, or whose evidence, this regular expression matches."""
    rows: list[str] = []
    """Only findings of these row ids."""
    expires: date | None = None
    """Last day on which it holds."""


class DataSection(Section):
    """Which rows, and how to read them."""

    path: Annotated[Paths, Field(min_length=1)]
    """Files or folders. In a recipe file, relative to the folder of that file."""
    eval: Paths = []
    """A holdout that you have already; then no holdout is cut from ``path``."""
    format: Annotated[Literal["csv", "json", "jsonl", "parquet", "text"] | None, Auto] = None
    """How the files are read; auto looks at their names and first bytes."""
    layout: Annotated[
        Literal["text_label", "prompt_completion", "alpaca", "messages", "sharegpt", "text"] | None,
        Auto,
    ] = None
    """What a row is made of; auto tells it from the columns."""
    text: AutoStr = None
    """Column with the input text (classify, text)."""
    label: AutoStr = None
    """Column with the class (classify) or the number (regress)."""
    label_separator: str | None = Field(default=None, min_length=1)
    """classify: what stands between two labels of a row; makes it a multi-label task."""
    prompt: AutoStr = None
    """Column with the question or instruction (chat)."""
    completion: AutoStr = None
    """Column with the answer (chat)."""
    messages: AutoStr = None
    """Column with the list of messages (chat)."""
    group: Annotated[str | None, Name] = None
    """Column whose values stay on one side of a split (conversation, user, document)."""
    time: Annotated[str | None, Name] = None
    """Column with the date or time of a row; the holdout is then the latest rows, validation the
    ones before. Without it the sides are drawn by hash."""
    split_column: Annotated[str | None, Name] = None
    """Column with the values train, validation (dev, valid, val), holdout (test, eval)."""
    encoding: AutoStr = None
    """Text encoding, such as utf-8 or cp1252; auto looks at the bytes."""
    delimiter: AutoStr = None
    """csv: what stands between two fields; auto counts commas, semicolons and tabs."""
    header: Annotated[bool | None, Auto] = None
    """csv: whether the first record holds the names of the columns."""
    validation_fraction: Annotated[Annotated[float, Field(gt=0, lt=0.9)] | None, Auto] = None
    """Share of the rows that choose the best checkpoint."""
    holdout_fraction: Annotated[Annotated[float, Field(gt=0, lt=0.9)] | None, Auto] = None
    """Share of the rows that are sealed for the verdict."""
    max_malformed: float = Field(default=0.2, ge=0, le=1)
    """Share of malformed rows above which the run stops with exit 3."""
    system: str | None = None
    """chat: a system message put before every conversation that has none."""
    policies: dict[str, Policy] = {}
    """Kind of finding to what is done about it; what a kind allows, and its default, stand in
    docs/concepts/splits-and-quarantine.md."""
    waivers: list[Waiver] = []
    """Findings that count no longer: each with kind, reason and by (who), and if you like pattern
    (a regular expression), rows (row ids) and expires (a date such as 2027-01-31)."""


class BaseSection(Section):
    """Which pretrained model to start from."""

    id: AutoStr = None
    """Hub id, directory, an earlier run, "starter", or "random:DIR" for weights drawn at random."""
    revision: Annotated[str | None, Name] = None
    """Commit, tag or branch on the hub; none is the newest, and its commit is written down."""
    dtype: Annotated[Literal["float32", "bfloat16"] | None, Auto] = None
    """Precision of the matrix products; weights are kept in float32."""
    offline: bool = False
    """Never ask a hub; use the cache or fail."""
    chat_template: str | None = None
    """chat: a template file, or a built-in one ("plain", "chatml"), for a base without its own."""


class MethodSection(Section):
    """What is trained."""

    type: Annotated[str | None, Auto] = None
    """full (all weights), lora (a low-rank adapter beside them), last_n (the last blocks and the
    head), or the name of another method of peft, such as ia3."""
    layers: int = Field(default=2, ge=1)
    """last_n: how many of the last blocks are trained."""
    rank: Annotated[Annotated[int, Field(ge=1, le=1024)] | None, Auto] = None
    """lora: width of the adapter."""
    alpha: Annotated[Annotated[float, Field(gt=0)] | None, Auto] = None
    """lora: the adapter's output is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """lora: share of the adapter's inputs that are dropped in training."""
    target_modules: Annotated[list[str] | None, Auto] = None
    """lora and methods of peft: names of the layers that get an adapter; "attention" and "mlp"
    stand for all linear layers of one kind; auto takes every linear layer but the head."""
    rslora: bool = False
    """lora: multiply the adapter's output by alpha / sqrt(rank) instead."""
    dora: bool = False
    """lora: train the length of each weight column apart from its direction."""
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = "default"
    """lora: how the adapter begins; pissa and olora begin at the base's main directions."""
    plus_ratio: float = Field(default=1.0, ge=1)
    """lora: the B matrices learn at this many times the rate (LoRA+); 1 = the same."""
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=1024)]] = {}
    """lora: another rank for modules whose name ends with, or matches, the key."""
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = {}
    """lora: another alpha for modules whose name ends with, or matches, the key."""
    options: dict[str, Any] = {}
    """Another method of peft: fields of its own config, passed on as they are."""


class TrainSection(Section):
    """How it is trained."""

    learning_rate: Annotated[Annotated[float, Field(gt=0)] | None, Auto] = None
    """Highest rate of the schedule."""
    batch_size: Annotated[Annotated[int, Field(ge=1)] | None, Auto] = None
    """Rows per optimizer step."""
    epochs: Annotated[Annotated[float, Field(gt=0)] | None, Auto] = None
    """Passes over the training rows."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps, instead of ``epochs``; with both given it is a budget, which the epochs must
    not exceed. One given with --set replaces the other in a file."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls after the warm-up."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises from zero."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, or muon for the matrices inside the blocks (and AdamW for the rest), which learns more
    from each token when much is trained: from random weights, or all weights of a base."""
    weight_decay: float = Field(default=0.01, ge=0)
    """The optimizer's decay of the weight matrices; biases and norms have none."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """A gradient that is longer than this is scaled down to it."""
    max_length: Annotated[Annotated[int, Field(ge=8)] | None, Auto] = None
    """Tokens; rows over it are counted and handled by ``overlong``."""
    overlong: Annotated[Literal["error", "quarantine", "split", "cut"] | None, Auto] = None
    """What to do with a row that is longer than max_length; split makes several rows of it at the
    borders of turns; a cut is always reported."""
    answers: Literal["all", "last"] = "all"
    """chat: train every answer of a conversation, or only the last."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0)]] = "none"
    """classify: weight of each label in the loss; balanced = inverse to its frequency."""
    micro_batch_tokens: Annotated[Annotated[int, Field(ge=8)] | None, Auto] = None
    """Tokens per forward pass; a step is split into micro-batches of at most this."""
    padding_free: Annotated[bool | None, Auto] = None
    """Compute no padding: the rows of a micro-batch stand in one line, each attends to itself."""
    shared_prefix: Annotated[bool | None, Auto] = None
    """Compute the tokens with which all rows of a micro-batch begin only once."""
    compile: Annotated[bool | None, Auto] = None
    """Compile the blocks of the model with torch.compile; pays in long runs."""
    checkpoint_every: Annotated[Annotated[int, Field(ge=1)] | None, Auto] = None
    """Steps between checkpoints."""
    evaluate_every: Annotated[Annotated[int, Field(ge=1)] | None, Auto] = None
    """Steps between looks at the validation rows."""
    patience: Annotated[Annotated[int, Field(ge=1)] | None, Auto] = None
    """Looks at the validation rows without a better value before training stops early."""
    threads: Annotated[Annotated[int, Field(ge=1)] | None, Auto] = None
    """Threads of the matrix products on a CPU."""


def _guards(value: Any) -> Any:
    """A path alone is a guard with its defaults, and one guard is a list of one."""
    several = value if isinstance(value, list | tuple) else [value]
    paths = (str, os.PathLike)
    return [{"file": os.fspath(item)} if isinstance(item, paths) else item for item in several]


class GuardSection(Section):
    """Rows on which the tuned model must not be worse than the base."""

    file: str
    """A file in any format that ``run`` reads."""
    name: str | None = Field(default=None, min_length=1)
    """What it is called; else the file's name."""
    metric: str | None = None
    """What is measured on it; else the usual one of its task."""
    margin: float | None = Field(default=None, ge=0)
    """Largest loss that is accepted, in the metric's own unit."""


Guards = Annotated[list[GuardSection], BeforeValidator(_guards)]


class EvaluateSection(Section):
    """How the result is judged."""

    metric: AutoStr = None
    """The primary metric; the verdict rests on it."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Two-sided significance level of the verdict."""
    minimum_difference: float = Field(default=0.0, ge=0)
    """Smallest difference that matters, in the metric's own unit."""
    resamples: int = Field(default=10_000, ge=200)
    """Resamples of every bootstrap interval."""
    generate_rows: Annotated[Annotated[int, Field(ge=0)] | None, Auto] = None
    """chat: how many holdout rows are answered in full (the loss is measured on all of them)."""
    max_new_tokens: Annotated[Annotated[int, Field(ge=1)] | None, Auto] = None
    """chat: longest answer that is generated."""
    target_difference: float | None = Field(default=None, gt=0, lt=1)
    """Difference of shares (0.05 = 5 points) that the holdout is made large enough to show at 80 %
    power; for metrics of right and wrong, and a holdout that is cut from ``data.path``."""
    guards: Guards = []
    """What must not get worse: files, or tables with file, and if you like name, metric and margin
    (the largest loss accepted; else 0.05 for shares, 0.1 nats for a loss)."""
    general_text: Annotated[Annotated[float, Field(gt=0)] | Literal["off"] | None, Auto] = None
    """chat, text: by how many nats per token the loss on short passages of general English may
    rise; off leaves this guard out, auto is 0.1, and off for the starter and random bases."""


class Recipe(Section):
    """One run."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: int = Field(default=SCHEMA, alias="schema")
    """Version of this format."""
    task: Annotated[Task | None, Auto] = None
    """What the model learns; auto tells it from the columns."""
    data: DataSection
    """Which rows, and how to read them."""
    base: BaseSection = BaseSection()
    """Which pretrained model to start from."""
    method: MethodSection = MethodSection()
    """What is trained."""
    train: TrainSection = TrainSection()
    """How it is trained."""
    evaluate: EvaluateSection = EvaluateSection()
    """How the result is judged."""
    seed: int = Field(default=0, ge=0)
    """Decides the split, the order of the rows, a new head and sampling."""
