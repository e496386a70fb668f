"""peft's LoRA layer with its forward and its backward pass in one function, for training on a CPU.

In: a ``LoraConfig``, before peft puts its adapters on a model. Out: layers with peft's names, files
and results. Must not know: recipes, training.

y = x Wᵀ + b + s (x Aᵀ) Bᵀ. peft computes it in steps that autograd knows one by one: it converts x
twice, multiplies by s and adds over all outputs, and adds up two gradients of x. Here the adapter's
products are added into the frozen layer's, and s is part of them (bench/lora_layer.py has the
times). Without gradients it is peft's own code, so that a model answers bit by bit as the one that
stock peft loads.

Shapes: T tokens of all rows, D input width, E output width, R rank.
"""

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners import lora
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def use_fused_layers(config: LoraConfig, model: nn.Module) -> bool:
    """Have peft build ``FusedLoraLinear`` for every ``nn.Linear`` that gets this adapter.

    A model with transposed layers (GPT-2's Conv1D) or other kinds of ``nn.Linear`` (quantised ones)
    is left to peft, which knows a layer of its own for each.

    Args:
        config: before ``get_peft_model``; what is registered is no part of what peft saves.
        model: that gets the adapters.

    Returns:
        Whether it was registered.
    """
    linears = {type(module) for module in model.modules() if isinstance(module, nn.Linear)}
    if config.fan_in_fan_out or linears != {nn.Linear}:
        return False
    # The way that peft's developer guide "Custom models" gives for a layer of one's own; the
    # underscore stands for "experimental".
    config._register_custom_module({nn.Linear: FusedLoraLinear})
    return True


class FusedLoraLinear(lora.Linear):
    """Trains one plain adapter on a frozen layer by ``_LoraProduct``; does all else as peft does.

    All else: no gradients, dropout, DoRA and other variants, several adapters, merged or disabled
    ones, a base that is trained too, weights of other dtypes, hooks on the parts, other devices
    (not measured), and torch.compile, which fuses peft's steps by itself.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output.

        Args:
            x: [..., D].

        Returns:
            [..., E], in the dtype that peft returns.
        """
        dtype = None
        if not (torch.compiler.is_compiling() or args or kwargs) and torch.is_grad_enabled():
            dtype = _product_dtype(x)
        if dtype is None or not self._is_plain():
            y: Tensor = super().forward(x, *args, **kwargs)
            return y
        (name,), base = self.active_adapters, self.base_layer
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        with torch.autocast("cpu", enabled=False):
            y = _LoraProduct.apply(x, base.weight, base.bias, a, b, self.scaling[name], dtype)
        return y

    def _is_plain(self) -> bool:
        """Whether the one active adapter is nothing but A and B in float32, on a frozen layer."""
        active, base = self.active_adapters, self.base_layer
        if len(active) != 1 or self.disable_adapters or self.merged:
            return False
        name = active[0]
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias[name]:
            return False
        parts = (base, self.lora_A[name], self.lora_B[name], self.lora_dropout[name])
        return (
            type(base) is nn.Linear
            and isinstance(self.lora_dropout[name], nn.Identity)
            and not any(item.requires_grad for item in base.parameters())
            and all(item.dtype == torch.float32 for part in parts for item in part.parameters())
            # The parts are not called here: what somebody hung on one would be passed over.
            and not any(
                part._forward_hooks or part._forward_pre_hooks or part._backward_hooks
                for part in parts
            )
        )


def _product_dtype(x: Tensor) -> torch.dtype | None:
    """What the products are computed in, given weights in float32; None where peft must do it."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if x.dtype == torch.float32 else None
    dtype = torch.get_autocast_dtype("cpu")
    return dtype if dtype == torch.bfloat16 else None


class _LoraProduct(torch.autograd.Function):
    """x Wᵀ + b + s (x Aᵀ) Bᵀ with the gradients of x, A and B; W and b are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_ED: Tensor,
        bias_E: Tensor | None,
        a_RD: Tensor,
        b_ER: Tensor,
        scale: float,
        dtype: torch.dtype,
    ) -> Tensor:
        x_TD = x.to(dtype).reshape(-1, x.shape[-1])
        w_ED, a_RD, b_ER = w_ED.to(dtype), a_RD.to(dtype), b_ER.to(dtype)
        bias_E = None if bias_E is None else bias_E.to(dtype)
        h_TR = torch.mm(x_TD, a_RD.T)
        y_TE = nn.functional.linear(x_TD, w_ED, bias_E).addmm_(h_TR, b_ER.T, alpha=scale)
        ctx.save_for_backward(x_TD, w_ED, a_RD, b_ER, h_TR)
        ctx.scale, ctx.shape, ctx.x_dtype = scale, x.shape, x.dtype
        return y_TE.view(*x.shape[:-1], y_TE.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, w_ED, a_RD, b_ER, h_TR = ctx.saved_tensors
        dy_TE = dy.reshape(-1, dy.shape[-1])
        dh_TR = torch.mm(dy_TE, b_ER)
        dx, da_RD, db_ER = None, None, None
        if ctx.needs_input_grad[0]:
            dx_TD = torch.mm(dy_TE, w_ED).addmm_(dh_TR, a_RD, alpha=ctx.scale)
            dx = dx_TD.view(ctx.shape).to(ctx.x_dtype)
        if ctx.needs_input_grad[3]:
            da_RD = torch.mm(dh_TR.T, x_TD).float().mul_(ctx.scale)
        if ctx.needs_input_grad[4]:
            # (hᵀ dy)ᵀ: dyᵀ h takes up to twice as long.
            db_ER = torch.mm(h_TR.T, dy_TE).float().mul_(ctx.scale).T.contiguous()
        return dx, None, None, da_RD, db_ER, None, None
