"""Stage data: tokens of every kept row, the account on disk, the same after a resume."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.command import write_documents, write_questions, write_tickets
from tests.tiny import tiny_tokenizer
from tests.train_fixture import BASE

from fettle.data.account import SIDES
from fettle.errors import DataError
from fettle.recipe.recipe import Recipe
from fettle.records.facts import BaseFacts
from fettle.records.journal import Journal, read_events
from fettle.records.run_directory import RunDirectory
from fettle.stages.context import Context
from fettle.stages.data import Tokens, data_facts, read_rows, tokenize_rows


@pytest.fixture
def base(tmp_path: Path) -> BaseFacts:
    return replace(BASE, path=str(tiny_tokenizer(tmp_path / "base")), context_length=512)


def context(tmp_path: Path, path: Path, **sections: Any) -> Context:
    place = RunDirectory(tmp_path / "run")
    place.create()
    recipe = Recipe.model_validate({"data": {"path": [str(path)]}, **sections})
    return Context(recipe, place, Journal(place.events))


def ids(tokens: Tokens) -> list[list[str]]:
    return [[row.row_id for row in getattr(tokens, side)] for side in SIDES]


@pytest.mark.parametrize("task", ["classify", "chat", "text"])
def test_a_resumed_run_has_the_same_tokens(tmp_path: Path, base: BaseFacts, task: str) -> None:
    writer = {"classify": write_tickets, "chat": write_questions, "text": write_documents}[task]
    name = "x.csv" if task == "classify" else "x.jsonl"
    run = context(tmp_path, writer(tmp_path / name))
    prepared, tokens = tokenize_rows(run, read_rows(run), base)
    again, same = tokenize_rows(run, read_rows(run), base)
    assert prepared.task == task
    assert again.splits == prepared.splits
    for side in SIDES:
        assert getattr(same, side) == getattr(tokens, side)
        assert getattr(tokens, side)
        assert {row.row_id for row in getattr(tokens, side)} == {
            example.row_id for example in prepared.examples[side]
        }
    events = [event for event in read_events(run.directory.events) if event["event"] == "data"]
    assert len(events) == 1, "the data are shown once"
    assert events[0]["preview"].count("[[") >= 3
    facts = data_facts(prepared, tokens)
    assert facts.task == task
    assert facts.train_tokens == sum(row.num_tokens for row in tokens.train)
    assert facts.max_tokens >= facts.median_tokens > 0


def test_overlong_answers_go_to_quarantine_and_stay_accounted_for(
    tmp_path: Path, base: BaseFacts
) -> None:
    path = write_questions(tmp_path / "x.jsonl")
    with path.open("a", encoding="utf-8") as handle:
        handle.write('{"prompt": "' + "long " * 300 + '", "completion": "no"}\n')
    run = context(tmp_path, path, train={"max_length": 200})
    prepared, tokens = tokenize_rows(run, read_rows(run), base)
    assert prepared.counts()["quarantine"] == 1
    assert len(prepared.splits) == 81
    (lost,) = [row for row in prepared.splits if row.split == "quarantine"]
    assert lost.reason.startswith("overlong")
    assert any(finding.kind == "overlong" for finding in prepared.findings)
    assert sum(map(len, ids(tokens))) == 80
    assert tokens.max_length == 200


@pytest.mark.parametrize("limit", [8, 20])
def test_a_side_that_runs_empty_is_an_error(tmp_path: Path, base: BaseFacts, limit: int) -> None:
    run = context(tmp_path, write_questions(tmp_path / "x.jsonl"), train={"max_length": limit})
    with pytest.raises(DataError, match="row is left after tokenizing") as caught:
        tokenize_rows(run, read_rows(run), base)
    assert (caught.value.code, caught.value.exit_code) == ("E0340", 3)
    assert str(limit) in caught.value.why
    assert not run.directory.data.exists()
