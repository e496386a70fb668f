"""The state in which a model answers: no dropout, no gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout and gradients off, and put every module back into its mode at the end.

    Args:
        model: any module; parts of it may be in different modes (a frozen part of a model that is
            being trained).
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
