"""Is the comparison of train and target right? `python -m bench.representativeness`.

Three questions on real rows: does it stay silent where there is nothing to find, does it find
foreign rows, and does the drop that it foretells rank real shifts as the measured drop does? The
figures go to stdout and to bench/results/representativeness.json.
"""

import argparse
import csv
import gzip
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.faults.labels import mix
from scipy.stats import spearmanr

from fettle.data.check.label_errors import folds_of
from fettle.data.features.features import fit_linear
from fettle.data.features.hashed import count_ngrams, fit_tfidf
from fettle.data.represent.coverage import cover, likeness
from fettle.data.represent.domain import tell_apart
from fettle.data.represent.drop import NUM_FOLDS, expected_drop
from fettle.data.represent.represent import ALPHA

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench" / "results" / "representativeness.json"
SHARED_INTENTS = (
    "openinggreeting",
    "closinggreeting",
    "confirmation",
    "rejection",
    "contentonly",
    "thankyou",
    "outofdomain",
)
DOMAINS = ("airline", "fastfood", "finance", "insurance", "media", "software")
TWEETS = (
    "2013test-A.tsv",
    "2014sarcasm-A.tsv",
    "2014test-A.tsv",
    "2015test-A.tsv",
    "2016test-A.tsv.gz",
    "2017test-A.gold.txt",
)
MAX_TRAIN = 4_000
MAX_TARGET = 1_500
Rows = tuple[list[str], list[str]]
"""Texts and labels."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    started, cpu = time.time(), time.process_time()
    found: dict[str, Any] = {"calibration": _calibration(options.data, options.repeats)}
    pairs = _pairs(options.data)
    found["pairs"] = pairs
    found["correlation"] = {
        name: _correlation(pairs, name)
        for name in ("predicted_drop", "confidence_difference", "uncovered", "auc")
    }
    found["correlation_by_family"] = {
        family: _correlation([p for p in pairs if p["family"] == family], "predicted_drop")
        for family in sorted({pair["family"] for pair in pairs})
    }
    found["seconds"] = round(time.time() - started, 1)
    found["processor_seconds"] = round(time.process_time() - cpu, 1)
    found["load"] = os.getloadavg()[0]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for pair in pairs:
        print(
            f"{pair['source']:>22} → {pair['target']:<26} n {pair['n']:>5}  measured drop "
            f"{pair['measured_drop']:+.3f}  foretold {pair['predicted_drop']:+.3f}  uncovered "
            f"{pair['uncovered']:.2f}  AUC {pair['auc']:.2f}"
        )
    print(json.dumps({k: v for k, v in found.items() if k != "pairs"}, indent=1))
    marks = found["calibration"]
    ok = (
        marks["coverage type I"] <= 0.06
        and marks["coverage power (10 %, 300)"] >= 0.95
        and marks["coverage power (20 %, 100)"] >= 0.95
        and marks["AUC type I"] <= 0.07
        and found["correlation"]["predicted_drop"]["spearman"] >= 0.7
    )
    print("marks:", "held" if ok else "MISSED")
    return 0 if ok else 1


def _calibration(data: Path, repeats: int) -> dict[str, Any]:
    """How often something is found in BANKING77, with and without rows of CLINC150."""
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        own = list(dict.fromkeys(row["text"] for row in csv.DictReader(file)))
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    # CLINC150 has banking intents too: its other domains are what is foreign.
    domains = json.loads((data / "clinc150" / "domains.json").read_text(encoding="utf-8"))
    alike = {*domains["banking"], *domains["credit_cards"]}
    foreign = list(dict.fromkeys(text for text, intent in clinc["train"] if intent not in alike))
    foreign = foreign[::3]
    generator = np.random.default_rng(0)
    order = generator.permutation(len(own)).tolist()
    reference, rest = [own[i] for i in order[:6_000]], [own[i] for i in order[6_000:]]
    counts, rest_counts = count_ngrams(reference), count_ngrams(rest)
    weights = fit_tfidf(counts, min_rows=0)
    known, others = weights.transform(counts), weights.transform(rest_counts)
    rest_like = likeness(others, known)
    strange_like = likeness(weights.transform(count_ngrams(foreign)), known)
    settings = {
        "coverage type I": (300, 0.0),
        "coverage power (10 %, 300)": (300, 0.1),
        "coverage power (20 %, 100)": (100, 0.2),
    }
    rejected = dict.fromkeys(settings, 0)
    apart = 0
    for repeat in range(repeats):
        # Rows that are no reference are exchangeable: some calibrate, others are the target.
        drawn = generator.permutation(len(rest))
        strangers = generator.permutation(len(foreign))
        for name, (number, share) in settings.items():
            strange = round(share * number)
            target = np.concatenate(
                [
                    rest_like[drawn[1_000 : 1_000 + number - strange]],
                    strange_like[strangers[:strange]],
                ]
            )
            found = cover(target, rest_like[drawn[:1_000]])[0]
            rejected[name] += found.p_value <= ALPHA
        told = tell_apart(others[drawn[:150]], others[drawn[150:300]], repeat, 199)
        apart += told.p_value <= ALPHA
    shares = {name: count / repeats for name, count in rejected.items()}
    return {**shares, "AUC type I": apart / repeats, "repeats": repeats}


def _pairs(data: Path) -> list[dict[str, Any]]:
    """Every source with every target of its family."""
    found = []
    tweets = {name: _tweets(data, name) for name in TWEETS}
    for year in ("2013train-A.tsv", "2016train-A.tsv"):
        targets = {name.split("-")[0]: rows for name, rows in tweets.items()}
        found += _measured("tweets", year.split("-")[0], _tweets(data, year), targets)
    domains = {name: _intents(data, name) for name in DOMAINS}
    for name, rows in domains.items():
        targets = {other: domains[other] for other in DOMAINS if other != name}
        foreign = domains[DOMAINS[(DOMAINS.index(name) + 2) % len(DOMAINS)]]
        for share in (0.25, 0.5, 0.75):
            # The usual rows of a mixture come from those that no model here is trained on.
            held = tuple(column[MAX_TRAIN:] for column in rows)
            if min(len(held[0]), len(foreign[0])) >= 900:
                both = mix((held[0], held[1]), foreign, share, 900, seed=1)
                targets[f"{share:.0%} from elsewhere"] = (both.texts, both.labels)
        found += _measured("intents", name, rows, targets)
    return found


def _measured(
    family: str, source: str, rows: Rows, targets: dict[str, Rows]
) -> list[dict[str, Any]]:
    """What is foretold from texts alone beside what happens."""
    texts, labels = rows[0][:MAX_TRAIN], rows[1][:MAX_TRAIN]
    cut = int(0.8 * len(texts))
    model = fit_linear(texts[:cut], labels[:cut])
    in_domain = _accuracy(model.predict(texts[cut:]), labels[cut:])
    folds = folds_of(labels, [text.lower() for text in texts], NUM_FOLDS)
    asked = {name: (t[:MAX_TARGET], y[:MAX_TARGET]) for name, (t, y) in targets.items()}
    drops = expected_drop(texts, labels, folds, [t for t, _ in asked.values()])
    counts = count_ngrams(texts[:cut])
    weights = fit_tfidf(counts, min_rows=0)
    reference = weights.transform(counts)
    held = weights.transform(count_ngrams(texts[cut:]))
    own_like = likeness(held, reference)
    found = []
    for (name, (target_texts, target_labels)), drop in zip(asked.items(), drops, strict=True):
        strange = weights.transform(count_ngrams(target_texts))
        size = min(250, held.shape[0], strange.shape[0])
        measured = in_domain - _accuracy(model.predict(target_texts), target_labels)
        found.append(
            {
                "family": family,
                "source": source,
                "target": name,
                "n": len(target_texts),
                "in_domain_accuracy": in_domain,
                "measured_drop": measured,
                "predicted_drop": drop.drop,
                "confidence_difference": drop.confidence_difference,
                "uncovered": cover(likeness(strange, reference), own_like)[0].share,
                "auc": tell_apart(held[:size], strange[:size], 0, 99).auc,
            }
        )
    return found


def _correlation(pairs: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Spearman's rank correlation with the measured drop; 95 % bootstrap over pairs."""
    foretold = np.array([pair[name] for pair in pairs])
    measured = np.array([pair["measured_drop"] for pair in pairs])
    generator = np.random.default_rng(0)
    again = []
    for _ in range(2_000):
        rows = generator.integers(0, len(pairs), len(pairs))
        if len(set(rows.tolist())) > 2:
            again.append(float(spearmanr(foretold[rows], measured[rows]).statistic))
    low, high = np.quantile(again, [0.025, 0.975])
    return {
        "spearman": round(float(spearmanr(foretold, measured).statistic), 3),
        "ci_low": round(float(low), 3),
        "ci_high": round(float(high), 3),
        "pairs": len(pairs),
        "mean_absolute_error": round(float(np.abs(foretold - measured).mean()), 3),
    }


def _accuracy(predicted: Sequence[str], labels: Sequence[str]) -> float:
    return float(np.mean([a == b for a, b in zip(predicted, labels, strict=True)]))


def _tweets(data: Path, name: str) -> Rows:
    path = data / "semeval2017_twitter_sentiment" / f"twitter-{name}"
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return _shuffled([(row[2], row[1]) for row in rows if len(row) >= 3])


def _intents(data: Path, domain: str) -> Rows:
    rows = []
    for part in ("train", "dev", "test"):
        path = data / "multidogo" / domain / f"{part}.tsv"
        with path.open(encoding="utf-8", newline="") as file:
            rows += [(r["utterance"], r["intent"]) for r in csv.DictReader(file, delimiter="\t")]
    return _shuffled([row for row in rows if row[1] in SHARED_INTENTS])


def _shuffled(rows: Sequence[tuple[str, str]]) -> Rows:
    """Different texts in a fixed random order."""
    distinct = list(dict(rows).items())
    order = np.random.default_rng(0).permutation(len(distinct)).tolist()
    return [distinct[i][0] for i in order], [distinct[i][1] for i in order]


if __name__ == "__main__":
    raise SystemExit(main())
