"""Corrections for testing more than one metric or slice; several finalists are in ``finalists``.

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


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's step-up adjustment; bounds the share of false claims among claims.

    For slices, which are exploratory. Holds for independent and for positively dependent tests.

    Args:
        p_values: unadjusted, each 0 to 1.

    Returns:
        Adjusted p-values in the order given.

    Source: Benjamini and Hochberg 1995, JRSS B 57:289-300; dependence: Benjamini and Yekutieli
    2001, Annals of Statistics 29:1165-1188.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index], reverse=True)
    adjusted = [1.0] * len(p_values)
    smallest = 1.0
    for passed, index in enumerate(order):
        rank = len(p_values) - passed
        smallest = min(smallest, p_values[index] * len(p_values) / rank)
        adjusted[index] = smallest
    return adjusted
