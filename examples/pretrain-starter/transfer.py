"""Does the starter's pretraining carry over? Fettle's own verdict on sets that it has never seen.

    python transfer.py DATA WORK [--base DIR] [--only TASK ...]

Each set is trained on twice with one recipe and the same number of steps, from the starter and from
the same architecture with random weights, and the two are compared on the same holdout with
``fettle compare``. banking77 is trained on with LoRA as well, and has a linear baseline. DATA is a
folder with the sets; runs go to WORK and are not repeated; the table goes to stdout and the figures
to WORK/transfer.json.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fettle

STARTER = Path(fettle.__file__).resolve().parent / "starter"
COMMON = ("--set", "train.patience=100", "--set", "evaluate.generate_rows=100", "--seed", "0")
TASKS: dict[str, tuple[str, ...]] = {
    "bitext": (
        "bitext_customer_support/Bitext_Sample_Customer_Support_Training_Dataset.csv",
        *("--task", "chat", "--set", "train.max_steps=200", "--set", "train.batch_size=16"),
        *("--set", "evaluate.max_new_tokens=96"),
    ),
    "e2e_nlg": (
        "e2e_nlg/devset.csv",
        *("--task", "chat", "--prompt", "mr", "--completion", "ref", "--group", "mr"),
        *("--set", "train.max_steps=200", "--set", "train.batch_size=16"),
        *("--set", "evaluate.max_new_tokens=64"),
    ),
    "mts_dialog": (
        "mts_dialog/Main-Dataset/MTS-Dialog-TrainingSet.csv",
        *("--task", "chat", "--prompt", "dialogue", "--completion", "section_text"),
        *("--set", "train.max_steps=200", "--set", "train.batch_size=8"),
        *("--set", "evaluate.max_new_tokens=96"),
    ),
    "banking77": (
        "banking77/train.csv",
        *("--eval", "banking77/test.csv"),
        *("--set", "train.max_steps=600", "--set", "train.batch_size=32"),
    ),
}
"""Data file and what `fettle run` is told besides."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--base", type=Path, default=STARTER)
    parser.add_argument("--only", nargs="*", default=list(TASKS), choices=list(TASKS))
    options = parser.parse_args(arguments)
    base = options.base.resolve()
    found: dict[str, Any] = {}
    for task in options.only:
        name = "starter" if base == STARTER else str(base)
        arms = {"starter": (name, ()), "random": (f"random:{base}#0", ())}
        if task == "banking77":
            arms["starter, LoRA"] = (name, ("--method", "lora"))
        runs = {
            arm: train(options.data, options.work / task, arm, task, base_id, more)
            for arm, (base_id, more) in arms.items()
        }
        found[task] = figures(runs)
        (options.work / "transfer.json").write_text(json.dumps(found, indent=1) + "\n")
        print(table(found), flush=True)


def train(data: Path, folder: Path, arm: str, task: str, base: str, more: Sequence[str]) -> Path:
    """One run, or the one that is there already."""
    run = folder / arm.replace(", ", "-").lower()
    if (run / "verdict.json").is_file():
        return run
    file, *settings = TASKS[task]
    settings = [str(data / item) if item.endswith(".csv") else item for item in settings]
    begin = [str(data / file), "--base", base, "--out", str(run), *settings, *COMMON, *more]
    given = ["resume", str(run)] if (run / "recipe.yaml").is_file() else ["run", *begin]
    print(f"== {task}, {arm}: fettle {' '.join(given)}", flush=True)
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-m", "fettle", *given], check=True, env=environment)
    return run


def figures(runs: dict[str, Path]) -> dict[str, Any]:
    """Both arms' values and, for each arm trained from the starter, its verdict against random."""
    found: dict[str, Any] = {}
    for arm, run in runs.items():
        verdict = json.loads((run / "verdict.json").read_text())
        entry: dict[str, Any] = {
            "value": verdict["primary"]["tuned"],
            "baselines": {item["name"]: item["value"] for item in verdict["baselines"]},
        }
        if arm != "random":
            metric = verdict["primary"]["metric"]
            compared = fettle.compare(runs["random"], run, metric=metric)
            assert compared.primary is not None, compared.reason
            entry |= {"verdict": compared.verdict, "primary": asdict(compared.primary)}
        found[arm] = entry
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: what each arm reached, and the difference that the pretraining makes."""
    rows = [
        "| set (holdout rows) | metric | random | starter | difference (95 % CI) | p | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, arms in found.items():
        for arm, entry in arms.items():
            if arm == "random":
                continue
            primary = entry["primary"]
            rows.append(
                f"| {task}{arm.removeprefix('starter')} ({primary['n']:,}) | {primary['metric']} |"
                f" {primary['base']:.3f} | {primary['tuned']:.3f} |"
                f" {primary['difference']:+.3f} ({primary['ci_low']:+.3f} to"
                f" {primary['ci_high']:+.3f}) | {primary['p_value']:.2g} | {entry['verdict']} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
