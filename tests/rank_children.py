"""Train a toy in several gloo processes; run as a script, so that forks start from a quiet process.

    python -m tests.rank_children CASE NUMBER_OF_PROCESSES FOLDER

Each process leaves FOLDER/RANK.safetensors (weights), and the first one events.json.
"""

import json
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tests.train_fixture import PAD, Events, chat_rows, decoder, encoder, label_rows, settings

from fettle.inference.predict import row_losses
from fettle.recipe.resolve import Settings
from fettle.records.tokens import TokenizedExample
from fettle.train.train import Validation, train

STEPS = 5


class WithSpare(torch.nn.Module):
    """A decoder with a weight that no loss depends on; it must stay as it is, decay or not."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = decoder()
        self.spare = torch.nn.Parameter(torch.ones(3, 3))
        self.config = self.inner.config
        self.base_model = self.inner.base_model
        self.get_output_embeddings = self.inner.get_output_embeddings


class Narrow(torch.nn.Module):
    """A decoder that has no memory for more than 40 tokens at once in one of the processes."""

    def __init__(self) -> None:
        super().__init__()
        inner = decoder()
        self.inner = inner
        self.config, self.get_output_embeddings = inner.config, inner.get_output_embeddings
        inner.get_input_embeddings().register_forward_pre_hook(self._check)
        self.base_model = inner.base_model

    def _check(self, module: object, values: tuple[torch.Tensor, ...]) -> None:
        short = not dist.is_initialized() or dist.get_rank() == 1
        if self.training and short and values[0].numel() > 40:
            raise torch.OutOfMemoryError("no room for more than 40 tokens")


def case(name: str) -> tuple[torch.nn.Module, list[TokenizedExample], Settings]:
    """Model, rows and settings."""
    task = "classify" if name == "encoder" else "chat"
    tokens = 256 if name == "out of memory" else 64
    changes = {"learning_rate": 1e-3, "micro_batch_tokens": tokens, "weight_decay": 0.1}
    size = 1 if name == "one row a step" else 7
    chosen = settings(
        task, 23, batch_size=size, max_steps=STEPS, evaluate_every=5, patience=9, **changes
    )
    makers = {"encoder": encoder, "unused weight": WithSpare, "out of memory": Narrow}
    rows = label_rows(23) if task == "classify" else chat_rows(23)
    return makers.get(name, decoder)(), rows, replace(chosen, seed=3)


def life(name: str, folder: Path, rank: int) -> None:
    """One process's training."""
    model, rows, chosen = case(name)
    events = Events()

    def validate() -> Validation:
        assert rank == 0, "the first process validates"
        found = row_losses(model, chat_rows(6, seed=9), PAD, 64) if chosen.task == "chat" else []
        loss = sum(total for total, _ in found)
        return Validation(loss, "loss", loss, higher_is_better=False)

    train(
        model,
        rows,
        chosen,
        device="cpu",
        pad_id=PAD,
        checkpoints=folder / "checkpoints",
        validate=validate,
        emit=events,
        stop_requested=lambda: False,
    )
    weights = {key: value.detach().clone() for key, value in model.named_parameters()}
    save_file(weights, folder / f"{rank}.safetensors")
    if rank == 0:
        (folder / "events.json").write_text(json.dumps(events.all), encoding="utf-8")
    else:
        assert events.all == []


def main() -> None:
    """Fork the processes of every case and wait for them."""
    number, root = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    failed = False
    for name in sys.argv[3:]:
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        children = []
        for rank in range(number):
            child = os.fork()
            if not child:
                code = 1
                try:
                    if number > 1:
                        store = f"file://{folder / 'store'}"
                        dist.init_process_group("gloo", store, rank=rank, world_size=number)
                    life(name, folder, rank)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        failed = failed or any(codes)
    sys.exit(failed)


if __name__ == "__main__":
    main()
