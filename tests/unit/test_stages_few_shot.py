"""The base with examples in the prompt: the target tokens of the other arms, and none of a shot."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.command import tiny_base

from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.data.tokenize import tokenize_chat
from fettle.models.load import find_base
from fettle.recipe.recipe import BaseSection
from fettle.records.rows import Example, Message
from fettle.stages.exam import Exam
from fettle.stages.few_shot import few_shot


def rows(number: int, start: int = 0) -> list[Example]:
    return [
        Example(
            f"{start + i:016x}",
            "chat.jsonl",
            i,
            i,
            messages=(Message("user", f"{start + i}?"), Message("assistant", f"n{start + i}")),
            target=f"n{start + i}",
        )
        for i in range(number)
    ]


@pytest.mark.parametrize("max_length", [128, 24])
def test_the_best_prompt_answers_the_rows_that_fit(tmp_path: Path, max_length: int) -> None:
    base = find_base(BaseSection(id=str(tiny_base(tmp_path / "decoder"))), lambda line: None)
    tokenizer = Tokenizer.load(base.path)
    template = ChatTemplate.choose(tokenizer, None)
    examples = {"train": rows(12), "validation": rows(5, 20), "holdout": rows(8, 40)}
    holdout = tokenize_chat(examples["holdout"], tokenizer, template, 128, "quarantine").rows
    settings: Any = SimpleNamespace(
        seed=0, generate_rows=6, answers="all", micro_batch_tokens=1024, max_new_tokens=4
    )
    prepared: Any = SimpleNamespace(task="chat", examples=examples)
    tokens: Any = SimpleNamespace(
        tokenizer=tokenizer, template=template, max_length=max_length, holdout=holdout
    )
    found = few_shot(Exam(settings, prepared, tokens, (), "cpu"), base)
    if max_length == 24:
        assert found == "no prompt with examples fits into 24 tokens"
        return
    assert not isinstance(found, str)
    counts = {row.row_id: row.num_targets for row in holdout}
    assert len(found) == 6
    assert all(row.num_targets == counts[row.row_id] for row in found)
    assert all(row.prediction is not None and row.loss_sum > 0 for row in found)
    again = few_shot(Exam(settings, prepared, tokens, (), "cpu"), base)
    assert again == found
