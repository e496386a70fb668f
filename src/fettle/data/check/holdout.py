"""Whether a holdout is large enough for the difference that is wanted.

In: row counts. Out: differences, a finding. Must not know: models, splits.
"""

from typing import Final

from fettle.records.rows import Finding
from fettle.statistics.power import minimum_detectable_difference, rows_for_proportions

DISCORDANCE: Final = 0.2
"""Share of rows on which exactly one of two models is right, before anything is known."""


def detectable(
    num_rows: int, discordance: float = DISCORDANCE, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """The smallest difference of accuracy that so many rows show (exact McNemar test).

    Args:
        num_rows: of the holdout.
        discordance: share of rows on which exactly one of two models is right.
        power: chance of showing it.
        alpha: two-sided level.

    Returns:
        A difference of proportions (0.057 = 5.7 points); None when nothing could be shown.
    """
    return minimum_detectable_difference(num_rows, discordance, power, alpha)


def too_small(
    source: str,
    num_rows: int,
    wanted: float,
    discordance: float = DISCORDANCE,
    power: float = 0.8,
    alpha: float = 0.05,
) -> list[Finding]:
    """holdout_too_small, unless the rows show the difference that is wanted.

    Args:
        source: path of the holdout.
        num_rows: of the holdout.
        wanted: smallest difference of accuracy that matters, as a proportion.
        discordance: as in ``detectable``; no less than the difference.
        power: chance of showing it.
        alpha: two-sided level.
    """
    discordance = max(discordance, wanted)
    found = detectable(num_rows, discordance, power, alpha)
    if found is not None and found <= wanted:
        return []
    shows = "no difference at all" if found is None else f"a difference of {100 * found:.1f} points"
    needed = rows_for_proportions(wanted, discordance, power, alpha)
    return [
        Finding(
            "",
            source,
            0,
            None,
            "holdout_too_small",
            "warning",
            f"{num_rows:,} holdout rows show {shows} with {power:.0%} power, where "
            f"{100 * wanted:.1f} points are wanted",
            "collect more holdout rows"
            + ("" if needed is None else f": about {needed:,} show {100 * wanted:.1f} points"),
        )
    ]
