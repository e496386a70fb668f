"""Token ids with the loss mask, and the batches that are made of them.

In: nothing. Out: value types. Must not know: tokenizers, torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One example as token ids."""

    row_id: str
    input_ids: tuple[int, ...]
    loss_mask: tuple[int, ...] = ()
    """Same length as input_ids; 1 = the model is trained to produce this token (chat, text)."""
    label: int | None = None
    """Class index (classify)."""
    weight: float = 1.0

    @property
    def num_tokens(self) -> int:
        """Length in tokens."""
        return len(self.input_ids)

    @property
    def num_targets(self) -> int:
        """What the loss of this row is divided by: 1 for a label, else its trained tokens.

        The first token of a row is never predicted, so a mask on it does not count.
        """
        return 1 if self.label is not None else sum(self.loss_mask[1:])


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch: rows that go through the model together."""

    rows: tuple[TokenizedExample, ...]

    @property
    def num_targets(self) -> int:
        """Sum of the rows' targets."""
        return sum(row.num_targets for row in self.rows)

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(row.num_tokens for row in self.rows)
