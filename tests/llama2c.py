"""Convert a llama2.c "version 0" checkpoint into a directory in Hugging Face format.

In: the .bin file and its tokenizer (llama2.c's .bin or a sentencepiece .model). Out: config.json,
model.safetensors, tokenizer.json, tokenizer_config.json. Format: karpathy/llama2.c, run.c.
"""

import json
import struct
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM

from fettle.models.quiet import quiet

Piece = tuple[str, float]
SPECIAL = ("<unk>", "<s>", "</s>")


def convert(weights: Path, tokenizer: Path, directory: Path) -> Path:
    """Write the converted model; every float of the file is used."""
    pieces = read_pieces(tokenizer)
    model = read_model(weights)
    assert model.config.vocab_size == len(pieces)
    directory.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(directory)
    build_tokenizer(pieces).save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def read_model(path: Path) -> LlamaForCausalLM:
    """The weights as a transformers Llama in float32."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack("<7i", data[:28])
    assert vocab > 0, "a negative vocabulary marks an untied output head"
    head = dim // heads
    floats = np.frombuffer(data, dtype="<f4", offset=28)
    place = 0

    def take(*shape: int) -> NDArray[np.float32]:
        nonlocal place
        count = int(np.prod(shape))
        part = floats[place : place + count].reshape(shape)
        place += count
        return part

    tensors = {"model.embed_tokens.weight": take(vocab, dim)}
    stacks = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": _to_halves(take(layers, dim, dim), heads),
        "self_attn.k_proj": _to_halves(take(layers, kv_heads * head, dim), kv_heads),
        "self_attn.v_proj": take(layers, kv_heads * head, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    for name, stack in stacks.items():
        for layer in range(layers):
            tensors[f"model.layers.{layer}.{name}.weight"] = stack[layer]
    tensors["model.norm.weight"] = take(dim)
    take(2, length, head // 2)  # cosines and sines, which transformers computes
    assert place == len(floats), "the file has more floats than the format says"
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()
    return model


def _to_halves(stack_LOI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder rows: llama2.c rotates the pairs (0, 1), (2, 3), ...; transformers (i, i + half)."""
    layers, out, inner = stack_LOI.shape
    pairs = stack_LOI.reshape(layers, heads, out // heads // 2, 2, inner)
    return pairs.swapaxes(2, 3).reshape(layers, out, inner)


def read_pieces(path: Path) -> list[Piece]:
    """Pieces with scores, by id, a space spelt U+2581."""
    if path.suffix == ".model":
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        return [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    data = path.read_bytes()
    place, pieces = 4, []  # the first number is the longest piece's length
    while place < len(data):
        score, length = struct.unpack_from("<fi", data, place)
        text = data[place + 8 : place + 8 + length].decode("utf-8")
        pieces.append((text, score))
        place += 8 + length
    # The exporter wrote spaces for U+2581 and dressed the special pieces up.
    named = [(name, 0.0) for name in SPECIAL]
    spelt = [(text.replace(" ", "▁"), score) for text, score in pieces[len(SPECIAL) :]]
    return named + spelt


def build_tokenizer(pieces: list[Piece]) -> Tokenizer:
    """A sentencepiece BPE as tokenizers has it: merges in the order of the merged piece's score."""
    vocab = {text: index for index, (text, _) in enumerate(pieces)}
    merges = []
    for text, score in pieces:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocab and right in vocab:
                merges.append((-score, vocab[left], vocab[right], left, right))
    byte_fallback = "<0x0A>" in vocab
    backend = Tokenizer(
        BPE(
            vocab=vocab,
            merges=[(left, right) for *_, left, right in sorted(merges)],
            unk_token="<unk>",
            byte_fallback=byte_fallback,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return backend
