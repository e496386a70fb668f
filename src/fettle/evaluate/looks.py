"""How often a holdout was opened, and what each further look may still conclude.

In: the run, its holdout's hash, the hash of the weights that are judged. Out: the number of the
look, by the project's ledger, and the level at which that look is tested. Must not know: tests,
verdicts, models.

Every opening of the same holdout by other weights is a look, and the best of many looks is partly
luck. The first look has the whole two-sided level alpha, so that it wrongly says "improved" with a
chance of at most alpha / 2. All later looks together share the same again: look k >= 2 is tested
at alpha / (k (k - 1)), and those sum to alpha over any number of looks. A false "improved" over all
looks thus has a chance of at most alpha / 2 + alpha / 2 = alpha, whatever the looks have to do with
one another.

Source: alpha spending as in Foster and Stine 2008 (J. R. Stat. Soc. B 70:429-444), section 2, which
is Bonferroni's inequality with unequal weights.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from fettle.records.outcomes import SCHEMA
from fettle.records.run_directory import disk_errors, read_jsonl, write_jsonl

SPENDING = "look 1: alpha; look k: alpha / (k (k - 1))"
"""The rule as the plan holds it."""


def look_alpha(look: int, alpha: float = 0.05) -> float:
    """The two-sided level at which a look is tested.

    Args:
        look: its number, from 1.
        alpha: two-sided level of the plan.

    Returns:
        ``alpha`` for the first look, alpha / (k (k - 1)) for look k.

    Raises:
        ValueError: a look before the first.
    """
    if look < 1:
        raise ValueError("looks are counted from 1")
    return alpha if look == 1 else alpha / (look * (look - 1))


def spent_alpha(looks: int, alpha: float = 0.05) -> float:
    """Bound on the chance that any of the looks so far says "improved" where nothing changed.

    Args:
        looks: how many there were.
        alpha: two-sided level of the plan.

    Returns:
        Half the sum of ``look_alpha`` (an improvement is one of two sides): alpha / 2 after one
        look, below alpha after any number.
    """
    return sum(look_alpha(look, alpha) for look in range(1, looks + 1)) / 2.0


def count_look(run: Path, holdout_sha256: str, weights: str) -> int:
    """Note in the project's ledger that this holdout is opened; return the number of this look.

    The ledger is ``.fettle/looks.jsonl`` in the nearest ancestor that has ``.fettle/``, else beside
    the run, so that another --out does not reset it. Measuring the same weights again tells nothing
    new: it keeps its number.

    Args:
        run: the run directory.
        holdout_sha256: what tells this holdout from others.
        weights: hash of the model that is judged.
    """
    run = run.resolve()
    ledger = _ledger_of(run)
    with disk_errors(ledger):
        ledger.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(ledger.with_suffix(".lock"))):
        # A writer that was killed leaves one behind; whoever has the lock knows that none is alive.
        for left_behind in ledger.parent.glob(f".{ledger.name}.tmp-*"):
            left_behind.unlink(missing_ok=True)
        looks = _read(ledger)
        same = [look for look in looks if look["holdout_sha256"] == holdout_sha256]
        for number, look in enumerate(same, start=1):
            if (look["run"], look.get("weights_sha256")) == (str(run), weights):
                return number
        look = {
            "schema": SCHEMA,
            "holdout_sha256": holdout_sha256,
            "weights_sha256": weights,
            "run": str(run),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_jsonl(ledger, [*looks, look])
    return len(same) + 1


def looks_before(run: Path, holdout_sha256: str) -> int:
    """How often other weights than this run's were judged on a holdout; writes nothing.

    Args:
        run: the run directory; it need not exist yet.
        holdout_sha256: of the holdout.
    """
    run = run.resolve()
    return sum(
        look["holdout_sha256"] == holdout_sha256 and look["run"] != str(run)
        for look in _read(_ledger_of(run))
    )


def _ledger_of(run: Path) -> Path:
    home = next((path for path in run.parents if (path / ".fettle").is_dir()), run.parent)
    return home / ".fettle" / "looks.jsonl"


def _read(ledger: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(ledger)) if ledger.is_file() else []
