"""Recipe + facts -> settings: every value final, each with its source and reason. Pure.

In: a ``Recipe`` and the facts about data, base and machine. Out: ``Settings``. Must not know: how
facts are gathered, torch. A resumed run reads its settings back and never resolves again.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import yaml

from fettle.errors import IntegrityError, RecipeError
from fettle.metrics import find_metric
from fettle.recipe import defaults
from fettle.recipe.methods import implied_kind
from fettle.recipe.recipe import Recipe, Section
from fettle.records.facts import BaseFacts, DataFacts, MachineFacts, StepCost
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
    layers: int
    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...] | None
    rslora: bool
    dora: bool
    init: str
    plus_ratio: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    options: Mapping[str, Any]
    learning_rate: float
    batch_size: int
    epochs: float
    num_steps: int
    schedule: str
    warmup_steps: int
    optimizer: str
    weight_decay: float
    max_gradient_norm: float
    max_length: int
    overlong: str
    answers: str
    class_weights: str | Mapping[str, float]
    micro_batch_tokens: int
    padding_free: bool
    shared_prefix: bool
    compile: bool
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
    "layers": "method.layers",
    "rslora": "method.rslora",
    "dora": "method.dora",
    "init": "method.init",
    "plus_ratio": "method.plus_ratio",
    "rank_pattern": "method.rank_pattern",
    "alpha_pattern": "method.alpha_pattern",
    "options": "method.options",
    "learning_rate": "train.learning_rate",
    "batch_size": "train.batch_size",
    "epochs": "train.epochs",
    "num_steps": "train.max_steps",
    "schedule": "train.schedule",
    "warmup_steps": "train.warmup_fraction",
    "optimizer": "train.optimizer",
    "weight_decay": "train.weight_decay",
    "max_gradient_norm": "train.max_gradient_norm",
    "max_length": "train.max_length",
    "overlong": "train.overlong",
    "answers": "train.answers",
    "class_weights": "train.class_weights",
    "micro_batch_tokens": "train.micro_batch_tokens",
    "padding_free": "train.padding_free",
    "shared_prefix": "train.shared_prefix",
    "compile": "train.compile",
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


class _Picker:
    """Takes the user's value, or the rule's with its reason, and notes which it was."""

    def __init__(self) -> None:
        self.found: dict[str, Setting] = {}

    def pick(
        self, name: str, asked: Value | None, rule: Callable[[], tuple[Value, str]], source: Source
    ) -> Value:
        """A value that may be ``auto``."""
        if asked is not None:
            self.found[KEYS[name]] = Setting(asked, "user")
            return asked
        value, reason = rule()
        self.found[KEYS[name]] = Setting(value, source, reason)
        return value

    def fixed(self, name: str, section: Section, field: str) -> Any:
        """A value with a plain default."""
        value = getattr(section, field)
        source: Source = "user" if field in section.model_fields_set else "default"
        self.found[KEYS[name]] = Setting(value, source)
        return value


def resolve(
    recipe: Recipe,
    data: DataFacts,
    base: BaseFacts,
    machine: MachineFacts,
    default_metric: str,
    cost: StepCost | None = None,
) -> Settings:
    """Fill in every ``auto`` with a value and a stated reason.

    Args:
        recipe: what the user asked for.
        data: rows by split, lengths in tokens under the base's tokenizer.
        base: the base's size and context.
        machine: memory and measured speed.
        default_metric: the primary metric of the task.
        cost: measured with the settings as they are without it; decides dtype, threads and
            micro-batch.

    Raises:
        RecipeError: E0222 more epochs than train.max_steps allows, E0223 a batch of more rows than
            there are.
    """
    picker = _Picker()
    picker.pick("task", recipe.task, lambda: (data.task, "from the columns"), "detected")
    values = (
        _method(picker, recipe, data, base, machine, cost)
        | _length(picker, recipe, data, base, machine, cost)
        | _judge(picker, recipe, data, base, machine, default_metric)
    )
    values |= _steps(picker, recipe, data, base, values["method"])
    seed = picker.fixed("seed", recipe, "seed")
    return Settings(task=data.task, seed=seed, settings=picker.found, **values)


def _method(
    picker: _Picker,
    recipe: Recipe,
    data: DataFacts,
    base: BaseFacts,
    machine: MachineFacts,
    cost: StepCost | None,
) -> dict[str, Any]:
    asked, pick = recipe.method, picker.pick
    implied = implied_kind(asked)
    rank = pick("rank", asked.rank, lambda: defaults.rank(data, base), "default")
    targets = pick(
        "target_modules",
        asked.target_modules,
        lambda: ([], "every linear layer of the body's blocks"),
        "default",
    )
    return {
        "method": pick(
            "method",
            asked.type,
            lambda: (
                (implied[0], f"method.{implied[1]} is given")
                if implied is not None
                else defaults.method(base, machine)
            ),
            "default",
        ),
        "rank": rank,
        "alpha": pick("alpha", asked.alpha, lambda: (float(2 * rank), "twice the rank"), "default"),
        "dropout": picker.fixed("dropout", asked, "dropout"),
        "target_modules": tuple(targets) if targets else None,
        "dtype": pick("dtype", recipe.base.dtype, lambda: defaults.dtype(machine, cost), "probed"),
    } | {
        name: picker.fixed(name, asked, name)
        for name in (
            "layers",
            "rslora",
            "dora",
            "init",
            "plus_ratio",
            "rank_pattern",
            "alpha_pattern",
            "options",
        )
    }


def _steps(
    picker: _Picker, recipe: Recipe, data: DataFacts, base: BaseFacts, method: str
) -> dict[str, Any]:
    train, pick = recipe.train, picker.pick
    num_train = data.num_rows.get("train", 0)
    rate = pick(
        "learning_rate",
        train.learning_rate,
        lambda: defaults.learning_rate(base, method),
        "default",
    )
    size = pick("batch_size", train.batch_size, lambda: defaults.batch_size(num_train), "default")
    if size > num_train > 0:
        raise RecipeError(
            "E0223",
            f"train.batch_size = {size:,} is more than the {num_train:,} training rows there are",
            why="An optimizer step takes each row at most once",
            hint=f"--set train.batch_size={num_train} or less, or leave it to fettle (auto)",
        )
    passes = pick("epochs", train.epochs, lambda: defaults.epochs(data.task, num_train), "default")
    per_epoch = max(1, -(-num_train // size))
    needed = max(1, math.ceil(passes * per_epoch))
    num_steps = pick(
        "num_steps",
        train.max_steps,
        lambda: (needed, f"{passes:g} epochs of {per_epoch} steps"),
        "default",
    )
    if train.epochs is not None and train.max_steps is not None and needed != num_steps:
        if needed > num_steps:
            raise RecipeError(
                "E0222",
                f"train.epochs = {passes:g} takes {needed:,} steps, and train.max_steps ="
                f" {num_steps:,} allows fewer",
                why=f"{num_train:,} training rows in batches of {size} are {per_epoch:,} steps"
                " an epoch",
                hint=f"give one of the two, or --set train.max_steps={needed}",
            )
        num_steps = needed
        reason = f"{passes:g} epochs of {per_epoch} steps, within the {train.max_steps} allowed"
        picker.found[KEYS["num_steps"]] = Setting(num_steps, "default", reason)
    every = pick(
        "evaluate_every",
        train.evaluate_every,
        lambda: defaults.evaluate_every(num_steps, per_epoch),
        "default",
    )
    picker.fixed("warmup_steps", train, "warmup_fraction")
    return {
        "learning_rate": rate,
        "batch_size": size,
        "epochs": passes,
        "num_steps": num_steps,
        "evaluate_every": every,
        "checkpoint_every": pick(
            "checkpoint_every",
            train.checkpoint_every,
            lambda: (every, "with every look at the validation rows"),
            "default",
        ),
        "patience": pick(
            "patience", train.patience, lambda: (3, "looks without a better value"), "default"
        ),
        "warmup_steps": math.ceil(train.warmup_fraction * num_steps),
    } | {
        name: picker.fixed(name, train, name)
        for name in ("schedule", "optimizer", "weight_decay", "max_gradient_norm")
    }


def _length(
    picker: _Picker,
    recipe: Recipe,
    data: DataFacts,
    base: BaseFacts,
    machine: MachineFacts,
    cost: StepCost | None,
) -> dict[str, Any]:
    train, pick = recipe.train, picker.pick
    length = pick(
        "max_length", train.max_length, lambda: defaults.max_length(base, data), "detected"
    )
    if length > base.context_length:
        length = base.context_length
        reason = f"{train.max_length} was asked for; the base reads no more"
        picker.found[KEYS["max_length"]] = Setting(length, "detected", reason)
    packs = pick("padding_free", train.padding_free, lambda: defaults.padding_free(base), "default")
    if packs and not base.packs:
        packs, reason = defaults.padding_free(base)
        picker.found[KEYS["padding_free"]] = Setting(packs, "detected", f"asked for, but {reason}")
    shares = pick(
        "shared_prefix",
        train.shared_prefix,
        lambda: defaults.shared_prefix(data, base, packs, recipe.method.dropout),
        "default",
    )
    obstacle = defaults.no_shared_prefix(base, packs, recipe.method.dropout)
    if shares and obstacle:
        shares = False
        reason = f"asked for, but {obstacle}"
        picker.found[KEYS["shared_prefix"]] = Setting(shares, "detected", reason)
    compiles = pick("compile", train.compile, lambda: defaults.compile(machine), "default")
    if compiles:
        # The probe times the blocks as they are: it would have to wait for the compiler.
        reason = "estimates of time and memory are those without it; compiling comes first, minutes"
        picker.found[KEYS["compile"]] = Setting(True, "user", reason)
    return {
        "max_length": length,
        "overlong": pick(
            "overlong", train.overlong, lambda: defaults.overlong(data.task), "default"
        ),
        "answers": picker.fixed("answers", train, "answers"),
        "class_weights": picker.fixed("class_weights", train, "class_weights"),
        "padding_free": packs,
        "shared_prefix": shares,
        "compile": compiles,
        "micro_batch_tokens": pick(
            "micro_batch_tokens",
            train.micro_batch_tokens,
            lambda: defaults.micro_batch_tokens(base, machine, cost),
            "probed",
        ),
        "threads": pick(
            "threads", train.threads, lambda: defaults.threads(machine, cost), "probed"
        ),
    }


def _judge(
    picker: _Picker,
    recipe: Recipe,
    data: DataFacts,
    base: BaseFacts,
    machine: MachineFacts,
    default_metric: str,
) -> dict[str, Any]:
    judge, pick = recipe.evaluate, picker.pick
    metric = pick(
        "metric",
        judge.metric,
        lambda: (default_metric, f"the usual one for {data.task}"),
        "default",
    )
    by_answers = find_metric(metric).needs == "prediction"
    return {
        "metric": metric,
        "alpha_level": picker.fixed("alpha_level", judge, "alpha"),
        "minimum_difference": picker.fixed("minimum_difference", judge, "minimum_difference"),
        "resamples": picker.fixed("resamples", judge, "resamples"),
        "generate_rows": pick(
            "generate_rows",
            judge.generate_rows,
            lambda: defaults.generate_rows(data, machine, by_answers),
            "default",
        ),
        "max_new_tokens": pick(
            "max_new_tokens",
            judge.max_new_tokens,
            lambda: defaults.max_new_tokens(base, data),
            "default",
        ),
    }


def load_settings(text: str) -> Settings:
    """Read recipe.resolved.yaml back.

    Raises:
        IntegrityError: E0904, it is not a file that ``dumps`` wrote.
    """
    with _own_file():
        values = yaml.safe_load(text)["values"]
        found = {key: Setting(**setting) for key, setting in values.items()}
        fields = {name: found[key].value for name, key in KEYS.items()}
        fields["warmup_steps"] = math.ceil(fields["warmup_steps"] * fields["num_steps"])
        targets = fields["target_modules"]
        fields["target_modules"] = tuple(targets) if targets else None
        return Settings(settings=found, **fields)


def load_facts(text: str) -> dict[str, Any]:
    """The facts in recipe.resolved.yaml: base, data, machine.

    Raises:
        IntegrityError: E0904, it is not a file that ``dumps`` wrote.
    """
    with _own_file():
        facts: dict[str, Any] = yaml.safe_load(text)["facts"]
        return {name: dict(facts[name]) for name in ("base", "data", "machine")}


@contextmanager
def _own_file() -> Iterator[None]:
    try:
        yield
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(
            "E0904",
            f"recipe.resolved.yaml can't be read back: {error}",
            hint="start the run again with its recipe.yaml",
        ) from error
