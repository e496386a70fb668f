"""How often is "improved" or "worse" said where nothing differs? `python -m bench.calibration`.

Trials in which both arms are drawn alike go through the whole policy: test, interval, word. Each
cell of the grid (metric and test, rows, base rate, ties, clusters) and each policy (best of five
checkpoints, ten looks) must keep the false words within the 99.9 % binomial quantile of alpha, and
the intervals must cover the truth in at least 93.5 %, where there is one. Beside it the packaged
alternatives on the same trials, in their own environment.

Prints a table and writes bench/results/calibration.json. Exit 1 when a mark is missed.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bench._calibration_cells import SCORE, Cell, cells
from bench._calibration_peers import compare_peers
from bench._calibration_policy import Outcome, batch, plain
from scipy.stats import binom

from fettle.evaluate.looks import look_alpha
from fettle.metrics import METRICS
from fettle.statistics.finalists import max_t
from fettle.statistics.resampling import FloatArray, IntArray

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results" / "calibration.json"
ALPHA = 0.05
COVERAGE = 0.935
BATCH = 20
"""Trials that share their random patterns: so few that they hardly depend on each other (the
rate's variance grows by about 2 %)."""
ROUND = 100
LOOKS = 10
CANDIDATES = 5
POLICY_ROWS = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="per cell, in rounds of 100")
    parser.add_argument("--resamples", type=int, default=1000, help="draws per test and interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--peer-trials", type=int, default=400, help="0 leaves the peers out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="print the results as Markdown")
    options = parser.parse_args(arguments)
    if options.show:
        print(markdown(json.loads(options.results.read_text(encoding="utf-8"))))
        return 0
    started, processor = time.monotonic(), time.process_time()
    grid = [cell for cell in cells() if options.only in cell.name]
    policies = {name: policy for name, policy in POLICIES.items() if options.only in name}
    counts = [Counter[str]() for _ in grid]
    of_policies = {name: Counter[str]() for name in policies}
    found: dict[str, Any] = {}
    if options.results.is_file():
        found["peers"] = json.loads(options.results.read_text(encoding="utf-8")).get("peers")
    # In rounds, so that what was interrupted is a smaller experiment and not a smaller grid.
    for first in range(0, options.trials, ROUND):
        last = min(first + ROUND, options.trials)
        for number, (cell, count) in enumerate(zip(grid, counts, strict=True)):
            seed = options.seed + 1_000_000 * number
            count.update(run_cell(cell, first, last, options.resamples, seed))
        for name, policy in policies.items():
            seed = options.seed + first
            of_policies[name].update(policy(last - first, options.resamples, seed))
        found |= {
            "alpha": ALPHA,
            "resamples": options.resamples,
            "trials": last,
            "machine": platform.processor() or platform.machine(),
            "load": os.getloadavg()[0],
            "seconds": round(time.monotonic() - started),
            "processor_seconds": round(time.process_time() - processor),
            "cells": [_row(*pair) for pair in zip(grid, counts, strict=True)],
            "policies": [_policy(name, count) for name, count in of_policies.items()],
        }
        _write(options.results, found)
        print(f"{last} trials in {found['seconds']} s", file=sys.stderr, flush=True)
    if options.peer_trials:
        found["peers"] = compare_peers(options.peer_trials, options.seed)
        _write(options.results, found)
    print_table(found)
    missed = [row for row in (*found["cells"], *found["policies"]) if not row["held"]]
    print(
        f"marks: {f'MISSED in {len(missed)}' if missed else 'held'} in {found['seconds']} s "
        f"({found['processor_seconds']} s of one core)"
    )
    return 1 if missed else 0


def run_cell(cell: Cell, first: int, last: int, resamples: int, seed: int) -> dict[str, int]:
    """Trials ``first`` to ``last`` of a cell; each batch has its own generator, so that rounds add
    up to the same trials however they are cut.

    Returns:
        Counts: trials, rows, false words, trials with an interval, and of these that cover 0.
    """
    found = Counter[str]()
    for start in range(first, last, BATCH):
        generator = np.random.default_rng([seed, start])
        groups = cell.groups(generator)
        n = cell.num_rows if groups is None else len(groups)
        number = min(BATCH, last - start)
        drawn = [cell.draw(generator, groups, n) for _ in range(number)]
        outcomes = judge(cell, drawn, groups, num_resamples=resamples, seed=seed + start)
        bounded = [o for o in outcomes if o.low is not None and o.high is not None]
        found.update(
            trials=number,
            rows=n * number,
            false=sum(outcome.word != "other" for outcome in outcomes),
            bounded=len(bounded),
            covered=sum(o.low <= 0.0 <= o.high for o in bounded),  # type: ignore[operator]
        )
    return dict(found)


def _row(cell: Cell, count: Mapping[str, int]) -> dict[str, Any]:
    """Rates of a cell; ``covered`` is None where no trial had an interval (too_few_rows)."""
    trials, bounded = count["trials"], count["bounded"]
    share = count["covered"] / bounded if bounded else None
    most = int(binom.ppf(0.999, trials, ALPHA))
    # With few trials chance alone brings a rate of 95 % below the mark.
    least = min(COVERAGE, float(binom.ppf(0.001, bounded, 1.0 - ALPHA)) / max(bounded, 1))
    return {
        "cell": cell.name,
        "layout": cell.layout,
        "rows": round(count["rows"] / trials),
        "trials": trials,
        "false": count["false"],
        "rate": count["false"] / trials,
        "most": most / trials,
        "covered": share,
        "without_interval": trials - bounded,
        "held": count["false"] <= most and (share is None or share >= least),
    }


def judge(
    cell: Cell,
    drawn: Sequence[tuple[FloatArray, FloatArray]],
    groups: IntArray | None,
    *,
    num_resamples: int,
    seed: int,
    alpha: float = ALPHA,
) -> list[Outcome]:
    """The policy on a batch; independent rows of right and wrong need only their counts."""
    if groups is None and cell.metric.name == "accuracy":
        return [judge_counts(len(base), *discordant(base, tuned), alpha) for base, tuned in drawn]
    settings = {"alpha": alpha, "num_resamples": num_resamples, "seed": seed}
    return batch(cell.metric, drawn, groups, **settings)


def discordant(base: FloatArray, tuned: FloatArray) -> tuple[int, int]:
    """Rows that only the base, and only the tuned model has right."""
    return int(np.sum(base[:, 0] > tuned[:, 0])), int(np.sum(tuned[:, 0] > base[:, 0]))


@cache
def judge_counts(n: int, base_only: int, tuned_only: int, alpha: float) -> Outcome:
    """The policy on independent rows of right and wrong: it knows nothing but these counts."""
    base, tuned = np.zeros((n, 2)), np.zeros((n, 2))
    base[:, 1] = tuned[:, 1] = 1.0
    base[:base_only, 0] = tuned[base_only : base_only + tuned_only, 0] = 1.0
    metric = METRICS["accuracy"]
    return plain(metric, base, tuned, None, alpha=alpha, num_resamples=1000, seed=0)


def best_of_five(trials: int, resamples: int, seed: int) -> dict[str, int]:
    """Five checkpoints, the best on validation is judged on the holdout."""
    return _best_of_five(trials, seed, chosen_on="validation")


def best_of_five_on_holdout(trials: int, resamples: int, seed: int) -> dict[str, int]:
    """The mistake: the best on the holdout is judged on the same."""
    return _best_of_five(trials, seed, chosen_on="holdout")


def _best_of_five(trials: int, seed: int, *, chosen_on: str) -> dict[str, int]:
    generator = np.random.default_rng([seed, 71])
    false = 0
    for _ in range(trials):
        validation, holdout = (_models(generator, CANDIDATES + 1) for _ in range(2))
        scored = validation if chosen_on == "validation" else holdout
        best = 1 + int(np.argmax(scored[1:].sum(axis=1)))
        outcome = _judge_right(holdout[0], holdout[best], ALPHA)
        false += outcome.word != "other"
    return {"false": false, "trials": trials}


def ten_looks(trials: int, resamples: int, seed: int) -> dict[str, int]:
    """Ten models on one holdout, each at the level that its look has left."""
    return _looks(trials, seed, look_alpha)


def ten_looks_unspent(trials: int, resamples: int, seed: int) -> dict[str, int]:
    """The mistake: each of ten looks at the full level."""
    return _looks(trials, seed, lambda look, alpha: alpha)


def _looks(trials: int, seed: int, level: Callable[[int, float], float]) -> dict[str, int]:
    generator = np.random.default_rng([seed, 72])
    false = 0
    for _ in range(trials):
        arms = _models(generator, LOOKS + 1)
        words = [
            _judge_right(arms[0], arms[look], level(look, ALPHA)).word
            for look in range(1, LOOKS + 1)
        ]
        false += "improved" in words
    return {"false": false, "trials": trials}


def ten_looks_at_scores(trials: int, resamples: int, seed: int) -> dict[str, int]:
    """Ten models on one holdout, judged by a score; a fifth of the trials, more resamples."""
    generator = np.random.default_rng([seed, 73])
    trials = max(trials // 5, 1)
    false = 0
    cell = next(cell for cell in cells() if cell.name == "score, normal")
    for start in range(0, trials, BATCH):
        count = min(BATCH, trials - start)
        arms = generator.normal(size=(count, LOOKS + 1, POLICY_ROWS))
        arms += generator.normal(size=(count, 1, POLICY_ROWS))
        tables = np.stack([arms, np.ones_like(arms)], axis=-1)
        improved = np.zeros(count, dtype=bool)
        for look in range(1, LOOKS + 1):
            found = judge(
                *(cell, [(table[0], table[look]) for table in tables], None),
                num_resamples=max(resamples, 4000),
                seed=1000 * seed + LOOKS * start + look,
                alpha=look_alpha(look, ALPHA),
            )
            improved |= [outcome.word == "improved" for outcome in found]
        false += int(improved.sum())
    return {"false": false, "trials": trials}


def five_finalists(trials: int, resamples: int, seed: int) -> dict[str, int]:
    """Five finalists on one holdout by max-T."""
    generator = np.random.default_rng([seed, 74])
    false = 0
    for trial in range(trials):
        arms = generator.normal(size=(CANDIDATES + 1, 100)) + generator.normal(size=100)
        tables = [np.column_stack([arm, np.ones(100)]) for arm in arms]
        found = max_t(tables[0], tables[1:], SCORE.score, num_draws=resamples, seed=seed + trial)
        false += min(one.p_adjusted for one in found) <= ALPHA
    return {"false": false, "trials": trials}


POLICIES: dict[str, Callable[[int, int, int], dict[str, int]]] = {
    "accuracy, best of 5 chosen on validation": best_of_five,
    "accuracy, best of 5 chosen on the holdout": best_of_five_on_holdout,
    "accuracy, ten looks": ten_looks,
    "accuracy, ten looks at the full level": ten_looks_unspent,
    "score, ten looks": ten_looks_at_scores,
    "score, five finalists by max-T": five_finalists,
}
"""False words (of looks: improved) per trial; those in MISTAKES show what the policy prevents."""
MISTAKES = (
    "accuracy, best of 5 chosen on the holdout",
    "accuracy, ten looks at the full level",
)


def _policy(name: str, count: Mapping[str, int]) -> dict[str, Any]:
    trials, false = count["trials"], count["false"]
    most = int(binom.ppf(0.999, trials, ALPHA))
    return {
        "name": name,
        "trials": trials,
        "false": false,
        "rate": false / trials,
        "most": most / trials,
        "mistake": name in MISTAKES,
        "held": name in MISTAKES or false <= most,
    }


def _models(generator: np.random.Generator, number: int) -> FloatArray:
    """[models, rows] right or wrong, 80 % right, rows of unequal difficulty."""
    latent = generator.normal(size=(number, POLICY_ROWS)) + generator.normal(size=POLICY_ROWS)
    found: FloatArray = (latent < 0.8416 * np.sqrt(2.0)).astype(np.float64)
    return found


def _judge_right(base: FloatArray, tuned: FloatArray, alpha: float) -> Outcome:
    b, c = int(np.sum(base > tuned)), int(np.sum(tuned > base))
    return judge_counts(len(base), b, c, alpha)


def markdown(found: Mapping[str, Any]) -> str:
    """Cells by layout, false words and coverage in per cent, as the page on evidence shows them."""
    layouts: dict[str, None] = {}
    rows: dict[str, dict[str, str]] = {}
    for row in found["cells"]:
        layout = f"{row['rows']} rows" if row["layout"] == "rows" else row["layout"]
        layouts.setdefault(layout)
        covered = "–" if row["covered"] is None else f"{100 * row['covered']:.1f}"
        rows.setdefault(row["cell"], {})[layout] = f"{100 * row['rate']:.1f} / {covered}"
    lines = ["| metric | " + " | ".join(layouts) + " |", "|---" * (1 + len(layouts)) + "|"]
    for cell, by_layout in rows.items():
        shown = [by_layout.get(layout, "") for layout in layouts]
        lines.append(f"| {cell} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def print_table(found: Mapping[str, Any]) -> None:
    """Cells, policies and peers as plain lines."""
    print(f"{'cell':<28} {'layout':>7} {'rows':>5} {'trials':>6} {'false':>6} {'most':>6} covered")
    for row in found["cells"]:
        covered = "none (too few rows)" if row["covered"] is None else f"{row['covered']:.3f}"
        print(
            f"{row['cell']:<28} {row['layout']:>7} {row['rows']:>5} {row['trials']:>6} "
            f"{row['rate']:6.3f} {row['most']:6.3f} {covered:<7} {'' if row['held'] else 'MISSED'}"
        )
    for row in found["policies"]:
        note = "the mistake" if row["mistake"] else "" if row["held"] else "MISSED"
        head = f"{row['name']:<42} {row['trials']:>6}"
        print(f"{head} {row['rate']:6.3f} {row['most']:6.3f} {note}")
    peers = found.get("peers") or {}
    for scenario, rates in peers.get("rates", {}).items():
        print(scenario, rates)


def _write(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
