"""Floating-point operations that a step needs, whoever computes it.

In: the shape of a model, the lengths and targets of rows. Out: operations. Must not know: tools.

Counted is what exact training can't do without (2 operations for a multiply and an add): products
with the body's matrices for every real token, with the head for trained tokens only, causal
attention over real tokens only. Padding, recomputing and heads on untrained tokens earn nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the count depends on."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    """Rows of the output head; 0 for a classifier, whose head is negligible."""
    gated: bool = True
    """Three matrices in the feed-forward part, not two."""
    causal: bool = True

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every matrix of one block."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        up = [(self.hidden, self.intermediate)] * (2 if self.gated else 1)
        return [
            (self.hidden, wide),
            (self.hidden, narrow),
            (self.hidden, narrow),
            (wide, self.hidden),
            *up,
            (self.intermediate, self.hidden),
        ]

    @property
    def body(self) -> int:
        """Parameters in the matrices of all blocks."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def head(self) -> int:
        """Parameters of the output head."""
        return self.hidden * self.vocab

    def adapter(self, rank: int) -> int:
        """Parameters of LoRA on every matrix of the blocks."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)

    def attention(self, length: int) -> int:
        """Operations of the two products of attention, forward, for one row."""
        whole = 4 * length * length * self.heads * self.head_dim * self.layers
        return whole // 2 if self.causal else whole


def step_flops(shape: ModelShape, method: str, rank: int, rows: Iterable[tuple[int, int]]) -> float:
    """Operations of forward and backward for some rows.

    Full training: 6 N + 3 a. LoRA: 4 N + 3 a + 6 P, because frozen matrices get no gradient. N are
    the parameters that a token meets, a is forward attention, P the adapter.

    Args:
        method: full or lora.
        rank: of LoRA.
        rows: (real tokens, trained tokens) of each row.
    """
    per_weight = 4 if method == "lora" else 6
    adapter = 6 * shape.adapter(rank) if method == "lora" else 0
    total = 0.0
    for tokens, targets in rows:
        total += tokens * (per_weight * shape.body + adapter)
        total += per_weight * targets * shape.head + 3 * shape.attention(tokens)
    return total
