"""sentence-transformers' ``CrossEncoderTrainer`` as a classifier of single texts.

Its own cross-entropy takes pairs of texts, so the loss here is that one with one text: the same
steps, in the form its documentation gives for losses of one's own. It tokenises by itself, inside
the loss; the ledger sees whether the ids are the same.
"""

from typing import Any

import hugging_face
import job as jobs
import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)


class Sequential(DefaultBatchSampler):
    """Batches in the order of the rows."""

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool, **rest: Any) -> None:
        order = torch.utils.data.SequentialSampler(dataset)
        super().__init__(order, batch_size=batch_size, drop_last=drop_last)


class CrossEntropy(torch.nn.Module):
    """Cross-entropy over the classes of one text."""

    def __init__(self, model: CrossEncoder, ledger: jobs.Ledger) -> None:
        super().__init__()
        self.model = model
        self.ledger = ledger
        self.cross_entropy = torch.nn.CrossEntropyLoss()

    def forward(self, inputs: list[list[str]], labels: torch.Tensor, **rest: Any) -> torch.Tensor:
        """Mean loss of a micro-batch."""
        tokens = self.model.preprocess(inputs[0])
        self.ledger.forward(tokens["input_ids"], labels, tokens["attention_mask"])
        return self.cross_entropy(self.model(tokens)["scores"], labels)


def train(job: dict[str, Any], ledger: jobs.Ledger) -> dict[str, Any]:
    """Train, save, report."""
    rows = hugging_face.ordered(jobs.read_rows(job), job)
    model = CrossEncoder(job["model"], device="cpu")
    arguments = hugging_face.arguments(job)
    del arguments["train_sampling_strategy"]
    trainer = CrossEncoderTrainer(
        model=model,
        args=CrossEncoderTrainingArguments(batch_sampler=Sequential, **arguments),
        train_dataset=Dataset.from_dict(
            {"text": [row["text"] for row in rows], "label": [row["label"] for row in rows]}
        ),
        loss=CrossEntropy(model, ledger),
        callbacks=[hugging_face.Recorder(ledger, watch=False)],
    )
    trainer.train()
    model.save_pretrained(job["out"])
    return jobs.weights_report(model)


if __name__ == "__main__":
    packages = ("torch", "transformers", "accelerate", "sentence-transformers")
    jobs.run("sentence-transformers", packages, train)
