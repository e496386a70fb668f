"""What must hold before a speed counts: both tools did the same work, and training happened.

In: the results of two runs and the steps that were asked for. Out: one ``Gate`` each. Must not
know: tools, speeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIRST_LOSS = 1e-3
"""Most relative difference of the first step's loss: same weights, same rows, same mask."""
CURVE = 1e-2
"""Most relative difference of the loss at any step."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition."""

    name: str
    held: bool
    detail: str


def check_run(result: Mapping[str, Any], plan: Mapping[str, Any], method: str) -> list[Gate]:
    """Conditions on one run.

    Args:
        result: what a runner wrote, without an error.
        plan: ``digests`` and ``num_targets``, one entry a step.
        method: lora or full.
    """
    counted = result["counted"]
    num_steps = len(plan["digests"])
    same = [a == b for a, b in zip(counted["digest"], plan["digests"], strict=False)]
    targets = sum(counted["num_targets"]), sum(plan["num_targets"])
    norms = result["gradient_norms"]
    gates = [
        Gate(
            "same rows and masks in every step",
            len(counted["digest"]) == num_steps and all(same),
            f"{sum(same)} of {num_steps} steps ({len(counted['digest'])} were made)",
        ),
        Gate("same number of targets", targets[0] == targets[1], f"{targets[0]} of {targets[1]}"),
        Gate(
            "gradients in every step",
            len(norms) == num_steps and all(math.isfinite(n) and n > 0 for n in norms),
            f"norms {_range(norms)} in {len(norms)} of {num_steps} steps",
        ),
    ]
    if method == "lora":
        moved = result["lora_b"] - result["lora_b_zero"]
        gates.append(
            Gate(
                "every lora_B moved",
                result["lora_b"] > 0 and result["lora_b_zero"] == 0,
                f"{moved} of {result['lora_b']}",
            )
        )
    return gates


def check_pair(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], first_loss: float = FIRST_LOSS
) -> list[Gate]:
    """Conditions on two runs of the same job.

    Args:
        first_loss: most relative difference of the first step's loss.
    """
    first = _relative(ours["losses"][:1], theirs["losses"][:1])
    curve = _relative(ours["losses"], theirs["losses"])
    return [
        Gate(
            "same number of trained parameters",
            ours["trainable"] == theirs["trainable"],
            f"{ours['trainable']:,} and {theirs['trainable']:,}",
        ),
        Gate(
            f"first loss within {100 * first_loss:.1g} %",
            first <= first_loss,
            f"{100 * first:.4f} %",
        ),
        Gate("loss curve within 1 %", curve <= CURVE, f"{100 * curve:.4f} % at most"),
    ]


def failed(gates: Sequence[Gate]) -> list[str]:
    """The gates that did not hold, in words."""
    return [f"{gate.name}: {gate.detail}" for gate in gates if not gate.held]


def _relative(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Largest relative difference; infinite where a value is missing or not finite."""
    if not ours or len(ours) != len(theirs):
        return math.inf
    worst = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if not (math.isfinite(mine) and math.isfinite(other)) or other == 0:
            return math.inf
        worst = max(worst, abs(mine - other) / abs(other))
    return worst


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}" if values else "none"
