"""Several processes that train one model on the same rows: shares, sums, one writer.

In: ``torch.distributed``, initialised by whoever started the processes, or not. Out: ``Ranks``,
which the loop and the driver ask. Must not know: losses, files, launchers.

Every process walks through the same steps in the same order and takes its share of each step's
rows; gradients are summed, and divided by the weight of the whole step's targets. So neither the
order of the rows nor what a step is made of depends on the number of processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

BUCKET: Final = 8 * 2**20
"""Most numbers that are summed in one message."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together; alone, nothing is ever sent."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    """Where tensors must be to be sent."""

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and talks."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's part of a step's rows; sorted by length, the parts are of like length."""
        return rows[self.rank :: self.size] if self.size > 1 else rows

    def any(self, flag: bool) -> bool:
        """Whether it is so for any process."""
        return self.total([float(flag)])[0] > 0 if self.size > 1 else flag

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over the processes, in float64."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def smallest(self, value: int) -> int:
        """The smallest value of all processes."""
        return int(self._reduced([value], dist.ReduceOp.MIN)[0])

    def of_first(self, values: Sequence[float]) -> list[float]:
        """The first process's numbers; the others give as many of any kind."""
        if self.size == 1:
            return list(values)
        sent = self._tensor(values)
        dist.broadcast(sent, 0)
        found: list[float] = sent.tolist()
        return found

    def start_alike(self, model: nn.Module) -> None:
        """Give every process the first one's trainable weights."""
        if self.size > 1:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    dist.broadcast(parameter.data, 0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over the processes.

        A parameter that no process used keeps none: an optimizer must leave it alone, as it would
        with one process.
        """
        if self.size == 1:
            return
        used = self.total([float(p.grad is not None) for p in parameters])
        open_bucket: list[Tensor] = []
        for parameter, count in zip(parameters, used, strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            open_bucket.append(parameter.grad)
            if sum(gradient.numel() for gradient in open_bucket) >= BUCKET:
                _sum_together(open_bucket)
                open_bucket = []
        _sum_together(open_bucket)

    def gathered(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Everyone's tensors: the first process's under their names, those of process 1 as
        ``1/name``. Every process must have the same names, types and shapes."""
        if self.size == 1:
            return dict(states)
        found: dict[str, Tensor] = {}
        for name in sorted(states):
            sent = states[name].to(self.device)
            parts = [torch.empty_like(sent) for _ in range(self.size)]
            dist.all_gather(parts, sent)
            for rank, part in enumerate(parts):
                found[f"{rank}/{name}" if rank else name] = part.cpu()
        return found

    def own(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of what ``gathered`` gave; empty when it had none."""
        if self.first:
            return {name: value for name, value in states.items() if "/" not in name}
        prefix = f"{self.rank}/"
        return {
            name.removeprefix(prefix): value
            for name, value in states.items()
            if name.startswith(prefix)
        }

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            self.total([0.0])

    def _tensor(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.device)

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return list(values)
        tensor = self._tensor(values)
        dist.all_reduce(tensor, how)
        found: list[float] = tensor.tolist()
        return found


ALONE: Final = Ranks()


def current_ranks() -> Ranks:
    """This process's place, as ``torch.distributed`` has it; alone when it is not initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    device = "cuda" if "nccl" in str(dist.get_backend()) else "cpu"
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


def _sum_together(gradients: Sequence[Tensor]) -> None:
    if not gradients:
        return
    # One message for many small tensors; each has the dtype of its parameter.
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        alike = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.reshape(-1) for gradient in alike])
        dist.all_reduce(flat)
        for gradient, part in zip(alike, flat.split([g.numel() for g in alike]), strict=True):
            gradient.copy_(part.view_as(gradient))
