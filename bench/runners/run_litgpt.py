"""LitGPT's ``finetune_lora`` on rows that are tokenised already, through a data module of ours.

Two of its habits are set to those of the other tools: the rate is constant, and the adapter starts
with the same A matrices, which ``convert_litgpt.py`` put beside the weights. It averages the loss
over micro-batches, not over tokens, so it is only compared on rows with equally many targets.
"""

import csv
from pathlib import Path
from typing import Any

import job as jobs
import litgpt.finetune.lora as lora
import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule
from litgpt.prompts import Default
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader


class Rows(DataModule):
    """The rows of the job, in order; the ledger is kept where batches are made."""

    def __init__(self, rows: list[dict[str, Any]], ledger: jobs.Ledger) -> None:
        super().__init__()
        self.rows = rows
        self.ledger = ledger
        self.batch_size = 1
        self.prompt_style = Default()

    def connect(self, tokenizer: Any = None, batch_size: int = 1, **rest: Any) -> None:
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, batch_size=self.batch_size, collate_fn=self._noted)

    def val_dataloader(self) -> DataLoader:
        # One row: it looks at the validation rows before it starts.
        return DataLoader(self.rows[:1], batch_size=1, collate_fn=together)

    def _noted(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.ledger.wall:
            self.ledger.begin()
        batch = together(rows)
        self.ledger.forward(batch["input_ids"], batch["labels"])
        return batch


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of one length as one batch, as LitGPT's own collation hands it over."""
    lengths = torch.tensor([[len(row["input_ids"])] for row in rows])
    return {
        "input_ids": torch.tensor([row["input_ids"] for row in rows]),
        "labels": torch.tensor([jobs.labels_of(row) for row in rows]),
        "token_counts": {"raw": lengths, "raw_plus_prompt_template": lengths},
    }


def constant(optimizer: Any, warmup_steps: int, max_steps: int) -> Any:
    """A rate that stays."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def train(job: dict[str, Any], ledger: jobs.Ledger) -> dict[str, Any]:
    """Train, save, report."""
    rows = [jobs.read_rows(job)[index] for step in job["steps"] for index in step]
    micro = job["config"].get("micro_batch_size", 1)
    found: dict[str, Any] = {}

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        trained = [p for p in parameters if p.grad is not None]
        norms = torch.stack([p.grad.norm() for p in trained])
        ledger.gradient_norms.append(float(norms.norm()))
        found["trainable"] = sum(p.numel() for p in parameters if p.requires_grad)

    register_optimizer_step_pre_hook(before_step)
    jobs.watch_optimizer(ledger)
    lora.get_lr_scheduler = constant
    out = Path(job["out"])
    lora.setup(
        Path(job["converted"]),
        out_dir=out,
        precision=job["config"].get("precision", "32-true"),
        lora_r=job["rank"],
        lora_alpha=job["alpha"],
        lora_dropout=0.0,
        lora_key=True,
        lora_projection=True,
        lora_mlp=True,
        data=Rows(rows, ledger),
        train=TrainArgs(
            save_interval=None,
            log_interval=1,
            global_batch_size=job["batch_size"],
            micro_batch_size=micro,
            lr_warmup_steps=0,
            epochs=2,
            max_steps=len(job["steps"]),
        ),
        eval=EvalArgs(interval=10**6, max_new_tokens=1, max_iters=1, final_validation=False),
        optimizer={
            "class_path": "torch.optim.AdamW",
            "init_args": {"lr": job["learning_rate"], "weight_decay": 0.0, "fused": True},
        },
        logger_name="csv",
        seed=job["seed"],
    )
    ledger.losses.extend(_losses(out, job["batch_size"] // micro))
    saved = torch.load(out / "final" / "lit_model.pth.lora", weights_only=True)["model"]
    norms = [float(value.norm()) for name, value in saved.items() if name.endswith("lora_B")]
    zero = sum(1 for norm in norms if not norm > 0)
    return {"trainable": found["trainable"], "lora_b": len(norms), "lora_b_zero": zero}


def _losses(out: Path, iterations: int) -> list[float]:
    """Its running mean at the end of every step, from the log that it writes."""
    path = next(out.rglob("metrics.csv"))
    with path.open(encoding="utf-8", newline="") as file:
        logged = [record for record in csv.DictReader(file) if record.get("loss")]
    ends = [record for record in logged if int(float(record["iter"])) % iterations == 0]
    return [float(record["loss"]) for record in ends]


if __name__ == "__main__":
    jobs.run("litgpt", ("torch", "lightning", "litgpt"), train)
