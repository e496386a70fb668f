"""Lengths of rows under a base's own tokenizer and chat template, without its weights (no torch).

In: prepared rows and the recipe. Out: the rows with what is too long or has nothing to learn set
aside, exactly as a run does, and counts. Must not know: models; nothing is fetched from a hub.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.data.account.account import SIDES, Prepared, move_to_quarantine, with_findings
from fettle.data.tokenize import (
    Overlong,
    Tokenized,
    tokenize_chat,
    tokenize_classify,
    tokenize_text,
)
from fettle.errors import BaseModelError
from fettle.models.catalog import RANDOM, STARTER, STARTER_DIRECTORY
from fettle.models.hub import fetch
from fettle.models.random_id import split_random
from fettle.recipe import defaults
from fettle.recipe.recipe import Recipe
from fettle.records.rows import Example
from fettle.report.check_sections import Lengths

_FROM_PAD = {"roberta", "xlm-roberta", "camembert", "mpnet"}
"""Count positions from the pad token's id on."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What the rows come to in tokens."""

    base: str
    max_length: int
    rows: int
    """Tokenized rows; a long document is several."""
    median: float
    longest: int
    """Before any cut."""
    total: int
    trained: int
    """Tokens of the training rows that are learned."""
    found: dict[str, int]
    """Rows that are overlong, truncated, empty of what could be learned, or refused, by kind."""
    lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Side -> tokens of each of its rows, before any cut."""

    def as_lengths(self) -> Lengths:
        """For the report."""
        return Lengths(self.lengths, "tokens", self.max_length, self.base)

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "base": self.base,
            "max_length": self.max_length,
            "rows": self.rows,
            "median": self.median,
            "longest": self.longest,
            "total": self.total,
            "trained": self.trained,
            "found": dict(self.found),
        }


def count_tokens(prepared: Prepared, recipe: Recipe) -> tuple[Prepared, TokenCounts]:
    """Tokenize every row as a run with this base would.

    Args:
        prepared: rows on their sides.
        recipe: base, train.max_length, train.overlong and train.answers are used.
    Raises:
        BaseModelError: E0503, E0512, E0560 …: the base is missing or has no tokenizer.
        NetworkError: E0802, a hub id that is not in the cache.
        DataError, UsageError: what the template says of the rows.
    """
    base = recipe.base.id or STARTER
    directory = _find(base, recipe.base.revision)
    limit = _context_length(directory)
    limit = min(recipe.train.max_length or limit, limit)
    tokenizer = Tokenizer.load(directory)
    template = (
        ChatTemplate.choose(tokenizer, recipe.base.chat_template)
        if prepared.task == "chat"
        else None
    )
    results = {
        side: _tokenize(prepared, prepared.examples[side], tokenizer, template, recipe, limit)
        for side in SIDES
    }
    found: Counter[str] = Counter()
    for result in results.values():
        found.update(finding.kind for finding in result.findings)
        for reason in sorted({row.reason for row in result.quarantined}):
            moved = [row.row_id for row in result.quarantined if row.reason == reason]
            prepared = move_to_quarantine(prepared, moved, reason)
        prepared = with_findings(prepared, result.findings)
    rows = [row for result in results.values() for row in result.rows]
    lengths = [row.num_tokens for row in rows] or [0]
    over = [number for result in results.values() for _, number in result.overlong]
    counts = TokenCounts(
        base=base,
        max_length=limit,
        rows=len(rows),
        median=float(median(lengths)),
        longest=max([*lengths, *over]),
        total=sum(lengths),
        trained=sum(row.num_targets for row in results["train"].rows),
        found=dict(sorted(found.items())),
        lengths={side: _whole_lengths(result) for side, result in results.items()},
    )
    return prepared, counts


def _whole_lengths(result: Tokenized) -> list[int]:
    """Tokens of each row as it was before it was cut or divided."""
    whole = dict(result.overlong)
    kept = [row.num_tokens for row in result.rows if row.row_id not in whole]
    return [*kept, *whole.values()]


def _tokenize(
    prepared: Prepared,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    recipe: Recipe,
    limit: int,
) -> Tokenized:
    overlong: Overlong = recipe.train.overlong or defaults.overlong(prepared.task)[0]
    if prepared.task in ("classify", "regress"):
        return tokenize_classify(examples, tokenizer, prepared.labels, limit, overlong)
    if template is not None:
        return tokenize_chat(examples, tokenizer, template, limit, overlong, recipe.train.answers)
    return tokenize_text(examples, tokenizer, limit, overlong)


def _find(base: str, revision: str | None) -> Path:
    """The folder with the tokenizer of a base; of a run the one of its model."""
    if base == STARTER:
        return STARTER_DIRECTORY
    if base.startswith(RANDOM):
        return split_random(base)[0]
    path = Path(base).expanduser()
    if path.is_dir():
        inner = path / "model"
        return inner if (inner / "tokenizer.json").is_file() else path
    if path.exists() or base.startswith(("/", "./", "../", "~")) or base.count("/") > 1:
        raise BaseModelError(
            "E0512",
            f"the base {base} is not a directory",
            hint="name a directory in Hugging Face format, a hub id that is in the cache,"
            " an earlier run, or --base starter",
        )
    return fetch(base, revision, True, lambda line: None)[0]


def _context_length(directory: Path) -> int:
    """Longest input in tokens, from what the folder says."""
    run = directory / "fettle.json"
    path = run if run.is_file() else directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if path == run:
            return int(config["max_length"])
        length = config.get("max_position_embeddings", config.get("n_positions"))
        if config.get("model_type") in _FROM_PAD:
            length = length - (config.get("pad_token_id") or 0) - 1
        return int(length)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(
            "E0541",
            f"{path} does not say how many tokens the base reads",
            hint="name a directory in Hugging Face format with config.json and tokenizer.json",
        ) from error
