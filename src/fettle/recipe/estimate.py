"""What a run will need, told before it starts. Pure.

In: settings, facts of the data, the measured cost of a step. Out: an ``Estimate``. Must not know:
how the cost was measured.
"""

from dataclasses import dataclass

from fettle.recipe.resolve import Settings
from fettle.records.facts import DataFacts, StepCost


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory and time of training, without compiling: the probe runs the blocks as they are, and a
    compiler would take longer than all of its trials."""

    memory_bytes: int
    """Highest use of memory by the process while it trains."""
    training_seconds: float
    """All steps and all looks at the validation rows; early stopping makes it shorter."""
    tokens_per_second: float
    """Of the steps, without the looks."""


def estimate(settings: Settings, data: DataFacts, cost: StepCost) -> Estimate:
    """Memory and time that training will take.

    Args:
        settings: final.
        data: rows and tokens of each side.
        cost: measured with these very settings.
    """
    rows = max(1, data.num_rows.get("train", 0))
    # The last step of an epoch is smaller, so that passes count rows, not steps.
    per_epoch = -(-rows // settings.batch_size)
    tokens = data.train_tokens * settings.num_steps / per_epoch
    steps = tokens * cost.seconds_per_token + settings.num_steps * cost.step_seconds
    looks = -(-settings.num_steps // settings.evaluate_every)
    looking = looks * data.validation_tokens * cost.look_seconds_per_token
    return Estimate(cost.memory_bytes, steps + looking, tokens / max(steps, 1e-9))
