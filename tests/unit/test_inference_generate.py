"""Sampling follows its probabilities; generation keeps to its limits."""

from pathlib import Path

import pytest
import torch
from tests.tiny_models import write_tiny_base

from fettle.errors import DataError
from fettle.inference.generate import generate, stream
from fettle.inference.sampling import next_tokens, row_generators
from fettle.models.inspect_base import inspect_base
from fettle.models.load import load_for_task

VOCAB = 60
PROMPTS = [[5, 6, 7], [8] * 11, [9, 10, 11, 12, 13], [14]]


@pytest.fixture
def model(tmp_path: Path) -> torch.nn.Module:
    write_tiny_base(tmp_path, "llama", VOCAB)
    (tmp_path / "tokenizer.json").write_text("{}")
    return load_for_task(inspect_base(tmp_path, "toy"), "chat", (), 0)


def draws(logits: list[float], temperature: float, top_p: float, count: int) -> list[float]:
    rows = torch.tensor([logits]).repeat(count, 1)
    tokens = next_tokens(rows, temperature, top_p, row_generators(0, count))
    return [float((tokens == token).float().mean()) for token in range(len(logits))]


def test_greedy_takes_the_most_likely() -> None:
    assert draws([0.0, 3.0, 1.0], 0.0, 1.0, 5) == [0.0, 1.0, 0.0]


def test_frequencies_follow_the_temperature() -> None:
    logits = [0.0, 1.0, 2.0, -1.0]
    for temperature in (0.7, 1.5):
        expected = torch.softmax(torch.tensor(logits) / temperature, -1).tolist()
        # 3 standard errors of 20,000 draws are below 0.011.
        assert draws(logits, temperature, 1.0, 20_000) == pytest.approx(expected, abs=0.011)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert draws(logits, 1.0, 0.6, 20_000) == pytest.approx([0.625, 0.375, 0, 0], abs=0.011)
    assert draws(logits, 1.0, 0.45, 100) == [1.0, 0.0, 0.0, 0.0]
    assert draws(logits, 1.0, 0.0, 100) == [1.0, 0.0, 0.0, 0.0]
    # Equal logits: exactly the first ones are kept.
    assert draws([0.0] * 4, 1.0, 0.5, 100)[2:] == [0.0, 0.0]


def test_impossible_tokens_are_never_drawn() -> None:
    inf = float("inf")
    assert draws([-inf, 0.0, -inf, 0.0], 1.0, 1.0, 2_000)[0::2] == [0.0, 0.0]


def test_sampling_does_not_depend_on_the_batch(model: torch.nn.Module) -> None:
    settings = {"temperature": 1.0, "top_p": 0.9}
    once = generate(model, PROMPTS, 15, {2, 9}, 0, seed=4, **settings)
    assert once == generate(model, PROMPTS, 15, {2, 9}, 0, seed=4, batch_tokens=1, **settings)
    assert once != generate(model, PROMPTS, 15, {2, 9}, 0, seed=5, **settings)
    assert list(stream(model, PROMPTS[0], 15, {2, 9}, 0, seed=4, **settings)) == once[0]


def test_lengths_and_ends(model: torch.nn.Module) -> None:
    free = generate(model, PROMPTS, 10, (), 0)
    assert [len(answer) for answer in free] == [10] * 4
    end = free[1][3]
    for prompt, whole, answer in zip(
        PROMPTS, free, generate(model, PROMPTS, 10, {end}, 0), strict=True
    ):
        cut = whole.index(end) if end in whole else 10
        assert answer == whole[:cut]
        assert list(stream(model, prompt, 10, {end}, 0)) == answer
    assert generate(model, PROMPTS, 1, (), 0) == [answer[:1] for answer in free]
    assert generate(model, [], 10, (), 0) == []


def test_the_context_is_never_passed(model: torch.nn.Module) -> None:
    prompts = [[7] * 120, [7] * 3]
    answers = generate(model, prompts, 20, (), 0)
    assert [len(answer) for answer in answers] == [8, 20]
    assert len(list(stream(model, prompts[0], 20, (), 0))) == 8
    for bad in ([], [7] * 128):
        with pytest.raises(DataError) as caught:
            generate(model, [[7], bad], 5, (), 0)
        assert caught.value.code == "E0520"
        with pytest.raises(DataError):
            list(stream(model, bad, 5, (), 0))


def test_streaming_leaves_training_alone(model: torch.nn.Module) -> None:
    model.train()
    for _ in stream(model, PROMPTS[0], 3, (), 0):
        assert model.training
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
