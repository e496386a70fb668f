"""What the tools on top of ``transformers.Trainer`` share: arguments, model, recorder.

In: a job. Out: a model with the adapter of the job, arguments, a callback that keeps the ledger.
Must not know: which tool it is.
"""

from typing import Any

import torch
from job import Ledger
from transformers import TrainerCallback


class Recorder(TrainerCallback):
    """Keeps the ledger from inside a Trainer.

    Args:
        watch: whether to enter the rows of every forward pass too.
    """

    def __init__(self, ledger: Ledger, watch: bool = True) -> None:
        self.ledger = ledger
        self.watch = watch
        self.model: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.model = rest["model"]
        if self.watch:
            self.model.register_forward_pre_hook(self._forward, with_kwargs=True)
        self.ledger.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.ledger.end_step()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        if logs and "loss" in logs and "grad_norm" in logs:
            self.ledger.losses.append(float(logs["loss"]))
            self.ledger.gradient_norms.append(float(logs["grad_norm"]))

    def _forward(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if module.training:
            # Positions count only where rows lie one behind the other, without a mask.
            mask = kwargs.get("attention_mask")
            positions = kwargs.get("position_ids") if mask is None else None
            self.ledger.forward(kwargs["input_ids"], kwargs["labels"], mask, positions)


def arguments(job: dict[str, Any]) -> dict[str, Any]:
    """Training arguments that every lane of every tool has in common, and the lane's own.

    The order of the rows is the job's: ``sequential`` on rows that lie in that order already.
    """
    micro = job["config"].get("per_device_train_batch_size", job["batch_size"])
    own = {
        "output_dir": job["out"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": job["batch_size"] // micro,
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "train_sampling_strategy": "sequential",
        "seed": job["seed"],
    }
    lane = {key: value for key, value in job["config"].items() if key != "padding_free"}
    return {**own, **lane}


def with_adapter(model: torch.nn.Module, job: dict[str, Any]) -> torch.nn.Module:
    """Put the job's adapter, as it was initialised for all tools, on the model."""
    if job["method"] != "lora":
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, job["adapter"], is_trainable=True)


def ordered(rows: list[dict[str, Any]], job: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows in the order in which the steps of the job want them."""
    return [rows[index] for step in job["steps"] for index in step]
