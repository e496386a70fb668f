"""What each method trains, counted from shapes, and settings that no base can take."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import tiny_tokenizer, write_tiny_base
from tests.train_fixture import BASE, MACHINE, data_facts

from fettle.errors import RecipeError
from fettle.models.adapters import apply_lora, apply_method, count_parameters
from fettle.models.catalog import ARCHITECTURES
from fettle.models.check_method import check_method
from fettle.models.forward import class_logits, token_losses
from fettle.models.inspect_base import inspect_base
from fettle.models.last_blocks import find_blocks
from fettle.models.load import build_empty, load_for_task
from fettle.models.targets import body_linears, find_targets, matched, sides
from fettle.recipe.load import load_recipe
from fettle.recipe.recipe import MethodSection
from fettle.recipe.resolve import Settings, resolve
from fettle.records.facts import BaseFacts
from fettle.records.tokens import Batch, TokenizedExample

VOCAB, LABELS = 260, ("a", "b", "c")
ROWS = Batch((TokenizedExample("x", (5, 41, 7, 200, 9), (0, 0, 1, 1, 1), label=1),))


def facts_of(directory: Path, family: str, **changes: Any) -> BaseFacts:
    base = write_tiny_base(tiny_tokenizer(directory / family), family, VOCAB, **changes)
    return inspect_base(base, str(base))


def task_of(facts: BaseFacts) -> str:
    return "classify" if ARCHITECTURES[facts.architecture].kind == "encoder" else "chat"


def loaded(facts: BaseFacts, task: str | None = None) -> Any:
    task = task or task_of(facts)
    return load_for_task(facts, task, LABELS if task == "classify" else (), 0)


def settings(**method: Any) -> Settings:
    recipe = load_recipe({"data": {"path": ["x"]}, "method": method})
    return resolve(recipe, data_facts(), BASE, MACHINE, "loss")


def trained(model: torch.nn.Module) -> dict[str, int]:
    return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}


def gradients(model: torch.nn.Module, task: str) -> dict[str, torch.Tensor | None]:
    """Of every parameter, after the loss of one row."""
    if task == "classify":
        class_logits(model, ROWS, 0).square().sum().backward()
    else:
        token_losses(model, ROWS, 0)[0].sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_words_for_targets_part_the_linear_layers_of_every_family(
    family: str, tmp_path: Path
) -> None:
    facts = facts_of(tmp_path, family)
    model = build_empty(facts, task_of(facts))
    everything = find_targets(model, task_of(facts), None, "toy")
    attention = find_targets(model, task_of(facts), ["attention"], "toy")
    mlp = find_targets(model, task_of(facts), ["mlp"], "toy")
    assert attention
    assert mlp
    assert everything == body_linears(model)
    assert find_targets(model, task_of(facts), ["mlp", "attention"], "toy") == [*mlp, *attention]
    layers = [
        {name for name, _ in matched(model, task_of(facts), words)} for words in (attention, mlp)
    ]
    assert layers[0] | layers[1] == {name for name, _ in matched(model, task_of(facts), everything)}
    assert not layers[0] & layers[1]
    for name in layers[0]:
        assert "attn" in name or "attention" in name, name
    for name in layers[1]:
        assert "attn" not in name, name
        assert ".attention" not in name, name


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "bert"])
def test_lora_counts(tmp_path: Path, family: str, dora: bool) -> None:
    facts = facts_of(tmp_path, family)
    model = loaded(facts)
    task, targets = task_of(facts), find_targets(model, task_of(facts), ["attention"], "toy")
    ranks = {name: 3 for name, _ in matched(model, task, targets)}
    first = next(iter(ranks))
    ranks[first] = 5
    expected = 0
    for name, layer in matched(model, task, targets):
        wide, out = sides(layer)
        # A [r, in], B [out, r]; DoRA's magnitude [out]
        expected += ranks[name] * (wide + out) + (out if dora else 0)
    head = sum(
        p.numel()
        for name, p in model.named_parameters()
        if task == "classify" and ("classifier" in name or "pooler" in name)
    )
    pattern = {first.replace(".", r"\."): 5}
    chosen = settings(
        type="lora", rank=3, dora=dora, target_modules=["attention"], rank_pattern=pattern
    )
    adapted = apply_method(model, task, chosen, facts)
    assert sum(trained(adapted).values()) == expected + head
    assert count_parameters(adapted)[0] == expected + head


def test_full_and_ia3_counts(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "llama")
    model = apply_method(loaded(facts), "chat", settings(type="full"), facts)
    assert count_parameters(model) == (facts.num_parameters, facts.num_parameters)
    model = loaded(facts)
    # One factor for each output of the attention, and for each input of the MLP (Liu et al. 2022).
    # Llama, width 32, MLP 64, key-value width 16; BERT alike, with its attention's output layer.
    adapted = apply_method(model, "chat", settings(type="ia3"), facts)
    assert sum(trained(adapted).values()) == 2 * (32 + 16 + 16 + 32 + 32 + 32 + 64)
    facts = facts_of(tmp_path, "bert")
    adapted = apply_method(loaded(facts), "classify", settings(type="ia3"), facts)
    inside = {name: number for name, number in trained(adapted).items() if "ia3" in name}
    assert sum(inside.values()) == 2 * (4 * 32 + 32 + 64)
    shapes = {name: tuple(p.shape) for name, p in adapted.named_parameters() if "ia3" in name}
    for name, shape in shapes.items():
        # What scales inputs is a row, what scales outputs a column.
        assert shape[0 if "attention" not in name else 1] == 1, name


@pytest.mark.parametrize("family", [name for name in ARCHITECTURES if name != "albert"])
def test_last_n_trains_last_blocks_norm_and_head_only(tmp_path: Path, family: str) -> None:
    facts = facts_of(tmp_path, family)
    task, model = task_of(facts), loaded(facts)
    block = sum(p.numel() for p in find_blocks(model, "toy")[1].parameters())
    assert apply_method(model, task, settings(type="last_n", layers=1), facts) is model
    names = trained(model)
    inside = {name: n for name, n in names.items() if ".1." in name}
    assert sum(inside.values()) == block
    rest = {name for name in names if name not in inside}
    heads = {"classifier", "pooler", "head", "pre_classifier", "score"}
    norms = {"norm", "final_norm", "final_layernorm", "final_layer_norm", "ln_f"}
    for name in rest:
        assert {*name.split(".")} & (heads | norms | {"lm_head"}), name
    if task == "chat":
        assert any({*name.split(".")} & norms for name in rest), "no final norm"
        assert any("lm_head" in name for name in rest) != model.config.tie_word_embeddings
    else:
        assert any({*name.split(".")} & heads for name in rest)
    for name, gradient in gradients(model, task).items():
        if name not in names:
            assert gradient is None, f"{name} is frozen and got a gradient"
        elif "key.bias" not in name and "k_proj.bias" not in name:
            assert gradient is not None, name


def test_last_n_counts_by_formula(tmp_path: Path) -> None:
    """Llama, width H = 32, MLP F = 64, key-value width K = 16."""
    block = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    for tied, head in ((False, VOCAB * 32), (True, 0)):
        facts = facts_of(tmp_path / str(tied), "llama", tie_word_embeddings=tied)
        for layers in (1, 2):
            chosen = settings(type="last_n", layers=layers)
            model = apply_method(loaded(facts), "chat", chosen, facts)
            assert count_parameters(model)[0] == layers * block + 32 + head
    model = loaded(facts, "classify")
    model = apply_method(model, "classify", settings(type="last_n", layers=1), facts)
    assert count_parameters(model)[0] == block + 32 + 32 * len(LABELS)


REFUSED: dict[str, tuple[str, dict[str, Any], str, tuple[str, ...]]] = {
    "no such target": (
        "llama",
        {"type": "lora", "target_modules": ["q_proj", "query"]},
        "E0516",
        ("'query'", "self_attn.q_proj", "attention"),
    ),
    "no such target for ia3": (
        "llama",
        {"type": "ia3", "target_modules": ["qproj"]},
        "E0516",
        ("'qproj'", "self_attn.q_proj"),
    ),
    "a norm is no target": (
        "llama",
        {"type": "lora", "target_modules": ["input_layernorm"]},
        "E0516",
        ("input_layernorm",),
    ),
    "a tied head": (
        "gpt2",
        {"type": "lora", "target_modules": ["lm_head"]},
        "E0516",
        ("lm_head", "embedding"),
    ),
    "a rank above a side": ("llama", {"rank": 17}, "E0530", ("17", "16", "k_proj")),
    "a pattern above a side": (
        "llama",
        {"rank": 4, "rank_pattern": {"v_proj": 20}},
        "E0530",
        ("20", "16", "v_proj"),
    ),
    "a pattern for nothing": (
        "llama",
        {"rank": 4, "rank_pattern": {"query": 2}},
        "E0531",
        ("query", "q_proj"),
    ),
    "a pattern that is none": ("llama", {"alpha_pattern": {"(": 2.0}}, "E0531", ("'('",)),
    "too many blocks": ("bert", {"type": "last_n", "layers": 3}, "E0532", ("3", "2 blocks")),
    "blocks that are one": ("albert", {"type": "last_n", "layers": 1}, "E0533", ("albert",)),
    "unknown option": ("llama", {"type": "vera", "options": {"rank": 3}}, "E0534", ("rank",)),
    "no head": ("bert", {"type": "trainable_tokens"}, "E0535", ("trainable_tokens",)),
}


@pytest.mark.parametrize(("family", "method", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_is_read_and_again_on_the_weights(
    tmp_path: Path, family: str, method: dict[str, Any], code: str, words: tuple[str, ...]
) -> None:
    facts = facts_of(tmp_path, family)
    with pytest.raises(RecipeError) as early:
        check_method(MethodSection(**method), facts, task_of(facts))
    with pytest.raises(RecipeError) as late:
        apply_method(loaded(facts), task_of(facts), settings(**method), facts)
    for caught in (early, late):
        assert (caught.value.code, caught.value.exit_code) == (code, 2)
        for word in words:
            assert word in str(caught.value)
    assert early.value.message == late.value.message


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_what_is_possible_passes_the_early_check(tmp_path: Path, family: str) -> None:
    facts = facts_of(tmp_path, family)
    assert facts.narrowest == min(
        min(sides(layer))
        for _, layer in matched(loaded(facts), "text", body_linears(loaded(facts)))
    )
    methods: list[dict[str, Any]] = [
        {},
        {"type": "full"},
        {"rank": facts.narrowest},
        {"type": "lora", "target_modules": ["attention", *body_linears(loaded(facts))[:1]]},
        {"type": "ia3"},
    ]
    if family != "albert":
        methods.append({"type": "last_n", "layers": 2})
    for method in methods:
        check_method(MethodSection(**method), facts, task_of(facts))


def test_a_rank_that_fettle_chooses_fits_the_base(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "llama")
    recipe = load_recipe({"data": {"path": ["x"]}, "method": {"type": "lora"}})
    data = data_facts("chat", target_tokens=10**6)
    chosen = resolve(recipe, data, facts, MACHINE, "loss")
    assert chosen.rank == facts.narrowest == 16
    apply_method(loaded(facts), "chat", chosen, facts)


def test_olora_and_pissa_follow_the_rank_of_a_pattern(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, "llama")
    for init in ("pissa", "olora"):
        model = apply_lora(
            loaded(facts), "chat", 4, 8, 0.0, None, facts, init=init, rank_pattern={"q_proj": 2}
        )
        shapes = {name: p.shape for name, p in model.named_parameters() if "lora_A" in name}
        assert {s[0] for name, s in shapes.items() if "q_proj" in name} == {2}
        assert {s[0] for name, s in shapes.items() if "q_proj" not in name} == {4}
