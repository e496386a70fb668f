"""A holdout that is cut to show a named difference; guard files that can't be used."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.command import write_tickets
from tests.tiny import tiny_rows, tiny_tokenizer

from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.data.meaning.detect import Layout
from fettle.errors import DataError, UsageError
from fettle.recipe.load import dump_recipe, load_recipe
from fettle.recipe.recipe import BaseSection, Recipe
from fettle.records.run_directory import RunDirectory
from fettle.stages.guarding import load_guards, read_guards, write_guards
from fettle.stages.sizing import prepare_sized, rows_needed


def recipe(path: Path, **evaluate: Any) -> Recipe:
    return load_recipe({"data": {"path": [str(path)]}, "evaluate": evaluate})


def test_the_holdout_is_large_enough_for_the_difference(tmp_path: Path) -> None:
    path = write_tickets(tmp_path / "tickets.csv", copies=8)
    needed = rows_needed(0.1, 0.05)
    assert needed is not None
    prepared = prepare_sized(recipe(path, target_difference=0.1))
    assert needed <= len(prepared.examples["holdout"]) <= 2 * needed
    with pytest.raises(DataError, match="E1023"):
        prepare_sized(recipe(path, target_difference=0.02))
    with pytest.raises(UsageError, match="E1022"):
        prepare_sized(recipe(path, target_difference=0.1, metric="macro_f1"))


# --- guards of a chat run ------------------------------------------------------------------------


class Notes:
    """A journal that keeps its notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        """Keep one."""
        self.lines.append(line)


def chat_run(
    tmp_path: Path, guards: list[Any], base: str = "starter", **evaluate: Any
) -> tuple[Any, Any, Any]:
    """Context, rows and tokens of a chat run, as far as guards look at them."""
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path / "tokenizer"))
    rows = tiny_rows()[0]
    prepared = SimpleNamespace(
        task="chat",
        judged_as="chat",
        labels=(),
        multi_label=False,
        layout=Layout(
            "prompt_completion", "chat", {"prompt": "prompt", "completion": "completion"}, ""
        ),
        examples={"train": rows[:20], "validation": rows[20:25], "holdout": rows[25:]},
    )
    tokens = SimpleNamespace(
        tokenizer=tokenizer, template=ChatTemplate.choose(tokenizer, None), max_length=128
    )
    asked = recipe(tmp_path / "x", guards=guards, **evaluate)
    asked = asked.model_copy(update={"base": BaseSection(id=base)})
    context = SimpleNamespace(
        recipe=asked, journal=Notes(), directory=RunDirectory(tmp_path / "run")
    )
    return context, prepared, tokens


def write(path: Path, questions: list[str]) -> Path:
    lines = [f'{{"prompt": "{text}", "completion": "As it was."}}' for text in questions]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_chat_run_guards_general_text_and_the_users_file(tmp_path: Path) -> None:
    trained = [row.messages[0].content for row in tiny_rows()[0][:4]]
    fresh = [f"What did people do in {year}?" for year in range(1900, 1912)]
    path = write(tmp_path / "old.jsonl", [*trained, *fresh])
    context, prepared, tokens = chat_run(tmp_path, [str(path)], base="models/some")
    general, own = read_guards(context, prepared, tokens)
    assert (general.name, general.metric, general.margin) == ("general text", "loss", 0.1)
    # A passage that is longer than the model reads is several pieces of one row.
    assert len(general.rows) > len(general.examples) > 40
    assert (own.name, own.metric, own.margin) == ("old", "loss", 0.1)
    assert (len(own.examples), own.shared_with_train) == (12, 4)
    assert "4 of its rows are trained on" in context.journal.lines[0]
    assert all(row.row_id.startswith("old/") for row in own.examples)

    context.directory.create()
    write_guards(context.directory.guards, [general, own])
    plan = [{"name": g.name, "metric": g.metric, "margin": g.margin} for g in (general, own)]
    back = load_guards(context.directory.guards, plan, prepared, tokens)
    assert [guard.sha256 for guard in back] == [general.sha256, own.sha256]
    assert [guard.rows for guard in back] == [general.rows, own.rows]


@pytest.mark.parametrize("base", ["starter", "random:config", "models/some"])
def test_general_text_is_guarded_where_there_is_something_to_lose(
    tmp_path: Path, base: str
) -> None:
    context, prepared, tokens = chat_run(tmp_path, [], base=base)
    names = [guard.name for guard in read_guards(context, prepared, tokens)]
    assert names == (["general text"] if base == "models/some" else [])
    said = [line for line in context.journal.lines if "general text is not guarded" in line]
    assert bool(said) == (base != "models/some")
    context, prepared, tokens = chat_run(tmp_path / "asked", [], base=base, general_text=0.3)
    (guard,) = read_guards(context, prepared, tokens)
    assert guard.margin == 0.3


def test_what_a_guard_is_refused_for(tmp_path: Path) -> None:
    trained = [row.messages[0].content for row in tiny_rows()[0][:4]]
    path = write(tmp_path / "trained.jsonl", trained)
    with pytest.raises(UsageError, match="E1021"):
        read_guards(*chat_run(tmp_path, [str(path)], general_text="off"))
    labels = write_tickets(tmp_path / "labels.csv", copies=1)
    with pytest.raises(UsageError, match="E1020"):
        read_guards(*chat_run(tmp_path, [str(labels)]))
    fresh = write(tmp_path / "fresh.jsonl", [f"And number {n}?" for n in range(12)])
    with pytest.raises(UsageError, match="two guards are called 'fresh'"):
        read_guards(*chat_run(tmp_path, [str(fresh), str(fresh)]))


def test_guards_in_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "data: {path: [rows.csv]}\n"
        "evaluate:\n"
        "  guards: [old.csv, {file: older.csv, name: before, metric: macro_f1, margin: 0.02}]\n"
    )
    found = load_recipe(file)
    assert [guard.file for guard in found.evaluate.guards] == [
        str(tmp_path / "old.csv"),
        str(tmp_path / "older.csv"),
    ]
    assert found.evaluate.guards[1].margin == 0.02
    again = tmp_path / "again.yaml"
    again.write_text(dump_recipe(found))
    assert load_recipe(again).evaluate.guards == found.evaluate.guards
    off = load_recipe({"data": {"path": ["x"]}, "evaluate": {"general_text": "off", "guards": "g"}})
    assert off.evaluate.general_text == "off"
    assert off.evaluate.guards[0].file == "g"
