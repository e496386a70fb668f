"""A saved model directory must answer alike in fettle, in stock transformers and in stock peft."""

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from tests.tiny_models import tiny_model, tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError, IntegrityError
from fettle.inference.generate import generate, stream
from fettle.models.adapters import apply_lora
from fettle.models.forward import class_logits
from fettle.models.load import find_base, load_for_task
from fettle.models.machine import seed_everything
from fettle.models.quiet import quiet
from fettle.models.save import LoadedModel, load_saved, save_model, weights_sha256
from fettle.recipe.recipe import BaseSection
from fettle.records.facts import BaseFacts
from fettle.records.tokens import Batch, TokenizedExample

LABELS = ("cancel", "refund", "shipping")
TEXTS = ("where is my order", "I want my money back, please", "stop it")
TEMPLATE = (
    "{% for message in messages %}{{ '<s>' + message['role'] + ': ' + message['content'] "
    "+ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant: ' }}{% endif %}"
)
METHODS = ("full", "lora")
KINDS = ("encoder", "decoder")


def silent(line: str) -> None:
    pass


def train_a_little(model: torch.nn.Module) -> None:
    """Move every trainable weight, so that nothing is at its initial value."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def make_run(
    root: Path, base: Path, task: str, method: str, labels: tuple[str, ...] = LABELS
) -> tuple[torch.nn.Module, Tokenizer, BaseFacts, Path]:
    facts = find_base(BaseSection(id=str(base)), silent)
    tokenizer = Tokenizer.load(facts.path)
    seed_everything(0)
    names = labels if task == "classify" else ()
    model: torch.nn.Module = load_for_task(facts, task, names, tokenizer.pad_id)
    if method == "lora":
        model = apply_lora(model, task, 4, 8.0, 0.0, None, facts)
    train_a_little(model)
    root.mkdir(parents=True, exist_ok=True)
    (root / "recipe.yaml").write_text("schema: 1\n", encoding="utf-8")
    meta = {
        "task": task,
        "labels": list(names),
        "base": {"id": facts.id, "revision": facts.revision, "sha256": facts.sha256},
        "method": method,
        "stop_ids": [3] if task == "chat" else [],
    }
    template = TEMPLATE if task == "chat" else None
    save_model(model, root / "model", tokenizer, template, meta)
    return model.eval(), tokenizer, facts, root / "model"


def base_directory(root: Path, kind: str) -> Path:
    tokenizer = tiny_tokenizer(root / f"tokenizer-{kind}", lower=kind == "encoder")
    return tiny_model(root / f"base-{kind}", kind, tokenizer)


def batch_of(tokenizer: Tokenizer) -> Batch:
    return Batch(
        tuple(
            TokenizedExample(text, tuple(tokenizer.encode(text, add_special_tokens=True)), label=0)
            for text in TEXTS
        )
    )


def all_logits(model: torch.nn.Module, tokenizer: Tokenizer) -> torch.Tensor:
    with torch.inference_mode():
        return class_logits(model, batch_of(tokenizer), tokenizer.pad_id)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_classifier(tmp_path: Path, kind: str, method: str) -> None:
    base = base_directory(tmp_path, kind)
    model, tokenizer, _, directory = make_run(tmp_path / "run", base, "classify", method)
    expected = all_logits(model, tokenizer)
    loaded = load_saved(directory)
    assert isinstance(loaded, LoadedModel)
    assert torch.equal(all_logits(loaded.model, loaded.tokenizer), expected)
    assert loaded.meta["labels"] == list(LABELS)
    assert loaded.meta["schema"] == 1
    assert loaded.template is None

    with quiet():
        if method == "full":
            stock = AutoModelForSequenceClassification.from_pretrained(directory)
        else:
            stock = AutoPeftModelForSequenceClassification.from_pretrained(
                str(directory), num_labels=len(LABELS)
            )
            stock.config.pad_token_id = tokenizer.pad_id
    stock_tokenizer = AutoTokenizer.from_pretrained(directory)
    inputs = stock_tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        logits = stock.eval()(**inputs).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    names = json.loads((directory / "config.json").read_text(encoding="utf-8"))["id2label"]
    assert names == {"0": "cancel", "1": "refund", "2": "shipping"}


@pytest.mark.parametrize("method", METHODS)
def test_chat_model(tmp_path: Path, method: str) -> None:
    base = base_directory(tmp_path, "decoder")
    model, _, _, directory = make_run(tmp_path / "run", base, "chat", method)
    messages = [{"role": "user", "content": "hello"}]
    loaded = load_saved(directory)
    assert loaded.template is not None
    stock_tokenizer = AutoTokenizer.from_pretrained(directory)
    prompt = stock_tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert stock_tokenizer.decode(prompt) == "<s>user: hello<|end|><s>assistant: "

    with quiet():
        auto = AutoModelForCausalLM if method == "full" else AutoPeftModelForCausalLM
        stock = auto.from_pretrained(str(directory)).eval()
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        expected = stock(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-5, rtol=0)
        assert torch.equal(loaded.model(input_ids=ids).logits, model(input_ids=ids).logits)
        text = stock.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=[3],
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
    answer = generate(loaded.model, [prompt], 20, {3}, 0)[0]
    assert answer == (text[:-1] if text[-1] == 3 else text)
    assert list(stream(loaded.model, prompt, 20, {3}, 0)) == answer
    generation = json.loads((directory / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == [3]


@pytest.mark.parametrize("method", METHODS)
def test_an_earlier_run_is_a_base(tmp_path: Path, method: str) -> None:
    base = base_directory(tmp_path, "encoder")
    first, tokenizer, _, _ = make_run(tmp_path / "first", base, "classify", method)
    expected = all_logits(first, tokenizer)
    facts = find_base(BaseSection(id=str(tmp_path / "first")), silent)
    assert facts.incumbent_run == str(tmp_path / "first")
    same = load_for_task(facts, "classify", LABELS, tokenizer.pad_id)
    torch.testing.assert_close(all_logits(same, tokenizer), expected, atol=1e-5, rtol=0)

    # Other labels of the same number: the old head must not be taken for theirs.
    seed_everything(5)
    other = load_for_task(facts, "classify", ("x", "y", "z"), tokenizer.pad_id)
    assert not torch.allclose(other.classifier.weight, same.classifier.weight)
    assert torch.equal(
        other.bert.embeddings.word_embeddings.weight, same.bert.embeddings.word_embeddings.weight
    )
    more = load_for_task(facts, "classify", (*LABELS, "d"), tokenizer.pad_id)
    assert more.classifier.weight.shape[0] == 4

    # A second run on top of the first, saved and read back by stock peft as well.
    again = ("p", "q")
    second, _, _, directory = make_run(
        tmp_path / "second", tmp_path / "first", "classify", "lora", again
    )
    expected = all_logits(second, tokenizer)
    assert torch.equal(all_logits(load_saved(directory).model, tokenizer), expected)
    with quiet():
        stock = AutoPeftModelForSequenceClassification.from_pretrained(
            str(directory), num_labels=2, ignore_mismatched_sizes=True
        ).eval()
    torch.testing.assert_close(all_logits(stock, tokenizer), expected, atol=1e-5, rtol=0)
    # The merged copy is made once.
    said: list[str] = []
    find_base(BaseSection(id=str(tmp_path / "first")), said.append)
    assert said == []


def test_a_changed_base_is_noticed(tmp_path: Path) -> None:
    base = base_directory(tmp_path, "decoder")
    _, _, _, directory = make_run(tmp_path / "run", base, "chat", "lora")
    before = weights_sha256(directory)
    tiny_model(base, "decoder")
    weights = base / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        load_saved(directory)
    assert caught.value.code == "E0911"
    assert weights_sha256(directory) == before


def test_a_run_without_a_model_and_a_lone_adapter_are_refused(tmp_path: Path) -> None:
    base = base_directory(tmp_path, "decoder")
    _, _, _, directory = make_run(tmp_path / "run", base, "chat", "lora")
    lone = tmp_path / "lone"
    directory.rename(lone)
    for id, hint in ((tmp_path / "run", "fettle resume"), (lone, "merge it first")):
        with pytest.raises(BaseModelError) as caught:
            find_base(BaseSection(id=str(id)), silent)
        assert caught.value.code == "E0515"
        assert hint in caught.value.hint
