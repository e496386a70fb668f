"""Near duplicates: fettle beside datasketch, on the same texts: `python -m bench.near_duplicates`.

In: how many texts. Out: a table of seconds and recall on stdout, and
bench/results/near_duplicates.json. Both run on one thread of one core, each in a fresh process,
fettle first and last; what counts is CPU time, so that a busy machine changes less.

The texts are drawn from a Zipf vocabulary, about 400 characters each; every twentieth is a copy
with 2 % to 10 % of its words changed. The pairs that count are those whose word pairs have a
Jaccard similarity of 0.7 or more, by plain sets. fettle finds more than that (contained texts,
characters), which is not counted, but its time is.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from bench.compare.environments import NotInstalled, python_of
from bench.compare.prepare import BENCH

from fettle.data.near import find

RESULTS = BENCH / "results" / "near_duplicates.json"
_VOCABULARY = 30_000
_LETTERS = "etaoinshrdlucmfwyp"


def texts_and_copies(num: int, seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts, and pairs of a text and its edited copy."""
    random = Random(seed)
    words = ["".join(random.choices(_LETTERS, k=random.randint(2, 9))) for _ in range(_VOCABULARY)]
    weights = [1 / (rank + 1) for rank in range(_VOCABULARY)]
    sums = [weights[0]]
    for weight in weights[1:]:
        sums.append(sums[-1] + weight)
    texts = [
        " ".join(random.choices(words, cum_weights=sums, k=random.randint(35, 100)))
        for _ in range(num)
    ]
    pairs = []
    for origin in range(0, num, 20):
        parts = texts[origin].split()
        for _ in range(max(1, round(len(parts) * random.choice((0.02, 0.05, 0.1))))):
            parts[random.randrange(len(parts))] = random.choice(words)
        pairs.append((origin, len(texts)))
        texts.append(" ".join(parts))
    return texts, pairs


def similarity(one: str, two: str) -> float:
    """Jaccard similarity of the sets of word pairs."""
    sets = []
    for text in (one, two):
        words = text.split()
        sets.append(set(pairwise(words)))
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def run_fettle(source: Path, target: Path) -> None:
    """What the fresh process does."""
    texts = json.loads(source.read_text(encoding="utf-8"))
    start, cpu = time.monotonic(), time.process_time()
    pairs = sorted(
        (min(p.left, p.right), max(p.left, p.right))
        for p in find(texts).pairs
        if p.method in ("near", "contained")
    )
    seconds = {"wall": time.monotonic() - start, "cpu": time.process_time() - cpu}
    target.write_text(json.dumps({"pairs": pairs, **seconds}), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when fettle is less than three times as fast, or finds less."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        run_fettle(*options.run)
        return 0
    texts, copies = texts_and_copies(options.num, options.seed)
    wanted = {pair for pair in copies if similarity(texts[pair[0]], texts[pair[1]]) >= 0.7}
    runner = BENCH / "runners" / "run_datasketch.py"
    ours = [sys.executable, "-m", "bench.near_duplicates", "--run"]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.json"
        source.write_text(json.dumps(texts), encoding="utf-8")
        commands = [("fettle", ours), ("datasketch", []), ("fettle", ours)]
        for tool, command in commands:
            if tool == "datasketch":
                try:
                    command = [str(python_of("datasketch")), str(runner)]
                except NotInstalled as error:
                    print(f"datasketch could not be installed: {error}")
                    return 2
            results.append(_measured(tool, command, source, wanted))
    print(f"{len(texts):,} texts, {len(wanted):,} near copies")
    print(f"{'':12}{'CPU s':>8}{'wall s':>8}{'rows/CPU s':>12}{'recall':>8}")
    for result in results:
        rate = len(texts) / result["cpu"]
        print(f"{result['tool']:12}{result['cpu']:8.1f}{result['wall']:8.1f}{rate:12,.0f}"
              f"{result['recall']:8.4f}")  # fmt: skip
    mine = [result for result in results if result["tool"] == "fettle"]
    theirs = next(result for result in results if result["tool"] == "datasketch")
    ratio = theirs["cpu"] / max(result["cpu"] for result in mine)
    print(f"fettle is {ratio:.1f} times as fast")
    record = {"schema": 1, "num": options.num, "seed": options.seed, "texts": len(texts)}
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps(record | {"ratio": round(ratio, 2), "results": results}, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    return int(ratio < 3 or mine[0]["recall"] < theirs["recall"])


def _measured(
    tool: str, command: list[str], source: Path, wanted: set[tuple[int, int]]
) -> dict[str, Any]:
    target = source.with_name(f"{tool}.json")
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    subprocess.run([*command, str(source), str(target)], check=True, env=os.environ | one)
    found = json.loads(target.read_text(encoding="utf-8"))
    hits = wanted & {(left, right) for left, right in found["pairs"]}
    return {
        "tool": tool,
        "cpu": round(found["cpu"], 2),
        "wall": round(found["wall"], 2),
        "recall": round(len(hits) / max(1, len(wanted)), 5),
    }


if __name__ == "__main__":
    sys.exit(main())
