"""Bases whose tokenizer, embedding, output head and config.json tell of different vocabularies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny_models import tiny_tokenizer, write_tiny_base

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.vocabulary import check_vocabulary
from fettle.records.facts import BaseFacts

TOKENS = 260
"""The toy tokenizer's ids are 0 to 259."""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Tensors = dict[str, torch.Tensor]


def make(directory: Path, rows: int = TOKENS, **config: Any) -> Path:
    return write_tiny_base(tiny_tokenizer(directory), "llama", rows, **config)


def change_weights(base: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(base / "model.safetensors")
    change(tensors)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def change_config(base: Path, **changes: Any) -> None:
    path = base / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")


def facts_of(base: Path) -> BaseFacts:
    return inspect_base(base, "toy")


def add_token(base: Path, content: str, special: bool) -> None:
    path = base / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    token = {"id": TOKENS, "content": content, "special": special, **flags}
    document["added_tokens"].append(token)
    path.write_text(json.dumps(document), encoding="utf-8")


def refuse_vocabulary(base: Path, template: str | None = None) -> BaseModelError:
    with pytest.raises(BaseModelError) as caught:
        check_vocabulary(Tokenizer.load(base), facts_of(base), template)
    assert (caught.value.code, caught.value.exit_code) == ("E0538", 2)
    return caught.value


def refuse_base(base: Path, code: str) -> BaseModelError:
    with pytest.raises(BaseModelError) as caught:
        facts_of(base)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    return caught.value


def test_more_ids_than_rows(tmp_path: Path) -> None:
    error = refuse_vocabulary(make(tmp_path, rows=250))
    assert "ids up to 259" in error.message
    assert "250 rows" in error.message
    assert error.why.startswith("10 tokens have no row")


def test_as_many_or_more_rows_are_fine(tmp_path: Path) -> None:
    for rows in (TOKENS, TOKENS + 4):
        base = make(tmp_path / str(rows), rows=rows)
        check_vocabulary(Tokenizer.load(base), facts_of(base), None)


def test_an_added_token_without_a_row(tmp_path: Path) -> None:
    base = make(tmp_path)
    add_token(base, "<new>", special=False)
    error = refuse_vocabulary(base)
    assert "ids up to 260" in error.message
    assert "'<new>' with the id 260" in error.why
    assert "resize_token_embeddings" in error.hint


def test_a_special_token_that_no_text_leads_to_is_let_through(tmp_path: Path) -> None:
    base = make(tmp_path)
    add_token(base, "<image>", special=True)
    check_vocabulary(Tokenizer.load(base), facts_of(base), None)
    check_vocabulary(Tokenizer.load(base), facts_of(base), "{{ messages }}")
    # As text it is spelled in pieces.
    ids = Tokenizer.load(base).encode_plain("an <image> of it")
    assert max(ids) < TOKENS
    refuse_vocabulary(base, "{{ '<image>' }}{{ messages }}")
    config = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["eos_token"] = "<image>"
    (base / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    refuse_vocabulary(base)


def test_a_token_named_in_the_config_only(tmp_path: Path) -> None:
    base = make(tmp_path)
    config = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["pad_token"] = "<fill>"  # transformers adds it, with the next id
    (base / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "'<fill>' with the id 260" in refuse_vocabulary(base).why


def test_a_resized_embedding_beside_an_old_config(tmp_path: Path) -> None:
    def more(tensors: Tensors) -> None:
        for name in (EMBEDDING, HEAD):
            tensors[name] = torch.cat([tensors[name], torch.zeros(4, 32)])

    base = make(tmp_path)
    change_weights(base, more)
    error = refuse_base(base, "E0514")
    assert "264 rows" in error.message
    assert "vocab_size = 260" in error.message


@pytest.mark.parametrize("tied", [False, True])
def test_a_resized_embedding_beside_an_old_head(tmp_path: Path, tied: bool) -> None:
    base = make(tmp_path)
    change_weights(base, lambda tensors: tensors.update({HEAD: tensors[HEAD][:250].clone()}))
    change_config(base, tie_word_embeddings=tied)
    error = refuse_base(base, "E0514")
    assert "250 rows" in error.message
    assert "260" in error.message


def test_two_matrices_that_are_called_one(tmp_path: Path) -> None:
    base = make(tmp_path)
    change_config(base, tie_word_embeddings=True)
    error = refuse_base(base, "E0536")
    assert "260 of their 260 rows differ" in error.message
    # Only the rows that were added later may differ.
    change_weights(base, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].clone()}))
    change_weights(base, lambda tensors: tensors[HEAD][7].add_(1))
    assert "1 of their 260 rows differ" in refuse_base(base, "E0536").message


def test_one_matrix_that_is_stored_twice_is_one(tmp_path: Path) -> None:
    base = make(tmp_path)
    change_weights(base, lambda tensors: tensors.update({HEAD: tensors[EMBEDDING].clone()}))
    change_config(base, tie_word_embeddings=True)
    model = load_for_task(facts_of(base), "chat", (), 0)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_half_precision_matrices_are_compared_too(tmp_path: Path) -> None:
    base = make(tmp_path)
    change_weights(
        base, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()})
    )
    change_config(base, tie_word_embeddings=True, dtype="bfloat16")
    refuse_base(base, "E0536")


def test_an_untied_base_without_its_head(tmp_path: Path) -> None:
    base = make(tmp_path, tie_word_embeddings=True)
    change_config(base, tie_word_embeddings=False)
    with pytest.raises(BaseModelError) as caught:
        load_for_task(facts_of(base), "chat", (), 0)
    assert caught.value.code == "E0514"
    assert "lm_head.weight" in caught.value.message
