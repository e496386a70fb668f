"""The LoRA layer in one function: when it computes by itself, when peft does, what it changes."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from fettle.models.lora_layer import FusedLoraLinear, _LoraProduct, use_fused_layers
from fettle.models.quiet import quiet

INPUTS, OUTPUTS, RANK = 24, 40, 4


class Plain(nn.Module):
    """One linear layer under a name."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, OUTPUTS, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


def adapted(fused: bool, bias: bool = True, **values: Any) -> PeftModel:
    """A layer with an adapter that has an effect; the same weights every time."""
    torch.manual_seed(0)
    model = Plain(bias)
    config = LoraConfig(
        **{"r": RANK, "lora_alpha": 6.5, "target_modules": ["layer"], "bias": "none"} | values
    )
    if fused:
        assert use_fused_layers(config, model)
    torch.manual_seed(1)
    with quiet():
        changed = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return changed


def layer_of(model: PeftModel) -> FusedLoraLinear:
    layer = model.get_submodule("base_model.model.layer")
    assert type(layer) is FusedLoraLinear
    return layer


@contextmanager
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts how often the layer computes by itself."""
    calls: list[int] = []
    own = _LoraProduct.apply

    def counted(*args: Any) -> Any:
        calls.append(1)
        return own(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_LoraProduct, "apply", counted)
        yield calls


def passes(model: PeftModel, x: Tensor, half: bool = False) -> dict[str, Tensor]:
    """Output and gradients."""
    x = x.detach().clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = model(x)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    (y.float() * weights).sum().backward()
    assert x.grad is not None
    found = {"y": y.detach(), "x": x.grad}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name.rpartition("lora_")[2]] = parameter.grad
    return found


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Length of the difference over the length of what it should be."""
    off = (ours.double() - theirs.double()).norm()
    return float(off / theirs.double().norm()) if off else 0.0


SHAPES: dict[str, Callable[[], Tensor]] = {
    "packed": lambda: torch.randn(1, 37, INPUTS),
    "padded": lambda: torch.randn(3, 11, INPUTS),
    "one line": lambda: torch.randn(5, INPUTS),
    "no token": lambda: torch.randn(1, 0, INPUTS),
    "one token": lambda: torch.randn(1, 1, INPUTS),
    "transposed": lambda: torch.randn(7, 3, INPUTS).transpose(0, 1),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_pefts(
    monkeypatch: pytest.MonkeyPatch, shape: str, bias: bool
) -> None:
    torch.manual_seed(3)
    x = SHAPES[shape]()
    expected = passes(adapted(False, bias), x)
    with products(monkeypatch) as calls:
        found = passes(adapted(True, bias), x)
    assert calls == [1]
    assert found.keys() == expected.keys()
    assert {"y", "x", "A.default.weight", "B.default.weight"} == found.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert tensor.shape == expected[name].shape
        assert distance(tensor, expected[name]) < 1e-6, name


@pytest.mark.parametrize("half_input", [False, True])
def test_under_autocast_dtypes_are_pefts_and_errors_no_larger(half_input: bool) -> None:
    torch.manual_seed(3)
    x = torch.randn(1, 64, INPUTS)
    x = x.bfloat16() if half_input else x
    exact = passes(adapted(False), x.float())
    expected = passes(adapted(False), x, half=True)
    found = passes(adapted(True), x, half=True)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        # Both round at other places: bfloat16 has 8 bits.
        assert distance(tensor, expected[name]) < 2**-7, name
        assert distance(tensor, exact[name]) < 1.5 * distance(expected[name], exact[name]), name


def test_without_gradients_it_is_pefts_code(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 9, INPUTS)
    with products(monkeypatch) as calls, torch.no_grad():
        found = adapted(True)(x)
        expected = adapted(False)(x)
    assert not calls
    assert torch.equal(found, expected)


def test_a_gradient_that_nobody_asks_for_is_not_computed() -> None:
    model = adapted(True)
    x = torch.randn(1, 9, INPUTS)
    model.get_parameter("base_model.model.layer.lora_A.default.weight").requires_grad_(False)
    model(x).sum().backward()
    assert x.grad is None
    layer = layer_of(model)
    assert layer.lora_A["default"].weight.grad is None
    assert layer.base_layer.weight.grad is None
    assert layer.lora_B["default"].weight.grad.norm() > 0


def _dropout(model: PeftModel) -> None:
    layer_of(model).lora_dropout["default"] = nn.Dropout(0.5)


def _trained_base(model: PeftModel) -> None:
    layer_of(model).base_layer.weight.requires_grad_()


def _two_adapters(model: PeftModel) -> None:
    model.add_adapter("other", LoraConfig(r=2, target_modules=["layer"]))
    model.base_model.set_adapter(["default", "other"])


def _merged(model: PeftModel) -> None:
    layer_of(model).merge()


def _disabled(model: PeftModel) -> None:
    layer_of(model).enable_adapters(False)


def _hooked(model: PeftModel) -> None:
    layer_of(model).lora_A["default"].register_forward_hook(lambda module, inputs, output: output)


def _other_dtype(model: PeftModel) -> None:
    model.double()


LEFT_TO_PEFT: dict[str, tuple[Callable[[PeftModel], None], dict[str, Any]]] = {
    "dropout": (_dropout, {}),
    "a trained base": (_trained_base, {}),
    "two adapters": (_two_adapters, {}),
    "merged": (_merged, {}),
    "disabled": (_disabled, {}),
    "a hook": (_hooked, {}),
    "float64": (_other_dtype, {}),
    "DoRA": (lambda model: None, {"use_dora": True}),
    "a trained bias": (lambda model: None, {"lora_bias": True}),
}


@pytest.mark.parametrize("case", LEFT_TO_PEFT)
def test_all_else_is_left_to_peft(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    change, values = LEFT_TO_PEFT[case]
    model, stock = adapted(True, **values), adapted(False, **values)
    change(model)
    x = torch.randn(1, 9, INPUTS, dtype=torch.float64 if case == "float64" else torch.float32)
    with products(monkeypatch) as calls:
        torch.manual_seed(5)
        found = model(x)
    assert not calls
    layer = stock.get_submodule("base_model.model.layer")
    if case == "disabled":
        expected = layer.base_layer(x)
    elif case == "float64":
        expected = stock.double()(x)
    elif case == "dropout":
        layer.lora_dropout["default"] = nn.Dropout(0.5)
        torch.manual_seed(5)
        expected = layer(x)
    else:
        # the second adapter begins with B = 0
        expected = stock(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_merging_and_unmerging_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(True)
    x = torch.randn(1, 9, INPUTS)
    before = model(x)
    layer_of(model).merge()
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)
    layer_of(model).unmerge()
    with products(monkeypatch) as calls:
        torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)
    assert calls == [1]


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputing_gives_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, reentrant: bool
) -> None:
    model = adapted(True)
    x = torch.randn(1, 9, INPUTS, requires_grad=True)
    expected = passes(model, x)
    model.zero_grad(set_to_none=True)
    with products(monkeypatch) as calls:
        y = checkpoint(model, x, use_reentrant=reentrant)
        weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
        (y * weights).sum().backward()
    assert calls == ([1] if reentrant else [1, 1])
    torch.testing.assert_close(x.grad, expected["x"])
    for letter in "AB":
        part = getattr(layer_of(model), f"lora_{letter}")["default"]
        torch.testing.assert_close(part.weight.grad, expected[f"{letter}.default.weight"])


def test_a_changed_input_is_noticed() -> None:
    """Backward needs x as it was: autograd must refuse, not compute with the new one."""
    x = torch.randn(1, 9, INPUTS)
    y = adapted(True)(x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_copy_is_on_its_own() -> None:
    model = adapted(True)
    again = copy.deepcopy(model)
    with torch.no_grad():
        layer_of(again).lora_B["default"].weight.zero_()
    x = torch.randn(1, 9, INPUTS)
    assert not torch.equal(model(x), again(x))
    assert torch.allclose(again(x), layer_of(model).base_layer(x))


@pytest.mark.slow
def test_torch_compile_takes_pefts_steps() -> None:
    model = adapted(True)
    x = torch.randn(1, 9, INPUTS)
    expected = passes(model, x)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = passes(compiled, x)
    for name, tensor in found.items():
        assert distance(tensor, expected[name]) < 1e-6, name


class Mixed(nn.Module):
    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, OUTPUTS)
        self.other = other


class OtherLinear(nn.Linear):
    pass


def test_models_with_other_layers_are_left_to_peft() -> None:
    plain = LoraConfig(target_modules=["layer"])
    assert not use_fused_layers(plain, Mixed(OtherLinear(2, 2)))
    transposed = LoraConfig(target_modules=["layer"], fan_in_fan_out=True)
    assert not use_fused_layers(transposed, Mixed(Conv1D(2, 2)))
    assert use_fused_layers(plain, Mixed(nn.LayerNorm(2)))
