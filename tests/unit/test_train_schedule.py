"""Learning-rate schedules against transformers' own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from fettle.train.schedule import rate_factor

SCHEDULES = ("linear", "cosine", "constant")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rises_linearly_to_the_peak(schedule: str) -> None:
    factors = [rate_factor(schedule, step, 100, 4) for step in range(1, 6)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        ("linear", get_linear_schedule_with_warmup),
        ("cosine", get_cosine_schedule_with_warmup),
    ],
)
def test_decays_as_in_transformers(schedule: str, theirs: object) -> None:
    # Theirs warms up from 0, so its factor of step n (0-based) is ours of step n + 1 after warm-up.
    warmup, total = 5, 40
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(optimizer, warmup, total)  # type: ignore[operator]
    found = []
    for _ in range(total):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    ours = [rate_factor(schedule, step, total, warmup) for step in range(1, total + 1)]
    assert ours[warmup:] == pytest.approx(found[warmup:], abs=1e-12)


@given(st.sampled_from(SCHEDULES), st.integers(1, 300), st.integers(0, 300))
def test_every_step_moves_the_weights(schedule: str, num_steps: int, warmup: int) -> None:
    warmup = min(warmup, num_steps)
    factors = [rate_factor(schedule, step, num_steps, warmup) for step in range(1, num_steps + 1)]
    assert all(0 < factor <= 1 for factor in factors)
    after = factors[warmup:]
    assert after == sorted(after, reverse=True)
