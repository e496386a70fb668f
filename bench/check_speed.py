"""How fast the checks of text are: rows a second of one core, family by family.

    python -m bench.check_speed [--rows 4000] [--characters 400]

Rows are prompts and answers of public sets (../shared/data), cut to the same length altogether.
CPU time of this process is counted, so that a busy machine does not show as a slow check; shared
caches still do. The first rows warm up: patterns, and the model of languages. The last line is
what a large set pays: one pass over each row, whose texts are searched once for all checks.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from bench.detection_text import FAMILIES, clean_rows

from fettle.data.check import fields, look
from fettle.data.cleaning.clean import repair
from fettle.records.rows import Example, Message

SETS = ("medquad", "bitext", "gsm8k")


def examples_of(num_rows: int, characters: int) -> list[Example]:
    """Rows of one length, from several sets, in a fixed random order."""
    rows = [row for name in SETS for row in clean_rows(name)]
    examples = []
    rng = Random(1)
    for number, row in enumerate(rng.choices(rows, k=num_rows)):
        prompt = row["prompt"][: characters // 4]
        answer = row["completion"]
        while len(answer) < characters:
            # Another answer, and not the same again: that would be a loop.
            answer += " " + rng.choice(rows)["completion"]
        answer = answer[: characters - len(prompt)]
        turns = (Message("user", prompt), Message("assistant", answer))
        examples.append(
            Example(f"{number:016x}", "speed", number + 1, None, messages=turns, target=answer)
        )
    return examples


def measured(function: Callable[[Sequence[Example]], object], rows: Sequence[Example]) -> float:
    """Seconds of CPU for each row."""
    function(rows[:200])
    start = time.process_time()
    function(rows)
    return (time.process_time() - start) / len(rows)


def repaired(rows: Sequence[Example]) -> None:
    """What ``normalize`` does to each text."""
    for row in rows:
        for turn in row.messages:
            repair(turn.content, unescape=False)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--characters", type=int, default=400)
    options = parser.parse_args()
    rows = examples_of(options.rows, options.characters)
    sides = fields.sides_of(rows)
    # Of a million rows one in fifty is counted, so that nearly none pays for its own count.
    sides = sides and replace(sides, step=10**9)
    print(f"{'family':18} {'us a row':>9} {'rows/s':>9}")
    for name, function in {"repair": repaired, **FAMILIES}.items():
        seconds = measured(function, rows)
        print(f"{name:18} {seconds * 1e6:9.1f} {1 / seconds:9,.0f}")
    seconds = measured(repaired, rows) + measured(lambda some: look(some, sides, 1), rows)
    print(f"{'in one pass':18} {seconds * 1e6:9.1f} {1 / seconds:9,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
