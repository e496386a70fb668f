"""With Muon too, a training that was stopped is the one that was left alone, bit for bit."""

from pathlib import Path

import pytest
import torch
from tests.train_fixture import (
    PAD,
    Events,
    chat_rows,
    decoder,
    same,
    scripted,
    settings,
    weights,
)

from fettle.errors import Interrupted
from fettle.train.train import TrainingResult, train

CHOSEN = settings(
    "chat",
    batch_size=8,
    max_steps=6,
    evaluate_every=3,
    checkpoint_every=1,
    learning_rate=1e-3,
    optimizer="muon",
    patience=100,
)


def drive(
    model: torch.nn.Module, folder: Path, looks: list[float], stop_after: int = 0
) -> TrainingResult:
    torch.manual_seed(5)
    events = Events()
    return train(
        model,
        chat_rows(),
        CHOSEN,
        device="cpu",
        pad_id=PAD,
        checkpoints=folder,
        validate=scripted(looks),
        emit=events,
        stop_requested=lambda: len(events.of("step")) == stop_after,
    )


@pytest.mark.parametrize("stop_after", [1, 4])
def test_resumed_is_uninterrupted(tmp_path: Path, stop_after: int) -> None:
    whole, cut, resumed = decoder(), decoder(), decoder()
    looks = [2.0, 1.0]  # after the third and the sixth step
    drive(whole, tmp_path / "whole", looks)
    with pytest.raises(Interrupted):
        drive(cut, tmp_path / "cut", looks, stop_after)
    drive(resumed, tmp_path / "cut", looks[stop_after // 3 :])
    assert same(weights(whole), weights(resumed))
    assert not same(weights(decoder()), weights(resumed))
