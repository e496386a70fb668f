"""LoRA and its variants against stock peft: the same steps, beginnings and files."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    AutoPeftModelForSequenceClassification,
    LoraConfig,
    PeftModel,
    get_peft_model,
)
from peft.optimizers import create_loraplus_optimizer
from tests.tiny_models import tiny_tokenizer, write_tiny_base
from tests.train_fixture import BASE, PAD, chat_rows, decoder, encoder, label_rows
from torch.nn.utils import clip_grad_norm_

from fettle.chat.tokenizer import Tokenizer
from fettle.models.adapters import apply_lora
from fettle.models.forward import pad
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task
from fettle.models.quiet import quiet
from fettle.models.save import load_saved, save_model
from fettle.records.tokens import Batch
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer

RATE, DECAY, CLIP, STEPS = 1e-3, 0.1, 0.5, 3
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BERT = ["query", "key", "value", "attention.output.dense", "intermediate.dense", r"output.dense"]
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: what fettle is told, what peft is told
    "plain": ({}, {}),
    "rslora": ({"rslora": True}, {"use_rslora": True}),
    "dora": ({"dora": True}, {"use_dora": True}),
    "gaussian": ({"init": "gaussian"}, {"init_lora_weights": "gaussian"}),
    "orthogonal": ({"init": "orthogonal"}, {"init_lora_weights": "orthogonal"}),
    "pissa": ({"init": "pissa"}, {"init_lora_weights": "pissa"}),
    "olora": ({"init": "olora"}, {"init_lora_weights": "olora"}),
    "patterns": (
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 1.0}},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 1.0}},
    ),
}
IDS = torch.tensor([[5, 41, 7, 200, 9, 11, 33], [8, 8, 100, 3, 250, 6, 12]])


def both(task: str, variant: str) -> tuple[PeftModel, PeftModel]:
    """fettle's adapters and peft's own, each drawn from the same seed."""
    ours, theirs = VARIANTS[variant]
    make, targets = (decoder, LLAMA) if task == "chat" else (encoder, BERT)
    model = make()
    torch.manual_seed(7)
    mine = apply_lora(model, task, 4, 8.0, 0.0, None, BASE, **ours)
    stock = make()
    torch.manual_seed(7)
    config = LoraConfig(
        task_type="CAUSAL_LM" if task == "chat" else "SEQ_CLS",
        r=4,
        lora_alpha=8.0,
        target_modules=targets,
        modules_to_save=None if task == "chat" else ["pooler", "classifier"],
        **theirs,
    )
    with quiet():
        return mine, get_peft_model(stock, config)


def step_together(
    mine: PeftModel, stock: PeftModel, task: str, optimizer: Any, plus: float
) -> None:
    """Three steps of each on the same rows; the losses must agree on the way."""
    rows = chat_rows(8) if task == "chat" else label_rows(8)
    # One micro-batch: Adam scales rounding differences of tiny gradients up.
    micro = [Batch(tuple(rows))]
    records = training_steps(
        mine,
        OBJECTIVES[task],
        make_optimizer(mine, RATE, DECAY, plus),
        iter([micro] * STEPS),
        pad_id=PAD,
        learning_rate=RATE,
        schedule="constant",
        warmup_steps=0,
        num_steps=STEPS,
        steps_per_epoch=1.0,
        max_gradient_norm=CLIP,
        autocast=nullcontext,
    )
    inputs = pad(Batch(tuple(rows)), PAD)
    labels = torch.tensor([row.label or 0 for row in rows])
    if task == "chat":
        labels = torch.full_like(inputs["input_ids"], -100)
        for index, row in enumerate(rows):
            for position, trained in enumerate(row.loss_mask):
                if trained:
                    labels[index, position] = row.input_ids[position]
    stock.train()
    for record in records:
        optimizer.zero_grad()
        loss = stock(**inputs, labels=labels).loss
        loss.backward()
        clip_grad_norm_([p for p in stock.parameters() if p.requires_grad], CLIP)
        optimizer.step()
        assert record.loss == pytest.approx(float(loss.detach()), abs=1e-6)


def trained(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def with_signs_of(expected: torch.Tensor, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A pair of singular vectors keeps its product when both change their sign."""
    if "lora_" not in name:
        return tensor
    return tensor * (tensor * expected).sum(dim=int("lora_A" in name), keepdim=True).sign()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_beginning_is_pefts(variant: str) -> None:
    mine, stock = both("chat", variant)
    expected = stock.state_dict()
    assert mine.state_dict().keys() == expected.keys()
    # peft decomposes in float32, whose rounding small gaps between singular values scale up; ours
    # are held against float64 in tests/unit/test_models_initial.py.
    near = 1e-5 if variant == "pissa" else 1e-6
    for name, tensor in mine.state_dict().items():
        found = with_signs_of(expected[name], name, tensor) if variant == "pissa" else tensor
        torch.testing.assert_close(found, expected[name], atol=near, rtol=1e-6, msg=name)
    config = mine.peft_config["default"]
    for field in ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"):
        assert getattr(config, field) == getattr(stock.peft_config["default"], field)


@pytest.mark.parametrize(
    ("task", "variant"),
    [
        *(("chat", variant) for variant in ("plain", "rslora", "dora", "pissa", "patterns")),
        *(("classify", variant) for variant in ("plain", "rslora", "dora")),
    ],
)
def test_steps_equal_plain_peft_and_torch(task: str, variant: str) -> None:
    mine, stock = both(task, variant)
    if variant == "pissa":  # both beginnings are right, but not equal: see above
        mine.load_state_dict(stock.state_dict())
    before = {name: tensor.clone() for name, tensor in trained(mine).items()}
    decayed = [p for p in stock.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in stock.parameters() if p.requires_grad and p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=RATE,
    )
    step_together(mine, stock, task, optimizer, 1.0)
    expected = trained(stock)
    assert trained(mine).keys() == expected.keys()
    for name, tensor in trained(mine).items():
        # A step moves a weight by up to 1e-3. The head's gradient is summed in another order than
        # torch's, and AdamW makes of a small gradient's rounding a part of that step.
        torch.testing.assert_close(tensor, expected[name], atol=5e-7, rtol=1e-6, msg=name)
        assert not torch.equal(tensor, before[name]), f"{name} was not trained"


def test_lora_plus_equals_pefts() -> None:
    mine, stock = both("chat", "plain")
    optimizer = create_loraplus_optimizer(
        stock, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16.0, loraplus_weight_decay=DECAY
    )
    ours = make_optimizer(mine, RATE, DECAY, 16.0)
    names = {id(p): name for model in (mine, stock) for name, p in model.named_parameters()}
    rates = [
        {names[id(p)]: group["lr"] for group in item.param_groups for p in group["params"]}
        for item in (ours, optimizer)
    ]
    assert rates[0] == rates[1]
    assert set(rates[0].values()) == {RATE, 16 * RATE}
    # The loop must keep the ratio when it sets the rate of a step. Rounding is 16 times larger too.
    step_together(mine, stock, "chat", optimizer, 16.0)
    expected = trained(stock)
    for name, tensor in trained(mine).items():
        torch.testing.assert_close(tensor, expected[name], atol=16e-7, rtol=1e-6, msg=name)


SAVED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pissa": ("llama", "chat", {"init": "pissa"}),
    "olora": ("llama", "chat", {"init": "olora"}),
    "pissa, rslora": ("llama", "chat", {"init": "pissa", "rslora": True}),
    "pissa, dora": ("qwen3", "chat", {"init": "pissa", "dora": True}),
    "pissa, patterns": (
        "llama",
        "chat",
        {"init": "pissa", "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3.0}},
    ),
    "pissa, rslora, patterns": (
        "llama",
        "chat",
        {"init": "pissa", "rslora": True, "rank_pattern": {"q_proj": 2, "mlp.*": 6}},
    ),
    "pissa, transposed": ("gpt2", "chat", {"init": "pissa"}),
    "olora, transposed": ("gpt2", "chat", {"init": "olora"}),
    "pissa, classify": ("bert", "classify", {"init": "pissa"}),
}


@pytest.mark.parametrize("case", SAVED)
def test_stock_peft_on_the_untouched_base_answers_alike(tmp_path: Path, case: str) -> None:
    family, task, options = SAVED[case]
    base = tiny_tokenizer(tmp_path / "base")
    facts = inspect_base(write_tiny_base(base, family, 260, initializer_range=0.1), str(base))
    labels = ("a", "b", "c") if task == "classify" else ()
    torch.manual_seed(3)
    plain = load_for_task(facts, task, labels, PAD)
    torch.manual_seed(3)
    model = apply_lora(
        load_for_task(facts, task, labels, PAD), task, 4, 8.0, 0.0, None, facts, **options
    ).eval()
    with torch.inference_mode():
        untrained, before = model(input_ids=IDS).logits, plain(input_ids=IDS).logits
    torch.testing.assert_close(untrained, before, atol=1e-5, rtol=1e-5)
    changed = [
        name
        for name, module in model.get_base_model().named_modules()
        if name.endswith("base_layer")
        and not torch.equal(
            module.weight, plain.get_submodule(name.removesuffix(".base_layer")).weight
        )
    ]
    assert changed, "the base's main directions are still in the base"
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        expected = model(input_ids=IDS).logits
    assert (expected - before).abs().max() > 1e-2
    meta = {"task": task, "labels": list(labels), "base": {"sha256": facts.sha256}}
    save_model(model, tmp_path / "model", Tokenizer.load(base), None, meta)

    auto = AutoPeftModelForCausalLM if task == "chat" else AutoPeftModelForSequenceClassification
    more = {} if task == "chat" else {"num_labels": 3}
    with quiet():
        stock = auto.from_pretrained(str(tmp_path / "model"), **more).eval()
    served = load_saved(tmp_path / "model").model
    with torch.inference_mode():
        torch.testing.assert_close(stock(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(served(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-5)
        with served.disable_adapter():
            again = served(input_ids=IDS).logits
    # Without its adapter the served model is the base that was there before.
    if task == "chat":
        assert torch.equal(again, before)
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["init_lora_weights"]) == (8, True)
