"""Near duplicates with datasketch: run by bench.near_duplicates in an environment of its own.

In: a JSON file with texts, where to write. Out: pairs, CPU and wall seconds. The same shingles,
signature length, bands and exact verification as fettle's, with datasketch's own bulk functions.
"""

import json
import re
import sys
import time
from itertools import pairwise
from pathlib import Path

from datasketch import MinHash, MinHashLSH

_WORD = re.compile(r"\w+")


def main() -> None:
    """Texts in, pairs out."""
    source, target = map(Path, sys.argv[1:3])
    texts = json.loads(source.read_text(encoding="utf-8"))
    start, cpu = time.monotonic(), time.process_time()
    sets = []
    for text in texts:
        words = _WORD.findall(text.lower())
        sets.append({f"{a} {b}".encode() for a, b in pairwise(words)})
    sketches = MinHash.bulk([list(one) for one in sets], num_perm=128)
    index = MinHashLSH(num_perm=128, params=(32, 4))
    with index.insertion_session() as session:
        for number, sketch in enumerate(sketches):
            session.insert(number, sketch)
    pairs = set()
    for number, sketch in enumerate(sketches):
        for other in index.query(sketch):
            if other > number:
                union = len(sets[number] | sets[other])
                if union and len(sets[number] & sets[other]) >= 0.7 * union:
                    pairs.add((number, other))
    seconds = {"wall": time.monotonic() - start, "cpu": time.process_time() - cpu}
    target.write_text(json.dumps({"pairs": sorted(pairs), **seconds}), encoding="utf-8")


if __name__ == "__main__":
    main()
