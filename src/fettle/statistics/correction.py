"""Corrections for testing more than one metric.

In: p-values. Out: adjusted p-values. Must not know: what was tested.
"""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment; bounds the chance of any false claim under any dependence.

    Args:
        p_values: unadjusted, each 0 to 1.

    Returns:
        Adjusted p-values in the order given.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
