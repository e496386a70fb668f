"""Are wrong labels found? `python -m bench.label_noise`.

Labels of BANKING77 and CLINC150 are flipped, and the ranking and the findings are held against what
was flipped; the flagged sets on published out-of-fold probabilities are compared with cleanlab's
(in its own environment), and with the verdicts of people. Figures go to stdout and to
bench/results/label_noise.json.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.compare.environments import NotInstalled, python_of
from bench.faults.labels import confusions, flip_by_class, flip_uniformly
from sklearn.metrics import precision_recall_curve, roc_auc_score

from fettle.data.check.label_errors import (
    MIN_ODDS,
    NUM_FOLDS,
    Rule,
    error_scores,
    folds_of,
    out_of_fold,
    suspected,
)
from fettle.data.deduplicate import normal_text

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results" / "label_noise.json"
RULES: dict[str, Rule] = {
    "prune_by_noise_rate": "noise_rate",
    "prune_by_class": "class",
    "both": "both",
    "confident_learning": "confident",
}
_PEER = """
import json, sys
import numpy as np
from cleanlab.filter import find_label_issues
given, chances = np.load(sys.argv[1]), np.load(sys.argv[2]).clip(0, 1)  # it refuses 1 + 1e-16
found = {rule: np.flatnonzero(find_label_issues(given, chances, filter_by=rule, n_jobs=1)).tolist()
         for rule in sys.argv[3].split(",")}
print(json.dumps(found))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--peer", help="a Python with cleanlab; default: bench/environments")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"flips": [], "published": {}}
    for name, (texts, labels) in _sets(options.data).items():
        for seed in range(options.seeds):
            uniform = flip_uniformly(labels, 0.05, seed)
            confused = flip_by_class(labels, confusions(texts, labels, 0.05), seed)
            for kind, flips in (("uniform", uniform), ("confusable", confused)):
                row = _flips(texts, flips.labels, list(flips.original))
                found["flips"].append({"set": name, "noise": kind, "seed": seed, **row})
                print(found["flips"][-1], flush=True)
        clean = _flips(texts, labels, [])
        found["flips"].append({"set": name, "noise": "none", "seed": 0, **clean})
        print(found["flips"][-1], flush=True)
    for name in ("20news", "imdb"):
        found["published"][name] = _published(options.data / "label_errors", name, options.peer)
        print(name, found["published"][name], flush=True)
    found["load"] = os.getloadavg()[0]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    uniform = [row for row in found["flips"] if row["noise"] == "uniform"]
    ok = all(row["auroc"] >= 0.99 and row["recall_at_precision_90"] >= 0.8 for row in uniform)
    ok &= all(row["recall"] >= 0.8 and row["precision"] >= 0.9 for row in uniform)
    for row in found["published"].values():
        ok &= row.get("jaccard", {"": 1.0}) == {} or min(row["jaccard"].values()) >= 0.95
    print("marks:", "held" if ok else "MISSED")
    return 0 if ok else 1


def _flips(texts: Sequence[str], labels: Sequence[str], flipped: Sequence[int]) -> dict[str, Any]:
    """How well flipped rows are ranked and named."""
    started = time.process_time()
    names = sorted(set(labels))
    column = {name: index for index, name in enumerate(names)}
    given = np.array([column[label] for label in labels])
    folds = folds_of(labels, [normal_text(text) for text in texts], NUM_FOLDS)
    chances = out_of_fold(texts, np.eye(len(names), dtype=np.float32)[given], folds)
    scores = error_scores(given, chances)
    named = suspected(given, chances, "either") & (scores >= np.log(MIN_ODDS))
    row = {
        "rows": len(texts),
        "named": int(named.sum()),
        "processor_seconds": round(time.process_time() - started, 1),
    }
    if not len(flipped):
        return row
    wrong = np.isin(np.arange(len(labels)), flipped)
    precision, recall, _ = precision_recall_curve(wrong, scores)
    return {
        **row,
        "flipped": len(flipped),
        "auroc": round(float(roc_auc_score(wrong, scores)), 4),
        "recall_at_precision_90": round(float(recall[precision >= 0.9].max()), 3),
        "recall": round(float(named[wrong].mean()), 3),
        "precision": round(float(wrong[named].mean()), 3),
    }


def _published(folder: Path, name: str, peer: str | None) -> dict[str, Any]:
    """Flagged sets on published probabilities: cleanlab's, people's."""
    labels = folder / f"original_test_labels/{name}_test_set_original_labels.npy"
    chances = folder / f"cross_validated_predicted_probabilities/{name}_test_set_pyx.npy"
    answers = json.loads((folder / f"mturk/{name}_mturk.json").read_text(encoding="utf-8"))
    ours = {
        theirs: set(np.flatnonzero(suspected(np.load(labels), np.load(chances), rule)).tolist())
        for theirs, rule in RULES.items()
    }
    wrong = sum(row["mturk"]["given"] < 3 for row in answers)
    found: dict[str, Any] = {"reviewed": len(answers), "validated": wrong}
    found["flagged"] = {rule: len(rows) for rule, rows in ours.items()}
    try:
        python = peer or str(python_of("cleanlab"))
        command = [python, "-c", _PEER, str(labels), str(chances), ",".join(RULES)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (NotInstalled, subprocess.CalledProcessError) as error:
        print(f"cleanlab did not run: {error}", file=sys.stderr)
        return {**found, "jaccard": {}}
    theirs = {rule: set(rows) for rule, rows in json.loads(done.stdout).items()}
    found["cleanlab_flagged"] = {rule: len(rows) for rule, rows in theirs.items()}
    found["jaccard"] = {
        rule: round(len(ours[rule] & theirs[rule]) / max(len(ours[rule] | theirs[rule]), 1), 4)
        for rule in RULES
    }
    return found


def _sets(data: Path) -> dict[str, tuple[list[str], list[str]]]:
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        banking = list(csv.DictReader(file))
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))["train"]
    return {
        "banking77": ([row["text"] for row in banking], [row["category"] for row in banking]),
        "clinc150": ([row[0] for row in clinc], [row[1] for row in clinc]),
    }


if __name__ == "__main__":
    raise SystemExit(main())
