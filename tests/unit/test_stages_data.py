"""Stage data: tokens of every kept row, the account on disk, the same after a resume."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.command import write_documents, write_questions, write_tickets
from tests.tiny import tiny_tokenizer
from tests.train_fixture import BASE

from fettle.data.account.account import SIDES
from fettle.errors import DataError, RecipeError
from fettle.recipe.load import load_recipe
from fettle.recipe.recipe import Recipe
from fettle.records.facts import BaseFacts
from fettle.records.journal import Journal, read_events
from fettle.records.run_directory import RunDirectory
from fettle.stages.context import Context
from fettle.stages.data import Tokens, data_facts, read_rows, tokenize_rows


@pytest.fixture
def base(tmp_path: Path) -> BaseFacts:
    return replace(
        BASE, path=str(tiny_tokenizer(tmp_path / "base")), vocab_size=300, context_length=512
    )


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


def write_numbers(path: Path) -> Path:
    """A CSV file of texts with a number each."""
    lines = [f"the text number {i},{100 + i * i / 7:.3f}" for i in range(60)]
    path.write_text("\n".join(["text,price", *lines]), encoding="utf-8")
    return path


def test_numbers_count_in_spreads_and_stay_so_after_a_resume(
    tmp_path: Path, base: BaseFacts
) -> None:
    run = context(tmp_path, write_numbers(tmp_path / "x.csv"), task="regress")
    prepared, tokens = tokenize_rows(run, read_rows(run), base)
    _, same = tokenize_rows(run, read_rows(run), base)
    assert same.scale == tokens.scale is not None
    for side in SIDES:
        assert getattr(same, side) == getattr(tokens, side)
    values = [row.value for row in tokens.train]
    assert sum(values) == pytest.approx(0.0, abs=1e-9)
    assert sum(value * value for value in values) == pytest.approx(len(values))
    numbers = {row.row_id: row.number for row in prepared.examples["holdout"]}
    for row in tokens.holdout:
        told = tokens.scale.mean + tokens.scale.spread * row.value
        assert told == pytest.approx(numbers[row.row_id])
    assert data_facts(prepared, tokens).task == "regress"


def test_class_weights_are_those_of_the_training_rows(tmp_path: Path, base: BaseFacts) -> None:
    weights = {"has a crack": 3.0, "is too hot": 0.0}
    path = write_tickets(tmp_path / "x.csv")
    run = context(tmp_path, path, train={"class_weights": weights})
    prepared, tokens = tokenize_rows(run, read_rows(run), base)
    again, same = tokenize_rows(run, read_rows(run), base)
    assert same.train == tokens.train
    names = [prepared.labels[row.label or 0] for row in tokens.train]
    assert [row.weight for row in tokens.train] == [weights.get(name, 1.0) for name in names]
    assert "is too hot" not in names
    assert "is too hot" in prepared.labels
    assert "is too hot" in {row.target for row in prepared.examples["holdout"]}
    assert {row.weight for row in (*tokens.validation, *tokens.holdout)} == {1.0}
    left_out = [row for row in again.splits if row.split == "quarantine"]
    assert left_out
    assert {row.reason for row in left_out} == {"zero_weight"}
    assert {f.kind for f in again.findings if f.row_id == left_out[0].row_id} == {"zero_weight"}
    assert len(again.splits) == 120


@pytest.mark.parametrize(
    ("task", "train", "code"),
    [
        ("classify", {"overlong": "split"}, "E0366"),
        ("regress", {"overlong": "split"}, "E0366"),
        ("chat", {"class_weights": "balanced"}, "E0365"),
        ("regress", {"class_weights": {"a": 2.0}}, "E0365"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused_before_a_row_is_read(
    task: str, train: dict[str, Any], code: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe({"data": {"path": ["missing.csv"]}, "task": task, "train": train})
    assert caught.value.code == code
    load_recipe({"data": {"path": ["missing.csv"]}, "train": train})  # the task may yet fit


def test_a_weight_for_an_unknown_label_names_the_nearest(tmp_path: Path, base: BaseFacts) -> None:
    path = write_tickets(tmp_path / "x.csv")
    run = context(tmp_path, path, train={"class_weights": {"has a crak": 3.0}})
    with pytest.raises(RecipeError, match="'has a crak'") as caught:
        tokenize_rows(run, read_rows(run), base)
    assert caught.value.code == "E0365"
    assert "'has a crack'" in caught.value.hint


def random_words(number: int) -> list[str]:
    """Words that have nothing in common, all of one length."""
    draw = random.Random(0)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=24)) for _ in range(number)]


def test_only_the_last_answer_is_trained_where_that_is_asked(
    tmp_path: Path, base: BaseFacts
) -> None:
    words = random_words(40)
    path = tmp_path / "x.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "messages": [
                        {"role": role, "content": f"{role} {place}, {word}"}
                        for place in range(2)
                        for role in ("user", "assistant")
                    ]
                }
            )
            + "\n"
            for word in words
        ),
        encoding="utf-8",
    )
    counts: dict[str, dict[str, int]] = {}
    for answers in ("all", "last"):
        run = context(tmp_path / answers, path, train={"answers": answers})
        _, tokens = tokenize_rows(run, read_rows(run), base)
        counts[answers] = {row.row_id: row.num_targets for row in tokens.train}
        (event,) = [e for e in read_events(run.directory.events) if e["event"] == "data"]
        assert ("[[assistant 0" in event["preview"]) == (answers == "all")
    assert counts["all"] == {row_id: 2 * number for row_id, number in counts["last"].items()}
