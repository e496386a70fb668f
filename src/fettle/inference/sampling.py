"""Choose the next token from logits.

In: logits and settings. Out: token ids. Must not know: models, caches, text.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def next_tokens(
    logits_BV: Tensor,
    temperature: float,
    top_p: float,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Choose one token for each row.

    Args:
        logits_BV: float32, B rows over V tokens.
        temperature: 0 = the most likely token; otherwise logits are divided by it.
        top_p: nucleus sampling (Holtzman et al. 2019, arXiv 1904.09751): only the smallest set of
            tokens whose probabilities reach this sum; 1 = all.
        generators: one for each row, on the CPU, so that a row's text does not depend on its batch.

    Returns:
        Token ids [B].
    """
    if temperature == 0.0:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = torch.softmax(logits_BV.double() / temperature, dim=-1)
    sorted_BV, tokens_BV = probabilities_BV.sort(dim=-1, descending=True, stable=True)
    # A token stays while those before it have not reached top_p; the first always stays.
    before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
    sorted_BV = sorted_BV.masked_fill(before_BV >= top_p, 0.0)
    sorted_BV[:, 0] = sorted_BV[:, 0].clamp_min(torch.finfo(torch.float64).tiny)
    cumulative_BV = sorted_BV.cumsum(dim=-1)
    uniform_B = torch.tensor(
        [torch.rand((), generator=item, dtype=torch.float64).item() for item in generators],
        dtype=torch.float64,
        device=logits_BV.device,
    )
    place_B1 = torch.searchsorted(
        cumulative_BV, (uniform_B * cumulative_BV[:, -1]).unsqueeze(1), right=True
    )
    # Rounding may lead past the end; the last place that has any probability is meant then.
    last_B1 = (sorted_BV > 0).sum(dim=-1, keepdim=True) - 1
    return tokens_BV.gather(1, torch.minimum(place_B1, last_B1)).squeeze(1)


def row_generators(seed: int, num_rows: int) -> list[torch.Generator]:
    """A random stream of its own for every row, from one seed."""
    # Spread by a multiplication, so that (seed, row) and (seed + 1, row - 1) differ.
    return [
        torch.Generator().manual_seed((seed * 1_000_003 + row * 7_919) % 2**63)
        for row in range(num_rows)
    ]
