"""What training says while it runs: one record a line of events.jsonl.

Every event is a dict with "schema", "event" and "time" (seconds since the epoch); the records here
are the ones that code reads back.
"""

from dataclasses import dataclass

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step."""

    step: int
    """1-based."""
    num_steps: int
    epoch: float
    loss: float
    """Nats per target, over all targets of the step."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    num_targets: int
    num_tokens: int
    """Real tokens, without padding."""
    tokens_per_second: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ValidationRecord:
    """One look at the validation rows."""

    step: int
    loss: float
    """Nats per target."""
    metric: str
    value: float
    best: bool
