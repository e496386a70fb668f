"""Objectives against the losses of transformers and of torch, with their gradients."""

from dataclasses import replace

import pytest
import torch
from tests.train_fixture import PAD, VOCABULARY, chat_rows, decoder, label_rows
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from fettle.data.weigh import weighed
from fettle.models.forward import pad
from fettle.records.tokens import Batch, TokenizedExample
from fettle.train.objectives import OBJECTIVES

CUTS = {"2x4": (4, 4), "8x1": (1,) * 8, "uneven": (1, 5, 2)}
LABELS = ("a", "b", "c")


def classifier(problem_type: str, num_labels: int = 3) -> torch.nn.Module:
    """A random two-layer Bert; always the same."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        num_labels=num_labels,
        problem_type=problem_type,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
        pad_token_id=PAD,
    )
    return BertForSequenceClassification(config).eval()


def one_label() -> list[TokenizedExample]:
    return label_rows(8)


def any_labels() -> list[TokenizedExample]:
    sets = ((0,), (), (0, 2), (1, 2), (2,), (0, 1, 2), (), (1,))
    return [
        replace(row, label=None, labels=labels)
        for row, labels in zip(label_rows(8), sets, strict=True)
    ]


def numbers() -> list[TokenizedExample]:
    return [
        replace(row, label=None, value=0.7 * index - 2.0) for index, row in enumerate(label_rows(8))
    ]


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert any(float(value.abs().max()) > 1e-3 for value in expected.values())
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-6, rtol=1e-5), name


def mean_loss(task: str, model: torch.nn.Module, rows: list[TokenizedExample]) -> torch.Tensor:
    """What one step minimises."""
    batch = Batch(tuple(rows))
    loss = OBJECTIVES[task](model, batch, PAD)
    assert loss.count == pytest.approx(batch.target_weight)
    return loss.sum / batch.target_weight


def multi_hot(rows: list[TokenizedExample]) -> torch.Tensor:
    table = torch.zeros(len(rows), len(LABELS))
    for index, row in enumerate(rows):
        table[index, list(row.labels or ())] = 1.0
    return table


CASES = {
    "one label": ("classify", "single_label_classification", 3, one_label),
    "any labels": ("classify", "multi_label_classification", 3, any_labels),
    "numbers": ("regress", "regression", 1, numbers),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_those_of_transformers(case: str) -> None:
    task, problem_type, num_labels, make = CASES[case]
    model, rows = classifier(problem_type, num_labels), make()
    wanted = {
        "one label": lambda: torch.tensor([row.label for row in rows]),
        "any labels": lambda: multi_hot(rows),
        "numbers": lambda: torch.tensor([row.value for row in rows]),
    }[case]()
    theirs = model(**pad(Batch(tuple(rows)), PAD), labels=wanted).loss
    expected = gradients(model, theirs)
    ours = mean_loss(task, model, rows)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)
    assert_same(gradients(model, ours), expected)


def test_class_weights_equal_those_of_torch() -> None:
    model = classifier("single_label_classification")
    rows = weighed(one_label(), LABELS, {"a": 0.25, "c": 3.0})
    assert {row.weight for row in rows} == {0.25, 1.0, 3.0}
    logits_BK = model(**pad(Batch(tuple(rows)), PAD)).logits
    theirs = functional.cross_entropy(
        logits_BK,
        torch.tensor([row.label for row in rows]),
        weight=torch.tensor([0.25, 1.0, 3.0]),
    )
    expected = gradients(model, theirs)
    ours = mean_loss("classify", model, rows)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)
    assert_same(gradients(model, ours), expected)


def test_weights_of_label_sets_equal_torchs_pos_weight() -> None:
    model = classifier("multi_label_classification")
    rows = weighed(any_labels(), LABELS, "balanced")
    assert {row.label_weights for row in rows if row.labels == (0,)} == {(5 / 3,)}
    logits_BK = model(**pad(Batch(tuple(rows)), PAD)).logits
    theirs = functional.binary_cross_entropy_with_logits(
        logits_BK, multi_hot(rows), pos_weight=torch.tensor([5 / 3, 5 / 3, 1.0])
    )
    expected = gradients(model, theirs)
    ours = mean_loss("classify", model, rows)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)
    assert_same(gradients(model, ours), expected)


def weighted_chat() -> list[TokenizedExample]:
    """Rows of very unequal numbers of targets, with weights from 0.1 to 20 in them."""
    rows = []
    for index, row in enumerate(chat_rows(8, seed=3)):
        weights = tuple(
            kept * (0.1, 1.0, 2.5, 20.0)[(index + place // 3) % 4]
            for place, kept in enumerate(row.loss_mask)
        )
        rows.append(replace(row, loss_mask=weights, weight=(1.0, 0.5)[index % 2]))
    return rows


def test_weights_of_messages_by_hand() -> None:
    model, rows = decoder().eval(), weighted_chat()
    total, weight = torch.zeros(()), 0.0
    for row in rows:
        ids_1T = torch.tensor([row.input_ids])
        log_TV = model(input_ids=ids_1T).logits[0].log_softmax(-1)
        for place in range(1, row.num_tokens):
            share = row.loss_mask[place] * row.weight
            total = total - share * log_TV[place - 1, row.input_ids[place]]
            weight += share
    theirs = total / weight
    expected = gradients(model, theirs)
    ours = mean_loss("chat", model, rows)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)
    assert_same(gradients(model, ours), expected)
    unweighted = [replace(r, weight=1.0, loss_mask=tuple(m > 0 for m in r.loss_mask)) for r in rows]
    other = mean_loss("chat", model, unweighted).detach()
    assert abs(float(other) - float(theirs.detach())) > 0.01


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", [*CASES, "weighted chat", "weighted label", "weighted labels"])
def test_a_cut_into_micro_batches_changes_nothing(case: str, cut: str) -> None:
    if case == "weighted chat":
        task, model, rows = "chat", decoder().eval(), weighted_chat()
        weights = [row.target_weight for row in rows]
        assert max(weights) > 50 * min(weights), "the weights must be very unequal"
    elif case == "weighted label":
        task, model = "classify", classifier("single_label_classification")
        rows = weighed(one_label(), LABELS, {"a": 0.01, "b": 5.0})
    elif case == "weighted labels":
        task, model = "classify", classifier("multi_label_classification")
        rows = weighed(any_labels(), LABELS, {"a": 0.01, "b": 5.0})
    else:
        task, problem_type, num_labels, make = CASES[case]
        model, rows = classifier(problem_type, num_labels), make()
    model.zero_grad()
    expected = gradients(model, mean_loss(task, model, rows))
    model.zero_grad()
    start, weight = 0, sum(row.target_weight for row in rows)
    for size in CUTS[cut]:
        part = Batch(tuple(rows[start : start + size]))
        (OBJECTIVES[task](model, part, PAD).sum / weight).backward()
        start += size
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert_same(found, expected)


@torch.no_grad()
def test_pieces_of_one_document_do_not_see_each_other() -> None:
    model = decoder().eval()
    ids = tuple(range(1, 31))
    pieces = [TokenizedExample("d", ids[i : i + 10], (1,) * 10) for i in range(0, 30, 10)]
    assert [piece.num_targets for piece in pieces] == [9, 9, 9]
    together = OBJECTIVES["text"](model, Batch(tuple(pieces)), PAD).sum
    alone = sum(OBJECTIVES["text"](model, Batch((piece,)), PAD).sum for piece in pieces)
    assert float(together) == pytest.approx(float(alone), abs=1e-4)
    whole = TokenizedExample("d", ids, (1,) * 30)
    assert abs(float(OBJECTIVES["text"](model, Batch((whole,)), PAD).sum) - float(alone)) > 0.1
