"""Recipe + facts -> settings: every value final, each with its source and reason. Pure.

In: a ``Recipe`` and the facts about data, base and machine. Out: ``Settings``. Must not know: how
facts are gathered, torch. A resumed run reads its settings back and never resolves again.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import yaml

from fettle.errors import IntegrityError
from fettle.metrics import default_metric
from fettle.recipe import defaults
from fettle.recipe.recipe import Recipe
from fettle.records.facts import BaseFacts, DataFacts, MachineFacts
from fettle.records.outcomes import SCHEMA

Source = Literal["user", "default", "detected", "probed"]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Setting:
    """One final value."""

    value: Any
    source: Source
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every value that the run uses; the field comments give the recipe keys they come from."""

    task: str
    method: str
    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...] | None
    learning_rate: float
    batch_size: int
    epochs: float
    num_steps: int
    schedule: str
    warmup_steps: int
    weight_decay: float
    max_gradient_norm: float
    max_length: int
    overlong: str
    micro_batch_tokens: int
    evaluate_every: int
    checkpoint_every: int
    patience: int
    dtype: str
    threads: int
    metric: str
    alpha_level: float
    minimum_difference: float
    resamples: int
    generate_rows: int
    max_new_tokens: int
    seed: int
    settings: Mapping[str, Setting]
    """The same values by recipe key, with source and reason."""

    def dumps(self, facts: Mapping[str, Any]) -> str:
        """recipe.resolved.yaml."""
        values = {key: asdict(setting) for key, setting in self.settings.items()}
        document = {"schema": SCHEMA, "values": values, "facts": dict(facts)}
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


KEYS = {
    "task": "task",
    "method": "method.type",
    "rank": "method.rank",
    "alpha": "method.alpha",
    "dropout": "method.dropout",
    "target_modules": "method.target_modules",
    "learning_rate": "train.learning_rate",
    "batch_size": "train.batch_size",
    "epochs": "train.epochs",
    "num_steps": "train.max_steps",
    "schedule": "train.schedule",
    "warmup_steps": "train.warmup_fraction",
    "weight_decay": "train.weight_decay",
    "max_gradient_norm": "train.max_gradient_norm",
    "max_length": "train.max_length",
    "overlong": "train.overlong",
    "micro_batch_tokens": "train.micro_batch_tokens",
    "evaluate_every": "train.evaluate_every",
    "checkpoint_every": "train.checkpoint_every",
    "patience": "train.patience",
    "dtype": "base.dtype",
    "threads": "train.threads",
    "metric": "evaluate.metric",
    "alpha_level": "evaluate.alpha",
    "minimum_difference": "evaluate.minimum_difference",
    "resamples": "evaluate.resamples",
    "generate_rows": "evaluate.generate_rows",
    "max_new_tokens": "evaluate.max_new_tokens",
    "seed": "seed",
}
"""Field of ``Settings`` -> recipe key."""


def resolve(
    recipe: Recipe, data: DataFacts, base: BaseFacts, machine: MachineFacts
) -> Settings:
    """Fill in every ``auto`` with a value and a stated reason.

    Args:
        recipe: what the user asked for.
        data: rows by split, lengths in tokens under the base's tokenizer.
        base: the base's size and context.
        machine: memory and measured speed.
    """
    found: dict[str, Setting] = {}

    def pick(
        name: str, asked: Value | None, rule: Callable[[], tuple[Value, str]], source: Source
    ) -> Value:
        if asked is not None:
            found[KEYS[name]] = Setting(asked, "user")
            return asked
        value, reason = rule()
        found[KEYS[name]] = Setting(value, source, reason)
        return value

    def fixed(name: str, section: Any, field: str) -> Any:
        value = getattr(section, field)
        source: Source = "user" if field in section.model_fields_set else "default"
        found[KEYS[name]] = Setting(value, source)
        return value

    train, method, judge = recipe.train, recipe.method, recipe.evaluate
    num_train = data.num_rows.get("train", 0)
    pick("task", recipe.task, lambda: (data.task, "from the columns"), "detected")
    method_type: str = pick("method", method.type, lambda: defaults.method(base, machine), "default")
    rank = pick("rank", method.rank, lambda: defaults.rank(base, data), "default")
    alpha = pick(
        "alpha",
        method.alpha,
        lambda: (float(2 * rank), "twice the rank"),
        "default",
    )
    rate = pick(
        "learning_rate",
        train.learning_rate,
        lambda: defaults.learning_rate(base, method_type),
        "default",
    )
    size = pick("batch_size", train.batch_size, lambda: defaults.batch_size(num_train), "default")
    passes = pick(
        "epochs", train.epochs, lambda: defaults.epochs(data.task, num_train), "default"
    )
    steps_per_epoch = max(1, -(-num_train // size))
    num_steps = pick(
        "num_steps",
        train.max_steps,
        lambda: (
            max(1, math.ceil(passes * steps_per_epoch)),
            f"{passes:g} epochs of {steps_per_epoch} steps",
        ),
        "default",
    )
    fixed("warmup_steps", train, "warmup_fraction")
    every = pick(
        "evaluate_every",
        train.evaluate_every,
        lambda: defaults.evaluate_every(num_steps, steps_per_epoch, data.task),
        "default",
    )
    length = pick(
        "max_length", train.max_length, lambda: defaults.max_length(base, data), "detected"
    )
    return Settings(
        task=data.task,
        method=method_type,
        rank=rank,
        alpha=alpha,
        dropout=fixed("dropout", method, "dropout"),
        target_modules=tuple(method.target_modules) if method.target_modules else None,
        learning_rate=rate,
        batch_size=size,
        epochs=passes,
        num_steps=num_steps,
        schedule=fixed("schedule", train, "schedule"),
        warmup_steps=math.ceil(train.warmup_fraction * num_steps),
        weight_decay=fixed("weight_decay", train, "weight_decay"),
        max_gradient_norm=fixed("max_gradient_norm", train, "max_gradient_norm"),
        max_length=min(length, base.context_length),
        overlong=pick("overlong", train.overlong, lambda: _overlong(data, length), "default"),
        micro_batch_tokens=pick(
            "micro_batch_tokens",
            train.micro_batch_tokens,
            lambda: defaults.micro_batch_tokens(base, machine),
            "probed",
        ),
        evaluate_every=every,
        checkpoint_every=pick(
            "checkpoint_every",
            train.checkpoint_every,
            lambda: (every, "with every look at the validation rows"),
            "default",
        ),
        patience=pick(
            "patience", train.patience, lambda: (3, "looks without a better value"), "default"
        ),
        dtype=pick("dtype", recipe.base.dtype, lambda: defaults.dtype(machine), "probed"),
        threads=pick(
            "threads", train.threads, lambda: (machine.num_threads, "physical cores"), "probed"
        ),
        metric=pick(
            "metric",
            judge.metric,
            lambda: (default_metric(data.task), f"the usual one for {data.task}"),
            "default",
        ),
        alpha_level=fixed("alpha_level", judge, "alpha"),
        minimum_difference=fixed("minimum_difference", judge, "minimum_difference"),
        resamples=fixed("resamples", judge, "resamples"),
        generate_rows=pick(
            "generate_rows",
            judge.generate_rows,
            lambda: _generate_rows(data, machine),
            "default",
        ),
        max_new_tokens=pick(
            "max_new_tokens",
            judge.max_new_tokens,
            lambda: _max_new_tokens(base, data),
            "default",
        ),
        seed=fixed("seed", recipe, "seed"),
        settings=found,
    )


def load_settings(text: str) -> Settings:
    """Read recipe.resolved.yaml back.

    Raises:
        IntegrityError: E0904, it is not a file that ``dumps`` wrote.
    """
    try:
        values = yaml.safe_load(text)["values"]
        found = {key: Setting(**setting) for key, setting in values.items()}
        fields = {name: found[key].value for name, key in KEYS.items() if key in found}
        warmup = found["train.warmup_fraction"].value
        targets = fields.get("target_modules")
        fields |= {
            "warmup_steps": math.ceil(warmup * fields["num_steps"]),
            "target_modules": tuple(targets) if targets else None,
        }
        return Settings(settings=found, **fields)
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise IntegrityError(
            "E0904",
            f"recipe.resolved.yaml can't be read back: {error}",
            hint="start the run again with its recipe.yaml",
        ) from error


def _overlong(data: DataFacts, length: int) -> tuple[Literal["cut", "quarantine"], str]:
    if data.task == "classify":
        return "cut", "a label can often be told from the beginning; every cut is a finding"
    return "quarantine", "half an answer teaches the model to stop in the middle"


def _generate_rows(data: DataFacts, machine: MachineFacts) -> tuple[int, str]:
    if data.task != "chat":
        return 0, "only chat answers are generated"
    rows = min(data.num_rows.get("holdout", 0), 200 if machine.device == "cpu" else 1000)
    return rows, "answers are slow to generate; the loss is measured on every holdout row"


def _max_new_tokens(base: BaseFacts, data: DataFacts) -> tuple[int, str]:
    rows = max(1, data.num_rows.get("train", 1))
    usual = max(1, data.target_tokens // rows)
    return min(512, base.context_length // 2, max(16, 2 * usual)), "twice the usual answer"
