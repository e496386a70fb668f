"""A base model from its files alone: is it safe, complete and of a known kind?

In: a directory in Hugging Face format. Out: ``BaseFacts`` and a checked transformers config. Only
config.json, the safetensors headers and small text files are read; weights are hashed, never
loaded. Must not know: hubs, tasks, how a model is built.

config.json is foreign input: it may come from anywhere and has been used to run code (transformers
CVE-2026-4372: a private key named a hub kernel). Nothing of it reaches transformers but keys that
the configuration class itself declares, of a size that a model can have.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING, PreTrainedConfig

from fettle.chat.tokenizer import COPIED_FILES
from fettle.errors import BaseModelError
from fettle.models.catalog import ARCHITECTURES, DROPOUTS
from fettle.models.quiet import quiet
from fettle.records.facts import BaseFacts

MAX_JSON_BYTES = 4_000_000

# Written by transformers itself and without effect on what is built: dropped.
_HARMLESS_PRIVATE = {
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
}
# Declared by a configuration class itself (Gemma 3): kept.
_DECLARED_PRIVATE = {"_sliding_window_pattern"}
_REFUSED = {"auto_map", "trust_remote_code", "custom_pipelines", "quantization_config"}
# Older spellings that transformers still turns into declared keys.
_OLD_SPELLINGS = {"rope_theta", "rope_scaling", "partial_rotary_factor", "torch_dtype"}
# Chosen by fettle, never by a file.
_OURS = {"dtype", "torch_dtype", "attn_implementation", "use_cache", "transformers_version"}

_BLOCK = re.compile(r"\.\d+\.")
_EMBEDDINGS = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$"
)
_OUTPUT_HEADS = ("lm_head.weight", "embed_out.weight")

_LIMITS = {
    "num_hidden_layers": 1_000,
    "hidden_size": 131_072,
    "intermediate_size": 1_048_576,
    "vocab_size": 4_194_304,
    "num_attention_heads": 4_096,
    "num_key_value_heads": 4_096,
    "head_dim": 16_384,
    "max_position_embeddings": 134_217_728,
    "embedding_size": 131_072,
}


@dataclass(frozen=True, slots=True)
class WeightHeader:
    """What the safetensors headers say."""

    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def num_parameters(self) -> int:
        """Sum of the tensors' sizes."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def num_bytes(self) -> int:
        """Size of the weight files."""
        return sum(path.stat().st_size for path in self.files)


def inspect_base(directory: Path, id: str, revision: str | None = None) -> BaseFacts:
    """Check a model directory and state its facts.

    Args:
        directory: holds config.json, tokenizer.json and safetensors weights.
        id: as the user named the base; goes into messages and facts.
        revision: commit of a hub repository.

    Returns:
        The facts; sha256 is over the names and bytes of the weight files.

    Raises:
        BaseModelError: E0502 to E0509; E0514, E0536, embedding and output head do not agree with
            config.json; E0515, an adapter; E0560, no tokenizer.json.
    """
    # transformers would follow this file to yet another model.
    if (directory / "adapter_config.json").is_file():
        raise BaseModelError(
            "E0515",
            f"{id} holds an adapter, not a whole model",
            hint="merge it first with peft: AutoPeftModelForCausalLM.from_pretrained(DIR)"
            ".merge_and_unload().save_pretrained(NEW_DIR), and copy the tokenizer files there",
        )
    config = read_config(directory)
    header = read_weight_header(directory)
    _check_embeddings(config, header, directory)
    if not (directory / "tokenizer.json").is_file():
        raise BaseModelError(
            "E0560",
            f"the base {id} has no tokenizer.json",
            where=str(directory),
            hint="write one with transformers:"
            " AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    return BaseFacts(
        id=id,
        path=str(directory),
        revision=revision,
        sha256=hash_files(header.files),
        kind=ARCHITECTURES[config.model_type].kind,
        architecture=config.model_type,
        num_parameters=header.num_parameters,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        context_length=context_length(config),
        has_chat_template=_has_chat_template(directory),
        licence=_licence(directory),
        weight_bytes=header.num_bytes,
        packs=ARCHITECTURES[config.model_type].packing is not None,
        dropout=", ".join(
            f"{name} {getattr(config, name):g}" for name in DROPOUTS if getattr(config, name, 0)
        ),
        narrowest=min(
            (
                min(shape)
                for name, shape in header.shapes.items()
                if len(shape) == 2 and _BLOCK.search(name)
            ),
            default=None,
        ),
    )


def read_config(directory: Path) -> PreTrainedConfig:
    """Read config.json through the allow-list of keys, types, sizes and architectures.

    Raises:
        BaseModelError: E0502 no config, E0503 an unsafe key, E0504 an unknown architecture, E0505 a
            value that no model has.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise BaseModelError(
            "E0502",
            f"{directory} has no config.json",
            why="A base is a directory in Hugging Face format:"
            " config.json, tokenizer.json and *.safetensors",
            hint="name such a directory, a hub id, an earlier run, or --base starter",
        )
    raw = _read_json_object(path)
    _refuse_unsafe(raw, path)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise BaseModelError(
            "E0504",
            f"the architecture {str(model_type)[:80]!r} is not supported",
            where=str(path),
            hint="use a base of one of these types: " + ", ".join(sorted(ARCHITECTURES)),
        )
    config_class = CONFIG_MAPPING[model_type]
    aliases = dict(config_class.attribute_map)
    known = {*config_class().to_dict(), *aliases, *aliases.values(), *_OLD_SPELLINGS}
    known -= _OURS | _HARMLESS_PRIVATE
    kept = {key: value for key, value in raw.items() if key in known}
    for key, limit in _LIMITS.items():
        value = kept.get(aliases.get(key, key), kept.get(key))
        if value is not None and not (type(value) is int and 1 <= value <= limit):
            raise _unfit(path, f"{key} is {str(value)[:40]}, but must be from 1 to {limit}")
    try:
        with quiet():
            config = config_class.from_dict(kept)
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise _unfit(path, f"{model_type} can't be built from it ({reason})") from error
    if config.is_encoder_decoder or getattr(config, "add_cross_attention", False):
        raise _unfit(path, "it is an encoder-decoder model, which fettle does not train")
    return config


def context_length(config: PreTrainedConfig) -> int:
    """Longest input in tokens."""
    # RoBERTa and its kin count positions from pad_token_id + 1.
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        return config.max_position_embeddings - (config.pad_token_id or 0) - 1
    return config.max_position_embeddings


def read_weight_header(directory: Path) -> WeightHeader:
    """Names and shapes of all tensors, from the headers of the safetensors files.

    Raises:
        BaseModelError: E0506 no weights, E0507 pickle weights only, E0509 a damaged weight file.
    """
    index = directory / "model.safetensors.index.json"
    single = directory / "model.safetensors"
    if single.is_file():
        files: tuple[Path, ...] = (single,)
    elif index.is_file():
        files = _indexed_files(index)
    else:
        pickled = sorted(
            path.name
            for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
            for path in directory.glob(pattern)
        )
        if pickled:
            raise BaseModelError(
                "E0507",
                f"{directory} holds its weights as pickle only ({pickled[0]})",
                why="Reading a pickle can run any code, so fettle never does",
                hint="on a machine where you trust the file, convert it once with transformers:"
                " AutoModel.from_pretrained(DIR).save_pretrained(NEW_DIR) (writes safetensors),"
                " or take a revision of the repository that has model.safetensors",
            )
        raise BaseModelError(
            "E0506",
            f"{directory} has no weights",
            why="Neither model.safetensors nor model.safetensors.index.json is there",
            hint="name a directory with safetensors weights, a hub id, or --base starter",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as handle:
                for name in handle.keys():  # noqa: SIM118 (safe_open is no mapping)
                    shapes[name] = tuple(handle.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise BaseModelError(
                "E0509",
                f"{path} can't be read: {error}",
                hint="copy or download the file again",
            ) from error
    return WeightHeader(files, shapes)


def _check_embeddings(config: PreTrainedConfig, header: WeightHeader, directory: Path) -> None:
    """Embedding, output head and config.json must tell of one vocabulary.

    A resized embedding beside an old head or config, and two different matrices that config.json
    calls one, load without a word in some library or other; which model was meant is not known.
    """
    embedding = next((name for name in header.shapes if _EMBEDDINGS.search(name)), None)
    if embedding is None:
        return  # found missing when the model is built
    rows = header.shapes[embedding][0]
    if rows != config.vocab_size:
        raise BaseModelError(
            "E0514",
            f"the embedding {embedding} has {rows:,} rows, and config.json says vocab_size ="
            f" {config.vocab_size:,}",
            where=str(directory),
            hint="take both from the same place; after resizing, save the model as a whole",
        )
    head = next((name for name in _OUTPUT_HEADS if name in header.shapes), None)
    if head is None or ARCHITECTURES[config.model_type].kind == "encoder":
        return
    head_rows = header.shapes[head][0]
    if head_rows != rows:
        raise BaseModelError(
            "E0514",
            f"the output head {head} has {head_rows:,} rows, and the embedding has {rows:,}",
            where=str(directory),
            why="One of the two was resized without the other",
            hint="resize with transformers' resize_token_embeddings, and save the whole model",
        )
    if not config.tie_word_embeddings:
        return
    differing = _differing_rows(header, embedding, head)
    if differing:
        raise BaseModelError(
            "E0536",
            f"config.json says that {head} and {embedding} are one matrix, but {differing:,} of"
            f" their {rows:,} rows differ",
            where=str(directory),
            why="Whichever of the two were taken, it could be the wrong one",
            hint='set "tie_word_embeddings": false in a copy to use both, or remove the one that is'
            " not meant",
        )


def _differing_rows(header: WeightHeader, first: str, second: str, step: int = 8192) -> int:
    """In how many rows two matrices of the files differ, a few rows in memory at a time."""
    with ExitStack() as stack:
        # torch, since numpy has no bfloat16.
        handles = [stack.enter_context(safe_open(path, framework="pt")) for path in header.files]
        parts = []
        for name in (first, second):
            handle = next(item for item in handles if name in item.keys())  # noqa: SIM118
            parts.append(handle.get_slice(name))
        total = header.shapes[first][0]
        return sum(
            int((parts[0][at : at + step] != parts[1][at : at + step]).any(dim=1).sum())
            for at in range(0, total, step)
        )


def hash_files(files: tuple[Path, ...]) -> str:
    """SHA-256 over the names and bytes of files, in order of name."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda item: item.name):
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        total.update(f"{path.name} {digest}\n".encode())
    return total.hexdigest()


def described_by(directory: Path) -> tuple[Path, ...]:
    """The files beside the weights that decide how a base is used: config, tokenizer, template."""
    names = ("config.json", *COPIED_FILES)
    return tuple(directory / name for name in names if (directory / name).is_file())


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise _unfit(path, f"it is larger than {MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unfit(path, f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _unfit(path, "it is not a JSON object")
    return value


def _refuse_unsafe(raw: Mapping[str, Any], path: Path) -> None:
    for key, value in raw.items():
        private = key.startswith("_") and key not in _HARMLESS_PRIVATE | _DECLARED_PRIVATE
        # A slash in an attention name is a hub kernel: code that would be downloaded and run.
        kernel = "attn_implementation" in key and "/" in str(value)
        if private or kernel or (key in _REFUSED and value):
            why = (
                "Quantized weights can't be trained"
                if key == "quantization_config"
                else "Such keys make libraries load code that is not theirs"
            )
            raise BaseModelError(
                "E0503",
                f"config.json has the key {key!r}, which fettle refuses",
                where=str(path),
                why=why,
                hint="use the base's plain transformers version, without custom code or"
                " quantization; if you are sure that the key is not needed, remove it from a copy",
            )
        if isinstance(value, Mapping):
            _refuse_unsafe(value, path)


def _indexed_files(index: Path) -> tuple[Path, ...]:
    weight_map = _read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _unfit(index, "it has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if not re.fullmatch(r"[\w.\-]+\.safetensors", name) or not (index.parent / name).is_file():
            raise BaseModelError(
                "E0506",
                f"{index.name} names the weight file {name!r}, which is not in {index.parent}",
                hint="copy or download all files of the base again",
            )
    return tuple(index.parent / name for name in names)


def _has_chat_template(directory: Path) -> bool:
    if any((directory / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    path = directory / "tokenizer_config.json"
    return path.is_file() and bool(_read_json_object(path).get("chat_template"))


def _licence(directory: Path) -> str | None:
    card = directory / "README.md"
    if card.is_file():
        with card.open(encoding="utf-8", errors="replace") as handle:
            text = handle.read(65_536)
        match = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
        if match:
            try:
                front = yaml.safe_load(match.group(1))
            except yaml.YAMLError:
                front = None  # a broken card says nothing about the licence
            if isinstance(front, dict) and front.get("license"):
                named = front.get("license_name") if front["license"] == "other" else None
                return str(named or front["license"])
    for path in sorted(directory.glob("LICENSE*")):
        with path.open(encoding="utf-8", errors="replace") as handle:
            lines = [line.strip() for line in handle.read(2_000).splitlines() if line.strip()]
        if lines:
            return lines[0][:80]
    return None


def _unfit(path: Path, what: str) -> BaseModelError:
    return BaseModelError(
        "E0505",
        f"{path.name} of the base can't be used: {what}",
        where=str(path),
        hint="take the base's own files from where they were published",
    )
