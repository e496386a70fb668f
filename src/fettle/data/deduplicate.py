"""Which examples are the same: keys over text that differs only in case, width and spaces.

In: examples. Out: keys, and for each copy the example that is kept. Must not know: splits, files.
"""

import unicodedata
from collections.abc import Sequence

import xxhash

from fettle.data.meaning.normalize import OCCURRENCE
from fettle.records.rows import Example


def normal_text(text: str) -> str:
    """NFKC, case folded, runs of white space as one space."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Folding can bring back what NFKC had composed away.
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def input_key(example: Example) -> str:
    """Key of what the model is given: the text, or the conversation before the target.

    Rows with the same key must lie on the same side of a split.
    """
    if example.text is not None:
        return _digest(normal_text(example.text))
    turns = (f"{turn.role}\x1f{normal_text(turn.content)}" for turn in example.messages[:-1])
    return _digest("\x1e".join(turns))


def copy_key(example: Example, key: str) -> str:
    """Key of the whole example: input and target.

    Args:
        example: the example.
        key: its input key.
    """
    if example.target is None:
        return key
    # Labels are exact: "No" and "no" may be two classes, and are then a conflict.
    target = example.target if example.text is not None else normal_text(example.target)
    return f"{key}\x1e{target}"


def find_copies(examples: Sequence[Example], keys: Sequence[str]) -> dict[str, str]:
    """Exact copies within these examples: the same input and target.

    Args:
        examples: examples.
        keys: their input keys, in the same order.
    Returns:
        row_id of each copy that does not stay -> row_id of the one that stays.
    """
    whole = [copy_key(example, key) for example, key in zip(examples, keys, strict=True)]
    return find_repeats(examples, whole)


def find_repeats(examples: Sequence[Example], keys: Sequence[str]) -> dict[str, str]:
    """Examples whose key an example before them has.

    Which of equal examples is the first does not depend on their order: the first occurrence of a
    record, then the smallest row id.

    Args:
        examples: examples.
        keys: what is compared, in the same order.
    Returns:
        row_id of each repeat -> row_id of the first.
    """
    first: dict[str, Example] = {}
    members: dict[str, list[Example]] = {}
    for example, key in zip(examples, keys, strict=True):
        members.setdefault(key, []).append(example)
        if key not in first or _rank(example) < _rank(first[key]):
            first[key] = example
    return {
        example.row_id: first[key].row_id
        for key, group in members.items()
        if len(group) > 1
        for example in group
        if example is not first[key]
    }


def _rank(example: Example) -> tuple[int, str]:
    return int(example.tags.get(OCCURRENCE, "1")), example.row_id


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))
