# ruff: noqa: E402  (what is hidden below has to be hidden before LLaMA-Factory is imported)
"""LLaMA-Factory on a data set that is tokenised already (its ``tokenized_path``)."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

# Pictures and sound have no part in this, and their packages load only beside the torch that they
# were built with: the one is taken for absent, the other, which is imported by name, stays empty.
sys.modules["torchvision"] = None  # type: ignore[assignment]
sys.modules["torchaudio"] = ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

import hugging_face
import job as jobs
from datasets import Dataset, DatasetDict
from llamafactory.train.tuner import run_exp


def train(job: dict[str, Any], ledger: jobs.Ledger) -> dict[str, Any]:
    """Train, save, report."""
    rows = hugging_face.ordered(jobs.read_rows(job), job)
    tokenized = Path(job["out"]).with_name("tokenized")
    data = Dataset.from_dict(
        {
            "input_ids": [row["input_ids"] for row in rows],
            "attention_mask": [[1] * len(row["input_ids"]) for row in rows],
            "labels": [jobs.labels_of(row) for row in rows],
        }
    )
    DatasetDict({"train": data}).save_to_disk(str(tokenized))
    arguments = hugging_face.arguments(job)
    # Its own name for rows in the order in which they come.
    del arguments["train_sampling_strategy"]
    arguments |= {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": job["model"],
        "template": "empty",
        "tokenized_path": str(tokenized),
        "disable_shuffling": True,
        "finetuning_type": job["method"],
        "overwrite_output_dir": True,
    }
    if job["method"] == "lora":
        arguments |= {"adapter_name_or_path": job["adapter"], "create_new_adapter": False}
    recorder = hugging_face.Recorder(ledger)
    run_exp(arguments, callbacks=[recorder])
    return jobs.weights_report(recorder.model)


if __name__ == "__main__":
    packages = ("torch", "transformers", "peft", "accelerate", "trl", "llamafactory")
    jobs.run("llama-factory", packages, train)
