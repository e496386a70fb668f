"""Steps of our loop against plain torch and transformers: AdamW, clipping, mean loss."""

from contextlib import nullcontext

import pytest
import torch
from tests.train_fixture import PAD, chat_rows, decoder, encoder, label_rows
from torch.nn.utils import clip_grad_norm_

from fettle.models.forward import pad
from fettle.models.packed import use_padding_free
from fettle.records.tokens import Batch
from fettle.train.loop import training_steps
from fettle.train.objectives import OBJECTIVES
from fettle.train.optimizer import make_optimizer

RATE, DECAY, CLIP, STEPS = 1e-3, 0.1, 0.5, 3


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("task", ["chat", "classify"])
def test_steps_equal_plain_transformers(task: str, padding_free: bool) -> None:
    make, rows = (decoder, chat_rows(8)) if task == "chat" else (encoder, label_rows(8))
    ours, theirs = make(), make()
    if padding_free:
        use_padding_free(ours)
    # One micro-batch: Adam scales rounding differences of tiny gradients up.
    micro = [Batch(tuple(rows))]
    records = list(
        training_steps(
            ours,
            OBJECTIVES[task],
            make_optimizer(ours, RATE, DECAY),
            iter([micro] * STEPS),
            pad_id=PAD,
            learning_rate=RATE,
            schedule="constant",
            warmup_steps=0,
            num_steps=STEPS,
            steps_per_epoch=1.0,
            max_gradient_norm=CLIP,
            autocast=nullcontext,
        )
    )

    matrices = [p for p in theirs.parameters() if p.ndim >= 2]
    vectors = [p for p in theirs.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}],
        lr=RATE,
    )
    inputs = pad(Batch(tuple(rows)), PAD)
    if task == "chat":
        labels = torch.full_like(inputs["input_ids"], -100)
        for index, row in enumerate(rows):
            for position, trained in enumerate(row.loss_mask):
                if trained:
                    labels[index, position] = row.input_ids[position]
    else:
        labels = torch.tensor([row.label for row in rows])
    theirs.train()
    for record in records:
        optimizer.zero_grad()
        loss = theirs(**inputs, labels=labels).loss
        loss.backward()
        norm = clip_grad_norm_(theirs.parameters(), CLIP)
        optimizer.step()
        assert norm > CLIP, "clipping must act in this test"
        assert record.loss == pytest.approx(float(loss.detach()), abs=1e-6)
        assert record.gradient_norm == pytest.approx(float(norm), rel=1e-5)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is nothing but rounding
        if not padding_free:
            assert torch.allclose(mine, other, atol=1e-6, rtol=0), name
            continue
        # Sums in another order: where a gradient is near zero, Adam shows its rounding. One step
        # moves a weight by 1e-3.
        difference = (mine - other).detach().abs()
        assert difference.max() < 3e-5, name
        assert (difference > 1e-6).float().mean() < 0.005, name
