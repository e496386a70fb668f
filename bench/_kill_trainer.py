"""Kill Hugging Face's Trainer at random instants, in an environment of its own.

    python bench/_kill_trainer.py --number 200 --seed 1

The same kind of toy as in _kill.py: a small BERT with dropout, a checkpoint every 2 steps,
`resume_from_checkpoint=True` as soon as there is a folder checkpoint-*. Prints one JSON object.
"""

import argparse
import copy
import gc
import json
import os
import warnings
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import accelerate
import torch
import transformers
from _forks import random_kills, sha256
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

STEPS, BATCH = 6, 6


def rows() -> list[dict[str, torch.Tensor]]:
    """24 rows of one length whose label is told by their first token."""
    draw = torch.Generator().manual_seed(1)
    found = []
    for index in range(24):
        ids = torch.randint(1, 50, (12,), generator=draw)
        ids[0] = 10 + index % 3
        found.append({"input_ids": ids, "labels": torch.tensor(index % 3)})
    return found


ROWS = rows()
torch.manual_seed(0)
MODEL = BertForSequenceClassification(
    BertConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        num_labels=3,
        hidden_dropout_prob=0.2,
    )
)


def life(folder: Path) -> None:
    """Train, or go on from a checkpoint, as the documentation says."""
    folder.mkdir(exist_ok=True)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        save_steps=2,
        logging_steps=1,
        learning_rate=3e-3,
        seed=7,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(copy.deepcopy(MODEL), arguments, train_dataset=ROWS)
    there = any(folder.glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=True if there else None)
    weights = {name: p.detach().contiguous() for name, p in trainer.model.named_parameters()}
    save_file(weights, folder / "final.safetensors")


def fingerprint(folder: Path) -> object:
    """The weights, and the loss of every step."""
    state = json.loads((folder / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    losses = [(entry["step"], entry["loss"]) for entry in state["log_history"] if "loss" in entry]
    return [sha256(folder / "final.safetensors"), losses]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    null = os.open(os.devnull, os.O_WRONLY)
    out = os.dup(1)
    os.dup2(null, 1)  # Trainer prints its logs; children inherit it
    gc.collect()
    gc.freeze()
    found = random_kills(life, fingerprint, asked.number, asked.seed)
    found["versions"] = {
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "torch": torch.__version__,
    }
    os.write(out, json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main()
