"""The statistics of interleaved pairs and the count of operations, against figures by hand."""

import numpy as np
import pytest
from bench.compare.cells import CELLS, MODELS, RANK
from bench.compare.flops import ModelShape, step_flops
from bench.compare.pairs import interleaved, paired_ratio, window


def test_runs_alternate() -> None:
    assert interleaved(2, "a", "b") == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_the_window_leaves_the_warm_up_out() -> None:
    assert window([0.0, 5.0, 6.0, 8.5], warmup=1) == 3.5


def test_a_window_needs_a_step() -> None:
    with pytest.raises(ValueError, match="2 are for warming up"):
        window([0.0, 1.0, 2.0], warmup=2)


def test_a_ratio_is_taken_within_pairs() -> None:
    """The machine halves its speed after each pair: both sides fall, their ratio stays."""
    found = paired_ratio([30.0, 15.0, 7.5], [10.0, 5.0, 2.5])
    assert (found.median, found.low, found.high, found.num_pairs) == (3.0, 3.0, 3.0, 3)


def test_the_interval_holds_the_median_and_stays_within_the_pairs() -> None:
    ours, theirs = [2.0, 2.2, 1.8, 2.1, 2.4], [1.0] * 5
    found = paired_ratio(ours, theirs)
    assert found.median == pytest.approx(2.1)
    assert min(ours) <= found.low < found.median < found.high <= max(ours)


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    """Five pairs with 3 % of noise: the percentile bootstrap of a median covers 90 % or more."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        noise = random.normal(1.0, 0.03, size=5)
        found = paired_ratio((1.5 * noise).tolist(), [1.0] * 5)
        held += found.low <= 1.5 <= found.high
    assert 0.88 <= held / 200 <= 1.0


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [([], [], "0 figures"), ([1.0], [1.0, 2.0], "against 2"), ([0.0], [1.0], "positive")],
)
def test_what_is_no_pair_is_refused(ours: list[float], theirs: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        paired_ratio(ours, theirs)


def test_parameters_of_the_real_configurations() -> None:
    """SmolLM2-135M has 134.5 M parameters, Qwen3-0.6B 596 M, both with their tied head once."""
    small, large = MODELS["smollm2-135m"].shape, MODELS["qwen3-0.6b"].shape
    norms = 30 * 2 * 576 + 576
    assert small.body + small.head + norms == 134_515_008
    norms = 28 * (2 * 1024 + 2 * 128) + 1024
    assert large.body + large.head + norms == 596_049_920


def test_operations_of_one_row_by_hand() -> None:
    shape = ModelShape(4, 1, 1, 1, 4, 8, vocab=10)
    body = 4 * 4 * 4 + 3 * 4 * 8
    attention = 2 * 5 * 5 * 4
    assert step_flops(shape, "full", RANK, [(5, 2)]) == 6 * (5 * body + 2 * 40) + 3 * attention
    adapter = 2 * (4 * (4 + 4) + 3 * (4 + 8))
    lora = 5 * (4 * body + 6 * adapter) + 4 * 2 * 40 + 3 * attention
    assert step_flops(shape, "lora", 2, [(5, 2)]) == lora


def test_an_encoder_sees_both_sides() -> None:
    causal = ModelShape(4, 1, 1, 1, 4, 8, vocab=0)
    both = ModelShape(4, 1, 1, 1, 4, 8, vocab=0, causal=False)
    assert both.attention(7) == 2 * causal.attention(7)


def test_cells_have_their_names_and_steps_beyond_the_warm_up() -> None:
    for name, cell in CELLS.items():
        assert name == cell.name
        assert cell.steps > cell.warmup
    assert any(cell.lane == "defaults" for cell in CELLS.values())
