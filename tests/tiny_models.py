"""Toy models for tests: two random layers, written to disk as a real base would be."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, PreTrainedConfig

from fettle.models.catalog import ARCHITECTURES
from fettle.models.quiet import quiet

_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # large, so that a wrong mask or position shows in the outputs
}
# Names and values that differ from _COMMON.
_SPECIAL: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "camembert": {"max_position_embeddings": 130},
    "cohere": {"logit_scale": 0.25},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    "electra": {"embedding_size": 16},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "granite": {"logits_scaling": 4.0},
    "modernbert": {"local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
    "mpnet": {"max_position_embeddings": 130},
    "qwen3": {"head_dim": 8},
    "roberta": {"max_position_embeddings": 130},
    "smollm3": {"no_rope_layers": [1, 0]},
    "xlm-roberta": {"max_position_embeddings": 130},
}


def tiny_config(
    model_type: str, vocab_size: int, pad_id: int = 0, **changes: Any
) -> PreTrainedConfig:
    """A two-layer config of any architecture in the catalog."""
    config_class = CONFIG_MAPPING[model_type]
    declared = {*config_class().to_dict(), *config_class.attribute_map}
    values = {key: value for key, value in _COMMON.items() if key in declared}
    values |= _SPECIAL.get(model_type, {})
    ids = {"pad_token_id": pad_id, "bos_token_id": 1, "eos_token_id": 2}
    return config_class(**{**values, "vocab_size": vocab_size, **ids, **changes})


def write_tiny_base(
    directory: Path, model_type: str, vocab_size: int, seed: int = 0, **changes: Any
) -> Path:
    """Write random weights and config.json of a toy model (no tokenizer)."""
    torch.manual_seed(seed)
    config = tiny_config(model_type, vocab_size, **changes)
    auto = AutoModelForCausalLM if ARCHITECTURES[model_type].kind == "decoder" else AutoModel
    with quiet():
        auto.from_config(config).save_pretrained(directory)
    return directory


def tiny_model(directory: Path, kind: str = "decoder", tokenizer: Path | None = None) -> Path:
    """Write a toy Llama (decoder) or BERT (encoder) for the tokenizer of a directory.

    Args:
        directory: gets config.json and model.safetensors, and the tokenizer's files.
        kind: decoder or encoder.
        tokenizer: holds tokenizer.json; None = ``directory`` itself.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        for path in tokenizer.iterdir():
            if path.is_file():
                shutil.copy(path, directory / path.name)
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    ids = [*content["model"]["vocab"].values()]
    ids += [token["id"] for token in content["added_tokens"]]
    model_type = "llama" if kind == "decoder" else "bert"
    return write_tiny_base(directory, model_type, max(ids) + 1, initializer_range=0.1)


def tiny_tokenizer(directory: Path, lower: bool = False) -> Path:
    """Write a byte-level tokenizer as Hugging Face stores it: 256 bytes and four special tokens."""
    directory.mkdir(parents=True, exist_ok=True)
    special = ["<pad>", "<s>", "</s>", "<|end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*special, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    if lower:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    backend.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory
