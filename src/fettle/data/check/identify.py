"""The language of many texts at once: py3langid's model, all texts a byte further at each step.

In: texts. Out: the language of each, and how sure that is. Must not know: rows, findings.

The model walks an automaton over the bytes of a text and counts the features on its way. One text
by itself is a loop over bytes in Python; many are a loop over positions in numpy.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from scipy.sparse import csr_matrix

_AT_ONCE: Final = 512
"""Texts in work at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class _Model:
    next_state: NDArray[np.uint32]
    """[states' rows * 256]."""
    row_start: NDArray[np.int64]
    """[states] where a state's row begins in ``next_state``."""
    feature: NDArray[np.int32]
    """[states] what is counted on entering a state; -1 = nothing."""
    weights: NDArray[np.float16]
    """[features, classes] log likelihoods."""
    prior: NDArray[np.float32]
    classes: Sequence[str]
    aliases: Sequence[tuple[int, int]]
    """(first, second) columns of one language."""


def classify(texts: Sequence[str]) -> list[tuple[str, float]]:
    """(language, probability) of each text, as py3langid's ``classify`` gives it.

    Args:
        texts: any texts; ``zxx`` is no language.
    """
    found: list[tuple[str, float]] = []
    for start in range(0, len(texts), _AT_ONCE):
        found += _classify(_model(), [_encoded(text) for text in texts[start : start + _AT_ONCE]])
    return found


def _encoded(text: str) -> bytes:
    text = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


def _classify(model: _Model, texts: Sequence[bytes]) -> list[tuple[str, float]]:
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    rows, features = _walk(model, texts, sizes)
    scores = _scores(model, len(texts), rows, features)
    # As wide as long texts make them, the chances of all lengths mean the same.
    scores *= (1.0 / np.sqrt(np.maximum(sizes, 1)))[:, None].astype(np.float32)
    np.exp(scores - scores.max(axis=1, keepdims=True), out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    for first, second in model.aliases:
        scores[:, first] += scores[:, second]
        scores[:, second] = 0.0
    best = scores.argmax(axis=1)
    return [
        (str(model.classes[at]), float(row[at]))
        for at, row in zip(best.tolist(), scores, strict=True)
    ]


def _walk(
    model: _Model, texts: Sequence[bytes], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, feature) of every feature that any text comes by, repeats included."""
    order = np.argsort(-sizes, kind="stable")
    length = int(sizes.max(initial=0))
    letters = np.zeros((length, len(texts)), np.uint8)
    for column, row in enumerate(order.tolist()):
        letters[: sizes[row], column] = np.frombuffer(texts[row], np.uint8)
    going = np.searchsorted(-sizes[order], -np.arange(1, length + 1), side="right")
    state = np.zeros(len(texts), np.int64)
    rows, features = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in range(length):
        num = int(going[step])  # the longest come first, so that those that ended are behind
        at = model.row_start[state[:num]] + letters[step, :num]
        state[:num] = model.next_state[at]
        feature = model.feature[state[:num]]
        hit = np.flatnonzero(feature >= 0)
        rows.append(order[hit])
        features.append(feature[hit].astype(np.int64))
    return np.concatenate(rows), np.concatenate(features)


def _scores(
    model: _Model, num_rows: int, rows: NDArray[np.int64], features: NDArray[np.int64]
) -> NDArray[np.float32]:
    """[rows, classes] log posteriors up to a constant; 0 for a text without features."""
    used, column = np.unique(features, return_inverse=True)
    key, count = np.unique(rows * max(len(used), 1) + column, return_counts=True)
    counts = csr_matrix(
        (np.log1p(count.astype(np.float32)), (key // max(len(used), 1), key % max(len(used), 1))),
        shape=(num_rows, len(used)),
    )
    scores = np.asarray(counts @ model.weights[used].astype(np.float32), np.float32)
    return np.where(np.diff(counts.indptr)[:, None] > 0, scores + model.prior, np.float32(0.0))


@cache
def _model() -> _Model:
    # It takes a third of a second to load: only sets that need it pay for it.
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    classes = list(identifier.nb_classes)
    return _Model(
        np.array(identifier.tk_nextmove, np.uint32),
        np.array(identifier.tk_row, np.int64) << 8,
        np.array(identifier.tk_output, np.int32),
        np.asarray(identifier.nb_ptc),
        np.asarray(identifier.nb_pc, np.float32),
        classes,
        [(classes.index(c), i) for i, c in enumerate(classes) if classes.index(c) < i],
    )
