"""What a stretch of pretraining leaves behind, and what the next one goes on from.

In: a model, and what has been done so far. Out: OUT with bfloat16 weights and ``stretch.json``, and
back. Must not know: the loop, the clock.

OUT is all that another machine needs: the weights, the position in the text, and the history. The
moments of the optimizer are not in it; a stretch that begins from OUT warms up again.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

HISTORY, WEIGHTS = "stretch.json", "model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(slots=True)
class Look:
    """One measurement on held-out text."""

    tokens: int
    seconds: float
    bits_per_byte: float
    dialogue_bits_per_byte: float


@dataclass(slots=True)
class Stretch:
    """One piece of the training, with the settings that it had."""

    minutes: float
    decay: bool
    rate: float
    length: int
    batch_tokens: int
    threads: int
    optimizer: str
    dtype: str
    first_token: int
    warmup_from: int = 0
    """Step from which on the rate rises, as the moments of the optimizer are new."""
    tokens: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    finished: bool = False
    curve: list[Look] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """All stretches so far."""

    position: int = 0
    """Blocks of the text that were taken."""
    steps: int = 0
    tokens: int = 0
    stretches: list[Stretch] = field(default_factory=list)

    @property
    def now(self) -> Stretch:
        """The stretch that is under way."""
        return self.stretches[-1]

    @staticmethod
    def from_json(value: dict[str, Any]) -> "History":
        """From what ``asdict`` made."""
        stretches = [
            Stretch(**{**item, "curve": [Look(**look) for look in item["curve"]]})
            for item in value["stretches"]
        ]
        return History(value["position"], value["steps"], value["tokens"], stretches)


def export(model: torch.nn.Module, history: History, work: Path, out: Path) -> None:
    """Write weights, tokenizer and history; ``stretch.json`` comes last and names the weights.

    Args:
        model: a transformers model; its weights stay as they are.
        history: of this model.
        work: holds the tokenizer files.
        out: filled or overwritten, file by file, each whole or not at all.
    """
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to(torch.bfloat16).contiguous()
        for name, value in model.named_parameters()
    }
    part = out / f".{WEIGHTS}.part"
    save_file(weights, part, metadata={"format": "pt"})
    digest = _sha256(part)
    for name in TOKENIZER:
        shutil.copyfile(work / name, out / name)
    _write(out / "config.json", _config(model))
    ids = {name: getattr(model.config, name) for name in ("bos_token_id", "eos_token_id")}
    _write(out / "generation_config.json", {**ids, "pad_token_id": model.config.pad_token_id})
    os.replace(part, out / WEIGHTS)
    record = {"schema": 1, "sha256": digest, "parameters": sum(p.numel() for p in weights.values())}
    _write(out / HISTORY, record | asdict(history))


def read_history(out: Path) -> History | None:
    """The history in OUT; None where there is none."""
    path = out / HISTORY
    return History.from_json(json.loads(path.read_text())) if path.is_file() else None


def load_weights(model: torch.nn.Module, out: Path) -> None:
    """Put the weights of OUT into a model of the same shape.

    Raises:
        SystemExit: they are not those that ``stretch.json`` speaks of, or of another shape.
    """
    expected = json.loads((out / HISTORY).read_text())["sha256"]
    if _sha256(out / WEIGHTS) != expected:
        raise SystemExit(f"{out / WEIGHTS} is not the file that {HISTORY} speaks of")
    tensors, parameters = load_file(out / WEIGHTS), dict(model.named_parameters())
    if {n: t.shape for n, t in tensors.items()} != {n: p.shape for n, p in parameters.items()}:
        raise SystemExit(f"{out} holds a model of another shape than CONFIG")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _config(model: torch.nn.Module) -> dict[str, Any]:
    """Only what describes the architecture; no paths, nothing of this process."""
    config = model.config.to_diff_dict()
    for name in ("_name_or_path", "use_cache", "dtype"):
        config.pop(name, None)
    return {**config, "architectures": [type(model).__name__], "dtype": "bfloat16"}


def _write(path: Path, value: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(part, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
