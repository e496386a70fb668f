"""Token ids with the loss mask, and the batches that are made of them.

In: nothing. Out: value types. Must not know: tokenizers, torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One example as token ids.

    Which target it has tells what it is for: ``loss_mask`` (chat, text), ``label`` (classify),
    ``labels`` (classify with several labels a row) or ``value`` (regress).
    """

    row_id: str
    input_ids: tuple[int, ...]
    loss_mask: tuple[float, ...] = ()
    """Same length as input_ids; weight of each token as a target (chat, text): 0 = the model is not
    trained to produce it, 1 = the usual weight."""
    label: int | None = None
    """Class index."""
    weight: float = 1.0
    """Multiplies the loss of the whole row."""
    labels: tuple[int, ...] | None = None
    """Indices of the labels that apply, perhaps none of them; None = not such a row."""
    label_weights: tuple[float, ...] = ()
    """Weight of each of ``labels`` against the same label's absence; () = 1 each."""
    value: float | None = None
    """The number to predict, in units of the training rows' spread around their mean."""

    @property
    def num_tokens(self) -> int:
        """Length in tokens."""
        return len(self.input_ids)

    @property
    def num_targets(self) -> int:
        """How many things are learned from this row: 1 for a label, a set of labels or a number,
        else its trained tokens; 0 when the row's weight is 0.

        The first token of a row is never predicted, so a mask on it does not count.
        """
        if self.weight == 0:
            return 0
        if self.label is not None or self.labels is not None or self.value is not None:
            return 1
        return sum(weight > 0 for weight in self.loss_mask[1:])

    @property
    def target_weight(self) -> float:
        """Sum of the targets' weights: the row's share of what a step's loss is divided by."""
        if self.label is not None or self.labels is not None or self.value is not None:
            return self.weight
        return self.weight * sum(self.loss_mask[1:])


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch: rows that go through the model together."""

    rows: tuple[TokenizedExample, ...]

    @property
    def num_targets(self) -> int:
        """Sum of the rows' targets."""
        return sum(row.num_targets for row in self.rows)

    @property
    def target_weight(self) -> float:
        """Sum of the rows' target weights."""
        return sum(row.target_weight for row in self.rows)

    @property
    def num_tokens(self) -> int:
        """Real tokens, without padding."""
        return sum(row.num_tokens for row in self.rows)
