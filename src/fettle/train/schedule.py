"""Learning-rate schedules: warm-up, then decay.

In: step numbers. Out: a factor of the peak rate. Must not know: optimizers, models.
"""

import math


def rate_factor(schedule: str, step: int, num_steps: int, warmup_steps: int) -> float:
    """Factor of the peak learning rate at one step.

    Args:
        schedule: "linear" (to zero), "cosine" (to zero) or "constant".
        step: 1-based optimizer step.
        num_steps: steps of the whole run.
        warmup_steps: steps over which the rate rises linearly to its peak.

    Returns:
        A number from 0 to 1; the last step of a decaying schedule still moves the weights.
    """
    if step <= warmup_steps:
        return step / max(1, warmup_steps)
    progress = (step - warmup_steps - 1) / max(1, num_steps - warmup_steps)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
