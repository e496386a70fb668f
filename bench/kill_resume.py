"""How training survives `kill -9`: fettle beside Hugging Face's Trainer.

    python bench/kill_resume.py [--kills 200] [--seed 1]

A toy with dropout saves every 2 steps and is killed at random instants, up to three times before it
may finish; then weights and losses are compared, bit by bit, with those of a training that was left
alone. fettle is killed before each single write of its save path as well, and as a whole run. The
Trainer runs in bench/.envs/trainer, which is made when it is missing (needs the network). Saves are
frequent, so that many kills hit one: with rare saves every tool loses fewer trainings.

Prints a table and writes bench/results/kill_resume.json.
"""

import argparse
import json
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ENVIRONMENT = BENCH / ".envs" / "trainer"
PACKAGES = ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0")


def trainer_python() -> Path | None:
    """The Trainer's own interpreter; None when it can't be made."""
    python = ENVIRONMENT / "bin" / "python"
    probe = [str(python), "-c", "import torch, transformers, accelerate"]
    if python.is_file() and subprocess.run(probe, capture_output=True).returncode == 0:
        return python
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
    return python if subprocess.run(install).returncode == 0 else None


def measured(python: Path | str, script: str, *words: object) -> dict[str, Any]:
    """What a script printed, and how long it took."""
    started = time.monotonic()
    command = [str(python), str(BENCH / script), *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"wall_seconds": round(time.monotonic() - started, 1)}


def line(name: str, found: dict[str, Any]) -> str:
    """One tool's row of the table."""
    counts = (found[key] for key in ("kills", "trainings", "bitwise", "different", "cannot_resume"))
    return f"{name:<28}" + "".join(f"{count:>14}" for count in counts)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    many = ("--number", asked.kills, "--seed", asked.seed)
    results = {
        "fettle": measured(sys.executable, "_kill.py", "random", *many),
        "fettle run": measured(sys.executable, "_kill.py", "pipeline", "--number", 6),
        "fettle, every write": measured(sys.executable, "_kill.py", "points"),
    }
    python = trainer_python()
    if python is None:
        print("kill_resume: no environment for the Trainer; only fettle is shown", file=sys.stderr)
    else:
        results["transformers Trainer"] = measured(python, "_kill_trainer.py", *many)

    heads = ("kills", "trainings", "bitwise", "different", "can't resume")
    print(f"{'':<28}" + "".join(f"{head:>14}" for head in heads))
    for name, found in results.items():
        if "kills" in found:
            print(line(name, found))
    points = results["fettle, every write"]
    print(
        f"fettle, killed before each of {points['killed']} writes:"
        f" {points['killed'] - len(points['wrong'])} bitwise"
    )
    target = BENCH / "results" / "kill_resume.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"schema": 1, "results": results}, indent=2) + "\n", "utf-8")
    print(f"written to {target}")


if __name__ == "__main__":
    main()
