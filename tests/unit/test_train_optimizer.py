"""What AdamW gets: all trainable weights, decay on matrices only."""

import pytest
import torch
from tests.train_fixture import encoder

from fettle.errors import RecipeError
from fettle.train.optimizer import make_optimizer, trainable_parameters


def test_decay_acts_on_matrices_only() -> None:
    model = encoder()
    optimizer = make_optimizer(model, 1e-3, 0.1)
    groups = optimizer.param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    names = dict(model.named_parameters())
    assert len(decay) == len(names)
    for name, parameter in names.items():
        expected = 0.0 if name.endswith("bias") or "LayerNorm" in name else 0.1
        assert decay[id(parameter)] == expected, name


def test_frozen_weights_are_left_out() -> None:
    model = encoder()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("classifier.")
    optimizer = make_optimizer(model, 1e-3, 0.1)
    assert list(trainable_parameters(model)) == ["classifier.weight", "classifier.bias"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


def test_only_vectors_make_one_group() -> None:
    model = torch.nn.LayerNorm(4)
    optimizer = make_optimizer(model, 1e-3, 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0]


def test_nothing_trainable_is_an_error() -> None:
    model = encoder().requires_grad_(False)
    with pytest.raises(RecipeError, match="nothing is trainable") as caught:
        make_optimizer(model, 1e-3, 0.1)
    assert caught.value.code == "E0601"
    assert caught.value.exit_code == 2
