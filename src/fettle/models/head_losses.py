"""Output head and cross-entropy in one: the summed loss without a rectangle of logits for backward.

In: hidden states, a linear head, targets and their weights. Out: one differentiable sum. Must not
know: models, batches, what the sum is divided by.

A chunk of tokens at a time goes through the head, and its gradient is taken at once, while its
logits are still in the cache: forward does what backward otherwise would, from half of the memory
traffic and with only a chunk of logits in memory (the idea of Wijmans et al. 2024, "Cut Your Losses
in Large-Vocabulary Language Models", arXiv 2411.09009, and of Liger Kernel). Nothing is computed
twice.

Shapes: N tokens, C tokens of a chunk, H hidden size, V vocabulary.
"""

from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

CHUNK_LOGITS = {"cpu": 2**25, "cuda": 2**27}
"""Most logits of a chunk. Fewer would be nearer to a processor's cache, but the head itself is read
once a chunk: of 2^22 to 2^26, 2^24 and 2^25 were the fastest for vocabularies of 49,152 and
151,936."""
MIN_CHUNK = 64


def fits(head: nn.Module | None) -> bool:
    """Whether a head is a plain linear layer: no bias, no adapter, no module around it."""
    return type(head) is nn.Linear and head.bias is None


def summed_loss(head: nn.Linear, hidden_NH: Tensor, target_N: Tensor, weight_N: Tensor) -> Tensor:
    """Sum over tokens of weight times -log p(target).

    Matrix products run in autocast's dtype where that is on; sums of exponentials in float32.

    Args:
        head: no bias; its weight [V, H] may be trained, frozen, or shared with the embedding.
        hidden_NH: states that the targets are predicted from.
        target_N: ids, int64.
        weight_N: float32, no gradient.

    Returns:
        Scalar, float32; its gradients reach ``hidden_NH`` and the head, once (no second backward).
    """
    if not torch.is_grad_enabled():
        return _losses(head.weight, hidden_NH, target_N) @ weight_N
    loss: Tensor = _SummedLoss.apply(hidden_NH, head.weight, target_N, weight_N)
    return loss


def _losses(weight_VH: Tensor, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
    """The same, a loss for each token and no gradient."""
    chunk = _chunk(weight_VH, len(target_N))
    parts = [
        functional.cross_entropy(
            functional.linear(hidden_CH, weight_VH).float(), target_C, reduction="none"
        )
        for hidden_CH, target_C in zip(hidden_NH.split(chunk), target_N.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def _chunk(weight_VH: Tensor, num_tokens: int) -> int:
    """Tokens of a chunk; all chunks are about as long."""
    logits = CHUNK_LOGITS.get(weight_VH.device.type, CHUNK_LOGITS["cuda"])
    most = max(MIN_CHUNK, logits // weight_VH.shape[0])
    return max(1, ceil(num_tokens / max(1, ceil(num_tokens / most))))


class _SummedLoss(torch.autograd.Function):
    """d loss / d logits = weight * (softmax - one-hot), taken in forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, weight_N: Tensor
    ) -> Tensor:
        trains_states, trains_head = ctx.needs_input_grad[:2]
        product = functional.linear(hidden_NH[:1], weight_VH).dtype  # what autocast makes of it
        head_VH = weight_VH.to(product)
        states_NH = hidden_NH.to(product)
        grad_NH = torch.empty_like(hidden_NH) if trains_states else None
        grad_VH = torch.zeros_like(weight_VH) if trains_head else None
        chunk = _chunk(weight_VH, len(target_N))
        loss = torch.zeros((), dtype=torch.float32, device=hidden_NH.device)
        for start in range(0, len(target_N), chunk):
            part = slice(start, start + chunk)
            states_CH, target_C, weight_C = states_NH[part], target_N[part], weight_N[part]
            scores_CV = (states_CH @ head_VH.T).float()
            picked_C = scores_CV.gather(1, target_C[:, None]).squeeze(1)
            most_C = scores_CV.amax(dim=1)
            # Unnormalised softmax: its row sums divide the small results, not the large rectangle.
            scores_CV.sub_(most_C[:, None]).exp_()
            total_C = scores_CV.sum(dim=1)
            loss += ((total_C.log() + most_C - picked_C) * weight_C).sum()
            share_CV = scores_CV.to(product)
            factor_C1 = (weight_C / total_C)[:, None]
            if grad_NH is not None:
                right_CH = weight_VH[target_C].float() * weight_C[:, None]
                grad_NH[part] = (share_CV @ head_VH).float() * factor_C1 - right_CH
            if grad_VH is not None:
                scaled_CH = (states_CH.float() * factor_C1).to(product)
                if product == grad_VH.dtype:
                    grad_VH.addmm_(share_CV.T, scaled_CH)
                else:
                    grad_VH += share_CV.T @ scaled_CH
                grad_VH.index_add_(
                    0, target_C, (states_CH.float() * -weight_C[:, None]).to(grad_VH.dtype)
                )
        ctx.grads = (grad_NH, grad_VH)
        return loss

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]  # torch does not annotate it
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            raise RuntimeError("the loss of the output head can be differentiated only once")
        grad_NH, grad_VH = grads
        for found in (grad_NH, grad_VH):
            if found is not None:
                found.mul_(grad)
        return grad_NH, grad_VH, None, None
