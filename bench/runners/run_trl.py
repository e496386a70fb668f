"""TRL's ``SFTTrainer`` on rows that are tokenised already."""

from typing import Any

import hugging_face
import job as jobs
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def train(job: dict[str, Any], ledger: jobs.Ledger) -> dict[str, Any]:
    """Train, save, report."""
    rows = hugging_face.ordered(jobs.read_rows(job), job)
    data = Dataset.from_dict(
        {
            "input_ids": [row["input_ids"] for row in rows],
            "labels": [jobs.labels_of(row) for row in rows],
        }
    )
    arguments = hugging_face.arguments(job)
    arguments["dataset_kwargs"] = {"skip_prepare_dataset": True}
    if job["config"].get("padding_free"):
        arguments.update(padding_free=True, max_length=None)
    model = hugging_face.with_adapter(AutoModelForCausalLM.from_pretrained(job["model"]), job)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        callbacks=[hugging_face.Recorder(ledger)],
    )
    trainer.train()
    trainer.save_model(job["out"])
    return jobs.weights_report(model)


if __name__ == "__main__":
    jobs.run("trl", ("torch", "transformers", "peft", "accelerate", "trl"), train)
