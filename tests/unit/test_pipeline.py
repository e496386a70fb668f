"""What a run writes down of its recipe, and whom it compares with."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.command import tiny_base
from tests.tiny import CHATML
from tests.train_fixture import BASE

from fettle import api
from fettle.errors import FettleError, IntegrityError, RecipeError
from fettle.pipeline import _anchored, _base
from fettle.recipe.recipe import Recipe
from fettle.records.journal import Journal
from fettle.records.run_directory import RunDirectory
from fettle.stages.arms import _incumbent
from fettle.stages.context import Context
from fettle.stages.tidying import is_bug


def test_a_local_base_and_template_are_written_by_their_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("models/mine", "starter", "plain"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "chat.jinja").write_text("")

    def anchored(**base: str) -> Any:
        return _anchored(Recipe.model_validate({"data": {"path": ["x"]}, "base": base})).base

    assert anchored(id="models/mine").id == str((tmp_path / "models/mine").resolve())
    assert anchored(id="starter").id == "starter"
    assert anchored(id="owner/name").id == "owner/name"
    assert anchored().id is None
    assert anchored(chat_template="chat.jinja").chat_template == str(
        (tmp_path / "chat.jinja").resolve()
    )
    assert anchored(chat_template="plain").chat_template == "plain"


@pytest.mark.parametrize(
    ("task", "labels", "compared"),
    [
        ("classify", ["a", "b"], True),
        ("classify", ["c", "d"], False),
        ("text", [], False),
        ("chat", [], False),
    ],
)
def test_an_earlier_run_of_another_task_is_a_base_like_any_other(
    tmp_path: Path, task: str, labels: list[str], compared: bool
) -> None:
    (tmp_path / "model").mkdir()
    meta = {"task": task, "labels": labels}
    (tmp_path / "model" / "fettle.json").write_text(json.dumps(meta))
    prepared: Any = SimpleNamespace(task="classify", labels=("b", "c0"), multi_label=False)
    base: Any = SimpleNamespace(incumbent_run=str(tmp_path))
    assert _incumbent(base, prepared) == (tmp_path / "model" if compared else None)
    assert _incumbent(BASE, prepared) is None


def test_predict_says_which_value_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.format"):
        api.predict(tmp_path, "rows.csv", format="cvs")


CHANGES = {
    "weights": ("model.safetensors", "E0907"),
    "config": ("config.json", "E0914"),
    "tokenizer": ("tokenizer.json", "E0914"),
    "named tokens and template": ("tokenizer_config.json", "E0914"),
    "a new template": ("chat_template.jinja", "E0914"),
    "own template": ("../mine.jinja", "E0914"),
    "readme": ("README.md", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_resumed_run_has_the_base_that_it_began_with(tmp_path: Path, change: str) -> None:
    folder = tiny_base(tmp_path / "base")
    (tmp_path / "mine.jinja").write_text(CHATML)
    place = RunDirectory(tmp_path / "run")
    place.create()
    section = {"id": str(folder), "chat_template": str(tmp_path / "mine.jinja")}
    recipe = Recipe.model_validate({"data": {"path": ["x"]}, "base": section})
    context = Context(recipe, place, Journal(place.events))
    context.journal.emit("base", asdict(_base(context)))
    assert _base(context).files_sha256
    name, code = CHANGES[change]
    path = folder / name
    content = bytearray(path.read_bytes() if path.is_file() else b"new")
    content[-1:] = b"\x00" if name == "model.safetensors" else content[-1:] + b"\n"
    path.write_bytes(content)
    # Before any row was read with it, another base is as good as this one.
    _base(context)
    place.data.mkdir()
    (place.data / "manifest.json").write_text("{}")
    if code is None:
        _base(context)
        return
    with pytest.raises(IntegrityError) as caught:
        _base(context)
    assert (caught.value.code, caught.value.exit_code) == (code, 9)
    assert "--out" in caught.value.hint


def test_what_is_a_bug() -> None:
    assert is_bug(ZeroDivisionError())
    assert is_bug(FettleError("E0001", "x"))
    assert not is_bug(RecipeError("E0201", "x"))
    assert not is_bug(OSError())
    assert not is_bug(MemoryError())
