"""Write a trained model so that stock transformers and peft load it, and read it back.

In: a model, its tokenizer and template. Out: a directory: weights or adapter, config.json,
tokenizer files, chat_template.jinja, and fettle.json ({"schema", "task", "labels", "base",
"method", ...}). Must not know: runs, evaluation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.errors import IntegrityError
from fettle.models.forward import unwrapped
from fettle.models.initial import begins_at_base, save_as_plain_lora
from fettle.models.inspect_base import hash_files
from fettle.models.load import MODEL_FILE, load_model
from fettle.models.quiet import quiet
from fettle.records.run_directory import staged_directory, write_json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A trained model, ready to answer."""

    model: torch.nn.Module
    tokenizer: Tokenizer
    template: ChatTemplate | None
    """chat: renders a conversation exactly as in training."""
    meta: Mapping[str, Any]
    """fettle.json."""


def save_model(
    model: torch.nn.Module,
    directory: Path,
    tokenizer: Tokenizer,
    chat_template: str | None,
    meta: Mapping[str, Any],
) -> None:
    """Write a model directory, whole or not at all.

    Args:
        model: full or with adapters.
        directory: replaced if it exists.
        tokenizer: its files are copied.
        chat_template: Jinja source of what training rendered with; None when there is none.
        meta: task, labels, base ({"id", "revision", "sha256"}) and method; more is kept. With
            ``stop_ids``, the ids that end an answer, generation stops there in stock transformers
            as well.

    Raises:
        MachineError: E0401, the disk refused.
    """
    plain = unwrapped(model)
    with staged_directory(directory) as staged, quiet():
        if isinstance(model, PeftModel):
            model.save_pretrained(staged, save_embedding_layers=False)
            if begins_at_base(model):
                save_as_plain_lora(model, staged)
            # peft writes a card with blanks in it; the run has a real one.
            (staged / "README.md").unlink(missing_ok=True)
            # The labels: peft's own config has none.
            plain.config.save_pretrained(staged)
        else:
            model.save_pretrained(staged)
        if meta.get("stop_ids") and plain.generation_config is not None:
            plain.generation_config.eos_token_id = list(meta["stop_ids"])
            plain.generation_config.save_pretrained(staged)
        tokenizer.save_into(staged, chat_template)
        write_json(staged / MODEL_FILE, {"schema": SCHEMA, **meta})


def load_saved(
    directory: Path, progress: Callable[[str], None] = lambda line: None, offline: bool = False
) -> LoadedModel:
    """Read back what ``save_model`` wrote; outputs are identical.

    Args:
        directory: the ``model/`` of a run.
        progress: told in one line what is being done (an adapter's base may have to be fetched).
        offline: never ask a hub.

    Returns:
        The model in evaluation mode on the CPU, its tokenizer, template and fettle.json.

    Raises:
        IntegrityError: E0901, E0911, E0912.
        BaseModelError: the adapter's base is gone or unfit.
    """
    model, meta = load_model(directory, progress, offline)
    tokenizer = Tokenizer.load(directory)
    source = tokenizer.chat_template
    template = ChatTemplate(source, tokenizer) if source and meta["task"] == "chat" else None
    return LoadedModel(model, tokenizer, template, meta)


def weights_sha256(directory: Path) -> str:
    """SHA-256 over the names and bytes of a model directory's weight files.

    Raises:
        IntegrityError: E0913, there are none.
    """
    files = tuple(directory.glob("*.safetensors"))
    if not files:
        raise IntegrityError(
            "E0913", f"{directory} has no weights", hint="run `fettle resume` on the run"
        )
    return hash_files(files)
