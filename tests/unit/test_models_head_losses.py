"""The summed loss of the output head against torch's own, in steps."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fettle.models import head_losses
from fettle.models.forward import autocast
from fettle.models.head_losses import fits, summed_loss

H, V, N = 24, 331, 50


def parts(trained: bool) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """A head, states, targets and weights (one of them 0)."""
    generator = torch.Generator().manual_seed(3)
    head = nn.Linear(H, V, bias=False)
    head.weight.data = torch.randn(V, H, generator=generator)
    head.weight.requires_grad_(trained)
    states_NH = torch.randn(N, H, generator=generator, requires_grad=True)
    target_N = torch.randint(0, V, (N,), generator=generator)
    target_N[:5] = target_N[5]  # one id several times: its gradients add up
    weight_N = torch.rand(N, generator=generator)
    weight_N[7] = 0.0
    return head, states_NH, target_N, weight_N


def in_steps(head: nn.Linear, states_NH: Tensor, target_N: Tensor, weight_N: Tensor) -> Tensor:
    logits_NV = head(states_NH).float()
    loss_N = functional.cross_entropy(logits_NV, target_N, reduction="none")
    return (loss_N * weight_N).sum()


def gradients(function, head, states_NH, target_N, weight_N, dtype, factor=0.37):
    with autocast(dtype):
        loss = function(head, states_NH, target_N, weight_N)
    (loss * factor).backward()
    found = (loss.detach(), states_NH.grad, head.weight.grad)
    states_NH.grad = head.weight.grad = None
    return found


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("chunk_logits", [V * 7, V * 64, 2**23])
def test_equals_torch(monkeypatch: pytest.MonkeyPatch, trained: bool, chunk_logits: int) -> None:
    monkeypatch.setattr(head_losses, "MIN_CHUNK", 1)
    monkeypatch.setitem(head_losses.CHUNK_LOGITS, "cpu", chunk_logits)
    head, *rest = parts(trained)
    found = gradients(summed_loss, head, *rest, "float32")
    expected = gradients(in_steps, head, *rest, "float32")
    for ours, theirs in zip(found, expected, strict=True):
        if theirs is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=2e-6)
    with torch.no_grad():
        torch.testing.assert_close(summed_loss(head, *rest), expected[0], rtol=2e-6, atol=0)


@pytest.mark.parametrize("trained", [False, True])
def test_bfloat16_is_no_less_exact_than_autocast_in_steps(trained: bool) -> None:
    head, states_NH, target_N, weight_N = parts(trained)
    exact_head = nn.Linear(H, V, bias=False).double()
    exact_head.weight.data = head.weight.detach().double()
    exact_states_NH = states_NH.detach().double().requires_grad_()
    loss_N = functional.cross_entropy(exact_head(exact_states_NH), target_N, reduction="none")
    exact = (loss_N * weight_N.double()).sum()
    (exact * 0.37).backward()
    rest = (states_NH, target_N, weight_N)
    found = gradients(summed_loss, head, *rest, "bfloat16")
    steps = gradients(in_steps, head, *rest, "bfloat16")
    assert found[0].dtype == torch.float32
    pairs = [(1, exact_states_NH.grad)] + ([(2, exact_head.weight.grad)] if trained else [])
    for index, gradient in pairs:
        assert gradient is not None
        assert found[index].dtype == steps[index].dtype == torch.float32
        assert distance(found[index], gradient) <= 1.2 * distance(steps[index], gradient)
    torch.testing.assert_close(found[0].double(), exact.detach(), rtol=1e-2, atol=0)


def test_extreme_scores_stay_finite() -> None:
    head, states_NH, target_N, weight_N = parts(trained=True)
    head.weight.data *= 400
    found = gradients(summed_loss, head, states_NH, target_N, weight_N, "float32")
    expected = gradients(in_steps, head, states_NH, target_N, weight_N, "float32")
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-3)


def test_no_targets_give_zero() -> None:
    head, states_NH, target_N, weight_N = parts(trained=True)
    loss = summed_loss(head, states_NH[:0], target_N[:0], weight_N[:0])
    loss.backward()
    assert float(loss.detach()) == 0
    assert head.weight.grad is not None
    assert not head.weight.grad.any()


def test_a_second_backward_is_refused() -> None:
    head, *rest = parts(trained=True)
    loss = summed_loss(head, *rest)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.backward()


def test_only_plain_heads_fit() -> None:
    assert fits(nn.Linear(2, 3, bias=False))
    assert not fits(nn.Linear(2, 3))
    assert not fits(nn.Sequential(nn.Linear(2, 3, bias=False)))
    assert not fits(None)
