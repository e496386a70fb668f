"""The packaged alternatives on trials without a difference, in their own environment."""

from typing import Any


def compare_peers(trials: int, seed: int) -> dict[str, Any]:
    return {}
