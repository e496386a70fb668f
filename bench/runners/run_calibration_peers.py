"""Rejection rates of deltagate, evalci, evalsig and sacrebleu; runs in their environment.

Usage: run_calibration_peers.py FOLDER COUNT: FOLDER holds 0.npz ... with base, tuned and groups of
every trial. Prints a list of {tool: rate} as JSON. Uses nothing of fettle.
"""

import json
import sys
import warnings

import deltagate
import evalci
import evalsig
import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import _paired_ar_test, _paired_bs_test

ALPHA = 0.05
RESAMPLES = 1000
BLEU_SAMPLES = 500


class Counted(BLEU):
    """BLEU whose segments' counts are known already: a "hypothesis" is their line of numbers."""

    def _extract_corpus_statistics(self, hypotheses, references):
        return hypotheses


def main() -> None:
    """Rates of all scenarios on stdout."""
    warnings.simplefilter("ignore")
    folder, count = sys.argv[1], int(sys.argv[2])
    print(json.dumps([rates(np.load(f"{folder}/{number}.npz")) for number in range(count)]))


def rates(trials) -> dict[str, float]:
    """Share of trials that each tool calls significant."""
    rejected: dict[str, list[bool]] = {}
    number = 0
    while f"base{number}" in trials:
        base, tuned = trials[f"base{number}"], trials[f"tuned{number}"]
        groups = trials.get(f"groups{number}")
        found = of_bleu(base, tuned) if base.shape[1] == 10 else of_scores(base, tuned, groups)
        for tool, p_value in found.items():
            rejected.setdefault(tool, []).append(p_value <= ALPHA)
        number += 1
    return {tool: round(float(np.mean(values)), 4) for tool, values in rejected.items()}


def of_scores(base, tuned, groups) -> dict[str, float]:
    """p-values for a mean of one score a row."""
    a, b = base[:, 0], tuned[:, 0]
    labels = None if groups is None else [f"c{group}" for group in groups]

    def frame(values, name):
        items = [
            evalsig.ItemResult(str(row), float(value), labels[row] if labels else None)
            for row, value in enumerate(values)
        ]
        return evalsig.RunFrame(name, name, "task", "score", items)

    frames = frame(a, "a"), frame(b, "b")
    found = {
        "evalsig": evalsig.compare(*frames, n_resamples=RESAMPLES).p_value,
        "deltagate": deltagate.paired_delta(b, a)["p_value"],
        "evalci permutation": evalci.compare(b, a, n_resamples=RESAMPLES, random_state=0).p_value,
        "evalci bootstrap": evalci.compare(
            b, a, method="bootstrap", n_resamples=RESAMPLES, random_state=0
        ).p_value,
    }
    if labels:
        clustered = evalsig.compare(*frames, cluster="cluster", n_resamples=RESAMPLES)
        found["evalsig, clusters named"] = clustered.p_value
        found["deltagate, clusters named"] = deltagate.paired_delta(b, a, clusters=labels)[
            "p_value"
        ]
    return found


def of_bleu(base, tuned) -> dict[str, float]:
    """p-values of sacrebleu's two paired tests on segments' counts."""
    metric = Counted(force=True)
    # Its order: lengths of answer and reference, then matches and totals of orders 1 to 4.
    lines = [[[int(value) for value in row] for row in arm] for arm in (base, tuned)]
    known = {"BLEU": (lines[0], metric._aggregate_and_compute(lines[0]))}
    found = {}
    for name, test in (("paired bootstrap", _paired_bs_test), ("randomization", _paired_ar_test)):
        _, results = test(
            known, "tuned", lines[1], None, {"BLEU": metric}, n_samples=BLEU_SAMPLES, seed=1
        )
        found[f"sacrebleu {name}"] = results["BLEU"].p_value
    return found


if __name__ == "__main__":
    main()
