"""Faults of the set of labels: one label in two spellings, labels with few rows.

In: examples. Out: findings; nothing for rows without a label. Must not know: splits, which of the
rows have the wrong label (``label_errors``) or contradict each other (``conflicts``).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash
from scipy.sparse import csr_matrix

from fettle.data.deduplicate import normal_text
from fettle.data.features.hashed import tfidf
from fettle.records.rows import Example, Finding

RARE_ROWS: Final = 5
"""A label with fewer rows can't be on every side of a split."""

_IMBALANCE: Final = 10
"""The most frequent label beyond this many times the rarest is worth a note."""
_TYPO_LETTERS: Final = 4
"""A word with fewer letters is another word when one of them changes."""
_TYPO_CHARACTERS: Final = 100
"""No typing errors are looked for in longer labels: that takes memory by the square of it."""
_RARER: Final = 1 / 3
"""A mistyped label has fewer rows than the one that was meant; at most this many times."""
_SEEN: Final = 0.2
"""Share of its rows that must be nearest to rows of the label that was meant."""
_CLEARLY: Final = 0.35
"""The same for a spelling that is as frequent; of two equal ones it would be about a half."""
_ASKED_ROWS: Final = 40
_KNOWN_ROWS: Final = 20_000
_SEPARATORS = re.compile(r"[\s_\-/.]+")


def find(examples: Sequence[Example]) -> list[Finding]:
    """label_variant (one finding a row and label) and imbalance (up to two for all)."""
    labelled = [e for e in examples if e.text is not None and e.target is not None]
    labelled = [e for e in labelled if e.number is None]
    counts = Counter(label for example in labelled for label in example.classes)
    if not counts:
        return []
    return [*_variants(labelled, counts), *_imbalance(labelled[0], counts)]


def effective_number(counts: Mapping[str, int]) -> float:
    """How many equally frequent labels would be as uneven as these: exp of the entropy.

    Source: Hill 1973, "Diversity and evenness" (order 1).
    """
    total = sum(counts.values())
    shares = [count / total for count in counts.values() if count]
    return math.exp(-math.fsum(share * math.log(share) for share in shares))


def spellings(examples: Sequence[Example], counts: Mapping[str, int]) -> dict[str, str]:
    """Labels that are another spelling of a more frequent one → that one.

    Case, separators and the punctuation around a label never make two. A plural or one typing
    error (a letter too many, too few, another one, two swapped) does only where the rows agree:
    the spelling is much rarer, and its rows are like those of the label that was meant. Labels
    that differ in a digit, in a short word or in their first letter are different labels.

    Args:
        examples: rows with labels.
        counts: rows by label.
    """
    found: dict[str, str] = {}
    by_plain: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        by_plain[_squashed(label)].append(label)
    for group in by_plain.values():
        best = max(group, key=lambda label: (counts[label], label))
        found.update({label: best for label in group if label != best})
    kept = sorted(label for label in counts if label not in found)
    candidates = [(a, b) for a, b in _near_labels(kept) if _may_be_typo(_words(a), _words(b))]
    ranked = [sorted(pair, key=lambda label: (counts[label], label)) for pair in candidates]
    rows = _Rows.of(examples, {rare for rare, _ in ranked}) if ranked else None
    for rare, usual in ranked:
        if rows is None or rare in found or usual in found:
            continue
        share = rows.share_nearest(rare, usual)
        rarer = counts[rare] <= _RARER * counts[usual]
        if share >= _CLEARLY or (rarer and share >= _SEEN):
            found[rare] = usual
    # A spelling of a spelling.
    return {label: found.get(usual, usual) for label, usual in found.items()}


def _variants(labelled: Sequence[Example], counts: Counter[str]) -> list[Finding]:
    usual = spellings(labelled, counts)
    return [
        example.finding(
            "label_variant",
            "warning",
            f"label {label!r} differs from {usual[label]!r} in spelling only",
            f"write it {usual[label]!r} if they mean the same",
        )
        for example in labelled
        for label in example.classes
        if label in usual
    ]


def _plain(label: str) -> str:
    """Without case, separators and the punctuation around it."""
    found = _SEPARATORS.sub(" ", normal_text(label)).strip(" ?!.,:;\"'()[]")
    return found or normal_text(label)


def _squashed(label: str) -> str:
    return _plain(label).replace(" ", "")


def _words(label: str) -> list[str]:
    return _plain(label).split()


def _near_labels(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of labels that one edit or a plural could have made of each other."""
    by_part: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        plain = _squashed(label)
        parts = {plain}
        if len(plain) <= _TYPO_CHARACTERS:
            parts.update(plain[:i] + plain[i + 1 :] for i in range(len(plain)))
        parts.add("".join(map(_singular, _words(label))))
        for part in parts:
            by_part[part].append(label)
    pairs = {
        (a, b) for group in by_part.values() for i, a in enumerate(group) for b in group[i + 1 :]
    }
    return sorted(pairs)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:s|x|z|ch|sh)es$", word):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        return word[:-1]
    return word


def _may_be_typo(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether all words but one are the same, and that one differs as a typing error would."""
    if len(one) != len(other):
        # A separator was lost, swapped or doubled; then the letters differ by it alone.
        left, right = "".join(one), "".join(other)
        return len(left) >= 2 * _TYPO_LETTERS and _one_edit(left, right)
    changed = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    if len(changed) != 1:
        # A letter swapped with the space beside it.
        return len(changed) == 2 and "".join(one) == "".join(other)
    a, b = changed[0]
    if not (a.isalpha() and b.isalpha()) or min(len(a), len(b)) < 2:
        return False
    if _singular(a) == _singular(b):
        return True
    if max(len(a), len(b)) < _TYPO_LETTERS:
        # Of a short word a letter may be lost, but another letter makes another word.
        return a[0] == b[0] and len(a) != len(b) and len("".join(one)) >= 2 * _TYPO_LETTERS
    return (a[0] == b[0] or sorted(a) == sorted(b)) and _one_edit(a, b)


def _one_edit(one: str, other: str) -> bool:
    """Whether one letter was added, left out or changed, or two neighbours were swapped."""
    if len(one) > len(other):
        one, other = other, one
    start = next((i for i, c in enumerate(one) if c != other[i]), len(one))
    if len(one) < len(other):
        return one[start:] == other[start + 1 :]
    if one[start + 1 :] == other[start + 1 :]:
        return True
    swapped = one[start + 1 : start + 2] + one[start : start + 1]
    return swapped == other[start : start + 2] and one[start + 2 :] == other[start + 2 :]


def _sampled(examples: Sequence[Example], rare: set[str]) -> list[Example]:
    """Rows that are compared: some of each spelling in doubt, some of all others."""
    order = sorted(examples, key=lambda e: (xxhash.xxh3_64_intdigest(e.row_id.encode()), e.row_id))
    taken: Counter[str] = Counter()
    chosen, others = [], 0
    for example in order:
        doubted = rare.intersection(example.classes)
        taken.update(doubted)
        if doubted and min(taken[label] for label in doubted) <= _ASKED_ROWS:
            chosen.append(example)
        elif not doubted and others < _KNOWN_ROWS:
            others += 1
            chosen.append(example)
    return chosen


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows with their features."""

    examples: Sequence[Example]
    features: csr_matrix

    @classmethod
    def of(cls, examples: Sequence[Example], rare: set[str]) -> "_Rows":
        chosen = _sampled(examples, rare)
        return cls(chosen, tfidf([example.text or "" for example in chosen]))

    def share_nearest(self, rare: str, usual: str) -> float:
        """Of the rows of one label, which share is nearest to a row of the other one.

        Rows of two spellings lie among each other; those of two labels lie each with their own.
        """
        has = np.array([rare in example.classes for example in self.examples])
        meant = np.array([usual in example.classes for example in self.examples])
        asked = np.flatnonzero(has & ~meant)
        if not len(asked):
            return 0.0
        likeness = (self.features[asked] @ self.features.T).toarray()
        likeness[np.arange(len(asked)), asked] = -1.0
        return float(meant[likeness.argmax(axis=1)].mean())


def _imbalance(first: Example, counts: Counter[str]) -> list[Finding]:
    if len(counts) < 2:
        return []
    most, fewest = max(counts.values()), min(counts.values())
    found = []
    if most >= _IMBALANCE * fewest:
        common = min(label for label in counts if counts[label] == most)
        rare = sorted(label for label in counts if counts[label] == fewest)
        found.append(
            _about_all(
                first,
                "note",
                f"{common!r} has {most:,} rows, {_listed(rare)} only {fewest:,}; as uneven as "
                f"{effective_number(counts):.1f} equal labels in place of {len(counts):,}",
                "accuracy hides rare labels: look at macro-F1 and the table by label",
            )
        )
    few = sorted(label for label in counts if counts[label] < RARE_ROWS)
    if few:
        have = "has" if len(few) == 1 else "have"
        found.append(
            _about_all(
                first,
                "warning",
                f"{len(few):,} of {len(counts):,} labels {have} fewer than {RARE_ROWS} rows: "
                f"{_listed(few)}",
                "collect more rows of these labels or join them with another one: so few can't "
                "be both learned and measured",
            )
        )
    return found


def _about_all(first: Example, severity: str, evidence: str, remedy: str) -> Finding:
    level: Final = "warning" if severity == "warning" else "note"
    return Finding("", first.source, 0, None, "imbalance", level, evidence, remedy)


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return ", ".join(map(repr, labels[:3])) + more
