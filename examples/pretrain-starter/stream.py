"""The tokens in the order of training, and how well a model predicts held-out ones.

In: what ``prepare.py`` wrote. Out: batches, bits per byte. Must not know: optimizers, files of
weights.

The text (documents in random order) is cut into blocks of BLOCK tokens. Those of a shard are taken
in a random order, the same on every machine, so that a position is one number. A block is one row
of BLOCK tokens, or several shorter ones: the length of the context may change from stretch to
stretch.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from fettle.models.forward import token_losses
from fettle.records.tokens import Batch, TokenizedExample

BLOCK = 1024
SHARD = "tokens-{:02d}.npy"


class Stream:
    """Steps from a position on; ``position`` counts the blocks that were handed out."""

    def __init__(self, work: Path, position: int = 0) -> None:
        self._work = work
        self.position = position
        self._place: tuple[int, int] | None = None

    def steps(self, blocks: int, length: int, micro_tokens: int) -> Iterator[list[Batch]]:
        """Optimizer steps without end.

        Args:
            blocks: of a step.
            length: tokens of a row; divides BLOCK.
            micro_tokens: most tokens of a micro-batch.
        """
        while True:
            rows = [row for _ in range(blocks) for row in self._next(length)]
            at_once = max(1, micro_tokens // length)
            parts = (rows[i : i + at_once] for i in range(0, len(rows), at_once))
            yield [Batch(tuple(part)) for part in parts]

    def _next(self, length: int) -> Iterator[TokenizedExample]:
        epoch, shard, place = self._where()
        if self._place != (epoch, shard):
            self._place = (epoch, shard)
            self._tokens = np.load(self._work / SHARD.format(shard), mmap_mode="r")
            self._order = order(len(self._tokens) // BLOCK, epoch, shard)
        block = int(self._order[place])
        self.position += 1
        tokens = self._tokens[block * BLOCK : (block + 1) * BLOCK]
        for start in range(0, BLOCK, length):
            yield as_row(tokens[start : start + length], f"{shard}:{block}+{start}")

    def _where(self) -> tuple[int, int, int]:
        """Pass, shard and place in the shard of the next block.

        Shards are taken one after the other, so that training may begin before all are written.
        """
        data = json.loads((self._work / "data.json").read_text())
        sizes = [shard["tokens"] // BLOCK for shard in data["shards"]]
        epoch, left = 0, self.position
        if data.get("complete"):
            epoch, left = divmod(self.position, sum(sizes))
        for shard, size in enumerate(sizes):
            if left < size:
                return epoch, shard, left
            left -= size
        raise SystemExit(
            f"{self._work} has only {sum(sizes)} blocks so far: wait for prepare.py, then go on"
        )


def order(num_blocks: int, epoch: int, shard: int) -> np.ndarray:
    """The random order of a shard's blocks in one pass over the text."""
    return np.random.default_rng((epoch, shard)).permutation(num_blocks)


def as_row(tokens: np.ndarray, row_id: str) -> TokenizedExample:
    """All tokens are targets, but the first, which nothing stands before."""
    ids = tuple(tokens.tolist())
    return TokenizedExample(row_id, ids, (1,) * len(ids))


class HeldOut:
    """Held-out text in rows of BLOCK tokens; counts the bytes that each row's targets spell."""

    def __init__(self, work: Path, name: str) -> None:
        tokens = np.load(work / f"{name}.npy")
        sizes = token_bytes(work / "tokenizer.json")
        whole = range(0, len(tokens) - BLOCK + 1, BLOCK)
        self._rows = [as_row(tokens[start : start + BLOCK], str(start)) for start in whole]
        self._bytes = [int(sizes[tokens[start + 1 : start + BLOCK]].sum()) for start in whole]

    def bits_per_byte(self, model: torch.nn.Module, most: int | None = None) -> float:
        """Over all rows, or over this many that are spread evenly."""
        if most is None or most >= len(self._rows):
            chosen = list(range(len(self._rows)))
        else:
            chosen = [int(i) for i in np.linspace(0, len(self._rows) - 1, most).round()]
        training, nats = model.training, 0.0
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(chosen), 2):
                rows = tuple(self._rows[i] for i in chosen[start : start + 2])
                nats += float(token_losses(model, Batch(rows), 1)[0].sum())
        model.train(training)
        return nats / math.log(2) / sum(self._bytes[i] for i in chosen)


def token_bytes(path: Path) -> np.ndarray:
    """Bytes that each token id stands for; 0 for special tokens."""
    tokenizer = Tokenizer.from_file(str(path))
    special = {token["id"] for token in json.loads(path.read_text())["added_tokens"]}
    count = tokenizer.get_vocab_size()
    # In a byte-level vocabulary every character of a piece is one byte.
    pieces = [tokenizer.id_to_token(index) or "" for index in range(count)]
    return np.array([0 if i in special else len(piece) for i, piece in enumerate(pieces)])
