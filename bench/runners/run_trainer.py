"""Plain ``transformers.Trainer`` with peft: next-token training and classification."""

from typing import Any

import hugging_face
import job as jobs
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


class Rows(torch.utils.data.Dataset):
    """Rows that are tokenised already."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def train(job: dict[str, Any], ledger: jobs.Ledger) -> dict[str, Any]:
    """Train, save, report."""
    rows = hugging_face.ordered(jobs.read_rows(job), job)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    if job["task"] == "classify":
        model = AutoModelForSequenceClassification.from_pretrained(job["model"])
        data = [{"input_ids": row["input_ids"], "labels": row["label"]} for row in rows]
        collator: Any = DataCollatorWithPadding(tokenizer)
    else:
        model = AutoModelForCausalLM.from_pretrained(job["model"])
        data = [{"input_ids": row["input_ids"], "labels": jobs.labels_of(row)} for row in rows]
        if job["config"].get("padding_free"):
            collator = DataCollatorWithFlattening()
        else:
            collator = DataCollatorForSeq2Seq(tokenizer)
    model = hugging_face.with_adapter(model, job)
    recorder = hugging_face.Recorder(ledger)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**hugging_face.arguments(job)),
        train_dataset=Rows(data),
        data_collator=collator,
        callbacks=[recorder],
    )
    trainer.train()
    trainer.save_model(job["out"])
    return jobs.weights_report(model)


if __name__ == "__main__":
    jobs.run("trainer", ("torch", "transformers", "peft", "accelerate"), train)
