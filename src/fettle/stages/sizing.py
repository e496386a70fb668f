"""The rows of a run, with a holdout that is large enough to show a difference that was named.

In: the recipe. Out: ``Prepared``. Must not know: tokens, models.
"""

from collections.abc import Mapping, Sequence

from fettle.data.account.account import Prepared
from fettle.data.prepare import prepare
from fettle.errors import DataError, UsageError
from fettle.evaluate.plan import ASSUMED_DISCORDANCE, task_metrics
from fettle.metrics import find_metric
from fettle.recipe.recipe import Recipe
from fettle.records.rows import Example, Split
from fettle.statistics.power import minimum_detectable_difference, rows_for_difference

MAX_SHARE = 0.5
"""More of the rows than this are never taken from training for a holdout."""
ATTEMPTS = 4


def prepare_sized(
    recipe: Recipe, pins: Mapping[str, Split] | None = None, earlier: Sequence[Example] = ()
) -> Prepared:
    """Read and split; with ``evaluate.target_difference`` the holdout is cut to its size.

    Rows are cut by a hash, so that their number is only near the share that is asked for: the share
    grows until there are enough.

    Args:
        recipe: what is asked for.
        pins: row_id to the side that an earlier run gave it.
        earlier: the rows of earlier runs.

    Raises:
        UsageError: E1022, the holdout is given, or the metric is not one of right and wrong.
        DataError: E1023, more than half of the rows would be needed; else as ``prepare`` says.
    """
    prepared = prepare(recipe.data, recipe.task, recipe.seed, pins, earlier)
    target = recipe.evaluate.target_difference
    if target is None:
        return prepared
    metric = find_metric(task_metrics(prepared.judged_as, recipe.evaluate.metric).primary)
    given = recipe.data.eval or recipe.data.holdout_fraction is not None or prepared.protected
    if given or not metric.binary:
        raise UsageError(
            "E1022",
            f"evaluate.target_difference = {target:g} can't size this holdout",
            why="The holdout, or its share, is given already"
            if given
            else f"The spread of {metric.name} is not known before training",
            hint="leave out data.eval, the split column and data.holdout_fraction"
            if given
            else "name a metric of right and wrong, such as --metric accuracy, or leave it out",
        )
    needed = rows_needed(target, recipe.evaluate.alpha)
    total = sum(len(rows) for rows in prepared.examples.values())
    if needed is None or needed > MAX_SHARE * total:
        raise DataError(
            "E1023",
            f"to show a difference of {100 * target:g} points takes a holdout of"
            f" {'over ten million' if needed is None else f'{needed:,}'} rows; there are {total:,}"
            " in all",
            why=_possible(int(MAX_SHARE * total), recipe.evaluate.alpha),
            hint="name a larger difference with --target-difference, or add rows",
        )
    share = needed / total
    for _ in range(ATTEMPTS):
        section = recipe.data.model_copy(update={"holdout_fraction": min(share, MAX_SHARE)})
        prepared = prepare(section, recipe.task, recipe.seed, pins, earlier)
        got = len(prepared.examples["holdout"])
        if got >= needed:
            break
        share *= 1.02 * needed / max(1, got)
    return prepared


def rows_needed(difference: float, alpha: float) -> int | None:
    """Holdout rows that show a difference of right answers at 80 % power.

    Args:
        difference: as a share.
        alpha: two-sided level.
    """
    return rows_for_difference(difference, max(ASSUMED_DISCORDANCE, difference), alpha=alpha)


def _possible(rows: int, alpha: float) -> str:
    found = minimum_detectable_difference(rows, ASSUMED_DISCORDANCE, alpha=alpha)
    if found is None:
        return f"Half of them, {rows:,}, would be too few"
    return f"Half of them, {rows:,}, would show {100 * found:.1f} points"
