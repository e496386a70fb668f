"""Find a base model and build it: the only file that loads transformers models.

In: the base section of a recipe; facts; a directory that ``save`` wrote. Out: ``BaseFacts``; a
torch module in float32 with the head that the task needs. Must not know: data, training.

A model is only handed out when every body weight came from the files: transformers would fill a
missing or mismatched one with random numbers and go on. Only the task's head may be new.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError, IntegrityError
from fettle.models.catalog import ARCHITECTURES, RANDOM, STARTER, STARTER_DIRECTORY
from fettle.models.hub import fetch
from fettle.models.inspect_base import hash_files, inspect_base, read_config
from fettle.models.merge import merge_adapter
from fettle.models.quiet import quiet
from fettle.models.random_base import random_base
from fettle.recipe.methods import PASSED_THROUGH
from fettle.recipe.recipe import BaseSection
from fettle.records.facts import BaseFacts
from fettle.records.run_directory import RunDirectory, read_json, staged_directory, write_json

Task = Literal["classify", "regress", "chat", "text"]
ON_TOP = ("classify", "regress")
"""Tasks with a head of their own on the body."""
NUMBER = ("value",)
"""What stands for labels in a model that says a number."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_FILE = "fettle.json"
MERGED = "merged"
"""Folder of a LoRA run that holds base and adapter as one, once it was used as a base."""

# Keys of an adapter_config.json by which peft imports a module of any name.
_LOADS_CODE = ("auto_mapping", "megatron_config")

# A numbered block of the body, such as ``layers.3.``; old checkpoints keep causal masks in there.
_BLOCK = re.compile(r"\.\d+\.")
_BUFFER = re.compile(r"(attn|attention)\.(masked_)?bias$|inv_freq$|position_ids$")


def find_base(section: BaseSection, progress: Callable[[str], None]) -> BaseFacts:
    """Turn what the user named into a checked local directory with its facts.

    Args:
        section: id ("starter", a directory, an earlier run, a hub id, "random:DIR"; None =
            starter), revision, offline.
        progress: told in one line what is being done.

    Returns:
        Facts whose ``path`` is in Hugging Face format. For an earlier run ``incumbent_run`` is its
        directory; a LoRA run's adapter is merged onto its base once, in ``<run>/merged``.

    Raises:
        BaseModelError: E0501 to E0515 or E0562, it is missing, unsafe, damaged or of an unknown
            kind.
        NetworkError: E0801, E0802.
    """
    id = section.id or STARTER
    if id == STARTER:
        if not (STARTER_DIRECTORY / "config.json").is_file():
            raise BaseModelError(
                "E0501",
                "this installation of fettle has no starter model",
                where=str(STARTER_DIRECTORY),
                hint="install fettle again, or name a base: --base DIR or --base HUB_ID",
            )
        return inspect_base(STARTER_DIRECTORY, STARTER)
    if id.startswith(RANDOM):
        return random_base(id, progress)
    path = Path(id).expanduser()
    if path.is_dir():
        return _find_in_directory(path.resolve(), id, section.offline, progress)
    if path.exists() or id.startswith(("/", "./", "../", "~")) or id.count("/") > 1:
        raise BaseModelError(
            "E0512",
            f"the base {id} is not a directory",
            hint="name a directory in Hugging Face format, a hub id such as owner/name,"
            " an earlier run, or --base starter",
        )
    directory, commit = fetch(id, section.revision, section.offline, progress)
    return inspect_base(directory, id, commit)


def load_for_task(
    facts: BaseFacts,
    task: Task,
    labels: Sequence[str],
    tokenizer_pad_id: int | None,
    dtype: str = "float32",
    multi_label: bool = False,
) -> PreTrainedModel:
    """Build the base with the head that the task needs.

    A new head is drawn from torch's global generator: seed it first. A head that the base brings is
    kept only when it was trained for exactly these labels.

    Args:
        facts: from ``find_base``.
        task: classify and regress take encoders and decoders; chat and text take decoders.
        labels: classify: names in the order of the class indices.
        tokenizer_pad_id: id that fills up short rows; a decoder that classifies needs it.
        dtype: of the weights.
        multi_label: classify: any number of labels may apply to a row.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        BaseModelError: E0513 wrong kind for the task, E0514 weights do not fit config.json.
    """
    architecture = ARCHITECTURES[facts.architecture]
    if task not in ON_TOP and architecture.kind == "encoder":
        raise BaseModelError(
            "E0513",
            f"the base {facts.id} is an encoder ({facts.architecture}) and can't write text",
            hint="choose a decoder, for example --base starter; or --task classify",
        )
    if task in ON_TOP and not architecture.classifies:
        raise BaseModelError(
            "E0513",
            f"transformers has no classifier on top of {facts.architecture}",
            hint=f"choose another base for --task {task}, for example --base starter",
        )
    directory = Path(facts.path)
    config = read_config(directory)
    if task in ON_TOP:
        names = NUMBER if task == "regress" else tuple(labels)
        problem = _problem(task, multi_label)
        same_labels = _labels(config) == names and config.problem_type in (None, problem)
        config.id2label = dict(enumerate(names))
        config.label2id = {label: index for index, label in enumerate(names)}
        config.problem_type = problem
        model = _build(AutoModelForSequenceClassification, directory, config, dtype, facts.id)
        if not same_labels:
            _renew_head(model)
        # Set after building: an embedding built with it would never train the row of a pad token
        # that is the end token as well. An encoder's own stays, its positions may depend on it.
        if architecture.kind == "decoder" or model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer_pad_id
    else:
        model = _build(AutoModelForCausalLM, directory, config, dtype, facts.id)
    return model.eval()


def build_empty(facts: BaseFacts, task: Task) -> PreTrainedModel:
    """The model of ``load_for_task`` with its modules but without weights (on the meta device).

    Args:
        facts: from ``find_base``.
        task: decides the head.
    """
    config = read_config(Path(facts.path))
    on_top = task in ON_TOP and ARCHITECTURES[facts.architecture].classifies
    if ARCHITECTURES[facts.architecture].kind == "decoder":
        auto_class = AutoModelForSequenceClassification if on_top else AutoModelForCausalLM
    else:
        auto_class = AutoModelForSequenceClassification
    with quiet(), torch.device("meta"):
        return auto_class.from_config(
            config, attn_implementation=ARCHITECTURES[config.model_type].attention
        )


def load_model(
    directory: Path, progress: Callable[[str], None], offline: bool = False
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Build a model that ``save_model`` wrote, full or adapter.

    Args:
        directory: the ``model/`` of a run.
        progress: told in one line what is being done (an adapter's base may have to be fetched).
        offline: never ask a hub.

    Returns:
        The model (a PeftModel for an adapter) in evaluation mode, and fettle.json.

    Raises:
        BaseModelError: the adapter's base is gone or unfit.
        IntegrityError: E0901 no fettle.json, E0911 the adapter's base is not the one it was
            trained on, E0912 the adapter is damaged.
    """
    meta = read_json(directory / MODEL_FILE)
    task, labels = meta["task"], meta.get("labels") or []
    several = bool(meta.get("multi_label"))
    if not is_adapter(directory):
        facts = inspect_base(directory, str(directory))
        pad_id = read_config(directory).pad_token_id
        return load_for_task(facts, task, labels, pad_id, multi_label=several), meta
    adapter = _read_adapter_config(directory)
    section = BaseSection(
        id=adapter["base_model_name_or_path"], revision=adapter.get("revision"), offline=offline
    )
    facts = find_base(section, progress)
    trained_on = (meta.get("base") or {}).get("sha256")
    if trained_on is not None and trained_on != facts.sha256:
        raise IntegrityError(
            "E0911",
            f"the base {facts.id} is not the one that the adapter in {directory} was trained on",
            where=facts.path,
            why=f"Its weights have the hash {facts.sha256[:12]}, not {trained_on[:12]}",
            hint="put the base back as it was, or train again on the new one",
        )
    pad_id = read_config(directory).pad_token_id
    base = load_for_task(facts, task, labels, pad_id, multi_label=several)
    with quiet():
        model = PeftModel.from_pretrained(
            base, str(directory), config=PeftConfig.from_pretrained(str(directory))
        )
    return model.eval(), meta


def is_adapter(directory: Path) -> bool:
    """Whether a model directory holds a PEFT adapter instead of full weights."""
    return (directory / "adapter_config.json").is_file()


def _find_in_directory(
    path: Path, id: str, offline: bool, progress: Callable[[str], None]
) -> BaseFacts:
    run = RunDirectory(path.parent if path.name == "model" else path)
    if not (run.recipe.is_file() or run.verdict.is_file()):
        return inspect_base(path, id)
    if not (run.model / MODEL_FILE).is_file():
        raise BaseModelError(
            "E0515",
            f"the run {run.root} has no trained model yet",
            hint=f"finish it first: fettle resume {run.root}",
        )
    directory = run.model
    if is_adapter(directory):
        directory = _merge(run, offline, progress)
    return replace(inspect_base(directory, id), incumbent_run=str(run.root))


def _merge(run: RunDirectory, offline: bool, progress: Callable[[str], None]) -> Path:
    """Write a LoRA run's base and adapter as one model, unless that was done already."""
    target = run.root / MERGED
    adapter_hash = hash_files((run.model / ADAPTER_WEIGHTS,))
    mark = target / "merged.json"
    if mark.is_file() and read_json(mark).get("adapter_sha256") == adapter_hash:
        return target
    progress(f"base {run.root}: merging its adapter, into {target}")
    model, meta = load_model(run.model, progress, offline)
    merged = merge_adapter(model, f"the run {run.root}")
    with staged_directory(target) as staged, quiet():
        merged.save_pretrained(staged)
        Tokenizer.load(run.model).save_into(staged, None)
        write_json(staged / MODEL_FILE, {**meta, "method": "full"})
        write_json(staged / mark.name, {"schema": 1, "adapter_sha256": adapter_hash})
    return target


def _read_adapter_config(directory: Path) -> dict[str, Any]:
    config = read_json(directory / "adapter_config.json")
    kind = str(config.get("peft_type") if isinstance(config, dict) else None)
    why = ""
    if kind.lower() not in ("lora", *PASSED_THROUGH):
        why = f"Its peft_type is {kind[:40]}, which fettle does not train"
    elif not (directory / ADAPTER_WEIGHTS).is_file():
        # peft would fall back to a pickle.
        why = f"There is no {ADAPTER_WEIGHTS}"
    elif any(config.get(key) for key in _LOADS_CODE):
        why = f"It has one of the keys {', '.join(_LOADS_CODE)}, which import other code"
    if why:
        raise IntegrityError(
            "E0912",
            f"the adapter in {directory} can't be used",
            why=why,
            hint="take an untouched copy of the run, or train it again",
        )
    return config


def _problem(task: Task, multi_label: bool) -> str:
    """What transformers calls it: decides the loss of a stock model."""
    if task == "regress":
        return "regression"
    return "multi_label_classification" if multi_label else "single_label_classification"


def _labels(config: PreTrainedConfig) -> tuple[str, ...]:
    names = config.id2label or {}
    return tuple(str(names[index]) for index in sorted(names))


def _build(
    auto_class: type, directory: Path, config: PreTrainedConfig, dtype: str, id: str
) -> PreTrainedModel:
    try:
        with quiet():
            model, loaded = auto_class.from_pretrained(
                str(directory),
                config=config,
                dtype=getattr(torch, dtype),
                attn_implementation=ARCHITECTURES[config.model_type].attention,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # reported in ``loaded`` and judged below
                output_loading_info=True,
            )
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        reason = str(error).strip().splitlines()
        raise _misfit(id, directory, reason[0][:200] if reason else type(error).__name__) from error
    is_head = _is_classifier_head if auto_class is AutoModelForSequenceClassification else _never
    mismatched = [name for name, *_ in loaded["mismatched_keys"]]
    for what, names in (("missing", loaded["missing_keys"]), ("of another shape", mismatched)):
        wrong = sorted(name for name in names if not is_head(name, model.base_model_prefix))
        if wrong:
            raise _misfit(id, directory, f"{len(wrong)} weights are {what}, such as {wrong[0]}")
    surplus = sorted(
        name for name in loaded["unexpected_keys"] if _BLOCK.search(name) and not _is_buffer(name)
    )
    if surplus:
        raise _misfit(
            id, directory, f"{len(surplus)} weights have no place in it, such as {surplus[0]}"
        )
    return model


def _is_classifier_head(name: str, prefix: str) -> bool:
    # BERT's and ALBERT's pooler lies inside the body, but nothing else reads it.
    return not name.startswith(f"{prefix}.") or ".pooler." in name


def _never(name: str, prefix: str) -> bool:
    return False


def _is_buffer(name: str) -> bool:
    return _BUFFER.search(name) is not None


def _renew_head(model: PreTrainedModel) -> None:
    """Draw the final layer again: it may have been trained for other labels."""
    body = f"{model.base_model_prefix}."
    final = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(body)
    ][-1]
    torch.nn.init.normal_(final.weight, mean=0.0, std=float(model.config.initializer_range))
    if final.bias is not None:
        torch.nn.init.zeros_(final.bias)


def _misfit(id: str, directory: Path, what: str) -> BaseModelError:
    return BaseModelError(
        "E0514",
        f"the weights of the base {id} do not fit its config.json: {what}",
        where=str(directory),
        hint="take both from where the base was published; or choose another base",
    )
